package vmtest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/userland"
)

// groupDisk is the disk of a group's file system, where DISK asks for none.
var groupDisk = qemu.Device{Kind: qemu.NVMe, SizeMiB: 1024}

// firstDisk is the device of a guest's first disk.
var firstDisk = map[qemu.DeviceKind]string{qemu.NVMe: "/dev/nvme0n1", qemu.VirtioBlk: "/dev/vda"}

// withForeign adds the suites that come from elsewhere: it builds their tests, and makes
// a row of each group of them.
func withForeign(ctx context.Context, sel Selection, s selected, b kernel.Builder) (selected, error) {
	if len(s.suites.Foreign) == 0 {
		return s, nil
	}
	if _, err := userland.FindMkfs(); err != nil {
		return s, err
	}
	for _, f := range s.suites.Foreign {
		built, err := b.Foreign(ctx, f.Foreign)
		if err != nil {
			return s, fmt.Errorf("TEST=%s: %w", f.Name, err)
		}
		names, err := f.Choose(built.Names)
		if err != nil {
			return s, fmt.Errorf("TEST=%s: %w", f.Name, err)
		}
		b.Progress(kernel.Progress{Step: fmt.Sprintf("note: %s %s: %s (source %.12s)", f.Name, built.Version, patches.Plural(len(names), "test"), built.SHA256)})
		limits := sel.Limits
		if len(limits.Devices) == 0 {
			limits.Devices = []qemu.Device{groupDisk}
		}
		limits.Append = append(slices.Clip(f.Args), limits.Append...)
		groups := slices.Collect(slices.Chunk(names, f.Group))
		for i, tests := range groups {
			name := f.Name
			if len(groups) > 1 {
				name += fmt.Sprintf("-%02d", i+1)
			}
			g := userland.Group{
				Name: name, Root: built.Dir, Tests: tests, Helpers: f.Helpers, Uptime: f.Uptime, Timeout: f.Timeout, Slow: f.Slow,
				SkipCode: f.Skip, Disk: firstDisk[limits.Devices[0].Kind], Guest: limits.Guest,
			}
			if sel.Set["TIMEOUT"] != "" {
				g.Timeout, g.Slow = limits.Timeout, nil
			}
			if slices.ContainsFunc(s.programs, func(p Program) bool { return p.Name == g.Name }) {
				return s, fmt.Errorf("two rows would be called %[1]s, that of the suite and that of a test of yours: rename the test", g.Name)
			}
			s.groups = append(s.groups, g)
			s.programs = append(s.programs, groupRow(g, limits))
		}
	}
	s.variant.Over = append(slices.Clip(s.variant.Over), s.suites.Fragments()...)
	return s, nil
}

// groupRow runs the tests of a group.
func groupRow(g userland.Group, l Limits) Program {
	longest := slices.Max(append(slices.Collect(maps.Values(g.Slow)), g.Timeout))
	return Program{
		Name: g.Name, Command: testCommand, CPUs: l.CPUs, MemoryMiB: l.MemoryMiB, Devices: l.Devices, Suite: g.Tests, Guest: g.Guest,
		Deadline: longest + testSlack, EachWithin: true, Append: append([]string{event.TestKey + "=" + g.Name}, l.Append...),
	}
}

// suite are the tests that the cell runs, of its program's.
func (s CellSpec) suite() []string {
	if len(s.only) > 0 {
		return s.only
	}
	return s.Program.Suite
}

// testsOf are the tests of a suite that checks are of; none where one is of no test, so that
// all of them are to be run.
func testsOf(suite, checks []string) []string {
	var tests []string
	for _, test := range suite {
		if slices.ContainsFunc(checks, func(c string) bool { return c == test || strings.HasPrefix(c, test+"/") }) {
			tests = append(tests, test)
		}
	}
	for _, c := range checks {
		if !slices.ContainsFunc(tests, func(test string) bool { return c == test || strings.HasPrefix(c, test+"/") }) {
			return nil
		}
	}
	return tests
}

// rest is the test of the program's suite that comes next, and as many as there are where
// none does. A test that the guest did not survive is added as a check of its own.
func (s CellSpec) rest(cell *results.Cell, out *qemu.Outcome) int {
	all := s.suite()
	done := func(name string) bool {
		return slices.ContainsFunc(cell.Checks, func(c results.Check) bool { return c.Name == name })
	}
	next := s.from
	for next < len(all) && done(all[next]) {
		next++
	}
	lost := out.ReportErr != nil && !kernelStopped(out) || out.QEMUErr != nil
	if next == len(all) || out.Report.Started == nil || lost {
		// Where nothing begins, another boot would not, either; and what the harness lost is
		// no test's fault.
		return len(all)
	}
	if out.Report.Ended != nil {
		if next == s.from {
			return len(all)
		}
		return next
	}
	verdict := event.Fail
	switch {
	case out.Ending.Late():
		verdict = event.Hang
	case kernelStopped(out):
		verdict = event.Crash
	}
	cell.Checks = append(cell.Checks, results.Check{Check: event.Check{
		Name: all[next], Verdict: verdict, Detail: "the guest did not survive this test; the tests behind it ran in another one",
	}})
	cell.Verdict = event.Worst(cell.Verdict, verdict)
	return next + 1
}

// join adds what came of a further boot to a cell.
func join(cell *results.Cell, more results.Cell) {
	for _, c := range more.Checks {
		name := c.Name
		for n := 2; slices.ContainsFunc(cell.Checks, func(o results.Check) bool { return o.Name == c.Name }); n++ {
			c.Name = fmt.Sprintf("%s %d", name, n)
		}
		cell.Checks = append(cell.Checks, c)
	}
	cell.Verdict = event.Worst(cell.Verdict, more.Verdict)
	cell.Expected = cell.Expected && more.Expected
	cell.Reason = cmp.Or(cell.Reason, more.Reason)
	cell.WallS += more.WallS
	cell.Metrics = append(cell.Metrics, more.Metrics...)
	cell.Files = append(append(cell.Files, more.Files...), more.Console)
}
