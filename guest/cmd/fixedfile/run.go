//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// limit is when a check of registration or data counts as a hang.
const limit = 2 * time.Second

func run(t *report.T) {
	s := &suite{T: t}
	// Judged last, so that nothing waits for it if it is as late as may be.
	blocked := s.depart(blockedPipe, machine.ByKill)
	for _, k := range kinds {
		if k.polled {
			if err := machine.NVMePolls(); err != nil {
				t.Error(k.name+"/register", err)
				continue
			}
		}
		t.Within(limit, k.name+"/register", func() error { return withFiles(k, register) })
		t.Within(limit, k.name+"/read-write", func() error { return withFiles(k, readWrite) })
		s.gone(k.name+"/", time.Now().Add(machine.Patience(exitLimit))) // the rings of these two
		for _, way := range []string{machine.ByClose, machine.ByExit, machine.ByKill} {
			s.judge(s.depart(k, way))
		}
	}
	s.judge(s.depart(blockedPipe, machine.ByClose))
	s.judge(blocked)
}

// files are the two ends of an open file of some kind: what is written to one
// comes out of the other. For a disk or a tmpfs file they are the same.
type files struct {
	read, write int32
	// seekable files are read where they were written.
	seekable bool
}

// withFiles runs f on a fresh ring and files of the kind.
func withFiles(k kind, f func(*uring.Ring, kind, files) error) (err error) {
	fs, done, err := k.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	return uring.With(64, uring.Params{Flags: k.setup()}, func(r *uring.Ring) error { return f(r, k, fs) })
}

// register checks which slots work after each of register, update and
// unregister, and that misuse is refused.
func register(r *uring.Ring, k kind, fs files) error {
	buf, err := machine.Buffer(machine.Sector)
	if err != nil {
		return err
	}
	// works writes and reads one sector through the slots.
	works := func(read, write int32) error {
		if err := one(r, uring.OpWrite, write, buf, machine.Sector); err != nil {
			return fmt.Errorf("write through slot %d: %w", write, err)
		}
		if err := one(r, uring.OpRead, read, buf, machine.Sector); err != nil {
			return fmt.Errorf("read through slot %d: %w", read, err)
		}
		return nil
	}
	refused := func(slot int32) error {
		if err := one(r, uring.OpRead, slot, buf, -int32(unix.EBADF)); err != nil {
			return fmt.Errorf("read through slot %d, which has no file: %w", slot, err)
		}
		return nil
	}
	wantErr := func(what string, got, want error) error {
		if got == want {
			return nil
		}
		return fmt.Errorf("%s: error %v; want %v", what, got, want)
	}
	steps := []func() error{
		func() error { return wantErr("register", r.Files([]int32{fs.read, fs.write, -1, -1}), nil) },
		func() error { return works(0, 1) },
		func() error { return errors.Join(refused(2), refused(3), refused(4)) },
		func() error {
			return wantErr("register again", r.Files([]int32{fs.read}), unix.EBUSY)
		},
		func() error { return update(r, 2, []int32{fs.write, fs.read}, 2) },
		func() error { return works(3, 2) },
		func() error { return update(r, 0, []int32{-1, -1}, 2) },
		func() error { return errors.Join(refused(0), refused(1)) },
		func() error { return works(3, 2) },
		func() error {
			_, err := r.UpdateFiles(5, []int32{fs.read})
			return wantErr("update beyond the table", err, unix.EINVAL)
		},
		func() error { return wantErr("unregister", r.UnregisterFiles(), nil) },
		func() error { return refused(3) },
		func() error { return wantErr("unregister again", r.UnregisterFiles(), unix.ENXIO) },
		func() error { return wantErr("register anew", r.Files([]int32{fs.read, fs.write}), nil) },
		func() error { return works(0, 1) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

func update(r *uring.Ring, offset uint32, fds []int32, want int) error {
	if n, err := r.UpdateFiles(offset, fds); err != nil || n != want {
		return fmt.Errorf("update of %d slots from %d: %d changed (error %v); want %d", len(fds), offset, n, err, want)
	}
	return nil
}

// one runs a single request through a registered file and checks its result.
func one(r *uring.Ring, op uint8, slot int32, buf []byte, want int32) error {
	sqe := r.Next()
	*sqe = uring.SQE{Opcode: op, Flags: uring.SQEFixedFile, FD: slot,
		Addr: uring.Address(buf), Len: uint32(len(buf)), UserData: 1}
	if _, err := r.Submit(); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if err := r.Wait(1); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	cqe, _ := r.Take()
	if cqe.UserData != 1 {
		return fmt.Errorf("the completion has user_data %#x; want 0x1", cqe.UserData)
	}
	if cqe.Res != want {
		return fmt.Errorf("result %d; want %d", cqe.Res, want)
	}
	return nil
}

// sizes are those of the requests, in sectors, in no regular order.
var sizes = []int{1, 8, 3, 64, 2, 16, 40, 7, 1, 32, 5, 24}

// readWrite writes data through a registered file, reads it back and compares
// every byte. Files with positions get all writes at once and all reads at
// once, in another order; streams one write and one read after the other.
func readWrite(r *uring.Ring, k kind, fs files) error {
	if err := r.Files([]int32{fs.read, fs.write}); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	before, err := machine.NVMeInterrupts()
	if err != nil {
		return err
	}
	if fs.seekable {
		err = exchangeAll(r)
	} else {
		err = exchangeStream(r)
	}
	if err != nil {
		return err
	}
	after, err := machine.NVMeInterrupts()
	if err != nil {
		return err
	}
	if k.disk && k.polled && after != before {
		return fmt.Errorf("polled requests raised %d interrupts; want none", after-before)
	}
	if k.disk && !k.polled && after == before {
		return errors.New("the disk raised no interrupt")
	}
	return nil
}

func exchangeStream(r *uring.Ring) error {
	for n, size := range sizes {
		// Streams need no alignment; odd lengths are as good.
		out, err := machine.Buffer(size*machine.Sector - n)
		if err != nil {
			return err
		}
		in, err := machine.Buffer(len(out))
		if err != nil {
			return err
		}
		machine.Pattern(out, n)
		if err := one(r, uring.OpWrite, 1, out, int32(len(out))); err != nil {
			return fmt.Errorf("write %d: %w", n, err)
		}
		if err := one(r, uring.OpRead, 0, in, int32(len(in))); err != nil {
			return fmt.Errorf("read %d: %w", n, err)
		}
		if err := machine.ComparePattern(in, n); err != nil {
			return err
		}
	}
	return nil
}

// exchangeAll writes with every request in flight and reads back the same way
// in the opposite order.
func exchangeAll(r *uring.Ring) error {
	type extent struct {
		off uint64
		buf []byte
	}
	var extents []extent
	off := uint64(0)
	for n, size := range sizes {
		buf, err := machine.Buffer(size * machine.Sector)
		if err != nil {
			return err
		}
		machine.Pattern(buf, n)
		extents = append(extents, extent{off, buf})
		off += uint64(len(buf))
	}
	all := func(op uint8, slot int32) error {
		for i := range extents {
			n := i
			if op == uring.OpRead {
				n = len(extents) - 1 - i
			}
			*r.Next() = uring.SQE{Opcode: op, Flags: uring.SQEFixedFile, FD: slot, Off: extents[n].off,
				Addr: uring.Address(extents[n].buf), Len: uint32(len(extents[n].buf)), UserData: uint64(n)}
		}
		if consumed, err := r.Submit(); err != nil || consumed != len(extents) {
			return fmt.Errorf("submit: %d of %d entries taken (error %v)", consumed, len(extents), err)
		}
		seen := map[uint64]bool{}
		for range extents {
			if err := r.Wait(1); err != nil {
				return fmt.Errorf("wait: %w", err)
			}
			cqe, _ := r.Take()
			if cqe.UserData >= uint64(len(extents)) || seen[cqe.UserData] {
				return fmt.Errorf("an unexpected completion: %+v", cqe)
			}
			seen[cqe.UserData] = true
			if want := int32(len(extents[cqe.UserData].buf)); cqe.Res != want {
				return fmt.Errorf("request %d: result %d; want %d", cqe.UserData, cqe.Res, want)
			}
		}
		return nil
	}
	if err := all(uring.OpWrite, 1); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	for _, e := range extents {
		clear(e.buf)
	}
	if err := all(uring.OpRead, 0); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	for n, e := range extents {
		if err := machine.ComparePattern(e.buf, n); err != nil {
			return err
		}
	}
	return nil
}
