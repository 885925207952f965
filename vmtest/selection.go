package vmtest

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"patchproof/kernel"
)

// Selection is what a user asked for. Empty fields mean the default.
type Selection struct {
	kernel.Selection
	// Programs restricts the programs, all by default.
	Programs []string
	// Accel is auto (default), kvm or tcg.
	Accel string
	// Jobs is how many cells run at once, one per CPU by default; make gets the
	// same number. Count is how often each cell is run, once by default.
	Jobs, Count int
	// Cache is the store's folder.
	Cache string
	// Source is a local tarball or directory to take the pin from.
	Source string
	// Set holds the variables that were not empty, by name.
	Set map[string]string
}

// Variables are the names of the make and environment variables of a
// Selection, in the order of `make help`.
var Variables = []string{"KERNELS", "PROGRAMS", "VARIANT", "ACCEL", "PIN", "PATCH", "TREE", "REV", "JOBS", "COUNT", "CACHE", "KERNEL_SRC"}

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
	s.Kernels = words(s.Set["KERNELS"])
	s.Programs = words(s.Set["PROGRAMS"])
	s.Variant, s.Accel = s.Set["VARIANT"], s.Set["ACCEL"]
	s.Pin, s.Patch, s.Tree, s.Rev = s.Set["PIN"], s.Set["PATCH"], s.Set["TREE"], s.Set["REV"]
	s.Cache, s.Source = s.Set["CACHE"], s.Set["KERNEL_SRC"]
	var err error
	if s.Jobs, err = positive("JOBS", s.Set["JOBS"], runtime.NumCPU()); err != nil {
		return Selection{}, err
	}
	if s.Count, err = positive("COUNT", s.Set["COUNT"], 1); err != nil {
		return Selection{}, err
	}
	if s.Cache == "" {
		s.Cache, err = kernel.DefaultCache()
	}
	return s, err
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
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
