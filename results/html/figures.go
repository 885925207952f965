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

func figures(run *results.Run) []figure {
	return slices.Concat(path(run), nops(run), caches(run), memory(run), trends(run), waterfall(run))
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
		if names, values = read(other, metric, prefix); len(names) > 0 && sameKernels(run, other) {
			return names, values, " Measured in run " + other.ID + ", on the same kernels."
		}
	}
	return nil, nil, ""
}

func read(run *results.Run, metric, prefix string) (names []string, values measured) {
	values = measured{}
	for _, c := range run.Cells {
		for _, m := range c.Metrics {
			name, ok := strings.CutPrefix(m.Labels["bench"], prefix)
			if !ok || m.Name != metric {
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

const (
	nopPrefix    = "Nop/batch="
	memoryPrefix = "Memory/"
)

// nops draws the instructions per NOP over the batch size.
func nops(run *results.Run) []figure {
	_, costs, from := benches(run, "insns", nopPrefix)
	p := plot{figure: figure{
		Title:   "Instructions per NOP against batch size",
		Caption: "Instructions that the guest executed per NOP request, user space included, at each number of requests per io_uring_enter; fewer is better. Instructions are not time." + from,
	}, chart: chart{xName: "requests per batch"}}
	var columns []map[float64]float64
	seen := map[float64]bool{}
	low := math.Inf(1)
	for _, k := range run.Kernels {
		values, logs := map[float64]float64{}, map[float64]float64{}
		for name, insns := range costs[k.Name] {
			if batch, ok := count(name); ok && batch > 0 {
				values[batch], logs[math.Log2(batch)] = insns, insns
				seen[batch] = true
				low = min(low, insns)
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
	for _, batch := range slices.Sorted(maps.Keys(seen)) {
		p.chart.xTicks = append(p.chart.xTicks, tick(math.Log2(batch), number(batch)))
	}
	p.table("batch", number, columns)
	return []figure{p.finish("nops", low)}
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

// sameKernels says whether the other run has every kernel of this one.
func sameKernels(run, other *results.Run) bool {
	for _, k := range run.Kernels {
		if !slices.ContainsFunc(other.Kernels, func(o results.Kernel) bool { return o.Name == k.Name && o.Key == k.Key }) {
			return false
		}
	}
	return true
}

// caches draws the counters of the request cache through what the programs had
// the kernel do, one picture for each.
func caches(run *results.Run) []figure {
	var list []figure
	for _, c := range run.Cells {
		if c.Iteration > 1 {
			continue
		}
		var during []string
		for _, m := range c.Metrics {
			if d := m.Labels["during"]; m.Name == "nr_avail" && d != "" && !slices.Contains(during, d) {
				during = append(during, d)
			}
		}
		for _, d := range during {
			if f, ok := cache(c, d, fmt.Sprintf("cache-%d", len(list))); ok {
				list = append(list, f)
			}
		}
	}
	return list
}

// cache draws the counters of one cell through one thing that happened in it,
// from snapshot to snapshot.
func cache(c results.Cell, during, id string) (f figure, ok bool) {
	counters := map[string]map[float64]float64{}
	times, phases := map[float64]float64{}, map[float64]string{}
	for _, m := range c.Metrics {
		step, ok := count(m.Labels["step"])
		if !ok || m.Labels["during"] != during {
			continue
		}
		name := ""
		switch m.Name {
		case "nr_avail", "nr_free":
			name = fmt.Sprintf("%s cpu%s irq=%s", m.Name, m.Labels["cpu"], m.Labels["irq"])
		case "slab":
			name = slabName
		case "snapshot":
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
	drawn := moving(counters)
	if len(drawn) == 0 {
		return figure{}, false
	}
	p := plot{figure: figure{Title: fmt.Sprintf("The cache through %s, %s on %s", during, c.Program, c.Kernel)}}
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
	p.Caption = "nr_avail: requests that the next allocation can take. nr_free: those that wait for the shrinker. Per CPU and class (irq=1 may complete in an interrupt)."
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

// memory draws what the slab of requests holds on each kernel: as the benchmark
// measured it or, without that, as the program shrinker saw it grow.
func memory(run *results.Run) []figure {
	names, bytes, from := benches(run, "slab-bytes", memoryPrefix)
	if len(names) < 2 {
		return growth(run)
	}
	p := plot{figure: figure{
		Title:   "Memory held by requests",
		Caption: "KiB of the slab io_kiocb, before any ring, with many requests in flight on each CPU in turn (peak), after they have completed (rest), and after everything was shrunk." + from,
	}}
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
		return growth(run)
	}
	p.table("KiB when", func(x float64) string { return state(names[int(x)]) }, columns)
	return []figure{p.finish("memory", 0)}
}

// state shortens the name of a state: at=peak/cpu=0 is "peak 0".
func state(name string) string {
	at, cpu, _ := strings.Cut(strings.TrimPrefix(name, "at="), "/cpu=")
	return strings.TrimSuffix(at+" "+cpu, " all")
}

// growth draws what the slab holds after each round with many requests in flight.
func growth(run *results.Run) []figure {
	p := plot{figure: figure{
		Title:   "Memory held: requests in the slab, round after round",
		Caption: "Objects of the slab io_kiocb in use after each round with 300 requests in flight; what was enough for one round should do for the next.",
	}, chart: chart{xName: "round"}}
	var columns []map[float64]float64
	for _, k := range run.Kernels {
		for _, irq := range []string{"0", "1"} {
			values := map[float64]float64{}
			for _, c := range run.Cells {
				for _, m := range c.Metrics {
					round, ok := count(m.Labels["round"])
					if ok && m.Name == "objects" && m.Labels["irq"] == irq && c.Kernel == k.Name && c.Variant == k.Variant && c.Iteration == 1 {
						values[round] = m.Value
					}
				}
			}
			if len(values) < 2 {
				continue
			}
			x, y := points(values)
			p.add(fmt.Sprintf("%s irq=%s", k.Name, irq), x, y, true)
			columns = append(columns, values)
			p.chart.xTicks = ticks(1, x[len(x)-1], 12)
		}
	}
	if len(columns) == 0 {
		return nil
	}
	p.table("round", number, columns)
	return []figure{p.finish("memory", 0)}
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
