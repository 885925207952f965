package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

// Change is one outcome that differs between two kernels.
type Change struct {
	// What is "program", "program/check" or "feature name".
	What string `json:"what"`
	// From and To are verdicts ("hang/pass" when iterations disagree), or
	// Absent, or, of a feature, "declared".
	From string `json:"from"`
	To   string `json:"to"`
}

// Absent stands for an outcome that one of two kernels does not have.
const Absent = "absent"

// Compare returns what changed from one kernel of the run to another, sorted
// by What, and how many outcomes it compared. Only structure counts: verdicts
// of programs and checks, and declared features; no timings, figures or text.
// Programs that only one of the two ran are left out, and so are cells that the
// harness could not judge: neither says anything about a kernel.
func (r *Run) Compare(from, to Kernel) (changes []Change, compared int) {
	a, b := r.judged(from), r.judged(to)
	maps.DeleteFunc(a, func(program string, _ []Cell) bool { return b[program] == nil })
	maps.DeleteFunc(b, func(program string, _ []Cell) bool { return a[program] == nil })
	collect := &collector{}
	cmp.Equal(outcomes(from, a), outcomes(to, b), cmp.Reporter(collect))
	return collect.changes, collect.compared
}

// judged returns the cells that say something about a kernel, by program.
func (r *Run) judged(k Kernel) map[string][]Cell {
	cells := map[string][]Cell{}
	for _, c := range r.Cells {
		if c.Kernel == k.Name && c.Variant == k.Variant && c.Verdict != event.Error {
			cells[c.Program] = append(cells[c.Program], c)
		}
	}
	return cells
}

// outcomes is the comparable part of what a kernel did in its cells.
func outcomes(k Kernel, programs map[string][]Cell) map[string]string {
	verdicts := map[string][]event.Verdict{}
	for program, cells := range programs {
		for _, c := range cells {
			verdicts[program] = append(verdicts[program], c.Verdict)
			for _, check := range c.Checks {
				what := program + "/" + check.Name
				verdicts[what] = append(verdicts[what], check.Verdict)
			}
		}
	}
	outcomes := map[string]string{}
	for what, seen := range verdicts {
		slices.Sort(seen)
		var names []string
		for _, v := range slices.Compact(seen) {
			names = append(names, string(v))
		}
		outcomes[what] = strings.Join(names, "/")
	}
	for _, f := range k.Features {
		outcomes["feature "+f] = "declared"
	}
	return outcomes
}

// collector is the cmp.Reporter that turns cmp's walk over two maps into
// Changes; cmp visits map keys sorted.
type collector struct {
	path     cmp.Path
	changes  []Change
	compared int
}

func (c *collector) PushStep(s cmp.PathStep) { c.path = append(c.path, s) }
func (c *collector) PopStep()                { c.path = c.path[:len(c.path)-1] }

func (c *collector) Report(result cmp.Result) {
	step, ok := c.path.Last().(cmp.MapIndex)
	if !ok {
		return
	}
	c.compared++
	if result.Equal() {
		return
	}
	change := Change{What: step.Key().String(), From: Absent, To: Absent}
	from, to := step.Values()
	if from.IsValid() {
		change.From = from.String()
	}
	if to.IsValid() {
		change.To = to.String()
	}
	c.changes = append(c.changes, change)
}

// base returns the kernel that k is held against: the first one of its variant
// without patches. There is none for that kernel itself, nor when it did not run.
func (r *Run) base(k Kernel) (Kernel, bool) {
	for _, b := range r.Kernels {
		if b.Variant == k.Variant && len(b.Series) == 0 {
			return b, b.Name != k.Name
		}
	}
	return Kernel{}, false
}

// Diff says in text how each kernel of the run differs from its base. It is
// empty when no kernel has one, or nothing ran.
func Diff(r *Run) string {
	if len(r.Cells) == 0 {
		return ""
	}
	var out strings.Builder
	t := r.table()
	for _, k := range r.Kernels {
		base, ok := r.base(k)
		if !ok {
			continue
		}
		name := t.title(column{k.Name, k.Variant})
		changes, compared := r.Compare(base, k)
		if len(changes) == 0 {
			fmt.Fprintf(&out, "%s does as %s does in all %d verdicts and features.\n\n", name, Line(base.Name), compared)
			continue
		}
		fmt.Fprintf(&out, "%s differs from %s in %d of %d verdicts and features:\n", name, Line(base.Name), len(changes), compared)
		wide := 0
		for _, c := range changes {
			wide = max(wide, utf8.RuneCountInString(Line(c.What)))
		}
		for _, c := range changes {
			fmt.Fprintf(&out, "  %-*s  %s -> %s\n", wide, Line(c.What), c.From, c.To)
		}
		out.WriteString("\n")
	}
	return out.String()
}
