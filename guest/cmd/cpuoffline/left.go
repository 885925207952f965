//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// Requests that are in flight when the CPU goes on which they were taken: half
// of the polls and reads complete with the load on, the others and the timeouts
// when it pauses. (Timeouts are removed; none expires: the posted patch frees
// an expired one from the hard interrupt to a list that the load's NOPs use
// with interrupts on. That is another program's business.)
const (
	leftPolls    = 8
	leftReads    = 4 // of sockets, so that they wait for an event
	leftTimeouts = 4
	left0, left1 = leftPolls + leftTimeouts, leftReads
)

// left is requests in flight, on a thread of their own.
type left struct {
	thread *thread
	ring   *uring.Ring
	buf    []byte
	// pipes and sockets are the ends to write to: the first half is for the load.
	pipes, sockets []int
	opened         []int
	// results are what is still to complete, by user_data.
	results map[uint64]int32
}

// user_data: the polls come first, then the reads, the timeouts, their removals.
const (
	firstRead    = leftPolls
	firstTimeout = firstRead + leftReads
	firstRemoval = firstTimeout + leftTimeouts
)

// readable is POLLIN and POLLRDNORM, which is what a poll for them results in.
const readable = unix.POLLIN | 0x40

// leave puts the requests in flight on the CPU; with the patch its rows must
// lack exactly these afterwards.
func (m *hotplug) leave(cpu int) (*left, error) {
	l := &left{thread: startThread(cpu), results: map[uint64]int32{}}
	err := l.thread.run(func() error {
		// Nothing else runs on the CPU, so its rows do not move on their own.
		before, err := m.classes(cpu)
		if err != nil {
			return err
		}
		if err := l.submit(); err != nil {
			return err
		}
		after, err := m.classes(cpu)
		if err != nil {
			return err
		}
		for irq, n := range [alloccache.Classes]int{left0, left1} {
			want := before[irq]
			want.Avail = max(0, want.Avail-n)
			if after[irq] != want {
				return fmt.Errorf("with %d requests in flight:\n%s\nwant:\n%s\nbefore:\n%s", n, after[irq], want, before[irq])
			}
		}
		return nil
	})
	if err != nil {
		l.end()
		return nil, err
	}
	return l, nil
}

// classes reads the CPU's rows; without the patch they are all zero.
func (m *hotplug) classes(cpu int) (rows [alloccache.Classes]alloccache.Row, err error) {
	if !m.cached {
		return rows, nil
	}
	for irq := range rows {
		if rows[irq], err = m.row(cpu, irq); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func (l *left) submit() error {
	var err error
	if l.ring, err = uring.New(64, uring.Params{}); err != nil {
		return err
	}
	if l.buf, err = machine.Buffer(4096); err != nil {
		return err
	}
	hour := l.buf[2048:]
	*(*unix.Timespec)(uring.Pointer(hour)) = unix.NsecToTimespec(int64(time.Hour))
	add := func(id int, result int32, sqe uring.SQE) {
		sqe.UserData = uint64(id)
		*l.ring.Next() = sqe
		l.results[sqe.UserData] = result
	}
	for i := range leftPolls {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		l.opened = append(l.opened, p[:]...)
		l.pipes = append(l.pipes, p[1])
		add(i, readable, uring.SQE{Opcode: uring.OpPollAdd, FD: int32(p[0]), OpFlags: readable})
	}
	for i := range leftReads {
		s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		l.opened = append(l.opened, s[0], s[1])
		l.sockets = append(l.sockets, s[1])
		add(firstRead+i, int32(i+1), uring.SQE{Opcode: uring.OpRead, FD: int32(s[0]), Addr: uring.Address(l.buf), Len: 1024})
	}
	for i := range leftTimeouts {
		add(firstTimeout+i, -int32(unix.ECANCELED), uring.SQE{Opcode: uring.OpTimeout, FD: -1, Addr: uring.Address(hour), Len: 1})
	}
	consumed, err := l.ring.Submit()
	if err != nil || consumed != left0+left1 {
		return fmt.Errorf("submit: %d of %d entries taken (error %v)", consumed, left0+left1, err)
	}
	if cqe, ok := l.ring.Take(); ok {
		return fmt.Errorf("a request that must wait completed: %+v", cqe)
	}
	return nil
}

// underLoad completes half of the polls and reads.
func (l *left) underLoad() error {
	return l.wake(l.pipes[:leftPolls/2], 0, l.sockets[:leftReads/2], firstRead)
}

// after completes the others and removes the timeouts.
func (l *left) after() error {
	if err := l.wake(l.pipes[leftPolls/2:], leftPolls/2, l.sockets[leftReads/2:], firstRead+leftReads/2); err != nil {
		return err
	}
	for i := range leftTimeouts {
		id := uint64(firstRemoval + i)
		*l.ring.Next() = uring.SQE{Opcode: uring.OpTimeoutRemove, FD: -1, Addr: uint64(firstTimeout + i), UserData: id}
		l.results[id] = 0
	}
	if consumed, err := l.ring.Submit(); err != nil || consumed != leftTimeouts {
		return fmt.Errorf("submit: %d of %d entries taken (error %v)", consumed, leftTimeouts, err)
	}
	if err := l.collect(2 * leftTimeouts); err != nil {
		return err
	}
	if cqe, ok := l.ring.Take(); ok {
		return fmt.Errorf("a completion too many: %+v", cqe)
	}
	return nil
}

// wake makes polls and reads complete, of which the first have these user_data.
func (l *left) wake(pipes []int, poll int, sockets []int, read int) error {
	for i, fd := range slices.Concat(pipes, sockets) {
		n := 1
		if i >= len(pipes) {
			n = read - firstRead + i - len(pipes) + 1
		}
		if wrote, err := unix.Write(fd, make([]byte, n)); err != nil || wrote != n {
			return fmt.Errorf("write %d bytes to wake a request: %d written (error %v)", n, wrote, err)
		}
	}
	want := len(l.results) - len(pipes) - len(sockets)
	if err := l.collect(len(pipes) + len(sockets)); err != nil {
		return err
	}
	for i := range len(pipes) {
		delete(l.results, uint64(poll+i))
	}
	for i := range len(sockets) {
		delete(l.results, uint64(read+i))
	}
	if len(l.results) != want {
		return fmt.Errorf("requests completed that nothing has woken: %d to go; want %d", len(l.results), want)
	}
	return nil
}

// collect waits for n completions and judges each.
func (l *left) collect(n int) error {
	if err := l.ring.Wait(uint32(n)); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	for range n {
		cqe, _ := l.ring.Take()
		result, pending := l.results[cqe.UserData]
		if !pending {
			return fmt.Errorf("an unexpected completion: %+v", cqe)
		}
		if cqe.Res != result {
			return fmt.Errorf("request %d: result %d; want %d", cqe.UserData, cqe.Res, result)
		}
		delete(l.results, cqe.UserData)
	}
	return nil
}

// end cancels what is still in flight.
func (l *left) end() {
	l.thread.run(func() error {
		if l.ring == nil {
			return nil
		}
		return l.ring.Close()
	})
	l.thread.end()
	for _, fd := range l.opened {
		unix.Close(fd)
	}
}

// completeElsewhere has requests that were taken on a CPU that is gone complete
// on another one, whose caches must then have them, and no other.
func (m *hotplug) completeElsewhere(l *left, cpu int, shrinking bool) {
	before, err := m.quiet()
	if err == nil && m.kept > 0 {
		m.note(checkRows, m.keptByNone(l))
	}
	if err == nil && shrinking && m.cached {
		m.note(checkShrink, m.unshrunk(before))
	}
	if err == nil {
		err = l.thread.run(func() error {
			if err := machine.Bind(cpu); err != nil {
				return err
			}
			return l.after()
		})
	}
	if !m.note(checkAfter, err) || !m.cached {
		return
	}
	after, err := m.quiet()
	if err != nil {
		m.note(checkFreed, err)
		return
	}
	for i, row := range before {
		want := row.Free + row.Avail
		if row.CPU == cpu && row.IRQ == 0 {
			// The removals are one at a time.
			want += leftPolls/2 + leftTimeouts + max(0, 1-row.Avail)
		}
		if row.CPU == cpu && row.IRQ == 1 {
			want += leftReads / 2
		}
		if got := after[i].Free + after[i].Avail; got != want {
			err = errors.Join(err, fmt.Errorf("%s, %d requests; want %d after %d and %d requests of another CPU completed on CPU %d; before:\n%s",
				after[i], got, want, leftPolls/2+leftTimeouts, leftReads/2, cpu, row))
		}
	}
	m.note(checkFreed, err)
}

// keptByNone checks that a CPU that has gone keeps nothing, where no counter shows what a
// CPU keeps: the shrinkers empty the caches of all that are there, and then only what
// is left in flight and the rings' own are in use. It wants no load.
func (m *hotplug) keptByNone(l *left) error {
	own, err := alloccache.IdleRequests()
	if err != nil {
		return err
	}
	// The idle ring, that of what is left, and the three loads'.
	const rings = 5
	want := rings*own + len(l.results)
	return machine.Await(time.Second, func() error {
		got, err := alloccache.InUse()
		if err == nil && got != want {
			err = fmt.Errorf("with a CPU offline and the caches of the others emptied, the slab has %d requests in use; want %d: %d in flight and %d of each of %d rings' own",
				got, want, len(l.results), own, rings)
		}
		return err
	})
}

// quiet reads the rows when nothing but what is left is in flight. A completion
// may be seen a moment before its request is freed, by an interrupt: that is
// over once another thread has run on its CPU.
func (m *hotplug) quiet() ([]alloccache.Row, error) {
	if !m.cached {
		return nil, nil
	}
	cpus, err := machine.OnlineCPUs()
	if err != nil {
		return nil, err
	}
	for _, cpu := range cpus {
		if err := machine.OnCPU(cpu, func() error { return nil }); err != nil {
			return nil, err
		}
	}
	return m.rows()
}

// unmoved runs f. When the load is to pause, the rows of these CPUs must not move
// meanwhile.
func (m *hotplug) unmoved(cpus []int, paused bool, f func() error) error {
	if !paused {
		return f()
	}
	m.load.Lock()
	defer m.load.Unlock()
	before, err := m.quiet()
	if err != nil {
		return err
	}
	if err := f(); err != nil || !m.cached {
		return err
	}
	after, err := m.rows()
	if err != nil {
		return err
	}
	var moved error
	for i, row := range before {
		if slices.Contains(cpus, row.CPU) && after[i] != row {
			moved = errors.Join(moved, fmt.Errorf("the row of a CPU that is not concerned moved from\n%s\nto\n%s", row, after[i]))
		}
	}
	m.note(checkOthers, moved)
	return nil
}

// roomToShrink says whether no cache has requests on its free list, nor will get
// any in this round.
//
// The shrinker runs against the end of a CPU's cache only then: with requests
// on the free list the posted patch walks it from both sides at once, without a
// lock on the CPU's side (io_uring_kill_ce), which corrupts it at times. That is
// for the program that looks for it; here every verdict must be the same each
// time.
func (m *hotplug) roomToShrink() bool {
	const room = alloccache.Max - 2*(left0+leaveBatch)
	if !m.cached {
		return true
	}
	rows, err := m.rows()
	return err == nil && !slices.ContainsFunc(rows, func(r alloccache.Row) bool { return r.Free != 0 || r.Avail > room })
}

// shrinkPause is between two calls for shrinking.
const shrinkPause = time.Millisecond

// startShrinking asks the kernel to free what it can until stop is called.
func (m *hotplug) startShrinking() (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if err := machine.DropSlab(); err != nil {
				m.note(checkShrink, err)
			}
			select {
			case <-quit:
				return
			case <-time.After(shrinkPause):
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

// unshrunk asks the kernel to shrink once more and checks that nothing moves:
// there is nothing on the free lists, and what is available stays.
func (m *hotplug) unshrunk(before []alloccache.Row) error {
	if err := machine.DropSlab(); err != nil {
		return err
	}
	after, err := m.rows()
	if err != nil || slices.Equal(before, after) {
		return err
	}
	return fmt.Errorf("shrinking moved the rows from\n%vto\n%v", before, after)
}

// thread is bound to a CPU, for as long as that is there, and runs what it is
// given.
type thread struct {
	work   chan func() error
	result chan error
	ended  chan error
}

func startThread(cpu int) *thread {
	t := &thread{work: make(chan func() error), result: make(chan error), ended: make(chan error, 1)}
	go func() {
		t.ended <- machine.OnCPU(cpu, func() error {
			for f := range t.work {
				t.result <- f()
			}
			return nil
		})
	}()
	return t
}

func (t *thread) run(f func() error) error {
	select {
	case t.work <- f:
		return <-t.result
	case err := <-t.ended:
		return fmt.Errorf("the thread has ended: %w", err)
	}
}

func (t *thread) end() { close(t.work) }
