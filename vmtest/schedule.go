package vmtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"patchproof/kernel"
	"patchproof/results"
)

// kernelTurn is one boot of one kernel, by its number in the line-up.
type kernelTurn struct{ kernel, iteration int }

// turns are the boots of a program. Where they are timed the kernels alternate and
// every other round is reversed, A B B A: what becomes slower or faster with time,
// such as a processor that gets warm, then meets all of them alike.
func turns(kernels, count int, timed bool) []kernelTurn {
	var all []kernelTurn
	if !timed {
		for k := range kernels {
			for n := range count {
				all = append(all, kernelTurn{k, n + 1})
			}
		}
		return all
	}
	for n := range count {
		for k := range kernels {
			if n%2 == 1 {
				k = kernels - 1 - k
			}
			all = append(all, kernelTurn{k, n + 1})
		}
	}
	return all
}

// Name is the cell's name as a subtest: kernel/variant/program, and the
// iteration from the second on.
func (s CellSpec) Name() string {
	name := s.Kernel + "/" + s.Variant + "/" + s.Program.Name
	if s.Iteration > 1 {
		name += fmt.Sprintf("/%d", s.Iteration)
	}
	return name
}

// turn is a cell that was started.
type turn struct {
	ctx  context.Context
	spec CellSpec
	// rank is how many were started before.
	rank int
	done chan struct{}
	// cell and err are set when done is closed.
	cell results.Cell
	err  error
}

// Begin waits for the first kernel, for all of them where a program is timed, creates
// the run's folder below results/out of the checkout and lets cells start.
func (p *Plan) Begin() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.ready) < p.enough && p.madeErr == nil {
		p.changed.Wait()
	}
	if len(p.ready) < p.enough {
		return p.madeErr
	}
	p.started = time.Now()
	if p.writer, err = p.lab.Record(p.variables, p.subject); err != nil {
		return err
	}
	for _, b := range p.ready {
		p.recordKernel(b)
	}
	if p.broken != nil {
		return p.writer.AddKernel(*p.broken)
	}
	return nil
}

// Start queues a cell and returns a function that waits for it. Cells run in
// the order of their Start as far as their kernels are ready, Places at a time.
// Each is recorded as it finishes; one that was interrupted is not, and gives
// ctx's error.
func (p *Plan) Start(ctx context.Context, s CellSpec) func() (results.Cell, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &turn{ctx: ctx, spec: s, rank: p.begun, done: make(chan struct{})}
	p.begun++
	p.waiting = append(p.waiting, t)
	p.dispatch()
	return func() (results.Cell, error) {
		<-t.done
		return t.cell, t.err
	}
}

// dispatch wakes who waits for something to be made, and gives the cells that can
// run now, or never, to the laboratory; mu is held.
func (p *Plan) dispatch() {
	p.changed.Broadcast()
	p.waiting = slices.DeleteFunc(p.waiting, func(t *turn) bool {
		i := slices.IndexFunc(p.ready, func(b *kernel.Built) bool { return b.Spec.Name == t.spec.Kernel })
		switch {
		case i >= 0:
			built := p.ready[i]
			p.lab.Queue(t.rank, func(lend func(bool)) { p.run(t, built, lend) })
		case p.madeErr != nil:
			t.err = errNoKernel
			close(t.done)
		default:
			return false
		}
		return true
	})
}

// run runs a cell and records it, unless it was interrupted.
func (p *Plan) run(t *turn, b *kernel.Built, lend func(idle bool)) {
	defer close(t.done)
	if t.err = t.ctx.Err(); t.err != nil {
		return
	}
	s := t.spec.In(p.lab, b)
	p.mu.Lock()
	s.Initramfs = cmp.Or(p.packed[s.Kernel+"/"+s.Program.Name], s.Initramfs)
	p.mu.Unlock()
	s.Series, s.Symbols, s.Watch, s.View, s.Idle = b.Subjects, b.Symbols, p.Watch, p.view, lend
	s.Console = filepath.Join(p.Dir(), strings.ReplaceAll(s.Name(), "/", "-")+".log")
	start := time.Since(p.started)
	t.cell = RunCell(t.ctx, s)
	t.cell.StartS = start.Seconds()
	if t.err = t.ctx.Err(); t.err == nil {
		t.err = p.writer.Add(t.cell)
	}
}

// errNoKernel means that a cell could not run because its kernel was not made,
// which Kernels tells the reason of.
var errNoKernel = errors.New("its kernel could not be made")

// Dir is the run's folder, after Begin.
func (p *Plan) Dir() string { return p.writer.Dir() }

// How says in one line how the guests run, after Begin.
func (p *Plan) How() string {
	return fmt.Sprintf("QEMU %s, %s: %s", p.lab.QEMU, p.lab.Accel.Name, p.lab.Accel.Reason)
}

// End stops what is still being made and, if the run has begun, records that
// it is over; ctx tells whether it was interrupted.
func (p *Plan) End(ctx context.Context) error {
	p.stop(nil)
	<-p.made
	defer p.lab.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.writer == nil {
		return nil
	}
	if ctx.Err() != nil || p.madeErr != nil && p.broken == nil || p.failed {
		return p.writer.Finish(results.Interrupted)
	}
	return p.writer.Finish(results.Finished)
}

// Run begins, runs all cells and calls onCell as each finishes, one call at a
// time. It returns the run's folder. An error is the harness's or the kernel
// build's; what the kernels did is in the record.
func (p *Plan) Run(ctx context.Context, onCell func(results.Cell)) (dir string, err error) {
	if err := p.Begin(); err != nil {
		return "", errors.Join(err, p.End(ctx))
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, s := range p.Cells {
		cell := p.Start(ctx, s)
		wait.Go(func() {
			c, cellErr := cell()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case cellErr == nil:
				onCell(c)
			case ctx.Err() == nil && !errors.Is(cellErr, errNoKernel):
				err = errors.Join(err, cellErr)
			}
		})
	}
	wait.Wait()
	_, madeErr := p.Kernels()
	if p.against && len(p.Cells) > 0 && err == nil && madeErr == nil && ctx.Err() == nil {
		err = p.hold(ctx, onCell)
	}
	p.failed = err != nil
	return p.Dir(), errors.Join(err, madeErr, p.End(ctx))
}
