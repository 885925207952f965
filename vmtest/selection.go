package vmtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel"
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
	// Strict makes a check that fails a little more often with a patch than without
	// one count as worse.
	Strict bool
	// Seed determines what seeded programs do; 0 means theirs.
	Seed int
	// Cache is the store's folder.
	Cache string
	// Source is a local tarball or directory to take the pin from.
	Source string
	// Set holds the variables that were not empty, by name.
	Set map[string]string
}

// Variables are the names of the make and environment variables of a
// Selection, in the order of `make help`.
var Variables = slices.Concat([]string{"KERNELS", "PROGRAMS", "VARIANT", "ACCEL", "PIN", "PATCH", "TREE", "REV", "JOBS", "COUNT", "SEED", "CACHE", "KERNEL_SRC", "KNOWN", "STRICT", "TEST"}, limitVariables)

// FromEnv reads a selection from variables, which getenv looks up. Lists are
// separated by commas or spaces. It checks numbers only: Prepare knows the
// names.
func FromEnv(getenv func(string) string) (Selection, error) {
	s := Selection{Set: map[string]string{}}
	for _, name := range Variables {
		if value := getenv(name); value != "" {
			s.Set[name] = value
		}
	}
	s.Variant, s.Accel = s.Set["VARIANT"], s.Set["ACCEL"]
	s.Pin, s.Patch, s.Tree, s.Rev = s.Set["PIN"], s.Set["PATCH"], s.Set["TREE"], s.Set["REV"]
	s.Cache, s.Source = s.Set["CACHE"], s.Set["KERNEL_SRC"]
	var err error
	if s.Kernels, err = words("KERNELS", s.Set["KERNELS"]); err != nil {
		return Selection{}, err
	}
	if s.Programs, err = words("PROGRAMS", s.Set["PROGRAMS"]); err != nil {
		return Selection{}, err
	}
	switch s.Set["STRICT"] {
	case "", "0":
	case "1":
		s.Strict = true
	default:
		return Selection{}, fmt.Errorf("STRICT=%s: want 1, to count what is flaky as worse", s.Set["STRICT"])
	}
	s.Known = s.Set["KNOWN"]
	if s.Tree != "" && s.Source != "" {
		return Selection{}, fmt.Errorf("TREE=%s and KERNEL_SRC=%s exclude each other: a tree needs no other source", s.Tree, s.Source)
	}
	if s.Jobs, err = positive("JOBS", s.Set["JOBS"], 0); err != nil {
		return Selection{}, err
	}
	if s.Count, err = positive("COUNT", s.Set["COUNT"], 1); err != nil {
		return Selection{}, err
	}
	if s.Seed, err = positive("SEED", s.Set["SEED"], 0); err != nil {
		return Selection{}, err
	}
	s.Test = s.Set["TEST"]
	if s.Limits, err = limits(s.Set); err != nil {
		return Selection{}, err
	}
	if s.Cache == "" {
		s.Cache, err = kernel.DefaultCache()
	}
	return s, err
}

func words(name, list string) ([]string, error) {
	all := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	if list != "" && len(all) == 0 {
		return nil, fmt.Errorf("%s=%q names nothing; leave it out to take all", name, list)
	}
	return all, nil
}

func positive(name, value string, without int) (int, error) {
	if value == "" {
		return without, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s=%s: want a number from 1", name, value)
	}
	return n, nil
}
