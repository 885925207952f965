package results

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"patchproof/guest/event"
	"patchproof/patches"
)

// tolerance says how a metric is compared.
type tolerance struct {
	// name, when set, and unit are the metric's.
	name, unit string
	// fraction is by how much two figures may differ and still be the same.
	fraction float64
	// lowerIsBetter makes a larger figure a regression; of a metric without it
	// nobody can say which way is worse.
	lowerIsBetter bool
	// never says why the metric is not compared.
	never string
}

// tolerances is searched from above; a metric that it does not have is compared
// exactly.
var tolerances = []tolerance{
	{name: "insns-median", unit: "insns/op", never: "the median counts interrupts too; insns is compared"},
	// Boots of one kernel agree under icount, most to the instruction; of nine
	// figures on two kernels, one differed by 0.022 % in three boots.
	{unit: "insns/op", fraction: 0.0005, lowerIsBetter: true},
	{unit: "s", never: "time under an emulator, or on a busy host, is no property of a kernel"},
	{name: "interrupts", never: "how many come is up to the host"},
}

func toleranceOf(name, unit string) tolerance {
	for _, t := range tolerances {
		if t.unit == unit && (t.name == "" || t.name == name) {
			return t
		}
	}
	return tolerance{}
}

// figure is a metric of a program in all iterations.
type figure struct {
	name, unit string
	values     []float64
}

// value is the figure to compare: where less is better the least, since whatever
// disturbs a measurement adds to it, else the median.
func (f figure) value() float64 {
	if toleranceOf(f.name, f.unit).lowerIsBetter {
		return slices.Min(f.values)
	}
	sorted := slices.Sorted(slices.Values(f.values))
	return sorted[(len(sorted)-1)/2]
}

// figures are the metrics of some cells, by program, name and labels. Those that
// are never compared are left out, with the reason in never.
func figures(programs map[string][]Cell, never map[string]bool) map[string]figure {
	all := map[string]figure{}
	for program, cells := range programs {
		for _, c := range cells {
			for _, m := range c.Metrics {
				if t := toleranceOf(m.Name, m.Unit); t.never != "" {
					never[fmt.Sprintf("%s: not compared: %s", cmp.Or(t.name, t.unit), t.never)] = true
					continue
				}
				key := program + "/" + metricID(m)
				f := all[key]
				f.name, f.unit = m.Name, m.Unit
				f.values = append(f.values, m.Value)
				all[key] = f
			}
		}
	}
	return all
}

// metricID names a metric by all that tells it from others of its program, such as
// "insns bench=Copy/batch=32".
func metricID(m event.Metric) string {
	id := m.Name
	for _, label := range slices.Sorted(maps.Keys(m.Labels)) {
		id += fmt.Sprintf(" %s=%s", label, m.Labels[label])
	}
	return id
}

// equal says whether two figures are the same within the tolerance, which is a part
// of the smaller one.
func (f figure) equal(other figure) bool {
	x, y := f.value(), other.value()
	fraction := toleranceOf(f.name, f.unit).fraction
	return f.unit == other.unit && math.Abs(x-y) <= fraction*min(math.Abs(x), math.Abs(y))
}

// metrics compares the figures of the programs that both sides have, if they come
// from machines that are alike.
func (c *Comparison) metrics(a, b Side, from, to map[string][]Cell) {
	if a.Run.Accel.Name != b.Run.Accel.Name || a.Kernel.Variant != b.Kernel.Variant {
		c.note("metrics are not compared between accelerators or variants")
		return
	}
	was, is := map[string][]Cell{}, map[string][]Cell{}
	for _, program := range slices.Sorted(maps.Keys(from)) {
		cells := from[program]
		if mode := cells[0].Mode; mode != to[program][0].Mode {
			c.note("the metrics of %s are not compared: it ran in another mode (%s)", Line(program), Line(mode+"/"+to[program][0].Mode))
			continue
		}
		was[program], is[program] = cells, to[program]
	}
	never := map[string]bool{}
	x, y := figures(was, never), figures(is, never)
	c.unmatched(c.From, x, y)
	c.unmatched(c.To, y, x)
	c.Notes = append(c.Notes, slices.Sorted(maps.Keys(never))...)
	walk(x, y, figure.equal, &c.Figures, func(what string, from, to *figure) {
		change := Change{Kind: KindMetric, What: what, From: number(from.value()), To: number(to.value()), Unit: from.unit, Effect: Changed}
		if from.unit != to.unit {
			change.From, change.To, change.Unit = change.From+" "+from.unit, change.To+" "+to.unit, ""
			c.add(change)
			return
		}
		if from.value() != 0 {
			change.Delta = to.value()/from.value() - 1
		}
		if toleranceOf(from.name, from.unit).lowerIsBetter {
			change.Effect = Better
			if to.value() > from.value() {
				change.Effect = Worse
			}
		}
		c.add(change)
	})
}

// unmatched counts the metrics of name that other lacks, and drops them.
func (c *Comparison) unmatched(name string, own, other map[string]figure) {
	all := len(own)
	maps.DeleteFunc(own, func(key string, _ figure) bool { _, ok := other[key]; return !ok })
	if alone := all - len(own); alone > 0 {
		c.note("only %s has %s", name, patches.Plural(alone, "metric"))
	}
}

// number shows a whole number in full and another with six digits, which is more
// than any tolerance needs.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}
