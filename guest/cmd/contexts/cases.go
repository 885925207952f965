//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

const (
	hour  = time.Hour            // does not come
	short = 2 * time.Millisecond // comes
)

// Results of requests.
const (
	canceled = -int32(unix.ECANCELED)
	expired  = -int32(unix.ETIME)
	missing  = -int32(unix.ENOENT)
	running  = -int32(unix.EALREADY)
	aborted  = -int32(unix.EINTR)
	invalid  = -int32(unix.EINVAL)
	fault    = -int32(unix.EFAULT)
)

var nop = uring.SQE{Opcode: uring.OpNop}

// contexts lists the checks.
//
// Where a timer expires, nothing else is in flight on the machine, one request
// at a time: the posted patch frees it from the hard interrupt to a list that
// the other end guards with preempt_disable only, so that requests of its class
// which are taken or freed at the same moment on that CPU would corrupt it.
// That is for the program that looks for it; here every verdict must be the
// same each time. Timeouts that are removed or never expire are free of that.
var contexts = []context{
	{"inline", []check{
		{name: "nop", peaks: at(32, 0), run: inlineNops},
		{name: "tmpfs-read", peaks: at(0, 16), run: inlineReads},
	}},
	{"task-work", []check{
		{name: "poll", peaks: at(8, 0), run: pollWakes},
		{name: "recv", peaks: at(8, 0), run: func(e *env) error { return armed(e, uring.OpRecv, peak{8, 0}, nil) }},
		{name: "read", peaks: at(0, 8), run: func(e *env) error { return armed(e, uring.OpRead, peak{0, 8}, nil) }},
		{name: "recv-elsewhere", peaks: at(8, 0), run: func(e *env) error { return armed(e, uring.OpRecv, peak{8, 0}, move) }},
		{name: "read-elsewhere", peaks: at(0, 8), run: func(e *env) error { return armed(e, uring.OpRead, peak{0, 8}, move) }},
	}},
	{"worker", []check{
		{name: "nop", peaks: at(16, 0), run: workerNops},
		{name: "tmpfs", peaks: at(0, 16), run: func(e *env) error { return writeRead(e, tmpfsFile, uring.SQEAsync) }},
		{name: "fsync", peaks: at(4, 0), run: fsyncs},
		{name: "pipe-read", peaks: at(0, 4), run: blockedReads},
	}},
	{"irq", []check{
		{name: "chain", peaks: at(0, 16), run: func(e *env) error {
			return interrupted(func() error { return writeRead(e, diskFile, 0) })
		}},
		{name: "burst", peaks: at(16, 16), run: burst},
		{name: "mixed-chain", peaks: at(8, 8), run: mixedChain},
	}},
	{"iopoll", []check{
		{name: "read", params: uring.Params{Flags: uring.SetupIOPoll}, peaks: at(0, 32), run: polledReads},
		{name: "nop", params: uring.Params{Flags: uring.SetupIOPoll}, peaks: at(1, 0), run: polledNop},
	}},
	{"timeout", []check{
		{name: "expires", peaks: at(1, 0), run: func(e *env) error { return expires(e, 0) }},
		{name: "expires-before-count", peaks: at(1, 0), run: func(e *env) error { return expires(e, 5) }},
		{name: "count", peaks: at(9, 0), run: countedTimeout},
		{name: "remove", peaks: at(5, 0), run: removedTimeouts},
		{name: "remove-nothing", peaks: at(1, 0), run: func(e *env) error {
			e.add(uring.SQE{Opcode: uring.OpTimeoutRemove, FD: -1, Addr: e.id(1)}, missing)
			return e.inline()
		}},
	}},
	{"link-timeout", []check{
		{name: "expires-on-poll", peaks: at(2, 0), run: func(e *env) error { return linkExpires(e, poll) }},
		{name: "expires-on-recv", peaks: at(2, 0), run: func(e *env) error { return linkExpires(e, recv) }},
		{name: "expires-on-worker", peaks: at(1, 1), run: linkExpiresOnWorker},
		{name: "in-time", peaks: at(8, 0), run: linkInTime},
	}},
	{"cancel", []check{
		{name: "poll", peaks: at(9, 0), run: func(e *env) error { return cancels(e, 8, poll) }},
		{name: "recv", peaks: at(5, 0), run: func(e *env) error { return cancels(e, 4, recv) }},
		{name: "timeout", peaks: at(5, 0), run: func(e *env) error {
			after, err := duration(hour)
			return errors.Join(err, cancels(e, 4, func(int) uring.SQE { return timeout(after, 0) }))
		}},
		{name: "worker", peaks: at(1, 2), run: cancelsWorkers},
		{name: "chain", peaks: at(5, 0), run: cancelsChain},
		{name: "nothing", peaks: at(1, 0), run: func(e *env) error {
			for range 4 {
				e.add(cancel(e.id(entries)), missing)
			}
			return e.inline()
		}},
	}},
	{"link", []check{
		{name: "order", peaks: at(5, 5), run: linkOrder},
		{name: "soft-fails", peaks: at(3, 2), run: func(e *env) error { return shortRead(e, uring.SQELink, canceled) }},
		{name: "hard-goes-on", peaks: at(3, 2), run: func(e *env) error { return shortRead(e, uring.SQEHardLink, 0) }},
		{name: "head-fails", peaks: at(3, 1), run: failedHead},
		{name: "four-at-once", peaks: at(8, 8), run: fourChains},
	}},
	{"drain", []check{
		{name: "waits", peaks: at(4, 0), run: drainWaits},
	}},
	{"sqpoll", []check{
		{name: "nop", params: sqpoll, peaks: at(32, 0), run: func(e *env) error { return many(e, 32, nop, 0) }},
		{name: "read", params: sqpoll, peaks: at(0, 16), run: fixedReads},
		{name: "recv", params: busySQPoll, peaks: at(8, 0), run: fixedPolls},
	}},
	{"eventfd", []check{
		{name: "inline", peaks: at(1, 0), run: func(e *env) error { return eventfd(e, uring.RegisterEventFD, nop, 0, 1) }},
		{name: "irq", peaks: at(0, 1), run: func(e *env) error {
			b, err := buffers(1)
			return errors.Join(err, eventfd(e, uring.RegisterEventFD, transfer(uring.OpRead, e.disk, b[0], 0), block, 1))
		}},
		{name: "async-inline", peaks: at(1, 0), run: func(e *env) error { return eventfd(e, uring.RegisterEventFDAsync, nop, 0, 0) }},
		{name: "async-worker", peaks: at(1, 0), run: func(e *env) error {
			return eventfd(e, uring.RegisterEventFDAsync, with(uring.SQEAsync, nop), 0, 1)
		}},
	}},
	{"buffers", []check{
		{name: "recv", peaks: at(4, 0), run: func(e *env) error { return selects(e, uring.OpRecv) }},
		{name: "read", peaks: at(1, 4), run: func(e *env) error { return selects(e, uring.OpRead) }},
	}},
	{"threads", []check{
		{name: "own-rings", peaks: map[int]peak{home: {16, 16}, away: {16, 16}}, run: ownRings},
		{name: "shared-ring", peaks: map[int]peak{home: {4, 0}, away: {4, 0}}, run: sharedRing},
	}},
}

// sqpoll has the kernel's thread on the CPU that the checks look at. It goes to
// sleep soon, so that it does not keep the CPU from them. In busySQPoll it does
// not: v5.10.13's thread looks for the work of a wake-up only while it is busy
// (io_sq_thread), so that it may sleep beside it for ever.
var (
	sqpoll     = uring.Params{Flags: uring.SetupSQPoll | uring.SetupSQAff, SQThreadCPU: home, SQThreadIdle: 1}
	busySQPoll = uring.Params{Flags: uring.SetupSQPoll | uring.SetupSQAff, SQThreadCPU: home, SQThreadIdle: 60_000}
)

// many submits n equal requests.
func many(e *env, n int, sqe uring.SQE, result int32) error {
	for range n {
		e.add(sqe, result)
	}
	return inOrder(e.submit, e.finish)
}

func inlineNops(e *env) error {
	for range 32 {
		e.add(nop, 0)
	}
	return inOrder(e.inline, e.ordered)
}

func inlineReads(e *env) error {
	fd, err := e.file()
	if err != nil {
		return err
	}
	bufs, err := buffers(16)
	if err != nil {
		return err
	}
	for i, b := range bufs {
		e.add(transfer(uring.OpRead, fd, b, 3*i), block)
	}
	inline, err := readInline(fd)
	if err != nil {
		return err
	}
	if inline {
		err = e.inline()
	} else {
		err = inOrder(e.submit, e.finish)
	}
	if err != nil {
		return err
	}
	for i, b := range bufs {
		if err := machine.ComparePattern(b, 3*i); err != nil {
			return err
		}
	}
	return nil
}

// readInline says whether the kernel must read the file where the request is submitted:
// it does when the file can be read without waiting, which preadv2 tells, or when it
// does not ask (uring.NowaitFlagRules).
func readInline(fd int) (bool, error) {
	rules, err := uring.Has(uring.NowaitFlagRules)
	if err != nil || rules == uring.Before {
		return true, err
	}
	_, err = unix.Preadv2(fd, [][]byte{make([]byte, 1)}, 0, unix.RWF_NOWAIT)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	return true, err
}

// pollWakes polls eight pipes and writes to them on the other CPU.
func pollWakes(e *env) error {
	var writers []int
	for range 8 {
		r, w, err := e.pipe()
		if err != nil {
			return err
		}
		writers = append(writers, w)
		e.add(poll(r), readable)
	}
	if err := e.pending(); err != nil {
		return err
	}
	e.held(home, peak{8, 0})
	return inOrder(send(writers), e.finish)
}

// recv receives from a socket.
func recv(fd int) uring.SQE { return uring.SQE{Opcode: uring.OpRecv, FD: int32(fd)} }

// armed reads from eight sockets before there is anything to read. Where moving
// is set, that runs before something comes.
func armed(e *env, op uint8, held peak, moving func() error) error {
	ours, theirs, err := e.sockets(8)
	if err != nil {
		return err
	}
	bufs, err := buffers(len(ours))
	if err != nil {
		return err
	}
	for i, fd := range ours {
		e.add(transfer(op, fd, bufs[i], 0), int32(i+1))
	}
	if err := e.pending(); err != nil {
		return err
	}
	e.held(home, held)
	if moving != nil {
		if err := moving(); err != nil {
			return err
		}
	}
	if err := inOrder(send(theirs), e.finish); err != nil {
		return err
	}
	if moving != nil {
		e.moved(away, held)
	}
	return received(bufs)()
}

// move takes the thread to the other CPU, where its requests then complete and
// stay.
func move() error { return machine.Bind(away) }

func workerNops(e *env) error {
	e.chain(slices.Repeat([]uring.SQE{with(uring.SQEAsync, nop)}, 16), make([]int32, 16))
	return inOrder(e.submit, e.finish, e.ordered)
}

// tmpfsFile and diskFile are files to write and read.
func tmpfsFile(e *env) (int, error) { return e.file() }
func diskFile(e *env) (int, error)  { return e.disk, nil }

// writeRead writes eight blocks behind those that are read elsewhere, in one
// chain, in which each is read back right after.
func writeRead(e *env, open func(*env) (int, error), flags uint8) error {
	fd, err := open(e)
	if err != nil {
		return err
	}
	const n = 8
	out, err := buffers(n)
	if err != nil {
		return err
	}
	in, err := buffers(n)
	if err != nil {
		return err
	}
	var sqes []uring.SQE
	for i := range n {
		machine.Pattern(out[i], blocks+i)
		sqes = append(sqes, with(flags, transfer(uring.OpWrite, fd, out[i], blocks+i)), with(flags, transfer(uring.OpRead, fd, in[i], blocks+i)))
	}
	e.chain(sqes, slices.Repeat([]int32{block}, 2*n))
	if err := inOrder(e.submit, e.finish, e.ordered); err != nil {
		return err
	}
	for i := range n {
		if err := machine.ComparePattern(in[i], blocks+i); err != nil {
			return err
		}
	}
	return nil
}

// fsyncs never complete inline.
func fsyncs(e *env) error {
	fd, err := e.file()
	if err != nil {
		return err
	}
	e.chain(slices.Repeat([]uring.SQE{fsync(fd)}, 4), make([]int32, 4))
	return inOrder(e.submit, e.finish, e.ordered)
}

// polledNop completes at once, as it needs no polling, or is refused.
func polledNop(e *env) error {
	takes, err := uring.Has(uring.NopOnPolledRing)
	if err != nil {
		return err
	}
	results := map[uring.Answer][]int32{uring.Before: {invalid}, uring.Either: {invalid, 0}, uring.After: {0}}
	e.add(nop, results[takes]...)
	return e.inline()
}

// blockPipes reads n empty pipes and waits until a worker thread is blocked in
// each, where one will be.
func blockPipes(e *env, bufs [][]byte, results func(i int) []int32) (writers []int, err error) {
	kernel, err := uring.Probe()
	if err != nil {
		return nil, err
	}
	before := blockedReaders()
	for i, b := range bufs {
		r, w, err := e.pipe()
		if err != nil {
			return nil, err
		}
		writers = append(writers, w)
		e.add(with(kernel.BlockingRead(), transfer(uring.OpRead, r, b, 0)), results(i)...)
	}
	if err := e.pending(); err != nil {
		return nil, err
	}
	return writers, awaitBlocked(len(bufs), before)
}

func blockedReads(e *env) error {
	bufs, err := buffers(4)
	if err != nil {
		return err
	}
	writers, err := blockPipes(e, bufs, func(i int) []int32 { return []int32{int32(i + 1)} })
	if err != nil {
		return err
	}
	e.held(home, peak{0, 4})
	return inOrder(send(writers), e.finish, received(bufs))
}

// burst has reads of the disk wait behind polls of one pipe: one byte starts
// them all, so that they are in the disk's queue together.
func burst(e *env) error {
	const n = 16
	r, w, err := e.pipe()
	if err != nil {
		return err
	}
	bufs, err := buffers(n)
	if err != nil {
		return err
	}
	for i, b := range bufs {
		e.chain([]uring.SQE{poll(r), transfer(uring.OpRead, e.disk, b, 2*i)}, []int32{readable, block})
	}
	if err := e.pending(); err != nil {
		return err
	}
	e.held(home, peak{n, n})
	err = interrupted(func() error { return inOrder(send([]int{w}), e.finish) })
	if err != nil {
		return err
	}
	for i, b := range bufs {
		if err := machine.ComparePattern(b, 2*i); err != nil {
			return err
		}
	}
	return nil
}

// mixedChain links reads of the disk and NOPs in turn.
func mixedChain(e *env) error {
	bufs, err := buffers(8)
	if err != nil {
		return err
	}
	var sqes []uring.SQE
	var results []int32
	for i, b := range bufs {
		sqes = append(sqes, transfer(uring.OpRead, e.disk, b, i), nop)
		results = append(results, block, 0)
	}
	e.chain(sqes, results)
	if err := interrupted(func() error { return inOrder(e.submit, e.finish, e.ordered) }); err != nil {
		return err
	}
	for i, b := range bufs {
		if err := machine.ComparePattern(b, i); err != nil {
			return err
		}
	}
	return nil
}

// polledReads complete only when somebody polls for them.
func polledReads(e *env) error {
	bufs, err := buffers(32)
	if err != nil {
		return err
	}
	n, err := interrupts(func() error {
		for i, b := range bufs {
			e.add(transfer(uring.OpRead, e.disk, b, i), block)
		}
		if err := e.pending(); err != nil {
			return err
		}
		e.held(home, peak{0, 32})
		return e.finish()
	})
	if err != nil {
		return err
	}
	if n != 0 {
		return fmt.Errorf("polled reads raised %d interrupts; want none", n)
	}
	for i, b := range bufs {
		if err := machine.ComparePattern(b, i); err != nil {
			return err
		}
	}
	return nil
}
