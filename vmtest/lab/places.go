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
}

type queued struct {
	rank int
	work func()
}

// Queue has work done as soon as there is a place for it: before all of a higher
// rank that waits, and after what waits with the same rank. It does not wait itself.
func (p *places) Queue(rank int, work func()) {
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
			work()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.free++
			p.start()
		}()
	}
}
