package lab

import (
	"slices"
	"sync"
)

// places are where guests run. What waits for one is in order of its rank.
type places struct {
	mu    sync.Mutex
	free  int
	queue []queued
	// spare is how many more guests than places may be there, because others only wait.
	spare int
}

type queued struct {
	rank int
	work func(lend func(idle bool))
}

// Queue has work done as soon as there is a place for it: before all of a higher
// rank that waits, and after what waits with the same rank. It does not wait itself.
// While work only waits it may lend its place, if there is no fixed number of them.
func (p *places) Queue(rank int, work func(lend func(idle bool))) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.queue, func(q queued) bool { return q.rank > rank })
	if i < 0 {
		i = len(p.queue)
	}
	p.queue = slices.Insert(p.queue, i, queued{rank, work})
	p.start()
}

// start fills the free places; mu is held.
func (p *places) start() {
	for p.free > 0 && len(p.queue) > 0 {
		work := p.queue[0].work
		p.queue = p.queue[1:]
		p.free--
		go func() {
			lent := false
			lend := func(idle bool) {
				p.mu.Lock()
				defer p.mu.Unlock()
				switch {
				case idle && !lent && p.spare > 0:
					lent = true
					p.spare--
					p.free++
					p.start()
				case !idle && lent:
					// Who came meanwhile stays, and one place more is taken than there are.
					lent = false
					p.spare++
					p.free--
				}
			}
			work(lend)
			lend(false)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.free++
			p.start()
		}()
	}
}
