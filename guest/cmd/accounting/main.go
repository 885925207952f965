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
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
)

func main() { report.Main("accounting", run) }

func run(t *report.T) {
	b, err := open(t)
	if err != nil {
		t.Error("section", err)
		return
	}
	if !t.Check("section", b.section) {
		return
	}
	if part, _ := machine.BootOption("patchproof.part"); part == "shrinker" {
		b.shrinker(t)
		return
	}
	b.accounting(t)
}
