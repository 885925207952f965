package main

import (
	"context"
	"path/filepath"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest/bench"
	"patchproof/vmtest/bundle"
)

type bundleCmd struct {
	flags
}

// Run packs kernels and programs for a machine that is no VM of the harness's.
func (c bundleCmd) Run(ctx context.Context, t *terminal) error {
	sel, err := c.selection(t)
	if err != nil {
		return err
	}
	root, err := kernel.Checkout()
	if err != nil {
		return err
	}
	path, err := bundle.Make(ctx, filepath.Join(root, "results", "out"), sel, t.progress)
	if err != nil {
		return err
	}
	t.printf("%s\n", path)
	return nil
}

type resultsImportCmd struct {
	Files []string `arg:"" name:"file" help:"What a bundle's collector wrote."`
	Out   string   `default:"results/out" placeholder:"FOLDER" help:"Where runs are kept."`
}

// Run makes runs of what a bundle's collector wrote, and prints them.
func (c resultsImportCmd) Run(t *terminal) error {
	dirs, err := results.Import(c.Out, c.Files, bundle.Judge)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		run, err := results.Read(dir)
		if err != nil {
			return err
		}
		t.printf("%s: %s\n", run.Accel.Name, run.Host.CPU)
		if err := report(t, run, false); err != nil {
			return err
		}
		subject, err := kernel.NamedSubject(run.Subject)
		if err != nil {
			return err
		}
		// What time in a VM of somebody else's is worth is not known.
		if run.Accel.Name == results.Hardware && len(bench.TimeRows(subject.Bench, run)) > 0 {
			t.printf("\n")
			if err := bench.ReportTimes(t.out, subject.Bench, run); err != nil {
				return err
			}
		}
	}
	return nil
}
