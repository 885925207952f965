//go:build linux

package uring

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
)

// Ring is an io_uring instance with its rings mapped. It is for one goroutine
// at a time.
type Ring struct {
	FD     int
	Params Params
	// SQEs are the submission entries. Next hands them out in order; a program
	// may also fill them in by hand and Publish.
	SQEs []SQE
	// Array is the submission ring proper: slot tail&mask holds the index of
	// the entry to submit. It starts out as the identity.
	Array []uint32

	sqRing, cqRing, sqeMem []byte

	sqHead, sqTail, sqFlags, sqDropped *uint32
	cqHead, cqTail, cqOverflow         *uint32
	sqMask, cqMask                     uint32
	cqes                               []CQE

	// tail is where Next continues; the kernel sees it after Publish.
	tail uint32
	// woken says that Submit has woken the kernel's thread for what it published.
	woken bool
	// LostWakeups counts how often the kernel's thread went to sleep beside
	// entries that were published while it said to be awake. v5.10 looks for
	// entries before it sets IORING_SQ_NEED_WAKEUP (__io_sq_thread and
	// io_sq_thread), so that an entry published in between waits for ever. Wait
	// wakes the thread then.
	LostWakeups int
}

// New sets up a ring of at least entries submissions and maps it. Of params
// only the input fields count.
func New(entries uint32, params Params) (*Ring, error) {
	fd, err := Setup(entries, &params)
	if err != nil {
		return nil, fmt.Errorf("io_uring_setup(%d entries, flags %#x): %w", entries, params.Flags, err)
	}
	r := &Ring{FD: fd, Params: params}
	if err := r.mmap(); err != nil {
		r.Close()
		return nil, fmt.Errorf("map the rings: %w", err)
	}
	return r, nil
}

func (r *Ring) mmap() (err error) {
	p := &r.Params
	at := func(offset int64, size uint32) []byte {
		if err != nil {
			return nil
		}
		var mem []byte
		mem, err = unix.Mmap(r.FD, offset, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		return mem
	}
	r.sqRing = at(offSQRing, p.SQOff.Array+p.SQEntries*4)
	r.cqRing = at(offCQRing, p.CQOff.CQEs+p.CQEntries*uint32(unsafe.Sizeof(CQE{})))
	r.sqeMem = at(offSQEs, p.SQEntries*uint32(unsafe.Sizeof(SQE{})))
	if err != nil {
		return err
	}
	word := func(ring []byte, offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&ring[offset])) }
	r.sqHead, r.sqTail = word(r.sqRing, p.SQOff.Head), word(r.sqRing, p.SQOff.Tail)
	r.sqFlags, r.sqDropped = word(r.sqRing, p.SQOff.Flags), word(r.sqRing, p.SQOff.Dropped)
	r.cqHead, r.cqTail = word(r.cqRing, p.CQOff.Head), word(r.cqRing, p.CQOff.Tail)
	r.cqOverflow = word(r.cqRing, p.CQOff.Overflow)
	r.sqMask, r.cqMask = *word(r.sqRing, p.SQOff.RingMask), *word(r.cqRing, p.CQOff.RingMask)
	r.Array = unsafe.Slice(word(r.sqRing, p.SQOff.Array), p.SQEntries)
	r.SQEs = unsafe.Slice((*SQE)(unsafe.Pointer(&r.sqeMem[0])), p.SQEntries)
	r.cqes = unsafe.Slice((*CQE)(unsafe.Pointer(&r.cqRing[p.CQOff.CQEs])), p.CQEntries)
	for i := range r.Array {
		r.Array[i] = uint32(i)
	}
	return nil
}

// Close unmaps the rings and closes the descriptor. The kernel tears the ring
// down only when both are gone, and after Close has returned.
func (r *Ring) Close() error {
	for _, mem := range [][]byte{r.sqRing, r.cqRing, r.sqeMem} {
		if mem == nil {
			continue
		}
		if err := unix.Munmap(mem); err != nil {
			return err
		}
	}
	*r = Ring{FD: r.FD}
	return unix.Close(r.FD)
}

// Next returns the next free submission entry, zeroed, or nil when the ring
// is full.
func (r *Ring) Next() *SQE {
	if r.tail-atomic.LoadUint32(r.sqHead) >= r.Params.SQEntries {
		return nil
	}
	sqe := &r.SQEs[r.tail&r.sqMask]
	*sqe = SQE{}
	r.tail++
	return sqe
}

// Publish shows the kernel the entries that Next handed out, and returns how
// many it has not consumed yet. With SetupSQPoll that alone submits them as
// long as the kernel's thread is awake.
func (r *Ring) Publish() uint32 {
	atomic.StoreUint32(r.sqTail, r.tail)
	return r.tail - atomic.LoadUint32(r.sqHead)
}

// Submit publishes and submits everything that Next handed out; it returns
// how many entries the kernel consumed. With SetupSQPoll it wakes the kernel's
// thread when needed and returns at once how many it published: the thread may
// have consumed some, or all, by then.
func (r *Ring) Submit() (consumed int, err error) {
	if r.Params.Flags&SetupSQPoll == 0 {
		return r.enter(r.Publish(), 0, 0)
	}
	published := r.tail - atomic.LoadUint32(r.sqTail)
	pending := r.Publish()
	r.woken = pending > 0 && r.SQFlags()&SQNeedWakeup != 0
	if r.woken {
		if err := r.wake(pending); err != nil {
			return 0, err
		}
	}
	return int(published), nil
}

// wake wakes the kernel's thread for pending entries, of which there must be some:
// to 0 of them v5.10.13 answers EOWNERDEAD, the value that its io_uring_enter left
// in ret.
func (r *Ring) wake(pending uint32) error {
	_, err := r.enter(pending, 0, EnterSQWakeup)
	return err
}

// Wait returns when at least n completions are ready to be taken. With
// SetupSQPoll it also waits until the kernel has given back the entries that
// it was shown, which it does after their completions (io_submit_sqes).
func (r *Ring) Wait(n uint32) error {
	if r.Params.Flags&SetupSQPoll != 0 {
		return r.waitPolled(n)
	}
	for r.Ready() < n {
		// A signal to this thread (the Go runtime sends SIGURG) ends the wait
		// early without an error of its own, hence the loop.
		if _, err := r.enter(0, n, EnterGetEvents); err != nil {
			return err
		}
	}
	return nil
}

// waitPolled watches the rings, because a wait inside the kernel would not end
// after a lost wake-up.
func (r *Ring) waitPolled(n uint32) error {
	for {
		pending := atomic.LoadUint32(r.sqTail) - atomic.LoadUint32(r.sqHead)
		if pending == 0 && r.Ready() >= n {
			return nil
		}
		if pending > 0 && !r.woken && r.asleep() {
			r.LostWakeups++
			r.woken = true
			if err := r.wake(pending); err != nil {
				return err
			}
		}
		time.Sleep(20 * time.Microsecond)
	}
}

// asleep says whether the kernel's thread sleeps although entries are pending.
// A kernel that looks for entries once more after it has raised the flag shows
// the same for a moment, hence the second look.
func (r *Ring) asleep() bool {
	head := atomic.LoadUint32(r.sqHead)
	if r.SQFlags()&SQNeedWakeup == 0 {
		return false
	}
	time.Sleep(20 * time.Millisecond)
	return r.SQFlags()&SQNeedWakeup != 0 && atomic.LoadUint32(r.sqHead) == head && head != atomic.LoadUint32(r.sqTail)
}

func (r *Ring) enter(submit, wait, flags uint32) (int, error) {
	for {
		n, err := Enter(r.FD, submit, wait, flags)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Ready is the number of completions that Take can return.
func (r *Ring) Ready() uint32 { return atomic.LoadUint32(r.cqTail) - atomic.LoadUint32(r.cqHead) }

// Take returns the next completion and frees its slot.
func (r *Ring) Take() (cqe CQE, ok bool) {
	head := atomic.LoadUint32(r.cqHead)
	if head == atomic.LoadUint32(r.cqTail) {
		return CQE{}, false
	}
	cqe = r.cqes[head&r.cqMask]
	atomic.StoreUint32(r.cqHead, head+1)
	return cqe, true
}

// SQFlags are the flags that the kernel sets for the program: SQNeedWakeup,
// SQCQOverflow.
func (r *Ring) SQFlags() uint32 { return atomic.LoadUint32(r.sqFlags) }

// Dropped counts submissions whose index in Array was invalid.
func (r *Ring) Dropped() uint32 { return atomic.LoadUint32(r.sqDropped) }

// Overflow counts completions that were lost because the ring was full and
// the kernel had no memory to keep them.
func (r *Ring) Overflow() uint32 { return atomic.LoadUint32(r.cqOverflow) }

// Files registers a set of files; -1 leaves a slot empty.
func (r *Ring) Files(fds []int32) error {
	_, err := r.register(RegisterFiles, unsafe.Pointer(&fds[0]), uint32(len(fds)))
	return err
}

// UpdateFiles replaces registered files from slot offset on, -1 empties a
// slot; it returns how many slots were changed.
func (r *Ring) UpdateFiles(offset uint32, fds []int32) (int, error) {
	var pin runtime.Pinner
	pin.Pin(&fds[0])
	defer pin.Unpin()
	update := FilesUpdate{Offset: offset, FDs: uint64(uintptr(unsafe.Pointer(&fds[0])))}
	return r.register(RegisterFilesUpdate, unsafe.Pointer(&update), uint32(len(fds)))
}

// UnregisterFiles drops all registered files.
func (r *Ring) UnregisterFiles() error {
	_, err := r.register(UnregisterFiles, nil, 0)
	return err
}

// EventFD has the kernel count completions in an eventfd(2): all of them, or
// with RegisterEventFDAsync only those that a worker thread brings about.
func (r *Ring) EventFD(op uint32, fd int) error {
	arg := int32(fd)
	_, err := r.register(op, unsafe.Pointer(&arg), 1)
	return err
}

func (r *Ring) register(op uint32, arg unsafe.Pointer, n uint32) (int, error) {
	return Register(r.FD, op, arg, n)
}

// Pointer is where b starts. b must not be in Go's heap (machine.Buffer), or
// be kept alive until the kernel is done with it.
func Pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// Address is Pointer(b) as an entry's Addr wants it.
func Address(b []byte) uint64 { return uint64(uintptr(Pointer(b))) }

// Run puts n requests of one kind through the idle ring, all at once, and
// checks that every one completes once, with the result want. fill gets the
// entries one by one, their UserData being 0 to n-1; flags is set on all but
// the last.
func (r *Ring) Run(n uint32, flags uint8, fill func(*SQE), want int32) error {
	for i := range n {
		sqe := r.Next()
		if sqe == nil {
			return fmt.Errorf("the submission ring was full after %d of %d entries", i, n)
		}
		sqe.UserData = uint64(i)
		fill(sqe)
		if i < n-1 {
			sqe.Flags |= flags
		}
	}
	consumed, err := r.Submit()
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if consumed != int(n) {
		return fmt.Errorf("the kernel took %d of %d entries", consumed, n)
	}
	if err := r.Wait(n); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	seen := make([]bool, n)
	for range n {
		cqe, _ := r.Take()
		if cqe.UserData >= uint64(n) || seen[cqe.UserData] {
			return fmt.Errorf("an unexpected completion: %+v", cqe)
		}
		seen[cqe.UserData] = true
		if cqe.Res != want {
			return fmt.Errorf("request %d of %d: result %d; want %d", cqe.UserData, n, cqe.Res, want)
		}
	}
	if cqe, ok := r.Take(); ok {
		return fmt.Errorf("a completion too many: %+v", cqe)
	}
	return nil
}

// With runs f with a ring of entries submissions, and closes it. It keeps the
// goroutine on one thread: on v5.10 a thread that used a ring holds it until it
// closes the ring itself, as the last one that does, or ends (io_uring_add_task_file,
// io_uring_flush), and threads of the runtime do not end.
func With(entries uint32, params Params, f func(*Ring) error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r, err := New(entries, params)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return f(r)
}

// RunOnEveryCPU runs a chain of n NOPs on each CPU that is online.
func RunOnEveryCPU(n uint32) error {
	cpus, err := machine.OnlineCPUs()
	if err != nil {
		return err
	}
	for _, cpu := range cpus {
		err := machine.OnCPU(cpu, func() error {
			return With(n, Params{}, func(r *Ring) error { return r.Run(n, SQELink, Nop, 0) })
		})
		if err != nil {
			return fmt.Errorf("CPU %d: %w", cpu, err)
		}
	}
	return nil
}
