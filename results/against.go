package results

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/patches"
)

// Against is what holding a patch against its base came to, check by check. A
// difference counts once both kernels have been repeated: three times where it shows
// every time, and else until the rates can be told apart.
type Against struct {
	// Base and Patched are names of the run's kernels.
	Base    string `json:"base"`
	Patched string `json:"patched"`
	// Compared counts the checks that both made and the base passed at least once,
	// Programs the programs that these are of.
	Compared int `json:"compared"`
	Programs int `json:"programs"`
	// Unjudged are the programs that one of the two has no verdict for.
	Unjudged []string `json:"unjudged"`
	// Strict says that what is flaky counts as worse.
	Strict bool `json:"strict"`
	// Differences are the regressions, then what is flaky, then what fails on base.
	Differences []Difference `json:"differences"`
	// Gains are the checks that fail in all runs on base and in none with the patch.
	Gains []Difference `json:"gains,omitempty"`
}

// Difference is a check that fails with the patch.
type Difference struct {
	Program string `json:"program"`
	// Check is a name, or "console: " and what the kernel complained of. It is empty
	// where the program as a whole is worse and no check by itself tells.
	Check   string        `json:"check"`
	Base    Rate          `json:"base"`
	Patched Rate          `json:"patched"`
	Kind    DifferentKind `json:"kind"`
	// NotOnBase says that base does not make the check.
	NotOnBase bool `json:"not_on_base,omitempty"`
	// Unended says that the rates are those of runs in which the check does not end, or takes the
	// guest with it, which is worse than that it fails, as it does on base as well.
	Unended bool `json:"unended,omitempty"`
	// Lost says that base passes the check, and that the rates are those of runs in which it does
	// not there, and in which it is skipped or not made with the patch.
	Lost bool `json:"lost,omitempty"`
}

// Rate is how many of a number of runs failed.
type Rate struct {
	Failed int `json:"failed"`
	Runs   int `json:"runs"`
}

func (r Rate) String() string { return fmt.Sprintf("%d of %d", r.Failed, r.Runs) }

// DifferentKind is what a difference is worth.
type DifferentKind string

// The kinds: worse than base; too rare to say; on base as often; on base only.
const (
	Regression DifferentKind = "regression"
	Flaky      DifferentKind = "flaky"
	OnBase     DifferentKind = "on base"
	Gain       DifferentKind = "gain"
	undecided  DifferentKind = "undecided"
)

// looks are the numbers of runs at which the two kernels are compared. Between
// them nothing is decided: who looks after each run sees a difference some time.
var looks = []int{3, 6, 12, 20}

// apart is the probability below which two rates are different (one-sided, at a
// look; there are three at most).
const apart = 0.01

// mostLost is how many runs on one kernel the host may keep from a verdict before it is asked for
// no more.
const mostLost = 10

// budgetS is how many seconds a program may be repeated on one kernel, beyond the
// first look.
const budgetS = 300

// name is the difference's, for people.
func (d Difference) name() string { return checkName(d.Program, d.Check) }

func (d Difference) String() string {
	switch {
	case d.Kind == Gain:
		return fmt.Sprintf("%s, fails on base %s, passes with the patch %d of %d", d.name(), d.Base, d.Patched.Runs, d.Patched.Runs)
	case d.Kind == Regression && d.Unended && d.Base.Failed == 0:
		return fmt.Sprintf("%s, ends on base %d of %d, hangs or crashes with the patch %s", d.name(), d.Base.Runs, d.Base.Runs, d.Patched)
	case d.Unended:
		return fmt.Sprintf("%s hangs or crashes in %s on base, %s with the patch", d.name(), d.Base, d.Patched)
	case d.Lost && d.Base.Failed == 0:
		return fmt.Sprintf("%s, passes on base %d of %d, skipped or not made with the patch %s", d.name(), d.Base.Runs, d.Base.Runs, d.Patched)
	case d.Lost:
		return fmt.Sprintf("%s does not pass in %s on base, is skipped or not made in %s with the patch", d.name(), d.Base, d.Patched)
	case d.Kind == Regression && d.NotOnBase:
		return fmt.Sprintf("%s, no such check on base in %s, fails with the patch %s", d.name(), patches.Plural(d.Base.Runs, "run"), d.Patched)
	case d.Kind == Regression && d.Base.Failed == 0:
		return fmt.Sprintf("%s, pass on base %d of %d, fails with the patch %s", d.name(), d.Base.Runs, d.Base.Runs, d.Patched)
	case d.Kind == OnBase && d.Base.Failed == d.Base.Runs:
		return d.name()
	}
	return fmt.Sprintf("%s fails in %s on base, %s with the patch", d.name(), d.Base, d.Patched)
}

// decide judges a check by what it did so far; last says that there will be no more runs.
// That base fails, too, counts once it does so every time in three runs, or has gone on
// to do so as often as the patched kernel: one unlucky run must not hide a regression.
func decide(base, patched Rate, last bool) DifferentKind {
	n := min(base.Runs, patched.Runs)
	always := base.Failed == base.Runs && base.Runs >= looks[0]
	asOften := base.Failed > 0 && patched.Failed*base.Runs <= base.Failed*patched.Runs
	switch {
	case always || asOften && (last || n >= looks[1]):
		return OnBase
	case n >= looks[0] && base.Failed == 0 && patched.Failed == patched.Runs:
		return Regression
	case n > looks[0] && (last || slices.Contains(looks, n)) && fisher(base, patched) <= apart:
		return Regression
	case last || n >= looks[len(looks)-1]:
		return Flaky
	}
	return undecided
}

// fisher is the probability, by Fisher's exact test, that two kernels which fail
// equally often come out as far apart as these by chance.
func fisher(base, patched Rate) float64 {
	choose := func(n, k int) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return a - b - c
	}
	failed, p := base.Failed+patched.Failed, 0.
	for k := patched.Failed; k <= min(failed, patched.Runs); k++ {
		if failed-k > base.Runs {
			continue
		}
		p += math.Exp(choose(patched.Runs, k) + choose(base.Runs, failed-k) - choose(base.Runs+patched.Runs, failed))
	}
	return p
}

// pairs are the runs of a program on both kernels, those that the host kept from a
// verdict left out.
type pairs struct {
	program       string
	base, patched []Cell
	// anyBase are the runs of all programs on base.
	anyBase []Cell
	// onBase and onPatched count the runs, whatever came of them, and wallS is what one took.
	onBase, onPatched int
	wallS             float64
}

// tried is how often it was run on both.
func (p *pairs) tried() int { return min(p.onBase, p.onPatched) }

// byProgram sorts the cells of two kernels.
func byProgram(cells []Cell, base, patched string) []*pairs {
	var all []*pairs
	for _, c := range cells {
		if c.Kernel != base && c.Kernel != patched {
			continue
		}
		i := slices.IndexFunc(all, func(p *pairs) bool { return p.program == c.Program })
		if i < 0 {
			i = len(all)
			all = append(all, &pairs{program: c.Program})
		}
		p := all[i]
		p.wallS = max(p.wallS, c.WallS)
		if c.Kernel == base {
			p.onBase++
		} else {
			p.onPatched++
		}
		switch {
		case c.Verdict == event.Error && c.Stopped == nil:
		case c.Kernel == base:
			p.base = append(p.base, c)
		default:
			p.patched = append(p.patched, c)
		}
	}
	var anyBase []Cell
	for _, p := range all {
		anyBase = append(anyBase, p.base...)
	}
	for _, p := range all {
		p.anyBase = anyBase
	}
	slices.SortFunc(all, func(a, b *pairs) int { return strings.Compare(a.program, b.program) })
	return all
}

// told is how many runs of each gave a verdict.
func (p *pairs) told() int { return min(len(p.base), len(p.patched)) }

// last says that there will be no more runs. Those that the host kept from a verdict are made up
// for, but not without end.
func (p *pairs) last() bool {
	return p.told() >= p.limit() || max(p.onBase-len(p.base), p.onPatched-len(p.patched)) >= mostLost
}

// limit is how many runs of the program may count on each kernel.
func (p *pairs) limit() int {
	most := looks[len(looks)-1]
	if p.wallS > 0 {
		most = min(most, int(budgetS/p.wallS))
	}
	return max(most, looks[0])
}

// byWatch says that a check is made by the harness only when there is something
// wrong, so that its absence is a pass.
func byWatch(check string) bool {
	return strings.HasPrefix(check, consolePrefix) || check == DeadlineCheck || check == ResetCheck || check == ReportCheck
}

// bad says whether the check failed and nobody declared that.
func (c Check) bad() bool {
	return !c.Expected && (c.Verdict == event.Fail || c.Verdict == event.Hang || c.Verdict == event.Crash)
}

// fails says whether the cell fails the check; known is false where it tells nothing
// of it.
func (c Cell) fails(check string) (fails, known bool) {
	if check == ReportCheck && c.Verdict == event.Error && c.Stopped != nil {
		return true, true
	}
	for _, k := range c.Checks {
		if k.Title() == check {
			return k.bad(), k.Verdict != event.Error
		}
	}
	if len(c.Only) > 0 && !slices.ContainsFunc(c.Only, func(test string) bool { return check == test || strings.HasPrefix(check, test+"/") }) {
		return false, false
	}
	// What a whole report does not have has not failed.
	return false, byWatch(check) || c.Stopped == nil
}

// unended says that a check did not end, or took the guest with it.
func (c Check) unended() bool { return c.Verdict == event.Hang || c.Verdict == event.Crash }

// passes says whether the cell passed the check.
func (c Cell) passes(check string) bool {
	return slices.ContainsFunc(c.Checks, func(k Check) bool { return k.Verdict == event.Pass && k.Title() == check })
}

// titles are the names of the checks of these cells, sorted.
func titles(cells ...Cell) []string {
	var all []string
	for _, c := range cells {
		for _, k := range c.Checks {
			all = append(all, k.Title())
		}
		if c.Verdict == event.Error && c.Stopped != nil {
			all = append(all, ReportCheck)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// rateOf counts the runs that fail the check among those that tell.
func rateOf(cells []Cell, check string) Rate {
	return rate(cells, func(c Cell) (fails, known bool) { return c.fails(check) })
}

// rate counts the runs that fail, among those that are known to do so or not.
func rate(cells []Cell, judge func(Cell) (fails, known bool)) Rate {
	var r Rate
	for _, c := range cells {
		fails, known := judge(c)
		if !known {
			continue
		}
		r.Runs++
		if fails {
			r.Failed++
		}
	}
	return r
}

// whole compares the program as a whole, in runs that were not limited to some of its tests:
// how often another check of it fails which the other kernel never fails, how often that is a
// complaint, such as one with a new title each time, or how often one that base passes is skipped
// or gone, whichever tells more.
func (p *pairs) whole(last bool) Difference {
	own := func(cells []Cell, prefix string, others func(check string) []Cell) Rate {
		return rate(cells, func(c Cell) (bool, bool) {
			whole := len(c.Only) == 0
			return whole && slices.ContainsFunc(titles(c), func(check string) bool {
				fails, _ := c.fails(check)
				return fails && strings.HasPrefix(check, prefix) && rateOf(others(check), check).Failed == 0
			}), whole
		})
	}
	onBase := func(check string) []Cell {
		if strings.HasPrefix(check, consolePrefix) {
			return p.anyBase
		}
		return p.base
	}
	withPatch := func(string) []Cell { return p.patched }
	all := p.losses(last)
	for _, prefix := range []string{"", consolePrefix} {
		d := Difference{Program: p.program, Base: own(p.base, prefix, withPatch), Patched: own(p.patched, prefix, onBase), Kind: OnBase}
		if d.Patched.Failed > 0 {
			d.Kind = decide(d.Base, d.Patched, last)
		}
		all = append(all, d)
	}
	order := []DifferentKind{Regression, undecided, Flaky, OnBase}
	return slices.MinFunc(all, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(b.Patched.Failed, a.Patched.Failed))
	})
}

// losses are the checks that base passes as a rule, and that are skipped or not made with the patch.
func (p *pairs) losses(last bool) []Difference {
	var all []Difference
	for _, check := range titles(p.base...) {
		d := Difference{Program: p.program, Check: check, Lost: true}
		d.Patched = rate(p.patched, func(c Cell) (lost, known bool) { return c.lacks(check), c.had(check) })
		if d.Patched.Failed == 0 {
			continue
		}
		d.Base = rate(p.base, func(c Cell) (lost, known bool) { return !c.passes(check), c.had(check) })
		switch passed := d.Base.Runs - d.Base.Failed; {
		case d.Base.Runs >= looks[0] && 2*passed < d.Base.Runs, passed == 0 && rateOf(p.base, check).Failed == 0:
			continue
		}
		if d.Kind = decide(d.Base, d.Patched, last); d.Kind != OnBase {
			all = append(all, d)
		}
	}
	return all
}

// had says that the cell came to the check, or to its end without it, and was not limited to some tests.
func (c Cell) had(check string) bool {
	v, _, made := c.did(check)
	return len(c.Only) == 0 && v != event.Error && (made || c.Stopped == nil)
}

// lacks says that the check was skipped or not made.
func (c Cell) lacks(check string) bool {
	v, _, made := c.did(check)
	return !made || v == event.Skip
}

// differences judges every check that fails with the patch.
func (p *pairs) differences() []Difference {
	if len(p.base) == 0 || len(p.patched) == 0 {
		return nil
	}
	last := p.last()
	var all []Difference
	for _, check := range titles(p.patched...) {
		d := Difference{Program: p.program, Check: check, Base: rateOf(p.base, check), Patched: rateOf(p.patched, check)}
		if d.Patched.Failed == 0 {
			continue
		}
		d.NotOnBase = !byWatch(check) && !slices.Contains(titles(p.base...), check)
		if d.Kind = decide(d.Base, d.Patched, last); d.Kind == OnBase && !byWatch(check) {
			d = p.unended(d, last)
		}
		if ofTree := rateOf(p.anyBase, check); strings.HasPrefix(check, consolePrefix) && ofTree.Failed > 0 {
			switch {
			// What a tree complains of under every program needs no run of each to be its own.
			case d.Kind == undecided && ofTree.Failed == ofTree.Runs && ofTree.Runs >= looks[0]:
				d.Kind = OnBase
			// What it complains of now and then, under other programs, is worse when the rates say so.
			case d.Kind == Regression && d.Base.Failed == 0 && fisher(d.Base, d.Patched) > apart:
				if d.Kind = undecided; last {
					d.Kind = Flaky
				}
			}
		}
		all = append(all, d)
	}
	// The program as a whole counts where it tells more than its checks do.
	is := func(kinds ...DifferentKind) bool {
		return slices.ContainsFunc(all, func(d Difference) bool { return slices.Contains(kinds, d.Kind) })
	}
	if is(Regression) {
		return all
	}
	if whole := p.whole(last); whole.Patched.Failed > 0 && (whole.Kind == Regression || !is(undecided, Flaky)) {
		all = append(all, whole)
	}
	return all
}

// unended judges a check that fails on base, too, by how often it does not end there and here, if
// that tells more.
func (p *pairs) unended(onBase Difference, last bool) Difference {
	judge := func(c Cell) (unended, known bool) {
		fails, known := c.fails(onBase.Check)
		return fails && slices.ContainsFunc(c.Checks, func(k Check) bool { return k.unended() && k.Title() == onBase.Check }), known
	}
	d := onBase
	d.Unended, d.Base, d.Patched = true, rate(p.base, judge), rate(p.patched, judge)
	if d.Patched.Failed == 0 {
		return onBase
	}
	if d.Kind = decide(d.Base, d.Patched, last); d.Kind == OnBase {
		return onBase
	}
	return d
}

// gains are the checks that the patch mends, as far as the runs so far tell.
func (p *pairs) gains() []Difference {
	var all []Difference
	for _, check := range titles(p.base...) {
		d := Difference{Program: p.program, Check: check, Base: rateOf(p.base, check), Patched: rateOf(p.patched, check), Kind: Gain}
		passes := byWatch(check) || slices.ContainsFunc(p.patched, func(c Cell) bool { return c.passes(check) })
		if d.Base.Runs > 0 && d.Base.Failed == d.Base.Runs && d.Patched.Runs > 0 && d.Patched.Failed == 0 && passes {
			all = append(all, d)
		}
	}
	return all
}

// promising are the gains that the program may show, where it has not run often enough to tell.
func (p *pairs) promising() []Difference {
	if p.told() >= looks[0] {
		return nil
	}
	return p.gains()
}

// settled says that more runs of the program would change nothing.
func settled(all []Difference) bool {
	return !slices.ContainsFunc(all, func(d Difference) bool { return d.Kind == undecided }) ||
		slices.ContainsFunc(all, func(d Difference) bool { return d.Kind == Regression })
}

// Repeat is a program that is to be run again.
type Repeat struct {
	Program string
	// Base and Patched are how many runs of it the two kernels should then have had.
	Base, Patched int
	// Checks are those by which the program is not settled yet. None are named where it is the
	// program as a whole, or a complaint of the kernel, which only a whole run shows again.
	Checks []string
}

// Again names the programs to repeat, sorted.
func Again(cells []Cell, base, patched string) []Repeat {
	var more []Repeat
	for _, p := range byProgram(cells, base, patched) {
		all, promising := p.differences(), p.promising()
		if settled(all) && !(p.unjudged() && p.tried() < looks[0]) && len(promising) == 0 {
			continue
		}
		i := slices.IndexFunc(looks, func(n int) bool { return n > p.told() })
		if i < 0 || p.last() {
			continue
		}
		runs := min(looks[i], p.limit())
		r := Repeat{
			Program: p.program, Checks: p.open(all, promising),
			Base: runs + p.onBase - len(p.base), Patched: runs + p.onPatched - len(p.patched),
		}
		if len(promising) == 0 && p.baseTells(all) {
			r.Patched = p.onPatched
		}
		more = append(more, r)
	}
	return more
}

// baseTells says that runs on base alone may settle the program: what fails with the patch
// has failed there every time, but in fewer than three runs.
func (p *pairs) baseTells(all []Difference) bool {
	return p.onBase < looks[0] && !p.unjudged() && !slices.ContainsFunc(all, func(d Difference) bool {
		return d.Kind == undecided && d.Base.Failed < d.Base.Runs
	})
}

// open are the checks by which the program is not settled yet, if it is checks alone.
func (p *pairs) open(all, promising []Difference) []string {
	if p.unjudged() || slices.ContainsFunc(p.losses(false), func(d Difference) bool { return d.Kind == undecided }) {
		return nil
	}
	all = slices.DeleteFunc(slices.Clone(all), func(d Difference) bool { return d.Kind != undecided })
	var open []string
	for _, d := range append(all, promising...) {
		if d.Check == "" || byWatch(d.Check) {
			return nil
		}
		open = append(open, d.Check)
	}
	return open
}

// unjudged says that one of the kernels has no verdict.
func (p *pairs) unjudged() bool {
	return len(p.base) == 0 || len(p.patched) == 0 || p.noReport()
}

// noReport says that no run on base gave a whole report.
func (p *pairs) noReport() bool {
	return !slices.ContainsFunc(p.base, func(c Cell) bool { return c.Verdict != event.Error })
}

// Hold compares a patched kernel with its base and makes the cells' expectations
// those of the comparison: what fails on base as often is as expected, and so is what
// is flaky, unless strict. A guest of the patched kernel that never gave a whole
// report, where base always did, gets a verdict.
func Hold(cells []Cell, base, patched string, strict bool) *Against {
	a := &Against{Base: base, Patched: patched, Strict: strict, Unjudged: []string{}, Differences: []Difference{}}
	programs := byProgram(cells, base, patched)
	found := make([][]Difference, len(programs))
	for i, p := range programs {
		all := p.differences()
		if p.unjudged() {
			a.Unjudged = append(a.Unjudged, p.program)
		}
		regressed := slices.ContainsFunc(all, func(d Difference) bool { return d.Kind == Regression })
		all = slices.DeleteFunc(all, func(d Difference) bool { return d.Kind == undecided && regressed })
		found[i] = all
		a.Differences = append(a.Differences, all...)
		gains := p.gains()
		a.Gains = append(a.Gains, gains...)
		compared := len(gains)
		for _, check := range titles(p.base...) {
			if rateOf(p.patched, check).Runs > 0 && slices.ContainsFunc(p.base, func(c Cell) bool { return c.passes(check) }) {
				compared++
			}
		}
		if compared > 0 {
			a.Compared, a.Programs = a.Compared+compared, a.Programs+1
		}
	}
	// What is expected of a cell changes what the comparison of another would say.
	for i, p := range programs {
		for j := range cells {
			if c := &cells[j]; c.Program == p.program && (c.Kernel == base || c.Kernel == patched) {
				p.expect(c, found[i], c.Kernel == patched, strict)
			}
		}
	}
	slices.SortStableFunc(a.Differences, func(x, y Difference) int {
		return slices.Index(differenceOrder, x.Kind) - slices.Index(differenceOrder, y.Kind)
	})
	return a
}

// differenceOrder is what is told first.
var differenceOrder = []DifferentKind{Regression, Flaky, OnBase}

// What is said, in the place of a known issue, of a check that may fail.
const (
	failsOnBase  = "fails on base"
	isFlaky      = "flaky:"
	noDifference = "no difference from base"
)

// expect makes what a cell is expected to do that which the comparison allows.
func (p *pairs) expect(c *Cell, all []Difference, patched, strict bool) {
	of := func(check string) (Difference, bool) {
		i := slices.IndexFunc(all, func(d Difference) bool { return d.Check == check && !d.Lost })
		if i < 0 {
			return Difference{}, false
		}
		return all[i], true
	}
	if d, ok := of(ReportCheck); ok && d.Kind == Regression && patched && c.Verdict == event.Error && c.Stopped != nil {
		c.Blame(fmt.Sprintf("so it did in %s runs, and on %s in %s with the same harness", d.Patched, p.base[0].Kernel, d.Base))
	}
	expected := c.Verdict != event.Error
	wholly := false
	if d, ok := of(""); ok && patched {
		wholly = d.Kind == Regression || d.Kind == Flaky && strict
	}
	for i := range c.Checks {
		k := &c.Checks[i]
		d, ok := of(k.Title())
		switch {
		case !k.bad() && !k.Expected:
			// A declared issue did not show: no worse than base.
			k.Expected = k.Verdict == event.Pass || k.Verdict == event.Skip
		case !k.bad():
		case ok && d.Unended && !k.unended():
			k.Expected, k.KnownIssue = true, failsOnBase
		case patched && (ok && (d.Kind == Regression || d.Kind == Flaky && strict) || wholly):
		case ok && d.Kind == OnBase && patched:
			k.Expected, k.KnownIssue = true, fmt.Sprintf("%s, too, in %s runs", failsOnBase, d.Base)
		case ok && d.Kind == Flaky:
			k.Expected, k.MayFail, k.KnownIssue = true, true, fmt.Sprintf("%s fails in %s runs on base, %s with the patch", isFlaky, d.Base, d.Patched)
		case !patched:
			k.Expected, k.KnownIssue = true, failsOnBase
		case slices.ContainsFunc(all, func(d Difference) bool { return d.Kind == Regression }):
			// Seen beside a regression and not looked into.
		default:
			k.Expected, k.KnownIssue = true, noDifference
		}
		expected = expected && k.Expected
	}
	for _, d := range all {
		if d.Lost && patched && (d.Kind == Regression || strict) && c.had(d.Check) && c.lacks(d.Check) {
			expected, c.Reason = false, fmt.Sprintf("base passes %s, which is skipped or not made here", d.Check)
		}
	}
	c.Expected = expected
}

// worse says that the patch is held to make something worse.
func (a *Against) worse() bool {
	return slices.ContainsFunc(a.Differences, func(d Difference) bool { return d.Kind == Regression || d.Kind == Flaky && a.Strict })
}

// differs says that something fails with the patch that does not on base, or not as often.
func (a *Against) differs() bool {
	return slices.ContainsFunc(a.Differences, func(d Difference) bool { return d.Kind == Regression || d.Kind == Flaky })
}

// of are the differences of a kind.
func (a *Against) of(kind DifferentKind) []string {
	var all []string
	for _, d := range a.Differences {
		if d.Kind == kind {
			all = append(all, d.String())
		}
	}
	return all
}

// String answers the developer in a line.
func (a *Against) String() string {
	const most = 3
	var parts, gains []string
	for _, d := range a.Gains {
		gains = append(gains, d.String())
	}
	for _, group := range []struct {
		items []string
		head  string
	}{
		{a.of(Regression), "regression"}, {a.of(Flaky), "flaky check"}, {gains, "gain"},
	} {
		if len(group.items) > 0 {
			parts = append(parts, patches.Plural(len(group.items), group.head)+": "+strings.Join(few(group.items, most), "; "))
		}
	}
	switch {
	case len(gains) > 0 && !a.differs():
		parts = append(parts, fmt.Sprintf("nothing worse than on %s in %s of %s", Line(a.Base), patches.Plural(a.Compared, "check"), patches.Plural(a.Programs, "program")))
	case len(parts) > 0:
	case a.Compared == 0:
		parts = append(parts, "nothing could be compared with "+Line(a.Base)+", so this says nothing of the patch")
	default:
		parts = append(parts, fmt.Sprintf("no difference from %s in %s of %s", Line(a.Base), patches.Plural(a.Compared, "check"), patches.Plural(a.Programs, "program")))
	}
	if on := a.of(OnBase); len(on) > 0 {
		verb := "fail"
		if len(on) == 1 {
			verb = "fails"
		}
		parts = append(parts, fmt.Sprintf("%d %s on %s, too: %s", len(on), verb, Line(a.Base), strings.Join(few(on, most), "; ")))
	}
	if len(a.Unjudged) > 0 {
		parts = append(parts, "not judged, by the harness's own trouble: "+Line(strings.Join(few(a.Unjudged, most), ", ")))
	}
	return strings.Join(parts, "; ")
}

// few keeps the first of a list and says how many more there are.
func few(items []string, most int) []string {
	if len(items) <= most {
		return items
	}
	return append(slices.Clone(items[:most]), fmt.Sprintf("and %d more", len(items)-most))
}
