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

// many requests in flight at once make a list overflow (alloccache.Max) and
// leave some over.
const many = 300

func (b *books) accounting(t *report.T) {
	check := func(name string, f func() error) {
		t.Within(limit, name, func() error {
			if err := b.begin(); err != nil {
				return err
			}
			return f()
		})
	}
	if err := prepareDisk(); err != nil {
		t.Error("disk", err)
		return
	}
	first, last := b.cpus[0], b.cpus[len(b.cpus)-1]
	operations, err := b.operations()
	if err != nil {
		t.Error("class", err)
		return
	}
	for _, op := range operations {
		check("class/"+op.name, func() error { return b.class(last, op) })
	}
	for _, cpu := range b.cpus {
		check(fmt.Sprintf("threshold/cpu%d/irq0", cpu), func() error { return b.threshold(cpu, b.nops) })
		check(fmt.Sprintf("threshold/cpu%d/irq1", cpu), func() error { return b.threshold(cpu, b.reads) })
		check(fmt.Sprintf("threshold/cpu%d/disk", cpu), func() error { return b.diskChain(cpu) })
		check(fmt.Sprintf("threshold/cpu%d/poll-batch", cpu), func() error { return b.pollBatches(t, cpu) })
	}
	check("mixed/one-submission", func() error { return b.mixedBatch(first) })
	check("mixed/chain", func() error { return b.mixedChain(first) })
	check("elsewhere/task-moved", func() error { return errors.Join(b.moved(first, last), b.moved(last, first)) })
	check("elsewhere/cancelled", func() error { return b.cancelled(first, last) })
	check("elsewhere/interrupt", b.otherInterrupt)
	check("elsewhere/worker", func() error { return b.workers(last) })
	check("elsewhere/ring-exit", func() error { return b.ringExit(last) })
	t.Within(limit, "disk-released", b.diskReleased)
	t.Within(limit, "accounted", b.accounted)
}

// diskReleased closes the disk, which then must have no user left: whichever way the
// requests were freed that read and wrote it, they put their references.
func (b *books) diskReleased() error {
	if err := unix.Close(int(b.disk)); err != nil {
		return err
	}
	b.disk = -1
	return machine.Await(limit/4, func() error {
		// Nobody else may have it open.
		disk, err := machine.OpenDisk(machine.NVMe)
		if err == nil {
			b.disk = int32(disk)
		}
		return err
	})
}

// prepareDisk checks that the disk can be polled (boot with nvme.poll_queues=1),
// and lets a request complete on the CPU that its interrupt comes to.
func prepareDisk() error { return errors.Join(machine.NVMePolls(), machine.EndWhereInterrupted()) }

// accounted checks that every object of the slab is on a list or the fallback
// request of a ring, whatever has happened so far.
func (b *books) accounted() error {
	s, err := b.settled()
	if err == nil && b.kept > 0 {
		s, err = b.drained()
	}
	if err != nil {
		return err
	}
	// The idle ring is the only one left.
	if want := s.held() + 1; s.objects != want {
		return fmt.Errorf("the slab has %d objects in use; want %d: %d that the caches count and one for the idle ring\n%s", s.objects, want, s.held(), s)
	}
	return nil
}

// class checks from which class an opcode's request is taken, and that it goes
// back there. Both have some available first, so that taking from the wrong one
// shows.
func (b *books) class(cpu int, op operation) error {
	return b.ring(cpu, 16, 0, func(r *uring.Ring) error {
		if err := b.fill(r, cpu, 4); err != nil {
			return err
		}
		if op.prepare != nil {
			if err := op.prepare(r); err != nil {
				return err
			}
		}
		c, err := b.hold(r, cpu, op.request)
		if err != nil {
			return err
		}
		if err := c.release(); err != nil {
			return err
		}
		c.freed(cpu)
		// A worker may have run it, on any CPU.
		return b.agreeOnTotals("after its completion")
	})
}

// threshold frees as many requests at once, one by one, as just fit on a list,
// one more, and more again. The first round empties the list.
func (b *books) threshold(cpu int, requests func(n int) []request) error {
	return b.ring(cpu, 1024, 0, func(r *uring.Ring) error {
		for _, n := range []int{alloccache.Max + 1, alloccache.Max - 1, alloccache.Max, alloccache.Max + 1, many, 2*alloccache.Max + 1} {
			// The poll at the head of the chain is one of the NOPs' class.
			chain := requests(n)
			if chain[0].opcode() == uring.OpNop {
				chain = chain[1:]
			}
			if err := b.roundTrip(r, cpu, chain...); err != nil {
				return fmt.Errorf("%d requests: %w", n, err)
			}
		}
		return nil
	})
}

// diskChain frees requests in the disk's interrupt, of which it has one per CPU
// for reads, or, where that comes first, in the task that submitted them.
func (b *books) diskChain(cpu int) error {
	raised, err := machine.NVMeInterrupts()
	if err != nil {
		return err
	}
	err = b.ring(cpu, 1024, 0, func(r *uring.Ring) error {
		return b.roundTrip(r, cpu, b.diskReads(many)...)
	})
	if err != nil {
		return err
	}
	now, err := machine.NVMeInterrupts()
	if err == nil && now-raised < many/2 {
		err = fmt.Errorf("the disk raised %d interrupts for %d reads in turn", now-raised, many)
	}
	return err
}

// pollBatches frees requests in the batches in which polling finds them. A poll
// that need not wait looks once, so that what it reports is one batch
// (io_iopoll_getevents, io_do_iopoll).
func (b *books) pollBatches(t *report.T, cpu int) error {
	return b.ring(cpu, 1024, uring.SetupIOPoll, func(r *uring.Ring) error {
		toDisk := b.transfer(uring.OpRead, b.disk)
		largest := 0
		for _, n := range []int{16, alloccache.Max - 1, alloccache.Max, alloccache.Max + 1, many, 2*alloccache.Max + 1} {
			for range n {
				toDisk.fill(r.Next())
			}
			b.model.Alloc(cpu, uring.OpRead, n)
			if consumed, err := r.Submit(); err != nil || consumed != n {
				return fmt.Errorf("the kernel took %d of %d entries (%v)", consumed, n, err)
			}
			if err := b.agree(fmt.Sprintf("with %d polled reads in flight", n)); err != nil {
				return err
			}
			// Lets the disk finish most of them, so that a batch is large.
			time.Sleep(10 * time.Millisecond)
			for done := 0; done < n; {
				if _, err := uring.Enter(r.FD, 0, 0, uring.EnterGetEvents); err != nil && err != unix.EINTR {
					return err
				}
				batch := 0
				for cqe, ok := r.Take(); ok; cqe, ok = r.Take() {
					batch++
					if cqe.Res != machine.Sector {
						return fmt.Errorf("a read: result %d; want %d", cqe.Res, machine.Sector)
					}
				}
				if batch == 0 {
					continue
				}
				done, largest = done+batch, max(largest, batch)
				b.model.FreeBatch(cpu, uring.OpRead, batch)
				if err := b.agree(fmt.Sprintf("after a batch of %d, %d of %d reads", batch, done, n)); err != nil {
					return err
				}
			}
		}
		t.Metric("largest-batch", float64(largest), "requests", map[string]string{"cpu": fmt.Sprint(cpu)})
		return nil
	})
}

// mixedBatch submits both classes alternately. What is available is enough for
// all of them, so that no counter moves in the end whichever completes first.
func (b *books) mixedBatch(cpu int) error {
	const n = 16
	return b.ring(cpu, 64, 0, func(r *uring.Ring) error {
		if err := b.fill(r, cpu, n); err != nil {
			return err
		}
		pair := slices.Concat(b.nops(1), b.diskReads(1))
		for i := range 2 * n {
			sqe := r.Next()
			pair[i%2].fill(sqe)
			b.model.Alloc(cpu, sqe.Opcode, 1)
			b.model.Free(cpu, sqe.Opcode, 1)
		}
		if consumed, err := r.Submit(); err != nil || consumed != 2*n {
			return fmt.Errorf("the kernel took %d of %d entries (%v)", consumed, 2*n, err)
		}
		if err := r.Wait(2 * n); err != nil {
			return err
		}
		for range 2 * n {
			if cqe, _ := r.Take(); cqe.Res != 0 && cqe.Res != machine.Sector {
				return fmt.Errorf("an unexpected completion: %+v", cqe)
			}
		}
		return b.agree("after the mixed batch")
	})
}

// mixedChain makes the lists of both classes overflow with one chain.
func (b *books) mixedChain(cpu int) error {
	return b.ring(cpu, 1024, 0, func(r *uring.Ring) error {
		return b.roundTrip(r, cpu, slices.Repeat(slices.Concat(b.nops(1), b.reads(1)), many)...)
	})
}

// moved frees requests on another CPU than they were taken on: the task, in
// whose context they complete, has moved.
func (b *books) moved(from, to int) error {
	return b.ring(from, 1024, 0, func(r *uring.Ring) error {
		c, err := b.hold(r, from, slices.Concat(b.nops(many), b.reads(many))...)
		if err != nil {
			return err
		}
		if err := machine.Bind(to); err != nil {
			return err
		}
		if err := c.release(); err != nil {
			return err
		}
		c.freed(to)
		return b.agree(fmt.Sprintf("after requests from CPU %d were freed on CPU %d", from, to))
	})
}

// cancelled lets another CPU cancel a task's polls. v5.10 then frees them as
// work of that task (io_poll_remove_one, io_free_req_deferred).
func (b *books) cancelled(cpu, canceller int) error {
	const n = 40
	return b.ring(cpu, 2*n, 0, func(r *uring.Ring) error {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
		for i := range n {
			sqe := r.Next()
			sqe.Opcode, sqe.FD, sqe.OpFlags = uring.OpPollAdd, int32(pipe[0]), unix.POLLIN
			sqe.UserData = uint64(i)
		}
		b.model.Alloc(cpu, uring.OpPollAdd, n)
		if consumed, err := r.Submit(); err != nil || consumed != n {
			return fmt.Errorf("the kernel took %d of %d entries (%v)", consumed, n, err)
		}
		if err := b.agree("with the polls in flight"); err != nil {
			return err
		}
		err := machine.OnCPU(canceller, func() error {
			for i := range n {
				sqe := r.Next()
				sqe.Opcode, sqe.Addr, sqe.UserData = uring.OpPollRemove, uint64(i), n
				b.model.Alloc(canceller, uring.OpPollRemove, 1)
				b.model.Free(canceller, uring.OpPollRemove, 1)
				if consumed, err := r.Submit(); err != nil || consumed != 1 {
					return fmt.Errorf("the kernel took %d of 1 entries (%v)", consumed, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := r.Wait(2 * n); err != nil {
			return err
		}
		for range 2 * n {
			cqe, _ := r.Take()
			want := -int32(unix.ECANCELED)
			if cqe.UserData == n {
				want = 0
			}
			if cqe.Res != want {
				return fmt.Errorf("an unexpected completion: %+v; want result %d", cqe, want)
			}
		}
		b.model.Free(cpu, uring.OpPollAdd, n)
		return b.agree(fmt.Sprintf("after CPU %d cancelled the polls of CPU %d", canceller, cpu))
	})
}

// otherInterrupt frees requests in the hard interrupt of another CPU than they
// were taken on, and makes the list there overflow in it. All CPUs share one
// queue for writes and so its interrupt (prepareDisk).
func (b *books) otherInterrupt() error {
	// So few wait in the plug until all are submitted (BLK_MAX_REQUEST_COUNT).
	// Only then does the disk get them, and the interrupt frees them all.
	const n = 12
	write := b.transfer(uring.OpWrite, b.disk)
	writes := func(cpu int) error {
		return b.openRing(cpu, n, 0, func(r *uring.Ring) error { return r.Run(n, 0, write.fill, write.want) })
	}
	there, err := machine.NVMeInterruptedBy(func() error { return writes(b.cpus[0]) })
	if err != nil {
		return err
	}
	here := b.cpus[0]
	if here == there {
		here = b.cpus[1]
	}
	if err := b.begin(); err != nil {
		return err
	}
	// The list there is empty after the first and full after the second.
	err = b.ring(there, 1024, 0, func(r *uring.Ring) error {
		return errors.Join(b.roundTrip(r, there, b.reads(alloccache.Max+1)...), b.roundTrip(r, there, b.reads(alloccache.Max)...))
	})
	if err != nil {
		return err
	}
	b.model.Alloc(here, uring.OpWrite, n)
	b.model.Free(there, uring.OpWrite, n)
	if came, err := machine.NVMeInterruptedBy(func() error { return writes(here) }); err != nil || came != there {
		return fmt.Errorf("the interrupts came to CPU %d, before to CPU %d (%v)", came, there, err)
	}
	return b.agree(fmt.Sprintf("after writes from CPU %d ended in the interrupt of CPU %d", here, there))
}

// workers completes requests in io-wq workers, on whichever CPU they run.
func (b *books) workers(cpu int) error {
	const n = 20
	return b.ring(cpu, 64, 0, func(r *uring.Ring) error {
		if err := b.fill(r, cpu, n); err != nil {
			return err
		}
		err := r.Run(n, 0, func(sqe *uring.SQE) { sqe.Opcode, sqe.Flags = uring.OpNop, uring.SQEAsync }, 0)
		if err != nil {
			return err
		}
		return b.agreeOnTotals("after workers ran NOPs")
	})
}

// ringExit closes a ring around requests in flight.
func (b *books) ringExit(cpu int) error {
	return b.ring(cpu, 1024, 0, func(r *uring.Ring) error {
		c, err := b.hold(r, cpu, slices.Concat(b.nops(many), b.reads(many))...)
		if err != nil {
			return err
		}
		c.freed(cpu)
		return c.close()
	})
}
