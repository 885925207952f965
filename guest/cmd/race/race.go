//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
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

const (
	// deaths is how often a CPU dies under a shrinker.
	deaths = 12
	// deadChains make its free list so long that two who empty it meet.
	deadChains = 300
)

// hotplugShrink takes a CPU with a long free list offline while another CPU
// shrinks: the RFC's callback for a dead CPU walks that list without its lock. The
// shrinker begins when the CPU is gone, which is just before its callback.
//
// All rounds have one ring: on v5.10.13 a CPU that comes online warns of a ring's
// worker that is just starting or ending (io_wq_worker_affinity calls
// do_set_cpus_allowed without update_rq_clock). And one thread, which is moved, lest
// others hold the ring: see uring.With.
func hotplugShrink() error {
	const home, victim = 0, 1
	return machine.OnCPU(home, func() error {
		return uring.With(overflow, uring.Params{}, func(r *uring.Ring) error {
			for round := range deaths {
				err := errors.Join(machine.Bind(victim), chainsOn(r, deadChains), machine.Bind(home))
				if err != nil {
					return fmt.Errorf("round %d: %w", round+1, err)
				}
				if err := dieUnderShrinker(victim, shrinker); err != nil {
					return fmt.Errorf("round %d: %w", round+1, err)
				}
			}
			return nil
		})
	})
}

// dieUnderShrinker takes a CPU offline, shrinks on another one from when it is gone,
// and takes it online again.
func dieUnderShrinker(victim, shrinker int) error {
	var over atomic.Bool
	shrunk := make(chan error, 1)
	go func() {
		shrunk <- machine.OnCPU(shrinker, func() error {
			for !over.Load() {
				online, err := machine.OnlineCPUs()
				if err != nil {
					return err
				}
				if !slices.Contains(online, victim) {
					break
				}
			}
			return machine.DropSlab()
		})
	}()
	err := machine.SetOnline(victim, false)
	over.Store(true)
	return errors.Join(err, <-shrunk, machine.SetOnline(victim, true))
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

// hotplugRounds is how often hotplug takes a CPU offline.
const hotplugRounds = 12

// hotplug takes a CPU offline and online again.
func hotplug() error {
	const victim = 1
	for round := range hotplugRounds {
		if err := errors.Join(machine.SetOnline(victim, false), machine.SetOnline(victim, true)); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return nil
}

// shrinks is how often shrink shrinks.
const shrinks = 40

// shrinker is the CPU on which it does.
const shrinker = 2

// shrink shrinks on a CPU of its own.
func shrink() error {
	return machine.OnCPU(shrinker, func() error {
		for range shrinks {
			if err := machine.DropSlab(); err != nil {
				return err
			}
		}
		return nil
	})
}

// shrinkCompletion shrinks while requests complete on other CPUs. NOPs alone come first:
// CPUs that wait for a disk are seldom taking or freeing a request when the shrinker comes.
func shrinkCompletion() error {
	if err := shrinkNOPs(); err != nil {
		return fmt.Errorf("NOPs alone: %w", err)
	}
	return underCompletions(shrink, 0)
}

// shrunkChains of NOPs at the least run while another CPU shrinks.
const shrunkChains = 1000

// shrinkNOPs shrinks on one CPU while another takes and frees requests as fast as it can.
// A shrinker that reaches into the cache of that CPU loses requests then, or they are used
// twice.
func shrinkNOPs() error {
	const user = 1
	var times atomic.Int32
	var over atomic.Bool
	shrunk := make(chan error, 1)
	go func() {
		defer over.Store(true) // also when it could not shrink
		shrunk <- machine.OnCPU(shrinker, func() error {
			for ; !over.Load(); times.Add(1) {
				if err := machine.DropSlab(); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	err := machine.OnCPU(user, func() error {
		return uring.With(overflow, uring.Params{}, func(r *uring.Ring) error {
			for n := 0; n < shrunkChains || times.Load() < shrinks && !over.Load(); n++ {
				if err := chainsOn(r, 1); err != nil {
					return fmt.Errorf("chain %d, after %d shrinks: %w", n+1, times.Load(), err)
				}
			}
			return nil
		})
	})
	over.Store(true)
	if err := errors.Join(err, <-shrunk); err != nil {
		return err
	}
	return noneLost()
}

// underCompletions runs f while requests of both classes complete in such numbers
// that their lists overflow, on the CPU that hotplug takes and on one that stays:
// NOPs in tasks, disk reads in interrupts. Timeouts are left to timers and lock. In
// the end every request must be on a list of available ones or back in the slab. A
// pause between the requests leaves the CPUs to a slower f: each CPU that goes waits
// for several grace periods of RCU, which are long on busy CPUs.
func underCompletions(f func() error, pause time.Duration) error {
	disk, err := machine.OpenDisk(machine.NVMe)
	if err != nil {
		return err
	}
	defer unix.Close(disk)
	quit := make(chan struct{})
	cpus := []int{0, 1}
	loads := make(chan error, len(cpus))
	for _, cpu := range cpus {
		go func() { loads <- complete(cpu, int32(disk), pause, quit) }()
	}
	err = f()
	close(quit)
	for range cpus {
		err = errors.Join(err, <-loads)
	}
	if err != nil {
		return err
	}
	return noneLost()
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
