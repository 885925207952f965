//go:build linux

package main

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// hotplugCompletion takes a CPU offline on which requests complete. A CPU that frees them to
// the last moment comes first.
func hotplugCompletion() error {
	if err := freeToTheLast(); err != nil {
		return fmt.Errorf("NOPs alone: %w", err)
	}
	return underCompletions(hotplug, 0)
}

const (
	// lastRounds is how often freeToTheLast takes a CPU offline; one was enough so far.
	lastRounds = 4
	// lastNOPs are as many as a ring can have. An emulated CPU is gone before it has run them
	// all, mostly; a round in which it is not says nothing.
	lastNOPs = 1 << 15
)

// freeToTheLast takes a CPU offline that takes and frees requests all the while, one at a time,
// and then looks for what it has kept. A CPU works on for a moment after the callbacks that it
// runs itself; a cache that such a callback has emptied is in use again by then.
//
// All rounds have one ring, for the reason that hotplugShrink has.
func freeToTheLast() error {
	const home, victim = 0, 1
	return machine.OnCPU(home, func() error {
		return uring.With(lastNOPs, uring.Params{}, func(r *uring.Ring) error {
			for round := range lastRounds {
				err := errors.Join(dieFreeing(r, victim), machine.Bind(home))
				if err == nil {
					err = noneKept(r, victim)
				}
				if err == nil {
					err = machine.SetOnline(victim, true)
				}
				if err != nil {
					return fmt.Errorf("round %d: %w", round+1, err)
				}
			}
			return nil
		})
	})
}

// dieFreeing runs NOPs on the CPU until it is gone.
func dieFreeing(r *uring.Ring, cpu int) error {
	if err := machine.Bind(cpu); err != nil {
		return err
	}
	for range lastNOPs {
		uring.Nop(r.Next())
	}
	r.Publish()
	gone := make(chan error, 1)
	go func() { gone <- machine.SetOnline(cpu, false) }()
	err := enterOn(cpu, r.FD)
	if err := errors.Join(err, <-gone); err != nil {
		return err
	}
	if _, err := r.Submit(); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	for n := range lastNOPs {
		if cqe, ok := r.Take(); !ok || cqe.Res != 0 {
			return fmt.Errorf("NOP %d of %d: completed: %v, result %d; want 0", n+1, lastNOPs, ok, cqe.Res)
		}
	}
	return nil
}

// enterOn submits what is published, one request a call, while the thread is on the CPU. A
// thread that sleeps does not wake up on a CPU that is going, and Go puts one to sleep that has
// run for ten milliseconds. So signals are blocked, and no call lets Go in.
func enterOn(cpu, fd int) error {
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	now := uint32(cpu)
	for n := 0; n < lastNOPs && now == uint32(cpu); n++ {
		unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), 1, 0, 0, 0, 0)
		unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&now)), 0, 0)
	}
	return unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
}

// noneKept checks that a CPU that is offline has no requests, where a cache is shown or
// declared, with none in use.
func noneKept(r *uring.Ring, cpu int) error {
	rows, err := alloccache.Read(r.FD)
	if errors.Is(err, alloccache.ErrAbsent) {
		return allInUse()
	}
	if err != nil {
		return err
	}
	return alloccache.NoneOn(rows, cpu)
}
