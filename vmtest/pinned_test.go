package vmtest

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

func TestTurns(t *testing.T) {
	tests := []struct {
		kernels, count int
		timed          bool
		want           string
	}{
		{2, 4, true, "A1 B1 B2 A2 A3 B3 B4 A4"},
		{2, 3, true, "A1 B1 B2 A2 A3 B3"},
		{3, 2, true, "A1 B1 C1 C2 B2 A2"},
		{1, 2, true, "A1 A2"},
		{2, 2, false, "A1 A2 B1 B2"},
	}
	for _, tc := range tests {
		var got []string
		for _, turn := range turns(tc.kernels, tc.count, tc.timed) {
			got = append(got, string(rune('A'+turn.kernel))+string(rune('0'+turn.iteration)))
		}
		if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("turns(%d, %d, %v) (-want +got):\n%s", tc.kernels, tc.count, tc.timed, diff)
		}
	}
}

func TestCPUTimes(t *testing.T) {
	const stat = "cpu  1000 20 300 9000 50 6 7 80 90 0\ncpu0 100 2 30 900 5 0 1 8 9 0\ncpu10 1 0 0 0 0 0 0 0 0 0\n"
	for name, want := range map[string]cpuTime{"cpu": {14.13, 0.8}, "cpu0": {1.41, 0.08}, "cpu10": {0.01, 0}} {
		if got, err := cpuTimes(stat, name); err != nil || got != want {
			t.Errorf("cpuTimes(%s) = %+v, %v; want %+v", name, got, err, want)
		}
	}
	if got, err := cpuTimes(stat, "cpu1"); err == nil {
		t.Errorf("cpuTimes(cpu1) = %+v; want an error", got)
	}
}

// A timed guest is bound to the host's processors, whose trouble is recorded,
// whatever runs it: only the times would mean nothing under TCG.
func TestTimedGuestIsPinned(t *testing.T) {
	s := base(t)
	s.Program.Timed = true
	s.Program.Command, s.Program.CPUs, s.Program.Mode = "nop", 1, Normal
	s.Program.Append, s.Program.Devices = nil, nil
	s.Console = filepath.Join(t.TempDir(), "console.log")
	cell := RunCell(interrupted, s)
	if cell.Verdict != event.Pass {
		t.Fatalf("cell = %s, %s", cell.Verdict, cell.Reason)
	}
	seen := map[string]int{}
	for _, m := range cell.Metrics {
		if m.Labels[LabelFrom] != "host" {
			continue
		}
		seen[m.Name]++
		switch m.Name {
		case MetricPinned:
			if m.Value < 0 || m.Value >= 1024 {
				t.Errorf("bound to processor %g", m.Value)
			}
		case MetricBusy:
			if m.Value <= 0 || m.Value > 1.1*float64(runtime.NumCPU())+1 {
				t.Errorf("%g of %d processors were busy", m.Value, runtime.NumCPU())
			}
		case MetricSteal:
			if m.Value < 0 {
				t.Errorf("steal of %g %%", m.Value)
			}
		case MetricFrequency:
			if m.Value < 100 || m.Value > 10_000 {
				t.Errorf("frequency of %g MHz", m.Value)
			}
		}
	}
	if seen[MetricPinned] != 1 || seen[MetricBusy] != 1 || seen[MetricSteal] != 1 {
		t.Errorf("figures of the host: %v; want pinned, busy and steal once each", seen)
	}

	s.Program.CPUs = runtime.NumCPU() + 1
	cell = RunCell(interrupted, s)
	if cell.Verdict != event.Error || !strings.Contains(cell.Reason, "its times would mean nothing") {
		t.Errorf("cell with too many processors = %s, %q; want an error that says so", cell.Verdict, cell.Reason)
	}
}
