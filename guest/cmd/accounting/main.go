//go:build linux

// Command accounting checks the request cache's books: after each step the
// counters in fdinfo must be what alloccache.Model predicts by the RFC's rules,
// and the slab must hold exactly one object per request that is in flight or on
// a list and per open ring. Without the cache only the slab is compared.
//
// Booted with patchproof.part=shrinker it checks instead what becomes of the
// objects when memory is wanted back, over many rounds, and after the rings.
package main

import (
	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

func main() { report.Main("accounting", uring.Program(run)) }

func run(t *report.T) {
	b, err := open(t)
	if err != nil {
		t.Error("section", err)
		return
	}
	if !t.Check("section", b.section) {
		return
	}
	own, err := alloccache.IdleRequests()
	if err != nil {
		t.Error("books", err)
		return
	}
	// The ring that was asked is a while going, and would be taken for one that is lost.
	// What is lost already is for the checks to say.
	machine.Await(limit/5, func() error { return alloccache.Accounted(b.watch.FD) })
	// Where a ring keeps its own requests for the next time (since v5.12) and the cache
	// is not there to take them, the model's rules are not this kernel's.
	if own == 0 && !b.cached {
		t.Skip("books", alloccache.Feature, "each ring keeps the requests that it has freed")
		t.Within(limit, "accounted", b.returned)
		return
	}
	if part, _ := machine.BootOption("patchproof.part"); part == "shrinker" {
		b.shrinker(t)
		return
	}
	b.accounting(t)
}

// returned runs requests of both classes on every CPU, more than a ring keeps at a time,
// and checks that all are back in the slab when their rings are gone.
func (b *books) returned() error {
	for _, cpu := range b.cpus {
		err := machine.OnCPU(cpu, func() error {
			return uring.With(2*many, uring.Params{}, func(r *uring.Ring) error {
				for _, kind := range []request{b.nops(1)[0], b.reads(1)[0]} {
					if err := r.Run(many, uring.SQELink, kind.fill, kind.want); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return machine.Await(limit/2, func() error { return alloccache.Accounted(b.watch.FD) })
}
