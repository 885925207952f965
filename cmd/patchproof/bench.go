package main

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/bench"
)

type benchCmd struct {
	selection `embed:""`
	Bench     string `env:"BENCH" placeholder:"NAMES" help:"Groups of workloads; all by default."`
}

// Run measures kernels against each other.
func (c benchCmd) Run(ctx context.Context, t *terminal) error {
	sel, err := c.read()
	if err != nil {
		return err
	}
	if sel.Run, err = bench.Programs(strings.FieldsFunc(c.Bench, func(r rune) bool { return r == ',' || r == ' ' })); err != nil {
		return err
	}
	if len(sel.Programs) > 0 {
		return errors.New("PROGRAMS is for make vmtest; BENCH names what to measure")
	}
	if c.Count == "" {
		sel.Count = bench.Boots
	}
	if err := vmtest.Check(sel); err != nil {
		return err
	}
	if err := ensureTools(ctx, t); err != nil {
		return err
	}
	plan, err := vmtest.Prepare(ctx, sel, t.progress)
	if err != nil {
		return err
	}
	t.follow(plan)
	done := 0
	dir, err := plan.Run(ctx, func(cell results.Cell) {
		done++
		t.printf("%*d/%d  %s\n", len(strconv.Itoa(len(plan.Cells))), done, len(plan.Cells), cellLine(cell))
	})
	t.endLive()
	if err != nil || dir == "" {
		return err
	}
	run, err := results.Read(dir)
	if err != nil {
		return err
	}
	if run.ExitCode() != exitExpected {
		if err := report(t, run); err != nil {
			return err
		}
	}
	t.printf("\n")
	if err := bench.Report(t.out, run); err != nil {
		return err
	}
	t.printf("%s\n", filepath.Join(run.Dir, "run.json"))
	if err := writePage(t, run); err != nil {
		return err
	}
	switch run.ExitCode() {
	case exitUnexpected:
		return errUnexpected
	case exitTrouble:
		return errReported
	}
	return nil
}
