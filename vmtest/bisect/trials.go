package bisect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/lab"
	"patchproof/vmtest/qemu"
)

// Teller is how a campaign speaks while it works.
type Teller struct {
	// Progress is told of builds, Watch of cells (it may be nil), Say of everything
	// that people should read.
	Progress func(kernel.Progress)
	Watch    func(vmtest.Step)
	Say      func(format string, args ...any)
}

// subject is a kernel to try.
type subject struct {
	// key tells it from all others of the search.
	key string
	// title is how people are told of it.
	title   string
	commit  *kernel.Commit
	options []string
	// fixups are the names of what was put on top for it to build.
	fixups  []string
	spec    kernel.Spec
	variant kernel.Variant
}

// trials builds kernels, runs the program on them and keeps what came of it.
type trials struct {
	record *Record
	// cell runs a program: vmtest.RunCell, but for tests.
	cell    func(context.Context, vmtest.CellSpec) results.Cell
	program vmtest.Program
	lab     *lab.Lab
	count   int
	// atOnce is how many runs of a kernel are made side by side, 0 for one.
	atOnce int
	// confidence is how sure a search by quorum wants to be, 0 where every run is
	// taken at its word, and budget how many runs it may make.
	confidence float64
	budget     int
	// metric is the figure that is searched by, nil for a symptom.
	metric *metric
	// warned is the file whose warnings are searched, nil for anything else.
	warned *warned
	// failing is the C file, under each name that it had, of the compiler's error that is
	// searched, and error is what it says; empty for anything else.
	failing []string
	error   string
	tell    Teller
}

// newTrials opens the laboratory, which must be closed.
func newTrials(ctx context.Context, q Question, program vmtest.Program, tell Teller) (*trials, error) {
	m, err := metricOf(q.Metric)
	if err != nil {
		return nil, err
	}
	var w *warned
	if q.Warning {
		if w, err = warnedOf(q.Check); err != nil {
			return nil, err
		}
	}
	if m != nil && m.bench != "" {
		if q.Accel == qemu.KVM {
			return nil, fmt.Errorf("ACCEL=%s: instructions are counted under tcg", q.Accel)
		}
		q.Accel = qemu.TCG
	}
	l, err := lab.Open(ctx, q.Lab(tell.Progress))
	if err != nil {
		return nil, err
	}
	return &trials{
		record: &Record{QEMU: l.QEMU, Host: qemu.Host(), Program: program.Name, Check: q.Check, Selection: q.Set},
		cell:   vmtest.RunCell, program: program, count: q.Count, atOnce: cmp.Or(q.Jobs, runtime.NumCPU()), lab: l, tell: tell,
		confidence: q.Confidence, budget: q.Budget, metric: m, warned: w,
	}, nil
}

// open takes up an earlier record of the question, or begins one.
func (l *trials) open(name, question string, variant kernel.Variant, q Question) (unlock func(), err error) {
	l.record.Question, l.record.Variant = question, variant.Name
	r, unlock, err := open(name, *l.record, q.Fresh)
	if err != nil {
		return nil, err
	}
	l.record = r
	if n := len(r.Trials); n > 0 {
		l.tell.Say("taking up the search in %s, with %s tried", r.dir(), patches.Plural(n, "kernel"))
	}
	// Who asks now may allow more runs.
	r.Status, r.Selection, r.Answer = results.Running, q.Set, nil
	return unlock, r.save()
}

// close records how the search ended.
func (l *trials) close(answer *Answer, err error) (*Record, error) {
	l.record.Answer, l.record.Status = answer, results.Finished
	if err != nil {
		l.record.Status = results.Interrupted
	} else {
		l.record.Told = l.record.Report()
	}
	l.record.Finished = time.Now().UTC()
	if l.record.Finished.Before(l.record.Started) {
		// The clock was set back meanwhile, and no search ends before it begins.
		l.record.Finished = l.record.Started
	}
	return l.record, errors.Join(err, l.record.save())
}

// question is what one kind of trial wants to know.
type question struct {
	role string
	// enough says that a run has told all there is to know, so that it is not
	// repeated.
	enough func(results.Cell) bool
	// told, when set, says that a check has told all that there is to know of a run, which
	// ends there.
	told func(results.Check) bool
	// judge makes a mark of the runs; nil where it cannot be known yet.
	judge func([]results.Cell) (kernel.Mark, string)
	// built, when set, makes a mark of the build, and nothing is run.
	built func(*Trial) (kernel.Mark, string)
	// ran is judge for what needs more of a trial than its cells.
	ran func(*Trial) (kernel.Mark, string)
}

// trial is what the record has of a kernel, a new trial in that role where it has none.
func (l *trials) trial(s subject, role string) *Trial {
	t := l.record.trial(s.key)
	if t == nil {
		t = &Trial{Key: s.key, Title: s.title, Role: role, Commit: s.commit, Options: s.options, Fixups: s.fixups, Cells: []results.Cell{}}
		l.record.Trials = append(l.record.Trials, t)
	}
	return t
}

// try builds a kernel and runs the program on it until that is enough or has
// been done count times. What the record has of it is not done again. A kernel
// that its code keeps from being built has no cells and the mark Skip.
func (l *trials) try(ctx context.Context, s subject, q question) (*Trial, error) {
	t := l.trial(s, q.role)
	news := false
	var built *kernel.Built
	if q.built != nil {
		if t.Broken == "" && t.KernelKey == "" && t.Warnings == nil {
			started := time.Now()
			var err error
			if l.warned != nil {
				err = l.compile(ctx, s, t)
			} else {
				if _, err = l.build(ctx, s, t); err == nil {
					err = l.alone(ctx, s, t)
				}
			}
			t.WallS += time.Since(started).Seconds()
			if err = errors.Join(err, l.record.save()); err != nil {
				return nil, err
			}
			news = true
		}
		t.Mark, t.Why = q.built(t)
		if news {
			l.tellOf(t)
		}
		return t, l.record.save()
	}
	for t.Broken == "" && len(t.Cells) < l.count && !slices.ContainsFunc(t.Cells, q.enough) {
		started := time.Now()
		var err error
		if built == nil {
			built, err = l.build(ctx, s, t)
		}
		if twin := l.twin(t); twin != nil {
			t.SameAs, t.Cells = twin.Key, slices.Clone(twin.Cells)
		} else if err == nil && built != nil {
			n := 1
			if l.metric == nil {
				n = max(1, min(l.atOnce, l.count-len(t.Cells)))
			}
			err = l.run(ctx, s, t, built, q, n)
		}
		t.WallS += time.Since(started).Seconds()
		if err = errors.Join(err, l.record.save()); err != nil {
			return nil, err
		}
		news = true
	}
	switch {
	case t.Broken != "":
		t.Mark, t.Why = kernel.Skip, t.Broken
	case q.ran != nil:
		t.Mark, t.Why = q.ran(t)
	case q.judge != nil:
		t.Mark, t.Why = q.judge(t.Cells)
	}
	if news {
		l.tellOf(t)
	}
	return t, l.record.save()
}

// again runs a kernel once more than it has been run for this search, unless the
// record has that run already. A kernel that cannot be built has the mark Skip.
func (l *trials) again(ctx context.Context, s subject, q question, runs int) (*Trial, error) {
	t := l.trial(s, q.role)
	if t.Broken == "" && len(t.Cells) < runs {
		started := time.Now()
		built, err := l.build(ctx, s, t)
		if err == nil && built != nil {
			err = l.run(ctx, s, t, built, q, 1)
		}
		t.WallS += time.Since(started).Seconds()
		if err != nil {
			return nil, errors.Join(err, l.record.save())
		}
	}
	if t.Mark, t.Why = q.judge(t.Cells); t.Broken != "" {
		t.Mark, t.Why = kernel.Skip, t.Broken
	}
	return t, l.record.save()
}

// twin returns a trial that has run the same kernel.
func (l *trials) twin(t *Trial) *Trial {
	for _, other := range l.record.Trials {
		if other != t && t.KernelKey != "" && other.KernelKey == t.KernelKey && len(other.Cells) > len(t.Cells) {
			return other
		}
	}
	return nil
}

// tellOf says what came of a trial.
func (l *trials) tellOf(t *Trial) {
	text := fmt.Sprintf("%s: %s: %s", t.Role, t.Title, cmp.Or(string(t.Mark), "tried"))
	if t.Why != "" {
		text += ", " + results.Line(t.Why)
	}
	l.tell.Say("%s (%s)", text, t.cost())
}

// cost says what a trial took.
func (t *Trial) cost() string {
	build := fmt.Sprintf("build %.1f s, %s", t.BuildS, patches.Plural(t.Objects, "object"))
	if t.Reused {
		build = "kernel from the store"
	}
	if t.Warnings != nil {
		return fmt.Sprintf("%.1f s: one object", t.WallS)
	}
	if t.SameAs != "" {
		return fmt.Sprintf("%.1f s: %s, run before", t.WallS, build)
	}
	if len(t.Cells) == 0 {
		return fmt.Sprintf("%.1f s: %s", t.WallS, build)
	}
	return fmt.Sprintf("%.1f s: %s, %s %.1f s", t.WallS, build, patches.Plural(len(t.Cells), "run"), t.RunS)
}

// build gives the trial its kernel. It returns no kernel and no error when the
// kernel's own code, patches or options are in the way.
func (l *trials) build(ctx context.Context, s subject, t *Trial) (*kernel.Built, error) {
	started := time.Now()
	built, err := l.lab.Build(ctx, s.spec, s.variant)
	t.BuildS += time.Since(started).Seconds()
	if why := brokenBy(err); why != "" {
		t.Broken, t.Detail = why, err.Error()
		var refused *kernel.BuildError
		if errors.As(err, &refused) {
			t.Failure = failureOf(refused)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t.KernelKey, t.Vmlinux, t.Reused = built.Key, built.Vmlinux, built.Reused
	if !built.Reused {
		t.Objects = built.Objects
	}
	return built, nil
}

// notBuilt begins what brokenBy says of a compiler's error.
const notBuilt = "it does not build: "

// brokenBy says in a line how a kernel's code, patches or options keep it from
// being built, and nothing for any other error.
func brokenBy(err error) string {
	var apply *kernel.ApplyError
	var config *kernel.ConfigError
	var refused *kernel.BuildError
	switch {
	case errors.As(err, &apply):
		return fmt.Sprintf("patch %d, %q, does not apply", apply.Number, apply.Patch.Subject)
	case errors.As(err, &config):
		var names []string
		for _, m := range config.Missing {
			names = append(names, m.Name)
		}
		return "it cannot be configured: " + strings.Join(names, ", ")
	case errors.As(err, &refused):
		return fmt.Sprintf(notBuilt+"%s:%d: %s", cmp.Or(refused.File, "?"), refused.Line, refused.Message)
	}
	return ""
}

// reported says whether the harness got a whole report from any kernel yet.
func (l *trials) reported() bool {
	return slices.ContainsFunc(l.record.Trials, func(t *Trial) bool {
		return slices.ContainsFunc(t.Cells, func(c results.Cell) bool { return c.Stopped == nil && c.Verdict != event.Error })
	})
}

// harnessTries is how often a run is made that the harness itself keeps from a
// verdict, and stoppedTries that of a guest that stopped by itself. A kernel's
// verdict is never tried again for a better one.
const (
	harnessTries = 2
	stoppedTries = 3
)

// notInName are the characters that do not belong into the name of a log.
var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// run runs the program n times at once and adds the cells. Those that are done when it is
// interrupted are kept.
func (l *trials) run(ctx context.Context, s subject, t *Trial, built *kernel.Built, q question, n int) error {
	// All cells of a record run alike, those of an earlier search too.
	l.lab.Accel = qemu.Accel(l.record.Accel)
	if err := l.lab.Ready(ctx, built); err != nil {
		return err
	}
	if l.record.Accel.Name == "" {
		l.record.Accel = results.Accel(l.lab.Accel)
		l.tell.Say("QEMU %s, %s: %s", l.record.QEMU, l.lab.Accel.Name, l.lab.Accel.Reason)
	}
	started := time.Now()
	cells, done := make([]results.Cell, n), make([]bool, n)
	var wait sync.WaitGroup
	for i := range cells {
		iteration := len(t.Cells) + i + 1
		log := fmt.Sprintf("%s-%s-%d.log", notInName.ReplaceAllString(t.Key, "-"), l.program.Name, iteration)
		spec := vmtest.CellSpec{
			Kernel: s.spec.Name, Variant: s.variant.Name, Program: l.program, Iteration: iteration,
			Scale: s.variant.Scale, Known: s.spec.Known, Console: filepath.Join(l.record.dir(), log), Watch: l.tell.Watch, Enough: q.told,
		}.In(l.lab, built)
		wait.Go(func() {
			cells[i] = l.judged(ctx, spec)
			cells[i].Console = log
			done[i] = ctx.Err() == nil
		})
	}
	wait.Wait()
	t.RunS += time.Since(started).Seconds()
	if i := slices.Index(done, false); i >= 0 {
		cells = cells[:i]
	}
	t.Cells = append(t.Cells, cells...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// judged runs a cell, and again where the harness itself keeps it from a verdict.
func (l *trials) judged(ctx context.Context, spec vmtest.CellSpec) results.Cell {
	var cell results.Cell
	stopped := 0
	for try := 1; ; try++ {
		cell = l.cell(ctx, spec)
		if cell.Stopped != nil {
			stopped++
		}
		if ctx.Err() != nil || cell.Verdict != event.Error || try >= harnessTries && stopped == 0 || try >= stoppedTries {
			break
		}
	}
	if cell.Verdict == event.Error && stopped == stoppedTries && l.reported() {
		cell.Blame(fmt.Sprintf("so it did in %d runs of %d, and on another kernel of this search the same harness got a whole report", stopped, stopped))
	}
	return cell
}
