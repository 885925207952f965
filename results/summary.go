package results

import (
	"fmt"
	"html"
	"path/filepath"
	"strings"
	"time"

	"patchproof/guest/event"
	"patchproof/patches"
)

// Summary is a run in GitHub's Markdown, for a CI job's summary: the answer first,
// then the matrix, what was not expected with what was seen, the known issues, and
// what was tested on what.
func Summary(r *Run) string {
	s := &summary{run: r, table: r.table()}
	heading := map[int]string{0: "as expected", 1: "UNEXPECTED", 2: "NOT JUDGED"}[r.ExitCode()]
	s.printf("## patchproof: %s\n\n%s\n\n", heading, markdown(Answer(r)))
	s.matrix()
	s.unexpected()
	s.knownIssues()
	s.facts()
	return s.out.String()
}

type summary struct {
	run   *Run
	table table
	out   strings.Builder
}

func (s *summary) printf(format string, args ...any) { fmt.Fprintf(&s.out, format, args...) }

// markdownEscapes are the characters that mean something in Markdown or in HTML.
var markdownEscapes = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;", "://", ":&#47;/", "@", "&#64;",
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "~", `\~`, "|", `\|`, "[", `\[`, "]", `\]`, "#", `\#`, "$", `\$`,
)

// markdown is the first line of a text of anyone's as Markdown shows it: no markup,
// no link, no mention of a person.
func markdown(text string) string { return markdownEscapes.Replace(line(text, itemLimit)) }

// preEscapes hide from GitHub what it looks for in any text.
var preEscapes = strings.NewReplacer("`", "&#96;", "@", "&#64;")

// pre escapes text for a block of HTML.
func pre(text string) string { return preEscapes.Replace(html.EscapeString(text)) }

// code is a block of lines as they are. The fence is HTML, because a guest may print
// any number of backticks.
func (s *summary) code(lines []string) {
	s.printf("<pre>")
	for i, line := range lines {
		if i > 0 {
			s.printf("\n")
		}
		s.printf("%s", pre(Line(line)))
	}
	s.printf("</pre>\n\n")
}

func (s *summary) matrix() {
	if len(s.table.programs) == 0 {
		return
	}
	s.printf("| program |")
	for _, col := range s.table.columns {
		s.printf(" %s |", markdown(s.table.title(col)))
	}
	s.printf("\n|---|%s\n", strings.Repeat("---|", len(s.table.columns)))
	for _, program := range s.table.programs {
		s.printf("| %s |", markdown(program))
		for _, col := range s.table.columns {
			t := s.table.tallies[col][program]
			text := markdown(strings.TrimSpace(strings.TrimLeft(t.text(), "!? ")))
			if mood := t.mood(); mood == alarm || mood == trouble {
				text = ":x: **" + text + "**"
			}
			s.printf(" %s |", text)
		}
		s.printf("\n")
	}
	s.printf("\n")
}

// unexpected has a block to open for each cell that did not come out as expected.
func (s *summary) unexpected() {
	for _, k := range s.run.Kernels {
		if k.BuildError != "" {
			s.printf("<details open><summary><b>%s does not build</b></summary>\n\n", pre(Line(k.Name)))
			s.code(strings.Split(k.BuildError, "\n"))
			s.printf("</details>\n\n")
		}
	}
	for col, t := range s.table.inMood(alarm, trouble) {
		head, n := t.headline()
		s.printf("<details><summary><b>%s</b> of %s on %s, in %d of %s</summary>\n\n", head.Verdict,
			pre(Line(head.Program)), pre(s.table.title(col)), n, patches.Plural(len(t), "run"))
		if head.Reason != "" {
			s.printf("%s\n\n", markdown(head.Reason))
		}
		for _, c := range head.Checks {
			if c.Expected {
				continue
			}
			s.printf("%s: **%s**\n", markdown(c.Name), c.Verdict)
			if c.KnownIssue != "" {
				s.printf("(its known issue says otherwise: %s)\n", markdown(c.KnownIssue))
			}
			s.printf("\n")
			if c.Detail != "" {
				s.code(summaryLines(c.Detail))
			}
		}
		s.again(head)
		s.printf("</details>\n\n")
	}
}

// summaryDetail is how many lines of what a check saw are shown: a splat and its
// stack, but not all tasks of a guest that hangs.
const summaryDetail = 60

func summaryLines(detail string) []string {
	lines := strings.Split(strings.TrimSpace(detail), "\n")
	if more := len(lines) - summaryDetail; more > 0 {
		lines = append(lines[:summaryDetail], fmt.Sprintf("(%d more lines in run.json)", more))
	}
	return lines
}

// again says how a cell is run once more.
func (s *summary) again(c Cell) {
	variable := ""
	if c.Variant != "" {
		variable = " VARIANT=" + c.Variant
	}
	lines := []string{fmt.Sprintf("make vmtest KERNELS=%s PROGRAMS=%s%s%s", c.Kernel, c.Program, variable, s.selection())}
	if c.Console != "" {
		lines = append(lines, "# console: "+filepath.Base(c.Console))
	}
	s.code(lines)
	if c.Command != "" {
		// A command is longer than what is shown of a guest's line.
		s.printf("<pre>%s</pre>\n\n", pre(event.Printable(c.Command)))
	}
}

// selection is what of the run's variables a command needs beside the cell's own.
func (s *summary) selection() string {
	text := ""
	for _, name := range []string{"PIN", "TREE", "REV", "PATCH", "ACCEL"} {
		if value := s.run.Selection[name]; value != "" {
			text += fmt.Sprintf(" %s='%s'", name, strings.ReplaceAll(value, "'", `'\''`))
		}
	}
	return text
}

func (s *summary) knownIssues() {
	if lines := Quarantines(s.run); len(lines) > 0 {
		s.printf("In quarantine:\n\n")
		for _, line := range lines {
			s.printf("- %s\n", markdown(line))
		}
		s.printf("\n")
	}
	issues := s.run.shownIssues(s.table)
	if len(issues) == 0 {
		return
	}
	s.printf("<details><summary>%s that showed</summary>\n\n", patches.Plural(len(issues), "known issue"))
	for _, i := range issues {
		s.printf("- %s, %s: %s on %s. %s\n", markdown(i.program), markdown(i.check.Name), i.check.Verdict,
			markdown(patches.JoinAnd(i.kernels)), markdown(i.check.KnownIssue))
	}
	s.printf("\n</details>\n\n")
}

// facts says what was tested on what.
func (s *summary) facts() {
	s.printf("<details><summary>What was tested</summary>\n\n")
	for _, k := range s.run.Kernels {
		s.printf("- %s: %s, %s, config %s, %s\n", markdown(s.table.title(column{k.Name, k.Variant})), markdown(source(k)),
			markdown(k.Variant), clipHash(k.ConfigHash), markdown(k.Compiler))
		for i, subject := range k.Series {
			s.printf("  %d. %s\n", i+1, markdown(subject))
		}
	}
	s.printf("- QEMU %s, %s: %s\n", markdown(s.run.QEMU), markdown(s.run.Accel.Name), markdown(s.run.Accel.Reason))
	s.printf("- %s, Linux %s, %s, %d CPUs\n", markdown(s.run.Host.OS), markdown(s.run.Host.Kernel), markdown(s.run.Host.CPU), s.run.Host.CPUs)
	s.printf("- run %s", markdown(s.run.ID))
	if !s.run.Finished.IsZero() {
		s.printf(", %s", s.run.Finished.Sub(s.run.Started).Round(time.Second))
	}
	errors := 0
	for _, c := range s.run.Cells {
		if c.Verdict == event.Error {
			errors++
		}
	}
	if errors > 0 {
		s.printf(", %s", patches.Plural(errors, "cell")+" not judged")
	}
	s.printf("\n\n</details>\n")
}
