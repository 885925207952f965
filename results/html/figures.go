package html

import (
	"cmp"
	"fmt"
	"html/template"
	"iter"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-analyze/charts/chartdraw"

	"patchproof/guest/event"
	"patchproof/patches/subjects"
	"patchproof/results"
)

// figure is a picture of the page, with its numbers as a table.
type figure struct {
	Title, Caption string
	SVG            template.HTML
	Legend         []legend
	Head           []string
	Rows           [][]string
	// Wide pictures take the page's whole width.
	Wide bool
}

type legend struct {
	Swatch template.HTML
	Name   string
}

// The size of a picture that shares the page's width with another, in pixels.
const (
	chartWide = 544
	chartHigh = 270
)

// figures are those that a subject asks for, and those of every run. Of figures about
// states and rounds only the first that has something to show is drawn, as they show
// the same in two ways.
func figures(run *results.Run, asked []subjects.Figure) []figure {
	all := path(run)
	draw := map[string]func(*results.Run, subjects.Figure, string) []figure{
		subjects.FigureScale: scale, subjects.FigureSnapshots: snapshots, subjects.FigureStates: states,
		subjects.FigureRounds: rounds, subjects.FigureTrend: benchTrend,
	}
	held := false
	for i, a := range asked {
		holds := a.Kind == subjects.FigureStates || a.Kind == subjects.FigureRounds
		if holds && held {
			continue
		}
		drawn := draw[a.Kind](run, a, fmt.Sprintf("%s-%d", a.Kind, i))
		held = held || holds && len(drawn) > 0
		all = append(all, drawn...)
	}
	return slices.Concat(all, comesAndGoes(run), bootTrend(run), waterfall(run))
}

// plot is the making of a figure of lines over a common axis.
type plot struct {
	figure
	chart chart
	names []string
}

func (p *plot) add(name string, x, y []float64, dots bool) {
	ink := inkOf(len(p.names))
	p.chart.lines = append(p.chart.lines, line{ink: ink, x: x, y: y, dots: dots})
	p.Legend = append(p.Legend, legend{swatch(ink, 0), name})
	p.names = append(p.names, name)
}

// points adds marks without a line between them.
func (p *plot) points(name string, x, y []float64) {
	p.add(name, x, y, true)
	last := len(p.names) - 1
	p.chart.lines[last].loose = true
	p.Legend[last].Swatch = spot(p.chart.lines[last].ink)
}

// finish draws the picture. low is where the axis must begin at the latest.
func (p *plot) finish(id string, low float64) figure {
	high := low
	for _, l := range p.chart.lines {
		low, high = min(low, slices.Min(l.y)), max(high, slices.Max(l.y))
	}
	p.chart.yTicks = ticks(low, high, 5)
	p.chart.title, p.chart.desc = p.Title, p.Caption
	if p.chart.width == 0 {
		p.chart.width, p.chart.height = chartWide, chartHigh
	}
	p.draw(p.chart, id)
	return p.figure
}

// draw makes the picture. One that cannot be drawn still has its numbers.
func (f *figure) draw(c chart, id string) {
	var err error
	if f.SVG, err = c.svg(id); err != nil {
		f.Caption += " It cannot be drawn: " + err.Error() + "."
	}
}

// table fills the figure's table: a row per x, a column per line.
func (p *plot) table(x string, label func(float64) string, columns []map[float64]float64) {
	p.Head = append([]string{x}, p.names...)
	all := map[float64]bool{}
	for _, c := range columns {
		for x := range c {
			all[x] = true
		}
	}
	for _, x := range slices.Sorted(maps.Keys(all)) {
		row := []string{label(x)}
		for _, c := range columns {
			if y, ok := c[x]; ok {
				row = append(row, number(y))
			} else {
				row = append(row, "")
			}
		}
		p.Rows = append(p.Rows, row)
	}
}

func points(values map[float64]float64) (x, y []float64) {
	for _, at := range slices.Sorted(maps.Keys(values)) {
		x, y = append(x, at), append(y, values[at])
	}
	return x, y
}

// measured are the figures of benchmarks, by kernel and name.
type measured map[string]map[string]float64

// benches reads the metric of the workloads whose names begin with prefix, the
// least of all boots, and the rest of their names in their order. Without any of its
// own, a run has those of the newest one beside it that measured the same kernels;
// from then says so.
func benches(run *results.Run, metric, prefix string) (names []string, values measured, from string) {
	if names, values = read(run, metric, prefix); len(names) > 0 {
		return names, values, ""
	}
	for other := range siblings(run) {
		if names, values = read(other, metric, prefix); len(names) > 0 && run.SameKernels(other) {
			return names, values, " Measured in run " + other.ID + ", on the same kernels."
		}
	}
	return nil, nil, ""
}

func read(run *results.Run, metric, prefix string) (names []string, values measured) {
	values = measured{}
	for _, c := range run.Cells {
		for _, m := range c.Figures(metric) {
			name, ok := strings.CutPrefix(m.Labels["bench"], prefix)
			if !ok {
				continue
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			if values[c.Kernel] == nil {
				values[c.Kernel] = map[string]float64{}
			}
			if old, ok := values[c.Kernel][name]; !ok || m.Value < old {
				values[c.Kernel][name] = m.Value
			}
		}
	}
	return names, values
}

// scale draws a metric of workloads over the number that ends their names, on an axis
// that doubles.
func scale(run *results.Run, asked subjects.Figure, id string) []figure {
	_, costs, from := benches(run, asked.Metric, asked.Prefix)
	p := plot{figure: figure{Title: asked.Title, Caption: asked.Caption + from}, chart: chart{xName: asked.Axis}}
	var columns []map[float64]float64
	seen := map[float64]bool{}
	low := math.Inf(1)
	for _, k := range run.Kernels {
		values, logs := map[float64]float64{}, map[float64]float64{}
		for name, cost := range costs[k.Name] {
			if x, ok := count(name); ok && x > 0 {
				values[x], logs[math.Log2(x)] = cost, cost
				seen[x] = true
				low = min(low, cost)
			}
		}
		if len(values) > 0 {
			x, y := points(logs)
			p.add(k.Name, x, y, true)
			columns = append(columns, values)
		}
	}
	if len(seen) < 2 {
		return nil
	}
	all := slices.Sorted(maps.Keys(seen))
	// A label is as wide as this part of the axis.
	room := math.Log2(all[len(all)-1]/all[0]) / 14
	labelled := math.Inf(-1)
	for _, x := range all {
		at, label := math.Log2(x), ""
		if at-labelled >= room {
			label, labelled = number(x), at
		}
		p.chart.xTicks = append(p.chart.xTicks, tick(at, label))
	}
	p.table(asked.Axis, number, columns)
	return []figure{p.finish(id, low)}
}

// count reads a label that counts something. A guest may have written anything.
func count(label string) (float64, bool) {
	n, err := strconv.ParseUint(label, 10, 20)
	return float64(n), err == nil
}

// siblings goes through the runs beside this one, the newest first.
func siblings(run *results.Run) iter.Seq[*results.Run] {
	return func(yield func(*results.Run) bool) {
		for other := range results.Newest(filepath.Dir(run.Dir)) {
			if other.Dir != run.Dir && !yield(other) {
				return
			}
		}
	}
}

// snapshots draws counters through what the programs had the kernel do, one picture
// for each.
func snapshots(run *results.Run, asked subjects.Figure, id string) []figure {
	var list []figure
	for _, c := range run.Cells {
		if c.Iteration > 1 {
			continue
		}
		var during []string
		for _, m := range c.Metrics {
			if d := m.Labels["during"]; slices.Contains(asked.Metrics, m.Name) && d != "" && !slices.Contains(during, d) {
				during = append(during, d)
			}
		}
		for _, d := range during {
			if f, ok := counters(c, asked, d, fmt.Sprintf("%s-%d", id, len(list))); ok {
				list = append(list, f)
			}
		}
	}
	return list
}

// counters draws those of one cell through one thing that happened in it, from
// snapshot to snapshot.
func counters(c results.Cell, asked subjects.Figure, during, id string) (f figure, ok bool) {
	counters, times, phases := readSnapshots(c, asked, during)
	drawn := moving(counters)
	if len(drawn) == 0 {
		return figure{}, false
	}
	p := plot{figure: figure{Title: fmt.Sprintf("%s through %s, %s on %s", asked.Title, during, c.Program, c.Kernel)}}
	var columns []map[float64]float64
	steps := map[float64]bool{}
	for _, name := range drawn {
		x, y := points(counters[name])
		for _, step := range x {
			steps[step] = true
		}
		p.add(name, x, y, true)
		columns = append(columns, counters[name])
	}
	if len(steps) < 2 {
		return figure{}, false
	}
	p.Caption = asked.Caption
	if slices.Contains(drawn, slabName) {
		p.Caption += " Slab objects: what the kernel really holds."
	}
	if still := len(counters) - len(drawn); still > 0 {
		p.Caption += fmt.Sprintf(" Not drawn: %d counters that do not move.", still)
	}
	order := slices.Sorted(maps.Keys(steps))
	p.chart.xName = "snapshots"
	if first, last := times[order[0]], times[order[len(order)-1]]; last > first {
		p.chart.xName = fmt.Sprintf("snapshots, %.2f s of guest time from first to last", last-first)
	}
	for i, step := range order {
		label := cmp.Or(phases[step], number(step))
		if len(order) > 8 && i%2 > 0 && i < len(order)-1 {
			label = ""
		}
		p.chart.xTicks = append(p.chart.xTicks, tick(step, label))
	}
	p.table("snapshot", func(step float64) string {
		text := cmp.Or(phases[step], number(step))
		if at, ok := times[step]; ok {
			text += fmt.Sprintf(", %.3f s", at)
		}
		return text
	}, columns)
	return p.finish(id, 0), true
}

// readSnapshots returns the counters that were asked for, each by the number of its snapshot, and
// when the snapshots were taken and in which phase.
func readSnapshots(c results.Cell, asked subjects.Figure, during string) (counters map[string]map[float64]float64, times map[float64]float64, phases map[float64]string) {
	counters = map[string]map[float64]float64{}
	times, phases = map[float64]float64{}, map[float64]string{}
	for _, m := range c.Metrics {
		step, ok := count(m.Labels["step"])
		if !ok || m.Labels["during"] != during {
			continue
		}
		name := ""
		switch {
		case slices.Contains(asked.Metrics, m.Name):
			name = fmt.Sprintf("%s cpu%s", m.Name, m.Labels["cpu"])
			if asked.Label != "" {
				name += fmt.Sprintf(" %s=%s", asked.Label, m.Labels[asked.Label])
			}
		case m.Name == "slab":
			name = slabName
		case m.Name == "snapshot":
			times[step], phases[step] = m.Value, m.Labels["at"]
			continue
		default:
			continue
		}
		if counters[name] == nil {
			counters[name] = map[float64]float64{}
		}
		counters[name][step] = m.Value
	}
	return counters, times, phases
}

const slabName = "slab objects"

// moving picks the counters to draw: those that move. Where only the slab does,
// that the highest of the others do not is worth a look.
func moving(counters map[string]map[float64]float64) []string {
	highest := func(name string) float64 { _, y := points(counters[name]); return slices.Max(y) }
	var moving, still []string
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		_, y := points(counters[name])
		if slices.Min(y) < slices.Max(y) {
			moving = append(moving, name)
		} else if name != slabName {
			still = append(still, name)
		}
	}
	if len(moving) == 1 && moving[0] == slabName {
		slices.SortStableFunc(still, func(a, b string) int { return cmp.Compare(highest(b), highest(a)) })
		moving = append(moving, still[:min(4, len(still))]...)
	}
	return moving
}

// states draws KiB of workloads by the states that end their names.
func states(run *results.Run, asked subjects.Figure, id string) []figure {
	names, bytes, from := benches(run, asked.Metric, asked.Prefix)
	if len(names) < 2 {
		return nil
	}
	p := plot{figure: figure{Title: asked.Title, Caption: asked.Caption + from}}
	var columns []map[float64]float64
	for i, name := range names {
		p.chart.xTicks = append(p.chart.xTicks, tick(float64(i), state(name)))
	}
	for _, k := range run.Kernels {
		values := map[float64]float64{}
		for i, name := range names {
			if b, ok := bytes[k.Name][name]; ok {
				values[float64(i)] = b / 1024
			}
		}
		if len(values) > 0 {
			x, y := points(values)
			p.add(k.Name, x, y, true)
			columns = append(columns, values)
		}
	}
	if len(columns) == 0 {
		return nil
	}
	p.table("KiB when", func(x float64) string { return state(names[int(x)]) }, columns)
	return []figure{p.finish(id, 0)}
}

// state shortens the name of a state: at=peak/cpu=0 is "peak 0".
func state(name string) string {
	at, cpu, _ := strings.Cut(strings.TrimPrefix(name, "at="), "/cpu=")
	return strings.TrimSuffix(at+" "+cpu, " all")
}

// rounds draws a metric over the rounds that its label round counts, a line for each
// kernel and value of the figure's label.
func rounds(run *results.Run, asked subjects.Figure, id string) []figure {
	p := plot{figure: figure{Title: asked.Title, Caption: asked.Caption}, chart: chart{xName: "round"}}
	var columns []map[float64]float64
	for _, k := range run.Kernels {
		lines := map[string]map[float64]float64{}
		for _, c := range run.Cells {
			if c.Kernel != k.Name || c.Variant != k.Variant || c.Iteration != 1 {
				continue
			}
			for _, m := range c.Metrics {
				round, ok := count(m.Labels["round"])
				if !ok || m.Name != asked.Metric {
					continue
				}
				of := m.Labels[asked.Label]
				if lines[of] == nil {
					lines[of] = map[float64]float64{}
				}
				lines[of][round] = m.Value
			}
		}
		for _, of := range slices.Sorted(maps.Keys(lines)) {
			values := lines[of]
			if len(values) < 2 {
				continue
			}
			name := k.Name
			if asked.Label != "" {
				name += fmt.Sprintf(" %s=%s", asked.Label, of)
			}
			x, y := points(values)
			p.add(name, x, y, true)
			columns = append(columns, values)
			p.chart.xTicks = ticks(1, x[len(x)-1], 12)
		}
	}
	if len(columns) == 0 {
		return nil
	}
	p.table("round", number, columns)
	return []figure{p.finish(id, 0)}
}

// waterfall draws when each cell ran: its boot, and its program.
func waterfall(run *results.Run) []figure {
	cells := slices.DeleteFunc(slices.Clone(run.Cells), func(c results.Cell) bool { return c.WallS == 0 || c.Verdict == event.Skip })
	if !slices.ContainsFunc(cells, func(c results.Cell) bool { return c.StartS > 0 }) {
		return nil
	}
	slices.SortStableFunc(cells, func(a, b results.Cell) int { return int(math.Copysign(1, a.StartS-b.StartS)) })
	const boot, program = inkFirst, inkFirst + 1
	f := figure{
		Title:   "Boot and step times",
		Caption: "When each cell ran, from the start of the run: QEMU's start to the program's first event, and from there to power-off.",
		Legend:  []legend{{swatch(boot, 9), "boot"}, {swatch(program, 9), "program"}},
		Head:    []string{"cell", "start", "boot", "whole"},
		Wide:    true,
	}
	c := chart{title: f.Title, desc: f.Caption, xName: "seconds since the run began", width: 2 * chartWide, height: 70 + 17*len(cells)}
	end, begin := 0.0, math.Inf(1)
	c.yTicks = []chartdraw.Tick{tick(0, "")}
	for i, cell := range cells {
		y := float64(len(cells) - i)
		name := cell.Program + " on " + cell.Kernel
		if cell.Iteration > 1 {
			name += fmt.Sprintf(" (%d)", cell.Iteration)
		}
		c.yTicks = append(c.yTicks, tick(y, name))
		started := cell.StartS + min(cell.BootS, cell.WallS)
		c.lines = append(c.lines,
			line{ink: boot, thick: 9, x: []float64{cell.StartS, started}, y: []float64{y, y}},
			line{ink: program, thick: 9, x: []float64{started, cell.StartS + cell.WallS}, y: []float64{y, y}})
		begin, end = min(begin, cell.StartS), max(end, cell.StartS+cell.WallS)
		f.Rows = append(f.Rows, []string{name, fmt.Sprintf("%.1f s", cell.StartS), fmt.Sprintf("%.1f s", cell.BootS), fmt.Sprintf("%.1f s", cell.WallS)})
	}
	c.yTicks = append(c.yTicks, tick(float64(len(cells)+1), ""))
	c.xTicks = ticks(begin, end, 10)
	f.draw(c, "waterfall")
	return []figure{f}
}
