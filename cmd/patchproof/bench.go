package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/bench"
	"patchproof/vmtest/qemu"
)

type benchCmd struct {
	flags
}

// Run measures kernels against each other.
func (c benchCmd) Run(ctx context.Context, t *terminal) error {
	sel, err := c.selection(t)
	if err != nil {
		return err
	}
	instrument, err := c.instrument()
	if err != nil {
		return err
	}
	figures, boots := bench.Report, bench.Boots
	if instrument == bench.Time {
		figures, boots = bench.ReportTimes, bench.TimeBoots
		sel.Accel = qemu.KVM
	}
	sel.Set["INSTRUMENT"] = string(instrument)
	subject, err := kernel.NamedSubject(sel.Subject)
	if err != nil {
		return err
	}
	if sel.Run, err = bench.Programs(subject.Bench, strings.FieldsFunc(c.value("BENCH"), func(r rune) bool { return r == ',' || r == ' ' }), instrument); err != nil {
		return err
	}
	if c.value("COUNT") == "" {
		sel.Count = boots
	}
	err = c.measure(ctx, t, sel, func(w io.Writer, run *results.Run) error { return figures(w, subject.Bench, run) })
	if none := (qemu.NoKVMError{}); errors.As(err, &none) {
		return fmt.Errorf("time is measured under KVM, which does not work here (%s); under TCG there is INSTRUMENT=%s", none.Trouble, bench.Insns)
	}
	return err
}

// instrument is the one asked for. ACCEL says it too, because each needs its own.
func (c benchCmd) instrument() (bench.Instrument, error) {
	instrument := bench.Instrument(c.value("INSTRUMENT"))
	switch {
	case instrument == "" && c.value("ACCEL") == qemu.KVM:
		return bench.Time, nil
	case instrument == "":
		return bench.Insns, nil
	case !slices.Contains(bench.Instruments, instrument):
		return "", fmt.Errorf("unknown INSTRUMENT %q; known: %s, %s", instrument, bench.Insns, bench.Time)
	case instrument == bench.Time && c.value("ACCEL") == qemu.TCG:
		return "", fmt.Errorf("INSTRUMENT=%s needs KVM: under ACCEL=%s time says nothing about hardware, and INSTRUMENT=%s counts instructions", bench.Time, qemu.TCG, bench.Insns)
	case instrument == bench.Insns && c.value("ACCEL") == qemu.KVM:
		return "", fmt.Errorf("INSTRUMENT=%s counts under TCG: leave ACCEL=%s out, or take INSTRUMENT=%s", bench.Insns, qemu.KVM, bench.Time)
	}
	return instrument, nil
}

// measure runs the selection, and writes and prints what was measured.
func (c benchCmd) measure(ctx context.Context, t *terminal, sel vmtest.Selection, figures func(io.Writer, *results.Run) error) error {
	if err := vmtest.Check(sel); err != nil {
		return err
	}
	lineup, err := kernel.Load()
	if err != nil {
		return err
	}
	measured, err := lineup.Variant(kernel.RoleMeasure)
	if err != nil {
		return err
	}
	if sel.Variant != "" && sel.Variant != measured.Name {
		t.printf("note: VARIANT=%s was asked for: its kernels check themselves, and the checks are in every figure\n", sel.Variant)
	}
	plan, err := vmtest.Prepare(ctx, sel, t.progress)
	if err != nil {
		return err
	}
	t.follow(plan)
	done := 0
	dir, err := plan.Run(ctx, func(cell results.Cell) {
		done++
		t.printf("%*d/%d  %s\n", len(strconv.Itoa(len(plan.Cells))), done, len(plan.Cells), cellLine(cell, false))
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
		if err := report(t, run, false); err != nil {
			return err
		}
	}
	t.printf("\n")
	// Figures need all that is compared.
	if run.Shard == nil {
		if err := figures(t.out, run); err != nil {
			return err
		}
	}
	t.printf("%s\n", filepath.Join(run.Dir, "run.json"))
	return outcome(t, run, writePage(t, run))
}
