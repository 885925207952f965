package results

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"patchproof/guest/event"
)

// column identifies a kernel of the matrix.
type column struct{ kernel, variant string }

// tally is what one program did on one kernel: a cell per iteration.
type tally []Cell

// table is a run's cells by kernel and program. Programs are sorted, because
// cells finish in another order each time.
type table struct {
	columns  []column
	programs []string
	tallies  map[column]map[string]tally
}

func (r *Run) table() table {
	t := table{tallies: map[column]map[string]tally{}}
	add := func(c column) {
		if t.tallies[c] == nil {
			t.columns = append(t.columns, c)
			t.tallies[c] = map[string]tally{}
		}
	}
	for _, k := range r.Kernels {
		add(column{k.Name, k.Variant})
	}
	for _, c := range r.Cells {
		col := column{c.Kernel, c.Variant}
		add(col)
		t.tallies[col][c.Program] = append(t.tallies[col][c.Program], c)
		if !slices.Contains(t.programs, c.Program) {
			t.programs = append(t.programs, c.Program)
		}
	}
	slices.Sort(t.programs)
	return t
}

// inMood goes through the tallies of these moods, program by program.
func (t table) inMood(moods ...mood) iter.Seq2[column, tally] {
	return func(yield func(column, tally) bool) {
		for _, program := range t.programs {
			for _, col := range t.columns {
				if of := t.tallies[col][program]; len(of) > 0 && slices.Contains(moods, of.mood()) && !yield(col, of) {
					return
				}
			}
		}
	}
}

// title names a kernel, with its variant where the run has several.
func (t table) title(c column) string {
	for _, other := range t.columns {
		if other.variant != c.variant {
			return Line(c.kernel + "/" + c.variant)
		}
	}
	return Line(c.kernel)
}

// headline returns the cell that stands for all iterations and how many came
// out like it: the gravest unexpected verdict of the kernel if there is one,
// so that neither trouble of the harness nor a known issue can hide it.
func (t tally) headline() (Cell, int) {
	candidates := slices.DeleteFunc(slices.Clone(t), func(c Cell) bool { return !c.blamesKernel() })
	if len(candidates) == 0 {
		candidates = t
	}
	worst := candidates[0]
	for _, c := range candidates {
		if c.Verdict != worst.Verdict && event.Worst(worst.Verdict, c.Verdict) == c.Verdict {
			worst = c
		}
	}
	alike := 0
	for _, c := range candidates {
		if c.Verdict == worst.Verdict {
			alike++
		}
	}
	return worst, alike
}

// counts says how many iterations came out with each verdict.
func (t tally) counts() string {
	counts := map[event.Verdict]int{}
	for _, c := range t {
		counts[c.Verdict]++
	}
	return verdictCounts(counts)
}

// known returns how many checks failed as declared, and how many of these are in quarantine,
// each counted once.
func (t tally) known() (known, quarantined int) {
	names := map[string]bool{}
	for _, c := range t {
		for _, check := range c.Checks {
			if check.failedAsKnown() && !names[check.Name] {
				names[check.Name] = true
				known++
				if check.Quarantine != "" {
					quarantined++
				}
			}
		}
	}
	return known, quarantined
}

// asExpected says how many checks failed as a known issue, or as the comparison of a patch with
// its base allows. That base fails as base does goes without saying.
func (t tally) asExpected() string {
	words := []string{"known", "as on base", "flaky"}
	counts, seen := map[string]int{}, map[string]bool{}
	for _, c := range t {
		for _, check := range c.Checks {
			if !check.failedAsKnown() || check.Quarantine != "" || seen[check.Name] {
				continue
			}
			seen[check.Name] = true
			switch {
			case check.KnownIssue == failsOnBase:
			case check.KnownIssue == noDifference, strings.HasPrefix(check.KnownIssue, failsOnBase+","):
				counts["as on base"]++
			case strings.HasPrefix(check.KnownIssue, isFlaky):
				counts["flaky"]++
			default:
				counts["known"]++
			}
		}
	}
	var all []string
	for _, word := range words {
		if n := counts[word]; n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, word))
		}
	}
	return strings.Join(all, ", ")
}

// passed says whether every iteration passed.
func (t tally) passed() bool {
	return len(t) > 0 && !slices.ContainsFunc(t, func(c Cell) bool { return c.Verdict != event.Pass })
}
