//go:build linux

package alloccache

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/uring"
)

// empty are the rows of two CPUs after boot.
var empty = []Row{{0, 0, 0, 0}, {0, 1, 0, 0}, {1, 0, 0, 0}, {1, 1, 0, 0}}

func TestModel(t *testing.T) {
	const nop, read = uring.OpNop, uring.OpRead
	for _, tt := range []struct {
		name    string
		before  []Row
		steps   func(*Model)
		want    []Row
		objects int
	}{
		{"nothing", empty, func(*Model) {}, empty, 0},
		{"in flight", empty, func(m *Model) { m.Alloc(0, nop, 5) }, empty, 5},
		{"freed where taken", empty, func(m *Model) {
			m.Alloc(0, nop, 5)
			m.Free(0, nop, 5)
		}, []Row{{0, 0, 0, 5}, {0, 1, 0, 0}, {1, 0, 0, 0}, {1, 1, 0, 0}}, 5},
		{"the other class", empty, func(m *Model) {
			m.Alloc(1, read, 5)
			m.Free(1, read, 5)
		}, []Row{{0, 0, 0, 0}, {0, 1, 0, 0}, {1, 0, 0, 0}, {1, 1, 0, 5}}, 5},
		{"freed elsewhere", []Row{{0, 0, 0, 3}, {1, 0, 0, 255}}, func(m *Model) {
			m.Alloc(0, nop, 4)
			m.Free(1, nop, 4)
		}, []Row{{0, 0, 0, 0}, {1, 0, 257, 2}}, 259},
		{"at the threshold", empty, func(m *Model) {
			m.Alloc(0, nop, 256)
			m.Free(0, nop, 256)
		}, []Row{{0, 0, 0, 256}, {0, 1, 0, 0}, {1, 0, 0, 0}, {1, 1, 0, 0}}, 256},
		{"one above", empty, func(m *Model) {
			m.Alloc(0, nop, 257)
			m.Free(0, nop, 257)
		}, []Row{{0, 0, 257, 0}, {0, 1, 0, 0}, {1, 0, 0, 0}, {1, 1, 0, 0}}, 257},
		{"two lists full, one by one", empty, func(m *Model) {
			m.Alloc(0, nop, 514)
			m.Free(0, nop, 514)
		}, []Row{{0, 0, 514, 0}, {0, 1, 0, 0}, {1, 0, 0, 0}, {1, 1, 0, 0}}, 514},
		{"a batch at the threshold", empty, func(m *Model) {
			m.Alloc(0, read, 256)
			m.FreeBatch(0, read, 256)
		}, []Row{{0, 0, 0, 0}, {0, 1, 0, 256}, {1, 0, 0, 0}, {1, 1, 0, 0}}, 256},
		{"a batch above moves as a whole", empty, func(m *Model) {
			m.Alloc(0, read, 513)
			m.FreeBatch(0, read, 300)
			m.FreeBatch(0, read, 213)
		}, []Row{{0, 0, 0, 0}, {0, 1, 300, 213}, {1, 0, 0, 0}, {1, 1, 0, 0}}, 513},
		{"free lists are never taken from", []Row{{0, 0, 257, 1}}, func(m *Model) {
			m.Alloc(0, nop, 3)
		}, []Row{{0, 0, 257, 0}}, 260},
		{"shrunk", []Row{{0, 0, 257, 43}, {0, 1, 300, 0}}, func(m *Model) {
			m.Alloc(0, nop, 1)
			m.Shrink()
		}, []Row{{0, 0, 0, 42}, {0, 1, 0, 0}}, 43},
		{"no cache", nil, func(m *Model) {
			m.Alloc(0, nop, 300)
			m.Free(1, nop, 290)
			m.FreeBatch(0, read, 5)
			m.Shrink()
		}, nil, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := NewModel(tt.before)
			tt.steps(m)
			if diff := cmp.Diff(tt.want, m.Rows()); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if got := m.Objects(); got != tt.objects {
				t.Errorf("Objects() = %d; want %d", got, tt.objects)
			}
		})
	}
}
