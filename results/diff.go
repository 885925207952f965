package results

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

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
		c := Compare(Side{r, base}, Side{r, k})
		// What only one of them ran says nothing of the patch; figures have their own
		// reports.
		changes := slices.DeleteFunc(c.Changes, func(c Change) bool {
			return c.Kind == KindMetric || c.Kind == KindMissing || c.Kind == KindKernel
		})
		slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.What, b.What) })
		if len(changes) == 0 {
			fmt.Fprintf(&out, "%s does as %s does in all %d verdicts and features.\n\n", name, Line(base.Name), c.Compared)
			continue
		}
		fmt.Fprintf(&out, "%s differs from %s in %d of %d verdicts and features:\n", name, Line(base.Name), len(changes), c.Compared)
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
