package main

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest"
)

// places is how many guests the machines of docs/scale.md run at once: they have two cores.
const places = 2

// longestShard is how many seconds the cells of a patch and its base take on so many machines, by
// the durations of the reference results.
func longestShard(t *testing.T, machines int) float64 {
	t.Helper()
	subject, err := kernel.NamedSubject("")
	if err != nil {
		t.Fatal(err)
	}
	took, err := results.ReferenceSeconds(subject.Path(results.ReferenceFolder))
	if err != nil {
		t.Fatal(err)
	}
	const variant = "plain"
	programs, err := vmtest.SelectPrograms(vmtest.Selection{}, variant)
	if err != nil {
		t.Fatal(err)
	}
	// What is compared stays together.
	var cells [][]float64
	var pieces []float64
	for _, p := range programs {
		a, b := took(subject.Pin, variant, kernel.Base, p.Name), took(subject.Pin, variant, "posted", p.Name)
		cells, pieces = append(cells, []float64{a, b}), append(pieces, a+b)
	}
	longest := 0.
	part := vmtest.Balance(pieces, machines)
	for machine := 1; machine <= machines; machine++ {
		var mine []float64
		for i, c := range cells {
			if part[i] == machine {
				mine = append(mine, c...)
			}
		}
		loads := make([]float64, places)
		for i, place := range vmtest.Balance(mine, places) {
			loads[place-1] += mine[i]
		}
		longest = max(longest, slices.Max(loads))
	}
	return longest
}

// The minutes that docs/scale.md assumes for a patch on one machine.
const (
	usualPatch = 4.5
	slowPatch  = 13
	slowShare  = 0.1
	// Of a day's patches that many arrive in ten of its hours.
	busyShare = 0.8
)

// answers simulates a queue before some machines, and gives the minutes in which half and 95 % of the
// patches are answered.
func answers(perDay, machines int) (half, most float64) {
	const days, day, busy, busyFrom = 300, 24 * 60, 10 * 60, 8 * 60
	random := rand.New(rand.NewPCG(1, 2))
	var arrivals []float64
	for d := range days {
		for range perDay {
			minute := busyFrom + random.Float64()*busy
			if random.Float64() >= busyShare {
				minute = busyFrom + busy + random.Float64()*(day-busy)
			}
			arrivals = append(arrivals, float64(d*day)+minute)
		}
	}
	slices.Sort(arrivals)
	free := make([]float64, machines)
	var took []float64
	for _, at := range arrivals {
		need := usualPatch
		if random.Float64() < slowShare {
			need = slowPatch
		}
		next := slices.Index(free, slices.Min(free))
		free[next] = max(at, free[next]) + need
		took = append(took, free[next]-at)
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*95/100]
}

// The tables of docs/scale.md are computed.
func TestScaleTables(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(checkout, "docs", "scale.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, machines := range []int{1, 2, 3, 5, 7} {
		want = append(want, fmt.Sprintf("| %d | %.0f |", machines, longestShard(t, machines)))
	}
	for _, queue := range [][2]int{{100, 1}, {100, 2}, {100, 3}, {1000, 6}, {1000, 7}, {1000, 8}, {1000, 9}} {
		half, most := answers(queue[0], queue[1])
		want = append(want, fmt.Sprintf("| %d | %d | %.1f | %.1f |", queue[0], queue[1], half, most))
	}
	for _, row := range want {
		if !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/scale.md lacks the row %s", row)
		}
	}
}

// work is what a cell takes: seconds where it has the machine for itself, and how many processors it
// keeps busy meanwhile.
type work struct{ seconds, processors float64 }

// makespan simulates workers that take cells in their order, on a machine that shares its processors
// fairly: in how many seconds all are done.
func makespan(cells []work, workers int, processors float64) float64 {
	var active []work
	now := 0.
	for next := 0; next < len(cells) || len(active) > 0; {
		for len(active) < workers && next < len(cells) {
			active = append(active, cells[next])
			next++
		}
		wanted := 0.
		for _, w := range active {
			wanted += w.processors
		}
		// All go on as slowly as the processors are too few.
		slower := max(1, wanted/processors)
		least := slices.MinFunc(active, func(a, b work) int { return cmp.Compare(a.seconds, b.seconds) }).seconds
		now += least * slower
		for i := range active {
			active[i].seconds -= least
		}
		active = slices.DeleteFunc(active, func(w work) bool { return w.seconds <= 1e-9 })
	}
	return now
}

func TestMakespan(t *testing.T) {
	same := func(n int, w work) []work { return slices.Repeat([]work{w}, n) }
	for _, tt := range []struct {
		name       string
		cells      []work
		workers    int
		processors float64
		want       float64
	}{
		{"nothing", nil, 2, 2, 0},
		{"one after the other", same(4, work{10, 1}), 1, 2, 40},
		{"a processor each", same(4, work{10, 1}), 2, 2, 20},
		{"more workers than processors", same(4, work{10, 1}), 4, 2, 20},
		{"more workers than cells", same(2, work{10, 1}), 8, 2, 10},
		{"both processors each", same(4, work{10, 2}), 2, 2, 40},
		{"all wait", same(4, work{10, 0}), 4, 2, 10},
		{"the longest last", []work{{10, 1}, {10, 1}, {30, 1}}, 2, 2, 40},
		{"one waits while another is busy", []work{{10, 2}, {10, 0.5}}, 2, 2, 12.5},
	} {
		if got := makespan(tt.cells, tt.workers, tt.processors); math.Abs(got-tt.want) > 1e-6 {
			t.Errorf("%s: makespan = %v; want %v", tt.name, got, tt.want)
		}
	}
}

// measured runs the cells with so many workers, and gives its seconds, its record, and a function that
// tells the processor time that had been used at a moment.
func measured(t *testing.T, workers int) (float64, *results.Run, func(time.Time) float64) {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command("bin/patchproof", "vmtest")
	cmd.Dir, cmd.Stdout, cmd.Stderr = checkout, &out, &out
	cmd.Env = append(os.Environ(), "KERNELS=base posted", fmt.Sprint("JOBS=", workers))
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	type sample struct {
		at   time.Time
		used float64
	}
	var samples []sample
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case <-tick.C:
			now := sample{time.Now(), processorTime(cmd.Process.Pid)}
			// A process may end while the others are looked at.
			if n := len(samples); n > 0 {
				now.used = max(now.used, samples[n-1].used)
			}
			samples = append(samples, now)
			continue
		case err := <-ended:
			if err != nil {
				t.Fatalf("the run ended with %v:\n%s", err, out.String())
			}
		}
		break
	}
	took := time.Since(began).Seconds()
	run, err := results.Read(filepath.Join(checkout, "results", "out", "latest"))
	if err != nil {
		t.Fatal(err)
	}
	return took, run, func(at time.Time) float64 {
		i, _ := slices.BinarySearchFunc(samples, at, func(s sample, at time.Time) int { return s.at.Compare(at) })
		return samples[min(i, len(samples)-1)].used
	}
}

// processorTime is what a process and all that it started have used, in seconds. Who has ended counts for
// the process that waited for it.
func processorTime(pid int) float64 {
	const ticks = 100 // USER_HZ, which is the same on every machine of ours.
	children := map[int][]int{}
	used := map[int]float64{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// The name, in brackets, may have anything in it.
		_, rest, _ := strings.Cut(string(text[max(0, strings.LastIndex(string(text), ")")):]), " ")
		fields := strings.Fields(rest)
		if len(fields) < 15 {
			continue
		}
		own, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], own)
		for _, field := range fields[11:15] {
			n, _ := strconv.ParseFloat(field, 64)
			used[own] += n / ticks
		}
	}
	total := 0.
	for all := []int{pid}; len(all) > 0; all = all[1:] {
		total += used[all[0]]
		all = append(all, children[all[0]]...)
	}
	return total
}

// What the simulation says of 1, 2 and 4 workers on this machine, from what one worker took, is held
// against what they take (make scale). It wants a machine with nothing else to do, and kernels that are built.
func TestScaleMeasured(t *testing.T) {
	if os.Getenv("SCALE") == "" {
		t.Skip("SCALE is not set; make scale")
	}
	took, run, used := measured(t, 1)
	slices.SortFunc(run.Cells, func(a, b results.Cell) int { return cmp.Compare(a.StartS, b.StartS) })
	at := func(s float64) time.Time { return run.Started.Add(time.Duration(s * float64(time.Second))) }
	var cells []work
	for i, c := range run.Cells {
		end := c.StartS + c.WallS
		// What lies between two cells goes with the first.
		if i+1 < len(run.Cells) {
			end = run.Cells[i+1].StartS
		}
		seconds := end - c.StartS
		cells = append(cells, work{seconds, (used(at(end)) - used(at(c.StartS))) / seconds})
		t.Logf("%-28s %6.1f s, %.2f processors", c.Program+" on "+c.Kernel, seconds, cells[i].processors)
	}
	processors := float64(runtime.NumCPU())
	beside := took - makespan(cells, 1, processors)
	t.Logf("%d cells; %.1f s beside them", len(cells), beside)
	for _, workers := range []int{1, 2, 4} {
		want, _, _ := measured(t, workers)
		got := beside + makespan(cells, workers, processors)
		off := 100 * (got/want - 1)
		t.Logf("| %d | %.0f | %.0f | %+.0f %% |", workers, got, want, off)
		if math.Abs(off) > 15 {
			t.Errorf("with %d workers the simulation says %.0f s, and it took %.0f s: %+.0f %%; want 15 %% at most", workers, got, want, off)
		}
	}
}
