package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/results/html"
	"patchproof/vmtest"
)

// prepare makes everything ready to boot, for a run that is recorded or for none.
func (f flags) prepare(ctx context.Context, t *terminal, record bool) (*vmtest.Plan, error) {
	sel, err := f.selection(t)
	if err != nil {
		return nil, err
	}
	if err := vmtest.Check(sel); err != nil {
		return nil, err
	}
	if err := sayPatch(ctx, t, sel); err != nil {
		return nil, err
	}
	sel.NoRecord = !record
	return vmtest.Prepare(ctx, sel, t.progress)
}

type vmtestCmd struct {
	flags
}

// Run is the main job: build, boot, report.
func (c vmtestCmd) Run(ctx context.Context, t *terminal) error {
	plan, err := c.prepare(ctx, t, true)
	if err != nil {
		return err
	}
	t.follow(plan)
	done, total := 0, len(plan.Cells)
	plan.Repeating = func(programs []string, cells int) {
		total += cells
		t.printf("one run does not tell: %s; %s more\n", strings.Join(programs, ", "), patches.Plural(cells, "cell"))
	}
	dir, err := plan.Run(ctx, func(cell results.Cell) {
		if done++; done == 1 {
			t.printf("%s\n", plan.How())
		}
		t.printf("%*d/%d  %s\n", len(strconv.Itoa(total)), done, total, cellLine(cell, plan.Against()))
	})
	t.endLive()
	if dir == "" {
		return err
	}
	run, readErr := results.Read(dir)
	if readErr != nil {
		return readErr
	}
	if reportErr := report(t, run, false); reportErr != nil {
		return reportErr
	}
	return outcome(t, run, errors.Join(err, writePage(t, run)))
}

// outcome is how a command ends whose run has been reported: what a kernel did counts for more
// than what went wrong beside it, which is said.
func outcome(t *terminal, run *results.Run, err error) error {
	switch {
	case err == nil:
	case run.ExitCode() != exitUnexpected:
		return err
	case isInterruption(err):
		t.errorf("%s\n", interrupted)
	default:
		t.errorf("%v\n", err)
	}
	return exitError(run.ExitCode())
}

// cellLine is what is said of a cell as soon as it ends. Where a patch is held against its base,
// what is expected is known at the end.
func cellLine(c results.Cell, against bool) string {
	text := fmt.Sprintf("%s %s on %s", c.Verdict, c.Program, c.Kernel)
	if c.Iteration > 1 {
		text += fmt.Sprintf(" (run %d)", c.Iteration)
	}
	text += fmt.Sprintf(", %.1f s", c.WallS)
	if !c.Expected && !against {
		text += ", UNEXPECTED"
	}
	return text
}

// report prints what a run came to, and where its record is. All of it is said with all.
func report(t *terminal, run *results.Run, all bool) error {
	view := results.View{Colour: t.colour, All: all}
	// A run can be looked at from anywhere; the reference is of a checkout's subject.
	if subject, err := kernel.NamedSubject(run.Subject); err == nil && run.Subject != "" && run.Selection["CONFIG"] == "" {
		if view.Since, err = results.SinceReference(referenceDir(subject), run); err != nil {
			return err
		}
	}
	if run.ExitCode() == exitUnexpected {
		view.Flakes = results.FlakesOf(run, results.Newest(filepath.Dir(run.Dir)))
	}
	t.printf("\n")
	if err := results.Report(t.out, run, view); err != nil {
		return err
	}
	if asked := run.Selection; !all && run.ExitCode() == 0 && cmp.Or(asked["PATCH"], asked["LORE"]) != "" && cmp.Or(asked["TEST"], asked["PROGRAMS"]) == "" {
		t.printf("TEST=auto also runs the KUnit suites and selftests nearest to the patch\n")
	}
	if !all {
		t.printf("more: bin/patchproof results show -v %s\n", run.ID)
	}
	t.printf("%s\n", filepath.Join(run.Dir, "run.json"))
	return nil
}

// writePage writes the run's report.html and says where it is.
func writePage(t *terminal, run *results.Run) error {
	var figures []subjects.Figure
	// As with the reference; a run of no subject has the default one's programs.
	if subject, err := kernel.NamedSubject(run.Subject); err == nil {
		figures = subject.Figures
	}
	path, err := html.Write(run, figures)
	if err != nil {
		return err
	}
	t.printf("%s\n", path)
	return nil
}

type buildCmd struct {
	flags
}

// Run builds without booting.
func (c buildCmd) Run(ctx context.Context, t *terminal) error {
	plan, err := c.prepare(ctx, t, false)
	if err != nil {
		return err
	}
	kernels, err := plan.Kernels()
	if err != nil {
		return errors.Join(err, plan.End(ctx))
	}
	for _, k := range kernels {
		t.printf("%s\t%s\n", k.Spec.Name, k.Vmlinux)
	}
	return plan.End(ctx)
}

type shellCmd struct {
	flags
}

// Run hands the terminal to QEMU.
func (c shellCmd) Run(ctx context.Context, t *terminal) error {
	plan, err := c.prepare(ctx, t, false)
	if err != nil {
		return err
	}
	if _, err := plan.Kernels(); err != nil {
		return errors.Join(err, plan.End(ctx))
	}
	t.endLive()
	return errors.Join(plan.Shell(ctx, os.Stdin, os.Stdout), plan.End(ctx))
}
