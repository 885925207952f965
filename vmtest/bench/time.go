package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"

	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/qemu"
)

// TimeBoots is how often each kernel is booted when time is measured and nobody
// asks otherwise: the fewest from which a median has an interval at 95 %.
const TimeBoots = 6

// metricTime is the time per operation of a workload: the median of the windows that
// a boot measured, which are there as well, as time-window.
const (
	metricTime = "time"
	unitTime   = "ns/op"
)

const (
	// confidence is that of the intervals.
	confidence = 0.95
	// stealLimit is the part of a boot's time that other work may take before it is
	// said, in percent; frequencyLimit how far frequencies may be apart, as a ratio;
	// busyLimit how many processors of the host may be busy with other things.
	stealLimit     = 1
	frequencyLimit = 1.02
	busyLimit      = 0.5
)

// TimeRow is the time of one workload on all kernels of a run.
type TimeRow struct {
	Bench   string `json:"bench"`
	Program string `json:"program"`
	// Kernels are in the order of the run.
	Kernels []TimeFigure `json:"kernels"`
}

// TimeFigure is the time of one workload on one kernel. The sample is the boots,
// each by the median of its windows: windows of one boot share its memory layout
// and all that happened to it, so they are not independent, and counting them as
// if they were would make any difference look certain.
type TimeFigure struct {
	Figure
	// Median is that of the boots.
	Median float64 `json:"median"`
	// Interval is the median's, at 95 %; missing when there are too few boots.
	Interval []float64 `json:"interval,omitempty"`
	// Against is the comparison to the first kernel, missing for that one.
	Against *Against `json:"against_first,omitempty"`
	// Warnings say what the boots were too few for.
	Warnings []string `json:"warnings,omitempty"`
}

// Against is a comparison of two kernels' boots (Mann-Whitney U test).
type Against struct {
	// Delta is the difference of the medians, or ~ where none was shown.
	Delta string  `json:"delta"`
	P     float64 `json:"p"`
	// Text is p and the number of boots.
	Text string `json:"text"`
}

// TimeRows are the times of a run, in the order in which they were measured.
func TimeRows(b subjects.Bench, run *results.Run) []TimeRow {
	var times []TimeRow
	for _, row := range Rows(b, run) {
		if row.Unit != unitTime {
			continue
		}
		t := TimeRow{Bench: row.Bench, Program: row.Program}
		var first *benchmath.Sample
		for _, f := range row.Kernels {
			sample := benchmath.NewSample(f.Boots, &benchmath.DefaultThresholds)
			t.add(f, sample, first)
			if first == nil {
				first = sample
			}
		}
		times = append(times, t)
	}
	return times
}

// add summarises one kernel's boots, and compares them with the first kernel's.
func (r *TimeRow) add(f Figure, sample, first *benchmath.Sample) {
	s := benchmath.AssumeNothing.Summary(sample, confidence)
	t := TimeFigure{Figure: f, Median: s.Center}
	if !math.IsInf(s.Lo, 0) && !math.IsInf(s.Hi, 0) {
		t.Interval = []float64{s.Lo, s.Hi}
	}
	warnings := s.Warnings
	if first != nil {
		c := benchmath.AssumeNothing.Compare(first, sample)
		t.Against = &Against{Delta: c.FormatDelta(r.Kernels[0].Median, t.Median), P: c.P, Text: c.String()}
		warnings = append(warnings, c.Warnings...)
	}
	for _, w := range warnings {
		t.Warnings = append(t.Warnings, w.Error())
	}
	r.Kernels = append(r.Kernels, t)
}

// spread is the interval around the median as benchstat shows it.
func (f TimeFigure) spread() string {
	if f.Interval == nil {
		return "± ∞"
	}
	return fmt.Sprintf("± %.1f%%", 100*max(f.Interval[1]/f.Median-1, 1-f.Interval[0]/f.Median))
}

// writeTimes writes the times for people: kernel by kernel, each against the
// first, and what makes them doubtful.
func writeTimes(w io.Writer, rows []TimeRow, doubts []string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "No time was measured.")
		return err
	}
	widest := slices.MaxFunc(rows, func(a, b TimeRow) int { return len(a.Kernels) - len(b.Kernels) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, unitTime+"\t")
	for i, f := range widest.Kernels {
		fmt.Fprintf(t, "%s\t\t", f.Kernel)
		if i > 0 {
			fmt.Fprintf(t, "against %s\t\t", widest.Kernels[0].Kernel)
		}
	}
	fmt.Fprintln(t)
	comparisons := 0
	warnings := slices.Clone(doubts)
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t", row.Bench)
		for _, f := range row.Kernels {
			fmt.Fprintf(t, "%.1f\t%s\t", f.Median, f.spread())
			if f.Against != nil {
				comparisons++
				fmt.Fprintf(t, "%s\t%s\t", f.Against.Delta, f.Against.Text)
			}
			for _, warning := range f.Warnings {
				if !slices.Contains(warnings, warning) {
					warnings = append(warnings, warning)
				}
			}
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nn boots each, a boot by the median of its windows; ± is the interval of their median at 95%%, p of a Mann-Whitney U test; ~: no difference shown.\n")
	alpha := benchmath.DefaultThresholds.CompareAlpha
	if chance := alpha * float64(comparisons); chance >= 0.5 {
		fmt.Fprintf(w, "Of %d comparisons of equal kernels, about %.0f would be called different by chance (p <= %g).\n", comparisons, chance, alpha)
	}
	for _, warning := range warnings {
		fmt.Fprintf(w, "Warning: %s.\n", warning)
	}
	return nil
}

// doubtsOf say what disturbed the boots of a run: time that the host took away,
// frequencies that moved, a host that was busy with other things.
func doubtsOf(b subjects.Bench, run *results.Run) []string {
	var steal, busy worst
	least, most := math.Inf(1), 0.0
	for _, c := range byProgram(b, run) {
		vcpus := 0.0
		for _, m := range c.Metrics {
			switch m.Name {
			case qemu.MetricPinned:
				vcpus++
			case qemu.MetricSteal:
				steal.add(c, m.Value, stealLimit)
			case qemu.MetricBusy:
				busy.add(c, m.Value-vcpus, busyLimit)
			case qemu.MetricFrequency:
				least, most = min(least, m.Value), max(most, m.Value)
			}
		}
	}
	var doubts []string
	if steal.over > 0 {
		doubts = append(doubts, fmt.Sprintf("%d of %d figures of steal are above %d%%, up to %.1f%% (%s): something else ran on the guest's processors", steal.over, steal.all, stealLimit, steal.most, steal.cell))
	}
	if busy.over > 0 {
		doubts = append(doubts, fmt.Sprintf("the host was busy during %d of %d boots, with up to %.1f processors beside the guest's (%s)", busy.over, busy.all, busy.most, busy.cell))
	}
	if most > least*frequencyLimit {
		doubts = append(doubts, fmt.Sprintf("the processors ran at %.0f to %.0f MHz: fix the frequency before believing small differences", least, most))
	}
	return doubts
}

// worst finds the cell with the most of something.
type worst struct {
	all, over int
	most      float64
	cell      string
}

func (w *worst) add(c results.Cell, value, limit float64) {
	w.all++
	if value > limit {
		w.over++
	}
	if value > w.most {
		w.most, w.cell = value, fmt.Sprintf("%s on %s, boot %d", c.Program, c.Kernel, c.Iteration)
	}
}
