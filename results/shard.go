package results

import (
	"fmt"
	"slices"
)

// Shard says which part of a plan a run is. Runs of all parts are put together again by
// Shards and Merge.
type Shard struct {
	// Index is the part's number, from 1, of Of.
	Index int `json:"index"`
	Of    int `json:"of"`
	// Plan is the whole of what is to be run, in order, so that what is missing can be told.
	Plan []Planned `json:"plan"`
}

// Planned is a cell of a plan, or a mutant, and the number of the shard that runs it.
type Planned struct {
	Kernel    string `json:"kernel,omitempty"`
	Variant   string `json:"variant,omitempty"`
	Program   string `json:"program,omitempty"`
	Iteration int    `json:"iteration,omitempty"`
	// Mutant is the name of one; what is run on it is known when it has been judged.
	Mutant string `json:"mutant,omitempty"`
	// Patch is that of the mutant, by the ids of its patches.
	Patch string `json:"patch,omitempty"`
	Shard int    `json:"shard"`
}

// name is the planned cell's, or mutant's, for people.
func (p Planned) name() string {
	if p.Mutant != "" {
		return Line(p.Mutant)
	}
	return cellKey{p.Kernel, p.Variant, p.Program, p.Iteration}.String()
}

// cellKey tells the cells of a run apart.
type cellKey struct {
	kernel, variant, program string
	iteration                int
}

func (c Cell) key() cellKey { return cellKey{c.Kernel, c.Variant, c.Program, c.Iteration} }

func (k cellKey) String() string {
	name := Line(k.kernel + "/" + k.variant + "/" + k.program)
	if k.iteration > 1 {
		name += fmt.Sprintf("/%d", k.iteration)
	}
	return name
}

// Mutants says that the plan is of mutants, not of cells.
func (s *Shard) Mutants() bool {
	return slices.ContainsFunc(s.Plan, func(p Planned) bool { return p.Mutant != "" })
}

// share is what the shard is to run.
func (s *Shard) share() []Planned {
	return slices.DeleteFunc(slices.Clone(s.Plan), func(p Planned) bool { return p.Shard != s.Index })
}

// String is "shard 2 of 5".
func (s *Shard) String() string { return fmt.Sprintf("shard %d of %d", s.Index, s.Of) }

// Describe says in a line how much of the plan the shard is.
func (s *Shard) Describe() string {
	what := "cells"
	if s.Mutants() {
		what = "mutants"
	}
	return fmt.Sprintf("%s: %d of %d %s; results merge puts the shards together", s, len(s.share()), len(s.Plan), what)
}

// validate refuses a part that none of the plan can be.
func (s *Shard) validate() error {
	if s.Of < 1 || s.Index < 1 || s.Index > s.Of {
		return fmt.Errorf("shard %d of %d: there is no such part", s.Index, s.Of)
	}
	for _, p := range s.Plan {
		if p.Shard < 1 || p.Shard > s.Of {
			return fmt.Errorf("the plan has %s in shard %d of %d", p.name(), p.Shard, s.Of)
		}
	}
	return nil
}
