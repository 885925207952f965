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
		p.Queue(rank, func() {
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
