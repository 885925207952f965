package results

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"patchproof/guest/event"
)

const (
	matrixWidth = 80
	gutter      = 2
	// nameLimit keeps a row with one column within 72 characters, a mail's line.
	nameLimit = 36
)

type printer struct {
	run    *Run
	table  table
	colour bool
	width  int
	flakes Flakes
	// bare leaves out the room for marks.
	bare bool
	// all tells every check in full, however many there are.
	all bool
	out strings.Builder
}

func (p *printer) matrix() {
	left := len("program")
	for _, program := range p.table.programs {
		left = max(left, width(clip(Line(program), nameLimit)))
	}
	// Kernels side by side are worth more than room for marks that no cell has.
	p.bare = !p.fits(left) && !p.marked()
	for columns := p.table.columns; len(columns) > 0; {
		n, total := 0, left
		for n < len(columns) && (n == 0 || total+gutter+p.columnWidth(columns[n]) <= p.width) {
			total += gutter + p.columnWidth(columns[n])
			n++
		}
		p.rows(left, columns[:n])
		columns = columns[n:]
	}
}

// fits says whether all columns have room beside each other.
func (p *printer) fits(left int) bool {
	for _, col := range p.table.columns {
		left += gutter + p.columnWidth(col)
	}
	return left <= p.width
}

// marked says whether a cell has a mark.
func (p *printer) marked() bool {
	for _, tallies := range p.table.tallies {
		for _, t := range tallies {
			if marks[t.mood()] != marks[plain] {
				return true
			}
		}
	}
	return false
}

// cell is a text of the matrix, which begins with a mark or the room for one.
func (p *printer) cell(text string) string {
	if p.bare {
		return strings.TrimPrefix(text, marks[plain])
	}
	return text
}

// title heads a column.
func (p *printer) title(col column) string {
	return p.cell(marks[plain] + clip(p.table.title(col), nameLimit-4))
}

// rows prints the part of the matrix that has these columns. The padding counts
// characters and not colour codes, which is why text/tabwriter cannot do it.
func (p *printer) rows(left int, columns []column) {
	row := fmt.Sprintf("%-*s", left, "program")
	for _, col := range columns {
		row += fmt.Sprintf("%*s%-*s", gutter, "", p.columnWidth(col), p.title(col))
	}
	fmt.Fprintln(&p.out, strings.TrimRight(row, " "))
	for _, program := range p.table.programs {
		row := fmt.Sprintf("%-*s", left, clip(Line(program), nameLimit))
		for _, col := range columns {
			t := p.table.tallies[col][program]
			text := p.cell(t.text())
			pad := p.columnWidth(col) - width(text)
			if p.colour {
				text = colours[t.mood()] + text + "\x1b[0m"
			}
			row += fmt.Sprintf("%*s%s%*s", gutter, "", text, pad, "")
		}
		fmt.Fprintln(&p.out, strings.TrimRight(row, " "))
	}
	fmt.Fprintln(&p.out)
}

func (p *printer) columnWidth(col column) int {
	w := width(p.title(col))
	for _, t := range p.table.tallies[col] {
		w = max(w, width(p.cell(t.text())))
	}
	return w
}

// block explains a tally that is not plainly as expected.
func (p *printer) block(kernel string, t tally) {
	head, n := t.headline()
	expectation := "unexpected"
	if head.Expected {
		expectation = "as declared"
	}
	if head.Verdict == event.Error {
		expectation = "the harness's own trouble"
	}
	fmt.Fprintf(&p.out, "%s%s on %s: %s, %s", marks[t.mood()], Line(head.Program), kernel, head.Verdict, expectation)
	if len(t) > 1 {
		fmt.Fprintf(&p.out, " in %d of %d runs", n, len(t))
		if n < len(t) {
			fmt.Fprintf(&p.out, " (%s)", t.counts())
		}
	}
	p.out.WriteString("\n")
	if head.Reason != "" {
		fmt.Fprintf(&p.out, "    %s\n", Line(head.Reason))
	}
	p.checks(append(tally{head}, t...))
	if head.Console != "" {
		fmt.Fprintf(&p.out, "    console: %s\n", event.Printable(filepath.Join(p.run.Dir, head.Console)))
	}
	if head.Command != "" {
		fmt.Fprintf(&p.out, "    again:   %s\n", event.Printable(head.Command))
	}
	p.out.WriteString("\n")
}

// mostChecks is how many checks of a block are told in full; of the rest the names are.
const mostChecks = 5

// moreWidth is how wide the list of these is, and mostNamed how many it names: a test may print
// thousands of results, and what went before would scroll away.
const (
	moreWidth = 90
	mostNamed = 40
)

// checks prints each unexpected or known-issue check of the cells once for each
// way in which it came out.
func (p *printer) checks(cells tally) {
	type outcome struct {
		name     string
		verdict  event.Verdict
		expected bool
	}
	told := map[outcome]bool{}
	var more []string
	rest := 0
	for _, cell := range cells {
		for _, c := range cell.Checks {
			o := outcome{c.Name, c.Verdict, c.Expected}
			if told[o] || c.Expected && !c.failedAsKnown() {
				continue
			}
			told[o] = true
			if len(told) > mostChecks+mostNamed && !p.all {
				rest++
				continue
			}
			if len(told) > mostChecks && !p.all {
				more = append(more, fmt.Sprintf("%s (%s)", Line(c.Name), c.Verdict))
				continue
			}
			fmt.Fprintf(&p.out, "    %s: %s", Line(c.Name), c.Verdict)
			if c.KnownIssue != "" && c.Expected {
				fmt.Fprintf(&p.out, ", %s", c.declaration())
			}
			if c.KnownIssue != "" && !c.Expected {
				fmt.Fprintf(&p.out, ", but its known issue says otherwise: %s", Line(c.KnownIssue))
			}
			p.out.WriteString("\n")
			if c.Detail != "" {
				fmt.Fprintf(&p.out, "      %s\n", Line(c.Detail))
			}
			if flake, ok := p.flakes.of(cell, c); ok {
				fmt.Fprintf(&p.out, "      comes and goes: fails in %s stored runs of this kernel and program\n", flake.Rate)
			}
		}
	}
	if len(more) > 0 {
		// A library's word wrap would break names at their dashes.
		row := fmt.Sprintf("    and %d more:", len(more)+rest)
		if rest > 0 {
			more = append(more, "...")
		}
		for i, name := range more {
			if i < len(more)-1 {
				name += ","
			}
			if width(row)+width(name) > moreWidth {
				p.out.WriteString(row + "\n")
				row = "     "
			}
			row += " " + name
		}
		p.out.WriteString(row + "\n")
	}
}

// mood is how a tally looks in the matrix.
type mood int

const (
	plain   mood = iota // as expected, nothing to explain
	known               // as expected, because an issue is declared
	trouble             // the harness's own
	alarm               // unexpected
)

// The marks are ASCII so that a matrix survives mail and any locale.
var (
	marks   = map[mood]string{plain: "  ", known: "  ", trouble: "? ", alarm: "! "}
	colours = map[mood]string{plain: "\x1b[32m", known: "\x1b[33m", trouble: "\x1b[35m", alarm: "\x1b[31;1m"}
)

func (t tally) mood() mood {
	if len(t) == 0 {
		return plain
	}
	head, _ := t.headline()
	if head.blamesKernel() {
		return alarm
	}
	if head.Verdict == event.Error {
		return trouble
	}
	if declared, _ := t.known(); declared > 0 {
		return known
	}
	return plain
}

// text is a cell of the matrix, such as "! fail 3/20, 1 known".
func (t tally) text() string {
	if len(t) == 0 {
		return marks[plain] + "-"
	}
	head, n := t.headline()
	text := marks[t.mood()] + string(head.Verdict)
	if len(t) > 1 {
		text += fmt.Sprintf(" %d/%d", n, len(t))
	}
	_, quarantined := t.known()
	if as := t.asExpected(); as != "" {
		text += ", " + as
	}
	if quarantined > 0 {
		text += fmt.Sprintf(", %d in quarantine", quarantined)
	}
	return text
}

func width(s string) int { return utf8.RuneCountInString(s) }
