//go:build linux

// Package uring is the io_uring ABI over plain system calls. It hides
// nothing: a program can fill in entries by hand and so also submit nonsense.
// Names follow include/uapi/linux/io_uring.h of v5.10 without their prefix.
package uring

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SQE is struct io_uring_sqe, a submission queue entry.
type SQE struct {
	Opcode      uint8
	Flags       uint8
	IOPrio      uint16
	FD          int32
	Off         uint64
	Addr        uint64
	Len         uint32
	OpFlags     uint32 // rw_flags, fsync_flags, msg_flags, timeout_flags ...
	UserData    uint64
	BufIndex    uint16
	Personality uint16
	SpliceFDIn  int32
	_           [2]uint64
}

// Nop makes the entry a NOP, which completes with 0 where it is issued (io_nop).
func Nop(sqe *SQE) { sqe.Opcode = OpNop }

// CQE is struct io_uring_cqe, a completion queue entry.
type CQE struct {
	UserData uint64
	Res      int32
	Flags    uint32
}

// Opcodes (SQE.Opcode).
const (
	OpNop            = 0
	OpReadv          = 1
	OpWritev         = 2
	OpFsync          = 3
	OpReadFixed      = 4
	OpWriteFixed     = 5
	OpPollAdd        = 6
	OpPollRemove     = 7
	OpSyncFileRange  = 8
	OpSendMsg        = 9
	OpRecvMsg        = 10
	OpTimeout        = 11
	OpTimeoutRemove  = 12
	OpAccept         = 13
	OpAsyncCancel    = 14
	OpLinkTimeout    = 15
	OpConnect        = 16
	OpFallocate      = 17
	OpOpenat         = 18
	OpClose          = 19
	OpFilesUpdate    = 20
	OpStatx          = 21
	OpRead           = 22
	OpWrite          = 23
	OpFadvise        = 24
	OpMadvise        = 25
	OpSend           = 26
	OpRecv           = 27
	OpOpenat2        = 28
	OpEpollCtl       = 29
	OpSplice         = 30
	OpProvideBuffers = 31
	OpRemoveBuffers  = 32
	OpTee            = 33
	OpSocket         = 45
	OpSendZC         = 47
	OpSendMsgZC      = 48
	OpReadMultishot  = 49
)

// Flags of a submission (SQE.Flags).
const (
	SQEFixedFile    = 1 << 0
	SQEDrain        = 1 << 1
	SQELink         = 1 << 2
	SQEHardLink     = 1 << 3
	SQEAsync        = 1 << 4
	SQEBufferSelect = 1 << 5
	SQECQESkip      = 1 << 6 // IOSQE_CQE_SKIP_SUCCESS, since v5.17
)

// Flags of a completion (CQE.Flags). With CQEBuffer the upper 16 bits are the
// number of the buffer that the kernel chose.
const (
	CQEBuffer      = 1 << 0
	CQEMore        = 1 << 1 // another one of the same request follows, since v5.13
	CQENotif       = 1 << 3 // that of a buffer which a zero-copy send has let go, since v6.0
	CQEBufferShift = 16
)

// Flags of Setup (Params.Flags).
const (
	SetupIOPoll   = 1 << 0
	SetupSQPoll   = 1 << 1
	SetupSQAff    = 1 << 2
	SetupCQSize   = 1 << 3
	SetupClamp    = 1 << 4
	SetupAttachWQ = 1 << 5
	SetupDisabled = 1 << 6
)

// Features that Setup reports (Params.Features).
const (
	FeatSingleMmap    = 1 << 0
	FeatNoDrop        = 1 << 1
	FeatRWCurPos      = 1 << 3  // since v5.6
	FeatFastPoll      = 1 << 5  // since v5.7
	FeatPoll32Bits    = 1 << 6  // since v5.9
	FeatNativeWorkers = 1 << 9  // since v5.12
	FeatCQESkip       = 1 << 11 // since v5.17
	FeatRegRegRing    = 1 << 13 // since v6.3
	FeatRWAttr        = 1 << 16 // since v6.14
	FeatNoIOWait      = 1 << 17 // since v6.15
)

// Flags of Enter.
const (
	EnterGetEvents = 1 << 0
	EnterSQWakeup  = 1 << 1
	EnterSQWait    = 1 << 2
)

// Flags that the kernel sets in the submission ring (Ring.SQFlags).
const (
	SQNeedWakeup = 1 << 0
	SQCQOverflow = 1 << 1
)

// Operations of Register.
const (
	RegisterBuffers      = 0
	UnregisterBuffers    = 1
	RegisterFiles        = 2
	UnregisterFiles      = 3
	RegisterEventFD      = 4
	RegisterFilesUpdate  = 6
	RegisterEventFDAsync = 7
	RegisterPersonality  = 9
)

// Offsets at which the rings are mapped.
const (
	offSQRing = 0
	offCQRing = 0x8000000
	offSQEs   = 0x10000000
)

// SQOffsets is struct io_sqring_offsets.
type SQOffsets struct {
	Head, Tail, RingMask, RingEntries, Flags, Dropped, Array, _ uint32
	_                                                           uint64
}

// CQOffsets is struct io_cqring_offsets.
type CQOffsets struct {
	Head, Tail, RingMask, RingEntries, Overflow, CQEs, Flags, _ uint32
	_                                                           uint64
}

// Params is struct io_uring_params.
type Params struct {
	SQEntries    uint32
	CQEntries    uint32
	Flags        uint32
	SQThreadCPU  uint32
	SQThreadIdle uint32 // milliseconds
	Features     uint32
	WQFD         uint32
	_            [3]uint32
	SQOff        SQOffsets
	CQOff        CQOffsets
}

// FilesUpdate is struct io_uring_files_update, the argument of
// RegisterFilesUpdate.
type FilesUpdate struct {
	Offset uint32
	_      uint32
	FDs    uint64 // address of the first of n int32
}

// Setup is io_uring_setup(2). It fills in p and returns the ring's descriptor.
func Setup(entries uint32, p *Params) (fd int, err error) {
	r, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(p)), 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// Enter is io_uring_enter(2) without a signal mask. It returns how many
// entries the kernel consumed.
func Enter(fd int, submit, minComplete, flags uint32) (consumed int, err error) {
	r, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(fd), uintptr(submit), uintptr(minComplete), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// Register is io_uring_register(2). It returns the kernel's count, which only
// RegisterFilesUpdate uses. It tries again after a signal, with which Go's runtime
// preempts a thread: the kernel waits until nobody uses the ring, by RCU, and any
// signal ends that (v5.10, __io_uring_register).
func Register(fd int, op uint32, arg unsafe.Pointer, n uint32) (count int, err error) {
	for {
		r, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(fd), uintptr(op), uintptr(arg), uintptr(n), 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
