package vmtest

import (
	"context"
	"errors"
	"sync"

	"patchproof/kernel"
	"patchproof/results"
)

// hold compares the patched kernel with its base, after it has repeated what differs
// as often as it takes to tell.
func (p *Plan) hold(ctx context.Context, onCell func(results.Cell)) error {
	base := p.Cells[0].Kernel
	ran := map[string]int{}
	specs := map[string]CellSpec{}
	for _, s := range p.Cells {
		key := s.Kernel + "/" + s.Program.Name
		ran[key], specs[key] = max(ran[key], s.Iteration), s
	}
	for {
		var cells []CellSpec
		var programs []string
		for _, r := range p.writer.Again(base, kernel.Patched) {
			programs = append(programs, r.Program)
			for _, want := range []struct {
				kernel string
				runs   int
			}{{base, r.Base}, {kernel.Patched, r.Patched}} {
				key := want.kernel + "/" + r.Program
				for ran[key] < want.runs {
					ran[key]++
					s := specs[key]
					s.Iteration = ran[key]
					s.only = testsOf(s.Program.Suite, r.Checks)
					cells = append(cells, s)
				}
			}
		}
		if len(cells) == 0 {
			return p.writer.Hold(base, kernel.Patched, p.strict)
		}
		if p.Repeating != nil {
			p.Repeating(programs, len(cells))
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
