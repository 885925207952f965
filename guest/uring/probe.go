//go:build linux

package uring

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/guest/event/report"
)

// registerProbe asks which opcodes there are (IORING_REGISTER_PROBE, since v5.6).
const registerProbe = 8

// probe is struct io_uring_probe with room for every opcode.
type probe struct {
	lastOp, opsLen uint8
	_              uint16
	_              [3]uint32
	ops            [256]probeOp
}

type probeOp struct {
	op, _ uint8
	flags uint16
	_     uint32
}

// Kernel is what the kernel says of its io_uring.
type Kernel struct {
	Features uint32
	// Opcodes is the first opcode that it does not know: IORING_OP_LAST.
	Opcodes int
}

// Probe asks the kernel once, with a ring that is gone afterwards.
var Probe = sync.OnceValues(func() (k Kernel, err error) {
	err = With(1, Params{}, func(r *Ring) error {
		k.Features = r.Params.Features
		p := new(probe)
		var pin runtime.Pinner
		pin.Pin(p)
		defer pin.Unpin()
		_, err := r.register(registerProbe, unsafe.Pointer(p), uint32(len(p.ops)))
		switch {
		case err == nil:
			k.Opcodes = int(p.lastOp) + 1
		case err == unix.EINVAL && k.Features&FeatRWCurPos == 0:
			// v5.4 and v5.5 have no probe; their features tell one from the other.
			k.Opcodes = OpTimeoutRemove
			if k.Features&FeatNoDrop != 0 {
				k.Opcodes = OpConnect + 1
			}
		default:
			return fmt.Errorf("ask which opcodes there are: %w", err)
		}
		return nil
	})
	return k, err
})

// SQEFlags are the flags of a submission that the kernel knows.
func (k Kernel) SQEFlags() uint8 {
	flags := uint8(SQEFixedFile | SQEDrain)
	for _, f := range []struct {
		flag uint8
		has  bool
	}{
		{SQELink | SQEHardLink | SQEAsync, k.Opcodes > OpConnect}, // v5.3, v5.5 and v5.6
		{SQEBufferSelect, k.Opcodes > OpProvideBuffers},           // v5.7
		{SQECQESkip, k.Features&FeatCQESkip != 0},                 // v5.17
	} {
		if f.has {
			flags |= f.flag
		}
	}
	return flags
}

// mark is what tells a kernel from an older one: a feature, or else an opcode.
type mark struct {
	feature uint32
	opcode  int
}

func (k Kernel) has(m mark) bool {
	if m.feature != 0 {
		return k.Features&m.feature != 0
	}
	return k.Opcodes > m.opcode
}

// Answer is how a kernel behaves where old and new ones differ.
type Answer int

// The answers. Either is that of the kernels between the two marks of a change: nothing
// tells which of them have it, and each of the two is good.
const (
	Before Answer = iota
	Either
	After
)

// Change is one of what io_uring promises to programs.
type Change struct {
	// Kernels without the mark begins do not have it, those with the mark done do.
	begins, done mark
}

// The marks. None is a version: distributions and stable trees port io_uring as a whole
// (5.10.162 has that of 5.15), and then these go with it.
var (
	nativeWorkers = mark{feature: FeatNativeWorkers} // v5.12
	regRegRing    = mark{feature: FeatRegRegRing}    // v6.3
	rwAttr        = mark{feature: FeatRWAttr}        // v6.14
	noIOWait      = mark{feature: FeatNoIOWait}      // v6.15
	sendZC        = mark{opcode: OpSendZC}           // v6.0
	tee           = mark{opcode: OpTee}              // v5.8
	readMultishot = mark{opcode: OpReadMultishot}    // v6.7
)

// The changes that the programs must know. Where no commit is named, the sources of v5.10
// and v6.1 were compared.
var (
	// OverfullRingTakes: a ring with completions to keep takes entries. Before, it
	// answers EBUSY (v5.10, io_submit_sqes).
	OverfullRingTakes = Change{nativeWorkers, sendZC}
	// CloseLooksLater: a CLOSE of a descriptor that is not open fails when it runs. Before, it is
	// refused where it is submitted (v5.7, needs_file of IORING_OP_CLOSE; v5.10 has none).
	CloseLooksLater = Change{tee, tee}
	// NopOnPolledRing: a ring with IORING_SETUP_IOPOLL takes NOPs. Before, each
	// completes with EINVAL.
	NopOnPolledRing = Change{nativeWorkers, sendZC}
	// PipeReadsPoll: a read of an empty pipe waits for the poll event, also with
	// IOSQE_ASYNC. Before, it blocks a worker thread (v5.10, io_arm_poll_handler).
	PipeReadsPoll = Change{nativeWorkers, sendZC}
	// NoFallbackRequest: a ring that has done nothing has no request. Before, each had
	// one to fall back on (v5.10, io_ring_ctx.fallback_req).
	NoFallbackRequest = Change{nativeWorkers, nativeWorkers}
	// RingsByMemcg: the memory of rings does not count as locked. 26bfa89e25f4
	// ("io_uring: place ring SQ/CQ arrays under memcg memory limits").
	RingsByMemcg = Change{nativeWorkers, nativeWorkers}
	// RingsLocked: it does count again, as that of regions does ("io_uring: use region
	// api for SQ", "io_uring: use region api for CQ").
	RingsLocked = Change{rwAttr, noIOWait}
	// FilesOneByOne: each request takes its own reference of its file. Before, those of a
	// batch on one file take it at once ("io_uring: remove file batch-get optimisation").
	FilesOneByOne = Change{nativeWorkers, sendZC}
	// PolledChainGoesOn: a polled read or write that fails does not cancel those linked behind
	// it. Before, it does (v5.10, req_set_fail_links in io_complete_rw_iopoll; v6.1 only sets
	// the result there). The documentation says that it does, so that a kernel may do so again.
	PolledChainGoesOn = Change{nativeWorkers, sendZC}
	// DrainStays: once an entry had IOSQE_IO_DRAIN, later ones of the ring may run in a worker
	// thread or wait for all before them, although it has completed: the kernel goes on
	// draining until an entry without the flag finds nothing that waits (v6.12, io_init_req;
	// v7.1, io_drain_req). Before, each entry looks for itself (v5.10, io_req_defer).
	DrainStays = Change{nativeWorkers, sendZC}
	// NowaitFlagRules: only files with FMODE_NOWAIT, which preadv2(2) tells, are read
	// where the request is submitted ("io_uring: rely solely on FMODE_NOWAIT"). Before,
	// those of tmpfs are, too, which do without.
	NowaitFlagRules = Change{regRegRing, readMultishot}
)

// Has answers whether the kernel has the change.
func (k Kernel) Has(c Change) Answer {
	switch {
	case !k.has(c.begins):
		return Before
	case k.has(c.done):
		return After
	default:
		return Either
	}
}

// BlockingRead returns the flags of a read that blocks a worker thread on an empty pipe, on
// kernels where one can (PipeReadsPoll). v5.7 and v5.8 have it wait for the poll event unless it
// is IOSQE_ASYNC (9dab14b81807, "io_uring: don't use poll handler if file can't be nonblocking
// read/written", v5.9).
func (k Kernel) BlockingRead() (flags uint8) {
	if k.Features&FeatFastPoll != 0 && k.Features&FeatPoll32Bits == 0 {
		return SQEAsync
	}
	return 0
}

// Has asks the kernel itself.
func Has(c Change) (Answer, error) {
	k, err := Probe()
	return k.Has(c), err
}

// Program makes a program that stands on IORING_OP_READ and what came with it in v5.6 skip on the
// kernels before, v5.4 and v5.5. Newer ones have it, whatever they say; what was backported is used.
func Program(run func(*report.T)) func(*report.T) {
	return func(t *report.T) {
		k, err := Probe()
		if err == nil && k.Opcodes <= OpRead && before56() {
			t.Skip("io_uring", "", fmt.Sprintf("this kernel's io_uring has the opcodes below %d only; this program needs those of v5.6", k.Opcodes))
			return
		}
		run(t)
	}
}

// before56 goes by the kernel's version, as a newer kernel may be broken and know too little.
func before56() bool {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) != nil {
		return false
	}
	n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major < 5 || major == 5 && minor < 6)
}
