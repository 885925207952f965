package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/counter"
)

// measurement is what a run of two kernels, twice each, measured of some programs.
type measurement struct {
	instrument Instrument
	// vmlinux is where the machine has its kernels.
	vmlinux string
	change  func(*results.Run)
	lose    string
}

var benchPrograms = []string{"bench-nop", "bench-file", "bench-nvme"}

// record writes it as the runner does: the part of a plan, or all of it.
func (m measurement) record(t *testing.T, part *results.Shard) string {
	t.Helper()
	run := results.Run{
		Harness: "0123", Shard: part, QEMU: "7.2.22", Accel: results.Accel{Name: "tcg"},
		Selection: map[string]string{"INSTRUMENT": string(m.instrument), "COUNT": "2"},
		Host:      results.Host{CPU: "a processor", CPUs: 2},
	}
	if m.instrument == Time {
		run.Accel.Name = "kvm"
	}
	if part != nil {
		run.Selection["SHARD"] = fmt.Sprintf("%d/%d", part.Index, part.Of)
	}
	for _, name := range []string{"base", "posted"} {
		run.Kernels = append(run.Kernels, results.Kernel{Name: name, Pin: "v5.10.13", Variant: "plain", Tree: "tree of " + name, Vmlinux: m.vmlinux})
	}
	if m.change != nil {
		m.change(&run)
	}
	w, err := results.Create(filepath.Join(t.TempDir(), "out"), run)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range plannedCells() {
		if part != nil && part.Plan[i].Shard != part.Index {
			continue
		}
		c := m.cell(i, p)
		for name, text := range map[string]string{c.Console: "booted\n", c.Counts(): "at 400000 512\nwindow 0 600\nwindow 0 601\nnext\n"} {
			if name == m.lose || name == c.Counts() && m.instrument == Time {
				continue
			}
			if err := os.WriteFile(filepath.Join(w.Dir(), name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(results.Finished); err != nil {
		t.Fatal(err)
	}
	return w.Dir()
}

// cell has figures that no other has.
func (m measurement) cell(i int, p results.Planned) results.Cell {
	labels := map[string]string{counter.LabelBench: p.Program + "/batch=32", "windows": "2"}
	c := results.Cell{
		Kernel: p.Kernel, Variant: p.Variant, Program: p.Program, Iteration: p.Iteration, Verdict: event.Pass, Expected: true,
		Console: fmt.Sprintf("%s-%s-%d.log", p.Kernel, p.Program, p.Iteration),
		Metrics: []event.Metric{{Name: counter.MetricOps, Value: 32, Unit: "ops/window", Labels: labels}},
	}
	if m.instrument == Time {
		c.Metrics = append(c.Metrics, event.Metric{Name: metricTime, Value: 100 + float64(i), Unit: unitTime, Labels: labels})
	} else {
		c.Metrics = append(c.Metrics, event.Metric{Name: counter.MetricInsns, Value: 600 + float64(i), Unit: counter.UnitInsns, Labels: labels})
	}
	return c
}

// plannedCells are in the order of a plan, whose programs are shared out as the harness does.
func plannedCells() []results.Planned {
	var plan []results.Planned
	for iteration := 1; iteration <= 2; iteration++ {
		for _, program := range benchPrograms {
			for _, kernel := range []string{"base", "posted"} {
				plan = append(plan, results.Planned{Kernel: kernel, Variant: "plain", Program: program, Iteration: iteration})
			}
		}
	}
	return plan
}

func (m measurement) shards(t *testing.T, of int) []string {
	t.Helper()
	part := vmtest.Balance(make([]float64, len(benchPrograms)), of)
	plan := plannedCells()
	for i, p := range plan {
		plan[i].Shard = part[slices.Index(benchPrograms, p.Program)]
	}
	var dirs []string
	for index := 1; index <= of; index++ {
		dirs = append(dirs, m.record(t, &results.Shard{Index: index, Of: of, Plan: plan}))
	}
	return dirs
}

// said is what is said of a run, and written beside it, but for its name.
func (m measurement) said(t *testing.T, run *results.Run) map[string]string {
	t.Helper()
	var out bytes.Buffer
	report := Report
	if m.instrument == Time {
		report = ReportTimes
	}
	if err := report(&out, rfc(t), run); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{"printed": out.String()}
	for _, name := range []string{"bench.json", "base.bench.txt", "posted.bench.txt"} {
		text, err := os.ReadFile(filepath.Join(run.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		said[name] = string(text)
	}
	for name, text := range said {
		said[name] = strings.NewReplacer(run.Dir, "DIR", run.ID, "ID").Replace(text)
	}
	return said
}

// anySymbols is a program, in place of a kernel, that has symbols.
func anySymbols(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vmlinux")
	cmd := exec.Command("gcc", "-x", "c", "-o", path, "-")
	cmd.Stdin = strings.NewReader("int main(void) { return 0; }")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return path
}

func mergeShards(root string, dirs []string) (*results.Run, error) {
	shards, err := results.ReadShards(dirs)
	if err != nil {
		return nil, err
	}
	return shards.Write(root, nil)
}

// However a measurement is shared out, the figures are those of one machine, and so is where they
// come from, if the kernels are there.
func TestMergedFigures(t *testing.T) {
	vmlinux := anySymbols(t)
	for _, m := range []measurement{
		{instrument: Insns, vmlinux: vmlinux},
		{instrument: Insns, vmlinux: "/elsewhere/vmlinux"},
		{instrument: Time, vmlinux: "/elsewhere/vmlinux"},
	} {
		one, err := results.Read(m.record(t, nil))
		if err != nil {
			t.Fatal(err)
		}
		want := m.said(t, one)
		if told := strings.Contains(want["printed"], "kernel base has no /elsewhere/vmlinux here"); told != (m.instrument == Insns && m.vmlinux != vmlinux) {
			t.Errorf("%s on the kernels %s: that they are not here is told: %v\n%s", m.instrument, m.vmlinux, told, want["printed"])
		}
		if explained := strings.Contains(want["bench.json"], "functions"); explained != (m.vmlinux == vmlinux) {
			t.Errorf("%s on the kernels %s: functions in bench.json: %v", m.instrument, m.vmlinux, explained)
		}
		for _, of := range []int{1, 2, 3, 5} {
			merged, err := mergeShards(t.TempDir(), m.shards(t, of))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, m.said(t, merged)); diff != "" {
				t.Errorf("%s in %d shards (-one run +merged):\n%s", m.instrument, of, diff)
			}
			if merged.ExitCode() != one.ExitCode() {
				t.Errorf("%s in %d shards ends with %d; want %d", m.instrument, of, merged.ExitCode(), one.ExitCode())
			}
		}
	}
}

func TestMergedFiguresRefused(t *testing.T) {
	m := measurement{instrument: Insns, vmlinux: "/elsewhere/vmlinux"}
	other := func(o measurement) func(*testing.T, []string) []string {
		return func(t *testing.T, dirs []string) []string {
			o.vmlinux = m.vmlinux
			return append(dirs[:2], o.shards(t, 3)[2])
		}
	}
	changed := func(change func(*results.Run)) func(*testing.T, []string) []string {
		return other(measurement{instrument: Insns, change: change})
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dirs []string) []string
		want   string
	}{
		{"a part is missing", func(_ *testing.T, dirs []string) []string { return dirs[:2] }, "shard 3 of 3 is missing, with 4 cells: base/plain/bench-nvme, ..."},
		{"a part of other shards", func(t *testing.T, dirs []string) []string { return append(dirs[:2], m.shards(t, 2)...) }, "the number of shards, 3 and 2"},
		{"another instrument", other(measurement{instrument: Time}), "the accelerator, tcg and kvm"},
		{"another instrument, without saying how it ran", changed(func(r *results.Run) { r.Selection["INSTRUMENT"] = "time" }), "INSTRUMENT, insns and time"},
		{"another number of boots", changed(func(r *results.Run) { r.Selection["COUNT"] = "6" }), "COUNT, 2 and 6"},
		{"another commit of patchproof", changed(func(r *results.Run) { r.Harness = "4567" }), "patchproof (harness), 0123 and 4567"},
		{"another kernel", changed(func(r *results.Run) { r.Kernels[1].Tree = "beef" }), "the source (tree) of posted/plain, tree of posted and beef"},
		{"another config", changed(func(r *results.Run) { r.Kernels[1].ConfigHash = "beef" }), "the config of posted/plain, none and beef"},
		{"a console is lost", other(measurement{instrument: Insns, lose: "base-bench-nvme-1.log"}), "base-bench-nvme-1.log, which is not there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "out")
			_, err := mergeShards(root, tt.change(t, m.shards(t, 3)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the merge = %v; want %q", err, tt.want)
			}
			if left, _ := os.ReadDir(root); len(left) > 0 {
				t.Errorf("the merge that was refused left %v", left)
			}
		})
	}
	// Counts that were lost on the way are no reason to say nothing about the rest, nor to be silent.
	vmlinux := anySymbols(t)
	lost := measurement{instrument: Insns, vmlinux: vmlinux, lose: "base-bench-nvme-1.counts"}
	merged, err := mergeShards(t.TempDir(), lost.shards(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	if err := Report(&bytes.Buffer{}, rfc(t), merged); err == nil || !strings.Contains(err.Error(), lost.lose) {
		t.Errorf("Report = %v; want that %s is not there", err, lost.lose)
	}
}
