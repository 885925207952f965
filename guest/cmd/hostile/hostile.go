//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

// limit is when a check counts as a hang.
const limit = 5 * time.Second

func run(t *report.T) {
	t.Within(limit, "opcode/unknown", unknownOpcodes)
	t.Within(limit, "opcode/unknown-flags", unknownFlags)
	t.Within(limit, "opcode/junk-flags", everyFlag)
	t.Within(limit, "index", dropped)
	t.Within(limit, "address/kernel", func() error { return badAddress(0xffff888000000000) })
	t.Within(limit, "address/unmapped", func() error { return badAddress(0x1000) })
	t.Within(limit, "address/top", func() error { return badAddress(^uint64(0)) })
	t.Within(limit, "buffer/unregistered", unregisteredBuffer)
	t.Within(limit, "file/unregistered", func() error {
		return refused(unix.EBADF, uring.SQE{Opcode: uring.OpRead, Flags: uring.SQEFixedFile, FD: 5, UserData: 4})
	})
	t.Within(limit, "setup", badSetup)
	t.Within(limit, "limit/descriptors", noDescriptors)
	t.Within(limit, "limit/locked-memory", lockedMemory)
	t.Within(limit, "closed-in-flight", closedInFlight)
	t.Within(limit, "accounted", func() error { return alloccache.AllAccounted(limit / 2) })
	t.Within(limit, "works-after", func() error { return uring.RunOnEveryCPU(256) })
}

// refused submits one entry after the other and checks that each completes with
// the error. v5.10 stops a submission at an entry that it refuses.
func refused(want unix.Errno, entries ...uring.SQE) error {
	return uring.With(4, uring.Params{}, func(r *uring.Ring) error {
		for _, entry := range entries {
			*r.Next() = entry
			if _, err := r.Submit(); err != nil {
				return fmt.Errorf("opcode %d: submit: %w", entry.Opcode, err)
			}
			if err := r.Wait(1); err != nil {
				return fmt.Errorf("opcode %d: wait: %w", entry.Opcode, err)
			}
			cqe, _ := r.Take()
			if got := (uring.CQE{UserData: entry.UserData, Res: -int32(want)}); cqe != got {
				return fmt.Errorf("opcode %d, flags %#x: completion %+v; want %+v", entry.Opcode, entry.Flags, cqe, got)
			}
			if cqe, ok := r.Take(); ok {
				return fmt.Errorf("opcode %d: a completion too many: %+v", entry.Opcode, cqe)
			}
		}
		return nil
	})
}

func nop(flags uint8) uring.SQE {
	return uring.SQE{Opcode: uring.OpNop, Flags: flags, UserData: 1}
}

// unknownOpcodes submits every opcode that the kernel says it does not know. The kernel
// has looked the opcode up in io_op_defs[] by then on the RFC, beyond its end.
func unknownOpcodes() error {
	k, err := uring.Probe()
	if err != nil {
		return err
	}
	var entries []uring.SQE
	for opcode := k.Opcodes; opcode <= 255; opcode++ {
		entries = append(entries, uring.SQE{Opcode: uint8(opcode), UserData: uint64(opcode)})
	}
	return refused(unix.EINVAL, entries...)
}

// unknownFlags submits a NOP with each flag that the kernel should not know.
func unknownFlags() error {
	k, err := uring.Probe()
	if err != nil {
		return err
	}
	entries := []uring.SQE{nop(0xff)}
	for flag := uint8(1); flag != 0; flag <<= 1 {
		if k.SQEFlags()&flag == 0 {
			entries = append(entries, nop(flag))
		}
	}
	return refused(unix.EINVAL, entries...)
}

// badAddress reads a file to where no user memory is.
func badAddress(addr uint64) error {
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	read := uring.SQE{Opcode: uring.OpRead, FD: int32(fd), Addr: addr, Len: 4096, UserData: 2}
	return errors.Join(refused(unix.EFAULT, read), unix.Close(fd))
}

// unregisteredBuffer reads into a registered buffer that there is none of.
func unregisteredBuffer() error {
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	read := uring.SQE{Opcode: uring.OpReadFixed, FD: int32(fd), Len: 4096, BufIndex: 7, UserData: 3}
	return errors.Join(refused(unix.EFAULT, read), unix.Close(fd))
}

// badSetup asks for rings that the kernel must refuse.
func badSetup() error {
	for _, tc := range []struct {
		entries uint32
		params  uring.Params
	}{
		{0, uring.Params{}},
		{1 << 20, uring.Params{}},
		{1, uring.Params{Flags: 1 << 31}},
		{1, uring.Params{Flags: uring.SetupSQAff}},
		{8, uring.Params{Flags: uring.SetupCQSize, CQEntries: 1}},
	} {
		params := tc.params
		fd, err := uring.Setup(tc.entries, &params)
		if err == nil {
			unix.Close(fd)
		}
		if !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("a ring of %d entries, flags %#x: %v; want %v", tc.entries, tc.params.Flags, err, unix.EINVAL)
		}
	}
	return nil
}
