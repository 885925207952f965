package vmtest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"patchproof/kernel"
	"patchproof/results"
)

// hold compares the patched kernel with its base, after it has repeated on both
// what differs as often as it takes to tell.
func (p *Plan) hold(ctx context.Context, onCell func(results.Cell)) error {
	base := p.Cells[0].Kernel
	ran := map[string]int{}
	specs := map[string]CellSpec{}
	for _, s := range p.Cells {
		key := s.Kernel + "/" + s.Program.Name
		ran[key], specs[key] = max(ran[key], s.Iteration), s
	}
	for {
		again := p.writer.Again(base, kernel.Patched)
		var cells []CellSpec
		for _, program := range slices.Sorted(maps.Keys(again)) {
			open := p.writer.Open(base, kernel.Patched, program)
			for _, name := range []string{base, kernel.Patched} {
				key := name + "/" + program
				for ran[key] < again[program] {
					ran[key]++
					s := specs[key]
					s.Iteration = ran[key]
					s.only = testsOf(s.Program.Suite, open)
					cells = append(cells, s)
				}
			}
		}
		if len(cells) == 0 {
			return p.writer.Hold(base, kernel.Patched, p.strict)
		}
		if p.Repeating != nil {
			p.Repeating(slices.Sorted(maps.Keys(again)), len(cells))
		}
		var wait sync.WaitGroup
		var mu sync.Mutex
		var err error
		for _, s := range cells {
			cell := p.Start(ctx, s)
			wait.Go(func() {
				c, cellErr := cell()
				mu.Lock()
				defer mu.Unlock()
				if cellErr == nil {
					onCell(c)
				}
				err = errors.Join(err, cellErr)
			})
		}
		if wait.Wait(); err != nil {
			return err
		}
	}
}
