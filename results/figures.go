package results

import (
	"fmt"
	"math"
	"slices"

	"patchproof/guest/event"
)

// unitInsns is the unit of what is counted and not timed, so that it comes out the
// same on any machine.
const unitInsns = "insns/op"

// benchMetric and benchLabel are what a counted workload reports, of its windows the
// least, with medianOf behind it the median. figureLabel on its operations says that
// the median is the one to show: package counter's MetricInsns, MetricInsnsMedian,
// MetricOps, LabelBench and LabelFigure.
const (
	benchMetric  = "insns"
	medianOf     = "-median"
	benchOps     = "ops"
	benchLabel   = "bench"
	figureLabel  = "figure"
	figureMedian = "median"
)

// insnsRow is a workload's instructions per operation on each kernel of a run: the
// least of all boots, NaN where there is none, and how far the boots are apart.
type insnsRow struct {
	name          string
	least, spread []float64
}

// insns gathers the run's counted workloads, in the order in which they were
// reported, and the names of its kernels.
func (r *Run) insns() (rows []insnsRow, kernels []string) {
	t := r.table()
	for i, col := range t.columns {
		kernels = append(kernels, t.title(col))
		for _, c := range r.Cells {
			if c.Kernel != col.kernel || c.Variant != col.variant || c.Verdict != event.Pass {
				continue
			}
			for _, m := range c.Figures(benchMetric) {
				if m.Unit != unitInsns {
					continue
				}
				name := Line(m.Labels[benchLabel])
				n := slices.IndexFunc(rows, func(row insnsRow) bool { return row.name == name })
				if n < 0 {
					rows = append(rows, insnsRow{name: name})
					n = len(rows) - 1
				}
				rows[n].add(i, m.Value)
			}
		}
	}
	for i := range rows {
		rows[i].grow(len(kernels) - 1)
	}
	return rows, kernels
}

// Figures are the metrics of that name. Of a workload whose median window is the one to
// show, it is the median instead.
func (c Cell) Figures(metric string) []event.Metric {
	median := map[string]bool{}
	for _, m := range c.Metrics {
		if m.Name == benchOps && m.Labels[figureLabel] == figureMedian {
			median[m.Labels[benchLabel]] = true
		}
	}
	var list []event.Metric
	for _, m := range c.Metrics {
		wanted := metric
		if median[m.Labels[benchLabel]] {
			wanted += medianOf
		}
		if m.Name == wanted {
			list = append(list, m)
		}
	}
	return list
}

func (r *insnsRow) grow(kernel int) {
	for len(r.least) <= kernel {
		r.least, r.spread = append(r.least, math.NaN()), append(r.spread, 0)
	}
}

func (r *insnsRow) add(kernel int, value float64) {
	r.grow(kernel)
	if math.IsNaN(r.least[kernel]) {
		r.least[kernel] = value
		return
	}
	most := max(r.least[kernel]*(1+r.spread[kernel]), value)
	r.least[kernel] = min(r.least[kernel], value)
	r.spread[kernel] = most/r.least[kernel] - 1
}

// text is the figure of a kernel.
func (r insnsRow) text(kernel int) string {
	if math.IsNaN(r.least[kernel]) {
		return "-"
	}
	return fmt.Sprintf("%.1f", r.least[kernel])
}

// change is what one kernel needs more than another; ~ where that is less than boots
// of one kernel differ by.
func (r insnsRow) change(from, to int) string {
	delta := r.least[to]/r.least[from] - 1
	switch {
	case math.IsNaN(delta):
		return ""
	case math.Abs(delta) <= max(r.spread[from], r.spread[to]):
		return "~"
	}
	return fmt.Sprintf("%+.2f%%", 100*delta)
}

// HasFigures says whether a workload was counted in the run.
func (r *Run) HasFigures() bool {
	rows, _ := r.insns()
	return len(rows) > 0
}

// SameKernels says whether other has every kernel of r: of the same source, config
// and compiler.
func (r *Run) SameKernels(other *Run) bool {
	for _, k := range r.Kernels {
		if !slices.ContainsFunc(other.Kernels, k.same) {
			return false
		}
	}
	return len(r.Kernels) > 0
}

// same says whether two kernels of a name were built from the same.
func (k Kernel) same(o Kernel) bool {
	return o.Name == k.Name && o.Variant == k.Variant && o.Tree == k.Tree && o.ConfigHash == k.ConfigHash && o.Compiler == k.Compiler
}
