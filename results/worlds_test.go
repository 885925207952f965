package results

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"patchproof/guest/event"
)

// world is a program on a tree that has troubles of its own, which are the same on both kernels.
type world struct {
	// fail, skip and miss are how often each check does so.
	fail, skip, miss []float64
	// warn is how often the tree complains, late how often the guest does not end, and lost how
	// often the host fails.
	warn, late, lost float64
	// suite says that each check is a test of its own, and runs alone.
	suite bool
	// wallS is what a run takes: few are to be had of a slow program.
	wallS float64
}

// made is a world by chance.
func made(r *rand.Rand, warn float64) world {
	now := func(one int, most float64) float64 {
		switch {
		case r.IntN(one) != 0:
			return 0
		case r.IntN(3) == 0:
			return 1
		}
		return most * r.Float64()
	}
	w := world{suite: r.IntN(3) == 0, warn: max(warn, now(6, 1)), late: now(8, 0.3), lost: min(now(8, 0.3), 0.3), wallS: []float64{0, 5, 40, 90}[r.IntN(4)]}
	for range 1 + r.IntN(4) {
		fail := now(3, 0.5)
		skip := now(6, 1-fail)
		w.fail, w.skip, w.miss = append(w.fail, fail), append(w.skip, skip), append(w.miss, now(10, max(0, 1-fail-skip)))
	}
	return w
}

// breaks are what a patch may do to a program, every time. Those of a check do it to one that base
// always passes, or always fails where it says so.
var breaks = []string{"", "check fails", "check is skipped", "check is gone", "check is new and fails", "complaint", "complaint with another title each time", "hang", "no report", "check that fails hangs"}

// run is a cell of the world, on a kernel that is broken so at a check.
func (w world) run(r *rand.Rand, broken string, at int, only []string) Cell {
	switch {
	case r.Float64() < w.lost:
		return Cell{Verdict: event.Error, Reason: "no memory on the host", WallS: w.wallS}
	case broken == "no report":
		return silentGuest(event.Error)
	}
	c := Cell{Verdict: event.Pass, Only: only, WallS: w.wallS}
	add := func(name string, v event.Verdict, detail string) {
		c.Checks = append(c.Checks, Check{Check: event.Check{Name: name, Verdict: v, Detail: detail}, Expected: v == event.Pass || v == event.Skip})
		c.Verdict = event.Worst(c.Verdict, v)
	}
	late := broken == "hang" || r.Float64() < w.late
	for i := range w.fail {
		name := fmt.Sprintf("t%d", i)
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		if late && !w.suite && i == at {
			break
		}
		luck := r.Float64()
		switch v := event.Pass; {
		case broken == "check is gone" && i == at:
		case broken == "check is skipped" && i == at:
			add(name+"/a", event.Skip, "")
		case broken == "check that fails hangs" && i == at:
			add(name+"/a", event.Hang, "")
		case broken == "check fails" && i == at, luck < w.fail[i]:
			add(name+"/a", event.Fail, "")
		case luck < w.fail[i]+w.skip[i]:
			add(name+"/a", event.Skip, "")
		case luck < w.fail[i]+w.skip[i]+w.miss[i]:
		default:
			if late && w.suite && i == at {
				v = event.Hang
			}
			add(name+"/a", v, "")
		}
		if broken == "check is new and fails" && i == at {
			add(name+"/new", event.Fail, "")
		}
	}
	if r.Float64() < w.warn {
		add("console 1", event.Crash, "WARNING in tree\n\nstack")
	}
	switch broken {
	case "complaint":
		add("console 2", event.Crash, "WARNING in patch\n\nstack")
	case "complaint with another title each time":
		add("console 2", event.Crash, fmt.Sprintf("Oops in f%d\n\nstack", r.IntN(1000)))
	}
	if late && !w.suite {
		add("deadline", event.Hang, "")
		c.Stopped = &Stopped{Phase: StoppedProgram, Last: "t1"}
	}
	c.Expected = !slices.ContainsFunc(c.Checks, func(k Check) bool { return !k.Expected })
	return c
}

// Whatever comes and goes on both kernels, a patch that breaks something every time is found,
// and one that breaks nothing is hardly ever blamed.
func TestHoldInAnyWorld(t *testing.T) {
	missed, blamed, innocent := 0, 0, 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		warn := float64(r.IntN(3) / 2)
		worlds := make([]world, 1+r.IntN(4))
		programs := map[string]suites{}
		broken := breaks[r.IntN(len(breaks))]
		for i := range worlds {
			worlds[i] = made(r, warn)
		}
		at := r.IntN(len(worlds[0].fail))
		if broken != "" {
			w := &worlds[0]
			w.fail[at], w.skip[at], w.miss[at], w.late = 0, 0, 0, 0
			if broken == "check that fails hangs" {
				w.fail[at] = 1
			}
		}
		for i, w := range worlds {
			programs[fmt.Sprintf("p%d", i)] = func(kernel string, _ int, only []string) Cell {
				how := ""
				if i == 0 && kernel == "patched" {
					how = broken
				}
				if !w.suite {
					only = nil
				}
				return w.run(r, how, at, only)
			}
		}
		run := holdSuites(t, programs, false)
		said := fmt.Sprintf("seed %d, %q in check %d of %+v: exit code %d, %s", seed, broken, at, worlds, run.ExitCode(), Answer(run))
		switch code := run.ExitCode(); {
		case broken != "" && code == 0:
			missed++
			t.Error("missed: " + said)
		case broken == "":
			innocent++
			if code == 1 {
				blamed++
			}
		}
		if slices.ContainsFunc(run.Against.Differences, func(d Difference) bool { return d.Kind == undecided }) {
			t.Error("undecided: " + said)
		}
	}
	t.Logf("%d missed; %d of %d innocent patches blamed", missed, blamed, innocent)
	if blamed > innocent*3/100 {
		t.Errorf("%d of %d patches that change nothing were blamed; want 3 in 100 at most", blamed, innocent)
	}
}
