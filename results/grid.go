package results

import (
	"strings"

	"patchproof/guest/event"
)

// Mood is how a square of the grid is to be taken.
type Mood string

// The moods, mildest first.
const (
	AsExpected Mood = "as expected"
	KnownIssue Mood = "known issue"
	Trouble    Mood = "harness trouble"
	Unexpected Mood = "unexpected"
)

// Column is a kernel of the grid; its title has the variant where the run has several.
type Column struct{ Kernel, Variant, Title string }

// Square is what one program did on one kernel, a cell per iteration.
type Square struct {
	Column  Column
	Program string
	// Cells is empty where the program did not run on the kernel.
	Cells   []Cell
	Verdict event.Verdict
	// Alike is how many iterations came out like Verdict.
	Alike int
	// AsExpected says how many checks failed as declared, or as on base.
	AsExpected string
	Mood       Mood
}

// Grid is the matrix as data: rows are programs, sorted, columns kernels.
func (r *Run) Grid() (columns []Column, rows [][]Square) {
	t := r.table()
	for _, c := range t.columns {
		columns = append(columns, Column{c.kernel, c.variant, t.title(c)})
	}
	moods := map[mood]Mood{plain: AsExpected, known: KnownIssue, trouble: Trouble, alarm: Unexpected}
	for _, program := range t.programs {
		var row []Square
		for i, c := range t.columns {
			square := Square{Column: columns[i], Program: program}
			if cells := t.tallies[c][program]; len(cells) > 0 {
				head, alike := cells.headline()
				square.Cells, square.Verdict, square.Alike = cells, head.Verdict, alike
				square.AsExpected = cells.asExpected()
				square.Mood = moods[cells.mood()]
			}
			row = append(row, square)
		}
		rows = append(rows, row)
	}
	return columns, rows
}

// AsExpected says how many checks failed as declared, or as on base.
func (c Cell) AsExpected() string { return tally{c}.asExpected() }

// Compared says that what the check is expected to do was found by comparison with base, and
// not declared.
func (c Check) Compared() bool {
	return c.KnownIssue == noDifference || strings.HasPrefix(c.KnownIssue, failsOnBase) || strings.HasPrefix(c.KnownIssue, isFlaky)
}

// FailedAsKnown says whether the check is a known issue that showed itself.
func (c Check) FailedAsKnown() bool { return c.failedAsKnown() }
