//go:build linux

package main

import (
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
)

// clockKey is the boot option by which time is measured instead of marks being set
// for a counter.
const clockKey = "patchproof.clock"

const (
	// warmTime is how long a workload runs before it is measured, so that its CPU has
	// the frequency that it then keeps.
	warmTime = 50 * time.Millisecond
	// samples is how many are taken of each workload, and sampleTime how long one
	// takes at least, where its windows may follow each other.
	samples    = 21
	sampleTime = 5 * time.Millisecond
)

// stopwatch measures the time of a workload.
type stopwatch struct {
	// plan is made by the first thread at the end of the warm-up.
	plan atomic.Pointer[plan]

	mu sync.Mutex
	// took is the time of each sample, of all threads.
	took []time.Duration
}

// plan is the first window to measure and how many make a sample.
type plan struct{ from, each int64 }

// measure runs the windows of one thread; first is that of the first.
func (s *stopwatch) measure(t *task, line *startLine, first bool) error {
	var warm, sample time.Duration
	begin := machine.Clock()
	for i := int64(0); ; i++ {
		if p := s.plan.Load(); p != nil && i == p.from+samples*p.each {
			return nil
		}
		if t.prepare != nil {
			if err := t.prepare(); err != nil {
				return err
			}
		}
		if first && s.plan.Load() == nil && i >= warmUp && machine.Clock()-begin >= warmTime {
			p := &plan{from: i, each: 1}
			if t.prepare == nil {
				p.each = 1 + i*int64(sampleTime)/int64(warm)
			}
			s.plan.Store(p)
		}
		if !line.wait(i) {
			return nil // another thread says why
		}
		start := machine.Clock()
		if err := t.window(); err != nil {
			return err
		}
		took := machine.Clock() - start
		// The first thread plans before it comes to the line, so that a plan is seen in
		// time, and by a slow thread one window early.
		p := s.plan.Load()
		if p == nil || i < p.from {
			warm += took
			continue
		}
		sample += took
		if (i-p.from+1)%p.each == 0 {
			s.mu.Lock()
			s.took = append(s.took, sample)
			s.mu.Unlock()
			sample = 0
		}
	}
}

// report says what was measured: the median, and all samples.
func (s *stopwatch) report(t *report.T, w workload) {
	ops := float64(w.ops) * float64(s.plan.Load().each)
	label := func(more ...string) map[string]string {
		labels := map[string]string{"bench": w.name}
		if len(more) == 2 {
			labels[more[0]] = more[1]
		}
		return labels
	}
	t.Metric("ops", ops, "ops/window", label("windows", strconv.Itoa(samples)))
	var times []float64
	for _, took := range s.took {
		times = append(times, math.Round(1e3*float64(took.Nanoseconds())/ops)/1e3)
	}
	slices.Sort(times)
	t.Metric("time", times[len(times)/2], "ns/op", label())
	for i, ns := range times {
		t.Metric("time-window", ns, "ns/op", label("rank", strconv.Itoa(i)))
	}
}

// weather is what may disturb the times.
type weather struct {
	begin       time.Duration
	steal       float64
	least, most float64
}

func newWeather() *weather { return &weather{begin: machine.Clock(), steal: machine.Steal()} }

// look takes the frequencies of the CPUs; it must be called when they were busy.
func (w *weather) look(cpus []int) {
	for _, cpu := range cpus {
		if mhz := machine.MHz(cpu); mhz > 0 {
			w.most = max(w.most, mhz)
			if w.least == 0 || mhz < w.least {
				w.least = mhz
			}
		}
	}
}

// report says it of all workloads together.
func (w *weather) report(t *report.T) {
	from := func(more ...string) map[string]string {
		labels := map[string]string{"from": "guest"}
		if len(more) == 2 {
			labels[more[0]] = more[1]
		}
		return labels
	}
	if online, err := machine.OnlineCPUs(); err == nil {
		t.Metric("steal", 100*(machine.Steal()-w.steal)/(machine.Clock()-w.begin).Seconds()/float64(len(online)), "%", from())
	}
	if w.most > 0 {
		t.Metric("frequency", w.least, "MHz", from("at", "least"))
		t.Metric("frequency", w.most, "MHz", from("at", "most"))
	}
}
