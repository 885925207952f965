package bench

import (
	"cmp"
	"slices"
	"strconv"

	"patchproof/guest/event"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/counter"
)

// Row is one workload on all kernels of a run.
type Row struct {
	Bench   string `json:"bench"`
	Program string `json:"program"`
	// Unit is insns/op, objects or B.
	Unit string `json:"unit"`
	// Kernels are in the order of the run.
	Kernels []Figure `json:"kernels"`
}

// Figure is one workload on one kernel.
type Figure struct {
	Kernel string `json:"kernel"`
	// Boots holds the figure of each boot, sorted.
	Boots []float64 `json:"boots"`
	// Ops is the number of operations counted in each boot, 1 where none are.
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
	if len(f.Boots) == 0 || f.Boots[0] == f.Boots[len(f.Boots)-1] {
		return 0
	}
	return f.Boots[len(f.Boots)-1]/f.Boots[0] - 1
}

// Rows gathers the figures of a run, in the order in which they were measured.
func Rows(b subjects.Bench, run *results.Run) []Row {
	var rows []Row
	for _, c := range byProgram(b, run) {
		ops := map[string]int{}
		shown := map[string]string{}
		for _, m := range c.Metrics {
			bench := m.Labels[counter.LabelBench]
			switch m.Name {
			case counter.MetricOps:
				windows, _ := strconv.Atoi(m.Labels["windows"])
				ops[bench] = int(m.Value) * windows
				shown[bench] = counter.MetricInsns
				if m.Labels[counter.LabelFigure] == counter.FigureMedian {
					shown[bench] = counter.MetricInsnsMedian
				}
			case counter.MetricSlabObjects, counter.MetricSlabBytes:
				figure(&rows, bench, m.Unit, c).add(m.Value, 1)
			case metricTime:
				figure(&rows, bench, m.Unit, c).add(m.Value, ops[bench])
			case shown[bench]:
				figure(&rows, bench, m.Unit, c).add(m.Value, ops[bench])
			}
		}
	}
	return rows
}

func (f *Figure) add(value float64, ops int) {
	f.Boots = append(f.Boots, value)
	slices.Sort(f.Boots)
	f.Ops = ops
}

// byProgram returns the cells that measured something, by the order of the groups
// and of the kernels.
func byProgram(bench subjects.Bench, run *results.Run) []results.Cell {
	kernel := func(c results.Cell) int {
		return slices.IndexFunc(run.Kernels, func(k results.Kernel) bool { return k.Name == c.Kernel })
	}
	cells := slices.DeleteFunc(slices.Clone(run.Cells), func(c results.Cell) bool { return c.Verdict != event.Pass })
	slices.SortStableFunc(cells, func(a, b results.Cell) int {
		return cmp.Or(cmp.Compare(order(bench, a.Program), order(bench, b.Program)), cmp.Compare(kernel(a), kernel(b)), cmp.Compare(a.Iteration, b.Iteration))
	})
	return cells
}

// figure finds the place of a workload on a cell's kernel, and makes it.
func figure(rows *[]Row, bench, unit string, c results.Cell) *Figure {
	i := slices.IndexFunc(*rows, func(r Row) bool { return r.Bench == bench && r.Unit == unit && r.Program == c.Program })
	if i < 0 {
		*rows = append(*rows, Row{Bench: bench, Program: c.Program, Unit: unit})
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
		if m.Name == counter.MetricOps {
			list = append(list, workload{bench: m.Labels[counter.LabelBench], ops: m.Value})
		}
	}
	return list
}
