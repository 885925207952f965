//go:build linux

package main

import (
	"fmt"
	"slices"

	"patchproof/guest/uring"
)

// expires lets four timeouts expire, one after the other.
func expires(e *env, count int) error {
	after, err := duration(short)
	if err != nil {
		return err
	}
	for range 4 {
		e.add(timeout(after, count), expired)
		if err := inOrder(e.submit, e.finish); err != nil {
			return err
		}
	}
	return nil
}

// countedTimeout waits for eight completions.
func countedTimeout(e *env) error {
	after, err := duration(hour)
	if err != nil {
		return err
	}
	e.add(timeout(after, 8), 0)
	return many(e, 8, nop, 0)
}

func removedTimeouts(e *env) error {
	after, err := duration(hour)
	if err != nil {
		return err
	}
	for range 4 {
		e.add(timeout(after, 0), canceled)
	}
	if err := e.pending(); err != nil {
		return err
	}
	e.held(home, peak{4, 0})
	for i := range 4 {
		e.add(uring.SQE{Opcode: uring.OpTimeoutRemove, FD: -1, Addr: e.id(3 - i)}, 0)
	}
	return inOrder(e.submit, e.finish)
}

// linkExpires lets a link timeout cancel a request on an empty socket, four
// times.
func linkExpires(e *env, request func(fd int) uring.SQE) error {
	ours, _, err := e.sockets(4)
	if err != nil {
		return err
	}
	bufs, err := buffers(1)
	if err != nil {
		return err
	}
	after, err := duration(short)
	if err != nil {
		return err
	}
	for _, fd := range ours {
		sqe := request(fd)
		if sqe.Opcode == uring.OpRecv {
			sqe.Addr, sqe.Len = uring.Address(bufs[0]), block
		}
		e.chain([]uring.SQE{sqe, linkTimeout(after)}, []int32{canceled, expired})
		if err := inOrder(e.submit, e.finish); err != nil {
			return err
		}
	}
	return nil
}

// linkExpiresOnWorker interrupts a worker thread that is blocked in a read. If
// it has not started yet, the read is canceled instead. In between, when the
// worker has taken the read off its list and not made it its current work
// (io_worker_handle_work), v5.10.13 finds it in neither place and the read goes on.
func linkExpiresOnWorker(e *env) error {
	r, w, err := e.pipe()
	if err != nil {
		return err
	}
	bufs, err := buffers(1)
	if err != nil {
		return err
	}
	after, err := duration(10 * short)
	if err != nil {
		return err
	}
	e.add(with(uring.SQELink, transfer(uring.OpRead, r, bufs[0], 0)), aborted, canceled, 1)
	e.add(linkTimeout(after), running, expired, missing)
	if err := inOrder(e.submit, func() error { return e.collect(1) }); err != nil {
		return err
	}
	if e.done[1].Res == missing {
		if err := send([]int{w})(); err != nil {
			return err
		}
	}
	if err := e.finish(); err != nil {
		return err
	}
	read, timer := e.done[0].Res, e.done[1].Res
	if want := map[int32]int32{running: aborted, expired: canceled, missing: 1}[timer]; read != want {
		return fmt.Errorf("the timeout's result is %d and the read's %d; want %d with that", timer, read, want)
	}
	return nil
}

// linkInTime receives before the link timeout expires, which is then canceled.
func linkInTime(e *env) error {
	ours, theirs, err := e.sockets(4)
	if err != nil {
		return err
	}
	bufs, err := buffers(4)
	if err != nil {
		return err
	}
	after, err := duration(hour)
	if err != nil {
		return err
	}
	for i, fd := range ours {
		e.chain([]uring.SQE{transfer(uring.OpRecv, fd, bufs[i], 0), linkTimeout(after)}, []int32{int32(i + 1), canceled})
	}
	if err := e.pending(); err != nil {
		return err
	}
	e.held(home, peak{8, 0})
	return inOrder(send(theirs), e.finish, received(bufs))
}

// cancels cancels n requests on empty sockets, the last first.
func cancels(e *env, n int, request func(fd int) uring.SQE) error {
	ours, _, err := e.sockets(n)
	if err != nil {
		return err
	}
	bufs, err := buffers(n)
	if err != nil {
		return err
	}
	for i, fd := range ours {
		sqe := request(fd)
		if sqe.Opcode == uring.OpRecv {
			sqe.Addr, sqe.Len = uring.Address(bufs[i]), block
		}
		e.add(sqe, canceled)
	}
	if err := e.pending(); err != nil {
		return err
	}
	e.held(home, peak{n, 0})
	for i := range n {
		e.add(cancel(e.id(n-1-i)), 0)
	}
	return inOrder(e.submit, e.finish)
}

// cancelsWorkers interrupts worker threads that are blocked in a read: what runs
// cannot be canceled for sure, so the answer is "already running". Where the reads wait
// for a poll instead, they are canceled for sure.
func cancelsWorkers(e *env) error {
	bufs, err := buffers(2)
	if err != nil {
		return err
	}
	polls, err := uring.Has(uring.PipeReadsPoll)
	if err != nil {
		return err
	}
	reads := map[uring.Answer][]int32{uring.Before: {aborted}, uring.Either: {aborted, canceled}, uring.After: {canceled}}[polls]
	if _, err := blockPipes(e, bufs, func(int) []int32 { return reads }); err != nil {
		return err
	}
	e.held(home, peak{0, 2})
	for i := range bufs {
		e.add(cancel(e.id(i)), map[uring.Answer][]int32{uring.Before: {running}, uring.Either: {running, 0}, uring.After: {0}}[polls]...)
	}
	return inOrder(e.submit, e.finish)
}

// cancelsChain cancels the head, which takes the rest with it.
func cancelsChain(e *env) error {
	r, _, err := e.pipe()
	if err != nil {
		return err
	}
	e.chain([]uring.SQE{poll(r), nop, nop, nop}, slices.Repeat([]int32{canceled}, 4))
	if err := e.pending(); err != nil {
		return err
	}
	e.held(home, peak{4, 0})
	e.add(cancel(e.id(0)), 0)
	return inOrder(e.submit, e.finish)
}
