package results

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Series is one metric of one program on kernels of one name through the stored
// runs. Runs under different accelerators are never in one series.
type Series struct {
	Program, Metric, Unit  string
	Kernel, Variant, Accel string
	// Points are in the order of time.
	Points []Point
}

// Point is a figure of one run: the least of its iterations.
type Point struct {
	Run     string
	Started time.Time
	// Tree is the git tree of the kernel's source: where it changes, the code did.
	Tree  string
	Value float64
}

// Trend follows a metric through runs, which are in the order of time. The metric
// is given by its name ("insns"), by its name and labels ("insns bench=Copy/batch=32"),
// or is wall_s or boot_s, which every cell has. Series are sorted by program, metric
// and kernel.
func Trend(runs []*Run, metric string) []Series {
	var all []Series
	for _, r := range runs {
		for _, c := range r.Cells {
			add := func(id, unit string, value float64) {
				key := Series{Program: Line(c.Program), Metric: id, Unit: unit, Kernel: Line(c.Kernel), Variant: Line(c.Variant), Accel: Line(r.Accel.Name)}
				if c.Mode != "" || unit == unitInsns {
					key.Accel = "tcg"
				}
				key.addTo(&all, Point{Run: r.ID, Started: r.Started, Tree: r.kernel(column{c.Kernel, c.Variant}).Tree, Value: value})
			}
			for _, m := range c.Metrics {
				if id := metricID(m); m.Name == metric || id == metric {
					add(Line(id), Line(m.Unit), m.Value)
				}
			}
			switch metric {
			case "wall_s":
				add(metric, "s", c.WallS)
			case "boot_s":
				add(metric, "s", c.BootS)
			}
		}
	}
	slices.SortFunc(all, func(a, b Series) int { return slices.Compare(a.key(), b.key()) })
	return all
}

// BootTrend follows the median of the seconds that a kernel's cells took to boot
// through runs, which are in the order of time. A stepped cell's boot is none of them.
func BootTrend(runs []*Run) []Series {
	var all []Series
	for _, r := range runs {
		boots := map[column][]float64{}
		for _, c := range r.Cells {
			if c.Mode == "" && c.BootS > 0 {
				col := column{c.Kernel, c.Variant}
				boots[col] = append(boots[col], c.BootS)
			}
		}
		for _, k := range r.Kernels {
			seconds := boots[column{k.Name, k.Variant}]
			if len(seconds) == 0 {
				continue
			}
			slices.Sort(seconds)
			key := Series{Metric: "boot_s", Unit: "s", Kernel: Line(k.Name), Variant: Line(k.Variant), Accel: Line(r.Accel.Name)}
			key.addTo(&all, Point{Run: r.ID, Started: r.Started, Tree: k.Tree, Value: seconds[len(seconds)/2]})
		}
	}
	return all
}

// addTo adds a point to the series of that key, a new one where there is none.
func (s Series) addTo(all *[]Series, p Point) {
	i := slices.IndexFunc(*all, func(other Series) bool { return slices.Equal(other.key(), s.key()) })
	if i < 0 {
		*all = append(*all, s)
		i = len(*all) - 1
	}
	(*all)[i].add(p)
}

// key orders series, and tells them apart.
func (s Series) key() []string {
	return []string{s.Program, s.Metric, s.Variant, s.Accel, s.Kernel, s.Unit}
}

// add adds a point, or lowers the run's own.
func (s *Series) add(p Point) {
	if n := len(s.Points); n > 0 && s.Points[n-1].Run == p.Run {
		s.Points[n-1].Value = min(s.Points[n-1].Value, p.Value)
		return
	}
	s.Points = append(s.Points, p)
}

// TrendTable writes series for people: for each metric a table with a line per run
// and a column per kernel. A * follows the first figure of changed code.
func TrendTable(all []Series) string {
	var out strings.Builder
	for len(all) > 0 {
		n := 1
		for n < len(all) && slices.Equal(all[n].key()[:4], all[0].key()[:4]) {
			n++
		}
		group := all[:n]
		all = all[n:]
		first := group[0]
		fmt.Fprintf(&out, "%s %s, %s, %s, %s\n", first.Program, first.Metric, cmp.Or(first.Unit, "no unit"), first.Variant, first.Accel)
		var runs []string
		for _, s := range group {
			for _, p := range s.Points {
				runs = append(runs, p.Run)
			}
		}
		slices.Sort(runs)
		runs = slices.Compact(runs)
		row := fmt.Sprintf("  %-22s", "run")
		for _, s := range group {
			row += fmt.Sprintf("  %10s ", clip(s.Kernel, 10))
		}
		out.WriteString(strings.TrimRight(row, " ") + "\n")
		for _, run := range runs {
			row := fmt.Sprintf("  %-22s", clip(Line(run), 22))
			for _, s := range group {
				row += "  " + s.at(run)
			}
			out.WriteString(strings.TrimRight(row, " ") + "\n")
		}
		out.WriteString("\n")
	}
	return out.String()
}

// at is the figure of a run, in eleven columns.
func (s Series) at(run string) string {
	for i, p := range s.Points {
		if p.Run != run {
			continue
		}
		mark := " "
		if i > 0 && s.Points[i-1].Tree != p.Tree {
			mark = "*"
		}
		return fmt.Sprintf("%10.2f%s", p.Value, mark)
	}
	return fmt.Sprintf("%10s ", "-")
}
