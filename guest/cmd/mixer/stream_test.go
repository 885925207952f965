//go:build linux

package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"patchproof/guest/uring"
)

// v510 is what v5.10 says of itself, newest what v7.1 does.
var (
	v510   = uring.Kernel{Features: 0x7f, Opcodes: opLast}
	newest = uring.Kernel{Features: 0x3ffff, Opcodes: 65}
)

// rounds are all rounds of a stream, and its hash.
func rounds(k uring.Kernel, seed uint64, lane int, kind ringKind, count int) ([]round, uint64) {
	s := newStream(k, seed, lane, kind, count)
	var all []round
	for r, ok := s.next(); ok; r, ok = s.next() {
		all = append(all, r)
	}
	return all, s.hash
}

func TestSeedDeterminesTheStream(t *testing.T) {
	for i, l := range lanes {
		first, hash := rounds(v510, 1, i, l.kind, 2000)
		again, hashAgain := rounds(v510, 1, i, l.kind, 2000)
		if diff := cmp.Diff(first, again); diff != "" || hash != hashAgain {
			t.Errorf("%s: the same seed gave another stream, hash %#x and %#x:\n%s", l.name, hash, hashAgain, diff)
		}
		if other, otherHash := rounds(v510, 2, i, l.kind, 2000); cmp.Equal(first, other) || hash == otherHash {
			t.Errorf("%s: another seed gave the same stream", l.name)
		}
		n := 0
		for _, r := range first {
			n += len(r.Entries)
			if len(r.Entries) > roundMax {
				t.Errorf("%s: a round has %d entries; want at most %d", l.name, len(r.Entries), roundMax)
			}
		}
		if n != 2000 {
			t.Errorf("%s: the stream has %d entries; want 2000", l.name, n)
		}
	}
}

// The hash tells streams apart by any field.
func TestHash(t *testing.T) {
	seen := map[uint64]string{}
	for _, r := range []round{
		{},
		{Closing: true},
		{Draining: true},
		{Entries: []entry{{}}},
		{Entries: []entry{{Opcode: 1}}},
		{Entries: []entry{{Flags: 1}}},
		{Entries: []entry{{Off: 1 << 63}}},
		{Entries: []entry{{Dropped: true}}},
	} {
		s := &stream{hash: fnvStart}
		s.fold(r)
		if other, ok := seen[s.hash]; ok {
			t.Errorf("%+v hashes as %s does", r, other)
		}
		seen[s.hash] = fmt.Sprintf("%+v", r)
	}
}

// A long stream has every opcode, every flag, every kind, and
// rounds of every sort.
func TestStreamHasEverything(t *testing.T) {
	all, _ := rounds(v510, 1, 0, plain, 100_000)
	opcodes, flags, kinds := map[uint8]bool{}, map[uint8]bool{}, map[kind]bool{}
	var closing, draining, dropped bool
	for _, r := range all {
		closing, draining = closing || r.Closing, draining || r.Draining
		for _, e := range r.Entries {
			opcodes[e.Opcode], flags[e.Flags], kinds[e.Kind] = true, true, true
			dropped = dropped || e.Dropped
		}
	}
	if len(opcodes) != 256 || len(flags) < 200 || len(kinds) != int(unknown)+1 || !closing || !draining || !dropped {
		t.Errorf("%d opcodes, %d sets of flags, %d of %d kinds, closing %v, draining %v, dropped %v; want all",
			len(opcodes), len(flags), len(kinds), unknown+1, closing, draining, dropped)
	}
}

// What v5.10.13 would itself leave waiting must not be in a stream.
func TestStreamEnds(t *testing.T) {
	for i, l := range lanes {
		all, _ := rounds(v510, 3, i, l.kind, 20_000)
		for n, r := range all {
			for at, e := range r.Entries {
				late := e.Flags&(links|uring.SQEAsync) != 0 && e.Kind != polls || r.linked(at) && e.Kind != limits
				switch {
				case e.Opcode == uring.OpClose && e.Kind == junk && !e.Dropped && e.File > badFile:
					t.Errorf("%s, round %d: closes a file of the program's: %+v", l.name, n, e)
				case e.Kind.pending() && (l.kind != plain || r.Closing && late):
					t.Errorf("%s, round %d: may wait for ever: %+v", l.name, n, e)
				}
			}
		}
	}
}

// What a newer kernel has beyond v5.10's opcodes and flags must not be in its stream; what
// it does not have must.
func TestStreamOfNewerKernel(t *testing.T) {
	all, _ := rounds(newest, 1, 0, plain, 100_000)
	unknowns := map[uint8]bool{}
	for n, r := range all {
		for _, e := range r.Entries {
			op := int(e.Opcode)
			if !e.Dropped && (op >= opLast && op < newest.Opcodes || e.Flags&uring.SQECQESkip != 0) {
				t.Errorf("round %d: the kernel may do anything with %+v", n, e)
			}
			if e.Kind == unknown {
				unknowns[e.Opcode] = true
			}
		}
	}
	if want := 256 - newest.Opcodes; len(unknowns) != want {
		t.Errorf("%d opcodes that the kernel does not know; want all %d", len(unknowns), want)
	}
}

func TestAllowed(t *testing.T) {
	const canceled, inval = -int32(unix.ECANCELED), -int32(unix.EINVAL)
	nop := entry{Opcode: uring.OpNop, Kind: completes}
	linked := entry{Opcode: uring.OpNop, Flags: uring.SQELink, Kind: completes}
	read := entry{Opcode: uring.OpRead, Len: block, Kind: completes}
	for _, tt := range []struct {
		name    string
		entries []entry
		res     int32
		want    bool
	}{
		{"a NOP", []entry{nop}, 0, true},
		{"a NOP with bytes", []entry{nop}, 1, false},
		{"a NOP alone is never canceled", []entry{nop}, canceled, false},
		{"a NOP in a chain may be", []entry{linked, nop}, canceled, true},
		{"the head of a chain, by a refused member", []entry{linked}, canceled, true},
		{"a whole read", []entry{read}, block, true},
		{"half a read", []entry{read}, block / 2, false},
		{"an unknown opcode", []entry{{Opcode: 99, Kind: unknown}}, inval, true},
		{"an unknown opcode that succeeds", []entry{{Opcode: 99, Kind: unknown}}, 0, false},
		{"nonsense that asks for more", []entry{{Kind: junk}}, -4096, false},
		{"nonsense that is restarted", []entry{{Kind: junk}}, -512, false},
	} {
		if got := (round{Entries: tt.entries}).allowed(len(tt.entries) - 1)(tt.res); got != tt.want {
			t.Errorf("%s: result %d allowed: %v; want %v", tt.name, tt.res, got, tt.want)
		}
	}
}
