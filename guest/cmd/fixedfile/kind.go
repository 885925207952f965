//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// kind is a kind of file to register.
type kind struct {
	name string
	// polled rings are set up with IORING_SETUP_IOPOLL.
	polled bool
	// disk is the NVMe disk, whose interrupts can be counted.
	disk bool
	// open makes the files for the checks of registration and data; done gives
	// them back.
	open func() (fs files, done func() error, err error)
	// lend makes what a child needs.
	lend func() (loan, error)
	// hold runs in the child, with the loan's path: it registers files that only
	// the ring keeps open from then on, and puts requests in flight.
	hold func(r *uring.Ring, path string) error
}

// setup gives the flags of the kind's ring.
func (k kind) setup() uint32 {
	if k.polled {
		return uring.SetupIOPoll
	}
	return 0
}

// loan is what the parent gives to a child, and keeps of it.
type loan struct {
	// inherited become the child's descriptors from 3 on.
	inherited []int
	// path is the file for the child to open, if any.
	path string
	// released returns nil once no one holds the registered files any more.
	released func() error
	// end gives back what the parent kept.
	end func()
}

var kinds = []kind{
	{name: "tmpfs", open: openTmpfs, lend: lendTmpfs, hold: holdTmpfs},
	{name: "pipe", open: openPipe, lend: lendPipe, hold: holdPipe},
	{name: "socketpair", open: openSocketpair, lend: lendSocketpair, hold: holdSocket},
	{name: "nvme-irq", disk: true, open: openNVMe, lend: lendNVMe, hold: holdNVMe},
	{name: "nvme-polled", disk: true, polled: true, open: openNVMe, lend: lendNVMe, hold: holdNVMePolled},
}

// blockedPipe has a read in flight that blocks a worker thread of the ring.
// Killed, it needs the kernel to cancel that read: the worker holds on to the
// dead process's memory, in which the ring is mapped, which keeps the ring
// open. v5.10.13 does not cancel it (io_uring_cancel_task_requests looks only
// for requests with a files_struct). Where a worker only polls the pipe
// (uring.PipeReadsPoll) that poll must be canceled. Having no data checks of its own,
// it has no open.
var blockedPipe = kind{name: "pipe-blocked", lend: lendPipe, hold: holdBlocked}

func closeAll(fds ...int) error {
	var errs []error
	for _, fd := range fds {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// tmpfsDir is the mount whose only user is the ring under test.
const tmpfsDir = "/tmp/fixedfile"

const tmpfsFile = tmpfsDir + "/file"

func mountTmpfs() error {
	if err := os.MkdirAll(tmpfsDir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", tmpfsDir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	return nil
}

func openTmpfs() (files, func() error, error) {
	if err := mountTmpfs(); err != nil {
		return files{}, nil, err
	}
	fd, err := unix.Open(tmpfsFile, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return files{}, nil, err
	}
	// The ring may keep the file for a moment after it was closed: that is the
	// exit checks' business, not this one's.
	done := func() error { return errors.Join(unix.Close(fd), unix.Unmount(tmpfsDir, unix.MNT_DETACH)) }
	return files{int32(fd), int32(fd), true}, done, nil
}

// lendTmpfs needs no descriptor: the child opens a file on a mount of its own,
// which can be unmounted once the file is released.
func lendTmpfs() (loan, error) {
	if err := mountTmpfs(); err != nil {
		return loan{}, err
	}
	return loan{
		path:     tmpfsFile,
		released: func() error { return unix.Unmount(tmpfsDir, 0) },
		end:      func() { unix.Unmount(tmpfsDir, unix.MNT_DETACH) }, // fails when released has done it
	}, nil
}

// holdTmpfs reads a file that always answers at once, so the reads wait behind
// a timeout that is an hour away.
func holdTmpfs(r *uring.Ring, path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if err := keep(r, fd); err != nil {
		return err
	}
	buf, err := machine.Buffer(8192)
	if err != nil {
		return err
	}
	hour, err := machine.Buffer(16)
	if err != nil {
		return err
	}
	*(*unix.Timespec)(uring.Pointer(hour)) = unix.NsecToTimespec(int64(time.Hour))
	*r.Next() = uring.SQE{Opcode: uring.OpTimeout, Flags: uring.SQELink, FD: -1, Addr: uring.Address(hour), Len: 1}
	*r.Next() = uring.SQE{Opcode: uring.OpRead, Flags: uring.SQEFixedFile | uring.SQELink, Addr: uring.Address(buf), Len: 4096}
	*r.Next() = uring.SQE{Opcode: uring.OpRead, Flags: uring.SQEFixedFile, Addr: uring.Address(buf[4096:]), Len: 4096}
	return submitPending(r, 3)
}

func openPipe() (files, func() error, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return files{}, nil, err
	}
	return files{int32(p[0]), int32(p[1]), false}, func() error { return closeAll(p[:]...) }, nil
}

// lendPipe gives the child the write end of one pipe and the read end of
// another. When they are released, the first pipe's reader sees the end of the
// file and the second's writer an error.
func lendPipe() (loan, error) {
	var in, out [2]int
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return loan{}, err
	}
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return loan{}, errors.Join(err, closeAll(out[:]...))
	}
	reader, writer := out[0], in[1]
	return loan{
		inherited: []int{in[0], out[1]},
		released: func() error {
			if err := endOfFile(reader); err != nil {
				return err
			}
			poll := []unix.PollFd{{Fd: int32(writer)}}
			if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents&unix.POLLERR == 0 {
				return fmt.Errorf("the pipe still has a reader (poll %#x, error %v)", poll[0].Revents, err)
			}
			return nil
		},
		end: func() { closeAll(reader, writer) },
	}, nil
}

// endOfFile reads from a non-blocking descriptor what must be its end.
func endOfFile(fd int) error {
	n, err := unix.Read(fd, make([]byte, 1))
	if err != nil || n != 0 {
		return fmt.Errorf("the peer does not see the end of the file: %d bytes, error %v", n, err)
	}
	return nil
}

func openSocketpair() (files, func() error, error) {
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return files{}, nil, err
	}
	return files{int32(s[0]), int32(s[1]), false}, func() error { return closeAll(s[:]...) }, nil
}

func lendSocketpair() (loan, error) {
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return loan{}, err
	}
	if err := unix.SetNonblock(s[1], true); err != nil {
		return loan{}, errors.Join(err, closeAll(s[:]...))
	}
	return loan{
		inherited: []int{s[0]},
		released:  func() error { return endOfFile(s[1]) },
		end:       func() { unix.Close(s[1]) },
	}, nil
}

// holdPipe polls an empty pipe and has a read wait behind that. (v5.10 gives a
// plain read to a worker thread, which is holdBlocked's case.)
func holdPipe(r *uring.Ring, _ string) error {
	if err := keep(r, 3, 4); err != nil {
		return err
	}
	buf, err := machine.Buffer(4096)
	if err != nil {
		return err
	}
	*r.Next() = uring.SQE{Opcode: uring.OpPollAdd, Flags: uring.SQEFixedFile | uring.SQELink, OpFlags: unix.POLLIN}
	*r.Next() = uring.SQE{Opcode: uring.OpRead, Flags: uring.SQEFixedFile, Addr: uring.Address(buf), Len: 4096}
	return submitPending(r, 2)
}

// holdSocket receives from an empty socket, twice; each waits for the poll
// event.
func holdSocket(r *uring.Ring, _ string) error {
	if err := keep(r, 3); err != nil {
		return err
	}
	buf, err := machine.Buffer(8192)
	if err != nil {
		return err
	}
	*r.Next() = uring.SQE{Opcode: uring.OpRecv, Flags: uring.SQEFixedFile, Addr: uring.Address(buf), Len: 4096}
	*r.Next() = uring.SQE{Opcode: uring.OpRecv, Flags: uring.SQEFixedFile, Addr: uring.Address(buf[4096:]), Len: 4096}
	return submitPending(r, 2)
}

// holdBlocked reads from an empty pipe with one request and waits until a
// worker thread of the ring is blocked in it, where one will be.
func holdBlocked(r *uring.Ring, _ string) error {
	if err := keep(r, 3, 4); err != nil {
		return err
	}
	buf, err := machine.Buffer(4096)
	if err != nil {
		return err
	}
	// A worker that an earlier ring left there must not be taken for this one's.
	before := uring.BlockedReaders()
	polls, err := uring.Has(uring.PipeReadsPoll)
	if err != nil {
		return err
	}
	*r.Next() = uring.SQE{Opcode: uring.OpRead, Flags: uring.SQEFixedFile | uring.SQEAsync, Addr: uring.Address(buf), Len: 4096}
	if err := submitPending(r, 1); err != nil || polls != uring.Before {
		return err
	}
	return machine.Await(exitLimit, func() error {
		fresh := slices.ContainsFunc(uring.BlockedReaders(), func(task machine.Task) bool {
			return !slices.ContainsFunc(before, func(old machine.Task) bool { return old.TID == task.TID })
		})
		if !fresh {
			return errors.New("no worker thread of the ring is in pipe_read")
		}
		return nil
	})
}

// partitions counts those that were added.
var partitions int

// freshPartition adds a partition: each check has its own, so that none finds
// it held by the ring of another that did not go.
func freshPartition() (path string, err error) {
	partitions++
	return machine.AddPartition(partitions)
}

func openNVMe() (files, func() error, error) {
	path, err := freshPartition()
	if err != nil {
		return files{}, nil, err
	}
	fd, err := machine.OpenDisk(path)
	if err != nil {
		return files{}, nil, err
	}
	return files{int32(fd), int32(fd), true}, func() error { return unix.Close(fd) }, nil
}

// lendNVMe gives a path: the child opens it exclusively, and another exclusive
// open works once that file is released.
func lendNVMe() (loan, error) {
	path, err := freshPartition()
	if err != nil {
		return loan{}, err
	}
	return loan{
		path: path,
		released: func() error {
			fd, err := machine.OpenDisk(path)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		},
		end: func() {},
	}, nil
}

// holdNVMe starts one chain of reads, which takes its time one after another,
// and beside it as many reads at once.
func holdNVMe(r *uring.Ring, path string) error {
	return nvmeReads(r, path, func(i int) uint8 {
		if i < inFlight/2 {
			return uring.SQELink
		}
		return 0
	})
}

// holdNVMePolled starts reads that nobody polls for.
func holdNVMePolled(r *uring.Ring, path string) error {
	if err := nvmeReads(r, path, func(int) uint8 { return 0 }); err != nil {
		return err
	}
	if n := r.Ready(); n != 0 {
		return fmt.Errorf("%d polled reads completed though nobody polled", n)
	}
	return nil
}

// inFlight is the number of disk reads that are started before a ring goes.
const inFlight = 64

func nvmeReads(r *uring.Ring, path string, flags func(i int) uint8) error {
	fd, err := machine.OpenDisk(path)
	if err != nil {
		return err
	}
	if err := keep(r, fd); err != nil {
		return err
	}
	const size = 64 << 10
	buf, err := machine.Buffer(size)
	if err != nil {
		return err
	}
	for i := range inFlight {
		n := uint32(sizes[i%len(sizes)] * machine.Sector)
		*r.Next() = uring.SQE{Opcode: uring.OpRead, Flags: uring.SQEFixedFile | flags(i), Off: uint64(i * size), Addr: uring.Address(buf), Len: n}
	}
	if consumed, err := r.Submit(); err != nil || consumed != inFlight {
		return fmt.Errorf("submit: %d of %d entries taken (error %v)", consumed, inFlight, err)
	}
	return nil
}

// keep registers the files and closes the descriptors: from then on the ring
// alone keeps the files open.
func keep(r *uring.Ring, fds ...int) error {
	var slots []int32
	for _, fd := range fds {
		slots = append(slots, int32(fd))
	}
	if err := r.Files(slots); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return closeAll(fds...)
}

// submitPending submits n requests, none of which may complete.
func submitPending(r *uring.Ring, n int) error {
	if consumed, err := r.Submit(); err != nil || consumed != n {
		return fmt.Errorf("submit: %d of %d entries taken (error %v)", consumed, n, err)
	}
	if cqe, ok := r.Take(); ok {
		return fmt.Errorf("a request that must wait completed: %+v", cqe)
	}
	return nil
}
