package html

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"patchproof/patches/subjects"
	"patchproof/results"
)

// trendRuns is how many runs a trend looks back, trendLeast how many make one.
const trendRuns, trendLeast = 30, 3

// before are the stored runs that have one of the run's kernels, of the same pin, under the same
// accelerator; run itself is the last.
func before(run *results.Run) []*results.Run {
	runs := []*results.Run{run}
	for other := range siblings(run) {
		shared := slices.ContainsFunc(other.Kernels, func(k results.Kernel) bool {
			return slices.ContainsFunc(run.Kernels, func(own results.Kernel) bool {
				return own.Name == k.Name && own.Variant == k.Variant && own.Pin == k.Pin
			})
		})
		if !shared || other.Started.After(run.Started) || other.Accel.Name != run.Accel.Name {
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
func benchTrend(run *results.Run, asked subjects.Figure, id string) []figure {
	caption := "The stored runs that measured it, the newest last. Kernels are told by their names; what they hold may have changed from run to run."
	if asked.Caption != "" {
		caption = asked.Caption + " " + caption
	}
	return trend(run, id, asked.Title, caption, results.Trend(before(run), asked.Metric+" bench="+asked.Workload))
}

// bootTrend draws how long a boot took in the stored runs.
func bootTrend(run *results.Run) []figure {
	return trend(run, "trend-boot", "Trend: seconds to boot",
		"The median over a run's cells of the time from QEMU's start to the program's first event, on the host's clock: what else ran on the host is in it.",
		results.BootTrend(before(run)))
}

// trend draws the series of the run's kernels over the runs that have one of them.
func trend(run *results.Run, id, title, caption string, all []results.Series) []figure {
	p := plot{figure: figure{Title: title, Caption: caption}, chart: chart{xName: "stored runs"}}
	all = slices.DeleteFunc(all, func(s results.Series) bool {
		return !slices.ContainsFunc(run.Kernels, func(k results.Kernel) bool {
			return s.Kernel == results.Line(k.Name) && s.Variant == results.Line(k.Variant)
		})
	})
	started := map[string]time.Time{}
	for _, s := range all {
		for _, point := range s.Points {
			started[point.Run] = point.Started
		}
	}
	runs := slices.SortedFunc(maps.Keys(started), func(a, b string) int {
		return cmp.Or(started[a].Compare(started[b]), cmp.Compare(a, b))
	})
	if len(runs) < trendLeast {
		return nil
	}
	var columns []map[float64]float64
	for _, s := range all {
		values := map[float64]float64{}
		for _, point := range s.Points {
			values[float64(slices.Index(runs, point.Run))] = point.Value
		}
		x, y := points(values)
		p.add(s.Kernel+" "+s.Variant, x, y, true)
		columns = append(columns, values)
	}
	every := (len(runs) + 5) / 6
	for i, r := range runs {
		label := ""
		if i%every == 0 {
			label = started[r].Format("2 Jan 15:04")
		}
		p.chart.xTicks = append(p.chart.xTicks, tick(float64(i), label))
	}
	p.table("run", func(x float64) string { return runs[int(x)] }, columns)
	return []figure{p.finish(id, 0)}
}

// comesAndGoes lists what fails in some of the stored runs and not in others.
func comesAndGoes(run *results.Run) []figure {
	flakes := results.FlakesOf(run, slices.Values(before(run)))
	if len(flakes.Flakes) == 0 {
		return nil
	}
	f := figure{
		Title: "What comes and goes", Wide: true, Caption: fmt.Sprintf("%s, of the last %d stored runs.", flakes.Scope(), trendRuns),
		Head: []string{"what", "on", "fails", "verdicts", "last failed in"},
	}
	for _, flake := range flakes.Flakes {
		f.Rows = append(f.Rows, []string{flake.Name(), flake.On(), flake.Rate.String(), flake.Counts(), results.Line(flake.LastFailed)})
	}
	return []figure{f}
}
