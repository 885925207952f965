package vmtest

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/results"
	"patchproof/vmtest/qemu"
)

// A guest that does not survive a test loses that one, and no other.
func TestRestOfAGroup(t *testing.T) {
	suite := []string{"a", "b", "c", "d"}
	checks := func(names ...string) (all []results.Check) {
		for _, name := range names {
			all = append(all, results.Check{Check: event.Check{Name: name, Verdict: event.Pass}})
		}
		return all
	}
	end, start := &event.Event{}, &event.Event{}
	for _, test := range []struct {
		name    string
		from    int
		checks  []results.Check
		out     qemu.Outcome
		next    int
		blamed  string
		verdict event.Verdict
	}{
		{"all ran", 0, checks("a", "b", "c", "d"), qemu.Outcome{Report: &event.Collector{Started: start, Ended: end}}, 4, "", ""},
		{"a panic in b", 0, checks("a", "a/sub", "console"), qemu.Outcome{Died: true, Report: &event.Collector{Started: start}}, 2, "b", event.Crash},
		{"silence in c", 2, checks("a", "b"), qemu.Outcome{Ending: qemu.Stuck, Report: &event.Collector{Started: start}}, 3, "c", event.Hang},
		{"a panic in the last", 3, checks("a", "b", "c"), qemu.Outcome{Died: true, Report: &event.Collector{Started: start}}, 4, "d", event.Crash},
		{"one that cannot be killed", 0, checks("a", "b"), qemu.Outcome{Report: &event.Collector{Started: start, Ended: end}}, 2, "", ""},
		{"a runner that ran none", 2, checks("a", "b", "exec"), qemu.Outcome{Report: &event.Collector{Started: start, Ended: end}}, 4, "", ""},
		{"it powers the machine off", 0, checks("a", "exit"), qemu.Outcome{SwitchedOff: "powered off", Report: &event.Collector{Started: start}}, 2, "b", event.Fail},
		{"a broken report", 0, checks("a"), qemu.Outcome{ReportErr: io.ErrUnexpectedEOF, Report: &event.Collector{Started: start}}, 4, "", ""},
		{"no program", 0, nil, qemu.Outcome{Ending: qemu.BootStuck, Report: &event.Collector{}}, 4, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			cell := results.Cell{Checks: test.checks}
			got := CellSpec{Program: Program{Suite: suite}, from: test.from}.rest(&cell, &test.out)
			if got != test.next {
				t.Errorf("the next test is %d; want %d", got, test.next)
			}
			added := cell.Checks[len(test.checks):]
			if test.blamed == "" && len(added) > 0 || test.blamed != "" && (len(added) != 1 || added[0].Name != test.blamed || added[0].Verdict != test.verdict) {
				t.Errorf("added checks: %+v; want one of %q, %s", added, test.blamed, test.verdict)
			}
		})
	}
	cell := results.Cell{Verdict: event.Crash, Expected: false, Checks: checks("a", "console")}
	join(&cell, results.Cell{Verdict: event.Pass, Expected: true, Checks: checks("c", "console"), Console: "x-boot2.log"})
	var names []string
	for _, c := range cell.Checks {
		names = append(names, c.Name)
	}
	if diff := cmp.Diff([]string{"a", "console", "c", "console 2"}, names); diff != "" || cell.Verdict != event.Crash || cell.Expected {
		t.Errorf("joined: %s, expected %v; checks (-want +got):\n%s", cell.Verdict, cell.Expected, diff)
	}
}

func TestTestsOf(t *testing.T) {
	suite := []string{"a.t", "ab.t", "c.t"}
	for _, test := range []struct{ checks, want []string }{
		{nil, nil},
		{[]string{"c.t", "a.t/sub"}, []string{"a.t", "c.t"}},
		{[]string{"a.t", "exec"}, nil},
		{[]string{"abc.t"}, nil},
	} {
		if diff := cmp.Diff(test.want, testsOf(suite, test.checks)); diff != "" {
			t.Errorf("testsOf(%q) (-want +got):\n%s", test.checks, diff)
		}
	}
}
