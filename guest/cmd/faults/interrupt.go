//go:build linux

package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

const (
	// interruptRounds times, bursts reads fail, and with a cache up to cachedRounds
	// times: how many interrupts do harm differs from boot to boot, from 0 to 19 in 300
	// rounds on the RFC.
	interruptRounds = 300
	cachedRounds    = 1200
	bursts          = 8
	// lookEvery so many rounds, the list is looked at. The RFC's would overflow in the
	// end, with the requests that it counts and does not have, and then the task holds
	// free_lock where the interrupt wants it: the CPU would stand still.
	lookEvery = 20
	// links are the NOPs behind each read.
	links = 3
	// nops are those between two reads, and those that run at once until the last
	// read has failed, so that each interrupt finds some being allocated, however long
	// the disk takes. The first take about as long as a disk does to answer and the
	// rest of a read together.
	nops = 33
	// burstSectors is the length of a read. One of 128 KiB is what the block layer
	// sends to the disk when the next one comes (BLK_PLUG_FLUSH_SIZE), and not
	// only when all are submitted: so each has its own interrupt.
	burstSectors = 256
)

// interrupts lets reads fail while NOPs are allocated on the same CPU. The NOPs
// linked behind such a read are cancelled and freed in the disk's interrupt
// (io_complete_rw, io_fail_links): with the RFC onto the list that the
// interrupted task may be taking from, because NOPs count as never completed in
// an interrupt and only preemption is disabled. Then what the interrupt adds is
// lost to the list, and still counted.
func (b books) interrupts(t *report.T, d *disk) {
	var lost error
	ended := t.Within(4*limit, "nvme/cancelled-in-interrupt", func() error {
		rounds := interruptRounds
		if b.Has {
			rounds = cachedRounds
		}
		return d.cancelInInterrupts(t, rounds, func() bool {
			lost = b.listKept()
			return lost == nil
		})
	})
	if !b.Has {
		t.Skip("nvme/list-kept", alloccache.Feature, "the kernel has no cache")
		return
	}
	if ended {
		t.Check("nvme/list-kept", lost)
	}
}

// cancelInInterrupts ends early where kept, which it asks now and then, is false.
func (d *disk) cancelInInterrupts(t *report.T, rounds int, kept func() bool) error {
	buf, err := machine.Buffer(burstSectors * machine.Sector)
	if err != nil {
		return err
	}
	d.data = buf
	before, err := machine.NVMeInterrupts()
	if err != nil {
		return err
	}
	var requests []request
	for range bursts {
		requests = append(requests, request{opcode: uring.OpRead, flags: uring.SQELink, sector: d.bad - burstSectors/2, want: -int32(d.errno)})
		for range links {
			requests = append(requests, request{opcode: uring.OpNop, flags: uring.SQELink, want: -int32(unix.ECANCELED)})
		}
		requests = append(unlinked(requests), make([]request, nops)...)
	}
	round := func(r, busy *uring.Ring) error {
		if err := d.send(r, requests); err != nil {
			return err
		}
		for r.Ready() < uint32(len(requests)) {
			if err := busy.Run(nops, 0, uring.Nop, 0); err != nil {
				return err
			}
		}
		return d.results(r, requests)
	}
	err = uring.With(uint32(len(requests)), uring.Params{}, func(r *uring.Ring) error {
		return uring.With(nops, uring.Params{}, func(busy *uring.Ring) error {
			for i := range rounds {
				if err := round(r, busy); err != nil {
					return fmt.Errorf("round %d of %d: %w", i+1, rounds, err)
				}
				if (i+1)%lookEvery == 0 && !kept() {
					return nil
				}
			}
			return nil
		})
	})
	after, countErr := machine.NVMeInterrupts()
	t.Metric("interrupts", float64(after-before), "", nil)
	return errors.Join(err, countErr)
}

// listKept expects the list of NOPs to hold as many as it counts: so many in flight
// at once take all of it and nothing from the slab, and bring it back.
func (b books) listKept() error {
	before, err := b.Rows()
	if err != nil || !b.Has {
		return err
	}
	n := uint32(before[0].Avail)
	err = uring.With(n, uring.Params{}, func(r *uring.Ring) error {
		return r.Run(n, uring.SQELink, uring.Nop, 0)
	})
	if err != nil {
		return err
	}
	after, err := b.Rows()
	if err != nil {
		return err
	}
	if after[0] != before[0] {
		return fmt.Errorf("after %d NOPs in flight at once:\n%s\nwant as before:\n%s\nrequests are counted that are not on the list", n, after[0], before[0])
	}
	return nil
}
