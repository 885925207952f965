//go:build linux

package alloccache

import (
	"errors"
	"fmt"

	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

// Books counts the slab's objects and, where there is a cache, what is in it.
type Books struct {
	// Has says whether there is a cache.
	Has bool
	// ring is an idle ring whose fdinfo is read.
	ring int
}

// OpenBooks makes the ring that the counters are read from. It fails where there is a cache
// that the kernel was declared not to have, or none that it was.
func OpenBooks(t *report.T) (*Books, error) {
	ring, err := uring.New(1, uring.Params{})
	if err != nil {
		return nil, err
	}
	_, err = Read(ring.FD)
	b := &Books{Has: !errors.Is(err, ErrAbsent), ring: ring.FD}
	if has, known := t.Feature(Feature); known && has != b.Has {
		return nil, fmt.Errorf("the cache is there: %v; declared: %v", b.Has, has)
	}
	return b, nil
}

// Rows are the cache's counters, none where there is no cache.
func (b *Books) Rows() ([]Row, error) {
	if !b.Has {
		return nil, nil
	}
	return Read(b.ring)
}

// Balanced fails unless every object of the slab is in the cache or the idle ring's fallback
// request: requests that failed are freed as others are, and once. Rings go a while after
// their last user.
func (b *Books) Balanced() error {
	rows, err := b.Rows()
	if err != nil {
		return err
	}
	own, err := IdleRequests()
	if err != nil {
		return err
	}
	objects, err := InUse()
	if err != nil {
		return err
	}
	if want := own + Total(rows, 0) + Total(rows, 1); objects != want {
		return fmt.Errorf("the slab %s has %d objects in use; want %d: %d for the idle ring and those of the cache:\n%s",
			Slab, objects, want, own, Format(rows))
	}
	return nil
}
