package suites

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/BurntSushi/toml"

	"patchproof/kernel"
)

//go:embed foreign.toml
var foreignText string

// Foreign is a suite of tests from elsewhere, and how its tests are run.
type Foreign struct {
	// Name is TEST's word for it.
	Name string
	kernel.Foreign
	// Skip is the exit code of a test that was not run.
	Skip int
	// Helpers are those of what Tests matches that are none themselves: tests start them, in
	// the folder where they begin.
	Helpers []string
	// Group is how many tests run in one guest, each within Timeout.
	Group   int
	Timeout time.Duration
	// Slow are the tests that may run longer, by their names.
	Slow map[string]time.Duration
	// Uptime is how long a guest must have been up when a test begins, by the test's name.
	Uptime map[string]time.Duration
	// Args are words for the kernel command line.
	Args []string
	// Config are options that it wishes for.
	Config []string
	// Only are names or globs of the tests that are asked for; without any all are.
	Only []string `toml:"-"`
}

// foreign are the suites that are declared.
var foreign = sync.OnceValue(func() []Foreign {
	var file struct{ Suite []Foreign }
	if _, err := toml.Decode(foreignText, &file); err != nil {
		panic(fmt.Sprintf("foreign.toml: %v", err)) // it is a part of this program
	}
	return file.Suite
})

// take takes an item of TEST that is such a suite, or some of its tests (name:tests). A file
// of that name is a test of the user's.
func (a *Asked) take(item string) (bool, error) {
	name, tests, named := strings.Cut(item, ":")
	i := slices.IndexFunc(foreign(), func(f Foreign) bool { return f.Name == name })
	if i < 0 {
		return false, nil
	}
	if _, err := os.Stat(item); err == nil {
		return false, nil
	}
	f := foreign()[i]
	if named {
		var err error
		if f.Only, err = list(item, tests); err != nil {
			return true, err
		}
		for _, glob := range f.Only {
			if _, err := filepath.Match(glob, ""); err != nil {
				return true, fmt.Errorf("TEST=%s: %s is no name or glob of a test: %w", item, glob, err)
			}
		}
	}
	if before := slices.IndexFunc(a.Foreign, func(o Foreign) bool { return o.Name == name }); before >= 0 {
		// All of them are more than some.
		if o := &a.Foreign[before]; named && len(o.Only) > 0 {
			o.Only = append(o.Only, f.Only...)
		} else {
			o.Only = nil
		}
		return true, nil
	}
	a.Foreign = append(a.Foreign, f)
	return true, nil
}

// Choose returns those of its tests that are asked for.
func (f Foreign) Choose(built []string) ([]string, error) {
	is := func(glob, name string) bool {
		whole, _ := filepath.Match(glob, name)
		short, _ := filepath.Match(glob, strings.TrimSuffix(name, filepath.Ext(name)))
		return whole || short
	}
	var all, chosen []string
	for _, name := range built {
		if slices.Contains(f.Helpers, name) {
			continue
		}
		all = append(all, name)
		if len(f.Only) == 0 || slices.ContainsFunc(f.Only, func(glob string) bool { return is(glob, name) }) {
			chosen = append(chosen, name)
		}
	}
	for _, glob := range f.Only {
		if !slices.ContainsFunc(all, func(name string) bool { return is(glob, name) }) {
			return nil, fmt.Errorf("it has no test %s; most like it: %s", glob, Near(glob, all))
		}
	}
	return chosen, nil
}

// Fragments are the config that such suites need, and what they wish for.
func (a Asked) Fragments() []kernel.Fragment {
	var names []string
	var wishes string
	for _, s := range a.Foreign {
		names = append(names, s.Name)
		for _, o := range s.Config {
			wishes += "CONFIG_" + o + "=y\n"
		}
	}
	name := "for TEST=" + strings.Join(names, ",")
	return []kernel.Fragment{
		{Name: name + ": its disk", Text: "CONFIG_EXT4_FS=y\n", Pulls: true},
		{Name: name, Text: wishes, Pulls: true, Wish: true},
	}
}
