package vmtest

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"patchproof/guest/event"
	"patchproof/vmtest/qemu"
)

// A timed guest is bound to the host's processors, whose trouble is recorded,
// whatever runs it: only the times would mean nothing under TCG.
func TestTimedGuestIsPinned(t *testing.T) {
	s := base(t)
	s.Program.Timed = true
	s.Program.Command, s.Program.CPUs, s.Program.Mode = "nop", 1, qemu.Normal
	s.Program.Append, s.Program.Devices = nil, nil
	s.Console = filepath.Join(t.TempDir(), "console.log")
	cell := RunCell(interrupted, s)
	if cell.Verdict != event.Pass {
		t.Fatalf("cell = %s, %s", cell.Verdict, cell.Reason)
	}
	seen := map[string]int{}
	for _, m := range cell.Metrics {
		if m.Labels[qemu.LabelFrom] != "host" {
			continue
		}
		seen[m.Name]++
		switch m.Name {
		case qemu.MetricPinned:
			if m.Value < 0 || m.Value >= 1024 {
				t.Errorf("bound to processor %g", m.Value)
			}
		case qemu.MetricBusy:
			if m.Value <= 0 || m.Value > 1.1*float64(runtime.NumCPU())+1 {
				t.Errorf("%g of %d processors were busy", m.Value, runtime.NumCPU())
			}
		case qemu.MetricSteal:
			if m.Value < 0 {
				t.Errorf("steal of %g %%", m.Value)
			}
		case qemu.MetricFrequency:
			if m.Value < 100 || m.Value > 10_000 {
				t.Errorf("frequency of %g MHz", m.Value)
			}
		}
	}
	if seen[qemu.MetricPinned] != 1 || seen[qemu.MetricBusy] != 1 || seen[qemu.MetricSteal] != 1 {
		t.Errorf("figures of the host: %v; want pinned, busy and steal once each", seen)
	}

	s.Program.CPUs = runtime.NumCPU() + 1
	cell = RunCell(interrupted, s)
	if cell.Verdict != event.Error || !strings.Contains(cell.Reason, "its times would mean nothing") {
		t.Errorf("cell with too many processors = %s, %q; want an error that says so", cell.Verdict, cell.Reason)
	}
}
