package main

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

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
