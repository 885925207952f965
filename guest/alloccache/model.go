//go:build linux

package alloccache

import (
	"fmt"
	"slices"

	"patchproof/guest/uring"
)

// Class is the cache that the RFC's io_op_defs[].irq_comp chooses for an
// opcode: 1 for the six that read and write files, 0 for all others.
func Class(opcode uint8) int {
	switch opcode {
	case uring.OpReadv, uring.OpWritev, uring.OpReadFixed, uring.OpWriteFixed, uring.OpRead, uring.OpWrite:
		return 1
	}
	return 0
}

// Model predicts the counters of every cache by the RFC's rules, and how many
// objects of the slab the requests are then. Tell it what is submitted and
// freed, and on which CPU. A Model without rows is a kernel without the cache:
// only requests in flight are objects then.
//
// IO_KIOCB_CACHE_RECLAIM, 16, is no rule: nothing in the RFC uses it.
type Model struct {
	rows     []Row
	inFlight int
}

// NewModel starts from what the kernel shows while nothing is in flight.
func NewModel(rows []Row) *Model { return &Model{rows: slices.Clone(rows)} }

// Rows are the predicted rows, in the order in which NewModel got them.
func (m *Model) Rows() []Row { return slices.Clone(m.rows) }

// Objects is the number of slab objects that are requests in flight or on a
// list. Each ring keeps one more, its fallback request (io_ring_ctx_alloc).
func (m *Model) Objects() int {
	objects := m.inFlight
	for _, r := range m.rows {
		objects += r.Avail + r.Free
	}
	return objects
}

// Alloc takes n requests on the CPU: what is available first, the rest from
// the slab. Requests of free lists are never taken (io_req_cache_alloc).
func (m *Model) Alloc(cpu int, opcode uint8, n int) {
	m.inFlight += n
	if r := m.row(cpu, opcode); r != nil {
		*r = r.take(n)
	}
}

// Free frees n requests on the CPU one by one (io_req_cache_free).
func (m *Model) Free(cpu int, opcode uint8, n int) {
	m.inFlight -= n
	if r := m.row(cpu, opcode); r != nil {
		for range n {
			*r = r.put(1)
		}
	}
}

// FreeBatch frees n requests of one class on the CPU in one batch, as polling
// for completions does (io_req_cache_free_bulk).
func (m *Model) FreeBatch(cpu int, opcode uint8, n int) {
	m.inFlight -= n
	if r := m.row(cpu, opcode); r != nil {
		*r = r.put(n)
	}
}

// Shrink empties the free lists, as the shrinker does when it is asked for
// everything. nr_free counts what is on them, so it must be 0 then; the RFC
// leaves it as it was (__io_uring_cache_shrink).
func (m *Model) Shrink() {
	for i := range m.rows {
		m.rows[i].Free = 0
	}
}

// row panics when the CPU has no row although others have: the caller's
// mistake.
func (m *Model) row(cpu int, opcode uint8) *Row {
	if len(m.rows) == 0 {
		return nil
	}
	i := slices.IndexFunc(m.rows, func(r Row) bool { return r.CPU == cpu && r.IRQ == Class(opcode) })
	if i < 0 {
		panic(fmt.Sprintf("no row for CPU %d and opcode %d", cpu, opcode))
	}
	return &m.rows[i]
}
