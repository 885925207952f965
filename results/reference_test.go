package results

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

// referenceRun has all that a reference keeps: a known issue, a skip, a figure, and a
// race that may fail.
func referenceRun() *Run {
	r := told(knownIssues())
	r.Kernels[1].PatchIDs = []string{"c0ffee", "beef"}
	race := knownIssue(check("sqpoll", event.Fail, "seen once"), "a race")
	race.MayFail = true
	r.Cells = append(r.Cells, cellOf("base", "race", check("runs", event.Pass, ""), race))
	cost := cellOf("posted", "cost", check("flat", event.Pass, ""))
	cost.Metrics = []event.Metric{
		{Name: "cost", Value: 496.12, Unit: unitInsns, Labels: map[string]string{"op": "NOP", "in_flight": "256"}},
		{Name: "stage", Value: 3.5, Unit: "s"},
	}
	r.Cells = append(r.Cells, cost)
	return r
}

func TestReferenceGolden(t *testing.T) {
	dir := t.TempDir()
	refs, err := NewReference(referenceRun())
	if err != nil || len(refs) != 1 {
		t.Fatalf("NewReference = %d references, %v; want one", len(refs), err)
	}
	path, err := refs[0].Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(path) != "v5.10.13-plain.toml" {
		t.Errorf("the file is %s", path)
	}
	golden(t, "reference", string(text))
}

// Of several programs that no reference can be made of, it is the first that is named.
func TestReferenceNamesTheFirst(t *testing.T) {
	r := referenceRun()
	for i := range r.Cells {
		r.Cells[i].Expected = false
	}
	for range 10 {
		if _, err := NewReference(r); err == nil || !strings.HasPrefix(err.Error(), "pass of cpuoffline on base was not expected") {
			t.Fatalf("NewReference = %v", err)
		}
	}
}

// A run of one kernel renews what is written of that one.
func TestReferenceKeepsOthers(t *testing.T) {
	dir := t.TempDir()
	of := func(accel string, kernels ...string) *Reference {
		ref := &Reference{Pin: "v1", Variant: "plain", Accel: accel, Kernels: map[string]ReferenceKernel{}}
		for _, name := range kernels {
			ref.Kernels[name] = ReferenceKernel{Patches: []string{}, Programs: map[string]string{"nop": accel + strings.Join(kernels, "+")}}
		}
		return ref
	}
	for _, step := range []struct {
		ref  *Reference
		want map[string]string
	}{
		{of("tcg", "base", "a"), map[string]string{"base": "tcgbase+a", "a": "tcgbase+a"}},
		{of("tcg", "a", "b"), map[string]string{"base": "tcgbase+a", "a": "tcga+b", "b": "tcga+b"}},
		{of("kvm", "b"), map[string]string{"b": "kvmb"}},
	} {
		path, err := step.ref.Write(dir)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := readReference(path)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for name, k := range ref.Kernels {
			got[name] = k.Programs["nop"]
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("kernels (-want +got):\n%s", diff)
		}
	}
}

func TestSinceReference(t *testing.T) {
	dir := t.TempDir()
	refs, err := NewReference(referenceRun())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := refs[0].Write(dir); err != nil {
		t.Fatal(err)
	}
	last := func(r *Run) *Cell { return &r.Cells[len(r.Cells)-1] }
	for _, tt := range []struct {
		name   string
		change func(r *Run)
		want   string
	}{
		{"the same", func(*Run) {}, "10 cells as in the reference results of v5.10.13, plain.\n"},
		{"a race that passes this time", func(r *Run) {
			c := &r.Cells[len(r.Cells)-2]
			c.Checks[1].Verdict, c.Verdict = event.Pass, event.Pass
		}, "as in the reference"},
		{"a figure within bounds", func(r *Run) { last(r).Metrics[0].Value *= 1.005 }, "as in the reference"},
		{"a figure beyond them", func(r *Run) { last(r).Metrics[0].Value *= 1.02 },
			"Different from the reference results of v5.10.13, plain:\n  cost/cost in_flight=256 op=NOP: 496.1 -> 506.0 insns/op on posted\n"},
		{"a time", func(r *Run) { last(r).Metrics[1].Value *= 7 }, "as in the reference"},
		{"a check that fails now", func(r *Run) {
			last(r).Checks[0].Verdict, last(r).Verdict = event.Fail, event.Fail
		}, "  cost: pass -> fail on posted\n  cost/flat: pass -> fail on posted\n"},
		{"a known issue that is gone", func(r *Run) {
			for i := range r.Cells {
				if c := &r.Cells[i]; c.Program == "fdinfo" && c.Kernel == "posted" {
					c.Checks[2] = check("bounds", event.Pass, "")
				}
			}
		}, "  fdinfo/bounds: fail, a known issue -> pass on posted\n"},
		{"another CPU complains too", func(r *Run) {
			last(r).Checks = append(last(r).Checks, knownIssue(check("console 2", event.Crash, "general protection fault"), "a race"))
		}, "as in the reference"},
		{"another CPU complains of what is not declared", func(r *Run) {
			last(r).Checks = append(last(r).Checks, check("console 2", event.Crash, "general protection fault"))
		}, "  cost/console 2: pass -> crash on posted\n"},
		{"other patches", func(r *Run) { r.Kernels[1].PatchIDs = []string{"c0ffee"} }, "5 cells as in the reference results of v5.10.13, plain.\n"},
		{"another pin", func(r *Run) { r.Kernels[0].Pin, r.Kernels[1].Pin = "for-5.8", "for-5.8" }, ""},
		{"another variant", func(r *Run) { r.Kernels[0].Variant, r.Kernels[1].Variant = "debug", "debug" }, ""},
		{"another accelerator", func(r *Run) { r.Accel.Name = "kvm" }, "10 cells as in the reference results of v5.10.13, plain (under tcg, this run under kvm)"},
		{"a program more", func(r *Run) { r.Cells = append(r.Cells, cellOf("base", "new", check("new", event.Fail, ""))) }, "10 cells as"},
		{"not judged", func(r *Run) { last(r).Verdict = event.Error }, "9 cells as"},
		{"nothing ran", func(r *Run) { r.Cells = nil }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := referenceRun()
			tt.change(r)
			got, err := SinceReference(dir, r)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("SinceReference = %q; want %q", got, tt.want)
			}
		})
	}
}

func TestNewReferenceRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *Run)
		want   string
	}{
		{"not finished", func(r *Run) { r.Status = Interrupted }, "did not finish"},
		{"not judged", func(r *Run) { r.Cells[0].Verdict, r.Cells[0].Expected = event.Error, false }, "error of nop on base was not expected"},
		{"unexpected", func(r *Run) { r.Cells[0].Verdict, r.Cells[0].Expected = event.Crash, false }, "crash of nop on base was not expected"},
		{"iterations disagree", func(r *Run) {
			r.Cells = append(r.Cells, cellOf("posted", "cost", knownIssue(check("flat", event.Fail, ""), "why")))
		}, "runs of cost on posted disagree: cost: pass -> fail"},
		{"figures disagree", func(r *Run) {
			c := cellOf("posted", "cost", check("flat", event.Pass, ""))
			c.Metrics = []event.Metric{{Name: "cost", Value: 600, Unit: unitInsns, Labels: map[string]string{"op": "NOP", "in_flight": "256"}}}
			r.Cells = append(r.Cells, c)
		}, "disagree: cost/cost in_flight=256 op=NOP: 496.1 -> 600.0"},
		{"a kernel that did not run", func(r *Run) { r.Kernels = append(r.Kernels, Kernel{Name: "fixed"}) }, "nothing ran on fixed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := referenceRun()
			tt.change(r)
			if _, err := NewReference(r); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewReference = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

// store writes runs below a new root, the oldest first.
func store(t *testing.T, runs ...*Run) string {
	t.Helper()
	root := t.TempDir()
	for _, r := range runs {
		cells, kernels := r.Cells, r.Kernels
		r.Kernels = nil
		w, err := Create(root, *r)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kernels {
			if err := w.AddKernel(k); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range cells {
			if err := w.Add(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestTrendGolden(t *testing.T) {
	older, newer, kvm := counted(told(asIs())), counted(told(asIs())), counted(told(asIs()))
	newer.Started = newer.Started.AddDate(0, 0, 1)
	newer.Kernels[1].Tree = "3333"
	kvm.Started, kvm.Accel.Name = kvm.Started.AddDate(0, 0, 2), "kvm"
	for i := range newer.Cells {
		for n := range newer.Cells[i].Metrics {
			newer.Cells[i].Metrics[n].Value += 7
		}
		kvm.Cells[i].WallS = 1.5
	}
	root := store(t, older, newer, kvm)
	if err := os.MkdirAll(filepath.Join(root, "20260399-no-run"), 0o755); err != nil {
		t.Fatal(err)
	}
	runs := slices.Collect(Newest(root))
	slices.Reverse(runs)
	golden(t, "trend", TrendTable(Trend(runs, "insns bench=Nop/batch=32"))+TrendTable(Trend(runs, "wall_s"))[:400])
	if n := len(Trend(runs, benchMetric)); n != 6 {
		t.Errorf("Trend by name has %d series; want 3 workloads of 2 kernels", n)
	}
	if all := Trend(runs, "nothing"); len(all) != 0 {
		t.Errorf("Trend of an unknown metric = %+v", all)
	}
}

func TestTook(t *testing.T) {
	older, newer := told(asIs()), told(asIs())
	newer.Started = newer.Started.AddDate(0, 0, 1)
	for i := range older.Cells {
		older.Cells[i].WallS, newer.Cells[i].WallS = 5, 7
	}
	newer.Cells = newer.Cells[1:]
	newer.Cells[0].Verdict = event.Error
	took := Took(store(t, older, newer))
	for _, tt := range []struct {
		kernel, program string
		want            float64
	}{{"base", "nop", 5}, {"base", "cpuoffline", 5}, {"base", "fixedfile", 7}, {"base", "other", 0}, {"posted", "nop", 7}} {
		if got := took(tt.kernel, "plain", tt.program); got != tt.want {
			t.Errorf("%s on %s took %g; want %g", tt.program, tt.kernel, got, tt.want)
		}
	}
}
