package results

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

// storedRun is a run of one program on one kernel, a cell for each of the verdicts that its check
// "a" came out with.
func storedRun(n int, verdicts ...event.Verdict) *Run {
	r := &Run{
		ID: fmt.Sprintf("run-%02d", n), Status: Finished, Started: time.Unix(int64(n)*1000, 0), Titles: TitleRules,
		Accel: Accel{Name: "tcg"}, Kernels: []Kernel{{Name: "base", Variant: "plain", Tree: "t1"}},
	}
	for i, v := range verdicts {
		c := cellOf("base", "nop", check("a", v, ""), check("b", event.Pass, ""))
		c.Iteration, c.Version, c.WallS = i+1, "v1", float64(n)+float64(i)/100
		r.Cells = append(r.Cells, c)
	}
	return r
}

// A rate is over runs of the same kernel, the same program and the same accelerator, each counted once.
func TestFlakes(t *testing.T) {
	const pass, fail, hang, crash, skip = event.Pass, event.Fail, event.Hang, event.Crash, event.Skip
	older := func(change func(*Run), verdicts ...event.Verdict) *Run {
		r := storedRun(1, verdicts...)
		change(r)
		return r
	}
	complains := func(n int, title string) *Run {
		r := storedRun(n, pass)
		c := &r.Cells[0]
		c.Checks = append(c.Checks, unexpected(check("console", crash, title+"\n\nand a stack")))
		c.Verdict, c.Expected = crash, false
		return r
	}
	both := []string{"nop fails 1 of 2 (fail 1, pass 1), last in run-01", "nop/a fails 1 of 2 (fail 1, pass 1), last in run-01"}
	for _, tt := range []struct {
		name   string
		run    *Run
		stored []*Run
		want   []string
		// scope is a part of what the list says it is of.
		scope string
	}{
		{name: "always well", run: storedRun(9, pass, pass), stored: []*Run{storedRun(1, pass)}, scope: "3 cells in 2 runs"},
		{name: "always bad", run: storedRun(9, fail), stored: []*Run{storedRun(1, fail)}},
		{name: "always bad, in two ways", run: storedRun(9, fail), stored: []*Run{storedRun(1, hang)}},
		{name: "within one run", run: storedRun(9, pass, hang, pass), want: []string{
			"nop fails 1 of 3 (hang 1, pass 2), last in run-09", "nop/a fails 1 of 3 (hang 1, pass 2), last in run-09",
		}},
		{name: "over runs", run: storedRun(9, pass), stored: []*Run{storedRun(1, fail)}, want: both},
		{name: "the last time", run: storedRun(9, pass), stored: []*Run{storedRun(5, fail), storedRun(3, fail)}, want: []string{
			"nop fails 2 of 3 (fail 2, pass 1), last in run-05", "nop/a fails 2 of 3 (fail 2, pass 1), last in run-05",
		}},
		{name: "the run itself is stored, too", run: storedRun(9, pass), stored: []*Run{storedRun(9, pass), storedRun(1, fail)}, want: both},
		{name: "another source", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Kernels[0].Tree = "t2" }, fail)}, scope: "1 cell in 1 run"},
		{name: "another config", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Kernels[0].ConfigHash = "c" }, fail)}},
		{name: "another compiler", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Kernels[0].Compiler = "clang" }, fail)}},
		{name: "another accelerator", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Accel.Name = "kvm" }, fail)}},
		{name: "another version of the program", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Cells[0].Version = "v0" }, fail)}},
		{name: "no version known", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Cells[0].Version = "" }, fail)},
			scope: "left out, as they do not say which version of their program ran: 1 cell"},
		{name: "another program", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Cells[0].Program = "fdinfo" }, fail)}},
		{name: "another emulation", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Cells[0].Mode = "singlestep" }, fail)}},
		{name: "complaints titled by other rules", run: storedRun(9, pass), stored: []*Run{older(func(r *Run) { r.Titles-- }, fail)}},
		{name: "not judged", run: storedRun(9, pass, event.Error), stored: []*Run{storedRun(1, fail)}, want: []string{
			"nop fails 1 of 2 (error 1, fail 1, pass 1), last in run-01", "nop/a fails 1 of 2 (error 1, fail 1, pass 1), last in run-01",
		}},
		{name: "only trouble beside it", run: storedRun(9, event.Error), stored: []*Run{storedRun(1, fail)}},
		{name: "skipped is not passed", run: storedRun(9, skip), stored: []*Run{storedRun(1, fail)}, want: []string{
			"nop fails 1 of 2 (fail 1, pass 1), last in run-01",
		}},
		{name: "one complaint", run: complains(9, "WARNING: at mm/x.c in f"), stored: []*Run{storedRun(1, pass)}, want: []string{
			"nop fails 1 of 2 (crash 1, pass 1), last in run-09",
			"nop/console: WARNING: at mm/x.c in f fails 1 of 2 (crash 1, pass 1), last in run-09",
		}},
		{name: "always another complaint", run: complains(9, "BUG: f"), stored: []*Run{complains(1, "BUG: g")}, want: []string{
			"nop/console: BUG: f fails 1 of 2 (crash 1, pass 1), last in run-09",
			"nop/console: BUG: g fails 1 of 2 (crash 1, pass 1), last in run-01",
		}},
		{name: "shards and what they were merged to", run: storedRun(9, pass, fail), stored: []*Run{
			older(func(r *Run) { r.Cells = storedRun(9, pass, fail).Cells[:1] }),
			older(func(r *Run) { r.ID, r.Cells = "run-02", storedRun(9, pass, fail).Cells[1:] }),
		}, want: []string{"nop fails 1 of 2 (fail 1, pass 1), last in run-09", "nop/a fails 1 of 2 (fail 1, pass 1), last in run-09"}, scope: "2 cells in 1 run"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			flakes := FlakesOf(tt.run, slices.Values(tt.stored))
			var got []string
			for _, f := range flakes.Flakes {
				got = append(got, fmt.Sprintf("%s fails %s (%s), last in %s", f.Name(), f.Rate, f.Counts(), f.LastFailed))
				if text := flakes.String(); !strings.Contains(text, f.Name()) || !strings.Contains(text, f.Rate.String()) {
					t.Errorf("the list has not %s:\n%s", f.Name(), text)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("FlakesOf (-want +got):\n%s", diff)
			}
			if text := flakes.String(); !strings.Contains(text, tt.scope) {
				t.Errorf("the list is %q; want it to say %q", text, tt.scope)
			}
		})
	}
}

// Who sees a failure is told how often it was seen before, and what else came of the repeats.
func TestReportSaysWhatComesAndGoes(t *testing.T) {
	run := storedRun(9, event.Hang, event.Pass, event.Fail, event.Pass)
	for i, bad := range []int{0, 2} {
		run.Cells[bad].Expected, run.Cells[bad].Checks[0].Expected = false, false
		run.Cells[bad].Reason = fmt.Sprint(i)
	}
	var out strings.Builder
	view := View{Flakes: FlakesOf(run, slices.Values([]*Run{storedRun(1, event.Pass, event.Pass)}))}
	if err := Report(&out, run, view); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"! nop on base: hang, unexpected in 1 of 4 runs (hang 1, fail 1, pass 2)",
		"comes and goes: fails in 2 of 6 stored runs of this kernel and program",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report has not %q:\n%s", want, out.String())
		}
	}
}
