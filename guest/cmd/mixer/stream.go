//go:build linux

package main

import (
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"golang.org/x/sys/unix"

	"patchproof/guest/uring"
)

// opLast is v5.10's IORING_OP_LAST, the first opcode that it does not know. Those from it on
// are tried where the kernel does not know them either: what came later may wait for
// something that nobody here brings, or change files.
const opLast = 34

// Opcodes that appear only as nonsense.
const (
	opSyncFileRange = 8
	opAccept        = 13
	opConnect       = 16
	opOpenat        = 18
	opOpenat2       = 28
	opSplice        = 30
	opTee           = 33
)

// file names what an entry is about, before it meets a machine.
type file uint8

const (
	noFile   file = iota // -1
	badFile              // a descriptor that nobody has
	tmpfs                // a file of blocks blocks
	disk                 // the NVMe disk, O_DIRECT
	pipe                 // the reading end of an empty pipe
	socket               // one end of a pair, on which nothing was sent
	unlisted             // a registered file beyond the last
)

// address names a place in memory.
type address uint8

const (
	null     address = iota
	unmapped         // an address of user space with nothing there
	kernel           // an address of the kernel
	data             // where anything may be read and written, a registered buffer
	hour             // a timespec of one hour, which is nonsense as anything else
	vector           // an iovec of one block of data
)

// entry is a submission with names instead of descriptors and addresses: what a
// seed determines.
type entry struct {
	Opcode, Flags uint8
	File          file
	Addr          address
	IOPrio        uint16
	Off           uint64
	Len, OpFlags  uint32
	// BufIndex and Personality are as in the submission.
	BufIndex, Personality uint16
	// Victim is the entry of the same round whose user_data a cancellation names.
	Victim uint8
	// Dropped entries have an index beyond the ring in the submission array.
	Dropped bool
	// Kind decides which results are allowed.
	Kind kind
}

// hashed says that io-wq would run it after all other writes to its file. Nothing cancels such
// a write: up to v6.1, io-wq takes a request before it that is not hashed for one with the hash
// 0 (io_wqe_remove_pending), and where that is the hash of the file, one in 64 are, it then loses
// whatever it is to put behind that one. v6.12.107 looks (io_wq_remove_pending).
func (e entry) hashed() bool {
	return e.File == tmpfs && (e.Opcode == uring.OpWrite || e.Opcode == uring.OpWritev || e.Opcode == uring.OpWriteFixed)
}

// kind says what is known of an entry's result.
type kind uint8

const (
	junk      kind = iota // any error, or no more than it asked for
	completes             // Len bytes, or 0 for a NOP
	polls                 // an event mask
	receives              // bytes
	waits                 // a timeout that is canceled
	limits                // a link timeout that is canceled
	cancels               // found, not found, or running
	faults                // EFAULT
	noBuffer              // EFAULT
	noEntry               // EBADF
	unknown               // EINVAL
)

// pending says whether it does not complete by itself.
func (k kind) pending() bool { return k == polls || k == receives || k == waits || k == limits }

// round is what a ring gets at once. A closing round's ring is closed while some of it is in
// flight; in a draining round entries wait for all before them, so that a
// cancellation might wait for what it is to cancel.
type round struct {
	Closing, Draining bool
	Entries           []entry
}

// ringKind is how a ring gets its submissions and gives its completions.
type ringKind uint8

const (
	plain ringKind = iota
	sqpoll
	iopoll
)

// roundMax is how many entries a round has at most; all rings together then have
// fewer requests in flight than a list of the cache holds.
const roundMax = 24

const (
	block  = 4096
	blocks = 32
)

// stream generates the rounds of one ring.
type stream struct {
	kind ringKind
	rand *rand.Rand
	left int
	// unknown is the first opcode that neither the kernel nor this model knows.
	unknown int
	// without are flags that no entry has: one with IOSQE_CQE_SKIP_SUCCESS need not
	// complete, nor need its chain.
	without uint8
	// hash is of all entries so far.
	hash uint64
}

// newStream is the stream of count entries for the lane-th ring of the kernel.
func newStream(k uring.Kernel, seed uint64, lane int, kind ringKind, count int) *stream {
	return &stream{
		kind: kind, rand: rand.New(rand.NewPCG(seed, uint64(lane))), left: count, hash: fnvStart,
		unknown: max(opLast, k.Opcodes), without: k.SQEFlags() & uring.SQECQESkip,
	}
}

// fnvStart is the hash of nothing.
var fnvStart = fnv.New64a().Sum64()

// next is the next round, false when there is none.
func (s *stream) next() (round, bool) {
	if s.left == 0 {
		return round{}, false
	}
	// v5.10.13 itself leaves drained requests waiting on the other kinds, and a closed
	// ring with SQPOLL what its sleeping thread was to go on with.
	r := round{Closing: s.chance(8) && s.kind != sqpoll, Draining: s.chance(4) && s.kind == plain}
	r.Draining = r.Draining && !r.Closing
	n := min(s.left, 1+s.rand.IntN(roundMax))
	for len(r.Entries) < n {
		r.Entries = append(r.Entries, s.entries(r, n-len(r.Entries))...)
	}
	s.left -= n
	s.fold(r)
	return r, true
}

// fold adds the round to the hash.
func (s *stream) fold(r round) {
	h := fnv.New64a()
	binary.Write(h, binary.LittleEndian, s.hash)
	binary.Write(h, binary.LittleEndian, [2]bool{r.Closing, r.Draining})
	binary.Write(h, binary.LittleEndian, r.Entries)
	s.hash = h.Sum64()
}

// chance is true once in n times.
func (s *stream) chance(n int) bool { return s.rand.IntN(n) == 0 }

func pick[T any](s *stream, from ...T) T { return from[s.rand.IntN(len(from))] }

// entries makes one entry, or two that belong together, at most room.
//
// Timeouts take an hour and end by being canceled: one that fires is freed in its
// interrupt, which the RFC cannot stand, and is what the program race is about.
// What waits is left out where v5.10.13 itself would not let it go: on a ring with
// SQPOLL (see program contexts), and on a closing one what begins to wait late, in a
// worker thread or behind something: the kernel cancels what waits only once.
func (s *stream) entries(r round, room int) []entry {
	mayWait := s.kind == plain && !(r.Closing && r.linked(len(r.Entries)))
	var e entry
	top := 100
	if r.Draining {
		// v5.10.13 waits for ever behind chains and refused entries.
		top = 65
	}
	switch n := s.rand.IntN(top); {
	case n < 20:
		e = entry{Opcode: uring.OpNop, Kind: completes}
	case n < 45:
		e = s.transfer()
	case n < 50:
		e = entry{Opcode: uring.OpFsync, File: pick(s, tmpfs, disk), Kind: completes}
	case n < 60 && mayWait:
		e = entry{Opcode: uring.OpPollAdd, File: pick(s, pipe, socket), OpFlags: unix.POLLIN, Kind: polls}
	case n < 65 && mayWait && !r.linked(len(r.Entries)):
		// In a worker thread, where a chain may run, it would wait there.
		return []entry{{Opcode: uring.OpRecv, File: socket, Addr: data, Len: 1 + uint32(s.rand.IntN(64)), Kind: receives}}
	case n < 70 && mayWait:
		e = entry{Opcode: uring.OpTimeout, Addr: hour, Len: 1, Kind: waits}
	case n < 75 && mayWait && room > 1:
		return []entry{
			{Opcode: uring.OpPollAdd, Flags: uring.SQELink, File: pick(s, pipe, socket), OpFlags: unix.POLLIN, Kind: polls},
			{Opcode: uring.OpLinkTimeout, Addr: hour, Len: 1, Kind: limits},
		}
	case n < 80:
		e = entry{Opcode: pick[uint8](s, uring.OpAsyncCancel, uring.OpPollRemove, uring.OpTimeoutRemove), Victim: uint8(s.rand.IntN(roundMax)), Kind: cancels}
	case n < 83:
		e = entry{Opcode: pick[uint8](s, uring.OpRead, uring.OpReadv), File: tmpfs, Addr: pick(s, unmapped, kernel), Len: 1, Kind: faults}
		if e.Opcode == uring.OpRead {
			e.Len = block
		}
	case n < 86:
		e = entry{Opcode: pick[uint8](s, uring.OpReadFixed, uring.OpWriteFixed), File: disk, Addr: data, Len: block, BufIndex: uint16(1 + s.rand.IntN(1000)), Kind: noBuffer}
	case n < 88:
		e = entry{Opcode: pick[uint8](s, uring.OpRead, uring.OpFsync), File: unlisted, Addr: data, Len: block, Kind: noEntry}
		if e.Opcode == uring.OpFsync {
			e.Addr = null
		}
		return []entry{e}
	case n < 90:
		e = entry{Opcode: uint8(s.unknown + s.rand.IntN(256-s.unknown)), Flags: uint8(s.rand.IntN(256)) &^ s.without, Kind: unknown}
		return []entry{e}
	case n < 93:
		return []entry{{Opcode: uint8(s.rand.IntN(256)), Dropped: true, Off: s.rand.Uint64N(1 << 32)}}
	default:
		e = s.nonsense()
		if late := r.Closing && (e.Flags&(links|uring.SQEAsync) != 0 || r.linked(len(r.Entries))); late && (e.Opcode == uring.OpTimeout || e.Opcode == uring.OpPollAdd) {
			e.Opcode = uring.OpNop
		}
		return []entry{e}
	}
	if flags := s.flags(r); !(r.Closing && e.Kind.pending()) {
		e.Flags |= flags
	}
	return []entry{e}
}

// flags are flags that every opcode takes.
func (s *stream) flags(r round) uint8 {
	var flags uint8
	for _, flag := range []uint8{uring.SQELink, uring.SQEHardLink, uring.SQEAsync, uring.SQEDrain} {
		if s.chance(6) && (flag == uring.SQEAsync || r.Draining == (flag == uring.SQEDrain)) {
			flags |= flag
		}
	}
	return flags
}

// transfer is a read or write that succeeds. Writes go behind what is read.
func (s *stream) transfer() entry {
	e := entry{
		Opcode: pick[uint8](s, uring.OpRead, uring.OpWrite, uring.OpReadv, uring.OpWritev, uring.OpReadFixed, uring.OpWriteFixed),
		File:   pick(s, tmpfs, disk), Addr: data, Len: block,
		Off:  uint64(s.rand.IntN(blocks)) * block,
		Kind: completes,
	}
	if e.Opcode == uring.OpReadv || e.Opcode == uring.OpWritev {
		e.Addr, e.Len = vector, 1
	}
	return e
}

// nonsense has any opcode, with anything in its fields that cannot hurt the
// program itself: it closes nothing, writes only to data, and its lengths end
// within it.
func (s *stream) nonsense() entry {
	e := entry{
		Opcode:      uint8(s.rand.IntN(256)),
		Flags:       uint8(s.rand.IntN(256)),
		File:        pick(s, noFile, badFile, tmpfs, disk, unlisted),
		Addr:        pick(s, null, unmapped, kernel, hour),
		IOPrio:      pick[uint16](s, 0, 0, 1, 0xffff),
		Off:         pick[uint64](s, 0, block, 1<<62, ^uint64(0)),
		Len:         pick[uint32](s, 0, 1, 8, 512, block, 1<<31),
		OpFlags:     pick[uint32](s, 0, 0, 1<<s.rand.IntN(32)),
		BufIndex:    pick[uint16](s, 0, 0, 1, 0xffff),
		Personality: pick[uint16](s, 0, 0, 0, 7),
	}
	if s.chance(2) {
		e.Opcode %= opLast
		e.Flags &= 0x3f
	}
	if int(e.Opcode) < s.unknown {
		e.Opcode %= opLast
	}
	e.Flags &^= uring.SQEDrain | s.without
	switch e.Opcode {
	case uring.OpRead, uring.OpWrite, uring.OpSend, uring.OpRecv, uring.OpReadFixed, uring.OpWriteFixed, uring.OpProvideBuffers:
		e.Addr, e.Len = pick(s, unmapped, kernel, data), min(e.Len, block)
		if e.Opcode == uring.OpProvideBuffers {
			e.Len = min(e.Len, 8)
		}
	case uring.OpClose:
		e.File = pick(s, noFile, badFile)
	case uring.OpTimeout:
		// An hour, or refused.
		if s.kind != plain {
			e.Addr = pick(s, unmapped, kernel)
		}
	case opSplice, opTee:
		e.File = noFile
	case uring.OpMadvise:
		// Memory of the program's own would be gone.
		e.OpFlags &^= unix.MADV_DONTNEED | unix.MADV_FREE
	}
	return e
}

const links = uring.SQELink | uring.SQEHardLink

// linked says whether entry i is linked to the one before.
func (r round) linked(i int) bool { return i > 0 && r.Entries[i-1].Flags&links != 0 }

// allowed says which results entry i of the round may have. A chain fails with
// any of its members, and what runs in a worker thread or waits can be canceled.
func (r round) allowed(i int) func(int32) bool {
	e := r.Entries[i]
	ok := func(results ...int32) func(int32) bool {
		if e.Opcode != uring.OpNop || e.Flags&(links|uring.SQEAsync) != 0 || r.linked(i) {
			results = append(results, -int32(unix.ECANCELED), -int32(unix.EINTR))
		}
		return func(res int32) bool { return slices.Contains(results, res) }
	}
	const inval, canceled = -int32(unix.EINVAL), -int32(unix.ECANCELED)
	switch e.Kind {
	case completes:
		switch e.Opcode {
		case uring.OpNop, uring.OpFsync:
			return ok(0)
		}
		return ok(block)
	case polls:
		return func(res int32) bool { return res > 0 && res&unix.POLLIN != 0 || res == canceled }
	case receives:
		return func(res int32) bool {
			return res > 0 && res <= int32(e.Len) || res == canceled || res == -int32(unix.EINTR)
		}
	case waits:
		return ok(canceled)
	case limits:
		// Invalid when the poll was refused, or has been submitted without it.
		return ok(canceled, -int32(unix.ENOENT), -int32(unix.EALREADY), inval)
	case cancels:
		return ok(0, -int32(unix.ENOENT), -int32(unix.EALREADY), -int32(unix.EBUSY))
	case faults, noBuffer:
		return ok(-int32(unix.EFAULT))
	case noEntry:
		return ok(-int32(unix.EBADF))
	case unknown:
		return func(res int32) bool { return res == inval }
	}
	return func(res int32) bool {
		if res < 0 {
			return res >= -int32(unix.EHWPOISON) && res != -int32(unix.ENOSYS)
		}
		return res <= 1<<16
	}
}
