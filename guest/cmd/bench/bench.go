//go:build linux

package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/mark"
)

// groupKey is the boot option that names the group of workloads to run.
const groupKey = "patchproof.bench"

// A window is what is measured at once. It is short, so that most windows meet
// no timer interrupt and no other thread: their median is then free of both.
const (
	windows   = 51
	warmUp    = 3
	windowOps = 1024
	// minRounds makes the window of a large batch span what happens once in
	// several batches. Where the least window counts it has no more than mostOps, so
	// that some have no tick of the timer: a NOP takes some 600 instructions, and a
	// tick comes every 4 million (CONFIG_HZ=250).
	minRounds = 16
	mostOps   = 2048
)

// workload is one thing to measure, named as in Go's benchmark format.
type workload struct {
	name string
	// ops is the number of operations in a window of one thread.
	ops int
	// windows is how many are measured, the constant when it is 0.
	windows int
	// cpus are the CPUs that run it at once, each with a thread that is bound to it;
	// CPU 0 when it is empty.
	cpus []int
	// open makes a thread ready, and runs on it.
	open func() (*task, error)
	// median says that windows differ by what is measured, as where a slow path is taken
	// now and then, so that the one with the fewest instructions says little.
	median bool
	// beside, unless nil, is done over and over by another thread, bound to CPU 1.
	beside func() error
	// clock measures it, unless it is nil: then the host counts.
	clock *stopwatch
}

// task is what a thread does.
type task struct {
	// prepare, unless nil, is done before each window and not measured.
	prepare func() error
	window  func() error
	end     func() error
}

func run(t *report.T) {
	debug.SetGCPercent(-1)
	name, _ := machine.BootOption(groupKey)
	if name == memoryGroup {
		memory(t)
		return
	}
	group, ok := groups[name]
	if !ok {
		t.Error("group", fmt.Errorf("%s=%q names no workloads", groupKey, name))
		return
	}
	workloads, err := group()
	if err != nil {
		t.Error("group", err)
		return
	}
	option, _ := machine.BootOption(clockKey)
	timed := option == "1"
	air := newWeather()
	mark.Next() // from here on the host counts
	for _, w := range workloads {
		if timed {
			w.clock = &stopwatch{}
		}
		if w.windows == 0 {
			w.windows = windows
		}
		if len(w.cpus) == 0 {
			w.cpus = []int{0}
		}
		if !t.Check(w.name, w.measure()) {
			return
		}
		if timed {
			w.clock.report(t, w)
			air.look(w.cpus)
			continue
		}
		labels := map[string]string{"bench": w.name, "windows": strconv.Itoa(w.windows)}
		if w.median {
			labels["figure"] = "median"
		}
		t.Metric("ops", float64(w.ops), "ops/window", labels)
	}
	if timed {
		air.report(t)
	}
}

// measure runs the workload's threads, and marks its end.
func (w workload) measure() (err error) {
	stop := make(chan struct{})
	var beside error
	var others, threads sync.WaitGroup
	if w.beside != nil {
		others.Go(func() {
			beside = machine.OnCPU(1, func() error {
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					if err := w.beside(); err != nil {
						return err
					}
				}
			})
		})
	}
	errs := make([]error, len(w.cpus))
	line := &startLine{threads: int64(len(w.cpus))}
	for i, cpu := range w.cpus {
		threads.Go(func() {
			errs[i] = machine.OnCPU(cpu, func() error { return w.thread(line, i == 0) })
			if errs[i] != nil {
				line.broken.Store(true)
			}
		})
	}
	threads.Wait()
	close(stop)
	others.Wait()
	mark.Next()
	return errors.Join(append(errs, beside)...)
}

// thread runs the windows of one thread, each when all threads are ready for it.
func (w workload) thread(line *startLine, first bool) (err error) {
	task, err := w.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, task.end()) }()
	if w.clock != nil {
		return w.clock.measure(task, line, first)
	}
	for i := range warmUp + w.windows {
		if task.prepare != nil {
			if err := task.prepare(); err != nil {
				return err
			}
		}
		if !line.wait(int64(i)) {
			return nil // another thread says why
		}
		if i >= warmUp {
			mark.Start()
		}
		err := task.window()
		if i >= warmUp {
			mark.Stop()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// startLine is where the threads wait for each other.
type startLine struct {
	threads int64
	arrived atomic.Int64
	broken  atomic.Bool
}

// wait returns when every thread has come for window i; false when one never will.
func (l *startLine) wait(i int64) bool {
	for l.arrived.Add(1); l.arrived.Load() < (i+1)*l.threads; {
		if l.broken.Load() {
			return false
		}
		unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	return true
}
