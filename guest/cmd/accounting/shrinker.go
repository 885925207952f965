//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

func (b *books) shrinker(t *report.T) {
	cpu := b.cpus[0]
	t.Within(limit, "shrink/one-list", b.oneLists)
	t.Within(limit, "growth/irq0", func() error { return b.growth(t, cpu, b.nops(1)[0]) })
	t.Within(limit, "growth/irq1", func() error { return b.growth(t, cpu, b.reads(1)[0]) })
	t.Within(limit, "reclaim", func() error { return b.reclaim(t, cpu) })

	var drop shrinking
	if t.Within(limit, "shrink/in-flight-survive", func() error { return b.drop(t, &drop) }) {
		t.Check("shrink/objects-freed", drop.objectsFreed())
		b.check(t, "shrink/nr_free-falls", drop.freeFalls)
		b.check(t, "shrink/nr_avail-kept", drop.availKept)
	}
	t.Within(limit, "shrink/works-after", b.overflow)
	var pressure shrinking
	// Taking all memory is long work for a busy host.
	if t.Within(3*limit, "pressure/in-flight-survive", func() error { return b.pressure(t, &pressure) }) {
		if b.kept > 0 {
			t.Check("pressure/objects-freed", pressure.someFreed())
		} else {
			b.check(t, "pressure/objects-freed", pressure.someFreed)
		}
		t.Check("pressure/accounted", b.accountedUnder(pressure))
	}
	t.Within(limit, "outlive/objects-return", b.outlive)
}

// check makes a check that only a cache can fail.
func (b *books) check(t *report.T, name string, f func() error) {
	if !b.cached {
		t.Skip(name, alloccache.Feature, "the kernel has no cache")
		return
	}
	t.Check(name, f())
}

// oneLists has the shrinkers run when a single list of the whole machine has
// anything for them. A shrinker that misses that list, or takes too little of it,
// has nothing else that could keep it going (drop_slab_node repeats while a pass
// frees more than ten objects). That needs counters that are all 0, and the RFC
// counts none down: so it comes first after boot, and a CPU that can goes offline
// and comes back in between. Only the last list is of a CPU that cannot.
func (b *books) oneLists() error {
	nop, read := b.nops(1)[0], b.reads(1)[0]
	first, last := b.cpus[0], b.cpus[len(b.cpus)-1]
	for _, list := range []struct {
		cpu           int
		full, another request
		few           int
	}{{last, nop, read, 16}, {last, read, nop, 16}, {first, read, nop, 0}} {
		if err := b.oneList(list.cpu, list.full, list.another, list.few); err != nil {
			return err
		}
		if list.cpu == first {
			break
		}
		if err := errors.Join(machine.SetOnline(list.cpu, false), machine.SetOnline(list.cpu, true)); err != nil {
			return err
		}
	}
	return nil
}

// oneList puts requests on the CPU's free list of one class, and leaves a few
// available of another. On a kernel with tracing it also looks at what the shrinker
// says.
func (b *books) oneList(cpu int, full, another request, few int) error {
	if err := b.begin(); err != nil {
		return err
	}
	err := b.openRing(cpu, 2*many, 0, func(r *uring.Ring) error {
		return errors.Join(
			r.Run(uint32(few), uring.SQELink, another.fill, another.want),
			r.Run(alloccache.Max+1, uring.SQELink, full.fill, full.want))
	})
	if err != nil {
		return err
	}
	b.model.Alloc(cpu, another.opcode(), few)
	b.model.Free(cpu, another.opcode(), few)
	b.model.Alloc(cpu, full.opcode(), alloccache.Max+1)
	b.model.Free(cpu, full.opcode(), alloccache.Max+1)
	before, err := b.settled()
	if err != nil {
		return err
	}
	if want := b.expected(); !b.agrees(before, want) {
		return fmt.Errorf("after %d requests of class %d at once on CPU %d:\n%s\nwant:\n%s", alloccache.Max+1, alloccache.Class(full.opcode()), cpu, before, want)
	}
	for _, r := range before.rows {
		if full := r.CPU == cpu && r.IRQ == alloccache.Class(full.opcode()); !full && r.Free != 0 {
			return fmt.Errorf("more than one free list counts requests:\n%s", before)
		}
	}
	rounds, err := machine.ShrinkEvents("io_uring", machine.DropSlab)
	if errors.Is(err, fs.ErrNotExist) {
		err = machine.DropSlab()
	}
	if err != nil {
		return err
	}
	after, err := b.settled()
	if err != nil {
		return err
	}
	avail := 0
	for _, r := range after.rows {
		avail += r.Avail
	}
	if want := avail + b.rings; after.objects != want {
		return fmt.Errorf("the shrinkers left %d objects in use; want %d: %d available, and the idle ring's\nbefore: %s\nafter: %s", after.objects, want, avail, before, after)
	}
	return honest(rounds, before.objects-after.objects)
}

// honest checks what a shrinker said while it freed objects.
func honest(rounds []machine.Shrunk, freed int) error {
	said := 0
	for i, r := range rounds {
		said += r.Freed
		// Later ones count what the RFC does not count down.
		if i == 0 && r.Counted != freed {
			return fmt.Errorf("the shrinker counted %d objects, and %d were there: %+v", r.Counted, freed, rounds)
		}
		if r.Freed > r.Asked {
			return fmt.Errorf("the shrinker was asked for %d objects and freed %d: %+v", r.Asked, r.Freed, rounds)
		}
	}
	if len(rounds) > 0 && said != freed {
		return fmt.Errorf("the shrinker says that it freed %d objects; it freed %d: %+v", said, freed, rounds)
	}
	return nil
}

// growth keeps many requests in flight, again and again. What was enough for
// one round must do for the next: the objects in use may not go on growing.
func (b *books) growth(t *report.T, cpu int, q request) error {
	const rounds = 12
	class := fmt.Sprint(alloccache.Class(q.opcode()))
	var objects []int
	err := b.openRing(cpu, many, 0, func(r *uring.Ring) error {
		for round := range rounds {
			if err := r.Run(many, uring.SQELink, q.fill, q.want); err != nil {
				return err
			}
			s, err := b.settled()
			if err != nil {
				return err
			}
			objects = append(objects, s.objects)
			t.Metric("objects", float64(s.objects), "objects", map[string]string{"irq": class, "round": fmt.Sprint(round + 1)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	// The first rounds may fill the cache.
	if half := rounds / 2; objects[rounds-1] > objects[half-1] {
		return fmt.Errorf("the slab has %v objects in use after each of %d rounds with %d requests in flight; want no more after the last round than half-way", objects, rounds, many)
	}
	return nil
}

// reclaim frees requests in small steps until a list overflows, and reports the
// counters after each.
func (b *books) reclaim(t *report.T, cpu int) error {
	if err := b.begin(); err != nil {
		return err
	}
	const chains, length = 10, many / 10
	return b.ring(cpu, 2*many, 0, func(r *uring.Ring) error {
		// Empties the list.
		if err := b.roundTrip(r, cpu, b.nops(alloccache.Max)...); err != nil {
			return err
		}
		var held []*chain
		for range chains {
			c, err := b.hold(r, cpu, b.nops(length-1)...)
			if err != nil {
				return err
			}
			held = append(held, c)
		}
		if err := b.snapshot(t, "reclaim", 0, "all in flight"); err != nil {
			return err
		}
		for i, c := range held {
			if err := c.release(); err != nil {
				return err
			}
			c.freed(cpu)
			if err := b.agree(fmt.Sprintf("after %d of %d requests were freed", (i+1)*length, many)); err != nil {
				return err
			}
			if err := b.snapshot(t, "reclaim", i+1, fmt.Sprintf("%d freed", (i+1)*length)); err != nil {
				return err
			}
		}
		return nil
	})
}

// snapshot reports every counter; the steps of what happens count from 0.
func (b *books) snapshot(t *report.T, what string, step int, at string) error {
	s, err := b.read()
	if err != nil {
		return err
	}
	alloccache.Report(t, what, step, at, s.rows)
	t.Metric("slab", float64(s.objects), "objects", map[string]string{"during": what, "step": fmt.Sprint(step)})
	return nil
}

// overflow leaves requests on the free lists of both classes of every CPU.
func (b *books) overflow() error {
	if err := b.begin(); err != nil {
		return err
	}
	for _, cpu := range b.cpus {
		err := b.ring(cpu, 1024, 0, func(r *uring.Ring) error {
			return b.roundTrip(r, cpu, slices.Concat(b.nops(many), b.reads(many))...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// keep fills a cache without counters, which comparing the books has emptied.
func (b *books) keep() error {
	if b.kept == 0 {
		return nil
	}
	nop := b.nops(1)[0]
	for _, cpu := range b.cpus {
		err := b.openRing(cpu, many, 0, func(r *uring.Ring) error { return r.Run(many, uring.SQELink, nop.fill, nop.want) })
		if err != nil {
			return err
		}
	}
	return nil
}

// shrinking is what the kernel said before and after it was to give memory back,
// with requests in flight.
type shrinking struct {
	before, after state
	// inFlight requests and the fallback requests of open rings are objects that
	// must stay.
	inFlight, rings int
}

func (s shrinking) String() string { return fmt.Sprintf("before: %s\nafter: %s", s.before, s.after) }

// drop writes to vm.drop_caches.
func (b *books) drop(t *report.T, s *shrinking) error {
	return b.shrink(t, "drop_caches", s, machine.DropSlab)
}

// shrink fills the free lists, keeps requests in flight, lets act make the
// shrinkers run, and sees the requests through.
func (b *books) shrink(t *report.T, what string, s *shrinking, act func() error) error {
	if err := errors.Join(b.overflow(), b.keep()); err != nil {
		return err
	}
	cpu := b.cpus[0]
	return b.openRing(cpu, 64, 0, func(r *uring.Ring) error {
		c, err := b.hold(r, cpu, slices.Concat(b.nops(20), b.reads(20))...)
		if err != nil {
			return err
		}
		s.inFlight, s.rings = len(c.requests), b.rings
		if s.before, err = b.read(); err != nil {
			return err
		}
		if err := errors.Join(b.snapshot(t, what, 0, "before"), act()); err != nil {
			return err
		}
		if s.after, err = b.settled(); err != nil {
			return err
		}
		return errors.Join(b.snapshot(t, what, 1, "after"), c.release())
	})
}

// objectsFreed checks that only what is available is still cached.
func (s shrinking) objectsFreed() error {
	avail := 0
	for _, r := range s.after.rows {
		avail += r.Avail
	}
	if want := avail + s.inFlight + s.rings; s.after.objects != want {
		return fmt.Errorf("the slab has %d objects in use; want %d: %d available, %d in flight, %d rings\n%s", s.after.objects, want, avail, s.inFlight, s.rings, s)
	}
	return nil
}

// freeFalls checks that nr_free counts what is on the free lists: nothing.
func (s shrinking) freeFalls() error {
	m := alloccache.NewModel(s.before.rows)
	m.Shrink()
	for i, want := range m.Rows() {
		if s.before.rows[i].Free == 0 {
			return fmt.Errorf("nothing was on the free list of cpu%d irq=%d\n%s", want.CPU, want.IRQ, s)
		}
		if got := s.after.rows[i].Free; got != want.Free {
			return fmt.Errorf("cpu%d irq=%d has nr_free=%d after the shrinkers ran; want %d\n%s", want.CPU, want.IRQ, got, want.Free, s)
		}
	}
	return nil
}

// availKept checks that the shrinker left alone what can be taken.
func (s shrinking) availKept() error {
	for i, r := range s.after.rows {
		if want := s.before.rows[i].Avail; r.Avail != want {
			return fmt.Errorf("cpu%d irq=%d has nr_avail=%d after the shrinkers ran; want %d\n%s", r.CPU, r.IRQ, r.Avail, want, s)
		}
	}
	return nil
}

// someFreed checks that a shrinker ran: it is asked for batches of 128
// (SHRINK_BATCH) and may leave a rest.
func (s shrinking) someFreed() error {
	const batch = 128
	if freed := s.before.objects - s.after.objects; freed < batch {
		return fmt.Errorf("memory ran short and %d objects were freed; want at least %d\n%s", freed, batch, s)
	}
	return nil
}

// accountedUnder checks that the caches count what the slab has. Those without counters
// may have kept as many as were declared.
func (b *books) accountedUnder(s shrinking) error {
	want := s.after.held() + s.inFlight + s.rings
	if over, most := s.after.objects-want, b.kept*len(b.cpus); over < 0 || over > most {
		return fmt.Errorf("the slab has %d objects in use; want %d: %d that the caches count, %d in flight, %d rings; and up to %d that they keep without counters\n%s",
			s.after.objects, want, s.after.held(), s.inFlight, s.rings, most, s)
	}
	return nil
}

// outlive checks that requests do not stay when no ring needs them and the
// shrinkers have run: the idle ring has its own one, as after boot.
func (b *books) outlive() error {
	if err := machine.DropSlab(); err != nil {
		return err
	}
	s, err := b.settled()
	if err != nil {
		return err
	}
	if s.objects != 1 {
		return fmt.Errorf("with no other ring left, and after the shrinkers ran, the slab has %d objects in use; want 1, the idle ring's, as after boot\n%s", s.objects, s)
	}
	return nil
}
