package vmtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/vmtest/qemu"
)

func TestLimits(t *testing.T) {
	got, err := limits(map[string]string{"TEST": "x", "TIMEOUT": "90", "CPUS": "4", "MEMORY": "2G", "DISK": "1G 64M,nvme", "APPEND": "a=1 b"})
	if err != nil {
		t.Fatal(err)
	}
	want := Limits{Timeout: 90 * time.Second, CPUs: 4, MemoryMiB: 2048, Append: []string{"a=1", "b"},
		Devices: []qemu.Device{{Kind: qemu.VirtioBlk, SizeMiB: 1024}, {Kind: qemu.NVMe, SizeMiB: 64}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	for _, test := range []struct{ name, value, want string }{
		{"TIMEOUT", "soon", "TIMEOUT=soon: want seconds, or a time such as 90s or 5m"},
		{"TIMEOUT", "-3", "TIMEOUT=-3"},
		{"TIMEOUT", "99999999999", "TIMEOUT=99999999999"},
		{"CPUS", "0", "CPUS=0: want a number from 1 to 64"},
		{"MEMORY", "7", "MEMORY=7: want a size such as 512M or 2G"},
		{"MEMORY", "much", "MEMORY=much"},
		{"DISK", "1G,floppy", `"floppy" is no kind of disk`},
		{"DISK", "large", "DISK=large: want a size"},
		{"ROOT", "/", "ROOT=/: want host"},
		{"NET", "eth0", "NET=eth0: want user"},
	} {
		if _, err := limits(map[string]string{"TEST": "x", test.name: test.value}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("limits of %s=%s: %v; want %q", test.name, test.value, err, test.want)
		}
		if _, err := limits(map[string]string{test.name: test.value}); err == nil || !strings.Contains(err.Error(), "it needs TEST=") {
			t.Errorf("limits of %s without TEST: %v; want it refused", test.name, err)
		}
	}
}

func TestKeepFiles(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "base-plain-x.log")
	paths, err := keepFiles(log, map[string][]byte{"b/deep": []byte("2"), "a": []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"base-plain-x.files/a", "base-plain-x.files/b/deep"}, paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	if text, err := os.ReadFile(filepath.Join(dir, paths[1])); err != nil || string(text) != "2" {
		t.Errorf("%s holds %q, %v; want 2", paths[1], text, err)
	}
	for _, name := range []string{"../outside", "a/b"} {
		if _, err := keepFiles(log, map[string][]byte{"a": nil, name: nil}); err == nil {
			t.Errorf("a file called %q was kept; want an error", name)
		}
	}
}

// Who ended a machine while a test ran goes by what the kernel said and by the report, not by
// what the test prints.
func TestWhoEndedTheMachine(t *testing.T) {
	lost := errors.New("no end")
	report := func(tested bool) *event.Collector {
		c := event.NewCollector(testCommand)
		c.Started, c.Tested = &event.Event{}, tested
		return c
	}
	for name, test := range map[string]struct {
		out  qemu.Outcome
		want event.Verdict
	}{
		"the test switched it off":                        {qemu.Outcome{Report: report(false), SwitchedOff: "powered off"}, event.Fail},
		"the harness did":                                 {qemu.Outcome{Report: report(true), SwitchedOff: "powered off"}, event.Error},
		"the runner was killed":                           {qemu.Outcome{Report: report(false), SwitchedOff: "powered off", RunnerGone: true}, event.Fail},
		"it hangs, whatever the test says of the runner":  {qemu.Outcome{Report: report(false), Ending: qemu.Stuck, RunnerGone: true}, event.Hang},
		"it resets, whatever the test says of the runner": {qemu.Outcome{Report: report(false), Reset: true, RunnerGone: true}, event.Crash},
	} {
		test.out.ReportErr, test.out.Printed = lost, true
		spec := CellSpec{Program: Program{Name: "t", Command: testCommand, CPUs: 1, MemoryMiB: 64}, Scale: 1}
		if got := judge(&test.out, nil, spec).verdict; got != test.want {
			t.Errorf("%s: verdict %s; want %s", name, got, test.want)
		}
	}
}
