package results

import (
	"fmt"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/patches"
)

// Answer says in one sentence what the run found, such as "patched: 4 programs
// passed as on base; 2 known issues; nothing unexpected."
func Answer(r *Run) string {
	if len(r.Cells) == 0 && r.Shard != nil {
		return fmt.Sprintf("Only %s, in which no program ran.", r.Shard)
	}
	if len(r.Cells) == 0 {
		return "No program ran, so nothing is known about any kernel."
	}
	t := r.table()
	var parts []string
	if r.Against != nil {
		parts = append(parts, r.Against.String())
	} else {
		for _, col := range t.columns {
			parts = append(parts, r.kernelAnswer(t, col)...)
		}
		parts = append(parts, surprises(t)...)
	}
	parts = append(parts, r.quarantineAnswer()...)
	answer := strings.Join(parts, "; ") + "."
	if r.Shard != nil {
		answer = fmt.Sprintf("Only %s: %s", r.Shard, answer)
	}
	if r.Status != Finished {
		return fmt.Sprintf("Not finished, so far %s: %s", patches.Plural(len(r.Cells), "cell"), answer)
	}
	return answer
}

// kernelAnswer says what is worth saying of one kernel. A base that passes
// everything is worth no word of its own beside a kernel held against it.
func (r *Run) kernelAnswer(t table, col column) []string {
	tallies := t.tallies[col]
	if r.kernel(col).BuildError != "" {
		return []string{t.title(col) + ": DOES NOT BUILD, and its base does"}
	}
	if len(tallies) == 0 {
		return []string{t.title(col) + ": not run"}
	}
	base, hasBase := r.base(r.kernel(col))
	baseTallies := t.tallies[column{base.Name, base.Variant}]
	passes, known, skipped, asOnBase := 0, 0, 0, hasBase
	for program, tally := range tallies {
		declared, quarantined := tally.known()
		known += declared - quarantined
		if head, _ := tally.headline(); head.Verdict == event.Skip {
			skipped++
		}
		if tally.passed() {
			passes++
			asOnBase = asOnBase && baseTallies[program].passed()
		}
	}
	if passes == len(tallies) && r.isBaseOfAnother(col) {
		return nil
	}
	text := fmt.Sprintf("%s: %d of %s passed", t.title(col), passes, patches.Plural(len(tallies), "program"))
	if passes == len(tallies) {
		text = fmt.Sprintf("%s: %s passed", t.title(col), patches.Plural(passes, "program"))
	}
	if asOnBase && passes > 0 {
		text += " as on " + Line(base.Name)
	}
	parts := []string{text}
	if skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", skipped))
	}
	if known > 0 {
		parts = append(parts, patches.Plural(known, "known issue"))
	}
	return parts
}

// kernel returns the declaration of a column; a column that only cells name
// has just its name.
func (r *Run) kernel(col column) Kernel {
	for _, k := range r.Kernels {
		if k.Name == col.kernel && k.Variant == col.variant {
			return k
		}
	}
	return Kernel{Name: col.kernel, Variant: col.variant}
}

func (r *Run) isBaseOfAnother(col column) bool {
	return slices.ContainsFunc(r.Kernels, func(k Kernel) bool {
		base, ok := r.base(k)
		return ok && col == column{base.Name, base.Variant}
	})
}

// surprises names the unexpected cells, three at most, and counts the errors.
func surprises(t table) []string {
	const most = 3
	var named []string
	errors := 0
	for _, program := range t.programs {
		for _, col := range t.columns {
			tally := t.tallies[col][program]
			switch tally.mood() {
			case alarm:
				head, _ := tally.headline()
				named = append(named, fmt.Sprintf("%s of %s on %s", head.Verdict, Line(program), t.title(col)))
			case trouble:
				errors++
			}
		}
	}
	var parts []string
	if errors > 0 {
		parts = append(parts, patches.Plural(errors, "cell")+" not judged, by the harness's own trouble")
	}
	if len(named) == 0 {
		return append(parts, "nothing unexpected")
	}
	rest := ""
	if len(named) > most {
		rest = fmt.Sprintf(" and %d more", len(named)-most)
		named = named[:most]
	}
	return append(parts, "UNEXPECTED: "+strings.Join(named, ", ")+rest)
}
