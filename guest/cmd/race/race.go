//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// limit is when a scenario counts as a hang.
const limit = 15 * time.Second

// scenarios are the races by their name on the kernel command line. Each passes on
// a kernel without the cache; what they do to one with it is declared beside the
// series.
var scenarios = map[string]func() error{
	"timer":          func() error { return timers(0) },
	"link":           func() error { return timers(links) },
	"disk":           diskInterrupts,
	"lock":           lock,
	"disk-lock":      diskLock,
	"hotplug-shrink": hotplugShrink,
	"irq-lock":       irqLock,
	"disk-irq-lock":  diskIRQLock,
	"order":          lockOrder,

	"hotplug-completion": hotplugCompletion,
	"shrink-completion":  shrinkCompletion,
	"all-three":          func() error { return underCompletions(hotplugShrink, 20*time.Millisecond) },
}

func run(t *report.T) {
	name, _ := machine.BootOption("patchproof.race")
	scenario, ok := scenarios[name]
	if !ok {
		t.Error("race", fmt.Errorf("patchproof.race=%q names no scenario", name))
		return
	}
	t.Within(limit, name, scenario)
}

const (
	// links are the NOPs behind a timeout: it fails them as it fires, in the timer's
	// interrupt.
	links = 3
	// timerRounds make some six thousand interrupts, of which one in two hundred
	// comes where it does harm: about four of the 600 instructions of a NOP.
	timerRounds = 200
	// timerLook divides timerRounds: after so many it is seen whether something is lost.
	// Requests that the RFC counts and does not have would let the list overflow in the
	// end, in one run of twenty, and then an interrupt can want the free_lock that its
	// task holds: the CPU stands still.
	timerLook = 10
	// armed requests at a time, timeouts and their links, end spread over window, so
	// that most timeouts have an interrupt of their own. With the NOPs they are too few
	// for a list to overflow.
	armed  = 32
	window = 10 * time.Millisecond
	// nops are submitted at once between two looks at the completions: so many that
	// the processor is seldom anywhere else than in the kernel. v5.10 frees them with
	// interrupts off (io_submit_flush_completions), so what is torn is an allocation.
	nops = 128
)

// timespecSize is that of struct __kernel_timespec.
const timespecSize = 16

// timers lets timeouts fire while NOPs are allocated and freed on the same CPU.
// Both are of the class that the RFC keeps with preemption disabled only, and a
// timeout is freed in the interrupt that it fires in: when the task is taking a
// request off the list at that moment, what the interrupt put there is lost.
func timers(links uint32) error {
	spec, err := machine.Buffer(armed * timespecSize)
	if err != nil {
		return err
	}
	return uring.With(2*alloccache.Max, uring.Params{}, func(r *uring.Ring) error {
		for round := range timerRounds {
			err := fire(r, spec, links)
			if err == nil && (round+1)%timerLook == 0 {
				err = nothingLost(r, uring.Nop, 0)
			}
			if err != nil {
				return fmt.Errorf("round %d of %d: %w", round+1, timerRounds, err)
			}
		}
		return nil
	})
}

// nothingLost takes all requests of a class that are available at once, on a machine
// with one CPU, and so finds out whether they are where the counters say: the slab
// must not have to give more. The requests end where they are issued, with result
// want.
func nothingLost(r *uring.Ring, fill func(*uring.SQE), want int32) error {
	rows, err := alloccache.Read(r.FD)
	if errors.Is(err, alloccache.ErrAbsent) {
		return allInUse()
	}
	if err != nil {
		return err
	}
	held := alloccache.Total(rows, 0) + alloccache.Total(rows, 1)
	before, err := machine.SlabObjects(alloccache.Slab)
	if err != nil {
		return err
	}
	// The ring has a request of its own, for when there is no memory.
	if before != held+1 {
		return fmt.Errorf("the slab has %d requests in use; want %d: %d that the caches count, and the ring's own\n%v", before, held+1, held, rows)
	}
	var sqe uring.SQE
	fill(&sqe)
	available := rows[alloccache.Class(sqe.Opcode)].Avail
	if err := r.Run(uint32(available), uring.SQELink, fill, want); err != nil {
		return err
	}
	after, err := machine.SlabObjects(alloccache.Slab)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("of %d available requests %d are on no list: with all of them in flight the slab had to give that many\n%v", available, after-before, rows)
	}
	return nil
}

// allInUse checks, where a cache keeps requests that it does not show, that all come
// back when it is emptied: what is left is the ring's own.
func allInUse() error {
	if kept, err := alloccache.Kept(); err != nil || kept == 0 {
		return err
	}
	want, err := alloccache.IdleRequests()
	if err != nil {
		return err
	}
	// Requests are freed a moment after they have completed.
	return machine.Await(time.Second, func() error {
		got, err := alloccache.InUse()
		if err == nil && got != want {
			err = fmt.Errorf("the slab has %d requests in use with its caches emptied; want %d, the idle ring's own", got, want)
		}
		return err
	})
}

// fire arms timeouts and runs NOPs until all have fired. The timeouts and their
// links are numbered from 1; NOPs are 0 and counted.
func fire(r *uring.Ring, spec []byte, links uint32) error {
	seen := make([]bool, 1+armed)
	for i := range uint32(armed) {
		sqe := r.Next()
		sqe.UserData = 1 + uint64(i)
		if i%(1+links) < links {
			sqe.Flags = uring.SQELink
		}
		if i%(1+links) == 0 {
			at := spec[i*timespecSize : (i+1)*timespecSize]
			binary.LittleEndian.PutUint64(at[8:], uint64(window)*uint64(i+1)/armed)
			sqe.Opcode, sqe.FD, sqe.Addr, sqe.Len = uring.OpTimeout, -1, uring.Address(at), 1
		}
	}
	sent, left := 0, len(seen)-1
	for left > 0 || sent > 0 {
		if left > 0 {
			for range nops {
				r.Next()
			}
			sent += nops
		}
		if _, err := r.Submit(); err != nil {
			return fmt.Errorf("submit: %w", err)
		}
		for cqe, ok := r.Take(); ok; cqe, ok = r.Take() {
			if cqe.UserData == 0 {
				sent--
				if cqe.Res != 0 || sent < 0 {
					return fmt.Errorf("NOP: result %d; want 0; %d completed that were not submitted", cqe.Res, max(0, -sent))
				}
				continue
			}
			if cqe.UserData >= uint64(len(seen)) || seen[cqe.UserData] {
				return fmt.Errorf("completion %+v is of no request, or the second of one", cqe)
			}
			seen[cqe.UserData] = true
			left--
			want := -int32(unix.ETIME)
			if (cqe.UserData-1)%uint64(1+links) > 0 {
				want = -int32(unix.ECANCELED)
			}
			if cqe.Res != want {
				return fmt.Errorf("request %d: result %d; want %d", cqe.UserData, cqe.Res, want)
			}
		}
	}
	return nil
}

// reads fill in reads of a sector: from the disk, which end in its interrupt, and of
// zeroes, which end where they are issued. The files stay open.
func reads() (fromDisk, fromZero func(*uring.SQE), err error) {
	disk, err := machine.OpenDisk(machine.NVMe)
	if err != nil {
		return nil, nil, err
	}
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/zero: %w", err)
	}
	page, err := machine.Buffer(machine.Sector)
	if err != nil {
		return nil, nil, err
	}
	read := func(fd int) func(*uring.SQE) {
		return func(sqe *uring.SQE) {
			sqe.Opcode, sqe.FD, sqe.Addr, sqe.Len = uring.OpRead, int32(fd), uring.Address(page), machine.Sector
		}
	}
	return read(disk), read(zero), nil
}

const (
	// diskRounds make some thousand interrupts.
	diskRounds = 1500
	// So many reads are at the disk while so many of zeroes are submitted.
	atDisk, ofZeroes = 4, 8
)

// diskInterrupts lets disk reads end in their interrupt while requests of the same
// class are taken and freed on the same CPU.
func diskInterrupts() error {
	fromDisk, fromZero, err := reads()
	if err != nil {
		return err
	}
	return uring.With(2*alloccache.Max, uring.Params{}, func(r *uring.Ring) error {
		for round := range diskRounds {
			for _, part := range []struct {
				n    int
				fill func(*uring.SQE)
			}{{atDisk, fromDisk}, {ofZeroes, fromZero}} {
				for range part.n {
					part.fill(r.Next())
				}
				// The disk gets its reads when the submission is over (blk_finish_plug).
				if n, err := r.Submit(); err != nil || n != part.n {
					return fmt.Errorf("round %d: the kernel took %d of %d entries (%v)", round+1, n, part.n, err)
				}
			}
			if err := r.Wait(atDisk + ofZeroes); err != nil {
				return fmt.Errorf("round %d: wait: %w", round+1, err)
			}
			for range atDisk + ofZeroes {
				if cqe, _ := r.Take(); cqe.Res != machine.Sector {
					return fmt.Errorf("round %d: a read: result %d; want %d", round+1, cqe.Res, machine.Sector)
				}
			}
		}
		return nothingLost(r, fromZero, machine.Sector)
	})
}

// noneLost waits until every request is on a list of available ones or back in the slab:
// the rings of the load go in a kworker.
func noneLost() error {
	return uring.With(1, uring.Params{}, func(r *uring.Ring) error {
		return machine.Await(limit/3, func() error { return allAvailable(r) })
	})
}

// complete runs requests on the CPU until quit. When the CPU goes offline, the
// kernel moves the thread, and it goes back as soon as it can.
func complete(cpu int, disk int32, pause time.Duration, quit chan struct{}) error {
	page, err := machine.Buffer(machine.Sector)
	if err != nil {
		return err
	}
	return machine.OnCPU(0, func() error {
		return uring.With(overflow, uring.Params{}, func(r *uring.Ring) error {
			for {
				select {
				case <-quit:
					return nil
				default:
				}
				// An offline CPU is no valid argument.
				if err := machine.Bind(cpu); err != nil && !errors.Is(err, unix.EINVAL) {
					return err
				}
				if err := r.Run(overflow, uring.SQELink, uring.Nop, 0); err != nil {
					return fmt.Errorf("NOPs: %w", err)
				}
				if err := r.Run(overflow, 0, func(sqe *uring.SQE) {
					sqe.Opcode, sqe.FD, sqe.Addr, sqe.Len = uring.OpRead, disk, uring.Address(page), machine.Sector
				}, machine.Sector); err != nil {
					return fmt.Errorf("reads: %w", err)
				}
				time.Sleep(pause)
			}
		})
	})
}

// allAvailable shrinks and compares the slab's objects with the requests that are
// available; nr_free says nothing after a shrink.
func allAvailable(r *uring.Ring) error {
	if err := machine.DropSlab(); err != nil {
		return err
	}
	rows, err := alloccache.Read(r.FD)
	if err != nil && !errors.Is(err, alloccache.ErrAbsent) {
		return err
	}
	want, err := alloccache.IdleRequests()
	if err != nil {
		return err
	}
	for _, row := range rows {
		want += row.Avail
	}
	got, err := machine.SlabObjects(alloccache.Slab)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the slab has %d requests in use after a shrink; want %d: those available, and the idle ring's own\n%v", got, want, rows)
	}
	return nil
}
