//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// linkOrder runs requests that complete in different contexts in one chain.
func linkOrder(e *env) error {
	fd, err := e.file()
	if err != nil {
		return err
	}
	r, w, err := e.pipe()
	if err != nil {
		return err
	}
	ours, theirs, err := e.sockets(1)
	if err != nil {
		return err
	}
	bufs, err := buffers(6)
	if err != nil {
		return err
	}
	machine.Pattern(bufs[5], blocks)
	e.chain([]uring.SQE{
		nop,
		transfer(uring.OpRead, fd, bufs[0], 7),
		fsync(fd),
		transfer(uring.OpRead, e.disk, bufs[1], 8),
		poll(r), // waits for send
		with(uring.SQEAsync, transfer(uring.OpWrite, fd, bufs[5], blocks)),
		transfer(uring.OpRead, fd, bufs[2], blocks),
		transfer(uring.OpRecv, ours[0], bufs[3], 0),
		with(uring.SQEAsync, nop),
		transfer(uring.OpRead, e.disk, bufs[4], 9),
	}, []int32{0, block, 0, block, readable, block, block, 1, 0, block})
	if err := e.submit(); err != nil {
		return err
	}
	if err := e.collect(4); err != nil {
		return err
	}
	if err := e.none(); err != nil {
		return err
	}
	if err := inOrder(send([]int{w}), send(theirs), e.finish, e.ordered); err != nil {
		return err
	}
	return errors.Join(machine.ComparePattern(bufs[0], 7), machine.ComparePattern(bufs[1], 8), machine.ComparePattern(bufs[2], blocks), machine.ComparePattern(bufs[3][:1], 0), machine.ComparePattern(bufs[4], 9))
}

// shortRead has a read in the middle of a chain that finds the end of the file,
// which counts as failed; the rest has the result.
func shortRead(e *env, link uint8, rest int32) error {
	fd, err := e.file()
	if err != nil {
		return err
	}
	bufs, err := buffers(2)
	if err != nil {
		return err
	}
	last := rest
	if rest == 0 {
		last = block
	}
	e.chain([]uring.SQE{
		with(link, nop),
		with(link, transfer(uring.OpRead, fd, bufs[0], blocks)),
		with(link, nop),
		with(link, nop),
		transfer(uring.OpRead, fd, bufs[1], 1),
	}, []int32{0, 0, rest, rest, last})
	if err := inOrder(e.submit, e.finish, e.ordered); err != nil || rest != 0 {
		return err
	}
	return machine.ComparePattern(bufs[1], 1)
}

// failedHead reads to a bad address.
func failedHead(e *env) error {
	fd, err := e.file()
	if err != nil {
		return err
	}
	e.chain([]uring.SQE{{Opcode: uring.OpRead, FD: int32(fd), Addr: 4096, Len: block}, nop, nop, nop}, []int32{fault, canceled, canceled, canceled})
	return inOrder(e.submit, e.finish, e.ordered)
}

// fourChains wakes chains in the opposite order; each keeps its own.
func fourChains(e *env) error {
	const chains, length = 4, 4
	fd, err := e.file()
	if err != nil {
		return err
	}
	bufs, err := buffers(2 * chains)
	if err != nil {
		return err
	}
	var writers []int
	for i := range chains {
		r, w, err := e.pipe()
		if err != nil {
			return err
		}
		writers = append(writers, w)
		e.chain([]uring.SQE{
			poll(r),
			transfer(uring.OpRead, fd, bufs[2*i], 2*i),
			nop,
			transfer(uring.OpRead, e.disk, bufs[2*i+1], 2*i+1),
		}, []int32{readable, block, 0, block})
	}
	if err := e.pending(); err != nil {
		return err
	}
	e.held(home, peak{2 * chains, 2 * chains})
	if err := inOrder(send(writers), e.finish); err != nil {
		return err
	}
	next := map[int]int{}
	for _, i := range e.order {
		if next[i/length] != i%length {
			return fmt.Errorf("completed in the order %v; want that of submission in each chain of %d", e.order, length)
		}
		next[i/length]++
	}
	for i, b := range bufs {
		if err := machine.ComparePattern(b, i); err != nil {
			return err
		}
	}
	return nil
}

// drainWaits has a NOP wait for all that was submitted before it, and another
// one behind it for that.
func drainWaits(e *env) error {
	r, w, err := e.pipe()
	if err != nil {
		return err
	}
	e.add(poll(r), readable)
	e.add(nop, 0)
	e.add(with(uring.SQEDrain, nop), 0)
	e.add(with(uring.SQEDrain, nop), 0)
	if err := e.submit(); err != nil {
		return err
	}
	if err := inOrder(func() error { return e.collect(1) }, e.none); err != nil {
		return err
	}
	if err := inOrder(send([]int{w}), e.finish); err != nil {
		return err
	}
	if want := []int{1, 0, 2, 3}; !slices.Equal(e.order, want) {
		return fmt.Errorf("completed in the order %v; want %v", e.order, want)
	}
	return nil
}
