//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// limit is when a check counts as a hang.
const limit = 2 * time.Second

// cpu is where all requests are submitted.
const cpu = 0

func run(t *report.T) {
	p, err := prepare(t)
	if err != nil {
		t.Error("setup", err)
		return
	}
	t.Within(limit, "starts-empty", p.untouched)
	if p.noFallback {
		p.withoutFallback(t)
	} else {
		p.withFallback(t)
	}
	t.Within(limit, "kept-out-of-cache", p.untouched)
	t.Within(limit, "works-after", p.worksAfter)
	if p.books.Has {
		t.Within(limit, "cache-first", p.cacheFirst)
	} else {
		t.Skip("cache-first", alloccache.Feature, "the kernel has no cache")
	}
	t.Within(limit, "waits", p.waits)
	t.Within(limit, "quiet", p.quiet)
	t.Within(limit, "objects", p.balanced)
}

// withFallback are the checks of kernels that keep one request for each ring.
func (p *program) withFallback(t *report.T) {
	for _, k := range p.kinds() {
		t.Within(limit, "fallback/"+k.name, func() error { return p.starving(k.params, func(r *uring.Ring) error { return twice(r, k) }) })
	}
	t.Within(limit, "fallback/in-turn", func() error { return p.starving(uring.Params{}, p.inTurn) })
	t.Within(limit, "batch", func() error { return p.starving(uring.Params{}, func(r *uring.Ring) error { return oneByOne(r, 0) }) })
	t.Within(limit, "chain", func() error {
		return p.starving(uring.Params{}, func(r *uring.Ring) error { return oneByOne(r, uring.SQELink) })
	})
	t.Within(limit, "taken", func() error { return p.starving(uring.Params{}, p.taken) })
	t.Within(limit, "two-rings", p.twoRings)
	t.Within(limit, "setup-fails", p.setup)
	t.Within(limit, "exit", p.exit)
}

// program is what the checks share.
type program struct {
	faults *machine.Faults
	books  *alloccache.Books
	// noFallback says that rings have no request to fall back on.
	noFallback bool
	disk       int32
	data       []byte
	// pipe has a reading and a writing end, and is empty between checks.
	pipe [2]int
}

func prepare(t *report.T) (*program, error) {
	p := &program{}
	var err error
	if p.faults, err = machine.SlabFaults(alloccache.Slab); err != nil {
		return nil, err
	}
	answer, err := uring.Has(uring.NoFallbackRequest)
	if err != nil {
		return nil, err
	}
	p.noFallback = answer == uring.After
	disk, err := machine.OpenDisk(machine.NVMe)
	if err != nil {
		return nil, err
	}
	p.disk = int32(disk)
	if p.data, err = machine.Buffer(machine.Sector); err != nil {
		return nil, err
	}
	if err := unix.Pipe2(p.pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	if p.books, err = alloccache.OpenBooks(t); err != nil {
		return nil, err
	}
	return p, machine.NVMePolls()
}

// starving runs f on the CPU with a ring, while no request can be allocated.
func (p *program) starving(params uring.Params, f func(*uring.Ring) error) error {
	return machine.OnCPU(cpu, func() error {
		return uring.With(2*alloccache.Max, params, func(r *uring.Ring) error {
			return p.faults.During(func() error { return f(r) })
		})
	})
}

// kind is a request and the result that it must have.
type kind struct {
	name   string
	params uring.Params
	fill   func(*uring.SQE)
	want   int32
}

// kinds are requests of both of the RFC's classes, and of every way to complete:
// at once, in a worker, from an interrupt, polled, from a timer, by a wake-up.
func (p *program) kinds() []kind {
	read := func(sqe *uring.SQE) {
		sqe.Opcode, sqe.FD, sqe.Addr, sqe.Len = uring.OpRead, p.disk, uring.Address(p.data), machine.Sector
	}
	return []kind{
		{"nop", uring.Params{}, uring.Nop, 0},
		{"nop-async", uring.Params{}, func(sqe *uring.SQE) { sqe.Opcode, sqe.Flags = uring.OpNop, uring.SQEAsync }, 0},
		{"read", uring.Params{}, read, machine.Sector},
		{"read-polled", uring.Params{Flags: uring.SetupIOPoll}, read, machine.Sector},
		{"fsync", uring.Params{}, func(sqe *uring.SQE) { sqe.Opcode, sqe.FD = uring.OpFsync, p.disk }, 0},
		{"bad-file", uring.Params{}, func(sqe *uring.SQE) { sqe.Opcode, sqe.FD = uring.OpRead, -1 }, -int32(unix.EBADF)},
		{"timeout", uring.Params{}, func(sqe *uring.SQE) {
			clear(p.data[:timespecSize])
			binary.LittleEndian.PutUint64(p.data[8:], uint64(time.Millisecond))
			sqe.Opcode, sqe.FD, sqe.Addr, sqe.Len = uring.OpTimeout, -1, uring.Address(p.data), 1
		}, -int32(unix.ETIME)},
		{"poll", uring.Params{}, func(sqe *uring.SQE) {
			sqe.Opcode, sqe.FD, sqe.OpFlags = uring.OpPollAdd, int32(p.pipe[1]), unix.POLLOUT
		}, unix.POLLOUT},
	}
}

// timespecSize is that of struct __kernel_timespec.
const timespecSize = 16

// twice runs a request of the kind and then another: the second gets the
// fallback request again.
func twice(r *uring.Ring, k kind) error {
	for i := range uint64(2) {
		if err := one(r, 10+i, k.fill, k.want); err != nil {
			return fmt.Errorf("request %d: %w", i+1, err)
		}
	}
	return nil
}

// inTurn makes the same fallback request one of every kind.
func (p *program) inTurn(r *uring.Ring) error {
	for i, k := range p.kinds() {
		if k.params != (uring.Params{}) {
			continue
		}
		if err := one(r, uint64(i), k.fill, k.want); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
	}
	return nil
}

// one submits one request as soon as the ring has its fallback request back,
// which is a moment after the last completion, and waits for it.
func one(r *uring.Ring, data uint64, fill func(*uring.SQE), want int32) error {
	sqe := r.Next()
	sqe.UserData = data
	fill(sqe)
	if err := settle(func() error { return submit(r, 1) }); err != nil {
		return err
	}
	return completes(r, uring.CQE{UserData: data, Res: want})
}

// submit submits what Next handed out and expects the kernel to take that many,
// or with 0 to answer EAGAIN.
func submit(r *uring.Ring, want int) error {
	n, err := r.Submit()
	switch {
	case want == 0 && err != unix.EAGAIN:
		return fmt.Errorf("the kernel took %d entries, error %v, without a request for them; want EAGAIN", n, err)
	case want == 0:
		return nil
	case err != nil:
		return fmt.Errorf("submit: %w; want %d entries taken", err, want)
	case n != want:
		return fmt.Errorf("the kernel took %d entries; want %d", n, want)
	}
	return nil
}

// completes waits for exactly these completions, in order.
func completes(r *uring.Ring, want ...uring.CQE) error {
	if err := r.Wait(uint32(len(want))); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	var got []uring.CQE
	for cqe, ok := r.Take(); ok; cqe, ok = r.Take() {
		got = append(got, cqe)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("completions %+v; want %+v", got, want)
	}
	return nil
}

// nops prepares n NOPs, numbered from 0; flags is set on all but the last.
func nops(r *uring.Ring, n int, flags uint8) {
	for i := range n {
		sqe := r.Next()
		if sqe.UserData = uint64(i); i < n-1 {
			sqe.Flags = flags
		}
	}
}

// oneByOne submits n NOPs at once. The kernel has one request, which it gets
// back when a submission is over, so it takes one at a time. That ends a chain:
// what was linked runs by itself.
func oneByOne(r *uring.Ring, flags uint8) error {
	const n = 8
	nops(r, n, flags)
	for i := range uint64(n) {
		if err := submit(r, 1); err != nil {
			return fmt.Errorf("NOP %d of %d: %w", i, n, err)
		}
		if err := completes(r, uring.CQE{UserData: i}); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps the fallback request in use: nothing comes through the pipe before
// release.
func (p *program) hold(r *uring.Ring) error {
	sqe := r.Next()
	sqe.Opcode, sqe.FD, sqe.OpFlags, sqe.UserData = uring.OpPollAdd, int32(p.pipe[0]), unix.POLLIN, held
	return submit(r, 1)
}

// held is the user data of the request that waits for the pipe.
const held = 77

func (p *program) release(r *uring.Ring) error {
	if _, err := unix.Write(p.pipe[1], []byte{0}); err != nil {
		return err
	}
	if err := r.Wait(1); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if cqe, _ := r.Take(); cqe.UserData != held || cqe.Res < 0 || cqe.Res&unix.POLLIN == 0 {
		return fmt.Errorf("completion %+v; want user data %d and a result with POLLIN", cqe, held)
	}
	_, err := unix.Read(p.pipe[0], make([]byte, 1))
	return err
}

// taken submits while the fallback request is in use, and again after.
func (p *program) taken(r *uring.Ring) error {
	if err := p.hold(r); err != nil {
		return err
	}
	const n = 3
	nops(r, n, 0)
	for range 3 {
		if err := submit(r, 0); err != nil {
			return err
		}
	}
	if err := p.release(r); err != nil {
		return err
	}
	for i := range uint64(n) {
		if err := settle(func() error { return submit(r, 1) }); err != nil {
			return fmt.Errorf("after the fallback request was given back: %w", err)
		}
		if err := completes(r, uring.CQE{UserData: i}); err != nil {
			return err
		}
	}
	return nil
}

// twoRings uses one ring's fallback request while the other's is taken.
func (p *program) twoRings() error {
	return uring.With(1, uring.Params{}, func(other *uring.Ring) error {
		return p.starving(uring.Params{}, func(r *uring.Ring) error {
			if err := p.hold(r); err != nil {
				return err
			}
			if err := one(other, 1, func(*uring.SQE) {}, 0); err != nil {
				return err
			}
			return p.release(r)
		})
	})
}

// setup expects that there is no ring without a fallback request.
func (p *program) setup() error {
	return machine.OnCPU(cpu, func() error {
		return p.faults.During(func() error {
			fd, err := uring.Setup(1, &uring.Params{})
			if err != unix.ENOMEM {
				return fmt.Errorf("io_uring_setup returned descriptor %d, error %v; want ENOMEM", fd, err)
			}
			return nil
		})
	})
}

// exit closes a ring whose fallback request is in use. It goes, and the request
// with it.
func (p *program) exit() error {
	if err := p.starving(uring.Params{}, p.hold); err != nil {
		return err
	}
	return p.balanced()
}

// untouched expects that no request is in the cache and none is lost. Fallback
// requests belong to their rings.
func (p *program) untouched() error {
	rows, err := p.books.Rows()
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.Avail != 0 || r.Free != 0 {
			return fmt.Errorf("the cache holds requests, but none was allocated but for rings:\n%s", alloccache.Format(rows))
		}
	}
	return p.balanced()
}

// balanced waits until the books balance.
func (p *program) balanced() error { return settle(p.books.Balanced) }

// many is more requests than a cache keeps (alloccache.Max).
const many = 300

// worksAfter allocates again and expects the cache to hold what the RFC's rules
// give.
func (p *program) worksAfter() error {
	err := machine.OnCPU(cpu, func() error {
		return uring.With(many, uring.Params{}, func(r *uring.Ring) error {
			return r.Run(many, uring.SQELink, uring.Nop, 0)
		})
	})
	if err != nil {
		return err
	}
	rows, err := p.books.Rows()
	if err != nil || !p.books.Has {
		return err
	}
	if want := (alloccache.Row{CPU: cpu}).After(many); rows[0] != want {
		return fmt.Errorf("after %d NOPs in flight at once:\n%s\nwant:\n%s", many, rows[0], want)
	}
	return nil
}

// cacheFirst expects that what is available is used before the fallback request
// is, and that the latter does not end up among it.
func (p *program) cacheFirst() error {
	before, err := p.books.Rows()
	if err != nil {
		return err
	}
	n := before[0].Avail
	err = p.starving(uring.Params{}, func(r *uring.Ring) error {
		nops(r, n+2, uring.SQELink)
		// The last one finds no request; the chain runs without it.
		for _, want := range []int{n + 1, 1} {
			if err := submit(r, want); err != nil {
				return fmt.Errorf("with %d requests available: %w", n, err)
			}
		}
		if got := r.Ready(); got != uint32(n+2) {
			return fmt.Errorf("%d of %d NOPs have completed", got, n+2)
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, err := p.books.Rows()
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		return fmt.Errorf("the counters changed:\n%safter:\n%s", alloccache.Format(before), alloccache.Format(after))
	}
	return nil
}

// waits expects that requests are allocated as from a task that can wait for
// memory: when only those fail that cannot, the ring's fallback request is not
// needed.
func (p *program) waits() error {
	return machine.OnCPU(cpu, func() error {
		return uring.With(2*alloccache.Max, uring.Params{}, func(r *uring.Ring) error {
			return p.faults.DuringAtomic(func() error {
				// More than are available.
				nops(r, 2*alloccache.Max, uring.SQELink)
				return submit(r, 2*alloccache.Max)
			})
		})
	})
}

// quiet expects that the kernel says nothing when it has no page for more
// requests: io_uring has an answer to that.
func (p *program) quiet() error {
	pages, err := machine.PageFaults()
	if err != nil {
		return err
	}
	const n = 4000
	took := 0
	lines, err := machine.LogDuring(func() error {
		return machine.OnCPU(cpu, func() error {
			return uring.With(n, uring.Params{}, func(r *uring.Ring) error {
				nops(r, n, uring.SQELink)
				return pages.During(func() (err error) {
					took, err = r.Submit()
					if p.noFallback && err == unix.EAGAIN {
						return nil
					}
					return err
				})
			})
		})
	})
	if err != nil {
		return err
	}
	if took == n {
		return fmt.Errorf("%d requests were allocated without one new page", n)
	}
	lines = slices.DeleteFunc(lines, func(line string) bool {
		return !strings.Contains(line, "SLUB: Unable to allocate memory") && !strings.Contains(line, "allocation failure")
	})
	if len(lines) > 0 {
		return fmt.Errorf("the kernel took %d of %d requests, which is right, but complained:\n%s", took, n, strings.Join(lines, "\n"))
	}
	return nil
}

// settle tries until ok has no error: a completion is visible to the program a
// moment before its request is freed.
func settle(ok func() error) error {
	return machine.Await(limit/4, ok)
}
