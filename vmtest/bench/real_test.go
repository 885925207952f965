package bench

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"patchproof/results"
	"patchproof/vmtest"
)

// measure is make bench BENCH=nop with some variables, up to the record.
func measure(t *testing.T, vars map[string]string) *results.Run {
	t.Helper()
	sel, err := vmtest.FromEnv(func(name string) string {
		if value, ok := vars[name]; ok {
			return value
		}
		switch name {
		case "CACHE", "KERNEL_SRC", "JOBS":
			return os.Getenv(name)
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	if sel.Run, err = Programs(rfc(t), []string{"nop"}, Insns); err != nil {
		t.Fatal(err)
	}
	plan, err := vmtest.Prepare(t.Context(), sel, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := plan.Run(t.Context(), func(c results.Cell) {
		t.Logf("%s on %s: %s, %.1f s %s", c.Program, c.Kernel, c.Verdict, c.WallS, c.Reason)
	})
	if err != nil {
		t.Fatal(err)
	}
	run, err := results.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// agreement is how far two runs of one kernel may be apart, as a part, from this
// batch size on.
const (
	agreement = 0.0002
	fromBatch = 16
)

// figuresOf are the instructions per NOP of a kernel, for batches that are large
// enough.
func figuresOf(t *testing.T, run *results.Run, kernel string) map[string]float64 {
	figures := map[string]float64{}
	for _, row := range Rows(rfc(t), run) {
		if !strings.HasPrefix(row.Bench, "Nop/batch=") || slices.Contains([]string{"1", "2", "8"}, strings.TrimPrefix(row.Bench, "Nop/batch=")) {
			continue
		}
		for _, f := range row.Kernels {
			if f.Kernel == kernel {
				figures[row.Bench] = f.Value()
			}
		}
	}
	return figures
}

// TestOneInstruction measures base in two runs, and in the first of them base with
// one instruction more on the way of a NOP.
func TestOneInstruction(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and boots kernels")
	}
	patch, err := filepath.Abs("testdata/one-instruction.patch")
	if err != nil {
		t.Fatal(err)
	}
	first := measure(t, map[string]string{"PATCH": patch, "COUNT": "2"})
	second := measure(t, map[string]string{"KERNELS": "base"})

	base, again, more := figuresOf(t, first, "base"), figuresOf(t, second, "base"), figuresOf(t, first, "patched")
	if len(base) == 0 {
		t.Fatal("nothing was measured")
	}
	for bench, insns := range base {
		if apart := math.Abs(again[bench]/insns - 1); !(apart <= agreement) {
			t.Errorf("%s from batch %d on: two runs of base give %.3f and %.3f, %.4f%% apart; want at most %.2f%%", bench, fromBatch, insns, again[bench], 100*apart, 100*agreement)
		}
		if delta := more[bench] - insns; math.Abs(delta-1) > 0.2 {
			t.Errorf("%s: one instruction more makes %+.3f (%.3f, then %.3f); want +1", bench, delta, insns, more[bench])
		}
	}
	for _, row := range Rows(rfc(t), first) {
		if base[row.Bench] != 0 && !strings.HasPrefix(row.difference(), "+") {
			t.Errorf("%s: difference %s; want it shown, with a plus", row.Bench, row.difference())
		}
	}

	t.Run("attribution", func(t *testing.T) { testAttribution(t, first) })
	t.Run("benchstat", func(t *testing.T) { testBenchstat(t, first) })
}

// testAttribution checks that the instruction is found where it was put: io_nop is
// inlined, and what is inlined counts where it ends up.
func testAttribution(t *testing.T, run *results.Run) {
	all, err := attribute(rfc(t), run)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(a Attribution) bool { return a.Bench == "Nop/batch=128" })
	if i < 0 {
		t.Fatal("no attribution of Nop/batch=128")
	}
	a := all[i]
	for k, kernel := range a.Kernels {
		sum := func(shares []Share) (total float64) {
			for _, s := range shares {
				total += s.Insns[k]
			}
			return total
		}
		if parts, functions := sum(a.Parts), sum(a.Functions); math.Abs(parts-functions) > 1e-6 {
			t.Errorf("%s: the parts add up to %.3f, the functions to %.3f", kernel, parts, functions)
		}
	}
	if s := a.Functions[0]; s.Name != "io_issue_sqe" || math.Abs(s.delta()-1) > 0.2 {
		t.Errorf("the greatest difference is %+.3f of %s; want +1 of io_issue_sqe", s.delta(), s.Name)
	}
	part := a.Parts[slices.Index(partNames(rfc(t).Parts), "io_uring")]
	if math.Abs(part.delta()-1) > 0.2 {
		t.Errorf("io_uring's part differs by %+.3f; want +1", part.delta())
	}
}

// testBenchstat has the command itself read what is written for it.
func testBenchstat(t *testing.T, run *results.Run) {
	dir := t.TempDir()
	args := []string{"tool", "benchstat"}
	for _, k := range run.Kernels {
		var text bytes.Buffer
		if err := writeBenchfmt(&text, run, k, Rows(rfc(t), run)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, k.Name)
		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, k.Name+"="+file)
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("benchstat: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Nop/batch=128") && strings.Contains(line, "+0.17%") {
			return
		}
	}
	t.Errorf("benchstat does not show Nop/batch=128 at +0.17%%:\n%s", out)
}
