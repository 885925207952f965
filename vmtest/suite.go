package vmtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest/counter"
	"patchproof/vmtest/initramfs"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/userland"
)

// Plan is a run: its cells, and the kernels and the initramfs that they wait
// for, which are made meanwhile.
type Plan struct {
	// Cells are in the order in which they start: the slowest program first.
	Cells []CellSpec
	// Watch, when set before Begin, is told how the cells go, from several
	// goroutines.
	Watch func(Step)
	// Jobs is how many cells run at once.
	Jobs int
	// Repeating, when set before Run, is told of cells that are run once more, and
	// how many they are.
	Repeating func(programs []string, cells int)

	cache string
	// against says that a user's own patch is held against its base, strict that
	// what is flaky counts.
	against, strict bool
	// enough is how many kernels must be ready before the first cell starts.
	enough int
	record results.Run
	writer *results.Writer
	// stop ends what is still being made; made is closed then.
	stop context.CancelCauseFunc
	made chan struct{}
	// release lets the cache be pruned again; it is set when made is closed.
	release func()

	// mu guards what follows, changed tells that some of it is new.
	mu      sync.Mutex
	changed *sync.Cond
	// ready holds, by name, the kernels that can be booted, in the order in
	// which they came; madeErr is why there will not be more.
	ready   []*kernel.Built
	madeErr error
	// broken is a kernel that its patches kept from being built.
	broken *results.Kernel
	// initramfs and accel are set before the first kernel is ready.
	initramfs string
	accel     qemu.Accel
	// counter is set before them where a program is counted.
	counter string
	// waiting are the cells that were started and have not had their turn.
	waiting []*turn
	ended   bool
}

// turn is a cell that was started.
type turn struct {
	spec CellSpec
	done chan struct{}
	// cell and err are set when done is closed.
	cell results.Cell
	err  error
}

// Check finds what is wrong with a selection without changing anything.
func Check(sel Selection) error {
	_, _, _, _, err := resolve(sel)
	return err
}

func resolve(sel Selection) ([]kernel.Spec, kernel.Variant, []Program, []userland.Test, error) {
	lineup, err := kernel.Load()
	if err != nil {
		return nil, kernel.Variant{}, nil, nil, err
	}
	specs, variant, err := lineup.Resolve(sel.Selection)
	if err != nil {
		return nil, kernel.Variant{}, nil, nil, err
	}
	programs := sel.Run
	var tests []userland.Test
	if sel.Test != "" {
		if tests, err = userland.Find(sel.Test); err != nil {
			return nil, kernel.Variant{}, nil, nil, err
		}
	}
	if programs == nil && (tests == nil || len(sel.Programs) > 0) {
		programs, err = SelectPrograms(sel, variant.Name)
	}
	if err != nil {
		return nil, kernel.Variant{}, nil, nil, err
	}
	for _, p := range testPrograms(tests, sel.Limits) {
		if slices.ContainsFunc(programs, func(o Program) bool { return o.Name == p.Name }) {
			return nil, kernel.Variant{}, nil, nil, fmt.Errorf("the test %s has the name of a program that PROGRAMS selects: call it otherwise", p.Name)
		}
		programs = append(programs, p)
	}
	return specs, variant, seeded(programs, sel.Seed), tests, qemu.CheckAccel(sel.Accel)
}

// seeded gives the seed to the programs that take one; 0 leaves them theirs.
func seeded(programs []Program, seed int) []Program {
	programs = slices.Clone(programs)
	for i, p := range programs {
		if p.Seeded && seed != 0 {
			programs[i].Append = append(slices.Clip(p.Append), fmt.Sprintf("patchproof.seed=%d", seed))
		}
	}
	return programs
}

// Prepare checks the selection and begins to make the kernels and the
// initramfs, whatever of them is not in the cache. progress may be nil. End must
// be called.
func Prepare(ctx context.Context, sel Selection, progress func(kernel.Progress)) (*Plan, error) {
	specs, variant, programs, tests, err := resolve(sel)
	if err != nil {
		return nil, err
	}
	version, err := qemu.Find(ctx)
	if err != nil {
		return nil, err
	}
	subject, err := kernel.Subject(sel.Selection)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	p := &Plan{cache: sel.Cache, Jobs: cmp.Or(sel.Jobs, runtime.NumCPU()), stop: stop, made: make(chan struct{}), record: results.Run{
		Command:   os.Args,
		Selection: sel.Set,
		Host:      qemu.Host(),
		QEMU:      version,
	}}
	if subject != nil {
		p.record.Subject = subject.Name
	}
	p.changed = sync.NewCond(&p.mu)
	p.enough = 1
	p.strict = sel.Strict
	p.against = len(specs) == 2 && specs[0].Series == nil && specs[1].Name == kernel.Patched && sel.Run == nil
	for _, program := range programs {
		if program.Timed {
			p.Jobs, p.enough = 1, len(specs)
		}
		for _, t := range turns(len(specs), sel.Count, program.Timed) {
			spec := specs[t.kernel]
			p.Cells = append(p.Cells, CellSpec{
				Kernel: spec.Name, Variant: variant.Name, Program: program, Iteration: t.iteration,
				Scale: variant.Scale, Features: DeclaredFeatures(spec), Known: spec.Known,
			})
		}
	}
	go p.make(ctx, sel, specs, variant, tests, progress)
	return p, nil
}

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

// make makes the initramfs and the kernels, one after the other, as each build
// uses all processors. The cells of a kernel run while the next one is built.
func (p *Plan) make(ctx context.Context, sel Selection, specs []kernel.Spec, variant kernel.Variant, tests []userland.Test, progress func(kernel.Progress)) {
	defer close(p.made)
	release, err := kernel.Store{Dir: sel.Cache}.Use(ctx)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.madeErr = err
		p.changed.Broadcast()
		return
	}
	p.release = release
	if progress == nil {
		progress = func(kernel.Progress) {}
	}
	if sel.Tree != "" && kernel.Dirty(ctx, sel.Tree) {
		progress(kernel.Progress{Step: "note: uncommitted changes in " + sel.Tree + " are not tested"})
	}
	var others sync.WaitGroup
	others.Go(func() {
		var err error
		if p.initramfs, err = initramfs.Build(ctx, sel.Cache); err != nil {
			p.stop(err)
		}
		if len(tests) > 0 && err == nil {
			if p.initramfs, err = initramfs.With(sel.Cache, p.initramfs, func() ([]byte, error) { return userland.Archive(tests, sel.Limits.Timeout) }); err != nil {
				p.stop(err)
			}
		}
		if slices.ContainsFunc(p.Cells, func(s CellSpec) bool { return s.Program.Counted }) {
			if p.counter, err = counter.Build(ctx, sel.Cache); err != nil {
				p.stop(err)
			}
		}
	})
	b := kernel.Builder{Cache: sel.Cache, Jobs: sel.Jobs, Source: sel.Source, Progress: progress}
	err = applyAll(ctx, b, specs, variant)
	for i := 0; err == nil && i < len(specs); i++ {
		var built *kernel.Built
		built, err = b.Build(ctx, specs[i], variant)
		p.recordBroken(err, specs[i], variant)
		others.Wait()
		if i == 0 && err == nil && ctx.Err() == nil {
			p.accel, err = qemu.ChooseAccel(ctx, sel.Accel, sel.Cache, built.Vmlinux)
		}
		if err == nil && ctx.Err() == nil {
			p.add(built)
		}
	}
	if err != nil {
		p.stop(err)
	}
	others.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		// What stopped it first, not what failed because of that.
		p.madeErr = context.Cause(ctx)
	}
	p.changed.Broadcast()
}

// recordBroken records a kernel whose patches broke the build: a finding about
// the kernel, unlike everything else that can stop a build.
func (p *Plan) recordBroken(err error, spec kernel.Spec, variant kernel.Variant) {
	var refused *kernel.BuildError
	if !errors.As(err, &refused) || !refused.Patched || !refused.BaseBuilt {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	broken := KernelRecord(&kernel.Built{Spec: spec, Variant: variant.Name})
	broken.BuildError = refused.Error()
	p.broken = &broken
	if p.writer != nil {
		p.writer.AddKernel(broken)
	}
}

// applyAll finds a patch that does not apply before minutes go into building
// its base.
func applyAll(ctx context.Context, b kernel.Builder, specs []kernel.Spec, variant kernel.Variant) error {
	for _, spec := range specs {
		built, err := b.Stored(ctx, spec, variant)
		if err != nil {
			return err
		}
		if built != nil || len(spec.Series) == 0 {
			continue
		}
		if _, err := b.Apply(ctx, spec); err != nil {
			return err
		}
	}
	return nil
}

// add makes a kernel known to the run and to the cells that wait for it.
func (p *Plan) add(b *kernel.Built) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, b)
	if p.writer != nil {
		p.recordKernel(b)
	}
	p.changed.Broadcast()
}

// recordKernel writes a kernel into the run's record.
func (p *Plan) recordKernel(b *kernel.Built) {
	if err := p.writer.AddKernel(KernelRecord(b)); err != nil && p.madeErr == nil {
		p.madeErr = err
	}
}

// Kernels waits until everything is made.
func (p *Plan) Kernels() ([]*kernel.Built, error) {
	<-p.made
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready, p.madeErr
}

// DeclaredFeatures are what the programs must not skip, and nil where nobody
// declared anything: for a patch or a tree of the user's own.
func DeclaredFeatures(s kernel.Spec) []string {
	if s.Name == kernel.Patched || s.Tree != "" && len(s.Series) == 0 {
		return nil
	}
	return append([]string{}, s.Features...)
}

// KernelRecord is what run.json says of a kernel.
func KernelRecord(b *kernel.Built) results.Kernel {
	return results.Kernel{
		Name: b.Spec.Name, Pin: b.Spec.Pin.Name, Variant: b.Variant,
		Series: b.Subjects, PatchIDs: b.PatchIDs,
		Commit: b.Commit, Tree: b.Tree, ConfigHash: b.ConfigHash, Compiler: b.Compiler,
		Key: b.Key, Vmlinux: b.Vmlinux, Objects: b.Objects, BuildS: b.BuildS,
		Features: b.Spec.Features,
	}
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

// Begin waits for the first kernel, for all of them where a program is timed, creates the run's folder below results/out
// of the checkout and lets cells start.
func (p *Plan) Begin(ctx context.Context) error {
	root, err := kernel.Checkout()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.ready) < p.enough && p.madeErr == nil {
		p.changed.Wait()
	}
	if len(p.ready) < p.enough {
		return p.madeErr
	}
	p.record.Accel, p.record.Started = results.Accel(p.accel), time.Now()
	if p.writer, err = results.Create(filepath.Join(root, "results", "out"), p.record); err != nil {
		return err
	}
	for _, b := range p.ready {
		p.recordKernel(b)
	}
	if p.broken != nil {
		if err := p.writer.AddKernel(*p.broken); err != nil {
			return err
		}
	}
	for range p.Jobs {
		go func() {
			for t, b := p.next(); t != nil; t, b = p.next() {
				p.run(ctx, t, b)
			}
		}()
	}
	return nil
}

// next waits for a cell whose kernel is ready, or whose kernel will never be:
// then there is no kernel. At the end of the run there is neither.
func (p *Plan) next() (*turn, *kernel.Built) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.ended {
			return nil, nil
		}
		for i, t := range p.waiting {
			b := p.kernel(t.spec.Kernel)
			if b != nil || p.madeErr != nil {
				p.waiting = slices.Delete(p.waiting, i, i+1)
				return t, b
			}
		}
		p.changed.Wait()
	}
}

// kernel returns a kernel that is ready.
func (p *Plan) kernel(name string) *kernel.Built {
	i := slices.IndexFunc(p.ready, func(b *kernel.Built) bool { return b.Spec.Name == name })
	if i < 0 {
		return nil
	}
	return p.ready[i]
}

// run runs a cell and records it, unless it was interrupted.
func (p *Plan) run(ctx context.Context, t *turn, b *kernel.Built) {
	defer close(t.done)
	if t.err = ctx.Err(); t.err != nil {
		return
	}
	if b == nil {
		t.err = errNoKernel
		return
	}
	s := t.spec
	s.Image, s.Initramfs, s.Accel = b.Vmlinux, p.initramfs, p.accel
	s.Series, s.Symbols, s.Watch = b.Subjects, b.Symbols, p.Watch
	log := strings.ReplaceAll(s.Name(), "/", "-") + ".log"
	s.Console = filepath.Join(p.Dir(), log)
	if s.Program.Counted {
		s.Counter, s.Counts = p.counter, strings.TrimSuffix(s.Console, ".log")+".counts"
	}
	start := time.Since(p.record.Started)
	t.cell = RunCell(ctx, s)
	t.cell.StartS = start.Seconds()
	t.cell.Console = log
	if s.Counts != "" && t.cell.Verdict == event.Pass {
		if err := counter.Add(&t.cell, s.Counts); err != nil {
			t.cell.Verdict, t.cell.Expected, t.cell.Reason = event.Error, false, err.Error()
		}
	}
	if t.err = ctx.Err(); t.err == nil {
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
	return fmt.Sprintf("QEMU %s, %s: %s", p.record.QEMU, p.accel.Name, p.accel.Reason)
}

// Start queues a cell and returns a function that waits for it. Cells run in
// the order of their Start as far as their kernels are ready, JOBS at a time.
// Each is recorded as it finishes; one that was interrupted is not, and gives
// ctx's error.
func (p *Plan) Start(s CellSpec) func() (results.Cell, error) {
	t := &turn{spec: s, done: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, t)
	p.changed.Broadcast()
	p.mu.Unlock()
	return func() (results.Cell, error) {
		<-t.done
		return t.cell, t.err
	}
}

// End stops what is still being made and, if the run has begun, records that
// it is over; ctx tells whether it was interrupted.
func (p *Plan) End(ctx context.Context) error {
	p.stop(nil)
	<-p.made
	if p.release != nil {
		defer p.release()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.changed.Broadcast()
	if p.writer == nil {
		return nil
	}
	if ctx.Err() != nil || p.madeErr != nil && p.broken == nil {
		return p.writer.Finish(results.Interrupted)
	}
	return p.writer.Finish(results.Finished)
}

// Run begins, runs all cells and calls onCell as each finishes, one call at a
// time. It returns the run's folder. An error is the harness's or the kernel
// build's; what the kernels did is in the record.
func (p *Plan) Run(ctx context.Context, onCell func(results.Cell)) (dir string, err error) {
	if err := p.Begin(ctx); err != nil {
		return "", errors.Join(err, p.End(ctx))
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, s := range p.Cells {
		cell := p.Start(s)
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
	if p.against && err == nil && madeErr == nil && ctx.Err() == nil {
		err = p.hold(ctx, onCell)
	}
	return p.Dir(), errors.Join(err, madeErr, p.End(ctx))
}

// Shell boots the last kernel of the selection with a shell on the harness's
// own terminal, by the command that a cell's record gives but for the events, so
// that programs print their results.
func (p *Plan) Shell(ctx context.Context) error {
	built, err := p.Kernels()
	if err != nil {
		return err
	}
	tmp, remove, err := kernel.TempDir("shell")
	if err != nil {
		return err
	}
	defer remove()
	initramfs, err := initramfs.BuildShell(ctx, p.cache)
	if err != nil {
		return err
	}
	s := p.Cells[0]
	s.Image, s.Initramfs, s.Accel = built[len(built)-1].Vmlinux, initramfs, p.accel
	s.Program.Name, s.Program.Command = "gosh", ""
	cmd := exec.CommandContext(ctx, "sh", "-c", s.vm().Command(false))
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = tmp, os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
