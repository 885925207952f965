package results

import (
	"fmt"
	"slices"
	"strings"

	"patchproof/patches"
)

// isFor says whether the quarantine is for that kernel.
func (q Quarantine) isFor(c column) bool {
	return (len(q.Kernels) == 0 || slices.Contains(q.Kernels, c.kernel)) && (len(q.Variants) == 0 || slices.Contains(q.Variants, c.variant))
}

// same says whether two entries are one.
func (q Quarantine) same(o Quarantine) bool {
	return slices.Equal(q.Kernels, o.Kernels) && slices.Equal(q.Variants, o.Variants) && q.Program == o.Program && q.Check == o.Check &&
		q.Verdict == o.Verdict && q.Reason == o.Reason && q.Since == o.Since && q.Until == o.Until
}

// held is what became of a quarantine in a run.
type held struct {
	Quarantine
	// on are the kernels that ran its program, rates how often the check had the verdict there,
	// and failed in how many runs it had.
	on, rates []string
	failed    int
	// made says that the check was made at least once, or would have been had anything been wrong.
	made bool
}

// quarantines are those that were declared for the run's kernels, with what became of each.
func (r *Run) quarantines() []held {
	var all []held
	for _, k := range r.Kernels {
		for _, q := range k.Quarantine {
			if !slices.ContainsFunc(all, func(h held) bool { return h.same(q) }) {
				all = append(all, held{Quarantine: q})
			}
		}
	}
	t := r.table()
	for i := range all {
		h := &all[i]
		for _, col := range t.columns {
			if cells := t.tallies[col][h.Program]; len(cells) > 0 && h.isFor(col) {
				h.ran(t.title(col), cells)
			}
		}
	}
	return all
}

// ran adds what the check did on a kernel.
func (h *held) ran(on string, cells tally) {
	var rate Rate
	for _, c := range cells {
		if v, _, told := c.did(TitleKey(h.Check)); told {
			h.made = true
			rate.Runs++
			if v == h.Verdict {
				rate.Failed++
			}
		}
	}
	h.on = append(h.on, on)
	if rate.Runs > 0 {
		h.failed += rate.Failed
		h.rates = append(h.rates, fmt.Sprintf("%s on %s", rate, on))
	}
}

// String is the entry in a line: what the check did, until when it is in quarantine, and why.
func (h held) String() string {
	name := Line(h.Program + "/" + h.Check)
	if !h.made {
		return fmt.Sprintf("%s MATCHES NOTHING: %s made no such check on %s (%s)", name, Line(h.Program), patches.JoinAnd(h.on), Line(h.Reason))
	}
	did := fmt.Sprintf("%s: %s in %s", name, h.Verdict, strings.Join(h.rates, ", "))
	if h.Expired {
		return fmt.Sprintf("%s; RAN OUT on %s, so that it counts again: %s", did, Line(h.Until), Line(h.Reason))
	}
	return fmt.Sprintf("%s; since %s, until %s: %s", did, Line(h.Since), Line(h.Until), Line(h.Reason))
}

// Quarantines has a line for each quarantine that was declared, whether its check failed or not.
func Quarantines(r *Run) []string {
	var lines, idle []string
	for _, h := range r.quarantines() {
		if len(h.on) == 0 {
			idle = append(idle, Line(h.Program+"/"+h.Check))
			continue
		}
		lines = append(lines, h.String())
	}
	if len(idle) > 0 {
		lines = append(lines, fmt.Sprintf("not run, so that nothing matches: %s", strings.Join(idle, ", ")))
	}
	return lines
}

// quarantineAnswer counts in clauses what a quarantine had a part in.
func (r *Run) quarantineAnswer() []string {
	failed, expired, idle := 0, 0, 0
	for _, h := range r.quarantines() {
		switch {
		case len(h.on) == 0:
		case !h.made:
			idle++
		case h.Expired:
			expired++
		case h.failed > 0:
			failed++
		}
	}
	var parts []string
	if failed > 0 {
		parts = append(parts, patches.Plural(failed, "check")+" failed in quarantine")
	}
	if expired > 0 {
		parts = append(parts, patches.Plural(expired, "quarantine")+" ran out")
	}
	if idle > 0 {
		parts = append(parts, strings.Replace(patches.Plural(idle, "quarantine")+" match nothing", "quarantine match", "quarantine matches", 1))
	}
	return parts
}

// declaredQuarantines names them all, whether they have run out or not: that is up to the day.
func (k Kernel) declaredQuarantines() string {
	var all []string
	for _, q := range k.Quarantine {
		all = append(all, fmt.Sprintf("%s/%s %s until %s on %v %v", q.Program, q.Check, q.Verdict, q.Until, q.Kernels, q.Variants))
	}
	return strings.Join(all, "; ")
}
