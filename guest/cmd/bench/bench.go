//go:build linux

package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/mark"
	"patchproof/guest/uring"
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
	// several batches.
	minRounds = 16
)

// workload is one thing to measure, named as in Go's benchmark format.
type workload struct {
	name string
	// ops is the number of operations in a window.
	ops int
	// open makes ready and returns what a window runs, and what ends it.
	open func() (window func() error, end func() error, err error)
}

func run(t *report.T) {
	debug.SetGCPercent(-1)
	name, _ := machine.BootOption(groupKey)
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
	mark.Next() // from here on the host counts
	for _, w := range workloads {
		if !t.Check(w.name, machine.OnCPU(0, w.measure)) {
			return
		}
		t.Metric("ops", float64(w.ops), "ops/window", map[string]string{"bench": w.name, "windows": strconv.Itoa(windows)})
	}
}

// measure runs the windows.
func (w workload) measure() (err error) {
	window, end, err := w.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	for range warmUp {
		if err := window(); err != nil {
			return err
		}
	}
	for range windows {
		mark.Start()
		err := window()
		mark.Stop()
		if err != nil {
			return err
		}
	}
	mark.Next()
	return nil
}

// request makes a workload of one kind of request, batch of them in flight or at
// least submitted at once; flags are those of all but the last of a batch.
func request(name string, batch uint32, params uring.Params, flags uint8, fill func(*uring.SQE), want int32) workload {
	rounds := max(minRounds, windowOps/int(batch))
	return workload{name: name, ops: rounds * int(batch), open: func() (func() error, func() error, error) {
		r, err := uring.New(batch, params)
		if err != nil {
			return nil, nil, err
		}
		return func() error {
			for range rounds {
				if err := round(r, batch, flags, fill, want); err != nil {
					return err
				}
			}
			return nil
		}, r.Close, nil
	}}
}

// round submits one batch and takes its completions.
func round(r *uring.Ring, batch uint32, flags uint8, fill func(*uring.SQE), want int32) error {
	for i := range batch {
		sqe := r.Next()
		fill(sqe)
		if i < batch-1 {
			sqe.Flags |= flags
		}
	}
	consumed, err := r.Submit()
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if consumed != int(batch) {
		return fmt.Errorf("the kernel took %d of %d entries", consumed, batch)
	}
	if err := r.Wait(batch); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	for range batch {
		if cqe, _ := r.Take(); cqe.Res != want {
			return fmt.Errorf("result %d; want %d", cqe.Res, want)
		}
	}
	return nil
}
