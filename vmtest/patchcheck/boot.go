package patchcheck

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"patchproof/guest/event"
	"patchproof/results"
	"patchproof/vmtest"
)

// none is the word of PROGRAMS for booting nothing.
const none = "none"

// selectPrograms are what runs on the kernel with each patch: the program that only
// boots, unless others are selected.
func selectPrograms(sel vmtest.Selection, variant string) ([]vmtest.Program, error) {
	if slices.Equal(sel.Programs, []string{none}) {
		return nil, nil
	}
	if len(sel.Programs) == 0 {
		sel.Programs = []string{"boot"}
	}
	programs, err := vmtest.SelectPrograms(sel, variant)
	if err != nil {
		return nil, fmt.Errorf("%w (%s boots nothing)", err, none)
	}
	return programs, nil
}

// boot runs the programs on the kernel with the patch and on the nearest one before it
// that can be built, as often as it takes to tell whether the patch makes a difference.
func (c *checker) boot(ctx context.Context, n int, checked *Checked) error {
	from := n - 1
	for from > 0 && c.built[from] == nil {
		from--
	}
	if c.built[from] == nil {
		checked.Unchecked = append(checked.Unchecked, "no kernel without the patch can be built, so none is booted to compare with")
		return nil
	}
	var want []results.Repeat
	for _, p := range c.programs {
		want = append(want, results.Repeat{Program: p.Name, Base: 1, Patched: 1})
	}
	for len(want) > 0 {
		if err := c.run(ctx, want, from, n); err != nil {
			return err
		}
		want = results.Again(c.cells, kernelName(from), kernelName(n))
	}
	// It marks the checks, and those of this kernel are the next one's base.
	var cells []results.Cell
	for _, cell := range c.cells {
		cell.Checks = slices.Clone(cell.Checks)
		cells = append(cells, cell)
	}
	against := results.Hold(cells, kernelName(from), kernelName(n), false)
	if len(against.Unjudged) > 0 {
		return c.unjudged(against.Unjudged[0], from, n)
	}
	checked.Boot, checked.Boots = against.String(), against.Compared > 0
	if against.Compared == 0 && len(against.Differences) == 0 {
		// Each check that there is failed before.
		checked.Boot, checked.Boots = "well, which "+kernelName(from)+" does not", true
	}
	for _, d := range against.Differences {
		switch d.Kind {
		case results.Regression:
			checked.Boots = false
			checked.Findings = append(checked.Findings, Finding{Tool: ToolBoot, Level: Error, Message: d.From(against.Base) + c.evidence(n, d)})
		case results.Flaky:
			checked.Findings = append(checked.Findings, Finding{Tool: ToolBoot, Level: Remark, Message: d.From(against.Base) + c.evidence(n, d)})
		}
	}
	return nil
}

// kernelName is what the record of a run calls the kernel with that many patches.
func kernelName(n int) string {
	if n == 0 {
		return "base"
	}
	return fmt.Sprintf("patch %d", n)
}

// run runs programs on the kernels with so many patches, until each was run as often as wanted.
func (c *checker) run(ctx context.Context, want []results.Repeat, base, patched int) error {
	if err := c.report.folder(); err != nil {
		return err
	}
	var wait sync.WaitGroup
	for _, n := range []int{base, patched} {
		if err := c.lab.Ready(ctx, c.built[n]); err != nil {
			return err
		}
		for _, p := range c.programs {
			i := slices.IndexFunc(want, func(r results.Repeat) bool { return r.Program == p.Name })
			if i < 0 {
				continue
			}
			runs := want[i].Base
			if n == patched {
				runs = want[i].Patched
			}
			for iteration := c.ran(n, p.Name) + 1; iteration <= runs; iteration++ {
				spec := vmtest.CellSpec{
					Kernel: kernelName(n), Variant: c.variant.Name, Program: p, Iteration: iteration, Scale: c.variant.Scale,
					Console: filepath.Join(c.report.dir, fmt.Sprintf("%d-%s-%d.log", n, p.Name, iteration)),
				}
				wait.Add(1)
				c.lab.Queue(iteration, func(func(bool)) {
					defer wait.Done()
					if ctx.Err() != nil {
						return
					}
					cell := vmtest.RunCell(ctx, spec.In(c.lab, c.built[n]))
					c.mu.Lock()
					defer c.mu.Unlock()
					c.cells = append(c.cells, cell)
				})
			}
		}
	}
	wait.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// ran counts the runs of a program on the kernel with that many patches.
func (c *checker) ran(n int, program string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := 0
	for _, cell := range c.cells {
		if cell.Kernel == kernelName(n) && cell.Program == program {
			count++
		}
	}
	return count
}

// evidence is the console log of a run that shows a difference.
func (c *checker) evidence(n int, d results.Difference) string {
	for _, cell := range c.cells {
		if cell.Kernel == kernelName(n) && cell.Program == d.Program && cell.Verdict != event.Pass {
			return fmt.Sprintf(" (console: %s)", filepath.Join(c.report.dir, cell.Console))
		}
	}
	return ""
}

// unjudged is the harness's own trouble with a program.
func (c *checker) unjudged(program string, kernels ...int) error {
	for _, n := range slices.Backward(kernels) {
		for _, cell := range c.cells {
			if cell.Kernel == kernelName(n) && cell.Program == program && cell.Verdict == event.Error {
				return fmt.Errorf("%s on %s was not judged, by the harness's own trouble: %s (console: %s)",
					program, kernelName(n), strings.TrimSuffix(cell.Reason, "\n"), filepath.Join(c.report.dir, cell.Console))
			}
		}
	}
	return fmt.Errorf("%s was not judged on %s, by the harness's own trouble", program, kernelName(kernels[len(kernels)-1]))
}
