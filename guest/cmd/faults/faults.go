//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// limit is when a check counts as a hang.
const limit = 4 * time.Second

// interruptOption makes the program run the one scenario that spoils the RFC's
// cache.
const interruptOption = "patchproof.interrupt"

// many is more requests at once than a cache keeps (alloccache.Max).
const many = 300

// spread is how many different good sectors a batch uses.
const spread = 64

func run(t *report.T) {
	bad, err := machine.BadSector()
	if err != nil {
		t.Error("setup", err)
		return
	}
	counted, err := alloccache.OpenBooks(t)
	if err != nil {
		t.Error("setup", err)
		return
	}
	b := books{counted}
	// A failed read or write is NVME_SC_READ_ERROR or NVME_SC_WRITE_FAULT, which is
	// a medium error to nvme_error_status() and so ENODATA to blk_status_to_errno().
	nvme := &disk{name: "nvme", path: machine.NVMe, errno: unix.ENODATA}
	if _, ok := machine.BootOption(interruptOption); ok {
		if err := nvme.open(bad); err != nil {
			t.Error("setup", err)
			return
		}
		b.interrupts(t, nvme)
		return
	}
	chains, err := uring.Has(uring.PolledChainGoesOn)
	if err != nil {
		t.Error("setup", err)
		return
	}
	for _, d := range []*disk{
		nvme,
		{name: "nvme-iopoll", path: machine.NVMe, errno: unix.ENODATA, params: uring.Params{Flags: uring.SetupIOPoll}},
		{name: "virtio-blk", path: "/dev/vda", errno: unix.EIO},
	} {
		if err := d.open(bad); err != nil {
			t.Error(d.name+"/setup", err)
			continue
		}
		if d.params.Flags&uring.SetupIOPoll != 0 && chains != uring.Before {
			t.Within(limit, d.name+"/chain/asked", d.askChains)
		}
		for _, c := range d.checks() {
			t.Within(limit, d.name+"/"+c.name, func() error {
				return d.with(func(r *uring.Ring) error { return c.run(r) })
			})
		}
		t.Within(limit, d.name+"/objects", b.balanced)
		if b.Has {
			t.Within(limit, d.name+"/growth", func() error { return b.growth(d) })
		} else {
			t.Skip(d.name+"/growth", alloccache.Feature, "the kernel has no cache")
		}
		if err := d.close(); err != nil {
			t.Error(d.name+"/close", err)
		}
	}
	t.Within(limit, "nops-after", nopsAfter)
}

// disk is a device with a bad sector, and how it is driven.
type disk struct {
	name, path string
	// errno is what the kernel makes of the device's error.
	errno  unix.Errno
	params uring.Params
	fd     int32
	// bad is the bad sector.
	bad int64
	// goesOn is what the kernel has shown: a failed request does not cancel its chain.
	goesOn bool
	// data is where requests read to and write from, vec an iovec for it.
	data []byte
	vec  *unix.Iovec
}

func (d *disk) open(bad int64) error {
	if d.params.Flags&uring.SetupIOPoll != 0 {
		if err := machine.NVMePolls(); err != nil {
			return err
		}
	}
	// A ring that had the disk registered goes a while after its last user.
	err := settle(func() error {
		fd, err := machine.OpenDisk(d.path)
		d.fd = int32(fd)
		return err
	})
	if err != nil {
		return err
	}
	d.bad = bad
	if d.data, err = machine.Buffer(machine.Sector); err != nil {
		return err
	}
	vec, err := machine.Buffer(int(unsafe.Sizeof(unix.Iovec{})))
	if err != nil {
		return err
	}
	d.vec = (*unix.Iovec)(uring.Pointer(vec))
	*d.vec = unix.Iovec{Base: &d.data[0], Len: machine.Sector}
	return nil
}

// askChains finds out whether a polled request that fails cancels the rest of its chain, on
// kernels where either is good: each chain must then do as this one did.
func (d *disk) askChains() error {
	pair := []request{d.at(d.bad, uring.OpRead, uring.SQELink), d.at(d.good(0), uring.OpRead, 0)}
	return d.with(func(r *uring.Ring) error {
		if err := d.send(r, pair); err != nil {
			return err
		}
		for n := 0; n < len(pair); {
			cqe, ok := r.Take()
			if !ok {
				if err := r.Wait(1); err != nil {
					return fmt.Errorf("wait: %w", err)
				}
				continue
			}
			n++
			d.goesOn = d.goesOn || cqe.UserData == 1 && cqe.Res >= 0
		}
		return nil
	})
}

func (d *disk) close() error { return unix.Close(int(d.fd)) }

// with runs f with a ring of the disk's kind that has the disk and its buffer
// registered.
func (d *disk) with(f func(*uring.Ring) error) error {
	return uring.With(1024, d.params, func(r *uring.Ring) error {
		if err := r.Files([]int32{d.fd}); err != nil {
			return fmt.Errorf("register the disk: %w", err)
		}
		vec := *d.vec
		if _, err := uring.Register(r.FD, uring.RegisterBuffers, unsafe.Pointer(&vec), 1); err != nil {
			return fmt.Errorf("register the buffer: %w", err)
		}
		return f(r)
	})
}

type check struct {
	name string
	run  func(*uring.Ring) error
}

// ops are the opcodes that read and write, in pairs.
var ops = []struct {
	name        string
	read, write uint8
}{
	{"read", uring.OpRead, uring.OpWrite},
	{"readv", uring.OpReadv, uring.OpWritev},
	{"read-fixed", uring.OpReadFixed, uring.OpWriteFixed},
}

func (d *disk) checks() []check {
	var list []check
	for _, op := range ops {
		list = append(list, check{"alone/" + op.name, func(r *uring.Ring) error { return d.alone(r, op.read, op.write, 0) }})
	}
	list = append(list,
		check{"alone/registered-file", func(r *uring.Ring) error { return d.alone(r, uring.OpRead, uring.OpWrite, uring.SQEFixedFile) }},
		check{"alone/async", func(r *uring.Ring) error { return d.alone(r, uring.OpRead, uring.OpWrite, uring.SQEAsync) }},
	)
	for _, op := range []struct {
		name   string
		opcode uint8
	}{{"read", uring.OpRead}, {"write", uring.OpWrite}} {
		for _, at := range []struct {
			name  string
			index int
		}{{"head", 0}, {"middle", 3}, {"tail", 7}} {
			list = append(list,
				check{"chain/" + op.name + "-" + at.name, func(r *uring.Ring) error { return d.chain(r, op.opcode, uring.SQELink, 8, at.index) }},
				check{"hard-chain/" + op.name + "-" + at.name, func(r *uring.Ring) error { return d.chain(r, op.opcode, uring.SQEHardLink, 8, at.index) }},
			)
		}
	}
	return append(list,
		check{"chain/async-head", func(r *uring.Ring) error { return d.chain(r, uring.OpRead, uring.SQELink|uring.SQEAsync, 8, 0) }},
		check{"chain/long-head", func(r *uring.Ring) error { return d.chain(r, uring.OpRead, uring.SQELink, many, 0) }},
		check{"hard-chain/long", func(r *uring.Ring) error { return d.hardChain(r, many) }},
		check{"batch/read", func(r *uring.Ring) error { return d.batch(r, uring.OpRead, 0) }},
		check{"batch/write", func(r *uring.Ring) error { return d.batch(r, uring.OpWrite, 0) }},
		check{"batch/registered-file", func(r *uring.Ring) error { return d.batch(r, uring.OpReadFixed, uring.SQEFixedFile) }},
		check{"batch/async", func(r *uring.Ring) error { return d.batch(r, uring.OpRead, uring.SQEAsync) }},
		check{"batch/all-bad", func(r *uring.Ring) error { return d.allBad(r) }},
		check{"works-after", func(r *uring.Ring) error { return d.worksAfter(r) }},
	)
}

// request is one entry to submit and the result that it must have.
type request struct {
	opcode, flags uint8
	sector        int64
	want          int32
}

// at makes a request for the sector and knows its result.
func (d *disk) at(sector int64, opcode, flags uint8) request {
	want := int32(machine.Sector)
	if sector == d.bad {
		want = -int32(d.errno)
	}
	return request{opcode: opcode, flags: flags, sector: sector, want: want}
}

// good is the i-th of the good sectors that batches use. No two are adjacent, nor
// is one to the bad sector: requests that the block layer or QEMU merges fail
// together.
func (d *disk) good(i int) int64 { return d.bad + 2 + 2*int64(i%spread) }

// submit puts the requests through the idle ring, all at once, and checks every
// result.
func (d *disk) submit(r *uring.Ring, requests []request) error {
	if err := d.send(r, requests); err != nil {
		return err
	}
	return d.results(r, requests)
}

// send submits the requests, all at once.
func (d *disk) send(r *uring.Ring, requests []request) error {
	for i, q := range requests {
		sqe := r.Next()
		if sqe == nil {
			return fmt.Errorf("the submission ring was full after %d of %d entries", i, len(requests))
		}
		sqe.Opcode, sqe.Flags, sqe.UserData = q.opcode, q.flags, uint64(i)
		sqe.Off = uint64(q.sector * machine.Sector)
		if sqe.FD = d.fd; q.flags&uring.SQEFixedFile != 0 {
			sqe.FD = 0
		}
		switch q.opcode {
		case uring.OpReadv, uring.OpWritev:
			sqe.Addr, sqe.Len = uint64(uintptr(unsafe.Pointer(d.vec))), 1
		default:
			sqe.Addr, sqe.Len = uring.Address(d.data), uint32(len(d.data))
		}
	}
	consumed, err := r.Submit()
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if consumed != len(requests) {
		return fmt.Errorf("the kernel took %d of %d entries", consumed, len(requests))
	}
	return nil
}

// results waits until every request has completed, and checks that it did so
// once and with its result. It takes completions as they come: v5.10 does not
// poll for more while some are ready (io_iopoll_check), and chains of polled
// requests go on only when it polls.
func (d *disk) results(r *uring.Ring, requests []request) error {
	seen := make([]bool, len(requests))
	for left := len(requests); left > 0; {
		cqe, ok := r.Take()
		if !ok {
			if err := r.Wait(1); err != nil {
				return fmt.Errorf("wait: %w", err)
			}
			continue
		}
		left--
		if cqe.UserData >= uint64(len(requests)) || seen[cqe.UserData] {
			return fmt.Errorf("an unexpected completion: %+v", cqe)
		}
		seen[cqe.UserData] = true
		if q := requests[cqe.UserData]; cqe.Res != q.want {
			return fmt.Errorf("request %d of %d, opcode %d on sector %d (the bad one is %d): result %s; want %s",
				cqe.UserData, len(requests), q.opcode, q.sector, d.bad, result(cqe.Res), result(q.want))
		}
	}
	if cqe, ok := r.Take(); ok {
		return fmt.Errorf("a completion too many: %+v", cqe)
	}
	return nil
}

// result shows a number of bytes or an error by its name.
func result(res int32) string {
	if name := unix.ErrnoName(unix.Errno(-res)); res < 0 && name != "" {
		return fmt.Sprintf("%d (%s)", res, name)
	}
	return strconv.Itoa(int(res))
}

// alone writes and reads the bad sector and its neighbours one by one. What was
// written to the neighbours must be there.
func (d *disk) alone(r *uring.Ring, read, write, flags uint8) error {
	fill := func(with byte) { copy(d.data, bytes.Repeat([]byte{with}, machine.Sector)) }
	sectors := []int64{d.bad - 1, d.bad, d.bad + 1}
	for i, sector := range sectors {
		fill(byte(i + 1))
		if err := d.submit(r, []request{d.at(sector, write, flags)}); err != nil {
			return err
		}
	}
	for i, sector := range sectors {
		fill(0xff)
		if err := d.submit(r, []request{d.at(sector, read, flags)}); err != nil {
			return err
		}
		if want := bytes.Repeat([]byte{byte(i + 1)}, machine.Sector); sector != d.bad && !bytes.Equal(d.data, want) {
			return fmt.Errorf("sector %d begins with %x; want %x", sector, d.data[:8], want[:8])
		}
	}
	return nil
}

// chain links n requests, of which one is for the bad sector. With SQELink all
// behind it are cancelled (but see goesOn), with SQEHardLink they go on.
func (d *disk) chain(r *uring.Ring, opcode, flags uint8, n, bad int) error {
	requests := make([]request, n)
	for i := range requests {
		requests[i] = d.at(d.good(i), opcode, flags)
		if i > bad && flags&uring.SQELink != 0 && !d.goesOn {
			requests[i].want = -int32(unix.ECANCELED)
		}
	}
	requests[bad] = d.at(d.bad, opcode, flags)
	return d.submit(r, unlinked(requests))
}

// unlinked ends a chain at its last request.
func unlinked(requests []request) []request {
	requests[len(requests)-1].flags &^= uring.SQELink | uring.SQEHardLink
	return requests
}

// hardChain links n requests so that they go on after an error; every third
// fails. All are allocated before the first one runs.
func (d *disk) hardChain(r *uring.Ring, n int) error {
	return d.submit(r, unlinked(d.mixed(n, uring.OpRead, uring.SQEHardLink)))
}

// mixed makes n requests of which every third is for the bad sector.
func (d *disk) mixed(n int, opcode, flags uint8) []request {
	requests := make([]request, n)
	for i := range requests {
		sector := d.good(i)
		if i%3 == 0 {
			sector = d.bad
		}
		requests[i] = d.at(sector, opcode, flags)
	}
	return requests
}

// batch submits twice as many requests as a cache keeps, at once and without
// links.
func (d *disk) batch(r *uring.Ring, opcode, flags uint8) error {
	return d.submit(r, d.mixed(2*many, opcode, flags))
}

// allBad submits nothing but requests that fail.
func (d *disk) allBad(r *uring.Ring) error {
	requests := make([]request, 2*many)
	for i := range requests {
		requests[i] = d.at(d.bad, uring.OpRead, 0)
	}
	return d.submit(r, requests)
}

// worksAfter submits requests that succeed, in a batch and in a chain.
func (d *disk) worksAfter(r *uring.Ring) error {
	for _, flags := range []uint8{0, uring.SQELink} {
		requests := make([]request, many)
		for i := range requests {
			requests[i] = d.at(d.good(i), uring.OpRead, flags)
		}
		if err := d.submit(r, unlinked(requests)); err != nil {
			return err
		}
	}
	return nil
}

// nopsAfter runs the other class of requests once more than a cache keeps.
func nopsAfter() error {
	return uring.With(many, uring.Params{}, func(r *uring.Ring) error {
		return r.Run(many, uring.SQELink, uring.Nop, 0)
	})
}

// books counts the slab's objects and, where there is a cache, what is in it.
type books struct{ *alloccache.Books }

// balanced waits until they balance.
func (b books) balanced() error { return settle(b.Balanced) }

// growth fails a chain at its head and expects the requests that were new to be
// in the cache afterwards, and all in their class.
func (b books) growth(d *disk) error {
	const cpu = 0
	before, err := b.Rows()
	if err != nil {
		return err
	}
	if before[1].CPU != cpu || before[1].IRQ != 1 {
		return fmt.Errorf("the second row is not cpu%d irq=1:\n%s", cpu, alloccache.Format(before))
	}
	n := before[1].Avail + many
	err = machine.OnCPU(cpu, func() error {
		return d.with(func(r *uring.Ring) error { return d.chain(r, uring.OpRead, uring.SQELink, n, 0) })
	})
	if err != nil {
		return err
	}
	return settle(func() error {
		after, err := b.Rows()
		if err != nil {
			return err
		}
		for irq, grown := range []int{0, many} {
			if got, want := alloccache.Total(after, irq), alloccache.Total(before, irq)+grown; got != want {
				return fmt.Errorf("after a failed chain of %d reads, of which %d were new, the irq=%d caches hold %d requests; want %d; before:\n%safter:\n%s",
					n, many, irq, got, want, alloccache.Format(before), alloccache.Format(after))
			}
		}
		return nil
	})
}

// settle tries until ok has no error: a completion is visible to the program a
// moment before its request is freed.
func settle(ok func() error) error {
	return machine.Await(limit/4, ok)
}
