package vmtest

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/kernel/sandbox"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/initramfs"
	"patchproof/vmtest/lab"
	"patchproof/vmtest/userland"
)

// Plan is a run: its cells, and the kernels that they wait for, which are made
// meanwhile.
type Plan struct {
	// Cells are in the order in which they start: the slowest program first.
	Cells []CellSpec
	// Watch, when set before Begin, is told how the cells go, from several
	// goroutines.
	Watch func(Step)
	// Places is how many cells run at once.
	Places int
	// Repeating, when set before Run, is told of cells that are run once more, and
	// how many they are.
	Repeating func(programs []string, cells int)

	lab *lab.Lab
	// variables and subject are the selection's, for the record.
	variables map[string]string
	subject   *subjects.Subject
	// against says that a user's own patch is held against its base, strict that
	// what is flaky counts.
	against, strict bool
	// timed says that a program is, so that one guest runs at a time.
	timed bool
	// enough is how many kernels must be ready before the first cell starts.
	enough  int
	started time.Time
	writer  *results.Writer
	// failed says that cells could not be recorded, or not be held against base.
	failed bool
	// stop ends what is still being made; made is closed then.
	stop context.CancelCauseFunc
	made chan struct{}

	// mu guards what follows, changed tells that some of it is new.
	mu      sync.Mutex
	changed *sync.Cond
	// ready holds the kernels that can be booted, in the order in which they came;
	// madeErr is why there will not be more.
	ready []*kernel.Built
	// view is what guests see of the host's root, where tests do.
	view sandbox.View
	// packed is the initramfs of a kernel's program (KERNEL/PROGRAM) whose guests have another
	// than all.
	packed  map[string]string
	madeErr error
	// broken is a kernel that its patches kept from being built.
	broken *results.Kernel
	// waiting are the cells that were started and whose kernel is not ready; begun
	// is how many were started.
	waiting []*turn
	begun   int
}

// Prepare checks the selection and begins to make the kernels and what guests boot
// into, whatever of them is not in the cache. progress may be nil. End must be called.
func Prepare(ctx context.Context, sel Selection, progress func(kernel.Progress)) (*Plan, error) {
	s, err := resolve(sel)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(kernel.Progress) {}
	}
	progress = once(progress)
	options := sel.Lab(progress)
	options.Disk, options.Kselftest = Disk(s.programs), len(s.suites.Targets) > 0
	if err := options.Check(ctx); err != nil {
		return nil, err
	}
	if s, err = withSuites(ctx, sel, s, progress); err != nil {
		return nil, err
	}
	options.Disk, options.Kselftest = Disk(s.programs), len(s.targets) > 0
	p, shard, err := plan(sel, s)
	if err != nil {
		return nil, err
	}
	if p.view, err = open(ctx, sel.Limits.Guest, s, progress); err != nil {
		return nil, err
	}
	if shard != nil {
		progress(kernel.Progress{Step: "note: " + shard.Describe()})
	}
	if p.timed {
		options.Places = 1
	}
	if p.lab, err = lab.Open(ctx, options); err != nil {
		return nil, err
	}
	p.lab.Shard = shard
	ctx, p.stop = context.WithCancelCause(ctx)
	go func() {
		defer close(p.made)
		err := p.make(ctx, sel, s)
		if ctx.Err() != nil {
			// What stopped it first, not what failed because of that.
			err = context.Cause(ctx)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.madeErr = errors.Join(p.madeErr, err)
		p.dispatch()
	}()
	return p, nil
}

// once tells of a kernel's patches, and each note, the first time only: they are applied for
// whoever looks at the source, and again for its build.
func once(progress func(kernel.Progress)) func(kernel.Progress) {
	var said sync.Map
	return func(p kernel.Progress) {
		if p.Step == kernel.StepApply || strings.HasPrefix(p.Step, "note: ") {
			if _, before := said.LoadOrStore(p, true); before {
				return
			}
		}
		progress(p)
	}
}

// plan is what a selection comes down to, with its cells in order, and of these its share.
func plan(sel Selection, s selected) (*Plan, *results.Shard, error) {
	p := &Plan{
		Places: cmp.Or(sel.Jobs, runtime.NumCPU()), made: make(chan struct{}), enough: 1, variables: sel.Set, subject: s.subject, strict: sel.Strict,
		against: len(s.specs) == 2 && s.specs[0].Series == nil && s.specs[1].Name == kernel.Patched && sel.Run == nil,
	}
	p.changed = sync.NewCond(&p.mu)
	for _, program := range s.programs {
		if program.Timed {
			p.Places, p.enough, p.timed = 1, len(s.specs), true
		}
		for _, t := range turns(len(s.specs), sel.Count, program.Timed) {
			spec := s.specs[t.kernel]
			p.Cells = append(p.Cells, CellSpec{
				Kernel: spec.Name, Variant: s.variant.Name, Program: program, Iteration: t.iteration,
				Scale: s.variant.Scale, Features: DeclaredFeatures(spec), Known: spec.Known,
			})
		}
	}
	if sel.Shard.Of == 0 {
		return p, nil, nil
	}
	shard, err := p.take(sel, s)
	return p, shard, err
}

// Against says that a user's own patch is held against its base.
func (p *Plan) Against() bool { return p.against }

// make makes what guests boot into and the kernels, one after the other. The cells of
// a kernel run while the next one is built.
func (p *Plan) make(ctx context.Context, sel Selection, s selected) (err error) {
	p.noteUntested(ctx, sel, s.tests)
	var furnishing sync.WaitGroup
	furnishing.Go(func() {
		counted := slices.ContainsFunc(p.Cells, func(s CellSpec) bool { return s.Program.Counted })
		if err := furnish(ctx, p.lab, s.tests, sel.Limits.Timeout, counted); err != nil {
			p.stop(err)
		}
	})
	defer furnishing.Wait()
	defer func() {
		if err != nil {
			p.stop(err)
		}
	}()
	if err := applyAll(ctx, p.lab.Builder, s.specs, s.variant); err != nil {
		return err
	}
	var base kernel.Selftests
	for i, spec := range s.specs {
		var rows []userland.Suite
		if len(s.targets) > 0 {
			var tests kernel.Selftests
			if rows, tests, err = selftests(ctx, p.lab, s, i, base, sel.Limits); err != nil {
				return err
			}
			if i == 0 {
				base = tests
			}
		}
		built, err := p.lab.Build(ctx, spec, s.variant)
		p.recordBroken(err, spec, s.variant)
		if err != nil {
			return err
		}
		if furnishing.Wait(); ctx.Err() != nil {
			return ctx.Err()
		}
		if err := p.packSuites(ctx, built, rows, s.groups); err != nil {
			return err
		}
		if err := p.lab.Ready(ctx, built); err != nil {
			return err
		}
		p.add(built)
	}
	return nil
}

// noteUntested says what the user may take for tested, and is not.
func (p *Plan) noteUntested(ctx context.Context, sel Selection, tests []userland.Test) {
	if sel.Tree != "" && !kernel.OfChanges(sel.Set["PATCH"]) && kernel.Dirty(ctx, sel.Tree) {
		p.lab.Builder.Progress(kernel.Progress{Step: "note: uncommitted changes in " + sel.Tree + " are not tested"})
	}
	for _, why := range userland.NotRun(tests) {
		p.lab.Builder.Progress(kernel.Progress{Step: "note: " + why})
	}
}

// packSuites packs what a kernel's guests run of suites: the targets of its own kselftest all
// in one, and each group from elsewhere by itself.
func (p *Plan) packSuites(ctx context.Context, built *kernel.Built, targets []userland.Suite, groups []userland.Group) error {
	if len(targets) > 0 {
		var names []string
		for _, t := range targets {
			names = append(names, t.Name)
		}
		if err := p.pack(built, func() ([]byte, error) { return userland.ArchiveSuites(ctx, targets) }, names...); err != nil {
			return err
		}
	}
	for _, g := range groups {
		if err := p.pack(built, g.Archive, g.Name); err != nil {
			return err
		}
	}
	return nil
}

// pack puts tests behind what the guests of these programs boot into on a kernel.
func (p *Plan) pack(built *kernel.Built, archive func() ([]byte, error), programs ...string) error {
	path, err := initramfs.With(p.lab.Builder.Cache, p.lab.Initramfs, archive)
	if err == nil {
		path, err = p.lab.WithModules(path, built)
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.packed == nil {
		p.packed = map[string]string{}
	}
	for _, name := range programs {
		p.packed[built.Spec.Name+"/"+name] = path
	}
	return nil
}

// applyAll finds a patch that does not apply before minutes go into building
// its base.
func applyAll(ctx context.Context, b kernel.Builder, specs []kernel.Spec, variant kernel.Variant) error {
	for _, spec := range specs {
		built, err := b.Stored(ctx, spec, variant)
		if err != nil {
			return err
		}
		if built != nil {
			continue
		}
		if err := b.CheckHost(ctx, spec); err != nil {
			return err
		}
		if len(spec.Series) == 0 {
			continue
		}
		if _, err := b.Apply(ctx, spec); err != nil {
			return err
		}
	}
	return nil
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

// add makes a kernel known to the run and to the cells that wait for it.
func (p *Plan) add(b *kernel.Built) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, b)
	if p.writer != nil {
		p.recordKernel(b)
	}
	p.dispatch()
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
	k := results.Kernel{
		Name: b.Spec.Name, Pin: b.Spec.Pin.Name, Variant: b.Variant,
		Commit: b.Commit, Tree: b.Tree, ConfigHash: b.ConfigHash, Compiler: b.Compiler,
		Key: b.Key, Vmlinux: b.Vmlinux, Objects: b.Objects, BuildS: b.BuildS,
		Features: b.Spec.Features, Source: sourceRecord(b.Spec.Pin), Quarantine: quarantines(b.Spec.Known),
	}
	for _, p := range b.Spec.Patches() {
		k.Series, k.PatchIDs = append(k.Series, p.Subject), append(k.PatchIDs, p.ID())
	}
	return k
}

// quarantines are what run.json says of those.
func quarantines(known []subjects.KnownIssue) []results.Quarantine {
	var all []results.Quarantine
	for _, k := range known {
		if k.IsQuarantine() {
			all = append(all, results.Quarantine{
				Kernels: k.Kernels, Variants: k.Variants, Program: k.Program, Check: k.Check, Verdict: event.Verdict(k.Verdict),
				Reason: k.Reason, Since: k.Since, Until: k.Until, Expired: k.Expired,
			})
		}
	}
	return all
}

// sourceRecord is what run.json says of a pin's archive.
func sourceRecord(pin kernel.Pin) *results.Source {
	if pin.Archive.SHA256 == "" {
		return nil
	}
	return &results.Source{Version: pin.Version, File: pin.Archive.Name, SHA256: pin.Archive.SHA256, Trust: pin.Trust}
}
