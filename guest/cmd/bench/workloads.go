//go:build linux

package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// groups are the workloads that share a machine.
var groups = map[string]func() ([]workload, error){
	"nop":  nops,
	"file": files,
	"life": lifeCycles,
}

func nop(sqe *uring.SQE) { sqe.Opcode = uring.OpNop }

// nops are the mail's own benchmark by batch size; linked, they are all in flight
// at once, which shows what happens around the 256 that the cache keeps.
func nops() ([]workload, error) {
	var list []workload
	for _, batch := range []uint32{1, 2, 8, 16, 32, 128, 256, 1024} {
		list = append(list, request(fmt.Sprintf("Nop/batch=%d", batch), batch, uring.Params{}, 0, nop, 0))
	}
	for _, batch := range []uint32{32, 128, 256, 264, 320, 512, 1024} {
		list = append(list, request(fmt.Sprintf("NopLinked/batch=%d", batch), batch, uring.Params{}, uring.SQELink, nop, 0))
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
	buf, err := machine.Buffer(fileSize)
	if err != nil {
		return nil, err
	}
	var list []workload
	for _, batch := range []uint32{1, 32, 128} {
		read := func(fd int32, flags uint8) func(*uring.SQE) {
			return func(sqe *uring.SQE) {
				sqe.Opcode, sqe.FD, sqe.Flags = uring.OpRead, fd, flags
				sqe.Addr, sqe.Len = uring.Address(buf), fileSize
			}
		}
		list = append(list,
			request(fmt.Sprintf("ReadTmpfs/file=plain/batch=%d", batch), batch, uring.Params{}, 0, read(int32(f.Fd()), 0), fileSize),
			registered(request(fmt.Sprintf("ReadTmpfs/file=fixed/batch=%d", batch), batch, uring.Params{}, 0, read(0, uring.SQEFixedFile), fileSize), int32(f.Fd()), batch, read(0, uring.SQEFixedFile)),
		)
	}
	return list, nil
}

// registered makes the workload's ring have the file as its file 0.
func registered(w workload, fd int32, batch uint32, fill func(*uring.SQE)) workload {
	rounds := w.ops / int(batch)
	w.open = func() (func() error, func() error, error) {
		r, err := uring.New(batch, uring.Params{})
		if err != nil {
			return nil, nil, err
		}
		if err := r.Files([]int32{fd}); err != nil {
			return nil, nil, err
		}
		return func() error {
			for range rounds {
				if err := round(r, batch, 0, fill, fileSize); err != nil {
					return err
				}
			}
			return nil
		}, r.Close, nil
	}
	return w
}

// lifeCycles are requests that wait: timeouts that fire, and polls that are
// woken by a write.
func lifeCycles() ([]workload, error) {
	spec, err := machine.Buffer(16) // struct __kernel_timespec: at once
	if err != nil {
		return nil, err
	}
	var list []workload
	for _, batch := range []uint32{1, 32, 300} {
		list = append(list, request(fmt.Sprintf("Timeout/batch=%d", batch), batch, uring.Params{}, 0, func(sqe *uring.SQE) {
			sqe.Opcode, sqe.FD = uring.OpTimeout, -1
			sqe.Addr, sqe.Len = uring.Address(spec), 1
		}, -int32(unix.ETIME)))
	}
	for _, batch := range []uint32{1, 32, 300} {
		w, err := polls(batch)
		if err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	return list, nil
}

// polls arms batch polls on an eventfd and wakes them all by one write.
func polls(batch uint32) (workload, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return workload{}, err
	}
	rounds := max(1, windowOps/int(batch))
	return workload{name: fmt.Sprintf("Poll/batch=%d", batch), ops: rounds * int(batch), open: func() (func() error, func() error, error) {
		r, err := uring.New(batch, uring.Params{})
		if err != nil {
			return nil, nil, err
		}
		count := make([]byte, 8)
		return func() error {
			for range rounds {
				for range batch {
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
				if err := r.Wait(batch); err != nil {
					return fmt.Errorf("wait: %w", err)
				}
				for range batch {
					if cqe, _ := r.Take(); cqe.Res != unix.POLLIN {
						return fmt.Errorf("result %d; want POLLIN", cqe.Res)
					}
				}
				if _, err := unix.Read(fd, count); err != nil {
					return err
				}
			}
			return nil
		}, r.Close, nil
	}}, nil
}
