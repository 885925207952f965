package bench

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/results"
	"patchproof/vmtest/counter"
	"patchproof/vmtest/qemu"
)

// timed is a cell that measured one workload.
func timed(kernel string, boot int, ns float64, more ...event.Metric) results.Cell {
	labels := map[string]string{counter.LabelBench: "Nop/batch=32", "windows": "21"}
	return results.Cell{Kernel: kernel, Program: "bench-nop", Iteration: boot, Verdict: event.Pass, Metrics: append([]event.Metric{
		{Name: counter.MetricOps, Value: 1024, Unit: "ops/window", Labels: labels},
		{Name: metricTime, Value: ns, Unit: unitTime, Labels: labels},
		// What one window took must not count as a boot.
		{Name: "time-window", Value: 1, Unit: unitTime, Labels: labels},
	}, more...)}
}

func timedRun(base, posted []float64) *results.Run {
	var cells []results.Cell
	for i, ns := range base {
		cells = append(cells, timed("base", i+1, ns))
	}
	for i, ns := range posted {
		cells = append(cells, timed("posted", i+1, ns))
	}
	return run(cells...)
}

func TestTimes(t *testing.T) {
	tests := []struct {
		name         string
		base, posted []float64
		want         string // the row behind its name
		warning      string
	}{
		{
			name: "a difference", base: []float64{101, 100, 102, 99, 100, 98}, posted: []float64{90, 91, 89, 92, 90, 88},
			want: "100.0 ± 2.0% 90.0 ± 2.2% -10.00% p=0.002 n=6",
		}, {
			name: "slower", base: []float64{90, 91, 89, 92, 90, 88}, posted: []float64{101, 100, 102, 99, 100, 98},
			want: "90.0 ± 2.2% 100.0 ± 2.0% +11.11% p=0.002 n=6",
		}, {
			name: "noise", base: []float64{101, 100, 102, 99, 100, 98}, posted: []float64{99, 97, 103, 104, 96, 95},
			want: "100.0 ± 2.0% 98.0 ± 6.1% ~ p=0.524 n=6",
		}, {
			name: "too few boots to show even a great difference", base: []float64{100, 101, 102}, posted: []float64{50, 51, 52},
			want: "101.0 ± ∞ 51.0 ± ∞ ~ p=0.100 n=3", warning: "need >= 4 samples to detect a difference",
		}, {
			name: "enough for a difference and too few for an interval", base: []float64{100, 101, 102, 103}, posted: []float64{50, 51, 52, 53},
			want: "101.5 ± ∞ 51.5 ± ∞ -49.26% p=0.029 n=4", warning: "need >= 6 samples for confidence interval",
		}, {
			name: "one boot each", base: []float64{100}, posted: []float64{50},
			want: "100.0 ± ∞ 50.0 ± ∞ ~ p=1.000 n=1", warning: "need >= 4 samples to detect a difference",
		}, {
			name: "the same", base: []float64{100, 100, 100, 100, 100, 100}, posted: []float64{100, 100, 100, 100, 100, 100},
			want: "100.0 ± 0.0% 100.0 ± 0.0% ~ p=1.000 n=6", warning: "all samples are equal",
		}, {
			name: "a boot was lost", base: []float64{101, 100, 102, 99, 100, 98}, posted: []float64{90, 91, 89, 92, 90},
			want: "100.0 ± 2.0% 90.0 ± ∞ -10.00% p=0.004 n=6+5", warning: "need >= 6 samples for confidence interval",
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := writeTimes(&out, TimeRows(rfc(t), timedRun(tc.base, tc.posted)), nil); err != nil {
				t.Fatal(err)
			}
			row := strings.Split(out.String(), "\n")[1]
			if got := strings.TrimPrefix(strings.Join(strings.Fields(row), " "), "Nop/batch=32 "); got != tc.want {
				t.Errorf("row %q; want %q", got, tc.want)
			}
			if tc.warning == "" && strings.Contains(out.String(), "Warning") || !strings.Contains(out.String(), tc.warning) {
				t.Errorf("warnings of\n%s\nwant %q", out.String(), tc.warning)
			}
		})
	}
}

func TestTimesOfOneKernel(t *testing.T) {
	var out bytes.Buffer
	if err := writeTimes(&out, TimeRows(rfc(t), timedRun([]float64{101, 100, 102, 99, 100, 98}, nil)), nil); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "100.0  ± 2.0%") || strings.Contains(text, "against") {
		t.Errorf("the table compares one kernel with itself:\n%s", text)
	}
}

func TestTimeBenchfmtIsReadable(t *testing.T) {
	r := timedRun([]float64{101.25, 99}, []float64{90})
	var out bytes.Buffer
	if err := writeBenchfmt(&out, r, r.Kernels[0], Rows(rfc(t), r)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for l := range strings.Lines(out.String()) {
		if strings.HasPrefix(l, "Benchmark") {
			got = append(got, strings.TrimSpace(l))
		}
	}
	want := []string{"BenchmarkNop/batch=32 21504 99 ns/op", "BenchmarkNop/batch=32 21504 101.25 ns/op"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestDoubts(t *testing.T) {
	from := func(who string) map[string]string { return map[string]string{qemu.LabelFrom: who} }
	quiet := []event.Metric{
		{Name: qemu.MetricPinned, Value: 3, Labels: from("host")},
		{Name: qemu.MetricSteal, Value: 0.4, Labels: from("host")},
		{Name: qemu.MetricSteal, Value: 0, Labels: from("guest")},
		{Name: qemu.MetricBusy, Value: 1.2, Labels: from("host")},
		{Name: qemu.MetricFrequency, Value: 3000, Labels: from("host")},
		{Name: qemu.MetricFrequency, Value: 3020, Labels: from("host")},
	}
	tests := []struct {
		name   string
		second event.Metric // of the second boot, beside the quiet ones
		want   []string     // parts of the doubts
	}{
		{name: "nothing"},
		{"steal", event.Metric{Name: qemu.MetricSteal, Value: 4.25}, []string{"up to 4.2% (bench-nop on posted, boot 1)"}},
		{"load", event.Metric{Name: qemu.MetricBusy, Value: 3}, []string{"1 of 3 boots, with up to 2.0 processors"}},
		{"turbo", event.Metric{Name: qemu.MetricFrequency, Value: 3400}, []string{"3000 to 3400 MHz"}},
	}
	for _, tc := range tests {
		posted := quiet
		if tc.second.Name != "" {
			posted = append(quiet[:len(quiet):len(quiet)], tc.second)
		}
		got := doubtsOf(rfc(t), run(timed("base", 1, 100, quiet...), timed("posted", 1, 100, posted...)))
		if len(got) != len(tc.want) {
			t.Errorf("%s: doubts %q; want %d", tc.name, got, len(tc.want))
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: doubt %q; want %q in it", tc.name, got[i], want)
			}
		}
	}
}
