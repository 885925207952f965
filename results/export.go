package results

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/jstemmer/go-junit-report/v2/junit"

	"patchproof/guest/event"
	"patchproof/patches"
)

// The files beside run.json that other tools read.
const (
	junitFile = "junit.xml"
	ktapFile  = "ktap.txt"
)

// export writes the run in the formats of other tools into its folder.
func (r *Run) export(dir string) error {
	for name, write := range map[string]func(io.Writer, *Run) error{junitFile: JUnit, ktapFile: KTAP} {
		var out strings.Builder
		if err := write(&out, r); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if err := renameio.WriteFile(filepath.Join(dir, name), []byte(out.String()), 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

// suite is what other tools take for a set of tests: a cell, a build, or the run.
type suite struct {
	name  string
	class string
	cell  Cell
	cases []testCase
}

// testCase is what other tools take for a test: a check.
type testCase struct {
	name    string
	ending  ending
	verdict event.Verdict
	// reason is why it did not pass, in a line, and detail all that was seen.
	reason, detail string
}

// ending is how a case ended, as far as a reader in another format cares.
type ending int

const (
	passed ending = iota
	skipped
	// asDeclared: it failed as a known issue says.
	asDeclared
	failed
	// broken: the harness's own trouble.
	broken
)

// suites are the run's. One of them has a case that failed or is broken unless the
// run's ExitCode is 0: also where a program said nothing, a kernel did not build or
// the run did not come to its end.
func (r *Run) suites() []suite {
	var all []suite
	for _, k := range r.Kernels {
		if k.BuildError != "" {
			all = append(all, suite{
				name: Line(k.Name) + "/" + Line(k.Variant) + "/build", class: class(k.Name, k.Variant, "build"),
				cases: []testCase{{name: "build", ending: failed, verdict: event.Fail, reason: "the patches broke the build", detail: k.BuildError}},
			})
		}
	}
	for _, c := range r.Cells {
		s := suite{name: Line(c.Kernel) + "/" + Line(c.Variant) + "/" + Line(c.Program), class: class(c.Kernel, c.Variant, c.Program), cell: c}
		if c.Iteration > 1 {
			s.name += fmt.Sprintf("/%d", c.Iteration)
		}
		s.cases = c.cases()
		all = append(all, s)
	}
	if r.Status != Finished || len(r.Cells) == 0 {
		all = append(all, suite{name: "run", class: "patchproof.run", cases: []testCase{{
			name: "finished", ending: broken, verdict: event.Error, reason: fmt.Sprintf("the run is %s, with %s", r.Status, patches.Plural(len(r.Cells), "cell")),
		}}})
	}
	return all
}

// class groups the cases of a kernel for readers that cut at the dots.
func class(parts ...string) string {
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(Line(p), ".", "_")
	}
	return strings.Join(parts, ".")
}

// cases are the cell's checks, and the cell itself where no check says why it came
// out as it did.
func (c Cell) cases() []testCase {
	var all []testCase
	told := false
	for _, check := range c.Checks {
		one := testCase{name: Line(check.Name), verdict: check.Verdict, detail: check.Detail}
		switch {
		case check.Verdict == event.Error:
			one.ending, one.reason = broken, Line(check.Detail)
		case !check.Expected && check.KnownIssue != "":
			one.ending, one.reason = failed, fmt.Sprintf("%s, but its known issue says otherwise: %s", check.Verdict, Line(check.KnownIssue))
		case !check.Expected:
			one.ending, one.reason = failed, fmt.Sprintf("%s: %s", check.Verdict, Line(check.Detail))
		case check.Verdict == event.Skip:
			one.ending, one.reason = skipped, Line(check.Detail)
		case check.Verdict != event.Pass:
			one.ending, one.reason = asDeclared, fmt.Sprintf("%s, %s", check.Verdict, check.declaration())
		}
		told = told || one.ending == failed || one.ending == broken
		all = append(all, one)
	}
	own := testCase{name: "cell", verdict: c.Verdict, reason: Line(cmp.Or(c.Reason, string(c.Verdict)))}
	switch {
	case c.Verdict == event.Error:
		own.ending = broken
	case !c.Expected && !told:
		own.ending = failed
	case len(all) > 0:
		return all
	}
	return append(all, own)
}

// detailLimit is how many bytes of a check's detail other tools are given.
const detailLimit = 16 << 10

// JUnit writes the run as JUnit XML, as Jenkins, GitLab and others read it: a cell
// is a suite, a check a case. A known issue that showed itself is skipped, with its
// reason; trouble of the harness is an error.
func JUnit(w io.Writer, r *Run) error {
	report := junit.Testsuites{Name: "patchproof " + Line(r.ID)}
	total := 0.0
	for n, s := range r.suites() {
		suite := junit.Testsuite{ID: n, Name: s.name, Time: seconds(s.cell.WallS)}
		total += s.cell.WallS
		if !r.Started.IsZero() {
			suite.SetTimestamp(r.Started)
		}
		for _, p := range []struct{ name, value string }{
			{"accel", r.Accel.Name}, {"qemu", r.QEMU}, {"mode", s.cell.Mode}, {"console", s.cell.Console}, {"command", s.cell.Command},
		} {
			if p.value != "" {
				suite.AddProperty(p.name, event.Printable(p.value))
			}
		}
		for _, c := range s.cases {
			suite.AddTestcase(c.junit(s.class))
		}
		report.AddSuite(suite)
	}
	report.Time = seconds(total)
	// The schema of Jenkins's xUnit plugin, which refuses what it does not name, has no such
	// sum; each suite says how many were skipped.
	report.Skipped = 0
	if _, err := io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"); err != nil {
		return err
	}
	return report.WriteXML(w)
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }

func (c testCase) junit(class string) junit.Testcase {
	out := junit.Testcase{Name: c.name, Classname: class, Time: seconds(0)}
	result := &junit.Result{Message: c.reason, Type: string(c.verdict), Data: text(c.detail)}
	switch c.ending {
	case skipped, asDeclared:
		out.Skipped = result
	case failed:
		out.Failure = result
	case broken:
		out.Error = result
	}
	return out
}

// text is lines that a guest wrote, fit for a terminal and for XML 1.0, which has no
// place for control characters.
func text(s string) string {
	clipped := event.PrintableLines(s[:min(len(s), detailLimit)])
	if len(s) > detailLimit {
		clipped += "\n(more is in run.json)"
	}
	return clipped
}

// KTAP writes the run in the kernel's Test Anything Protocol, as its
// tools/testing/kunit/kunit_parser.py reads it (Documentation/dev-tools/ktap.rst):
// a cell is a test with its checks as subtests, and a known issue that showed
// itself is ok with the directive XFAIL, as kselftest has it. The version line is
// the one that the parsers of old kernels know, and that those of new ones accept.
func KTAP(w io.Writer, r *Run) error {
	var out strings.Builder
	suites := r.suites()
	fmt.Fprintf(&out, "TAP version 14\n1..%d\n", len(suites))
	for n, s := range suites {
		fmt.Fprintf(&out, "    # Subtest: %s\n    1..%d\n", ktapName(s.name), len(s.cases))
		ok := true
		for i, c := range s.cases {
			for _, line := range c.ktapDetail() {
				fmt.Fprintf(&out, "    # detail: %s\n", line)
			}
			fmt.Fprintf(&out, "    %s %d - %s%s\n", okOrNot(c.ending < failed), i+1, ktapName(c.name), c.directive())
			ok = ok && c.ending < failed
		}
		fmt.Fprintf(&out, "%s %d - %s\n", okOrNot(ok), n+1, ktapName(s.name))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func okOrNot(ok bool) string {
	if ok {
		return "ok"
	}
	return "not ok"
}

// directive says what ok and not ok do not.
func (c testCase) directive() string {
	switch {
	case c.ending == skipped:
		return strings.TrimRight(" # SKIP "+ktapText(c.reason), " ")
	case c.ending == asDeclared:
		return " # XFAIL " + ktapText(c.reason)
	case c.ending == broken:
		return " # ERROR " + ktapText(c.reason)
	case c.ending == failed && c.verdict == event.Hang:
		return " # TIMEOUT"
	}
	return ""
}

// ktapLines is how many lines of a detail are given; all are in run.json.
const ktapLines = 20

// ktapDetail is why a case did not pass, in the form of a diagnostic line that
// every parser takes for one.
func (c testCase) ktapDetail() []string {
	if c.ending < asDeclared {
		return nil
	}
	lines := []string{ktapText(c.reason)}
	for line := range strings.Lines(c.detail) {
		if len(lines) == ktapLines {
			break
		}
		if line = ktapText(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// ktapPhrases are what kunit_parser.py takes for the beginning or the end of a
// log, or for a crash, wherever it stands in a line.
var ktapPhrases = strings.NewReplacer(
	"TAP version", "TAP_version",
	"List of all partitions:", "List of all partitions",
	"Kernel panic - not syncing: VFS:", "Kernel panic - not syncing: VFS",
	"reboot: System halted", "reboot: system halted",
	"kunit test case crashed!", "kunit test case crashed",
)

func ktapText(s string) string { return ktapPhrases.Replace(Line(s)) }

// ktapName is a description, which ends where a # begins.
func ktapName(s string) string { return strings.ReplaceAll(ktapText(s), "#", "_") }
