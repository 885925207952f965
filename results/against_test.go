package results

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

// guests is a pair of kernels, of which each run is made up, suites one whose runs may be limited
// to some tests.
type (
	guests func(kernel string, run int) Cell
	suites func(kernel string, run int, only []string) Cell
)

// fine has two checks that pass.
func fine(checks ...Check) Cell {
	c := Cell{Verdict: event.Pass, Expected: true}
	c.Checks = append([]Check{{Check: event.Check{Name: "data", Verdict: event.Pass}, Expected: true}, {Check: event.Check{Name: "order", Verdict: event.Pass}, Expected: true}}, checks...)
	return c
}

// withBad has one check that came out so.
func withBad(name string, v event.Verdict, detail string) Cell {
	c := fine(Check{Check: event.Check{Name: name, Verdict: v, Detail: detail}})
	c.Verdict, c.Expected = v, false
	return c
}

func silentGuest(v event.Verdict) Cell {
	c := Cell{Verdict: v, Reason: "no report", Stopped: &Stopped{Phase: StoppedInit, Last: "exec: permission denied"}}
	if v == event.Hang {
		c.Checks = []Check{{Check: event.Check{Name: "deadline", Verdict: v}}}
	}
	return c
}

// hold runs programs of two kernels until no more is asked for.
func hold(t *testing.T, programs map[string]guests, strict bool) *Run {
	t.Helper()
	all := map[string]suites{}
	for name, run := range programs {
		all[name] = func(kernel string, n int, _ []string) Cell { return run(kernel, n) }
	}
	return holdSuites(t, all, strict)
}

// holdSuites is as hold, and each check is one of the test that its name begins with.
func holdSuites(t *testing.T, programs map[string]suites, strict bool) *Run {
	t.Helper()
	r := &Run{Status: Finished, Kernels: []Kernel{{Name: "base", Variant: "plain"}, {Name: "patched", Variant: "plain", Series: []string{"a"}}}}
	var again []Repeat
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		again = append(again, Repeat{Program: name, Base: 1, Patched: 1})
	}
	ran := map[string]int{}
	for len(again) > 0 {
		for _, a := range again {
			var only []string
			for _, check := range a.Checks {
				test, _, _ := strings.Cut(check, "/")
				only = append(only, test)
			}
			for _, kernel := range []string{"base", "patched"} {
				n := map[string]int{"base": a.Base, "patched": a.Patched}[kernel]
				for key := kernel + a.Program; ran[key] < n; {
					ran[key]++
					c := programs[a.Program](kernel, ran[key], only)
					c.Checks = slices.Clone(c.Checks)
					c.Kernel, c.Variant, c.Program, c.Iteration = kernel, "plain", a.Program, ran[key]
					r.Cells = append(r.Cells, c)
				}
			}
		}
		again = Again(r.Cells, "base", "patched")
	}
	r.Against = Hold(r.Cells, "base", "patched", strict)
	return r
}

func TestHoldAgainstBase(t *testing.T) {
	only := func(kernel string, bad Cell) guests {
		return func(k string, _ int) Cell {
			if k == kernel || kernel == "both" {
				return bad
			}
			return fine()
		}
	}
	every := func(n int, kernels string, bad Cell) guests {
		return func(k string, run int) Cell {
			if run%n == 1 && strings.Contains(kernels, k) {
				return bad
			}
			return fine()
		}
	}
	// slow is a program of which three runs are to be had on each kernel.
	slow := func(g guests) guests {
		return func(k string, run int) Cell {
			c := g(k, run)
			c.WallS = 90
			return c
		}
	}
	// rarely has a check that base passes, but for its second run, and that the patch takes away.
	rarely := func(second Cell) guests {
		return func(k string, run int) Cell {
			switch {
			case k == "patched":
				return fine()
			case run == 2:
				return second
			}
			return fine(Check{Check: event.Check{Name: "rare", Verdict: event.Pass}, Expected: true})
		}
	}
	warning := withBad("console", event.Crash, "WARNING: at mm/x.c in f\n\nstack")
	skipped := Cell{Verdict: event.Skip, Expected: true, Checks: []Check{{Check: event.Check{Name: "data", Verdict: event.Skip}, Expected: true}}}
	declared := withBad("rare", event.Fail, "")
	declared.Checks[2].Expected, declared.Checks[2].KnownIssue, declared.Expected = true, "as always", true
	cured := fine(Check{Check: event.Check{Name: "rare", Verdict: event.Pass}, KnownIssue: "as always"})
	cured.Expected = false
	lost := Cell{Verdict: event.Error, Reason: "no memory on the host"}
	for _, test := range []struct {
		name  string
		guest guests
		code  int
		want  string
	}{
		{"nothing", only("nobody", Cell{}), 0, "no difference from base in 2 checks of 1 program"},
		{"a check", only("patched", withBad("sum", event.Fail, "")), 1, "1 regression: nop/sum, no such check on base in 3 runs, fails with the patch 3 of 3"},
		{"a complaint", only("patched", warning), 1, "1 regression: nop/console: WARNING: at mm/x.c in f, pass on base 3 of 3"},
		{"the tree's own complaint", only("both", warning), 0, "no difference from base in 2 checks of 1 program; 1 fails on base, too: nop/console: WARNING: at mm/x.c in f"},
		{"better than base", only("base", warning), 0, "1 gain: nop/console: WARNING: at mm/x.c in f, fails on base 3 of 3, passes with the patch 3 of 3; nothing worse than on base in 3 checks of 1 program"},
		{"what the patch is to mend, alone", func(k string, _ int) Cell {
			v := event.Pass
			if k == "base" {
				v = event.Fail
			}
			return Cell{Verdict: v, Expected: v == event.Pass, Checks: []Check{{Check: event.Check{Name: "exit", Verdict: v}, Expected: v == event.Pass}}}
		}, 0, "1 gain: nop/exit, fails on base 3 of 3, passes with the patch 3 of 3; nothing worse than on base in 1 check of 1 program"},
		{"mends a warning and skips a check", func(k string, _ int) Cell {
			if k == "base" {
				return warning
			}
			c := fine()
			c.Checks[0].Verdict = event.Skip
			return c
		}, 1, "1 regression: nop/data, passes on base 3 of 3, skipped or not made with the patch 3 of 3; 1 gain: nop/console"},
		{"better than base once", every(1000, "base", warning), 0, "no difference from base in 2 checks"},
		{"one better and one worse", func(k string, _ int) Cell {
			if k == "base" {
				return warning
			}
			return withBad("sum", event.Fail, "")
		}, 1, "1 regression: nop/sum, no such check on base in 3 runs, fails with the patch 3 of 3; 1 gain: nop/console"},
		{"beside the tree's own complaint", func(k string, _ int) Cell {
			if k == "base" {
				return warning
			}
			c := withBad("sum", event.Fail, "")
			c.Checks = append(c.Checks, warning.Checks[2])
			return c
		}, 1, "1 regression: nop/sum, no such check on base in 3 runs, fails with the patch 3 of 3; 1 fails on base, too"},
		{"crashes with another title each time", func(k string, run int) Cell {
			if k == "base" {
				return fine()
			}
			return withBad("console", event.Crash, fmt.Sprintf("Oops in f%c", 'a'+run))
		}, 1, "1 regression: nop, pass on base 3 of 3, fails with the patch 3 of 3"},
		{"both crash with another title each time", func(k string, run int) Cell {
			return withBad("console", event.Crash, fmt.Sprintf("Oops in f%c%s", 'a'+run, k))
		}, 0, "fail"},
		{"skipped where base passes", only("patched", skipped), 1, "1 regression: nop/data, passes on base 3 of 3, skipped or not made with the patch 3 of 3"},
		{"fails once on base, and is not made with the patch", rarely(withBad("rare", event.Fail, "")), 1,
			"1 regression: nop/rare does not pass in 1 of 6 on base, is skipped or not made in 6 of 6 with the patch"},
		{"base does not end once, and it is not made with the patch", rarely(silentGuest(event.Hang)), 1,
			"1 regression: nop/rare, passes on base 5 of 5, skipped or not made with the patch 6 of 6"},
		{"fails in the first run on base, and is not made with the patch", func(k string, run int) Cell {
			return rarely(withBad("rare", event.Fail, ""))(k, run+1)
		}, 1, "1 regression: nop/rare does not pass in 1 of 6 on base"},
		{"has another name in each run", func(k string, run int) Cell {
			return fine(Check{Check: event.Check{Name: fmt.Sprint("process ", k, run), Verdict: event.Pass}, Expected: true})
		}, 0, "no difference from base in 5 checks"},
		{"skipped on both", only("both", skipped), 2, "nothing could be compared with base"},
		{"half of the time", every(2, "patched", warning), 1, "1 regression: nop/console: WARNING: at mm/x.c in f, pass on base 12 of 12, fails with the patch 6 of 12"},
		{"base failed once by bad luck", func(k string, run int) Cell {
			if k == "base" && run > 1 {
				return fine()
			}
			return warning
		}, 1, "1 regression: nop/console: WARNING: at mm/x.c in f fails in 1 of 6 on base, 6 of 6 with the patch"},
		{"base passed once by luck", func(k string, run int) Cell {
			if k == "base" && run == 1 {
				return fine()
			}
			return warning
		}, 0, "1 flaky check: nop/console: WARNING: at mm/x.c in f fails in 19 of 20 on base, 20 of 20 with the patch"},
		{"rarely on both", every(5, "base patched", warning), 0, "1 fails on base, too: nop/console: WARNING: at mm/x.c in f"},
		{"once", func(k string, run int) Cell {
			if k == "patched" && run == 1 {
				return warning
			}
			return fine()
		}, 0, "1 flaky check: nop/console: WARNING: at mm/x.c in f fails in 0 of 20 on base, 1 of 20 with the patch"},
		{"a declared issue", only("both", declared), 0, "no difference from base in 2 checks"},
		{"a declared issue is cured", func(k string, _ int) Cell {
			if k == "base" {
				return declared
			}
			return cured
		}, 0, "no difference from base"},
		{"no report with the patch", only("patched", silentGuest(event.Error)), 1, "1 regression: nop/report, pass on base 3 of 3, fails with the patch 3 of 3"},
		{"no report from both", only("both", silentGuest(event.Error)), 2, "not judged, by the harness's own trouble: nop"},
		{"no report once", every(1000, "patched", silentGuest(event.Error)), 0, "1 flaky check: nop/report fails in 0 of 20 on base, 1 of 20 with the patch"},
		{"fails on base and hangs", func(k string, _ int) Cell {
			return withBad("sum", map[string]event.Verdict{"base": event.Fail, "patched": event.Hang}[k], "")
		}, 1, "1 regression: nop/sum, ends on base 3 of 3, hangs or crashes with the patch 3 of 3"},
		{"fails on base and hangs half of the time", func(k string, run int) Cell {
			if k == "patched" && run%2 == 1 {
				return withBad("sum", event.Hang, "")
			}
			return withBad("sum", event.Fail, "")
		}, 1, "1 regression: nop/sum, ends on base 12 of 12, hangs or crashes with the patch 6 of 12"},
		{"fails on base and hangs once", func(k string, run int) Cell {
			if k == "patched" && run == 1 {
				return withBad("sum", event.Hang, "")
			}
			return withBad("sum", event.Fail, "")
		}, 0, "1 flaky check: nop/sum hangs or crashes in 0 of 20 on base, 1 of 20 with the patch"},
		{"fails on base and takes the guest with it", func(k string, _ int) Cell {
			return withBad("sum", map[string]event.Verdict{"base": event.Fail, "patched": event.Crash}[k], "")
		}, 1, "1 regression: nop/sum, ends on base 3 of 3, hangs or crashes with the patch 3 of 3"},
		{"fails or hangs on both", func(_ string, run int) Cell {
			if run%3 == 0 {
				return withBad("sum", event.Fail, "")
			}
			return withBad("sum", event.Hang, "")
		}, 0, "no difference from base in 2 checks of 1 program; 1 fails on base, too: nop/sum"},
		{"hangs on base and fails", func(k string, _ int) Cell {
			return withBad("sum", map[string]event.Verdict{"base": event.Hang, "patched": event.Fail}[k], "")
		}, 0, "no difference from base in 2 checks of 1 program; 1 fails on base, too: nop/sum"},
		{"hangs", only("patched", silentGuest(event.Hang)), 1, "1 regression: nop/deadline"},
		{"the host's trouble", only("patched", lost), 2, "not judged"},
		{"the host's trouble once", every(1000, "patched", lost), 0, "no difference from base in 2 checks"},
		{"the host's trouble once on base", every(1000, "base", lost), 0, "no difference from base in 2 checks"},
		{"a slow program, and the host's trouble once on base", slow(func(k string, run int) Cell {
			switch {
			case k == "patched":
				return warning
			case run == 2:
				return lost
			}
			return fine()
		}), 1, "1 regression: nop/console: WARNING: at mm/x.c in f, pass on base 3 of 3"},
		{"a slow program, and the host's trouble from the second run on", slow(func(k string, run int) Cell {
			if run > 1 {
				return lost
			}
			return only("patched", warning)(k, run)
		}), 0, "1 flaky check: nop/console: WARNING: at mm/x.c in f fails in 0 of 1 on base, 1 of 1 with the patch"},
		{"a slow program that crashes with another title each time, and fails once on base", slow(func(k string, run int) Cell {
			switch {
			case k == "patched":
				return withBad("console", event.Crash, fmt.Sprintf("Oops in f%c", 'a'+run))
			case run == 2:
				return withBad("sum", event.Fail, "")
			}
			return fine()
		}), 1, "1 regression: nop, pass on base 3 of 3, fails with the patch 3 of 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := hold(t, map[string]guests{"nop": test.guest}, false)
			if got := Answer(r); r.ExitCode() != test.code || !strings.Contains(got, test.want) {
				t.Errorf("%d runs, exit code %d, %q; want %d, %q", len(r.Cells), r.ExitCode(), got, test.code, test.want)
			}
			if len(r.Cells) > 40 {
				t.Errorf("%d runs", len(r.Cells))
			}
		})
	}
	if r := hold(t, map[string]guests{"nop": every(1000, "patched", warning)}, true); r.ExitCode() != 1 {
		t.Errorf("strict, and one check flaky: exit code %d; want 1", r.ExitCode())
	}
}

// What a tree complains of at every boot is not repeated for each program.
func TestComplaintOfTheTreeIsNotRepeated(t *testing.T) {
	warning := func(string, int) Cell { return withBad("console", event.Crash, "WARNING: at mm/x.c in f") }
	r := hold(t, map[string]guests{"a": warning, "b": warning, "c": warning}, false)
	if len(r.Cells) != 6 || r.ExitCode() != 0 {
		t.Errorf("%d runs, exit code %d; want one of each program on both, and 0", len(r.Cells), r.ExitCode())
	}
}

// Nor does it hide that a program is skipped with the patch.
func TestComplaintOfTheTreeHidesNothing(t *testing.T) {
	warning := func(string, int) Cell { return withBad("console", event.Crash, "WARNING: at mm/x.c in f") }
	skipped := func(kernel string, run int) Cell {
		c := warning(kernel, run)
		if kernel == "patched" {
			c.Checks[0].Verdict, c.Checks[1].Verdict = event.Skip, event.Skip
		}
		return c
	}
	r := hold(t, map[string]guests{"a": warning, "b": warning, "c": skipped}, false)
	if got, want := Answer(r), "1 regression: c/data, passes on base 3 of 3, skipped or not made with the patch 3 of 3"; r.ExitCode() != 1 || !strings.Contains(got, want) {
		t.Errorf("exit code %d, %q; want 1, %q", r.ExitCode(), got, want)
	}
}

// A patch that changes nothing must not be blamed for what comes and goes by itself,
// and one that breaks something is found.
func TestHoldOnRates(t *testing.T) {
	const tries = 1000
	for _, test := range []struct {
		base, patched float64
		least, most   float64 // part of the runs that call it a regression
	}{
		{0.05, 0.05, 0, 0.01}, {0.2, 0.2, 0, 0.02}, {0.5, 0.5, 0, 0.03}, {0.8, 0.8, 0, 0.03}, {1, 1, 0, 0},
		{0, 1, 1, 1}, {0, 0.9, 0.89, 1}, {0, 0.5, 0.45, 0.55}, {0.9, 0.05, 0, 0},
		{0.05, 1, 0.99, 1}, {0.1, 1, 0.98, 1}, {0.2, 1, 0.95, 1}, {0.1, 0.9, 0.89, 1},
	} {
		random := rand.New(rand.NewPCG(1, 2))
		blamed := 0
		for range tries {
			r := hold(t, map[string]guests{"nop": func(k string, _ int) Cell {
				rate := map[string]float64{"base": test.base, "patched": test.patched}[k]
				if random.Float64() < rate {
					return withBad("rare", event.Fail, "")
				}
				return fine(Check{Check: event.Check{Name: "rare", Verdict: event.Pass}, Expected: true})
			}}, false)
			if r.ExitCode() == 1 {
				blamed++
			}
		}
		if part := float64(blamed) / tries; part < test.least || part > test.most {
			t.Errorf("fails in %v on base and %v with the patch: blamed in %v; want %v to %v", test.base, test.patched, part, test.least, test.most)
		}
	}
}

func TestFisher(t *testing.T) {
	for _, test := range []struct {
		base, patched Rate
		want          string
	}{
		{Rate{0, 3}, Rate{3, 3}, "0.0500"}, {Rate{0, 12}, Rate{6, 12}, "0.0069"}, {Rate{1, 20}, Rate{9, 20}, "0.0042"}, {Rate{3, 10}, Rate{0, 10}, "1.0000"},
	} {
		if got := fmt.Sprintf("%.4f", fisher(test.base, test.patched)); got != test.want {
			t.Errorf("fisher(%v, %v) = %s; want %s", test.base, test.patched, got, test.want)
		}
	}
}

// Of a suite, only the tests that are not settled run again, and nothing is missed for it.
func TestHoldRepeatsTestsOfASuite(t *testing.T) {
	suite := []string{"a.t", "b.t", "c.t"}
	for _, test := range []struct {
		name string
		// base and patched are the verdicts of the tests; any is passed that is not there.
		base, patched map[string]event.Verdict
		again         []string
		// runs is how often each is run in the end.
		runs   map[string]int
		answer string
	}{
		{"one fails with the patch", nil, map[string]event.Verdict{"b.t": event.Fail}, []string{"b.t"}, map[string]int{"base": 3, "patched": 3},
			"1 regression: suite/b.t, pass on base 3 of 3, fails with the patch 3 of 3"},
		{"one fails on both", map[string]event.Verdict{"b.t": event.Hang}, map[string]event.Verdict{"b.t": event.Fail}, []string{"b.t"}, map[string]int{"base": 3, "patched": 1},
			"no difference from base in 2 checks of 1 program; 1 fails on base, too: suite/b.t"},
		{"one fails on base and hangs or crashes with the patch", map[string]event.Verdict{"b.t": event.Fail}, map[string]event.Verdict{"b.t": event.Hang}, []string{"b.t"}, map[string]int{"base": 3, "patched": 3},
			"1 regression: suite/b.t, ends on base 3 of 3, hangs or crashes with the patch 3 of 3"},
		{"one on both, and one with the patch", map[string]event.Verdict{"b.t": event.Hang}, map[string]event.Verdict{"a.t": event.Fail, "b.t": event.Fail}, []string{"a.t", "b.t"}, map[string]int{"base": 3, "patched": 3},
			"1 regression: suite/a.t, pass on base 3 of 3, fails with the patch 3 of 3; 1 fails on base, too: suite/b.t"},
		{"one fails on both, and one on base", map[string]event.Verdict{"a.t": event.Fail, "b.t": event.Fail}, map[string]event.Verdict{"b.t": event.Fail}, []string{"b.t", "a.t"}, map[string]int{"base": 3, "patched": 3},
			"1 gain: suite/a.t, fails on base 3 of 3, passes with the patch 3 of 3"},
		{"one is skipped with the patch", map[string]event.Verdict{"b.t": event.Fail}, map[string]event.Verdict{"a.t": event.Skip, "b.t": event.Fail}, nil, map[string]int{"base": 3, "patched": 3},
			"1 regression: suite/a.t, passes on base 3 of 3, skipped or not made with the patch 3 of 3"},
		{"one passes with the patch", map[string]event.Verdict{"b.t": event.Fail}, nil, []string{"b.t"}, map[string]int{"base": 3, "patched": 3},
			"1 gain: suite/b.t, fails on base 3 of 3, passes with the patch 3 of 3; nothing worse than on base in 3 checks"},
		{"a complaint", nil, map[string]event.Verdict{"console": event.Crash, "b.t": event.Fail}, nil, map[string]int{"base": 3, "patched": 3},
			"2 regressions: suite/b.t"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &Run{Status: Finished}
			ran := map[string]int{}
			run := func(a Repeat) {
				for kernel, n := range map[string]int{"base": a.Base, "patched": a.Patched} {
					verdicts := map[string]map[string]event.Verdict{"base": test.base, "patched": test.patched}[kernel]
					for ; ran[kernel] < n; ran[kernel]++ {
						c := Cell{Kernel: kernel, Program: "suite", Iteration: ran[kernel] + 1, Only: a.Checks, Verdict: event.Pass, Expected: true}
						for _, name := range append(slices.Clone(suite), "console") {
							v, told := verdicts[name]
							if len(a.Checks) > 0 && !slices.Contains(a.Checks, name) || !told && name == "console" {
								continue
							}
							if !told {
								v = event.Pass
							}
							k := Check{Check: event.Check{Name: name, Verdict: v, Detail: "WARNING in f"}, Expected: v == event.Pass || v == event.Skip}
							c.Checks, c.Verdict = append(c.Checks, k), event.Worst(c.Verdict, v)
							c.Expected = c.Expected && k.Expected
						}
						r.Cells = append(r.Cells, c)
					}
				}
			}
			run(Repeat{Base: 1, Patched: 1})
			again := Again(r.Cells, "base", "patched")
			if !slices.Equal(again[0].Checks, test.again) {
				t.Errorf("%q run again; want %q", again[0].Checks, test.again)
			}
			for ; len(again) > 0; again = Again(r.Cells, "base", "patched") {
				run(again[0])
			}
			if diff := cmp.Diff(test.runs, ran); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
			if got := Hold(r.Cells, "base", "patched", false).String(); !strings.HasPrefix(got, test.answer) {
				t.Errorf("%s\nwant %s", got, test.answer)
			}
		})
	}
}

// TestDifferenceNamesItsKernel: a patch of a series is held against the one before it.
func TestDifferenceNamesItsKernel(t *testing.T) {
	d := Difference{Program: "nop", Check: "sum", Base: Rate{0, 3}, Patched: Rate{3, 3}}
	for kind, want := range map[DifferentKind]string{
		Regression: "nop/sum, pass on patch 2 3 of 3, fails with the patch 3 of 3",
		Flaky:      "nop/sum fails in 0 of 3 on patch 2, 3 of 3 with the patch",
	} {
		if d.Kind = kind; d.From("patch 2") != want {
			t.Errorf("From = %q; want %q", d.From("patch 2"), want)
		}
	}
}
