package results

import (
	"fmt"
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

// name is the difference's, for people.
func (d Difference) name() string { return checkName(d.Program, d.Check) }

// From says what the difference is from a kernel of that name.
func (d Difference) From(base string) string {
	base = Line(base)
	switch {
	case d.Kind == Gain:
		return fmt.Sprintf("%s, fails on %s %s, passes with the patch %d of %d", d.name(), base, d.Base, d.Patched.Runs, d.Patched.Runs)
	case d.Kind == Regression && d.Unended && d.Base.Failed == 0:
		return fmt.Sprintf("%s, ends on %s %d of %d, hangs or crashes with the patch %s", d.name(), base, d.Base.Runs, d.Base.Runs, d.Patched)
	case d.Unended:
		return fmt.Sprintf("%s hangs or crashes in %s on %s, %s with the patch", d.name(), d.Base, base, d.Patched)
	case d.Lost && d.Base.Failed == 0:
		return fmt.Sprintf("%s, passes on %s %d of %d, skipped or not made with the patch %s", d.name(), base, d.Base.Runs, d.Base.Runs, d.Patched)
	case d.Lost:
		return fmt.Sprintf("%s does not pass in %s on %s, is skipped or not made in %s with the patch", d.name(), d.Base, base, d.Patched)
	case d.Kind == Regression && d.NotOnBase:
		return fmt.Sprintf("%s, no such check on %s in %s, fails with the patch %s", d.name(), base, patches.Plural(d.Base.Runs, "run"), d.Patched)
	case d.Kind == Regression && d.Base.Failed == 0:
		return fmt.Sprintf("%s, pass on %s %d of %d, fails with the patch %s", d.name(), base, d.Base.Runs, d.Base.Runs, d.Patched)
	case d.Kind == OnBase && d.Base.Failed == d.Base.Runs:
		return d.name()
	}
	return fmt.Sprintf("%s fails in %s on %s, %s with the patch", d.name(), d.Base, base, d.Patched)
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
			all = append(all, d.From(a.Base))
		}
	}
	return all
}

// String answers the developer in a line.
func (a *Against) String() string {
	const most = 3
	var parts, gains []string
	for _, d := range a.Gains {
		gains = append(gains, d.From(a.Base))
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
