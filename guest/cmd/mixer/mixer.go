//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// Without options, the stream is this one, so that a verdict is the same each time.
const (
	defaultSeed  = 1
	defaultCount = 12_000
)

// roundLimit is when a round counts as stuck.
const roundLimit = 2 * time.Second

// limit is when a ring's stream counts as a hang.
const limit = 20 * time.Second

// lanes are the rings, each with a thread that is bound to a CPU.
var lanes = []struct {
	name string
	kind ringKind
	cpu  int
}{
	{"plain-0", plain, 0},
	{"plain-1", plain, 1},
	{"sqpoll", sqpoll, 0},
	{"iopoll", iopoll, 1},
}

func run(t *report.T) {
	seed, err := number("patchproof.seed", defaultSeed)
	if err != nil {
		t.Error("setup", err)
		return
	}
	count, err := number("patchproof.count", defaultCount)
	if err != nil {
		t.Error("setup", err)
		return
	}
	t.Metric("seed", float64(seed), "seed", nil)
	t.Logf("patchproof.seed=%d patchproof.count=%d", seed, count)
	k, err := uring.Probe()
	if err != nil {
		t.Error("setup", err)
		return
	}
	m, err := newWorld()
	if err != nil {
		t.Error("setup", err)
		return
	}
	var all sync.WaitGroup
	var submitted, closed atomic.Int64
	for i, l := range lanes {
		s := newStream(k, uint64(seed), i, l.kind, count/len(lanes))
		all.Go(func() {
			t.Within(limit, l.name, func() error {
				return machine.OnCPU(l.cpu, func() error {
					n := &lane{world: m, stream: s, drainStays: k.Has(uring.DrainStays) != uring.Before}
					err := n.run()
					submitted.Add(int64(n.submitted))
					closed.Add(int64(n.closed))
					if err != nil {
						return fmt.Errorf("seed %d: %w", seed, err)
					}
					// As a figure in JSON has 53 bits.
					t.Metric("stream", float64(s.hash>>11), "hash", map[string]string{"ring": l.name})
					return nil
				})
			})
		})
	}
	all.Wait()
	t.Metric("submitted", float64(submitted.Load()), "entries", nil)
	t.Metric("closed", float64(closed.Load()), "rings", nil)
	t.Within(limit, "accounted", func() error { return alloccache.AllAccounted(roundLimit) })
	t.Within(limit, "works-after", func() error { return uring.RunOnEveryCPU(alloccache.Max) })
}

// number reads a number from the kernel command line.
func number(key string, without int) (int, error) {
	value, ok := machine.BootOption(key)
	if !ok {
		return without, nil
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s=%q is no number", key, value)
	}
	return int(n), nil
}

// world is what the entries of all rings are about.
type world struct {
	disk, tmpfs int
	// data, hour and vector are what the addresses are called.
	data, hour, vector []byte
}

const dir = "/tmp/mixer"

func newWorld() (*world, error) {
	m := &world{}
	var err error
	if m.disk, err = machine.OpenDisk(machine.NVMe); err != nil {
		return nil, err
	}
	if err := machine.NVMePolls(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	if m.tmpfs, err = unix.Open(dir+"/file", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600); err != nil {
		return nil, err
	}
	if m.data, err = machine.Buffer(1 << 20); err != nil {
		return nil, err
	}
	if n, err := unix.Pwrite(m.tmpfs, m.data[:2*blocks*block], 0); err != nil || n != 2*blocks*block {
		return nil, fmt.Errorf("fill a file: %d bytes written (error %v)", n, err)
	}
	constants, err := machine.Buffer(2 * block)
	if err != nil {
		return nil, err
	}
	m.hour, m.vector = constants[:block], constants[block:]
	*(*unix.Timespec)(uring.Pointer(m.hour)) = unix.NsecToTimespec(int64(time.Hour))
	*(*unix.Iovec)(uring.Pointer(m.vector)) = unix.Iovec{Base: &m.data[0], Len: block}
	return m, nil
}

// lane is one ring at a time and its stream, on a thread of its own.
type lane struct {
	*world
	stream     *stream
	ring       *uring.Ring
	drainStays bool
	// rings, submitted and closed count; slots of the ring's array are taken in order.
	rings, submitted, closed int
	slot, dropped            uint32
	pipe, socket             [2]int
	wants                    map[uint64]func(int32) bool
	// openers are the entries whose result may be a descriptor.
	openers map[uint64]bool
}

// slots is the size of the rings: more than a round and its cancellations.
const slots = 64

func (l *lane) run() error {
	defer func() {
		for _, fd := range append(l.pipe[:], l.socket[:]...) {
			unix.Close(fd)
		}
	}()
	if err := unix.Pipe2(l.pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	var err error
	if l.socket, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := l.open(); err != nil {
		return err
	}
	for n := 1; ; n++ {
		r, ok := l.stream.next()
		if !ok {
			return l.ring.Close()
		}
		if err := l.round(r); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		if r.Draining && l.drainStays {
			// A cancellation could wait for what it is to cancel.
			if err := l.ring.Close(); err != nil {
				return err
			}
			if err := l.restart(); err != nil {
				return err
			}
		}
	}
}

// open makes the ring.
func (l *lane) open() (err error) {
	params := map[ringKind]uring.Params{
		sqpoll: {Flags: uring.SetupSQPoll | uring.SetupSQAff, SQThreadCPU: 1, SQThreadIdle: 1},
		iopoll: {Flags: uring.SetupIOPoll},
	}[l.stream.kind]
	if l.ring, err = uring.New(slots, params); err != nil {
		return err
	}
	l.rings++
	l.slot, l.dropped = 0, 0
	buffer := unix.Iovec{Base: &l.data[0], Len: uint64(len(l.data))}
	if _, err := uring.Register(l.ring.FD, uring.RegisterBuffers, unsafe.Pointer(&buffer), 1); err != nil {
		return fmt.Errorf("register a buffer: %w", err)
	}
	return l.ring.Files([]int32{tmpfs: int32(l.tmpfs), disk: int32(l.disk), noFile: -1, badFile: -1})
}

// round submits a round and judges its completions.
func (l *lane) round(r round) error {
	l.wants, l.openers = map[uint64]func(int32) bool{}, map[uint64]bool{}
	for i, e := range r.Entries {
		l.put(r, i, e)
	}
	if err := l.submit(); err != nil {
		return err
	}
	if r.Closing {
		// Not all is waited for.
		if err := l.reap(r); err != nil {
			return err
		}
		l.closed++
		if err := l.ring.Close(); err != nil {
			return err
		}
		return l.restart()
	}
	deadline := time.Now().Add(machine.Patience(roundLimit))
	for turn := 0; ; turn++ {
		if err := l.reap(r); err != nil {
			return err
		}
		if len(l.wants) == 0 {
			break
		}
		switch l.stream.kind {
		case plain:
			if err := l.wake(r, turn); err != nil {
				return err
			}
		case sqpoll:
			// v5.10.13's thread sleeps beside what goes on after an interrupt
			// (io_req_task_work_add, io_sq_thread).
			if _, err := uring.Enter(l.ring.FD, 1, 0, uring.EnterSQWakeup); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("wake the kernel's thread: %w", err)
			}
		}
		if time.Now().After(deadline) {
			return l.stuck(r)
		}
		time.Sleep(20 * time.Microsecond)
	}
	if got := l.ring.Dropped(); got != l.dropped {
		return fmt.Errorf("the kernel dropped %d submissions; want %d, those with an index beyond the ring", got, l.dropped)
	}
	if n := l.ring.Overflow(); n != 0 {
		return fmt.Errorf("%d completions overflowed; want none", n)
	}
	return l.drain()
}

// stuck says what has not completed.
func (l *lane) stuck(r round) error {
	var left []string
	for id := range l.wants {
		if i := int(uint32(id)); i < canceller {
			left = append(left, fmt.Sprintf("entry %d: %+v", i, r.Entries[i]))
		}
	}
	slices.Sort(left)
	return fmt.Errorf("after %v, %d of %d entries and cancellations had not completed:\n%s\n%s",
		machine.Patience(roundLimit), len(l.wants), len(r.Entries), strings.Join(left, "\n"), machine.StuckTasks())
}

// restart goes on with a new ring and without what was sent to the old one.
func (l *lane) restart() error {
	if err := l.drain(); err != nil {
		return err
	}
	return l.open()
}

// drain empties the pipe and the socket, on which the next round waits.
func (l *lane) drain() error {
	var b [block]byte
	for {
		n, err := unix.Read(l.pipe[0], b[:])
		if n <= 0 && err != unix.EINTR {
			break
		}
	}
	for {
		n, _, err := unix.Recvfrom(l.socket[0], b[:], unix.MSG_DONTWAIT)
		if n <= 0 && err != unix.EINTR {
			break
		}
	}
	return nil
}

// put adds an entry to the ring.
func (l *lane) put(r round, i int, e entry) {
	id := uint64(l.rings)<<32 | uint64(i)
	sqe := l.next()
	sqe.Opcode, sqe.Flags, sqe.IOPrio, sqe.Off, sqe.Len = e.Opcode, e.Flags, e.IOPrio, e.Off, e.Len
	sqe.OpFlags, sqe.BufIndex, sqe.Personality, sqe.UserData = e.OpFlags, e.BufIndex, e.Personality, id
	// Elsewhere the field is another one, or must be zero.
	if e.Opcode == opSplice || e.Opcode == opTee {
		sqe.SpliceFDIn = -1
	}
	sqe.FD = l.descriptor(e.File)
	switch {
	case e.File == unlisted:
		sqe.FD, sqe.Flags = 1000, sqe.Flags|uring.SQEFixedFile
	case l.stream.kind == sqpoll && (e.File == tmpfs || e.File == disk):
		// v5.10's SQPOLL takes no other.
		sqe.FD, sqe.Flags = int32(e.File), sqe.Flags|uring.SQEFixedFile
	}
	sqe.Addr = map[address]uint64{
		unmapped: 0x1000, kernel: 0xffff888000000000,
		data: uring.Address(l.data), hour: uring.Address(l.hour), vector: uring.Address(l.vector),
	}[e.Addr]
	if e.Kind == cancels {
		sqe.Addr = nobody
		if v := int(e.Victim); v >= len(r.Entries) || !r.Entries[v].hashed() {
			sqe.Addr = uint64(l.rings)<<32 | uint64(v)
		}
	}
	if e.Dropped {
		l.ring.Array[(l.slot-1)%slots] = slots + uint32(e.Off)%(1<<31)
		l.dropped++
		return
	}
	l.submitted++
	l.wants[id] = r.allowed(i)
	if l.stream.kind == iopoll {
		l.wants[id] = polled(r, i)
	}
	l.openers[id] = e.Kind == junk && (e.Opcode == opOpenat || e.Opcode == opOpenat2 || e.Opcode == opAccept)
}

// polled is what is allowed on a ring with IOPOLL, which refuses almost
// everything.
func polled(r round, i int) func(int32) bool {
	allowed := r.allowed(i)
	return func(res int32) bool {
		return allowed(res) || res == -int32(unix.EINVAL) || res == -int32(unix.EOPNOTSUPP)
	}
}

// next is the ring's next entry, with its own index in the array.
func (l *lane) next() *uring.SQE {
	sqe := l.ring.Next()
	l.ring.Array[l.slot%slots] = l.slot % slots
	l.slot++
	return sqe
}

func (l *lane) descriptor(f file) int32 {
	switch f {
	case badFile:
		return 9999
	case tmpfs:
		return int32(l.tmpfs)
	case disk:
		return int32(l.disk)
	case pipe:
		return int32(l.pipe[0])
	case socket:
		return int32(l.socket[0])
	}
	return -1
}

// submit gives the kernel all entries: it stops at each that it refuses.
func (l *lane) submit() error {
	for l.ring.Publish() > 0 {
		if _, err := l.ring.Submit(); err != nil {
			return fmt.Errorf("submit: %w", err)
		}
		if l.stream.kind == sqpoll {
			return l.ring.Wait(0)
		}
	}
	return nil
}

// reap judges the completions that are there.
func (l *lane) reap(r round) error {
	if l.stream.kind != sqpoll {
		if _, err := uring.Enter(l.ring.FD, 0, 0, uring.EnterGetEvents); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
	}
	for cqe, ok := l.ring.Take(); ok; cqe, ok = l.ring.Take() {
		allowed := l.wants[cqe.UserData]
		if allowed == nil {
			return fmt.Errorf("completion %+v is of no entry, or the second of one", cqe)
		}
		delete(l.wants, cqe.UserData)
		if i := int(uint32(cqe.UserData)); !allowed(cqe.Res) {
			if i >= canceller {
				return fmt.Errorf("cancellation: result %d", cqe.Res)
			}
			return fmt.Errorf("entry %d of %d: result %d is none that it may have: %+v", i, len(r.Entries), cqe.Res, r.Entries[i])
		}
		if l.openers[cqe.UserData] && cqe.Res >= 0 {
			unix.Close(int(cqe.Res))
		}
	}
	return nil
}

// canceller is the first number of cancellations that are not the stream's.
const canceller = 1 << 16

// nobody is the user_data of no entry.
const nobody = ^uint64(0)

// wake brings what waits to an end: something comes, and then, unless that would
// wait as well, it is canceled.
func (l *lane) wake(r round, turn int) error {
	unix.Write(l.pipe[1], []byte{1})
	unix.Sendto(l.socket[1], make([]byte, 64), unix.MSG_DONTWAIT, nil)
	if turn == 0 || r.Draining {
		return nil
	}
	for id := range l.wants {
		if uint32(id) >= canceller || len(l.wants) >= slots || r.Entries[uint32(id)].hashed() {
			continue
		}
		number := uint64(l.rings)<<32 | uint64(canceller+turn*slots) + id&(slots-1)
		if l.wants[number] != nil {
			continue
		}
		sqe := l.next()
		sqe.Opcode, sqe.FD, sqe.Addr, sqe.UserData = uring.OpAsyncCancel, -1, id, number
		l.wants[number] = func(res int32) bool {
			return res == 0 || res == -int32(unix.ENOENT) || res == -int32(unix.EALREADY)
		}
	}
	return l.submit()
}
