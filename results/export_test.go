package results

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jstemmer/go-junit-report/v2/junit"

	"patchproof/guest/event"
)

// exported are runs with everything that other tools have to be told.
func exported() map[string]*Run {
	interrupted := asIs()
	interrupted.Status = Interrupted
	broken := asIs()
	broken.Kernels[1].BuildError = "fs/io_uring.c:1: no"
	hostile := asIs()
	bad := unexpected(check("\x1b[2J# SKIP]]></failure>\x00\nTAP version 14", event.Fail,
		"\x1b]0;owned\x07\x00\xff\u202e]]></testcase>\n# Subtest: mine\n1..9\nok 1 - all\nList of all partitions:\nKernel panic - not syncing: VFS: x\nTAP version 14\nkunit test case crashed!\n"+strings.Repeat("A", 1<<20)))
	hostile.Cells = append(hostile.Cells, cellOf("posted", "<b>&\x01", bad))
	everything := everything()
	for _, r := range []*Run{interrupted, broken, hostile, everything} {
		r.Started = time.Date(2026, 3, 1, 22, 59, 59, 0, time.UTC)
	}
	return map[string]*Run{"as-expected": asIs(), "known-issues": knownIssues(), "everything": everything, "interrupted": interrupted,
		"nothing": {Status: Finished}, "broken": broken, "hostile": hostile, "killed": {Status: Running}}
}

func TestJUnit(t *testing.T) {
	for name, r := range exported() {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := JUnit(&out, r); err != nil {
				t.Fatal(err)
			}
			var got junit.Testsuites
			if err := xml.Unmarshal([]byte(out.String()), &got); err != nil {
				t.Fatalf("JUnit() wrote no XML: %v", err)
			}
			if red := got.Failures+got.Errors > 0; red != (r.ExitCode() != 0) {
				t.Errorf("%d failures and %d errors; ExitCode() = %d", got.Failures, got.Errors, r.ExitCode())
			}
			validJUnit(t, out.String())
			if name == "known-issues" {
				golden(t, "junit", out.String())
			}
		})
	}
}

// validJUnit holds a report against the schema.
func validJUnit(t *testing.T, doc string) {
	t.Helper()
	if _, err := exec.LookPath("xmllint"); err != nil {
		t.Skip("no xmllint; make deps installs it")
	}
	file := filepath.Join(t.TempDir(), "junit.xml")
	if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("xmllint", "--noout", "--schema", "testdata/junit.xsd", file).CombinedOutput(); err != nil {
		t.Errorf("not by the schema: %v\n%.2000s", err, out)
	}
}

func TestKTAP(t *testing.T) {
	for name, r := range exported() {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := KTAP(&out, r); err != nil {
				t.Fatal(err)
			}
			checkKTAP(t, r, out.String())
			if r.ExitCode() == 0 && strings.Contains("\n"+out.String(), "\nnot ok") {
				t.Error("something is \"not ok\"; ExitCode() = 0")
			}
			if name == "known-issues" || name == "hostile" {
				golden(t, "ktap-"+name, out.String())
			}
		})
	}
}

// ktapLine is every line that a report may have.
var ktapLine = regexp.MustCompile(`^(TAP version 14|1\.\.\d+|    1\.\.\d+|    # Subtest: \S.*|    # detail: .*|(    )?(not )?ok \d+ - [^#]*( # (SKIP|XFAIL|ERROR|TIMEOUT).*)?)$`)

func checkKTAP(t *testing.T, r *Run, out string) {
	t.Helper()
	red := false
	for n, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
		if !ktapLine.MatchString(line) {
			t.Errorf("line %d is none of KTAP's: %q", n+1, line)
		}
		if n > 0 && regexp.MustCompile(`TAP version|List of all partitions:|syncing: VFS:|reboot: System halted|kunit test case crashed!`).MatchString(line) {
			t.Errorf("line %d has a phrase that a parser acts on: %q", n+1, line)
		}
		red = red || strings.HasPrefix(line, "not ok")
	}
	if r.ExitCode() != 0 && !red {
		t.Errorf("nothing is \"not ok\"; ExitCode() = %d", r.ExitCode())
	}
}

func TestCases(t *testing.T) {
	for _, tt := range []struct {
		name string
		cell Cell
		want []testCase
	}{
		{"a known issue that passed", cellOf("posted", "nop", unexpected(knownIssue(check("order", event.Pass, ""), "late"))),
			[]testCase{{"order", failed, event.Pass, "pass, but its known issue says otherwise: late", ""}}},
		{"a known issue that did not show", Cell{Verdict: event.Pass, Reason: "known issue passed: console did not show", Checks: []Check{check("order", event.Pass, "")}},
			[]testCase{{"order", passed, event.Pass, "", ""}, {"cell", failed, event.Pass, "known issue passed: console did not show", ""}}},
		{"a skip", cellOf("base", "nop", check("rows", event.Skip, "no cache")), []testCase{{"rows", skipped, event.Skip, "no cache", "no cache"}}},
		{"a skip of a declared feature", cellOf("posted", "nop", unexpected(check("rows", event.Skip, "no cache"))),
			[]testCase{{"rows", failed, event.Skip, "skip: no cache", "no cache"}}},
		{"trouble", Cell{Verdict: event.Error, Reason: "events 4 to 6 were lost", Checks: []Check{check("order", event.Pass, "")}},
			[]testCase{{"order", passed, event.Pass, "", ""}, {"cell", broken, event.Error, "events 4 to 6 were lost", ""}}},
		{"nothing to say", Cell{Verdict: event.Hang}, []testCase{{"cell", failed, event.Hang, "hang", ""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.cell.cases(), cmp.AllowUnexported(testCase{})); diff != "" {
				t.Errorf("cases() (-want +got):\n%s", diff)
			}
		})
	}
}
