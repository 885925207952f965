//go:build linux

package main

import (
	"fmt"

	"patchproof/guest/uring"
)

// flight is the requests of one check on one ring: it gives them their
// user_data and knows which results they may complete with.
type flight struct {
	*uring.Ring
	// tag is the upper half of every user_data, another one in each flight, so
	// that a completion of a request of an earlier check is told from this one's.
	tag  uint64
	want [][]int32
	// submitted counts the requests that the kernel has taken.
	submitted int
	// done are the completions by request, order the requests as they completed.
	done  map[int]uring.CQE
	order []int
}

// flights counts them.
var flights uint64

func newFlight(r *uring.Ring) *flight {
	flights++
	return &flight{Ring: r, tag: flights << 32, done: map[int]uring.CQE{}}
}

// id is the user_data of request i.
func (f *flight) id(i int) uint64 { return f.tag | uint64(i) }

// add puts a request on the submission ring. It may complete with any of the results.
func (f *flight) add(sqe uring.SQE, results ...int32) {
	sqe.UserData = f.id(len(f.want))
	*f.Next() = sqe // the rings are larger than any check needs
	f.want = append(f.want, results)
}

// chain adds requests with every one but the last linked to the next.
func (f *flight) chain(sqes []uring.SQE, results []int32) {
	for i, sqe := range sqes {
		if i < len(sqes)-1 && sqe.Flags&uring.SQEHardLink == 0 {
			sqe.Flags |= uring.SQELink
		}
		f.add(sqe, results[i])
	}
}

// submit submits what was added.
func (f *flight) submit() error {
	n := len(f.want) - f.submitted
	consumed, err := f.Submit()
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if consumed != n {
		return fmt.Errorf("submit: the kernel took %d of %d entries", consumed, n)
	}
	f.submitted += n
	return nil
}

// collect waits for n more completions and judges each.
func (f *flight) collect(n int) error {
	if err := f.Wait(uint32(n)); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	for range n {
		cqe, _ := f.Take()
		i := int(uint32(cqe.UserData))
		if cqe.UserData&^0xffffffff != f.tag || i >= f.submitted {
			return fmt.Errorf("an unexpected completion: user_data %#x, result %d; want user_data %#x to %#x", cqe.UserData, cqe.Res, f.tag, f.id(f.submitted-1))
		}
		if earlier, twice := f.done[i]; twice {
			return fmt.Errorf("request %d of %d completed twice, with results %d and %d", i, f.submitted, earlier.Res, cqe.Res)
		}
		f.done[i] = cqe
		f.order = append(f.order, i)
		good := false
		for _, want := range f.want[i] {
			good = good || cqe.Res == want
		}
		if !good {
			return fmt.Errorf("request %d of %d: result %d; want %v", i, f.submitted, cqe.Res, f.want[i])
		}
	}
	return nil
}

// finish waits for all that is in flight; then nothing may be left over.
func (f *flight) finish() error {
	if err := f.collect(f.submitted - len(f.done)); err != nil {
		return err
	}
	return f.none()
}

// none checks that no completion is there.
func (f *flight) none() error {
	if cqe, ok := f.Take(); ok {
		return fmt.Errorf("an unexpected completion: user_data %#x, result %d, when %d of requests %#x to %#x had completed",
			cqe.UserData, cqe.Res, len(f.done), f.tag, f.id(f.submitted-1))
	}
	if f.Overflow() != 0 || f.Dropped() != 0 {
		return fmt.Errorf("%d completions overflowed and %d submissions were dropped; want none", f.Overflow(), f.Dropped())
	}
	return nil
}

// pending submits what was added and checks that none of it completes.
func (f *flight) pending() error {
	if err := f.submit(); err != nil {
		return err
	}
	return f.none()
}

// inline submits what was added and checks that all of it has completed when
// the submission returns.
func (f *flight) inline() error {
	if err := f.submit(); err != nil {
		return err
	}
	if ready, want := int(f.Ready()), f.submitted-len(f.done); ready != want {
		return fmt.Errorf("%d of %d requests had completed when the submission returned; want all, as they complete inline", ready, want)
	}
	return f.finish()
}

// ordered checks that all have completed in the order in which they were
// submitted.
func (f *flight) ordered() error {
	for at, i := range f.order {
		if at != i {
			return fmt.Errorf("completed in the order %v; want that of submission", f.order)
		}
	}
	return nil
}
