package bench

import (
	"cmp"
	"slices"
	"strconv"

	"patchproof/guest/event"
	"patchproof/results"
	"patchproof/vmtest"
)

// Row is one workload on all kernels of a run.
type Row struct {
	Bench   string `json:"bench"`
	Program string `json:"program"`
	// Kernels are in the order of the run.
	Kernels []Figure `json:"kernels"`
}

// Figure is one workload on one kernel.
type Figure struct {
	Kernel string `json:"kernel"`
	// Boots holds the instructions per operation of each boot, sorted.
	Boots []float64 `json:"insns_per_op"`
	// Ops is the number of operations counted in each boot.
	Ops int `json:"ops"`
}

// Value is the figure to show: the least of all boots.
func (f Figure) Value() float64 {
	if len(f.Boots) == 0 {
		return 0
	}
	return f.Boots[0]
}

// Spread is how far the boots are apart, as a part of Value.
func (f Figure) Spread() float64 {
	if len(f.Boots) == 0 {
		return 0
	}
	return f.Boots[len(f.Boots)-1]/f.Boots[0] - 1
}

// Rows gathers the figures of a run, in the order in which they were measured.
func Rows(run *results.Run) []Row {
	var rows []Row
	for _, c := range byProgram(run) {
		ops := map[string]int{}
		for _, m := range c.Metrics {
			bench := m.Labels[vmtest.LabelBench]
			switch m.Name {
			case vmtest.MetricOps:
				windows, _ := strconv.Atoi(m.Labels["windows"])
				ops[bench] = int(m.Value) * windows
			case vmtest.MetricInsns:
				f := figure(&rows, bench, c)
				f.Boots = append(f.Boots, m.Value)
				slices.Sort(f.Boots)
				f.Ops = ops[bench]
			}
		}
	}
	return rows
}

// byProgram returns the cells that measured something, by the order of the groups
// and of the kernels.
func byProgram(run *results.Run) []results.Cell {
	order := func(c results.Cell) (int, int) {
		return slices.IndexFunc(groups, func(g string) bool { return c.Program == program(g) }),
			slices.IndexFunc(run.Kernels, func(k results.Kernel) bool { return k.Name == c.Kernel })
	}
	cells := slices.DeleteFunc(slices.Clone(run.Cells), func(c results.Cell) bool { return c.Verdict != event.Pass })
	slices.SortStableFunc(cells, func(a, b results.Cell) int {
		ag, ak := order(a)
		bg, bk := order(b)
		return cmp.Or(cmp.Compare(ag, bg), cmp.Compare(ak, bk), cmp.Compare(a.Iteration, b.Iteration))
	})
	return cells
}

// figure finds the place of a workload on a cell's kernel, and makes it.
func figure(rows *[]Row, bench string, c results.Cell) *Figure {
	i := slices.IndexFunc(*rows, func(r Row) bool { return r.Bench == bench && r.Program == c.Program })
	if i < 0 {
		*rows = append(*rows, Row{Bench: bench, Program: c.Program})
		i = len(*rows) - 1
	}
	row := &(*rows)[i]
	k := slices.IndexFunc(row.Kernels, func(f Figure) bool { return f.Kernel == c.Kernel })
	if k < 0 {
		row.Kernels = append(row.Kernels, Figure{Kernel: c.Kernel})
		k = len(row.Kernels) - 1
	}
	return &row.Kernels[k]
}

// workload is what a cell reports of one of its workloads.
type workload struct {
	bench string
	// ops is per window.
	ops float64
}

// workloads are the cell's, in the order in which it ran them.
func workloads(c results.Cell) []workload {
	var list []workload
	for _, m := range c.Metrics {
		if m.Name == vmtest.MetricOps {
			list = append(list, workload{bench: m.Labels[vmtest.LabelBench], ops: m.Value})
		}
	}
	return list
}
