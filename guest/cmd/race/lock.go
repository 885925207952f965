package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// lockRounds times, a shrinker works through thousands of requests while bursts of
// timeouts fire. On the RFC five are not always enough, forty were.
const lockRounds = 80

// lock shrinks on the CPU whose timers fire: the shrinker holds free_lock with
// interrupts enabled, and the timeouts' interrupt reclaims, which takes it too. The
// CPU then spins with interrupts off: nothing in the guest can tell, so the harness
// asks it, by NMI, when its deadline is over.
func lock() error {
	spec, err := machine.Buffer(timespecSize)
	if err != nil {
		return err
	}
	return machine.OnCPU(0, func() error {
		for round := range lockRounds {
			if err := fill(40); err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
			if err := shrinkUnderTimers(spec); err != nil {
				return fmt.Errorf("round %d: %w", round+1, err)
			}
		}
		return nil
	})
}

// diskLock shrinks on the CPU that the disk interrupts. Chains that the other CPU
// submitted fail there, each with more requests than a list keeps: the interrupt
// that frees them takes the lock that the shrinker may hold. When this CPU then spins
// for ever, the other one soon waits for it too, with a TLB flush; there the kernel
// still tells, by RCU's stall detector.
func diskLock() error {
	chains, interrupted, err := failingChains()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- chains(1-interrupted, diskLockChains) }()
	return machine.OnCPU(interrupted, func() error {
		for {
			select {
			case err := <-ended:
				return err
			default:
			}
			if err := machine.DropSlab(); err != nil {
				return errors.Join(err, <-ended)
			}
		}
	})
}

// diskIRQLock takes the lock as diskLock does, in the interrupt and then in the
// shrinker, but never in both at once: lockdep tells what could come of it. Only the
// list of what interrupts free overflows, so that only its lock is taken.
func diskIRQLock() error {
	if _, _, err := failingChains(); err != nil {
		return err
	}
	return machine.DropSlab()
}

// failingChains returns what submits n failing chains from a CPU, and the CPU that
// the disk interrupts, on which one has failed by then.
func failingChains() (chains func(cpu, n int) error, interrupted int, err error) {
	bad, err := machine.BadSector()
	if err != nil {
		return nil, 0, err
	}
	fromDisk, fromZero, err := reads()
	if err != nil {
		return nil, 0, err
	}
	if err := machine.EndWhereInterrupted(); err != nil {
		return nil, 0, err
	}
	toBadSector := func(sqe *uring.SQE) {
		fromDisk(sqe)
		sqe.Opcode, sqe.Off = uring.OpWrite, uint64(bad*machine.Sector)
	}
	chains = func(cpu, n int) error {
		return machine.OnCPU(cpu, func() error {
			return uring.With(1+overflow, uring.Params{}, func(r *uring.Ring) error {
				for i := range n {
					// NVME_SC_WRITE_FAULT (nvme_error_status, blk_status_to_errno); the
					// links go in the same interrupt (io_complete_rw, io_fail_links).
					if err := failChain(r, toBadSector, fromZero, overflow, unix.ENODATA); err != nil {
						return fmt.Errorf("chain %d of %d: %w", i+1, n, err)
					}
				}
				return nil
			})
		})
	}
	interrupted, err = machine.NVMeInterruptedBy(func() error { return chains(0, 1) })
	return chains, interrupted, err
}

// diskLockChains make some interrupts come while the lock is held.
const diskLockChains = 2000

// overflow requests in flight make a list reclaim when they are freed.
const overflow = 300

// fill puts chains times overflow requests on the CPU's free list, on a kernel that
// has one.
func fill(chains int) error {
	return uring.With(overflow, uring.Params{}, func(r *uring.Ring) error { return chainsOn(r, chains) })
}

// chainsOn is fill with a ring that is there.
func chainsOn(r *uring.Ring, chains int) error {
	for range chains {
		if err := r.Run(overflow, uring.SQELink, uring.Nop, 0); err != nil {
			return err
		}
	}
	return nil
}

// shrinkUnderTimers arms bursts of timeouts and shrinks until they have fired.
func shrinkUnderTimers(spec []byte) error {
	const bursts = 5
	return uring.With(bursts*overflow, uring.Params{}, func(r *uring.Ring) error {
		for burst := range bursts {
			binary.LittleEndian.PutUint64(spec[8:], uint64(burst+1)*uint64(2*time.Millisecond))
			for range overflow {
				sqe := r.Next()
				sqe.Opcode, sqe.FD, sqe.Addr, sqe.Len = uring.OpTimeout, -1, uring.Address(spec), 1
			}
			if _, err := r.Submit(); err != nil {
				return fmt.Errorf("submit: %w", err)
			}
		}
		for r.Ready() < bursts*overflow {
			if err := machine.DropSlab(); err != nil {
				return err
			}
		}
		for range bursts * overflow {
			if cqe, _ := r.Take(); cqe.Res != -int32(unix.ETIME) {
				return fmt.Errorf("timeout: result %d; want %d", cqe.Res, -int32(unix.ETIME))
			}
		}
		return nil
	})
}

// irqLock takes free_lock of class 0 where lock deadlocks on it, one after the
// other: a list overflows in a timer's interrupt, then a task shrinks it. A kernel
// with lockdep tells from that.
func irqLock() error {
	return machine.OnCPU(0, func() error {
		return errors.Join(fireOnce(overflow), machine.DropSlab())
	})
}

// fireOnce lets n timeouts fire at once, after all are armed.
func fireOnce(n uint32) error {
	spec, err := machine.Buffer(timespecSize)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(spec[8:], uint64(machine.Patience(20*time.Millisecond)))
	return uring.With(n, uring.Params{}, func(r *uring.Ring) error {
		return r.Run(n, 0, func(sqe *uring.SQE) {
			sqe.Opcode, sqe.FD, sqe.Addr, sqe.Len = uring.OpTimeout, -1, uring.Address(spec), 1
		}, -int32(unix.ETIME))
	})
}

// lockOrder makes a list overflow where the ring's completion_lock is held: a
// request that fails has the requests linked to it freed under it (io_fail_links).
// An interrupt takes that lock too, when a timeout fires; free_lock, which reclaim
// takes inside it, others take with interrupts on. A kernel with lockdep tells from
// these three, one after the other. One timeout alone overflows no list, so that
// free_lock itself is never taken in an interrupt here; irqLock does that.
func lockOrder() error {
	return machine.OnCPU(0, func() error {
		return errors.Join(fireOnce(1), fill(1), machine.DropSlab(), failLinks(overflow))
	})
}

// failLinks fails a request with n NOPs linked to it.
func failLinks(n int) error {
	return uring.With(uint32(1+n), uring.Params{}, func(r *uring.Ring) error {
		// No timeout has this number.
		head := func(sqe *uring.SQE) { sqe.Opcode, sqe.Addr = uring.OpTimeoutRemove, 1 }
		return failChain(r, head, uring.Nop, n, unix.ENOENT)
	})
}

// failChain submits a request that fails with want, and n linked to it, which must be
// cancelled, in order.
func failChain(r *uring.Ring, head, link func(*uring.SQE), n int, want unix.Errno) error {
	all := 1 + n
	for i := range all {
		fill := link
		if i == 0 {
			fill = head
		}
		sqe := r.Next()
		fill(sqe)
		sqe.UserData = uint64(i)
		if i < all-1 {
			sqe.Flags = uring.SQELink
		}
	}
	if consumed, err := r.Submit(); err != nil || consumed != all {
		return fmt.Errorf("the kernel took %d of %d entries (%v)", consumed, all, err)
	}
	if err := r.Wait(uint32(all)); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	for i := range all {
		expected := uring.CQE{UserData: uint64(i), Res: -int32(unix.ECANCELED)}
		if i == 0 {
			expected.Res = -int32(want)
		}
		if cqe, _ := r.Take(); cqe != expected {
			return fmt.Errorf("completion %d of %d: %+v; want %+v", i+1, all, cqe, expected)
		}
	}
	return nil
}
