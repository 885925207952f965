package vmtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/vmtest/lab"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/suites"
	"patchproof/vmtest/userland"
)

// Selection is what a user asked for. Empty fields mean the default.
type Selection struct {
	kernel.Selection
	// Programs restricts the programs, all by default.
	Programs []string
	// Test names the tests that the user brought (package userland), and Limits are
	// theirs.
	Test   string
	Limits Limits
	// Run are the programs of a campaign, instead of the suite's.
	Run []Program
	// Accel is auto (default), kvm or tcg.
	Accel string
	// Jobs is how many cells run at once, and make's -j; 0 means one cell per CPU
	// and make's default. Count is how often each cell is run, once by default.
	Jobs, Count int
	// Shard is the part of the plan that is run.
	Shard Share
	// Strict makes a check that fails a little more often with a patch than without
	// one count as worse.
	Strict bool
	// Seed determines what seeded programs do; 0 means theirs.
	Seed int
	// Cache is the store's folder.
	Cache string
	// Notes tell what is not in a patch that was made of TREE.
	Notes []string
	// Source is a local tarball or directory to take the pin from.
	Source string
	// Compiler is what kernels are built with.
	Compiler kernel.Compiler
	// NoRecord says that no record of a run is written, and Install installs what is
	// missing: see lab.Options.
	NoRecord bool
	Install  func(ctx context.Context, kselftest bool) error
	// Set holds the variables that were not empty, by name.
	Set map[string]string
}

// The most that the numbers of a selection can sensibly be. Each run of a cell is planned, and has a
// console log, before any is started, and each job is a VM with memory of its own.
const (
	mostJobs  = 1024
	mostCount = 10_000
	mostSeed  = math.MaxInt32

	mostVersion = 999
)

// FromEnv reads a selection from variables, which getenv looks up. Lists are
// separated by commas or spaces. It checks numbers only: Prepare knows the
// names.
func FromEnv(getenv func(string) string) (Selection, error) {
	s := Selection{Set: map[string]string{}}
	get := func(name string) string {
		value := getenv(name)
		if value != "" {
			s.Set[name] = value
		}
		return value
	}
	s.Variant, s.Accel = get("VARIANT"), get("ACCEL")
	s.Pin, s.Patch, s.Tree, s.Rev = get("PIN"), get("PATCH"), get("TREE"), get("REV")
	s.Cache, s.Source = get("CACHE"), get("KERNEL_SRC")
	var err error
	if s.Cache != "" {
		// Go and QEMU run in other folders.
		if s.Cache, err = filepath.Abs(s.Cache); err != nil {
			return Selection{}, fmt.Errorf("CACHE: %w", err)
		}
	}
	if s.Kernels, err = words("KERNELS", get("KERNELS")); err != nil {
		return Selection{}, err
	}
	if s.Programs, err = words("PROGRAMS", get("PROGRAMS")); err != nil {
		return Selection{}, err
	}
	s.Lore, s.Inbox = get("LORE"), get("INBOX")
	// Kernel builds know a V of their own, which may be in the environment.
	if s.Patch != "" || s.Lore != "" {
		if s.Version, err = number("V", get("V"), 0, mostVersion); err != nil {
			return Selection{}, err
		}
	}
	switch get("STRICT") {
	case "", "0":
	case "1":
		if s.Patch == "" && s.Lore == "" {
			return Selection{}, errors.New("STRICT=1 is for a patch that is held against its base: it needs PATCH=")
		}
		s.Strict = true
	default:
		return Selection{}, fmt.Errorf("STRICT=%s: want 1, to count what is flaky as worse", s.Set["STRICT"])
	}
	s.Subject, s.Known, s.Config = get("SUBJECT"), get("KNOWN"), get("CONFIG")
	if s.Compiler, err = kernel.ParseCompiler(get("CC"), get("LLVM")); err != nil {
		return Selection{}, err
	}
	if s.Tree != "" && s.Source != "" {
		return Selection{}, fmt.Errorf("TREE=%s and KERNEL_SRC=%s exclude each other: a tree needs no other source", s.Tree, s.Source)
	}
	if s.Jobs, err = number("JOBS", get("JOBS"), 0, mostJobs); err != nil {
		return Selection{}, err
	}
	if s.Count, err = number("COUNT", get("COUNT"), 1, mostCount); err != nil {
		return Selection{}, err
	}
	if s.Shard, err = parseShare(get("SHARD")); err != nil {
		return Selection{}, err
	}
	if s.Seed, err = number("SEED", get("SEED"), 0, mostSeed); err != nil {
		return Selection{}, err
	}
	s.Test = get("TEST")
	for _, name := range limitVariables {
		get(name)
	}
	if s.Limits, err = limits(s.Set); err != nil {
		return Selection{}, err
	}
	if s.Cache == "" {
		if s.Cache, err = kernel.DefaultCache(); err != nil {
			return Selection{}, err
		}
	}
	return s.taken()
}

// taken is the selection with the release, the thread and the branch that it names.
func (s Selection) taken() (Selection, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	typed := s.Pin
	var err error
	s.Selection, err = kernel.TakeRelease(ctx, s.Selection, s.Cache, s.Source, func(line string) {
		fmt.Fprintln(os.Stderr, line)
	})
	if err != nil {
		return s, err
	}
	if s.Pin != typed && !strings.Contains(typed, "@") {
		// Whoever runs it again means the same one.
		s.Set["PIN"] = s.Pin
	}
	if s.Selection, s.Notes, err = kernel.TakeThread(ctx, s.Selection, s.Cache); err != nil || len(s.Notes) > 0 {
		return s, err
	}
	s.Selection, s.Notes, err = kernel.TakeBranch(ctx, s.Selection, s.Cache)
	return s, err
}

func words(name, list string) ([]string, error) {
	all := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	if list != "" && len(all) == 0 {
		return nil, fmt.Errorf("%s=%q names nothing; leave it out to take all", name, list)
	}
	return all, nil
}

// number reads a number from 1 to most; without one it is the given one.
func number(name, value string, without, most int) (int, error) {
	if value == "" {
		return without, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s=%s: want a number from 1 to %d", name, value, most)
	}
	return n, nil
}

// Lab is what the selection asks of a laboratory.
func (s Selection) Lab(progress func(kernel.Progress)) lab.Options {
	return lab.Options{
		Builder: kernel.Builder{Cache: s.Cache, Jobs: s.Jobs, Source: s.Source, Compiler: s.Compiler, Progress: progress},
		Accel:   s.Accel, Places: s.Jobs, NoRecord: s.NoRecord, Install: s.Install,
	}
}

// selected is what a selection comes down to.
type selected struct {
	specs    []kernel.Spec
	variant  kernel.Variant
	programs []Program
	// tests are the user's own, and the scripts of a subject: what is behind some of
	// the programs.
	tests []userland.Test
	// suites are those of the source under test.
	suites suites.Asked
	// groups are the tests of suites from elsewhere, by row.
	groups []userland.Group
	// targets are kselftest's.
	targets []suites.Target
	// subject is the patch under test, nil where there is none.
	subject *subjects.Subject
}

// Check finds what is wrong with a selection without changing anything.
func Check(sel Selection) error {
	_, err := resolve(sel)
	return err
}

func resolve(sel Selection) (s selected, err error) {
	lineup, err := kernel.Load()
	if err != nil {
		return s, err
	}
	if s.specs, s.variant, err = lineup.Resolve(sel.Selection); err != nil {
		return s, err
	}
	if s.subject, err = kernel.Subject(sel.Selection); err != nil {
		return s, err
	}
	if s.suites, s.tests, err = findTests(sel); err != nil {
		return s, err
	}
	if s.suites.Auto && sel.Patch == "" {
		return s, errors.New("TEST=auto goes by the files that a patch touches: it needs PATCH=")
	}
	programs := sel.Run
	if programs == nil && (sel.Test == "" || s.suites.Auto || len(sel.Programs) > 0) {
		if len(sel.Programs) == 0 && s.subject == nil {
			programs, err = ownPrograms(s.specs, s.variant.Name)
		} else {
			programs, err = SelectPrograms(sel, s.variant.Name)
		}
		if err != nil {
			return s, err
		}
	}
	declared, err := scripts(programs)
	if err != nil {
		return s, err
	}
	for _, p := range testPrograms(s.tests, sel.Limits) {
		if slices.ContainsFunc(programs, func(o Program) bool { return o.Name == p.Name }) {
			return s, fmt.Errorf("the test %s has the name of a program that PROGRAMS selects: rename it", p.Name)
		}
		programs = append(programs, p)
	}
	if s.variant, err = furnished(s.variant, sel.Limits.Guest); err != nil {
		return s, err
	}
	s.programs, s.tests = seeded(programs, sel.Seed), append(s.tests, declared...)
	return s, qemu.CheckAccel(sel.Accel)
}

// seeded gives the seed to the programs that take one; 0 leaves them theirs.
func seeded(programs []Program, seed int) []Program {
	programs = slices.Clone(programs)
	for i, p := range programs {
		if p.Seeded && seed != 0 {
			programs[i].Append = append(slices.Clip(p.Append), fmt.Sprintf("patchproof.seed=%d", seed))
		}
	}
	return programs
}
