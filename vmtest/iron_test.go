package vmtest

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
)

// harmful are the calls that a machine in use would mind.
var harmful = regexp.MustCompile(`machine\.(SetOnline|DropSlab|SetSysctl)\(`)

// TestOnIron holds what is declared against the programs' sources.
func TestOnIron(t *testing.T) {
	disk := regexp.MustCompile(`machine\.(OpenDisk|AddPartition)\(`)
	subject, err := kernel.NamedSubject("")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range IronPrograms(subject) {
		sources, err := filepath.Glob("../guest/cmd/" + p.Command + "/*.go")
		if err != nil || len(sources) == 0 {
			t.Fatalf("no sources of %s (%v)", p.Command, err)
		}
		for _, file := range sources {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if harmful.Match(text) && p.Harm == "" {
				t.Errorf("%s is declared as harmless, and %s calls %s", p.Name, file, harmful.Find(text))
			}
			// A race of several that one command makes is looked up by hand.
			if disk.Match(text) && !p.Disk && p.Command != "race" {
				t.Errorf("%s is declared as one without a disk, and %s calls %s", p.Name, file, disk.Find(text))
			}
		}
	}
}

func TestJudgeIron(t *testing.T) {
	known := []subjects.KnownIssue{
		{Program: "race-timer", Check: "timer", Verdict: "fail", Reason: "a race"},
		{Program: "race-hotplug-shrink", Check: "console", Match: "io_uring_notify_dead", Verdict: "crash", Reason: "another"},
	}
	warning := []string{"WARNING: CPU: 0 PID: 1 at fs/io_uring.c:1 io_ring_exit_work+0x1/0x2", "Call Trace:", "---[ end trace 0000000000000000 ]---"}
	oops := []string{"general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP NOPTI", "RIP: 0010:io_uring_notify_dead+0x8b/0xe0", "Call Trace:", "---[ end trace 0000000000000000 ]---"}
	check := func(name string, v event.Verdict) results.Check {
		return results.Check{Check: event.Check{Name: name, Verdict: v}}
	}
	type answer struct {
		Verdict  event.Verdict
		Expected bool
	}
	for _, tt := range []struct {
		name string
		cell results.Cell
		log  []string
		want answer
	}{
		{"pass", results.Cell{Program: "nop", Verdict: event.Pass, Checks: []results.Check{check("batch", event.Pass)}}, nil, answer{event.Pass, true}},
		{"fail", results.Cell{Program: "nop", Verdict: event.Fail, Checks: []results.Check{check("batch", event.Fail)}}, nil, answer{event.Fail, false}},
		{"a known issue", results.Cell{Program: "race-timer", Verdict: event.Fail, Checks: []results.Check{check("timer", event.Fail)}}, nil, answer{event.Fail, true}},
		{"a known issue that a machine does not show", results.Cell{Program: "race-timer", Verdict: event.Pass, Checks: []results.Check{check("timer", event.Pass)}}, nil, answer{event.Pass, true}},
		{"a complaint of the kernel", results.Cell{Program: "nop", Verdict: event.Pass, Checks: []results.Check{check("batch", event.Pass)}}, warning, answer{event.Crash, false}},
		{"an oops that is known, and the hang after it", results.Cell{Program: "race-hotplug-shrink", Verdict: event.Hang, Checks: []results.Check{check("hotplug-shrink", event.Hang)}}, oops, answer{event.Crash, true}},
		{"an oops that is not", results.Cell{Program: "nop", Verdict: event.Hang, Checks: []results.Check{check("batch", event.Hang)}}, oops, answer{event.Crash, false}},
		{"talk of the kernel", results.Cell{Program: "nop", Verdict: event.Pass, Checks: []results.Check{check("batch", event.Pass)}}, []string{"smpboot: CPU 1 is now offline"}, answer{event.Pass, true}},
		{"a record that ends", results.Cell{Program: "nop", Verdict: event.Error}, nil, answer{event.Error, false}},
	} {
		c := tt.cell
		c.Kernel, c.Variant = "posted", "iron"
		if err := JudgeIron(&c, tt.log, known); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, answer{c.Verdict, c.Expected}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
