package html

import (
	"slices"

	"patchproof/patches"
	"patchproof/results"
)

// trendRuns is how many runs a trend looks back, trendLeast how many make one.
const trendRuns, trendLeast = 30, 3

// before are the stored runs that ran under the same accelerator, run itself last.
func before(run *results.Run) []*results.Run {
	runs := []*results.Run{run}
	for other := range siblings(run) {
		if other.Started.After(run.Started) || other.Accel.Name != run.Accel.Name {
			continue
		}
		if runs = append(runs, other); len(runs) == trendRuns {
			break
		}
	}
	slices.Reverse(runs)
	return runs
}

// benchTrend draws a metric of one workload through the stored runs.
func benchTrend(run *results.Run, asked patches.Figure, id string) []figure {
	caption := "The stored runs that measured it, the newest last. Kernels are told by their names; what they hold may have changed from run to run."
	if asked.Caption != "" {
		caption = asked.Caption + " " + caption
	}
	return trend(before(run), id, asked.Title, caption, func(r *results.Run, k results.Kernel) (float64, bool) {
		_, values := read(r, asked.Metric, asked.Workload)
		value, ok := values[k.Name][""]
		return value, ok
	})
}

// bootTrend draws how long a boot took in the stored runs.
func bootTrend(run *results.Run) []figure {
	return trend(before(run), "trend-boot", "Trend: seconds to boot",
		"The median over a run's cells of the time from QEMU's start to the program's first event, on the host's clock: what else ran on the host is in it.",
		func(r *results.Run, k results.Kernel) (float64, bool) {
			var boots []float64
			for _, c := range r.Cells {
				if c.Kernel == k.Name && c.Variant == k.Variant && c.Mode == "" && c.BootS > 0 {
					boots = append(boots, c.BootS)
				}
			}
			if len(boots) == 0 {
				return 0, false
			}
			slices.Sort(boots)
			return boots[len(boots)/2], true
		})
}

// trend draws one figure per kernel over the runs that have it.
func trend(runs []*results.Run, id, title, caption string, value func(*results.Run, results.Kernel) (float64, bool)) []figure {
	p := plot{figure: figure{Title: title, Caption: caption}, chart: chart{xName: "stored runs"}}
	newest := runs[len(runs)-1]
	has := func(r *results.Run) bool {
		return slices.ContainsFunc(newest.Kernels, func(k results.Kernel) bool { _, ok := value(r, k); return ok })
	}
	runs = slices.DeleteFunc(slices.Clone(runs), func(r *results.Run) bool { return !has(r) })
	if len(runs) < trendLeast {
		return nil
	}
	var columns []map[float64]float64
	for _, k := range newest.Kernels {
		values := map[float64]float64{}
		for i, r := range runs {
			if v, ok := value(r, k); ok {
				values[float64(i)] = v
			}
		}
		if len(values) > 0 {
			x, y := points(values)
			p.add(k.Name+" "+k.Variant, x, y, true)
			columns = append(columns, values)
		}
	}
	every := (len(runs) + 5) / 6
	for i, r := range runs {
		label := ""
		if i%every == 0 {
			label = r.Started.Format("2 Jan 15:04")
		}
		p.chart.xTicks = append(p.chart.xTicks, tick(float64(i), label))
	}
	p.table("run", func(x float64) string { return runs[int(x)].ID }, columns)
	return []figure{p.finish(id, 0)}
}
