//go:build linux

package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/machine"
	"patchproof/guest/mark"
	"patchproof/guest/uring"
)

// groups are the workloads that share a machine.
var groups = map[string]func() ([]workload, error){
	"nop":    nops,
	"file":   files,
	"nvme":   disks,
	"life":   lifeCycles,
	"rings":  rings,
	"cpus":   cpus,
	"shrink": shrinks,
	"states": states,
}

// batch is a workload that submits n requests of one kind at once and takes their
// completions, over and over.
type batch struct {
	name string
	n    uint32
	// rounds is how many batches a window has; 0 lets batch choose.
	rounds int
	params uring.Params
	// flags are those of all but the last request of a batch.
	flags uint8
	fill  func(*uring.SQE)
	want  int32
	// file, unless 0, is registered as the ring's file 0.
	file int32
	// rings is how many rings take turns; 0 means one.
	rings int
	// median is the workload's.
	median bool
	// settle, unless nil, is called between the submission and the wait.
	settle func(*uring.Ring)
}

// workload makes the batch something to measure.
func (b batch) workload() workload {
	if b.rounds == 0 {
		b.rounds = minRounds
		if !b.median {
			b.rounds = min(minRounds, mostOps/int(b.n))
		}
		b.rounds = max(b.rounds, windowOps/int(b.n))
	}
	return workload{name: b.name, ops: b.rounds * int(b.n), median: b.median, open: func() (*task, error) {
		var open []*uring.Ring
		for range max(1, b.rings) {
			r, err := uring.New(b.n, b.params)
			if err != nil {
				return nil, err
			}
			if b.file != 0 {
				if err := r.Files([]int32{b.file}); err != nil {
					return nil, err
				}
			}
			open = append(open, r)
		}
		return &task{
			window: func() error {
				for i := range b.rounds {
					if err := b.round(open[i%len(open)]); err != nil {
						return err
					}
				}
				return nil
			},
			end: func() error {
				for _, r := range open {
					if err := r.Close(); err != nil {
						return err
					}
				}
				return nil
			},
		}, nil
	}}
}

// round submits one batch and takes its completions.
func (b batch) round(r *uring.Ring) error {
	for i := range b.n {
		sqe := r.Next()
		b.fill(sqe)
		if i < b.n-1 {
			sqe.Flags |= b.flags
		}
	}
	consumed, err := r.Submit()
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if consumed != int(b.n) {
		return fmt.Errorf("the kernel took %d of %d entries", consumed, b.n)
	}
	if b.settle != nil {
		b.settle(r)
	}
	atOnce := b.n
	if b.params.Flags&uring.SetupIOPoll != 0 {
		// A wait looks for completions only while none is there (v5.10,
		// io_iopoll_check), so one for more than come at once would not end.
		atOnce = 1
	}
	for left := b.n; left > 0; {
		if err := r.Wait(min(atOnce, left)); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		for cqe, ok := r.Take(); ok; cqe, ok = r.Take() {
			if cqe.Res != b.want {
				return fmt.Errorf("result %d; want %d", cqe.Res, b.want)
			}
			left--
		}
	}
	return nil
}

// nops are the mail's own benchmark by batch size; linked, they are all in flight
// at once, which shows what happens around the 256 that the cache keeps.
func nops() ([]workload, error) {
	var list []workload
	for _, n := range []uint32{1, 2, 8, 16, 32, 128, 256, 1024} {
		list = append(list, batch{name: fmt.Sprintf("Nop/batch=%d", n), n: n, fill: uring.Nop}.workload())
	}
	for _, n := range []uint32{32, 128, alloccache.Max, alloccache.Max + 8, 320, 512, 1024} {
		list = append(list, batch{name: fmt.Sprintf("NopLinked/batch=%d", n), n: n, flags: uring.SQELink, fill: uring.Nop, median: n > alloccache.Max}.workload())
	}
	return list, nil
}

// fileSize is what one read takes, in bytes.
const fileSize = 512

// files reads a file of tmpfs, which completes inline, through a descriptor and
// through a registered file.
func files() ([]workload, error) {
	f, err := os.Create("/tmp/bench")
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, fileSize)); err != nil {
		return nil, err
	}
	batches, err := reads("ReadTmpfs", int32(f.Fd()), uring.Params{}, []uint32{1, 32, 128})
	var list []workload
	for _, b := range batches {
		list = append(list, b.workload())
	}
	return list, err
}

// reapAfter is when all reads of a batch should have ended. It is shorter than a tick
// of the timer, so that some windows have none.
const reapAfter = 2 * time.Millisecond

// disks reads the NVMe disk, by interrupt and polled. The wait takes as many
// instructions as the disk takes long, so the program waits, for its part uncounted,
// until the disk is done: what counts is the submission, the interrupts, and with
// a polled ring a reaping that finds everything there.
func disks() ([]workload, error) {
	if err := machine.NVMePolls(); err != nil {
		return nil, err
	}
	fd, err := machine.OpenDisk(machine.NVMe)
	if err != nil {
		return nil, err
	}
	untilReady := func(r *uring.Ring, n uint32) bool { return r.Ready() >= n }
	var list []workload
	for _, by := range []struct {
		name  string
		flags uint32
		done  func(*uring.Ring, uint32) bool
	}{
		{"irq", 0, untilReady},
		{"poll", uring.SetupIOPoll, func(*uring.Ring, uint32) bool { return false }},
	} {
		batches, err := reads("ReadNVMe/by="+by.name, int32(fd), uring.Params{Flags: by.flags}, []uint32{1, 32})
		if err != nil {
			return nil, err
		}
		for _, b := range batches {
			b.rounds = 1
			b.settle = func(r *uring.Ring) {
				mark.Pause()
				for start := time.Now(); !by.done(r, b.n) && time.Since(start) < reapAfter; {
				}
				mark.Start()
			}
			list = append(list, b.workload())
		}
	}
	return list, nil
}

// reads are reads of a file through its descriptor and through a registered file.
func reads(name string, fd int32, params uring.Params, sizes []uint32) ([]batch, error) {
	buf, err := machine.Buffer(fileSize)
	if err != nil {
		return nil, err
	}
	read := func(fd int32, flags uint8) func(*uring.SQE) {
		return func(sqe *uring.SQE) {
			sqe.Opcode, sqe.FD, sqe.Flags = uring.OpRead, fd, flags
			sqe.Addr, sqe.Len = uring.Address(buf), fileSize
		}
	}
	var list []batch
	for _, n := range sizes {
		list = append(list,
			batch{name: fmt.Sprintf("%s/file=plain/batch=%d", name, n), n: n, params: params, fill: read(fd, 0), want: fileSize},
			batch{name: fmt.Sprintf("%s/file=fixed/batch=%d", name, n), n: n, params: params, fill: read(0, uring.SQEFixedFile), want: fileSize, file: fd},
		)
	}
	return list, nil
}

// lifeCycles are requests that wait: timeouts that fire, and polls that are
// woken by a write.
func lifeCycles() ([]workload, error) {
	spec, err := machine.Buffer(16) // struct __kernel_timespec: at once
	if err != nil {
		return nil, err
	}
	var list []workload
	for _, n := range []uint32{1, 32, 300} {
		list = append(list, batch{name: fmt.Sprintf("Timeout/batch=%d", n), n: n, want: -int32(unix.ETIME), fill: func(sqe *uring.SQE) {
			sqe.Opcode, sqe.FD = uring.OpTimeout, -1
			sqe.Addr, sqe.Len = uring.Address(spec), 1
		}}.workload())
	}
	for _, n := range []uint32{1, 32, 300} {
		w, err := polls(n)
		if err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	return list, nil
}

// polls arms n polls on an eventfd and wakes them all by one write.
func polls(n uint32) (workload, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return workload{}, err
	}
	rounds := max(1, windowOps/int(n))
	return workload{name: fmt.Sprintf("Poll/batch=%d", n), ops: rounds * int(n), open: func() (*task, error) {
		r, err := uring.New(n, uring.Params{})
		if err != nil {
			return nil, err
		}
		count := make([]byte, 8)
		return &task{end: r.Close, window: func() error {
			for range rounds {
				for range n {
					sqe := r.Next()
					sqe.Opcode, sqe.FD, sqe.OpFlags = uring.OpPollAdd, int32(fd), unix.POLLIN
				}
				if _, err := r.Submit(); err != nil {
					return fmt.Errorf("submit: %w", err)
				}
				count[0] = 1
				if _, err := unix.Write(fd, count); err != nil {
					return err
				}
				if err := r.Wait(n); err != nil {
					return fmt.Errorf("wait: %w", err)
				}
				for range n {
					if cqe, _ := r.Take(); cqe.Res != unix.POLLIN {
						return fmt.Errorf("result %d; want POLLIN", cqe.Res)
					}
				}
				if _, err := unix.Read(fd, count); err != nil {
					return err
				}
			}
			return nil
		}}, nil
	}}, nil
}

// axisBatch is the batch size of the workloads whose axis is another.
const axisBatch = 32

// rings are NOPs through several rings of one thread in turn.
func rings() ([]workload, error) {
	var list []workload
	for _, n := range []int{1, 2, 8, 32} {
		list = append(list, batch{name: fmt.Sprintf("Nop/rings=%d/batch=%d", n, axisBatch), n: axisBatch, rings: n, rounds: windowOps / axisBatch, fill: uring.Nop}.workload())
	}
	return list, nil
}

// cpus are NOPs from every CPU at once, one ring each.
func cpus() ([]workload, error) {
	online, err := machine.OnlineCPUs()
	if err != nil {
		return nil, err
	}
	w := batch{name: fmt.Sprintf("Nop/cpus=%d/batch=%d", len(online), axisBatch), n: axisBatch, fill: uring.Nop}.workload()
	w.cpus = online
	return []workload{w}, nil
}

// shrinks are NOPs on one CPU, and chains of which each overfills the cache, while
// another CPU shrinks all caches.
func shrinks() ([]workload, error) {
	single := batch{name: fmt.Sprintf("Nop/beside=shrink/batch=%d", axisBatch), n: axisBatch, fill: uring.Nop, median: true}.workload()
	linked := batch{name: "NopLinked/beside=shrink/batch=320", n: 320, flags: uring.SQELink, fill: uring.Nop, median: true}.workload()
	single.beside, linked.beside = machine.DropSlab, machine.DropSlab
	return []workload{single, linked}, nil
}

// states are chains of NOPs on CPU 1 in each state of its cache: as the chain
// before left it; empty; empty after all memory that can be had was taken back; and
// just after the CPU was away.
func states() ([]workload, error) {
	const n = 128
	chain := batch{n: n, rounds: 1, flags: uring.SQELink, fill: uring.Nop}
	// One more than fits empties the cache: all go to the list of the shrinker.
	overfull := batch{n: alloccache.Max + 1, rounds: 1, flags: uring.SQELink, fill: uring.Nop}
	state := func(name string, prepare func(full *uring.Ring) error) workload {
		b := chain
		b.name = fmt.Sprintf("NopLinked/cache=%s/batch=%d", name, n)
		w := b.workload()
		w.cpus, w.windows = []int{1}, 15
		open := w.open
		w.open = func() (*task, error) {
			t, err := open()
			if err != nil {
				return nil, err
			}
			full, err := uring.New(overfull.n, uring.Params{})
			if err != nil {
				return nil, err
			}
			t.prepare = func() error { return prepare(full) }
			return t, nil
		}
		return w
	}
	return []workload{
		state("warm", func(*uring.Ring) error { return nil }),
		state("cold", overfull.round),
		state("shrunk", func(full *uring.Ring) error {
			if err := overfull.round(full); err != nil {
				return err
			}
			if err := machine.DropSlab(); err != nil {
				return err
			}
			_, err := machine.SlabObjects(alloccache.Slab) // gives empty slabs back
			return err
		}),
		state("online", func(*uring.Ring) error {
			if err := machine.SetOnline(1, false); err != nil {
				return err
			}
			if err := machine.SetOnline(1, true); err != nil {
				return err
			}
			return machine.Bind(1)
		}),
	}, nil
}
