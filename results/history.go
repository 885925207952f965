package results

import (
	"iter"
	"os"
	"path/filepath"
	"slices"

	"patchproof/guest/event"
)

// Newest goes through the runs stored below root (results/out), the newest first.
// Folders without a run.json that can be read are passed over: a campaign's own
// records, and what people leave there.
func Newest(root string) iter.Seq[*Run] {
	return func(yield func(*Run) bool) {
		entries, err := os.ReadDir(root)
		if err != nil {
			return
		}
		// A run's name begins with its time.
		for _, e := range slices.Backward(entries) {
			if !e.IsDir() || !runID.MatchString(e.Name()) {
				continue
			}
			if run, err := Read(filepath.Join(root, e.Name())); err == nil && !yield(run) {
				return
			}
		}
	}
}

// recent is in how many runs Took looks for a cell.
const recent = 20

// Took returns how long a program took on a kernel when it last ran to its end, in
// seconds of the host, and 0 where no recent run below root has it.
func Took(root string) func(kernel, variant, program string) float64 {
	type cell struct{ kernel, variant, program string }
	took := map[cell]float64{}
	n := 0
	for run := range Newest(root) {
		for _, c := range run.Cells {
			key := cell{c.Kernel, c.Variant, c.Program}
			if took[key] == 0 && c.Verdict != event.Error {
				took[key] = c.WallS
			}
		}
		if n++; n == recent {
			break
		}
	}
	return func(kernel, variant, program string) float64 { return took[cell{kernel, variant, program}] }
}
