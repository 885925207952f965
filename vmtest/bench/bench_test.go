package bench

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/counter"
)

// measured is a cell with one workload.
// rfc is what the first subject declares to be measured.
func rfc(t *testing.T) subjects.Bench {
	t.Helper()
	s, err := kernel.NamedSubject("io_kiocb-alloc-cache")
	if err != nil {
		t.Fatal(err)
	}
	return s.Bench
}

func measured(kernel string, boot int, insns float64) results.Cell {
	labels := map[string]string{counter.LabelBench: "Nop/batch=32", "windows": "51"}
	return results.Cell{Kernel: kernel, Program: "bench-nop", Iteration: boot, Verdict: event.Pass, Metrics: []event.Metric{
		{Name: counter.MetricOps, Value: 1024, Unit: "ops/window", Labels: labels},
		{Name: counter.MetricInsns, Value: insns, Unit: counter.UnitInsns, Labels: labels},
	}}
}

func run(cells ...results.Cell) *results.Run {
	return &results.Run{QEMU: "7.2", Kernels: []results.Kernel{{Name: "base", Pin: "v1"}, {Name: "posted", Pin: "v1"}}, Cells: cells}
}

func TestTable(t *testing.T) {
	tests := []struct {
		name         string
		base, posted []float64
		want         string // the last columns
	}{
		{"one boot", []float64{600}, []float64{540}, "-10.00% one boot"},
		{"agreeing boots", []float64{600, 600}, []float64{540, 540}, "-10.00% the instruction"},
		{"boots that differ less than the kernels", []float64{600, 600.6}, []float64{540, 540}, "-10.00% 0.100%"},
		{"boots that differ more", []float64{600, 660}, []float64{610, 610}, "~ 10.000%"},
		{"boots that differ half as much", []float64{600, 606}, []float64{588, 588}, "~ 1.000%"},
		{"no difference", []float64{600, 600}, []float64{600, 600}, "~ the instruction"},
	}
	for _, tc := range tests {
		var cells []results.Cell
		for i := range tc.base {
			cells = append(cells, measured("posted", i+1, tc.posted[i]), measured("base", i+1, tc.base[i]))
		}
		var out bytes.Buffer
		if err := writeTables(&out, Rows(rfc(t), run(cells...))); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		got := strings.Join(strings.Fields(lines[len(lines)-1])[3:], " ")
		if got != tc.want {
			t.Errorf("%s: row ends %q; want %q", tc.name, got, tc.want)
		}
	}
}

func TestMedianAndMemory(t *testing.T) {
	labels := map[string]string{counter.LabelBench: "NopLinked/batch=320", "windows": "51", counter.LabelFigure: counter.FigureMedian}
	held := map[string]string{counter.LabelBench: "Memory/at=rest/cpu=0"}
	cell := results.Cell{Kernel: "base", Program: "bench-nop", Iteration: 1, Verdict: event.Pass, Metrics: []event.Metric{
		{Name: counter.MetricOps, Value: 5120, Unit: "ops/window", Labels: labels},
		{Name: counter.MetricInsns, Value: 700, Unit: counter.UnitInsns, Labels: labels},
		{Name: counter.MetricInsnsMedian, Value: 750, Unit: counter.UnitInsns, Labels: labels},
		{Name: counter.MetricSlabObjects, Value: 289, Unit: "objects", Labels: held},
		{Name: counter.MetricSlabBytes, Value: 94208, Unit: "B", Labels: held},
	}}
	var out bytes.Buffer
	if err := writeTables(&out, Rows(rfc(t), run(cell))); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		if fields := strings.Fields(line); len(fields) > 0 {
			got = append(got, strings.Join(fields, " "))
		}
	}
	want := []string{
		"insns/op base boots agree to", "NopLinked/batch=320 750.00 one boot",
		"objects base boots agree to", "Memory/at=rest/cpu=0 289 one boot",
		"B base boots agree to", "Memory/at=rest/cpu=0 94208 one boot",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}

func TestBenchfmtIsReadable(t *testing.T) {
	r := run(measured("base", 1, 602.312), measured("base", 2, 602.312), measured("posted", 1, 541.28))
	var out bytes.Buffer
	if err := writeBenchfmt(&out, r, r.Kernels[0], Rows(rfc(t), r)); err != nil {
		t.Fatal(err)
	}
	const line = "BenchmarkNop/batch=32 52224 602.312 insns/op"
	var got []string
	for l := range strings.Lines(out.String()) {
		if strings.HasPrefix(l, "Benchmark") {
			got = append(got, strings.Join(strings.Fields(l), " "))
		}
	}
	if diff := cmp.Diff([]string{line, line}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s\nof\n%s", diff, out.String())
	}
}

func TestParts(t *testing.T) {
	s := symbols{
		{start: 1<<63 + 0x100, name: "io_submit_sqes", file: "io_uring.c"},
		{start: 1<<63 + 0x200, name: "kmem_cache_alloc"},
		{start: 1<<63 + 0x300, name: "entry_SYSCALL_64"},
		{start: 1<<63 + 0x400, name: "schedule"},
	}
	for addr, want := range map[uint64]string{
		0x400000: "(user) user", 1<<63 + 0x100: "io_submit_sqes io_uring", 1<<63 + 0x1ff: "io_submit_sqes io_uring",
		1<<63 + 0x210: "kmem_cache_alloc slab", 1<<63 + 0x300: "entry_SYSCALL_64 entry", 1<<63 + 0x999: "schedule other",
		1<<63 + 1: "(unknown) other",
	} {
		f := s.at(addr)
		if got := f.name + " " + f.part(rfc(t).Parts); got != want {
			t.Errorf("at(%#x) = %s; want %s", addr, got, want)
		}
	}
}

func TestUnknownGroup(t *testing.T) {
	if _, err := Programs(rfc(t), []string{"nope"}, Insns); err == nil || !strings.Contains(err.Error(), "known: nop, file, nvme") {
		t.Errorf("Programs(nope) = %v; want the known names", err)
	}
}
