package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/results/html"
	"patchproof/vmtest"
)

// selection is the make variables as flags.
type selection struct {
	Kernels   string `env:"KERNELS" placeholder:"NAMES" help:"Kernels of the line-up; all that the pin has by default."`
	Programs  string `env:"PROGRAMS" placeholder:"NAMES" help:"Guest programs; all by default."`
	Variant   string `env:"VARIANT" placeholder:"NAME" help:"Config flavour; plain by default."`
	Accel     string `env:"ACCEL" placeholder:"auto|kvm|tcg" help:"How QEMU runs the guests; auto takes KVM where a guest really runs through it."`
	Pin       string `env:"PIN" placeholder:"NAME" help:"Kernel source fixed by its hash; v5.10.13 by default."`
	Patch     string `env:"PATCH" placeholder:"FILE" help:"Your own patch (mbox, diff or quilt folder): the line-up becomes base and patched."`
	Tree      string `env:"TREE" placeholder:"FOLDER" help:"A local git tree instead of a pin; it is only read."`
	Rev       string `env:"REV" placeholder:"REV" help:"Revision of TREE; HEAD by default."`
	KernelSrc string `env:"KERNEL_SRC" placeholder:"FILE" help:"The pin's source, a tarball or folder at hand; it is verified."`
	Jobs      string `env:"JOBS" placeholder:"N" help:"Cells at once, and make's -j; one per CPU by default."`
	Count     string `env:"COUNT" placeholder:"N" help:"How often each cell is run; once by default."`
	Seed      string `env:"SEED" placeholder:"N" help:"What random programs do; 1 by default."`
	Known     string `env:"KNOWN" placeholder:"FILE" help:"Issues that your tree is known to have, declared as in known-issues.toml."`
	Strict    string `env:"STRICT" placeholder:"1" help:"With PATCH, what is flaky counts as worse than base."`
	Test      string `env:"TEST" placeholder:"TEST" help:"Your own test: an executable, a script, a folder of them or a command line; several with semicolons."`
	Timeout   string `env:"TIMEOUT" placeholder:"TIME" help:"How long a test may run; 60s by default."`
	Memory    string `env:"MEMORY" placeholder:"SIZE" help:"A test's memory; 512M by default."`
	CPUs      string `name:"cpus" env:"CPUS" placeholder:"N" help:"A test's processors; 2 by default."`
	Disk      string `env:"DISK" placeholder:"SIZE" help:"A test's empty disks: a size each, behind a comma nvme or virtio."`
	Append    string `env:"APPEND" placeholder:"WORDS" help:"Words for the kernel command line of a test."`
	Cache     string `env:"CACHE" placeholder:"FOLDER" help:"Where sources and kernels are kept."`
}

// values are the selection by the names of its variables.
func (s selection) values() map[string]string {
	return map[string]string{
		"KERNELS": s.Kernels, "PROGRAMS": s.Programs, "VARIANT": s.Variant, "ACCEL": s.Accel,
		"PIN": s.Pin, "PATCH": s.Patch, "TREE": s.Tree, "REV": s.Rev, "KERNEL_SRC": s.KernelSrc,
		"JOBS": s.Jobs, "COUNT": s.Count, "SEED": s.Seed, "CACHE": s.Cache,
		"KNOWN": s.Known, "STRICT": s.Strict,
		"TEST": s.Test, "TIMEOUT": s.Timeout, "MEMORY": s.Memory, "CPUS": s.CPUs, "DISK": s.Disk, "APPEND": s.Append,
	}
}

// read checks the selection as far as that needs no kernel source.
func (s selection) read() (vmtest.Selection, error) {
	values := s.values()
	return vmtest.FromEnv(func(name string) string { return values[name] })
}

// prepare makes everything ready to boot.
func (s selection) prepare(ctx context.Context, t *terminal) (*vmtest.Plan, error) {
	sel, err := s.read()
	if err != nil {
		return nil, err
	}
	if err := vmtest.Check(sel); err != nil {
		return nil, err
	}
	if err := ensureTools(ctx, t); err != nil {
		return nil, err
	}
	return vmtest.Prepare(ctx, sel, t.progress)
}

type vmtestCmd struct {
	selection `embed:""`
}

// Run is the main job: build, boot, report.
func (c vmtestCmd) Run(ctx context.Context, t *terminal) error {
	plan, err := c.prepare(ctx, t)
	if err != nil {
		return err
	}
	t.follow(plan)
	done, total := 0, len(plan.Cells)
	plan.Repeating = func(programs []string, cells int) {
		total += cells
		t.printf("not as on base: %s; repeating on both, %d cells more\n", strings.Join(programs, ", "), cells)
	}
	dir, err := plan.Run(ctx, func(cell results.Cell) {
		if done++; done == 1 {
			t.printf("%s\n", plan.How())
		}
		t.printf("%*d/%d  %s\n", len(strconv.Itoa(total)), done, total, cellLine(cell))
	})
	t.endLive()
	if dir == "" {
		return err
	}
	run, readErr := results.Read(dir)
	if readErr != nil {
		return readErr
	}
	if reportErr := report(t, run); reportErr != nil {
		return reportErr
	}
	err = errors.Join(err, writePage(t, run))
	if err != nil && run.ExitCode() != exitUnexpected {
		return err
	}
	if err != nil {
		t.errorf("%v\n", err)
	}
	switch run.ExitCode() {
	case exitUnexpected:
		return errUnexpected
	case exitTrouble:
		return errReported
	}
	return nil
}

// cellLine is what is said of a cell as soon as it ends.
func cellLine(c results.Cell) string {
	text := fmt.Sprintf("%s %s on %s", c.Verdict, c.Program, c.Kernel)
	if c.Iteration > 1 {
		text += fmt.Sprintf(" (run %d)", c.Iteration)
	}
	text += fmt.Sprintf(", %.1f s", c.WallS)
	if !c.Expected {
		text += ", UNEXPECTED"
	}
	return text
}

// report prints the matrix, what differs from base, the answer and where the record is.
func report(t *terminal, run *results.Run) error {
	t.printf("\n")
	if err := results.Matrix(t.out, run, t.colour); err != nil {
		return err
	}
	if diff := results.Diff(run); diff != "" {
		t.printf("%s\n", diff)
	}
	// A run can be looked at from anywhere; the reference is a checkout's.
	if root, err := kernel.Checkout(); err == nil {
		since, err := results.SinceReference(referenceDir(root), run)
		if err != nil {
			return err
		}
		if since != "" {
			t.printf("%s\n", since)
		}
	}
	t.printf("%s\n%s\n", results.Answer(run), filepath.Join(run.Dir, "run.json"))
	return nil
}

// writePage writes the run's report.html and says where it is.
func writePage(t *terminal, run *results.Run) error {
	path, err := html.Write(run)
	if err != nil {
		return err
	}
	t.printf("%s\n", path)
	return nil
}

type buildCmd struct {
	selection `embed:""`
}

// Run builds without booting.
func (c buildCmd) Run(ctx context.Context, t *terminal) error {
	plan, err := c.prepare(ctx, t)
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
	selection `embed:""`
}

// Run hands the terminal to QEMU.
func (c shellCmd) Run(ctx context.Context, t *terminal) error {
	plan, err := c.prepare(ctx, t)
	if err != nil {
		return err
	}
	if _, err := plan.Kernels(); err != nil {
		return errors.Join(err, plan.End(ctx))
	}
	t.endLive()
	return errors.Join(plan.Shell(ctx), plan.End(ctx))
}
