//go:build linux

package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

// limit is when a check counts as a hang; each takes milliseconds, also on an
// emulated CPU.
const limit = 2 * time.Second

// maxEntries makes a ring that spans many pages; 5.10 allows eight times as many
// (IORING_MAX_ENTRIES).
const maxEntries = 4096

var batches = []uint32{1, 2, 16, 32, 128, 256, maxEntries}

func run(t *report.T) {
	for _, n := range batches {
		t.Within(limit, fmt.Sprintf("batch-%d", n), func() error { return batch(n, uring.Params{}, nil) })
	}
	var lost atomic.Int64
	for _, n := range batches {
		// The idle time is short, so that the thread also sleeps and is woken.
		params := uring.Params{Flags: uring.SetupSQPoll, SQThreadIdle: 1}
		t.Within(limit, fmt.Sprintf("sqpoll-%d", n), func() error { return batch(n, params, &lost) })
	}
	t.Metric("sqpoll-lost-wakeups", float64(lost.Load()), "times", nil)
	t.Check("sqpoll-wakeup", wakeups(lost.Load()))
	t.Within(limit, "submit-more-than-ring", submitMoreThanRing)
	t.Within(limit, "submit-invalid-index", submitInvalidIndex)
	t.Within(limit, "cq-full", cqFull)
}

// userData makes the n-th mark: no two are alike, all 64 bits are in use.
func userData(n uint64) uint64 { return (n + 1) * 0x9e3779b97f4a7c15 }

// queueNops fills in n NOPs marked from first on.
func queueNops(r *uring.Ring, first uint64, n uint32) error {
	for i := range n {
		sqe := r.Next()
		if sqe == nil {
			return fmt.Errorf("the submission ring was full after %d of %d entries", i, n)
		}
		sqe.Opcode = uring.OpNop
		sqe.UserData = userData(first + uint64(i))
	}
	return nil
}

// takeNops takes n completions and checks each: the marks from first on, in
// the order of submission, with result 0 and no flags.
func takeNops(r *uring.Ring, first uint64, n uint32) error {
	for i := range uint64(n) {
		got, ok := r.Take()
		if !ok {
			return fmt.Errorf("completion %d of %d is missing", i, n)
		}
		want := uring.CQE{UserData: userData(first + i)}
		if got != want {
			return fmt.Errorf("completion %d of %d: got user_data %#x res %d flags %#x; want user_data %#x res 0 flags 0",
				i, n, got.UserData, got.Res, got.Flags, want.UserData)
		}
	}
	return nil
}

// nothingLost checks the ring's counters and that no completion is left over.
func nothingLost(r *uring.Ring) error {
	if cqe, ok := r.Take(); ok {
		return fmt.Errorf("a completion too many: %+v", cqe)
	}
	if r.Dropped() != 0 || r.Overflow() != 0 {
		return fmt.Errorf("%d submissions were dropped, %d completions overflowed; want 0 and 0", r.Dropped(), r.Overflow())
	}
	return nil
}

// wakeups checks that the kernel's thread does not make a habit of sleeping beside
// entries that it was shown. Now and then it does: v5.10 looks for entries before
// it sets IORING_SQ_NEED_WAKEUP, and one run in 70 meets the moment in between
// (uring.Ring.LostWakeups). A verdict must not hang on that, so the count is a
// metric; a kernel that misses one entry per ring, as often as it is made to
// sleep, does so by rule.
func wakeups(lost int64) error {
	if lost >= int64(len(batches)) {
		return fmt.Errorf("%d times, with %d rings, the kernel's thread went to sleep without seeing entries published while it was awake", lost, len(batches))
	}
	return nil
}

// batch submits n NOPs at once into a ring of n entries, again and again, so
// that both rings wrap. It adds the wake-ups that the kernel lost to lost.
func batch(n uint32, params uring.Params, lost *atomic.Int64) (err error) {
	r, err := uring.New(n, params)
	if err != nil {
		return err
	}
	defer func() {
		if lost != nil {
			lost.Add(int64(r.LostWakeups))
		}
		err = errors.Join(err, r.Close())
	}()
	const rounds = 5
	for round := range uint64(rounds) {
		first := round * uint64(n)
		if err := queueNops(r, first, n); err != nil {
			return err
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
		if err := takeNops(r, first, n); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if params.Flags&uring.SetupSQPoll != 0 && round == rounds/2 {
			time.Sleep(5 * time.Millisecond) // lets the kernel's thread fall asleep
		}
	}
	return nothingLost(r)
}

// submitMoreThanRing publishes and submits more entries than the ring has:
// the kernel takes one ring full and no more (io_submit_sqes clamps).
func submitMoreThanRing() (err error) {
	const n = 64
	r, err := uring.New(n, uring.Params{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := queueNops(r, 0, n); err != nil {
		return err
	}
	if sqe := r.Next(); sqe != nil {
		return fmt.Errorf("the ring of %d gave out an entry more", n)
	}
	r.Publish()
	consumed, err := uring.Enter(r.FD, n+17, n, uring.EnterGetEvents)
	if err != nil {
		return err
	}
	if consumed != n {
		return fmt.Errorf("the kernel took %d entries; want %d", consumed, n)
	}
	if err := takeNops(r, 0, n); err != nil {
		return err
	}
	return nothingLost(r)
}

// submitInvalidIndex submits an index beyond the ring: it must be counted as
// dropped and nothing else may happen. It also shows that the counter which
// the other checks want at 0 does count.
func submitInvalidIndex() (err error) {
	const n = 8
	r, err := uring.New(n, uring.Params{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := queueNops(r, 0, n); err != nil {
		return err
	}
	r.Array[n/2] = n + 1000
	// The kernel stops at the bad entry and leaves the rest for the next call.
	consumed, err := r.Submit()
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if consumed != n/2 || r.Dropped() != 1 {
		return fmt.Errorf("the kernel took %d entries and dropped %d; want %d and 1", consumed, r.Dropped(), n/2)
	}
	if consumed, err = r.Submit(); err != nil || consumed != n/2-1 {
		return fmt.Errorf("after the bad index the kernel took %d entries (error %v); want %d", consumed, err, n/2-1)
	}
	if err := takeNops(r, 0, n/2); err != nil {
		return err
	}
	if err := takeNops(r, n/2+1, n/2-1); err != nil {
		return err
	}
	if cqe, ok := r.Take(); ok {
		return fmt.Errorf("a completion too many: %+v", cqe)
	}
	return nil
}

// cqFull lets a ring of 4096 entries complete three times as often without
// taking anything, one batch more than its completion ring of 8192 holds. The
// kernel must keep the excess (IORING_FEAT_NODROP), refuse more with EBUSY or keep
// that, too (uring.OverfullRingTakes), and hand everything out in order.
func cqFull() (err error) {
	takes, err := uring.Has(uring.OverfullRingTakes)
	if err != nil {
		return err
	}
	r, err := uring.New(maxEntries, uring.Params{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if r.Params.CQEntries != 2*maxEntries {
		return fmt.Errorf("a ring of %d entries has %d completions; want %d", maxEntries, r.Params.CQEntries, 2*maxEntries)
	}
	if r.Params.Features&uring.FeatNoDrop == 0 {
		return errors.New("the kernel does not promise IORING_FEAT_NODROP")
	}
	for i := range uint64(3) {
		if err := queueNops(r, i*maxEntries, maxEntries); err != nil {
			return err
		}
		if consumed, err := r.Submit(); err != nil || consumed != maxEntries {
			return fmt.Errorf("batch %d: the kernel took %d of %d entries (error %v)", i, consumed, maxEntries, err)
		}
	}
	// The flag is of v5.8; no feature tells of it, the next one's does.
	flagged := r.Params.Features&uring.FeatPoll32Bits != 0
	if flagged && r.SQFlags()&uring.SQCQOverflow == 0 {
		return errors.New("the completion ring is overfull but IORING_SQ_CQ_OVERFLOW is not set")
	}
	if err := queueNops(r, 3*maxEntries, 1); err != nil {
		return err
	}
	kept := uint32(maxEntries)
	switch consumed, err := r.Submit(); {
	case err == unix.EBUSY && takes != uring.After:
	case err == nil && consumed == 1 && takes != uring.Before:
		kept++
	case takes == uring.After:
		return fmt.Errorf("submit into an overfull ring: %d entries, error %v; want 1", consumed, err)
	default:
		return fmt.Errorf("submit into an overfull ring: %d entries, error %v; want %v", consumed, err, unix.EBUSY)
	}
	if err := takeNops(r, 0, 2*maxEntries); err != nil {
		return err
	}
	if err := r.Wait(kept); err != nil {
		return fmt.Errorf("wait for the completions that the kernel kept: %w", err)
	}
	if err := takeNops(r, 2*maxEntries, kept); err != nil {
		return fmt.Errorf("completions that the kernel kept: %w", err)
	}
	if r.SQFlags()&uring.SQCQOverflow != 0 {
		return errors.New("IORING_SQ_CQ_OVERFLOW is still set after everything was taken")
	}
	// What was refused is still there.
	next := 2*maxEntries + uint64(kept)
	if kept > maxEntries {
		if err := queueNops(r, next, 1); err != nil {
			return err
		}
	}
	if consumed, err := r.Submit(); err != nil || consumed != 1 {
		return fmt.Errorf("submit after the overflow: %d entries, error %v; want 1", consumed, err)
	}
	if err := takeNops(r, next, 1); err != nil {
		return err
	}
	return nothingLost(r)
}
