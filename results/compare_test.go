package results

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

// runOf is a finished run of one kernel.
func runOf(cells ...Cell) *Run {
	return &Run{ID: "20260301-225959.123", Status: Finished, Kernels: []Kernel{{Name: "posted", Variant: "plain"}}, Cells: cells}
}

func posted(checks ...Check) Cell { return cellOf("posted", "nop", checks...) }

func withMetrics(c Cell, metrics ...event.Metric) Cell {
	c.Metrics = metrics
	return c
}

// failing is a cell that failed, of which trouble kept one more check from being judged.
func failing(trouble Check) Cell {
	c := posted(unexpected(trouble), unexpected(check("drops", event.Fail, "")))
	c.Verdict = event.Fail
	return c
}

func errorCell(program string) Cell {
	return cellOf("posted", program, unexpected(check("program", event.Error, "")))
}

func TestCompareRuns(t *testing.T) {
	pass := posted(check("order", event.Pass, "took 3 ms"))
	fails := posted(check("order", event.Fail, ""))
	failsAnew := posted(unexpected(check("order", event.Fail, "")))
	declared := posted(knownIssue(check("order", event.Fail, ""), "late"))
	insns := func(v float64) Cell {
		return withMetrics(pass, event.Metric{Name: "cost", Value: v, Unit: "insns/op", Labels: map[string]string{"op": "NOP"}})
	}
	for _, tt := range []struct {
		name string
		a, b *Run
		want []Change
		exit int
	}{
		{"texts, times and order do not count", runOf(pass), runOf(posted(check("order", event.Pass, "took 97 ms"))), nil, 0},
		{"a failure that came", runOf(pass), runOf(failsAnew), []Change{
			{Kind: KindProgram, What: "nop", From: "pass", To: "fail", Effect: Worse},
			{Kind: KindCheck, What: "nop/order", From: "pass", To: "fail", Effect: Worse}}, 1},
		{"a failure that came as declared", runOf(pass), runOf(declared), []Change{
			{Kind: KindProgram, What: "nop", From: "pass", To: "fail", Effect: Declared},
			{Kind: KindCheck, What: "nop/order", From: "pass", To: "fail", Effect: Declared}}, 0},
		{"a failure that went", runOf(failsAnew), runOf(pass), []Change{
			{Kind: KindProgram, What: "nop", From: "fail", To: "pass", Effect: Better},
			{Kind: KindCheck, What: "nop/order", From: "fail", To: "pass", Effect: Better}}, 0},
		{"the same failure", runOf(failsAnew), runOf(failsAnew), nil, 0},
		{"the same failure, no longer declared", runOf(declared), runOf(failsAnew), []Change{
			{Kind: KindProgram, What: "nop", From: "fail, as declared", To: "fail, unexpected", Effect: Worse},
			{Kind: KindCheck, What: "nop/order", From: "fail, as declared", To: "fail, unexpected", Effect: Worse}}, 1},
		{"a graver failure", runOf(failsAnew), runOf(posted(unexpected(check("order", event.Hang, "")))), []Change{
			{Kind: KindProgram, What: "nop", From: "fail", To: "hang", Effect: Worse},
			{Kind: KindCheck, What: "nop/order", From: "fail", To: "hang", Effect: Worse}}, 1},
		{"a failure that is skipped now is not cured", runOf(failsAnew), runOf(posted(check("order", event.Skip, ""))), []Change{
			{Kind: KindProgram, What: "nop", From: "fail", To: "skip", Effect: Changed},
			{Kind: KindCheck, What: "nop/order", From: "fail", To: "skip", Effect: Changed}}, 0},
		{"a pass that is skipped now", runOf(pass), runOf(posted(check("order", event.Skip, ""))), []Change{
			{Kind: KindProgram, What: "nop", From: "pass", To: "skip", Effect: Worse},
			{Kind: KindCheck, What: "nop/order", From: "pass", To: "skip", Effect: Worse}}, 1},
		{"a check that is gone", runOf(posted(check("order", event.Pass, ""), check("drops", event.Pass, ""))), runOf(pass), []Change{
			{Kind: KindCheck, What: "nop/drops", From: "pass", To: Absent, Effect: Worse}}, 1},
		{"a check that is new and passes", runOf(pass), runOf(posted(check("order", event.Pass, ""), check("drops", event.Pass, ""))), []Change{
			{Kind: KindCheck, What: "nop/drops", From: Absent, To: "pass", Effect: Changed}}, 0},
		{"it fails now and then", runOf(pass), runOf(pass, failsAnew), []Change{
			{Kind: KindProgram, What: "nop", From: "pass", To: "fail/pass", Effect: Worse},
			{Kind: KindCheck, What: "nop/order", From: "pass", To: "fail/pass", Effect: Worse}}, 1},
		{"it never passes any more", runOf(pass, failsAnew), runOf(failsAnew), []Change{
			{Kind: KindProgram, What: "nop", From: "fail/pass", To: "fail", Effect: Worse},
			{Kind: KindCheck, What: "nop/order", From: "fail/pass", To: "fail", Effect: Worse}}, 1},
		{"another crash of the same name", runOf(posted(unexpected(check("console", event.Crash, "list_add corruption\n\nCall Trace")))),
			runOf(posted(unexpected(check("console", event.Crash, "KASAN: use-after-free in io_free_req\n\nCall Trace")))), []Change{
				{Kind: KindCheck, What: "nop/console: KASAN: use-after-free in io_free_req", From: Absent, To: "crash", Effect: Worse},
				{Kind: KindCheck, What: "nop/console: list_add corruption", From: "crash", To: Absent, Effect: Changed}}, 1},
		{"what a declared hang kept it from", runOf(pass), runOf(posted(knownIssue(check("deadline", event.Hang, ""), "deadlocks"))), []Change{
			{Kind: KindProgram, What: "nop", From: "pass", To: "hang", Effect: Declared},
			{Kind: KindCheck, What: "nop/deadline", From: Absent, To: "hang", Effect: Declared},
			{Kind: KindCheck, What: "nop/order", From: "pass", To: Absent, Effect: Declared}}, 0},
		{"what a declared failure did not keep it from", runOf(pass), runOf(posted(knownIssue(check("drops", event.Fail, ""), "lost"))), []Change{
			{Kind: KindCheck, What: "nop/order", From: "pass", To: Absent, Effect: Worse},
			{Kind: KindProgram, What: "nop", From: "pass", To: "fail", Effect: Declared},
			{Kind: KindCheck, What: "nop/drops", From: Absent, To: "fail", Effect: Declared}}, 1},
		{"the same crashes in another order",
			runOf(posted(unexpected(check("console", event.Crash, "a")), unexpected(check("console 2", event.Crash, "b")))),
			runOf(posted(unexpected(check("console", event.Crash, "b")), unexpected(check("console 2", event.Crash, "a")))), nil, 0},
		{"not judged", runOf(pass, cellOf("posted", "race")), runOf(pass, errorCell("race")), nil, 0},
		{"a pass that is not judged", runOf(pass), runOf(errorCell("nop")), []Change{
			{Kind: KindMissing, What: "nop", From: "pass", To: "error", Effect: Unjudged}}, 2},
		{"a failure that is not judged", runOf(fails), runOf(errorCell("nop")), []Change{
			{Kind: KindMissing, What: "nop", From: "fail", To: "error", Effect: Changed}}, 0},
		{"a check that the harness could not judge, beside a failure",
			runOf(posted(check("order", event.Pass, ""), check("drops", event.Pass, ""))), runOf(failing(check("order", event.Error, ""))), []Change{
				{Kind: KindProgram, What: "nop", From: "pass", To: "fail", Effect: Worse},
				{Kind: KindCheck, What: "nop/drops", From: "pass", To: "fail", Effect: Worse},
				{Kind: KindCheck, What: "nop/order", From: "pass", To: "error", Effect: Unjudged}}, 1},
		{"a known issue that passes", runOf(pass), runOf(posted(unexpected(knownIssue(check("order", event.Pass, ""), "late")))), []Change{
			{Kind: KindProgram, What: "nop", From: "pass", To: "pass, unexpected", Effect: Changed},
			{Kind: KindCheck, What: "nop/order", From: "pass", To: "pass, unexpected", Effect: Changed}}, 0},
		{"a program that is gone", runOf(pass), runOf(), []Change{
			{Kind: KindMissing, What: "nop", From: "pass", To: Absent, Effect: Worse}}, 1},
		{"a program that fails and was not judged before", runOf(errorCell("nop")), runOf(failsAnew), []Change{
			{Kind: KindMissing, What: "nop", From: "error", To: "fail", Effect: Worse}}, 1},
		{"within the tolerance", runOf(insns(500)), runOf(insns(500.24)), nil, 0},
		{"beyond the tolerance", runOf(insns(500)), runOf(insns(501)), []Change{
			{Kind: KindMetric, What: "nop/cost op=NOP", From: "500", To: "501", Unit: "insns/op", Delta: 0.002, Effect: Worse}}, 1},
		{"fewer instructions", runOf(insns(500)), runOf(insns(450)), []Change{
			{Kind: KindMetric, What: "nop/cost op=NOP", From: "500", To: "450", Unit: "insns/op", Delta: -0.1, Effect: Better}}, 0},
		{"the least of several boots counts", runOf(insns(510), insns(500)), runOf(insns(500), insns(530)), nil, 0},
		{"seconds are not compared", runOf(withMetrics(pass, event.Metric{Name: "stage", Value: 1, Unit: "s"})),
			runOf(withMetrics(pass, event.Metric{Name: "stage", Value: 50, Unit: "s"})), nil, 0},
		{"objects are compared exactly, and nobody says which way is worse",
			runOf(withMetrics(pass, event.Metric{Name: "slab", Value: 256, Unit: "objects"})),
			runOf(withMetrics(pass, event.Metric{Name: "slab", Value: 257, Unit: "objects"})), []Change{
				{Kind: KindMetric, What: "nop/slab", From: "256", To: "257", Unit: "objects", Delta: 0.00390625, Effect: Changed}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all, err := CompareRuns(tt.a, tt.b)
			if err != nil {
				// Nothing in common, where nothing is expected to be.
				t.Fatal(err)
			}
			got := all[0].Changes
			approx := cmp.Comparer(func(x, y float64) bool { return x-y < 1e-9 && y-x < 1e-9 })
			if diff := cmp.Diff(append([]Change{}, tt.want...), got, approx); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if code := ComparisonsExit(all); code != tt.exit {
				t.Errorf("ComparisonsExit() = %d; want %d", code, tt.exit)
			}
		})
	}
}

// Notes come in the order of the programs, each time.
func TestCompareNotesInOrder(t *testing.T) {
	var a, b []Cell
	var want []string
	for _, program := range []string{"a", "b", "c", "d", "e"} {
		a = append(a, cellOf("posted", program, check("order", event.Pass, "")))
		b = append(b, a[len(a)-1])
		b[len(b)-1].Mode = "singlestep"
		want = append(want, "the metrics of "+program+" are not compared: it ran in another mode (/singlestep)")
	}
	for range 10 {
		all, err := CompareRuns(runOf(a...), runOf(b...))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, all[0].Notes); diff != "" {
			t.Fatalf("notes (-want +got):\n%s", diff)
		}
	}
}

func TestCompareNotes(t *testing.T) {
	pass := withMetrics(posted(check("order", event.Pass, "")), event.Metric{Name: "cost", Value: 500, Unit: "insns/op"})
	dear := withMetrics(pass, event.Metric{Name: "cost", Value: 700, Unit: "insns/op"})
	with := func(r *Run, change func(*Run)) *Run { change(r); return r }
	other := cellOf("posted", "fdinfo", check("rows", event.Pass, ""))
	for _, tt := range []struct {
		name string
		a, b *Run
		want string
		exit int
	}{
		{"another accelerator", runOf(pass), with(runOf(dear), func(r *Run) { r.Accel.Name = "kvm" }), "metrics are not compared between accelerators", 0},
		{"another mode", runOf(pass), with(runOf(dear), func(r *Run) { r.Cells[0].Mode = "singlestep" }), "another mode", 0},
		{"another compiler", runOf(pass), with(runOf(pass), func(r *Run) { r.Kernels[0].Compiler = "gcc 13" }), "compilers differ", 0},
		{"a smaller selection", runOf(pass, other), with(runOf(pass), func(r *Run) { r.Selection = map[string]string{"PROGRAMS": "nop,race"} }), "1 program not asked for in posted of", 0},
		{"a larger selection", with(runOf(pass), func(r *Run) { r.Selection = map[string]string{"PROGRAMS": "nop"} }), runOf(pass, other), "1 program not asked for in posted of", 0},
		{"killed before it came to it", runOf(pass, other), with(runOf(pass), func(r *Run) { r.Status = Running }), "not finished", 2},
		{"killed before it had the kernel", runOf(pass), with(runOf(), func(r *Run) { r.Status, r.Kernels = Running, nil }), "", 2},
		{"a metric more", runOf(posted(check("order", event.Pass, ""))), runOf(pass), "only posted of 20260302-225959.123 has 1 metric", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.b.ID = "20260302-225959.123"
			all, err := CompareRuns(tt.a, tt.b)
			if err != nil {
				t.Fatal(err)
			}
			if notes := strings.Join(all[0].Notes, "\n"); !strings.Contains(notes, tt.want) {
				t.Errorf("notes = %q; want one with %q", notes, tt.want)
			}
			if code := ComparisonsExit(all); code != tt.exit {
				t.Errorf("ComparisonsExit() = %d; want %d", code, tt.exit)
			}
		})
	}
}

func TestCompareBuilds(t *testing.T) {
	pass := posted(check("order", event.Pass, ""))
	broken := runOf()
	broken.Kernels[0].BuildError = "does not compile"
	all, err := CompareRuns(runOf(pass), broken)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{{Kind: KindKernel, What: "build", From: "builds", To: "does not build", Effect: Worse}}
	if diff := cmp.Diff(want, all[0].Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestCompareNothingInCommon(t *testing.T) {
	other := runOf(cellOf("posted", "fdinfo", check("rows", event.Pass, "")))
	other.Kernels[0].Name, other.Cells[0].Kernel = "base", "base"
	if all, err := CompareRuns(runOf(posted(check("order", event.Pass, ""))), other); err == nil {
		t.Errorf("CompareRuns() = %+v; want an error", all)
	}
	if all, err := CompareWithBase(runOf()); err == nil {
		t.Errorf("CompareWithBase() = %+v; want an error", all)
	}
}

// Where nothing was judged before, nothing can be said to be as before.
func TestCompareWithNothing(t *testing.T) {
	r := knownIssues()
	none := *r
	none.Cells = nil
	if all, err := CompareRuns(&none, r); err == nil {
		t.Errorf("CompareRuns(a run without cells, ...) = %+v; want an error", all)
	}
	if all, err := CompareWithBase(&none); err == nil {
		t.Errorf("CompareWithBase(a run without cells) = %+v; want an error", all)
	}
}

func TestCompareWithBase(t *testing.T) {
	r := knownIssues()
	all, err := CompareWithBase(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || ComparisonsExit(all) != 0 {
		t.Errorf("CompareWithBase() = %+v; want one without a regression", all)
	}
	golden(t, "compare-with-base", all[0].Text())
}

// TestComparisonJSON fixes the names that readers in other languages see.
func TestComparisonJSON(t *testing.T) {
	c := Comparison{From: "base", To: "posted", Compared: 3, Figures: 1, Notes: []string{},
		Changes: []Change{{Kind: KindMetric, What: "nop/cost", From: "500", To: "501", Unit: "insns/op", Delta: 0.002, Effect: Worse}}}
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"from":"base","to":"posted","compared":3,"figures":1,"changes":[{"kind":"metric","what":"nop/cost","from":"500","to":"501","unit":"insns/op","delta":0.002,"effect":"worse"}],"notes":[]}`
	if string(got) != want {
		t.Errorf("Marshal() = %s; want %s", got, want)
	}
}

// TestTitlesOfOtherRules checks that the same complaint, titled by other rules, is no
// difference, and that this is said.
func TestTitlesOfOtherRules(t *testing.T) {
	run := func(id string, titles int, title string) *Run {
		return &Run{ID: id, Status: Finished, Titles: titles, Kernels: []Kernel{{Name: "base", Variant: "plain"}}, Cells: []Cell{{
			Kernel: "base", Variant: "plain", Program: "p", Verdict: event.Crash,
			Checks: []Check{{Check: event.Check{Name: "console", Verdict: event.Crash, Detail: title}}},
		}}}
	}
	for _, test := range []struct {
		name          string
		titles        int
		was, is       string
		changes, note bool
	}{
		{"the same rules", TitleRules, "WARNING: at F f", "WARNING at F in f", true, false},
		{"rules without a number", 0, "WARNING: at F f", "WARNING at F in f", false, true},
		{"the words of another version", TitleRules, "BUG: KASAN: use-after-free in f", "BUG: KASAN: slab-use-after-free in f", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := run("a", test.titles, test.was), run("b", TitleRules, test.is)
			got := Compare(Side{a, a.Kernels[0]}, Side{b, b.Kernels[0]})
			if changes := len(got.Changes) > 0; changes != test.changes {
				t.Errorf("changes: %v; want any: %v", got.Changes, test.changes)
			}
			said := slices.ContainsFunc(got.Notes, func(n string) bool { return strings.Contains(n, "titled by other rules") })
			if said != test.note {
				t.Errorf("notes: %q; want the rules named: %v", got.Notes, test.note)
			}
		})
	}
}
