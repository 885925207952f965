package vmtest

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchproof/guest/event"
	"patchproof/guest/ktap"
	"patchproof/kernel"
	"patchproof/vmtest/console"
	"patchproof/vmtest/lab"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/suites"
	"patchproof/vmtest/userland"
)

// findTests reads TEST: the suites of the source that it names, and what the user brought.
func findTests(sel Selection) (asked suites.Asked, tests []userland.Test, err error) {
	if sel.Test == "" {
		return asked, nil, nil
	}
	asked, brought, err := suites.Split(sel.Test, sel.Tree)
	if err == nil && (brought != "" || asked.None()) {
		tests, err = userland.Find(brought, sel.Limits.Guest)
	}
	return asked, tests, err
}

// withSuites adds what the suites that TEST names come down to in the sources under test:
// programs, and the config that they need. It fetches the sources if need be, so that
// what they do not have is said before anything is built.
func withSuites(ctx context.Context, sel Selection, s selected, progress func(kernel.Progress)) (selected, error) {
	if s.suites.None() {
		return s, nil
	}
	builder := sel.Lab(progress).Builder
	s.programs = slices.Clone(s.programs)
	if !s.suites.OnlyForeign() {
		var err error
		if s, err = withOwn(ctx, s, sel.Limits, builder, progress); err != nil {
			return s, err
		}
	}
	s, err := withForeign(ctx, sel, s, builder)
	if err != nil {
		return s, err
	}
	// KUnit's suites run when the kernel boots, whatever program it boots for.
	for i, p := range s.programs {
		if s.suites.KUnit() && !p.KUnit {
			s.programs[i].Append = append(slices.Clip(p.Append), "kunit.enable=0")
		}
	}
	return s, nil
}

// withOwn adds the suites of the sources under test.
func withOwn(ctx context.Context, s selected, limits Limits, builder kernel.Builder, progress func(kernel.Progress)) (selected, error) {
	var contents []kernel.Content
	for _, spec := range s.specs {
		c, err := builder.Content(ctx, spec)
		if err != nil {
			return s, err
		}
		contents = append(contents, c)
	}
	if s.suites.Auto {
		nearest, notes, err := suites.Nearest(ctx, touched(s.specs), contents)
		if err != nil {
			return s, err
		}
		for _, note := range notes {
			progress(kernel.Progress{Step: "note: " + note})
		}
		s.suites = s.suites.Add(nearest)
	}
	add := func(p Program) error {
		if slices.ContainsFunc(s.programs, func(o Program) bool { return o.Name == p.Name }) {
			return fmt.Errorf("two rows would be called %[1]s, that of the suite and that of a test of yours: rename the test", p.Name)
		}
		s.programs = append(s.programs, p)
		return nil
	}
	if len(s.suites.Targets) > 0 {
		var fragment kernel.Fragment
		var err error
		if s.targets, fragment, err = suites.ChooseTargets(ctx, s.suites.Targets, contents); err != nil {
			return s, err
		}
		if strings.TrimSpace(fragment.Text) != "" {
			s.variant.Over = append(slices.Clip(s.variant.Over), fragment)
		}
		for _, t := range s.targets {
			if err := add(targetRow(t, limits)); err != nil {
				return s, err
			}
		}
	}
	if s.suites.KUnit() {
		choice, err := suites.ChooseKUnit(ctx, s.suites, contents)
		if err != nil {
			return s, err
		}
		s.variant.Over = append(slices.Clip(s.variant.Over), choice.Fragment)
		if len(choice.Wished) > 0 {
			s.variant.Over = append(s.variant.Over, choice.Wishes)
		}
		if err := add(kunitRow(choice, limits)); err != nil {
			return s, err
		}
	}
	return s, nil
}

// touched are the files that the user's patch touches.
func touched(specs []kernel.Spec) []string {
	var files []string
	for _, spec := range specs {
		if spec.Name != kernel.Patched {
			continue
		}
		for _, p := range spec.Series[len(spec.Series)-1].Patches {
			for _, f := range p.Files {
				if name := cmp.Or(f.New, f.Old); name != "" && !slices.Contains(files, name) {
					files = append(files, name)
				}
			}
		}
	}
	return files
}

// targetProgram is the row of a kselftest target.
func targetProgram(t suites.Target) string {
	return "kselftest-" + strings.ReplaceAll(t.Name, "/", "-")
}

// targetLongest is the limit of a test whose target sets none.
const targetLongest = 10 * time.Minute

// targetTimeout is the limit of each test of a target.
func targetTimeout(t suites.Target, l Limits) time.Duration {
	return cmp.Or(t.Timeout, max(targetLongest, l.Timeout))
}

// targetRow runs the tests of a target, one after the other.
func targetRow(t suites.Target, l Limits) Program {
	name := targetProgram(t)
	return Program{
		Name: name, Command: testCommand, CPUs: l.CPUs, MemoryMiB: l.MemoryMiB, Devices: l.Devices,
		Deadline: targetTimeout(t, l) + testSlack, EachWithin: true,
		Append: append([]string{event.TestKey + "=" + name}, l.Append...), Guest: l.Guest,
	}
}

// xfailCode is the exit code of a test that failed as it was expected to (KSFT_XFAIL,
// tools/testing/selftests/kselftest.h).
const xfailCode = 2

// selftests builds the kselftest targets of the source of the line-up's nth kernel; base is what
// it gave for the first. The row of a target that does not build says so, and why; so do the tests
// that are missing of one that builds in part.
func selftests(ctx context.Context, l *lab.Lab, s selected, nth int, base kernel.Selftests, limits Limits) ([]userland.Suite, kernel.Selftests, error) {
	var names []string
	for _, t := range s.targets {
		names = append(names, t.Name)
	}
	spec := s.specs[nth]
	built, err := l.Builder.Selftests(ctx, spec, names)
	if err != nil {
		return nil, built, err
	}
	if nth == 0 {
		if err := someBuilt(ctx, l, s, names, built); err != nil {
			return nil, built, err
		}
		base = built
	}
	skip := 0
	if built.XFail {
		skip = xfailCode
	}
	var all []userland.Suite
	for _, t := range s.targets {
		suite := userland.Suite{
			Name: targetProgram(t), Root: built.Dir, Dir: t.Name, Tests: built.Tests[t.Name], Timeout: targetTimeout(t, limits), SkipCode: skip,
			ByInterpreter: built.ByInterpreter, Guest: limits.Guest,
		}
		if u, ok := built.Unbuilt[t.Name]; ok {
			have := built.Built(t.Name)
			lost := slices.ContainsFunc(base.Built(t.Name), func(test string) bool { return !slices.Contains(have, test) })
			why := unbuilt(t.Name, spec.Name, have, "", u)
			switch {
			case !lost || len(s.specs[0].Series) > 0:
				suite.Unbuilt = why.Error()
			case u.BySource:
				suite.Unbuilt, suite.Broken = unbuilt(t.Name, spec.Name, have, ", where that of "+s.specs[0].Name+" does", u).Error(), true
			default:
				// What is missing here says nothing of the patch.
				return nil, built, why
			}
			l.Builder.Progress(kernel.Progress{Step: "note: " + suite.Unbuilt})
		}
		all = append(all, suite)
	}
	return all, built, nil
}

// unbuilt says why a kernel's target, or what it lacks beside the tests that it has, has not been
// built, and what else is known of it.
func unbuilt(target, kernel string, has []string, though string, u kernel.UnbuiltTarget) error {
	how := "does not build here"
	if len(has) > 0 {
		how = "does not build as a whole here"
	}
	return fmt.Errorf("kselftest %s of %s %s%s: %s; log: %s", target, kernel, how, though, u.Why, u.Log)
}

// someBuilt says what is wrong where a run has nothing but targets that do not build, on any
// of its kernels; first is what came of them on the first.
func someBuilt(ctx context.Context, l *lab.Lab, s selected, targets []string, first kernel.Selftests) error {
	if len(s.programs) > len(targets) || len(first.Tests) > 0 {
		return nil
	}
	var troubles []error
	for _, t := range targets {
		troubles = append(troubles, unbuilt(t, s.specs[0].Name, nil, "", first.Unbuilt[t]))
	}
	for _, spec := range s.specs[1:] {
		// A patch may mend it.
		built, err := l.Builder.Selftests(ctx, spec, targets)
		if err != nil || len(built.Tests) > 0 {
			return err
		}
	}
	return errors.Join(troubles...)
}

// kunitProgram is the row of the KUnit suites, and the guest's command.
const kunitProgram = "kunit"

// kunitRow boots the kernel, whose suites run then.
func kunitRow(choice suites.Choice, l Limits) Program {
	return Program{
		Name: kunitProgram, KUnit: true, Globs: choice.Suites, Wished: choice.Wished, CPUs: l.CPUs, MemoryMiB: l.MemoryMiB, Devices: l.Devices,
		AtBoot: l.Timeout, Deadline: 10 * time.Second, Config: append([]string{"KUNIT"}, choice.Needs...),
		// What is printed faster than a serial port takes it is dropped where the buffer is full.
		Append: append([]string{"log_buf_len=16M"}, l.Append...),
	}
}

// addKUnit adds the results of the suites to what the program reported. They come from
// the console, and so are there when the kernel died in a suite.
func addKUnit(out *qemu.Outcome, s CellSpec) error {
	checks, err := kunitChecks(s.Console, s.Program.Globs)
	if err != nil {
		return fmt.Errorf("the results of the KUnit suites: %w", err)
	}
	if out.Report.Ended == nil {
		// What did not come may have been cut off.
	} else if len(checks) == 0 {
		asked := "suite"
		if len(s.Program.Globs) > 0 {
			asked += " called " + strings.Join(s.Program.Globs, " or ")
		}
		checks = append(checks, event.Check{Name: "suites", Verdict: event.Error, Detail: "this kernel ran no KUnit " + asked})
	} else {
		for _, suite := range s.Program.Wished {
			if !slices.ContainsFunc(checks, func(c event.Check) bool { return c.Name == suite.Name || strings.HasPrefix(c.Name, suite.Name+"/") }) {
				checks = append(checks, event.Check{Name: suite.Name, Verdict: event.Skip, Detail: fmt.Sprintf(
					"this kernel ran no such suite: CONFIG_%[1]s cannot be had in this config, or only with a sanitizer; TEST=kunit:%[2]s asks for it alone, whatever it takes",
					cmp.Or(suite.Option, "(not known which)"), suite.Name)})
			}
		}
	}
	out.Report.Checks = append(checks, out.Report.Checks...)
	return nil
}

// kunitChecks reads the KTAP that a kernel printed on its console.
func kunitChecks(log string, globs []string) (checks []event.Check, err error) {
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tap := ktap.NewReader(func(r ktap.Result) {
		suite, _, _ := strings.Cut(r.Name, "/")
		wanted := func(glob string) bool { ok, _ := filepath.Match(glob, suite); return ok }
		if derived(r, checks) {
			return
		}
		if len(globs) == 0 || slices.ContainsFunc(globs, wanted) {
			checks = append(checks, event.Check{Name: r.Name, Verdict: r.Verdict, Detail: r.Detail})
		}
	})
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if text, ok := console.Text(lines.Text()); ok {
			tap.Line(text)
		}
	}
	tap.End()
	return checks, errors.Join(lines.Err())
}

// derived says that a result is that of the ones below it, which come before: a suite
// with a case that fails fails, too, and that is no second failure.
func derived(r ktap.Result, before []event.Check) bool {
	parent := false
	for _, c := range before {
		if !strings.HasPrefix(c.Name, r.Name+"/") {
			continue
		}
		if parent = true; c.Verdict == r.Verdict {
			return true
		}
	}
	return parent && r.Verdict != event.Fail
}
