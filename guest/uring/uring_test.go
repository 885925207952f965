//go:build linux

package uring

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestLayout compares the structures with include/uapi/linux/io_uring.h.
func TestLayout(t *testing.T) {
	var (
		sqe    SQE
		cqe    CQE
		params Params
		sq     SQOffsets
		cq     CQOffsets
		update FilesUpdate
	)
	for _, tt := range []struct {
		name      string
		got, want uintptr
	}{
		{"sizeof(io_uring_sqe)", unsafe.Sizeof(sqe), 64},
		{"io_uring_sqe.flags", unsafe.Offsetof(sqe.Flags), 1},
		{"io_uring_sqe.ioprio", unsafe.Offsetof(sqe.IOPrio), 2},
		{"io_uring_sqe.fd", unsafe.Offsetof(sqe.FD), 4},
		{"io_uring_sqe.off", unsafe.Offsetof(sqe.Off), 8},
		{"io_uring_sqe.addr", unsafe.Offsetof(sqe.Addr), 16},
		{"io_uring_sqe.len", unsafe.Offsetof(sqe.Len), 24},
		{"io_uring_sqe.rw_flags", unsafe.Offsetof(sqe.OpFlags), 28},
		{"io_uring_sqe.user_data", unsafe.Offsetof(sqe.UserData), 32},
		{"io_uring_sqe.buf_index", unsafe.Offsetof(sqe.BufIndex), 40},
		{"io_uring_sqe.personality", unsafe.Offsetof(sqe.Personality), 42},
		{"io_uring_sqe.splice_fd_in", unsafe.Offsetof(sqe.SpliceFDIn), 44},
		{"sizeof(io_uring_cqe)", unsafe.Sizeof(cqe), 16},
		{"io_uring_cqe.res", unsafe.Offsetof(cqe.Res), 8},
		{"io_uring_cqe.flags", unsafe.Offsetof(cqe.Flags), 12},
		{"sizeof(io_uring_params)", unsafe.Sizeof(params), 120},
		{"io_uring_params.flags", unsafe.Offsetof(params.Flags), 8},
		{"io_uring_params.sq_thread_idle", unsafe.Offsetof(params.SQThreadIdle), 16},
		{"io_uring_params.features", unsafe.Offsetof(params.Features), 20},
		{"io_uring_params.wq_fd", unsafe.Offsetof(params.WQFD), 24},
		{"io_uring_params.sq_off", unsafe.Offsetof(params.SQOff), 40},
		{"io_uring_params.cq_off", unsafe.Offsetof(params.CQOff), 80},
		{"sizeof(io_sqring_offsets)", unsafe.Sizeof(sq), 40},
		{"io_sqring_offsets.flags", unsafe.Offsetof(sq.Flags), 16},
		{"io_sqring_offsets.dropped", unsafe.Offsetof(sq.Dropped), 20},
		{"io_sqring_offsets.array", unsafe.Offsetof(sq.Array), 24},
		{"sizeof(io_cqring_offsets)", unsafe.Sizeof(cq), 40},
		{"io_cqring_offsets.overflow", unsafe.Offsetof(cq.Overflow), 16},
		{"io_cqring_offsets.cqes", unsafe.Offsetof(cq.CQEs), 20},
		{"io_cqring_offsets.flags", unsafe.Offsetof(cq.Flags), 24},
		{"sizeof(io_uring_files_update)", unsafe.Sizeof(update), 16},
		{"io_uring_files_update.fds", unsafe.Offsetof(update.FDs), 8},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %d; want %d", tt.name, tt.got, tt.want)
		}
	}
}

// ring makes a ring on this machine's own kernel, or skips where that is not
// allowed.
func ring(t *testing.T, entries uint32, params Params) *Ring {
	t.Helper()
	runtime.LockOSThread()
	r, err := New(entries, params)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM) {
		t.Skipf("this machine does not allow io_uring: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return r
}

func nop(sqe *SQE) { sqe.Opcode = OpNop }

func TestNops(t *testing.T) {
	for _, entries := range []uint32{1, 2, 64, 4096} {
		for name, params := range map[string]Params{"plain": {}, "sqpoll": {Flags: SetupSQPoll, SQThreadIdle: 1}} {
			t.Run(fmt.Sprintf("%s-%d", name, entries), func(t *testing.T) {
				r := ring(t, entries, params)
				for range 3 {
					if err := r.Run(entries, 0, nop, 0); err != nil {
						t.Fatal(err)
					}
				}
				if r.Dropped() != 0 || r.Overflow() != 0 {
					t.Errorf("Dropped, Overflow = %d, %d; want 0, 0", r.Dropped(), r.Overflow())
				}
			})
		}
	}
}

func TestNextOnAFullRing(t *testing.T) {
	r := ring(t, 4, Params{})
	for i := range 4 {
		if r.Next() == nil {
			t.Fatalf("Next() = nil after %d of 4 entries", i)
		}
	}
	if r.Next() != nil {
		t.Error("Next() on a full ring gave an entry; want nil")
	}
}

func TestRunRefusesAWrongResult(t *testing.T) {
	r := ring(t, 4, Params{})
	if err := r.Run(4, 0, nop, 1); err == nil {
		t.Error("Run(nops, want 1) = nil; want an error, as NOPs result in 0")
	}
}

func TestRegisteredFiles(t *testing.T) {
	r := ring(t, 4, Params{})
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	if err := r.Files([]int32{int32(p[1]), -1}); err != nil {
		t.Fatalf("Files = %v", err)
	}
	if n, err := r.UpdateFiles(1, []int32{int32(p[0])}); err != nil || n != 1 {
		t.Fatalf("UpdateFiles = %d, %v; want 1", n, err)
	}
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	out, in := mem[:5], mem[1024:1029]
	copy(out, "hello")
	for slot, buf := range [][]byte{out, in} {
		op := uint8(OpWrite)
		if slot == 1 {
			op = OpRead
		}
		err := r.Run(1, 0, func(sqe *SQE) {
			*sqe = SQE{Opcode: op, Flags: SQEFixedFile, FD: int32(slot), Addr: Address(buf), Len: 5}
		}, 5)
		if err != nil {
			t.Fatalf("slot %d: %v", slot, err)
		}
	}
	if string(in) != "hello" {
		t.Errorf("read %q; want hello", in)
	}
	if err := r.UnregisterFiles(); err != nil {
		t.Errorf("UnregisterFiles() = %v", err)
	}
}

func TestSetupRefused(t *testing.T) {
	ring(t, 1, Params{}) // skips where io_uring is not allowed
	if r, err := New(0, Params{}); err == nil {
		t.Errorf("New(0) = %+v; want an error", r)
	}
}
