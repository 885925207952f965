package vmtest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/console"
	"patchproof/vmtest/qemu"
)

// IronPrograms returns the programs of a subject that a bundle runs on real hardware.
// One that does something there, or writes to a disk, has the boot to itself and the
// number of CPUs that it has in its VM: for that its checks are known to be right.
func IronPrograms(s *subjects.Subject) []event.BundledProgram {
	programs := map[string]Program{}
	for _, p := range Programs(s) {
		programs[p.Name] = p
	}
	var all []event.BundledProgram
	for _, name := range s.Hardware {
		all = append(all, programs[name].Bundled())
	}
	return all
}

// Bundled is the program as a bundle's collector runs it.
func (p Program) Bundled() event.BundledProgram {
	b := event.BundledProgram{
		Name: p.Name, Command: p.command(), CPUs: p.CPUs, Disk: len(p.Devices) > 0, Harm: p.Harm,
		DeadlineS: p.Deadline.Seconds(), Options: []string{}, Boot: []string{},
	}
	for _, word := range p.Append {
		if strings.HasPrefix(word, "patchproof.") {
			b.Options = append(b.Options, word)
		} else {
			b.Boot = append(b.Boot, word)
		}
	}
	if b.Alone = p.Harm != "" || b.Disk; b.Alone {
		b.Boot = append(b.Boot, fmt.Sprintf("nr_cpus=%d", p.CPUs))
	}
	return b
}

// oops is the number that the kernel gives every oops.
var oops = regexp.MustCompile(`\[#\d+\]`)

// JudgeIron completes a cell that a bundle's collector ran: what the kernel logged
// meanwhile becomes checks, as a console's complaints do, and all is held against
// the declared issues. They are declared for the harness's VMs, whose timing is not
// a machine's, so one that does not show itself is fine here.
func JudgeIron(c *results.Cell, log []string, known []subjects.KnownIssue) error {
	lineup, err := kernel.Load()
	if err != nil {
		return err
	}
	variant := c.Variant
	if i := slices.IndexFunc(lineup.Variants, func(v kernel.Variant) bool { return v.Name == variant }); i >= 0 {
		variant = cmp.Or(lineup.Variants[i].JudgedAs, variant)
	}
	w := &console.Watcher{}
	for _, line := range log {
		w.Line("[    0.000000] " + line)
	}
	f := finding{verdict: c.Verdict, reason: c.Reason, checks: c.Checks}
	verdicts := []event.Verdict{c.Verdict}
	if slices.ContainsFunc(log, oops.MatchString) {
		f.checks = slices.DeleteFunc(slices.Clone(f.checks), func(c results.Check) bool { return c.Verdict != event.Pass && c.Verdict != event.Skip })
		f.reason, verdicts = "", nil
	}
	f.consoleChecks(&qemu.Outcome{Splats: w.Splats()})
	for i := range f.checks {
		f.checks[i].Detail = event.PrintableLines(f.checks[i].Detail)
		verdicts = append(verdicts, f.checks[i].Verdict)
	}
	f.verdict, f.reason = event.Worst(verdicts...), event.Printable(f.reason)
	issues := append([]subjects.KnownIssue{}, known...)
	for i := range issues {
		issues[i].MayFail = true
	}
	expect(&f, CellSpec{Kernel: c.Kernel, Variant: variant, Program: Program{Name: c.Program}, Known: issues})
	c.Verdict, c.Expected, c.Reason, c.Checks = f.verdict, f.expected, f.reason, f.checks
	return nil
}
