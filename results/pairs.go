package results

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"patchproof/guest/event"
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
