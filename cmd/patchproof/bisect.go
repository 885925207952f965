package main

import (
	"context"
	"fmt"
	"path/filepath"

	"patchproof/results"
	"patchproof/vmtest/bisect"
)

// teller shows a campaign on the terminal.
func (t *terminal) teller() bisect.Teller {
	return bisect.Teller{Progress: t.progress, Watch: t.watch, Say: func(format string, args ...any) { t.printf(format+"\n", args...) }}
}

// search makes a search, reports it and makes its end the command's.
func (f flags) search(ctx context.Context, t *terminal, check func(bisect.Question) error,
	run func(context.Context, bisect.Question, bisect.Teller) (*bisect.Record, error)) error {
	q, err := bisect.FromEnv(f.value)
	if err != nil {
		return err
	}
	if err := check(q); err != nil {
		return err
	}
	q.Install = installer(t, q.Compiler, q.Config)
	r, err := run(ctx, q, t.teller())
	if err != nil {
		return err
	}
	t.printf("\n%s%s\n", r.Report(), r.Path())
	pageErr := writePage(t, searched(r))
	if pageErr != nil && r.Answer.Outcome != bisect.Found {
		t.errorf("%v\n", pageErr)
	}
	switch r.Answer.Outcome {
	case bisect.Found:
		return pageErr
	case bisect.Untestable:
		return errReported
	}
	return errUnexpected
}

// searched is a search as a run of results, for its page: each kernel that was tried
// is one, named by its turn and its role.
func searched(r *bisect.Record) *results.Run {
	dir := filepath.Dir(r.Path())
	run := &results.Run{
		ID: filepath.Base(dir), Dir: dir, Status: r.Status, Started: r.Started, Finished: r.Finished,
		Selection: r.Selection, Host: r.Host, Accel: r.Accel, QEMU: r.QEMU,
	}
	for i, trial := range r.Trials {
		name := fmt.Sprintf("%d %s: %s", i+1, trial.Role, trial.Mark)
		commit := ""
		if trial.Commit != nil {
			commit = trial.Commit.ID
		}
		run.Kernels = append(run.Kernels, results.Kernel{
			Name: name, Pin: trial.Title, Variant: r.Variant, Commit: commit, Key: trial.KernelKey, Vmlinux: trial.Vmlinux,
			Objects: trial.Objects, BuildS: trial.BuildS,
		})
		for _, c := range trial.Cells {
			c.Kernel, c.Variant = name, r.Variant
			run.Cells = append(run.Cells, c)
		}
	}
	return run
}

type bisectCmd struct {
	flags
}

// Run searches for a commit.
func (c bisectCmd) Run(ctx context.Context, t *terminal) error {
	return c.search(ctx, t, bisect.Check, bisect.Run)
}

type bisectConfigCmd struct {
	flags
}

// Run searches for config options.
func (c bisectConfigCmd) Run(ctx context.Context, t *terminal) error {
	return c.search(ctx, t, bisect.CheckConfig, bisect.RunConfig)
}
