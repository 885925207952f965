//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// fixedReads reads through a registered file: v5.10's SQPOLL takes no other.
func fixedReads(e *env) error {
	fd, err := e.file()
	if err != nil {
		return err
	}
	if err := e.Files([]int32{int32(fd)}); err != nil {
		return err
	}
	bufs, err := buffers(16)
	if err != nil {
		return err
	}
	for i, b := range bufs {
		e.add(with(uring.SQEFixedFile, transfer(uring.OpRead, 0, b, i)), block)
	}
	if err := inOrder(e.submit, e.finish); err != nil {
		return err
	}
	for i, b := range bufs {
		if err := machine.ComparePattern(b, i); err != nil {
			return err
		}
	}
	return nil
}

// fixedPolls receives from registered sockets before there is anything.
func fixedPolls(e *env) error {
	ours, theirs, err := e.sockets(8)
	if err != nil {
		return err
	}
	var slots []int32
	for _, fd := range ours {
		slots = append(slots, int32(fd))
	}
	if err := e.Files(slots); err != nil {
		return err
	}
	bufs, err := buffers(len(ours))
	if err != nil {
		return err
	}
	for i, b := range bufs {
		e.add(with(uring.SQEFixedFile, transfer(uring.OpRecv, i, b, 0)), int32(i+1))
	}
	// Wait returns when the kernel's thread has taken them.
	if err := inOrder(e.submit, func() error { return e.Wait(0) }, e.none); err != nil {
		return err
	}
	e.held(home, peak{8, 0})
	return inOrder(send(theirs), e.finish, received(bufs))
}

// eventfd completes four requests, one after the other, each of which must
// raise the counter by each.
func eventfd(e *env, op uint32, sqe uring.SQE, result int32, each uint64) error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	e.opened = append(e.opened, fd)
	if err := e.EventFD(op, fd); err != nil {
		return err
	}
	const n = 4
	for range n {
		if err := many(e, 1, sqe, result); err != nil {
			return err
		}
	}
	// The completion is seen a moment before the counter.
	var total uint64
	return machine.Await(limit/4, func() error {
		var b [8]byte
		if _, err := unix.Read(fd, b[:]); err == nil {
			total += binary.NativeEndian.Uint64(b[:])
		}
		if total != n*each {
			return fmt.Errorf("the eventfd counted %d completions; want %d", total, n*each)
		}
		return nil
	})
}

// selects gives the kernel four buffers and has four requests choose of them.
func selects(e *env, op uint8) error {
	const n, group = 4, 7
	bufs, err := buffers(n)
	if err != nil {
		return err
	}
	// v5.10 answers with the group's number where one would expect n.
	e.add(uring.SQE{Opcode: uring.OpProvideBuffers, FD: n, Addr: uring.Address(bufs[0]), Len: block, BufIndex: group}, group, 0, n)
	if err := e.inline(); err != nil {
		return err
	}
	ours, theirs, err := e.sockets(n)
	if err != nil {
		return err
	}
	for i, fd := range ours {
		e.add(uring.SQE{Opcode: op, Flags: uring.SQEBufferSelect, FD: int32(fd), Len: block, BufIndex: group}, int32(i+1))
	}
	if err := e.pending(); err != nil {
		return err
	}
	if err := inOrder(send(theirs), e.finish); err != nil {
		return err
	}
	chosen := map[uint32]bool{}
	for i := range n {
		flags := e.done[1+i].Flags
		number := flags >> uring.CQEBufferShift
		if flags&uring.CQEBuffer == 0 || number >= n || chosen[number] {
			return fmt.Errorf("request %d completed with flags %#x after %v; want a buffer of 0 to %d that no other has", 1+i, flags, slices.Sorted(maps.Keys(chosen)), n-1)
		}
		chosen[number] = true
		if err := machine.ComparePattern(bufs[number][:i+1], i); err != nil {
			return fmt.Errorf("buffer %d: %w", number, err)
		}
	}
	return nil
}

// ownRings has a thread on each CPU run chains on a ring of its own.
func ownRings(e *env) error {
	fd, err := e.file()
	if err != nil {
		return err
	}
	const rounds, n = 20, 16
	var threads sync.WaitGroup
	failed := make(chan error, 2)
	for cpu := range 2 {
		threads.Go(func() {
			failed <- machine.OnCPU(cpu, func() error {
				bufs, err := buffers(n)
				if err != nil {
					return err
				}
				return uring.With(entries, uring.Params{}, func(r *uring.Ring) error {
					for round := range rounds {
						if err := r.Run(n, uring.SQELink, uring.Nop, 0); err != nil {
							return fmt.Errorf("CPU %d, round %d: NOPs: %w", cpu, round, err)
						}
						err := r.Run(n, uring.SQELink, func(sqe *uring.SQE) {
							i := sqe.UserData
							*sqe = transfer(uring.OpRead, fd, bufs[i], (round+int(i))%blocks)
							sqe.UserData = i
						}, block)
						if err != nil {
							return fmt.Errorf("CPU %d, round %d: reads: %w", cpu, round, err)
						}
						for i, b := range bufs {
							if err := machine.ComparePattern(b, (round+i)%blocks); err != nil {
								return fmt.Errorf("CPU %d, round %d: %w", cpu, round, err)
							}
						}
					}
					return nil
				})
			})
		})
	}
	threads.Wait()
	return errors.Join(<-failed, <-failed)
}

// sharedRing has threads on two CPUs submit to one ring, in turn. Each thread's
// requests complete in it.
func sharedRing(e *env) error {
	var writers []int
	submit := func() error {
		for range 4 {
			r, w, err := e.pipe()
			if err != nil {
				return err
			}
			writers = append(writers, w)
			e.add(poll(r), readable)
		}
		return e.pending()
	}
	if err := submit(); err != nil {
		return err
	}
	submitted, over, ended := make(chan error), make(chan bool), make(chan error)
	go func() {
		ended <- machine.OnCPU(away, func() error {
			submitted <- submit()
			<-over
			return nil
		})
	}()
	err := <-submitted
	if err == nil {
		e.held(home, peak{4, 0})
		e.held(away, peak{4, 0})
		err = inOrder(send(writers), e.finish)
	}
	close(over)
	return errors.Join(err, <-ended)
}
