//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// limit is when a check counts as a hang.
const limit = 5 * time.Second

func run(t *report.T) {
	if err := clock(); err != nil {
		t.Error("clock", err)
		return
	}
	const perBatch = "files/one-reference-per-batch"
	switch single, err := uring.Has(uring.FilesOneByOne); {
	case err != nil:
		t.Error(perBatch, err)
	case single != uring.Before:
		t.Skip(perBatch, alloccache.Feature, "the kernel takes the reference of a file for each request")
	default:
		t.Within(limit, perBatch, func() error { return files(t) })
	}
	t.Within(limit, "in-flight/flat", func() error { return inFlight(t) })
}

// rounds of each measurement; the median is what is reported, which a timer
// interrupt in one of them does not move.
const rounds = 41

// perRequest measures the instructions that the kernel spends on each of n
// requests: their submission and the wait for their completions. fill gets the
// entries one by one, flags is set on all but the last.
func perRequest(n uint32, flags uint8, prepare func(*uring.Ring) error, fill func(i uint32, sqe *uring.SQE)) (float64, error) {
	var spent []float64
	err := machine.OnCPU(0, func() error {
		return uring.With(n, uring.Params{}, func(r *uring.Ring) error {
			if err := prepare(r); err != nil {
				return err
			}
			for range rounds {
				for i := range n {
					sqe := r.Next()
					fill(i, sqe)
					if i < n-1 {
						sqe.Flags |= flags
					}
				}
				before := now()
				consumed, err := r.Submit()
				if err != nil || consumed != int(n) {
					return fmt.Errorf("the kernel took %d of %d entries (%v)", consumed, n, err)
				}
				if err := r.Wait(n); err != nil {
					return err
				}
				spent = append(spent, float64(now()-before)/float64(n))
				for range n {
					if cqe, _ := r.Take(); cqe.Res != 0 {
						return fmt.Errorf("an unexpected completion: %+v; want result 0", cqe)
					}
				}
			}
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	slices.Sort(spent)
	return spent[rounds/2], nil
}

// now is the number of instructions since boot.
func now() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func ready(*uring.Ring) error { return nil }

func nop(_ uint32, sqe *uring.SQE) { sqe.Opcode = uring.OpNop }

// clock checks that the clock counts instructions: then the same work takes the
// same twice, whatever the machine does beside. A round in which the kernel had
// something else to do does not move the median.
func clock() error {
	const tolerance = 0.002
	var took [2]float64
	for i := range took {
		spent := make([]float64, rounds)
		for j := range spent {
			before := now()
			for range 1000 {
				unix.Getppid()
			}
			spent[j] = float64(now() - before)
		}
		slices.Sort(spent)
		took[i] = spent[rounds/2]
	}
	if d := took[0] / took[1]; d < 1-tolerance || d > 1+tolerance {
		return fmt.Errorf("1000 system calls took %.0f, then %.0f instructions, in the median of %d rounds", took[0], took[1], rounds)
	}
	return nil
}

// files checks that a batch on one file takes its reference once for all: two
// files in turn must cost more, as each then needs a look-up and two atomic
// operations of its own (__io_file_get). The advice is the cheapest request that
// needs a file.
func files(t *report.T) error {
	const batch = 64
	var fds [2]int32
	for i := range fds {
		fd, err := unix.MemfdCreate("cost", unix.MFD_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		fds[i] = int32(fd)
	}
	measure := func(name string, flags uint8, fd func(i uint32) int32) (float64, error) {
		cost, err := perRequest(batch, 0,
			func(r *uring.Ring) error { return r.Files(fds[:]) },
			func(i uint32, sqe *uring.SQE) { sqe.Opcode, sqe.FD, sqe.Flags = uring.OpFadvise, fd(i), flags })
		t.Metric("cost", cost, "insns/op", map[string]string{"op": "FADVISE", "batch": fmt.Sprint(batch), "files": name})
		return cost, err
	}
	one, err := measure("one", 0, func(uint32) int32 { return fds[0] })
	if err != nil {
		return err
	}
	two, err := measure("two in turn", 0, func(i uint32) int32 { return fds[i%2] })
	if err != nil {
		return err
	}
	if _, err := measure("one registered", uring.SQEFixedFile, func(uint32) int32 { return 0 }); err != nil {
		return err
	}
	// v5.10.13 saves 54 instructions, with the RFC 0, the same in every run.
	const margin = 25
	if two-one < margin {
		return fmt.Errorf("%d requests on one file cost %.1f instructions each, on two in turn %.1f; want the one at least %d cheaper: its reference is not taken once per batch", batch, one, two, margin)
	}
	return nil
}

// inFlight checks that requests cost no more because others do not fit into the
// cache's lists (alloccache.Max). A chain is allocated whole before its head runs.
func inFlight(t *report.T) error {
	var fits float64
	var errs []error
	for _, n := range []uint32{64, alloccache.Max, alloccache.Max + 1, 300, 512, 1024} {
		cost, err := perRequest(n, uring.SQELink, ready, nop)
		if err != nil {
			return err
		}
		t.Metric("cost", cost, "insns/op", map[string]string{"op": "NOP", "in_flight": fmt.Sprint(n)})
		switch {
		case n == alloccache.Max:
			fits = cost
		case n > alloccache.Max:
			errs = append(errs, flat(fits, cost, n))
		}
	}
	return errors.Join(errs...)
}

// flat checks what a request costs with n in flight, where it costs fits with as many
// as a list holds. Those beyond come from the slab and go back to it, as they do without
// a cache: one that keeps a certain number cannot save anything for these.
func flat(fits, cost float64, n uint32) error {
	// From the slab, a NOP of v5.10.13 costs 609 to 624 instructions; out of a cache
	// 476 to 496, which makes the slab 1.3 times as dear.
	const (
		margin = 1.06
		slab   = 1.4
	)
	beyond := n - alloccache.Max
	most := fits * margin * (1 + (slab-1)*float64(beyond)/float64(n))
	if cost > most {
		return fmt.Errorf("with %d in flight a NOP costs %.1f instructions, with %d %.1f; want at most %.1f, which is %g times as much, if each of the %d that do not fit costs %g times as much as one that does", n, cost, alloccache.Max, fits, most, margin, beyond, slab)
	}
	return nil
}
