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

// books compares what the kernel says of its requests with the model.
type books struct {
	cpus []int
	// watch is an idle ring: its fdinfo shows the caches.
	watch *uring.Ring
	// cached says that the kernel has the cache; section is what is wrong with
	// that.
	cached  bool
	section error

	// kept is how many requests each CPU may keep that no counter shows.
	kept int

	// model has been told everything that was submitted and freed since begin.
	model *alloccache.Model
	// rings are open, the idle one included. Each holds one object for its
	// fallback request.
	rings int
	// missing is how many objects more the caches claimed at begin than the
	// slab had: checks that are not about it must not fail for it.
	missing int

	// stuck is a ring that did not go away: nothing can be counted from then on.
	stuck error

	// disk completes requests by interrupt, zero at once.
	disk, zero int32
	// page is where reads go; nobody looks at it.
	page []byte
}

func open(t *report.T) (*books, error) {
	b := &books{rings: 1}
	var err error
	if b.cpus, err = machine.OnlineCPUs(); err != nil {
		return nil, err
	}
	if len(b.cpus) < 2 {
		return nil, fmt.Errorf("CPUs %v are online; want 2", b.cpus)
	}
	disk, err := machine.OpenDisk(machine.NVMe)
	if err != nil {
		return nil, err
	}
	zero, err := unix.Open("/dev/zero", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/zero: %w", err)
	}
	b.disk, b.zero = int32(disk), int32(zero)
	if b.page, err = machine.Buffer(4096); err != nil {
		return nil, err
	}
	if b.watch, err = uring.New(1, uring.Params{}); err != nil {
		return nil, err
	}
	if _, err := machine.SlabObjects(alloccache.Slab); err != nil {
		return nil, err
	}
	if b.kept, err = alloccache.Kept(); err != nil {
		return nil, err
	}
	has, known := t.Feature(alloccache.Feature)
	_, err = alloccache.Read(b.watch.FD)
	b.cached = err == nil
	switch {
	case errors.Is(err, alloccache.ErrAbsent) && !has:
	case err != nil:
		b.section = err
	case known && !has:
		b.section = errors.New("the kernel is declared to be without the patch, but has the section")
	}
	return b, nil
}

// state is what the kernel says.
type state struct {
	rows    []alloccache.Row
	objects int
}

func (s state) String() string {
	text := fmt.Sprintf("%d objects", s.objects)
	for _, r := range s.rows {
		text += "\n" + r.String()
	}
	return text
}

func (s state) equal(o state) bool { return s.objects == o.objects && slices.Equal(s.rows, o.rows) }

// held is the sum of all rows.
func (s state) held() int { return alloccache.Total(s.rows, 0) + alloccache.Total(s.rows, 1) }

func (b *books) read() (s state, err error) {
	if b.cached {
		if s.rows, err = alloccache.Read(b.watch.FD); err != nil {
			return s, err
		}
	}
	s.objects, err = machine.SlabObjects(alloccache.Slab)
	return s, err
}

// drained is read, of a cache without counters when it has been emptied.
func (b *books) drained() (state, error) {
	s, err := b.read()
	if err == nil && b.kept > 0 {
		s.objects, err = alloccache.InUse()
	}
	return s, err
}

// agrees says whether the kernel says what it must. A cache without counters may have
// kept as many as were declared.
func (b *books) agrees(got, want state) bool {
	over := got.objects - want.objects
	return slices.Equal(got.rows, want.rows) && over >= 0 && over <= b.kept*len(b.cpus)
}

// settled reads until nothing has moved for a while: requests are freed after
// they completed, and a check that failed may have left some behind.
func (b *books) settled() (state, error) {
	start := time.Now()
	last, err := b.read()
	for same := 0; err == nil && same < 3; {
		time.Sleep(5 * time.Millisecond)
		var now state
		now, err = b.read()
		if now.equal(last) {
			same++
			continue
		}
		same, last = 0, now
		if time.Since(start) > machine.Patience(limit/2) {
			return last, fmt.Errorf("the counters do not come to rest: %s", last)
		}
	}
	return last, err
}

// begin opens the books: the model starts from what the kernel shows.
func (b *books) begin() error {
	s, err := b.settled()
	if err == nil && b.kept > 0 {
		s, err = b.drained()
	}
	if err != nil {
		return err
	}
	b.model, b.rings = alloccache.NewModel(s.rows), 1
	b.missing = b.model.Objects() + b.rings - s.objects
	return nil
}

// expected is what the kernel must say.
func (b *books) expected() state {
	return state{b.model.Rows(), b.model.Objects() + b.rings - b.missing}
}

// agree waits until the kernel says what the model does: completions are
// visible a moment before their requests are freed.
func (b *books) agree(when string) error {
	return b.settle(when, 150*time.Millisecond, b.read, b.agrees)
}

// agreeOnTotals is agree where it is open on which CPU requests were freed, and
// where another task has to run first.
func (b *books) agreeOnTotals(when string) error {
	return b.settle(when, time.Second, b.drained, func(got, want state) bool {
		for irq := range alloccache.Classes {
			if alloccache.Total(got.rows, irq) != alloccache.Total(want.rows, irq) {
				return false
			}
		}
		return got.objects == want.objects
	})
}

func (b *books) settle(when string, patience time.Duration, read func() (state, error), equal func(got, want state) bool) error {
	want := b.expected()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		got, err := read()
		if err == nil && equal(got, want) {
			return nil
		}
		if time.Since(start) > machine.Patience(patience) {
			if err != nil {
				return fmt.Errorf("%s: %w", when, err)
			}
			return fmt.Errorf("%s:\n%s\nwant:\n%s", when, got, want)
		}
	}
}

// ring runs f on the CPU with a ring, and compares the books after the ring is
// gone.
func (b *books) ring(cpu int, entries, flags uint32, f func(*uring.Ring) error) error {
	if err := b.openRing(cpu, entries, flags, f); err != nil {
		return err
	}
	return b.agreeOnTotals("after the ring was closed")
}

// openRing runs f on the CPU with a ring, and returns when that is gone: it is
// torn down after it was closed (io_ring_exit_work).
func (b *books) openRing(cpu int, entries, flags uint32, f func(*uring.Ring) error) error {
	if b.stuck != nil {
		return fmt.Errorf("not made: in an earlier check %w", b.stuck)
	}
	var last state
	err := machine.OnCPU(cpu, func() error {
		return uring.With(entries, uring.Params{Flags: flags}, func(r *uring.Ring) error {
			b.rings++
			defer func() { b.rings-- }()
			if err := f(r); err != nil {
				return err
			}
			var err error
			last, err = b.settled()
			return err
		})
	})
	if err != nil {
		return err
	}
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		now, err := b.read()
		if err != nil || now.objects < last.objects {
			return err
		}
		if time.Since(start) > machine.Patience(limit/2) {
			b.stuck = fmt.Errorf("the ring was closed, but its fallback request is still there: %s", now)
			return b.stuck
		}
	}
}

// request is one entry of a submission.
type request struct {
	fill func(*uring.SQE)
	// want is the result.
	want int32
}

func (q request) opcode() uint8 {
	var sqe uring.SQE
	q.fill(&sqe)
	return sqe.Opcode
}

// nops are of class 0 and end where they are issued.
func (b *books) nops(n int) []request {
	return times(n, request{uring.Nop, 0})
}

// reads are of class 1 and end where they are issued.
func (b *books) reads(n int) []request { return times(n, b.transfer(uring.OpRead, b.zero)) }

// diskReads are of class 1 and end in the interrupt of the disk.
func (b *books) diskReads(n int) []request { return times(n, b.transfer(uring.OpRead, b.disk)) }

// transfer reads or writes a sector.
func (b *books) transfer(opcode uint8, fd int32) request {
	return request{func(sqe *uring.SQE) {
		sqe.Opcode, sqe.FD = opcode, fd
		sqe.Addr, sqe.Len = uring.Address(b.page), machine.Sector
	}, machine.Sector}
}

func times(n int, q request) []request { return slices.Repeat([]request{q}, n) }

// pollReadNormal is POLLRDNORM, which a readable pipe adds to POLLIN.
const pollReadNormal = 0x40

// chain is a submission whose requests are all allocated, and then wait for a
// pipe that the first one polls.
type chain struct {
	books    *books
	ring     *uring.Ring
	pipe     [2]int
	requests []request
	opcodes  []uint8
}

// hold submits a chain on the calling thread's CPU: the poll and the requests
// behind it. It compares the books while all of it is in flight.
func (b *books) hold(r *uring.Ring, cpu int, requests ...request) (*chain, error) {
	c := &chain{books: b, ring: r}
	if err := unix.Pipe2(c.pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	poll := request{fill: func(sqe *uring.SQE) {
		sqe.Opcode, sqe.FD, sqe.OpFlags = uring.OpPollAdd, int32(c.pipe[0]), unix.POLLIN
	}, want: unix.POLLIN | pollReadNormal}
	c.requests = append([]request{poll}, requests...)
	for i, q := range c.requests {
		sqe := r.Next()
		if sqe == nil {
			return nil, fmt.Errorf("the submission ring was full after %d of %d entries", i, len(c.requests))
		}
		q.fill(sqe)
		sqe.UserData = uint64(i)
		if i < len(c.requests)-1 {
			sqe.Flags |= uring.SQELink
		}
		c.opcodes = append(c.opcodes, sqe.Opcode)
		b.model.Alloc(cpu, sqe.Opcode, 1)
	}
	consumed, err := r.Submit()
	if err != nil || consumed != len(c.requests) {
		return nil, fmt.Errorf("the kernel took %d of %d entries (%v)", consumed, len(c.requests), err)
	}
	return c, b.agree(fmt.Sprintf("with %d requests in flight from CPU %d", len(c.requests), cpu))
}

// release makes the pipe readable and waits for all results.
func (c *chain) release() error {
	if _, err := unix.Write(c.pipe[1], []byte{0}); err != nil {
		return fmt.Errorf("write to the pipe: %w", err)
	}
	if err := c.ring.Wait(uint32(len(c.requests))); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	for i, q := range c.requests {
		if cqe, _ := c.ring.Take(); cqe.UserData != uint64(i) || cqe.Res != q.want {
			return fmt.Errorf("completion %d of the chain: %+v; want result %d", i, cqe, q.want)
		}
	}
	return c.close()
}

func (c *chain) close() error { return errors.Join(unix.Close(c.pipe[0]), unix.Close(c.pipe[1])) }

// freed tells the model that all requests were freed on the CPU, one by one.
func (c *chain) freed(cpu int) {
	for _, opcode := range c.opcodes {
		c.books.model.Free(cpu, opcode, 1)
	}
}

// roundTrip takes requests on the CPU and frees them there, one by one. The
// calling thread runs on it.
func (b *books) roundTrip(r *uring.Ring, cpu int, requests ...request) error {
	c, err := b.hold(r, cpu, requests...)
	if err != nil {
		return err
	}
	if err := c.release(); err != nil {
		return err
	}
	c.freed(cpu)
	return b.agree(fmt.Sprintf("after %d requests were freed on CPU %d", len(c.requests), cpu))
}

// fill leaves at least n requests of each class available on the CPU.
func (b *books) fill(r *uring.Ring, cpu, n int) error {
	return b.roundTrip(r, cpu, slices.Concat(b.nops(n), b.reads(n))...)
}
