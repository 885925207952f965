package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest"
)

// referenceDir is where the reference results of a subject are.
func referenceDir(s *subjects.Subject) string { return s.Path(results.ReferenceFolder) }

type resultsReferenceCmd struct {
	runArg `embed:""`
}

// Run keeps a run as the reference.
func (c resultsReferenceCmd) Run(t *terminal) error {
	run, err := c.read()
	if err != nil {
		return err
	}
	if run.Subject == "" {
		return fmt.Errorf("%s is no reference: it is a run of no subject", run.ID)
	}
	subject, err := kernel.NamedSubject(run.Subject)
	if err != nil {
		return err
	}
	if err := wholeSuite(run); err != nil {
		return fmt.Errorf("%s is no reference: %w", run.ID, err)
	}
	refs, err := results.NewReference(run)
	if err != nil {
		return fmt.Errorf("%s is no reference: %w", run.ID, err)
	}
	for _, ref := range refs {
		path, err := ref.Write(referenceDir(subject))
		if err != nil {
			return err
		}
		t.printf("%s\n", path)
	}
	return nil
}

// wholeSuite says what a run lacks of all programs on its kernels, or what it has beside
// them: a reference is for the line-up.
func wholeSuite(run *results.Run) error {
	lineup, err := kernel.Load()
	if err != nil {
		return err
	}
	if len(run.Kernels) == 0 {
		return fmt.Errorf("it has no kernels")
	}
	if config := run.Selection["CONFIG"]; config != "" {
		return fmt.Errorf("its kernels have options of CONFIG=%s", results.Line(config))
	}
	pin, variant := run.Kernels[0].Pin, run.Kernels[0].Variant
	var names []string
	for _, k := range run.Kernels {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	sel := vmtest.Selection{Selection: kernel.Selection{Subject: run.Subject, Pin: pin, Variant: variant, Kernels: slices.Compact(names)}}
	specs, _, err := lineup.Resolve(sel.Selection)
	if err != nil {
		return err
	}
	programs, err := vmtest.SelectPrograms(sel, variant)
	if err != nil {
		return err
	}
	var want, got []string
	for _, s := range specs {
		for _, p := range programs {
			want = append(want, p.Name+" on "+s.Name)
		}
	}
	for _, c := range run.Cells {
		got = append(got, c.Program+" on "+c.Kernel)
	}
	for _, pair := range []struct {
		what      string
		all, some []string
	}{{"lacks", want, got}, {"has, beside the line-up,", got, want}} {
		odd := slices.DeleteFunc(slices.Clone(pair.all), func(cell string) bool { return slices.Contains(pair.some, cell) })
		if n := len(odd); n > 3 {
			odd = append(odd[:3], fmt.Sprintf("%d more", n-3))
		}
		if len(odd) > 0 {
			return fmt.Errorf("it %s %s; make vmtest without PROGRAMS, PATCH and TREE makes one", pair.what, results.Line(strings.Join(odd, ", ")))
		}
	}
	return nil
}

type resultsFlakyCmd struct {
	runArg `embed:""`
	JSON   bool `name:"json" help:"Print JSON."`
}

// Run prints what comes and goes.
func (c resultsFlakyCmd) Run(t *terminal) error {
	run, err := c.read()
	if err != nil {
		return err
	}
	flakes := results.FlakesOf(run, results.Newest(c.Out))
	if flakes.Cells == 0 {
		return fmt.Errorf("nothing is known of what comes and goes: there are %s", flakes.Scope())
	}
	if c.JSON {
		out := json.NewEncoder(t.out)
		out.SetIndent("", "  ")
		return out.Encode(flakes)
	}
	t.printf("%s", flakes)
	return nil
}

type resultsTrendCmd struct {
	outFlag `embed:""`
	Metric  string `arg:"" help:"A metric's name, with its labels or without, or wall_s or boot_s."`
}

// Run prints a metric's figures, run by run.
func (c resultsTrendCmd) Run(t *terminal) error {
	runs := slices.Collect(results.Newest(c.Out))
	slices.Reverse(runs)
	series := results.Trend(runs, c.Metric)
	if len(series) == 0 {
		return fmt.Errorf("no run in %s has the metric %s", c.Out, c.Metric)
	}
	t.printf("%s", results.TrendTable(series))
	return nil
}
