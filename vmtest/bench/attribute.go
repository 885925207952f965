package bench

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"

	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/counter"
)

// Attribution says where the instructions of a workload are spent, on average over
// its windows, interrupts included.
type Attribution struct {
	Bench string `json:"bench"`
	// Kernels name the columns of Parts and Functions.
	Kernels []string `json:"kernels"`
	// Parts are user, entry, those of the subject, slab and other, in this order.
	Parts []Share `json:"parts"`
	// Functions come with the greatest difference between the first and the last
	// kernel first.
	Functions []Share `json:"functions"`
}

// Share is the instructions per operation of a part or a function on each kernel.
type Share struct {
	Name  string    `json:"name"`
	Insns []float64 `json:"insns_per_op"`
}

// delta is what the last kernel has more than the first.
func (s Share) delta() float64 { return s.Insns[len(s.Insns)-1] - s.Insns[0] }

// attribute reads the counts of each workload of a run, of the first boot of each
// kernel.
func attribute(b subjects.Bench, run *results.Run) ([]Attribution, error) {
	var all []Attribution
	names := kernelNames(run)
	for k, kernel := range run.Kernels {
		syms, err := readSymbols(kernel.Vmlinux)
		if err != nil {
			return nil, fmt.Errorf("the symbols of kernel %s: %w", kernel.Name, err)
		}
		for _, c := range byProgram(b, run) {
			if c.Kernel != kernel.Name || c.Iteration != 1 {
				continue
			}
			if len(workloads(c)) == 0 {
				continue
			}
			counts, err := counter.Read(filepath.Join(run.Dir, c.Counts()))
			if err != nil {
				return nil, err
			}
			for i, w := range workloads(c) {
				if i >= len(counts) {
					return nil, fmt.Errorf("nothing was counted for %s on %s", w.bench, kernel.Name)
				}
				a := slices.IndexFunc(all, func(a Attribution) bool { return a.Bench == w.bench })
				if a < 0 {
					all = append(all, Attribution{Bench: w.bench, Kernels: names})
					a = len(all) - 1
				}
				all[a].add(b.Parts, syms, counts[i], w.ops, k)
			}
		}
	}
	for _, a := range all {
		slices.SortStableFunc(a.Functions, func(x, y Share) int {
			return cmp.Or(cmp.Compare(math.Abs(y.delta()), math.Abs(x.delta())), cmp.Compare(x.Name, y.Name))
		})
	}
	return all, nil
}

// add adds the counts of kernel number k.
func (a *Attribution) add(own []subjects.Part, syms symbols, counts counter.Counts, ops float64, k int) {
	ops *= float64(counts.NumWindows())
	parts := partNames(own)
	if a.Parts == nil {
		for _, part := range parts {
			a.Parts = append(a.Parts, Share{Name: part, Insns: make([]float64, len(a.Kernels))})
		}
	}
	functions := map[string]int{}
	for i, f := range a.Functions {
		functions[f.Name] = i
	}
	// In the same order each time, so that sums are the same to the last digit.
	for _, addr := range slices.Sorted(maps.Keys(counts.At)) {
		n := counts.At[addr]
		f := syms.at(addr)
		a.Parts[slices.Index(parts, f.part(own))].Insns[k] += float64(n) / ops
		i, ok := functions[f.name]
		if !ok {
			i = len(a.Functions)
			functions[f.name] = i
			a.Functions = append(a.Functions, Share{Name: f.name, Insns: make([]float64, len(a.Kernels))})
		}
		a.Functions[i].Insns[k] += float64(n) / ops
	}
}

func kernelNames(run *results.Run) []string {
	var names []string
	for _, k := range run.Kernels {
		names = append(names, k.Name)
	}
	return names
}
