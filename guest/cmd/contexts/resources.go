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

// pipe makes an empty pipe.
func (e *env) pipe() (read, write int, err error) {
	var p [2]int
	err = unix.Pipe2(p[:], unix.O_CLOEXEC)
	e.opened = append(e.opened, p[:]...)
	return p[0], p[1], err
}

// sockets makes n connected pairs, on which nothing has been sent. (A read of a
// socket waits for a poll event, one of a pipe blocks a worker thread.)
func (e *env) sockets(n int) (ours, theirs []int, err error) {
	for range n {
		s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, nil, err
		}
		e.opened = append(e.opened, s[0], s[1])
		ours, theirs = append(ours, s[0]), append(theirs, s[1])
	}
	return ours, theirs, nil
}

// file makes a file on tmpfs that holds the pattern.
func (e *env) file() (fd int, err error) {
	f, err := os.CreateTemp(tmpfsDir, "")
	if err != nil {
		return -1, err
	}
	defer f.Close()
	b := make([]byte, blocks*block)
	for n := range blocks {
		machine.Pattern(b[n*block:][:block], n)
	}
	if _, err := f.Write(b); err != nil {
		return -1, err
	}
	fd, err = unix.Open(f.Name(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	e.opened = append(e.opened, fd)
	return fd, err
}

// inOrder runs steps until one fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// send is the step that writes the first 1, 2, ... bytes of patterns 0, 1, ... to the
// descriptors, the last one first, on the other CPU.
func send(fds []int) func() error {
	return func() error {
		return machine.OnCPU(away, func() error {
			for i, fd := range slices.Backward(fds) {
				b := make([]byte, i+1)
				machine.Pattern(b, i)
				if n, err := unix.Write(fd, b); err != nil || n != len(b) {
					return fmt.Errorf("send %d: %d bytes written (error %v)", i, n, err)
				}
			}
			return nil
		})
	}
}

// received is the step that compares what arrived with what send has sent.
func received(bufs [][]byte) func() error {
	return func() error {
		for i, b := range bufs {
			if err := machine.ComparePattern(b[:i+1], i); err != nil {
				return err
			}
		}
		return nil
	}
}

// buffers makes n cleared blocks.
func buffers(n int) ([][]byte, error) {
	b, err := machine.Buffer(n * block)
	if err != nil {
		return nil, err
	}
	return slices.Collect(slices.Chunk(b, block)), nil
}

// duration is a time as timeouts want it.
func duration(d time.Duration) (uint64, error) {
	b, err := machine.Buffer(16)
	if err != nil {
		return 0, err
	}
	*(*unix.Timespec)(uring.Pointer(b)) = unix.NsecToTimespec(int64(d))
	return uring.Address(b), nil
}

// transfer is a read or write of a block at a position counted in blocks.
func transfer(op uint8, fd int, b []byte, at int) uring.SQE {
	return uring.SQE{Opcode: op, FD: int32(fd), Addr: uring.Address(b), Len: uint32(len(b)), Off: uint64(at * block)}
}

// readable is what a poll waits for and results in: POLLIN and POLLRDNORM,
// which v5.10 adds to what a wake-up of one who asked for POLLIN alone brings.
const readable = unix.POLLIN | 0x40

// poll waits for something to read.
func poll(fd int) uring.SQE {
	return uring.SQE{Opcode: uring.OpPollAdd, FD: int32(fd), OpFlags: readable}
}

// timeout expires after the duration, or before when count requests complete.
func timeout(after uint64, count int) uring.SQE {
	return uring.SQE{Opcode: uring.OpTimeout, FD: -1, Addr: after, Len: 1, Off: uint64(count)}
}

// linkTimeout cancels the request before it when it is not done by then.
func linkTimeout(after uint64) uring.SQE {
	return uring.SQE{Opcode: uring.OpLinkTimeout, FD: -1, Addr: after, Len: 1}
}

// cancel cancels a request by its user_data.
func cancel(id uint64) uring.SQE {
	return uring.SQE{Opcode: uring.OpAsyncCancel, FD: -1, Addr: id}
}

// with adds flags to a request.
func with(flags uint8, sqe uring.SQE) uring.SQE {
	sqe.Flags |= flags
	return sqe
}

// blockedReaders returns the worker threads that are blocked in a read of a
// pipe.
func blockedReaders() []string {
	var ids []string
	for _, task := range uring.BlockedReaders() {
		ids = append(ids, task.TID)
	}
	return ids
}

// awaitBlocked waits until n more worker threads than before are blocked in a
// read of a pipe, where such a read blocks one.
func awaitBlocked(n int, before []string) error {
	if polls, err := uring.Has(uring.PipeReadsPoll); err != nil || polls != uring.Before {
		return err
	}
	return machine.Await(limit/2, func() error {
		now := slices.DeleteFunc(blockedReaders(), func(id string) bool { return slices.Contains(before, id) })
		if len(now) != n {
			return fmt.Errorf("%d worker threads are blocked in pipe_read; want %d", len(now), n)
		}
		return nil
	})
}

// interrupts runs f and returns how many interrupts the disk raised meanwhile.
func interrupts(f func() error) (n uint64, err error) {
	before, err := machine.NVMeInterrupts()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := machine.NVMeInterrupts()
	return after - before, err
}

// interrupted runs f, during which the disk must raise an interrupt.
func interrupted(f func() error) error {
	n, err := interrupts(f)
	if err == nil && n == 0 {
		return errors.New("the disk raised no interrupt")
	}
	return err
}

// fsync never completes inline.
func fsync(fd int) uring.SQE { return uring.SQE{Opcode: uring.OpFsync, FD: int32(fd)} }
