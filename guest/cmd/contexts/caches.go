//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"patchproof/guest/alloccache"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// peak is the largest number of requests of each class that are in flight at
// the same time and were taken on one CPU.
type peak [alloccache.Classes]int

// caches reads the counters through an idle ring. A nil caches is a kernel
// without them: it has nothing to say against anything.
type caches struct{ watch *uring.Ring }

func (c *caches) read() ([]alloccache.Row, error) { return alloccache.Read(c.watch.FD) }

// row is the row of a CPU and class; a missing one is all zero.
func row(rows []alloccache.Row, cpu, irq int) alloccache.Row {
	for _, r := range rows {
		if r.CPU == cpu && r.IRQ == irq {
			return r
		}
	}
	return alloccache.Row{CPU: cpu, IRQ: irq}
}

// account follows the caches through one check, from a moment at which nothing
// is in flight.
type account struct {
	caches *caches
	before []alloccache.Row
	errors []error
}

func (c *caches) open() *account {
	a := &account{caches: c}
	if c != nil {
		var err error
		a.before, err = c.read()
		a.note(err)
	}
	return a
}

func (a *account) note(err error) {
	if err != nil {
		a.errors = append(a.errors, err)
	}
}

// held notes whether the CPU's caches lack exactly the requests that are in
// flight: those that were available are taken first.
func (a *account) held(cpu int, inFlight peak) {
	if a.caches == nil {
		return
	}
	now, err := a.caches.read()
	a.note(err)
	for irq, n := range inFlight {
		want := row(a.before, cpu, irq)
		want.Avail = max(0, want.Avail-n)
		if got := row(now, cpu, irq); err == nil && got != want {
			a.note(fmt.Errorf("with %d requests of class irq=%d in flight:\n%s\nwant:\n%s\nbefore:\n%s", n, irq, got, want, alloccache.Format(a.before)))
		}
	}
}

// moved notes whether the CPU's caches have exactly these requests more than
// before.
func (a *account) moved(cpu int, more peak) {
	if a.caches == nil {
		return
	}
	now, err := a.caches.read()
	a.note(err)
	for irq, n := range more {
		want := row(a.before, cpu, irq)
		want.Avail += n
		if got := row(now, cpu, irq); err == nil && got != want {
			a.note(fmt.Errorf("with %d requests of class irq=%d freed on CPU %d that were taken elsewhere:\n%s\nwant:\n%s\nbefore:\n%s", n, irq, cpu, got, want, alloccache.Format(a.before)))
		}
	}
}

// close notes whether all requests are back: all CPUs together have those from
// before and those that had to be allocated, because fewer were available on
// the CPU than were in flight at the same time. It waits for that, as a request
// may be freed a moment after its completion was seen.
func (a *account) close(peaks map[int]peak) error {
	if a.caches == nil {
		return nil
	}
	err := machine.Await(300*time.Millisecond, func() error {
		now, err := a.caches.read()
		if err != nil {
			return err
		}
		for irq := range alloccache.Classes {
			want := alloccache.Total(a.before, irq)
			for cpu, p := range peaks {
				want += max(0, p[irq]-row(a.before, cpu, irq).Avail)
			}
			if got := alloccache.Total(now, irq); got != want {
				return fmt.Errorf("the irq=%d caches hold %d requests; want %d, with at most %v in flight (by CPU, then class)\nbefore:\n%safter:\n%s",
					irq, got, want, peaks, alloccache.Format(a.before), alloccache.Format(now))
			}
		}
		return nil
	})
	a.note(err)
	return errors.Join(a.errors...)
}
