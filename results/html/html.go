// Package html writes a run as report.html: one file without references to
// others, for a browser, a printer or a screen reader. It says what was tested, on
// what, and the answer; then the matrix, pictures, and each cell with its checks,
// its console and the command that runs it again.
//
// What a guest wrote is hostile. html/template escapes it, the page's policy
// (Content-Security-Policy) runs no script but the page's own, and what cannot be
// printed is spelled out before it reaches the file.
package html

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"mvdan.cc/sh/v3/syntax"

	"patchproof/guest/event"
	"patchproof/patches"
	"patchproof/patches/subjects"
	"patchproof/results"
)

// reportFile is the report's name in the run's folder.
const reportFile = "report.html"

var (
	//go:embed report.css
	css string
	//go:embed report.js
	js string
	//go:embed report.html.tmpl
	text string
)

var tmpl = template.Must(template.New(reportFile).Funcs(template.FuncMap{
	"seconds": func(s float64) string { return fmt.Sprintf("%.1f s", s) },
	"short":   func(id string) string { return id[:min(12, len(id))] },
	"number":  number,
	"figure":  isFigure.MatchString,
	"typed":   typed,
}).Parse(text))

// typed is the command line that began a run, with the variables that were set beside it, as
// a shell takes it again.
func typed(run *results.Run) string {
	if len(run.Command) == 0 {
		return ""
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(run.Selection)) {
		flag := "--" + strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if !slices.ContainsFunc(run.Command, func(word string) bool { return word == flag || strings.HasPrefix(word, flag+"=") }) {
			words = append(words, name+"="+quoted(run.Selection[name]))
		}
	}
	for _, word := range run.Command {
		words = append(words, quoted(word))
	}
	return strings.Join(words, " ")
}

// quoted is a word as a shell takes it; one that no shell takes stays as it is.
func quoted(word string) string {
	if q, err := syntax.Quote(word, syntax.LangBash); err == nil {
		return q
	}
	return word
}

// isFigure tells a figure, with its unit or without, from words: figures of a column stand
// below each other by their ends, words by their beginnings.
var isFigure = regexp.MustCompile(`^[-+−]?[0-9][0-9.,]*( of [0-9]+| ?[^ 0-9"]+)?$`)

// Write writes the report of a run into its folder and returns its path, with the
// figures that a subject asks for. The runs beside it are read for what this one does
// not have itself.
func Write(run *results.Run, asked []subjects.Figure) (path string, err error) {
	var out bytes.Buffer
	if err := tmpl.Execute(&out, look(run, asked)); err != nil {
		return "", fmt.Errorf("writing the report: %w", err)
	}
	path = filepath.Join(run.Dir, reportFile)
	if err := renameio.WriteFile(path, []byte(event.PrintableLines(out.String())), 0o644); err != nil {
		return "", fmt.Errorf("writing the report: %w", err)
	}
	return path, nil
}

// view is what the template shows.
type view struct {
	Run      *results.Run
	CSS      template.CSS
	JS       template.JS
	Policy   string
	Title    string
	Sub      string
	Answer   string
	Mood     results.Mood
	Took     string
	Columns  []results.Column
	Rows     []row
	Cells    []cell
	Verdicts []event.Verdict
	Figures  []figure
	// Quarantines has a line for each that was declared.
	Quarantines []string
	// Outcome and Told are a search's: how it ended, and its answer in full.
	Outcome, Told string
}

// row is a program in the matrix.
type row struct {
	Program string
	Squares []square
	// Slowest is the longest of its cells, in seconds.
	Slowest    float64
	Verdicts   string
	Unexpected bool
}

// square is a place in the matrix.
type square struct {
	results.Square
	// Cell is the id of the first of its cells.
	Cell string
	// Rank orders squares by how much they need a look.
	Rank int
}

// cell is a cell with what the page says of it.
type cell struct {
	results.Cell
	ID, Kernel string
	Mood       results.Mood
	// Telling are the checks that need a look, Plain the others.
	Telling, Plain []results.Check
	Metrics        []metric
	Console        console
}

type metric struct{ Name, Labels, Value, Unit string }

func look(run *results.Run, asked []subjects.Figure) *view {
	v := &view{Run: run, CSS: template.CSS(css), JS: template.JS(js), Answer: results.Answer(run), Mood: results.AsExpected, Quarantines: results.Quarantines(run)}
	v.Policy = fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'", hash(css), hash(js))
	var names []string
	var rows [][]results.Square
	v.Columns, rows = run.Grid()
	for _, c := range v.Columns {
		names = append(names, c.Title)
	}
	v.Title = patches.JoinAnd(names)
	if len(run.Kernels) > 0 {
		v.Title += " on " + cmp.Or(run.Kernels[0].Pin, "a local tree")
	}
	v.Sub = sub(run)
	if !run.Finished.IsZero() {
		v.Took = run.Finished.Sub(run.Started).Round(time.Second).String()
	}
	seen := map[event.Verdict]bool{}
	for _, squares := range rows {
		v.Rows = append(v.Rows, v.row(squares))
		for _, s := range squares {
			if s.Verdict != "" {
				seen[s.Verdict] = true
			}
			v.Mood = graver(v.Mood, s.Mood)
		}
	}
	switch run.ExitCode() {
	case 1:
		v.Mood = results.Unexpected
	case 2:
		v.Mood = results.Trouble
	}
	if s, ok := readSearch(run); ok && s.Answer.Text != "" {
		v.Title, v.Sub = "Who is to blame", patches.Plural(len(s.Trials), "kernel")+" tried"
		if run.Accel.Name != "" {
			v.Sub += fmt.Sprintf(" · QEMU %s under %s", run.QEMU, run.Accel.Name)
		}
		v.Answer, v.Mood, v.Outcome, v.Told = s.Answer.Text, results.AsExpected, s.Answer.Outcome, s.Told
		if s.Answer.Outcome != "found" {
			v.Mood = results.Trouble
		}
	}
	for _, verdict := range []event.Verdict{event.Error, event.Crash, event.Hang, event.Fail, event.Pass, event.Skip} {
		if seen[verdict] {
			v.Verdicts = append(v.Verdicts, verdict)
		}
	}
	v.Figures = figures(run, asked)
	return v
}

// sub says in a line what the kernels are and how they ran.
func sub(run *results.Run) string {
	var parts, variants []string
	for _, k := range run.Kernels {
		switch len(k.Series) {
		case 0:
		case 1:
			parts = append(parts, fmt.Sprintf("%s is “%s”", k.Name, k.Series[0]))
		default:
			parts = append(parts, fmt.Sprintf("%s is %d patches, from “%s” to “%s”", k.Name, len(k.Series), k.Series[0], k.Series[len(k.Series)-1]))
		}
		if !slices.Contains(variants, k.Variant) {
			variants = append(variants, k.Variant)
		}
	}
	if len(variants) > 0 {
		parts = append(parts, "variant "+strings.Join(variants, ", "))
	}
	return strings.Join(append(parts, fmt.Sprintf("QEMU %s under %s", run.QEMU, run.Accel.Name)), " · ")
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Verdict says the run's mood in a few words.
func (v *view) Verdict() string {
	if v.Outcome != "" {
		return strings.ToUpper(v.Outcome[:1]) + v.Outcome[1:]
	}
	return map[results.Mood]string{
		results.AsExpected: "As expected",
		results.KnownIssue: "As expected, with known issues",
		results.Trouble:    "Not all could be judged",
		results.Unexpected: "Unexpected",
	}[v.Mood]
}

var gravity = []results.Mood{"", results.AsExpected, results.KnownIssue, results.Trouble, results.Unexpected}

func graver(a, b results.Mood) results.Mood {
	return gravity[max(slices.Index(gravity, a), slices.Index(gravity, b))]
}

// row takes a program's squares, and its cells.
func (v *view) row(squares []results.Square) row {
	r := row{}
	var verdicts []string
	for _, s := range squares {
		r.Program = s.Program
		sq := square{Square: s}
		for i, c := range s.Cells {
			shown := v.cell(c, s.Column)
			if i == 0 {
				sq.Cell = shown.ID
			}
			v.Cells = append(v.Cells, shown)
			r.Slowest = max(r.Slowest, c.WallS)
			verdicts = append(verdicts, string(c.Verdict))
		}
		sq.Rank = 10*slices.Index(gravity, s.Mood) + slices.Index([]event.Verdict{"", event.Skip, event.Pass, event.Fail, event.Hang, event.Crash, event.Error}, s.Verdict)
		r.Unexpected = r.Unexpected || s.Mood == results.Unexpected || s.Mood == results.Trouble
		r.Squares = append(r.Squares, sq)
	}
	slices.Sort(verdicts)
	r.Verdicts = strings.Join(slices.Compact(verdicts), " ")
	return r
}

func (v *view) cell(c results.Cell, column results.Column) cell {
	shown := cell{Cell: c, ID: fmt.Sprintf("cell-%d", len(v.Cells)+1), Kernel: column.Title, Mood: results.AsExpected}
	known := false
	for _, check := range c.Checks {
		known = known || check.FailedAsKnown()
		if !check.Expected || check.FailedAsKnown() {
			shown.Telling = append(shown.Telling, check)
		} else {
			shown.Plain = append(shown.Plain, check)
		}
	}
	switch {
	case c.Verdict == event.Error:
		shown.Mood = results.Trouble
	case !c.Expected:
		shown.Mood = results.Unexpected
	case known:
		shown.Mood = results.KnownIssue
	}
	for _, m := range c.Metrics {
		var labels []string
		for _, key := range slices.Sorted(maps.Keys(m.Labels)) {
			labels = append(labels, key+"="+m.Labels[key])
		}
		shown.Metrics = append(shown.Metrics, metric{m.Name, strings.Join(labels, ", "), number(m.Value), m.Unit})
	}
	var series []string
	for _, k := range v.Run.Kernels {
		if k.Name == column.Kernel && k.Variant == column.Variant {
			series = k.Series
		}
	}
	shown.Console = readConsole(v.Run.Dir, c, shown.ID, series)
	return shown
}
