package results

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"patchproof/guest/event"
)

// View is how a Report is shown.
type View struct {
	// Colour marks verdicts by colour.
	Colour bool
	// All explains the known issues as well, and lists every difference.
	All bool
	// Since is what the reference results say, see SinceReference.
	Since string
	// Flakes are what comes and goes in the stored runs, for what is unexpected in this one.
	Flakes Flakes
}

// Report prints the run for a terminal: the matrix (rows are programs, columns
// kernels), what changed against the reference and against base, and then, last, one block for
// each cell that is unexpected or that the harness could not judge: what failed, where its
// console is and how to run it again. The answer ends it, in one sentence.
//
// Iterations share a cell: "fail 3/20" is the gravest verdict, had by 3 of 20. The matrix
// keeps to 80 columns, by going on below with the kernels that do not fit. Nothing that a
// guest wrote reaches the terminal raw.
func Report(w io.Writer, r *Run, v View) error {
	p := printer{run: r, table: r.table(), colour: v.Colour, width: matrixWidth, flakes: v.Flakes, all: v.All}
	p.matrix()
	for _, text := range []string{v.Since, diff(r, v.All)} {
		if text != "" {
			p.out.WriteString(strings.TrimRight(text, "\n") + "\n\n")
		}
	}
	if v.All {
		p.blocks(known)
	}
	p.blocks(trouble, alarm)
	p.skips()
	p.quarantines()
	fmt.Fprintln(&p.out, Answer(r))
	_, err := io.WriteString(w, p.out.String())
	return err
}

// skips says why programs were skipped, and with all why each check was: a reason once for
// all that it holds for.
func (p *printer) skips() {
	for _, col := range p.table.columns {
		var reasons []string
		of := map[string][]string{}
		for _, program := range p.table.programs {
			for _, cell := range p.table.tallies[col][program] {
				for _, c := range cell.Checks {
					name := Line(program + "/" + c.Name)
					if c.Verdict != event.Skip || c.Detail == "" || !p.all && cell.Verdict != event.Skip {
						continue
					}
					why := line(c.Detail, skipLimit)
					if !slices.Contains(reasons, why) {
						reasons = append(reasons, why)
					}
					if !slices.Contains(of[why], name) {
						of[why] = append(of[why], name)
					}
				}
			}
		}
		if len(reasons) == 0 {
			continue
		}
		fmt.Fprintf(&p.out, "Skipped on %s:\n", p.table.title(col))
		for _, why := range reasons {
			fmt.Fprintf(&p.out, "  %s: %s\n", strings.Join(few(of[why], mostSkips), ", "), why)
		}
		p.out.WriteString("\n")
	}
}

// skipLimit is how long a reason may be, with a path in it, and mostSkips for how many checks it
// is named.
const (
	skipLimit = 400
	mostSkips = 4
)

// quarantines lists all of them: what they hold is never hidden.
func (p *printer) quarantines() {
	lines := Quarantines(p.run)
	if len(lines) == 0 {
		return
	}
	p.out.WriteString("In quarantine:\n")
	for _, line := range lines {
		fmt.Fprintf(&p.out, "  %s\n", line)
	}
	p.out.WriteString("\n")
}

// blocks prints the cells of these moods.
func (p *printer) blocks(moods ...mood) {
	for _, mood := range moods {
		for col, t := range p.table.inMood(mood) {
			p.block(p.table.title(col), t)
		}
	}
}
