//go:build linux

package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// exitLimit is how long a ring may take to go; startLimit, how long a child may
// take to start and to have everything in flight.
const (
	exitLimit  = time.Second
	startLimit = 5 * time.Second
)

// What a child inherits: the end of an empty pipe to read from and a socket on
// which nothing has been sent. The parent keeps the other ends.
const (
	childPipe   = 3
	childSocket = 4
)

// inFlight is what a child has in flight: see fly and flyPolled; the
// requests of flyThread are the blocked reads, or over before fly.
func inFlight(way string) map[int]peak {
	p := peak{22, 29 + 16}
	if way == machine.ByClose {
		p[1] += 2 + 2 // the blocked reads
	}
	return map[int]peak{home: p}
}

// fly puts requests of every context in flight: n of them wait for something
// that does not come, the rest is a chain of disk reads, of which one after the
// other completes. These come last of their class, so that all are in flight at
// the same time, whenever they complete.
func fly(f *flight, disk, file int, way string) error {
	after, err := duration(hour)
	if err != nil {
		return err
	}
	bufs, err := buffers(24)
	if err != nil {
		return err
	}
	into := func(op uint8, fd int) uring.SQE { return transfer(op, fd, bufs[0], 0) }
	waiting := func(sqes ...uring.SQE) {
		for _, sqe := range sqes {
			f.add(sqe)
		}
	}
	soft, hard := uint8(uring.SQELink), uint8(uring.SQEHardLink)
	waiting(poll(childPipe), poll(childPipe), into(uring.OpRecv, childSocket), into(uring.OpRecv, childSocket))
	waiting(into(uring.OpRead, childSocket), into(uring.OpRead, childSocket), into(uring.OpRead, childSocket), into(uring.OpRead, childSocket))
	waiting(timeout(after, 0), timeout(after, 0), timeout(after, 1000))
	waiting(with(soft, poll(childPipe)), linkTimeout(after), with(soft, into(uring.OpRecv, childSocket)), linkTimeout(after))
	waiting(with(soft, poll(childPipe)), with(soft, nop), with(soft, into(uring.OpRead, file)), nop)
	waiting(with(hard, poll(childPipe)), with(hard, nop), with(hard, fsync(file)), nop)
	blocked := 0
	if way == machine.ByClose {
		// Killed or at its exit, v5.10.13 keeps the ring of a process that has
		// these, with or without the patch: program fixedfile.
		waiting(with(uring.SQEAsync, into(uring.OpRead, childPipe)), with(uring.SQEAsync, into(uring.OpRead, childPipe)))
		blocked = 2
	}
	for i, b := range bufs {
		sqe := transfer(uring.OpRead, disk, b, i)
		if i < len(bufs)-1 {
			sqe.Flags |= uring.SQELink
		}
		f.add(sqe, block)
	}
	waiting(with(uring.SQEDrain, nop), nop, nop, nop)
	before := blockedReaders()
	if err := f.submit(); err != nil {
		return err
	}
	// A read that a worker thread is about to start would not be canceled with
	// the ring (see linkExpiresOnWorker).
	if err := awaitBlocked(blocked, before); err != nil {
		return err
	}
	return f.collect(int(f.Ready())) // judges those that have completed
}

// flyPolled starts disk reads that nobody polls for.
func flyPolled(f *flight, disk int) error {
	bufs, err := buffers(16)
	if err != nil {
		return err
	}
	for i, b := range bufs {
		f.add(transfer(uring.OpRead, disk, b, i))
	}
	return f.pending()
}

// flyThread has the kernel's thread submit requests: reads that block a worker
// thread, or NOPs, which are over at once. It has none that wait for an event
// or a time: when such a ring goes, v5.10.13 cancels them by work that it gives to the
// kernel's thread, and an idle thread does not look for work again
// (io_req_task_work_add, io_sq_thread), so that the ring stays, patch or not.
func flyThread(f *flight, way string) error {
	if err := f.Files([]int32{childPipe}); err != nil {
		return err
	}
	bufs, err := buffers(2)
	if err != nil {
		return err
	}
	if way != machine.ByClose {
		return many(&env{flight: f}, 2, nop, 0)
	}
	kernel, err := uring.Probe()
	if err != nil {
		return err
	}
	for _, b := range bufs {
		f.add(with(uring.SQEFixedFile|kernel.BlockingRead(), transfer(uring.OpRead, 0, b, 0)))
	}
	before := blockedReaders()
	return inOrder(f.submit, func() error { return f.Wait(0) }, f.none, func() error { return awaitBlocked(len(bufs), before) })
}

// child is the process whose rings are to go; it does not return.
func child(way, path string) {
	// One thread only, as another one that had submitted would keep the rings
	// open (see report.Within).
	runtime.LockOSThread()
	rings, err := takeOff(way, path)
	machine.ActAsChild(way, err, func() error {
		for _, r := range rings {
			if err := r.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

// takeOff puts everything in flight on three rings, which alone keep the files
// open from then on.
func takeOff(way, path string) ([]*uring.Ring, error) {
	if err := machine.Bind(home); err != nil {
		return nil, err
	}
	disk, err := machine.OpenDisk(path)
	if err != nil {
		return nil, err
	}
	file, err := (&env{}).file()
	if err != nil {
		return nil, err
	}
	var rings []*uring.Ring
	for _, r := range []struct {
		params uring.Params
		fly    func(*flight) error
	}{
		{uring.Params{Flags: uring.SetupIOPoll}, func(f *flight) error { return flyPolled(f, disk) }},
		{sqpoll, func(f *flight) error { return flyThread(f, way) }},
		{uring.Params{}, func(f *flight) error { return fly(f, disk, file, way) }},
	} {
		ring, err := uring.New(entries, r.params)
		if err != nil {
			return nil, err
		}
		rings = append(rings, ring)
		if err := r.fly(newFlight(ring)); err != nil {
			return nil, err
		}
	}
	for _, fd := range []int{disk, file, childPipe, childSocket} {
		if err := unix.Close(fd); err != nil {
			return nil, err
		}
	}
	return rings, nil
}

// exits lets rings go in every way.
func (s *suite) exits() {
	for i, way := range []string{machine.ByClose, machine.ByExit, machine.ByKill} {
		path, err := machine.AddPartition(i + 2)
		if err != nil {
			s.Error("exit-by-"+way+"/in-flight", err)
			continue
		}
		s.exit(way, path)
	}
}

// exit starts a child, makes its rings go, and checks that they are gone, that
// they have let go of what they had open, and where their requests are.
func (s *suite) exit(way, path string) {
	name := "exit-by-" + way
	a := s.caches.open()
	l, err := lend(path)
	if err != nil {
		s.Error(name+"/in-flight", err)
		return
	}
	defer l.close()
	c, err := machine.StartChild("contexts", l.inherited, "child", way, path)
	if err == nil {
		defer c.End()
		err = c.Hear(machine.SaysReady, time.Now().Add(machine.Patience(startLimit)))
	}
	if !s.Check(name+"/in-flight", err) {
		return
	}
	deadline := time.Now().Add(machine.Patience(exitLimit))
	s.inTime(name+"/exits", c.Leave(way, deadline))
	// The files go last: before that, the kworker may not even have started.
	released := machine.AwaitUntil(deadline, l.released)
	gone := machine.AwaitUntil(deadline, func() error {
		for _, task := range uring.ExitingRings() {
			return fmt.Errorf("%w: a ring is still being torn down:\n%s", machine.ErrLate, task)
		}
		return nil
	})
	s.inTime(name+"/rings-gone", gone)
	s.inTime(name+"/files-released", released)
	s.accounting(name, a.close(inFlight(way)))
}

// inTime reports a check that may have been late.
func (s *suite) inTime(name string, err error) {
	if errors.Is(err, machine.ErrLate) {
		s.Hang(name, fmt.Sprintf("after %v: %v\n%s", machine.Patience(exitLimit), err, machine.StuckTasks()))
		return
	}
	s.Check(name, err)
}

// loan is what the parent gives to a child, and what it keeps of it.
type loan struct {
	inherited      []int
	writer, socket int
	path           string
}

func lend(path string) (*loan, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(s[1], true); err != nil {
		return nil, err
	}
	return &loan{inherited: []int{p[0], s[0]}, writer: p[1], socket: s[1], path: path}, nil
}

func (l *loan) close() {
	unix.Close(l.writer)
	unix.Close(l.socket)
}

// released returns nil once no one holds the child's files any more: the pipe
// has no reader, the socket is at its end, the partition can be opened
// exclusively.
func (l *loan) released() error {
	poll := []unix.PollFd{{Fd: int32(l.writer)}}
	if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents&unix.POLLERR == 0 {
		return fmt.Errorf("%w: the pipe still has a reader (poll %#x, error %v)", machine.ErrLate, poll[0].Revents, err)
	}
	if n, err := unix.Read(l.socket, make([]byte, 1)); err != nil || n != 0 {
		return fmt.Errorf("%w: the socket is not at its end: %d bytes, error %v", machine.ErrLate, n, err)
	}
	fd, err := machine.OpenDisk(l.path)
	if err != nil {
		return fmt.Errorf("%w: the partition is still in use: %w", machine.ErrLate, err)
	}
	return unix.Close(fd)
}
