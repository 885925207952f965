package results

import (
	"testing"

	"patchproof/guest/event"
)

func TestExitCode(t *testing.T) {
	cell := func(v event.Verdict, expected bool) Cell { return Cell{Verdict: v, Expected: expected} }
	for _, tt := range []struct {
		name   string
		status Status
		cells  []Cell
		want   int
	}{
		{"all as expected", Finished, []Cell{cell(event.Pass, true), cell(event.Skip, true)}, 0},
		{"a known issue failed", Finished, []Cell{cell(event.Pass, true), cell(event.Hang, true)}, 0},
		{"a known issue passed", Finished, []Cell{cell(event.Pass, false)}, 1},
		{"a crash", Finished, []Cell{cell(event.Pass, true), cell(event.Crash, false)}, 1},
		{"a skip of a declared feature", Finished, []Cell{cell(event.Skip, false)}, 1},
		{"harness trouble", Finished, []Cell{cell(event.Pass, true), cell(event.Error, false)}, 2},
		{"harness trouble can't be expected", Finished, []Cell{cell(event.Error, true)}, 2},
		{"harness trouble hides no failure", Finished, []Cell{cell(event.Error, false), cell(event.Fail, false)}, 1},
		{"nothing ran", Finished, nil, 2},
		{"interrupted", Interrupted, []Cell{cell(event.Pass, true)}, 2},
		{"killed", Running, []Cell{cell(event.Pass, true)}, 2},
		{"interrupted after a failure", Interrupted, []Cell{cell(event.Fail, false)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Run{Status: tt.status, Cells: tt.cells}
			if got := r.ExitCode(); got != tt.want {
				t.Errorf("ExitCode() = %d; want %d", got, tt.want)
			}
		})
	}
}
