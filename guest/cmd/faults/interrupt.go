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
	// interruptRounds times, bursts reads fail.
	interruptRounds = 300
	bursts          = 8
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
func (b *books) interrupts(t *report.T, d *disk) {
	t.Within(4*limit, "nvme/cancelled-in-interrupt", func() error { return d.cancelInInterrupts(t) })
	if !b.has {
		t.Skip("nvme/list-kept", alloccache.Feature, "the kernel has no cache")
		return
	}
	t.Within(limit, "nvme/list-kept", b.listKept)
}

func (d *disk) cancelInInterrupts(t *report.T) error {
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
			if err := busy.Run(nops, 0, func(sqe *uring.SQE) { sqe.Opcode = uring.OpNop }, 0); err != nil {
				return err
			}
		}
		return d.results(r, requests)
	}
	err = uring.With(uint32(len(requests)), uring.Params{}, func(r *uring.Ring) error {
		return uring.With(nops, uring.Params{}, func(busy *uring.Ring) error {
			for i := range interruptRounds {
				if err := round(r, busy); err != nil {
					return fmt.Errorf("round %d of %d: %w", i+1, interruptRounds, err)
				}
			}
			return nil
		})
	})
	after, countErr := machine.NVMeInterrupts()
	t.Metric("interrupts", float64(after-before), "", nil)
	return errors.Join(err, countErr)
}

// listKept expects the list of NOPs to hold as many as it counts: NOPs in flight
// at once then move the counters by the RFC's rules.
func (b *books) listKept() error {
	before, err := b.rows()
	if err != nil {
		return err
	}
	err = uring.With(alloccache.Max, uring.Params{}, func(r *uring.Ring) error {
		return r.Run(alloccache.Max, uring.SQELink, func(sqe *uring.SQE) { sqe.Opcode = uring.OpNop }, 0)
	})
	if err != nil {
		return err
	}
	after, err := b.rows()
	if err != nil {
		return err
	}
	if want := before[0].After(alloccache.Max); after[0] != want {
		return fmt.Errorf("after %d NOPs in flight at once:\n%s\nwant:\n%s\nbefore:\n%s\nrequests are counted that are not on the list",
			alloccache.Max, after[0], want, before[0])
	}
	return nil
}
