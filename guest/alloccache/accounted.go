//go:build linux

package alloccache

import (
	"errors"
	"fmt"
	"time"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// Accounted checks that, with nothing in flight, every object of the slab is on a
// list of the cache or the own one of an idle ring, the only one; rings that are
// being torn down are an error too. What a cache keeps without counters is not
// counted (InUse). Lists are taken as the counters show them, so nothing may have
// been shrunk where nr_free is not counted down.
func Accounted(ring int) error {
	if exiting := uring.ExitingRings(); len(exiting) > 0 {
		return fmt.Errorf("a ring is still being torn down:\n%s", exiting[0])
	}
	rows, err := Read(ring)
	if err != nil && !errors.Is(err, ErrAbsent) {
		return err
	}
	own, err := IdleRequests()
	if err != nil {
		return err
	}
	want := own
	for class := range Classes {
		want += Total(rows, class)
	}
	got, err := InUse()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("the slab has %d requests in use; want %d: those that the caches count, and %d, the idle ring's own\n%s", got, want, own, Format(rows))
	}
	return nil
}

// AllAccounted waits until Accounted holds, with no ring but one of its own: rings and
// requests go a moment after their last use.
func AllAccounted(limit time.Duration) error {
	return uring.With(1, uring.Params{}, func(r *uring.Ring) error {
		return machine.Await(limit, func() error { return Accounted(r.FD) })
	})
}

// IdleRequests is how many requests a ring has that has done nothing.
func IdleRequests() (int, error) {
	none, err := uring.Has(uring.NoFallbackRequest)
	if err != nil || none == uring.After {
		return 0, err
	}
	return 1, nil
}
