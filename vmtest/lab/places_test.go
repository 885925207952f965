package lab

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What waits comes in the order of its rank, whenever it was queued, and never more
// at once than there are places.
func TestPlaces(t *testing.T) {
	const all = 2
	p := &places{free: all}
	var open sync.WaitGroup
	open.Add(1)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var order []int
	var inside, most atomic.Int32
	queue := func(rank int, work func()) {
		wait.Add(1)
		p.Queue(rank, func(func(bool)) {
			defer wait.Done()
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			work()
			inside.Add(-1)
		})
	}
	for range all {
		queue(0, open.Wait)
	}
	// One place stays taken until the end, so that the order can be seen.
	var last sync.WaitGroup
	last.Add(1)
	queue(1, last.Wait)
	for _, rank := range []int{5, 3, 9, 3, 7, 2} {
		queue(rank, func() {
			mu.Lock()
			defer mu.Unlock()
			if order = append(order, rank); len(order) == 6 {
				last.Done()
			}
		})
	}
	open.Done()
	wait.Wait()
	if diff := cmp.Diff([]int{2, 3, 3, 5, 7, 9}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if most.Load() != all {
		t.Errorf("%d ran at once; want %d", most.Load(), all)
	}
}

// A guest that only waits lets another one run beside it, but not more than its place.
func TestPlacesLent(t *testing.T) {
	for _, test := range []struct {
		name        string
		free, spare int
		// idle is how many of the first ones lend their places, busy how many take them back
		// before more are queued.
		idle, busy int
		// want is how many run at once, of ten more.
		want int
	}{
		{"none waits", 2, 2, 0, 0, 2},
		{"one waits", 2, 2, 1, 0, 3},
		{"both wait", 2, 2, 2, 0, 4},
		{"one went on", 2, 2, 2, 1, 3},
		{"a fixed number", 2, 0, 2, 0, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &places{free: test.free, spare: test.spare}
			lends, end := make(chan func(bool)), make(chan struct{})
			var wait sync.WaitGroup
			defer wait.Wait()
			defer close(end)
			queue := func(begun func(lend func(bool))) {
				wait.Add(1)
				p.Queue(0, func(lend func(bool)) {
					defer wait.Done()
					begun(lend)
					<-end
				})
			}
			var first []func(bool)
			for range test.free {
				queue(func(lend func(bool)) { lends <- lend })
				first = append(first, <-lends)
			}
			for i := range test.idle {
				first[i](true)
				first[i](true)
			}
			for i := range test.busy {
				first[i](false)
			}
			for range 10 {
				queue(func(func(bool)) {})
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if got := test.free + 10 - len(p.queue); got != test.want {
				t.Errorf("%d run at once; want %d", got, test.want)
			}
		})
	}
}
