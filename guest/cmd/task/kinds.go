//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// kinds are what a process has done, or has in flight, when it goes.
var kinds = []struct {
	name string
	do   func() error
}{
	{"nops", nops},
	{"polled", polled},
	{"waiting", waiting},
	{"worker", worker},
	{"registered", registered},
	{"thread", thread},
}

// batches are sizes around those at which the kernel does things together.
var batches = []uint32{1, 2, 7, 8, 9, 16, 31, 32, 33, 64, 127, 128}

func nops() error {
	r, err := uring.New(128, uring.Params{})
	if err != nil {
		return err
	}
	for _, n := range batches {
		if err := r.Run(n, 0, uring.Nop, 0); err != nil {
			return err
		}
	}
	return nil
}

// polled reaps reads of the disk in batches as large as they were submitted, where the
// disk has completed all of them by then.
func polled() error {
	var disk int
	// The one that went before has it until its ring is gone.
	err := machine.Await(limit/2, func() (err error) {
		disk, err = machine.OpenDisk(machine.NVMe)
		return err
	})
	if err != nil {
		return err
	}
	buf, err := machine.Buffer(machine.Sector)
	if err != nil {
		return err
	}
	r, err := uring.New(128, uring.Params{Flags: uring.SetupIOPoll})
	if err != nil {
		return err
	}
	for _, n := range batches {
		for range n {
			sqe := r.Next()
			sqe.Opcode, sqe.FD, sqe.Addr, sqe.Len = uring.OpRead, int32(disk), uring.Address(buf), machine.Sector
		}
		if consumed, err := r.Submit(); err != nil || consumed != int(n) {
			return fmt.Errorf("the kernel took %d of %d entries (%v)", consumed, n, err)
		}
		time.Sleep(10 * time.Millisecond)
		for done := uint32(0); done < n; {
			if _, err := uring.Enter(r.FD, 0, 0, uring.EnterGetEvents); err != nil && err != unix.EINTR {
				return err
			}
			for cqe, ok := r.Take(); ok; cqe, ok = r.Take() {
				done++
				if cqe.Res != machine.Sector {
					return fmt.Errorf("a read: result %d; want %d", cqe.Res, machine.Sector)
				}
			}
		}
	}
	return nil
}

// waiting leaves polls and timeouts in flight.
func waiting() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	hour, err := machine.Buffer(int(unsafe.Sizeof(unix.Timespec{})))
	if err != nil {
		return err
	}
	(*unix.Timespec)(unsafe.Pointer(unsafe.SliceData(hour))).Sec = 3600
	r, err := uring.New(64, uring.Params{})
	if err != nil {
		return err
	}
	const n = 8
	for range n {
		poll := r.Next()
		poll.Opcode, poll.FD, poll.OpFlags = uring.OpPollAdd, int32(pipe[0]), unix.POLLIN
		timeout := r.Next()
		timeout.Opcode, timeout.Addr, timeout.Len = uring.OpTimeout, uring.Address(hour), 1
		// A poll with a limit of its own.
		limited := r.Next()
		limited.Opcode, limited.FD, limited.OpFlags, limited.Flags = uring.OpPollAdd, int32(pipe[0]), unix.POLLIN, uring.SQELink
		limit := r.Next()
		limit.Opcode, limit.Addr, limit.Len = uring.OpLinkTimeout, uring.Address(hour), 1
	}
	if consumed, err := r.Submit(); err != nil || consumed != 4*n {
		return fmt.Errorf("the kernel took %d of %d entries (%v)", consumed, 4*n, err)
	}
	return nil
}

// worker has requests run by workers, which take the process's files, root and
// credentials with them, or credentials that were registered.
func worker() error {
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	buf, err := machine.Buffer(machine.Sector)
	if err != nil {
		return err
	}
	copy(buf[64:], "/dev/null\x00")
	r, err := uring.New(64, uring.Params{})
	if err != nil {
		return err
	}
	id, err := uring.Register(r.FD, uring.RegisterPersonality, nil, 0)
	if err != nil {
		return fmt.Errorf("register credentials: %w", err)
	}
	const n = 16
	for i := range uint32(n) {
		read, open := r.Next(), r.Next()
		read.Opcode, read.Flags, read.FD, read.Addr, read.Len = uring.OpRead, uring.SQEAsync, int32(zero), uring.Address(buf), 8
		open.Opcode, open.Flags, open.FD, open.Addr = uring.OpOpenat, uring.SQEAsync, unix.AT_FDCWD, uring.Address(buf[64:])
		open.OpFlags = unix.O_CLOEXEC
		if i%2 == 1 {
			read.Personality, open.Personality = uint16(id), uint16(id)
		}
	}
	if _, err := r.Submit(); err != nil {
		return err
	}
	if err := r.Wait(2 * n); err != nil {
		return err
	}
	for range 2 * n {
		if cqe, _ := r.Take(); cqe.Res < 0 {
			return fmt.Errorf("a request of a worker: %w", unix.Errno(-cqe.Res))
		}
	}
	return nil
}

// registered leaves files, buffers, an eventfd and credentials with the ring.
func registered() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return err
	}
	r, err := uring.New(16, uring.Params{})
	if err != nil {
		return err
	}
	if err := r.Files([]int32{int32(pipe[0]), int32(pipe[1]), -1}); err != nil {
		return fmt.Errorf("register files: %w", err)
	}
	_, err = uring.Register(r.FD, uring.RegisterPersonality, nil, 0)
	return errors.Join(err, r.EventFD(uring.RegisterEventFD, event), lock(r, 4))
}

// lock registers a buffer of pages, which count as locked.
func lock(r *uring.Ring, pages int) error {
	buf, err := machine.Buffer(pages * unix.Getpagesize())
	if err != nil {
		return err
	}
	iov := unix.Iovec{Base: unsafe.SliceData(buf)}
	iov.SetLen(len(buf))
	if _, err := uring.Register(r.FD, uring.RegisterBuffers, unsafe.Pointer(&iov), 1); err != nil {
		return fmt.Errorf("register a buffer: %w", err)
	}
	return nil
}

// thread leaves a ring behind that a thread of the kernel serves.
func thread() error {
	r, err := uring.New(16, uring.Params{Flags: uring.SetupSQPoll, SQThreadIdle: 1000})
	if err != nil {
		return err
	}
	return r.Run(16, 0, uring.Nop, 0)
}
