package results

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"patchproof/guest/event"
	"patchproof/patches"
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

// mostDifferences is how many differences of a kernel a short report lists.
const mostDifferences = 12

// diff says in text how each kernel of the run differs from its base; without all, what
// only became applicable, or is declared, is counted. It is empty when no kernel has a base,
// or nothing ran.
func diff(r *Run, all bool) string {
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
			fmt.Fprintf(&out, "%s does as %s does in all %d verdicts and features.\n", name, Line(base.Name), c.Compared)
			continue
		}
		fmt.Fprintf(&out, "%s differs from %s in %d of %d verdicts and features", name, Line(base.Name), len(changes), c.Compared)
		if !all {
			clause, rest := tallyChanges(changes)
			out.WriteString(clause)
			if changes = rest; len(changes) == 0 {
				out.WriteString(".\n")
				continue
			}
		}
		out.WriteString(":\n")
		rest := 0
		if !all && len(changes) > mostDifferences {
			rest, changes = len(changes)-mostDifferences, changes[:mostDifferences]
		}
		wide := 0
		for _, c := range changes {
			wide = max(wide, utf8.RuneCountInString(Line(c.What)))
		}
		for _, c := range changes {
			fmt.Fprintf(&out, "  %-*s  %s -> %s\n", wide, Line(c.What), c.From, c.To)
		}
		if rest > 0 {
			fmt.Fprintf(&out, "  and %d more\n", rest)
		}
	}
	return out.String()
}

// tallyChanges counts in a clause the changes that only say that a check became applicable, and
// those that are declared, and returns the others.
func tallyChanges(changes []Change) (clause string, others []Change) {
	applicable, declared := 0, 0
	for _, c := range changes {
		switch {
		case c.becameApplicable():
			applicable++
		case c.Effect == Declared:
			declared++
		default:
			others = append(others, c)
		}
	}
	var parts []string
	if applicable > 0 {
		parts = append(parts, patches.Plural(applicable, "check")+" became applicable (skip -> pass)")
	}
	if declared > 0 {
		parts = append(parts, fmt.Sprintf("%d as declared", declared))
	}
	if len(parts) == 0 {
		return "", others
	}
	if len(others) > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", len(others)))
	}
	return ": " + strings.Join(parts, ", "), others
}

// becameApplicable says that a check was skipped for want of what the other kernel has.
func (c Change) becameApplicable() bool {
	return c.Kind == KindCheck && c.From == string(event.Skip) && c.To == string(event.Pass)
}
