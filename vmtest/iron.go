package vmtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/vmtest/console"
	"patchproof/vmtest/qemu"
)

// onIron is the table of the programs that a bundle runs on real hardware, in
// order, and of what each does there that nobody wants on a machine in use. It is the
// one place that says so; a program that is not in it is not run. One that does
// something, or writes to a disk, has the boot to itself and the number of CPUs that it
// has in its VM: for that its checks are known to be right. Those that need a broken disk, a
// debug kernel, a counter in QEMU or a machine with little memory cannot be run.
var onIron = []struct{ program, harm string }{
	{"nop", ""},
	{"hostile", ""},
	{"fixedfile", ""},
	{"fdinfo", "drops the machine's caches"},
	{"accounting", "drops the machine's caches"},
	{"contexts", "drops the machine's caches"},
	{"cpuoffline", "takes CPUs offline and drops the machine's caches"},
	{"race-timer", "corrupts the memory of a kernel that has the race"},
	{"race-link", "corrupts the memory of a kernel that has the race"},
	{"race-lock", "hangs a CPU of a kernel that has the race"},
	{"race-hotplug-shrink", "takes CPUs offline and drops the machine's caches"},
	{"race-hotplug-completion", "takes CPUs offline"},
	{"race-all-three", "takes CPUs offline and drops the machine's caches"},
	{"race-shrink-completion", "drops the machine's caches"},
}

// IronPrograms returns the programs that a bundle runs on real hardware.
func IronPrograms() []event.BundledProgram {
	programs := map[string]Program{}
	for _, p := range Programs() {
		programs[p.Name] = p
	}
	var all []event.BundledProgram
	for _, row := range onIron {
		all = append(all, programs[row.program].Bundled(row.harm))
	}
	return all
}

// Bundled is the program as a bundle's collector runs it; harm is as in the table.
func (p Program) Bundled(harm string) event.BundledProgram {
	b := event.BundledProgram{
		Name: p.Name, Command: p.command(), CPUs: p.CPUs, Disk: len(p.Devices) > 0, Harm: harm,
		DeadlineS: p.Deadline.Seconds(), Options: []string{}, Boot: []string{},
	}
	for _, word := range p.Append {
		if strings.HasPrefix(word, "patchproof.") {
			b.Options = append(b.Options, word)
		} else {
			b.Boot = append(b.Boot, word)
		}
	}
	if b.Alone = harm != "" || b.Disk; b.Alone {
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
func JudgeIron(c *results.Cell, log []string, known []patches.KnownIssue) {
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
		f.checks[i].Detail = console.PrintableLines(f.checks[i].Detail)
		verdicts = append(verdicts, f.checks[i].Verdict)
	}
	f.verdict, f.reason = event.Worst(verdicts...), console.Printable(f.reason)
	issues := append([]patches.KnownIssue{}, known...)
	for i := range issues {
		issues[i].MayFail = true
	}
	// The iron variant is the plain one, with drivers.
	expect(&f, CellSpec{Kernel: c.Kernel, Variant: "plain", Program: Program{Name: c.Program}, Known: issues})
	c.Verdict, c.Expected, c.Reason, c.Checks = f.verdict, f.expected, f.reason, f.checks
}
