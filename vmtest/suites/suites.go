// Package suites finds the tests that come with a kernel's source: KUnit suites, and
// kselftest targets. It reads the source under test, says which config they need and what
// is not there, and reads their results.
package suites

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	edlib "github.com/hbollon/go-edlib"

	"patchproof/vmtest/userland"
)

// Asked is what TEST names of a kernel's own tests.
type Asked struct {
	// All asks for every KUnit suite whose options the config allows.
	All bool
	// Globs are names of KUnit suites, Folders folders of the source with a
	// .kunitconfig.
	Globs, Folders []string
	// Configs are such folders outside of the source, on the host.
	Configs []string
	// Targets are kselftest's.
	Targets []string
	// Foreign are those that come from elsewhere.
	Foreign []Foreign
	// Auto asks for what is nearest to the files that the patch touches.
	Auto bool
}

// None says that nothing is asked for.
func (a Asked) None() bool { return !a.KUnit() && len(a.Targets)+len(a.Foreign) == 0 && !a.Auto }

// OnlyForeign says that nothing of the kernel's own is asked for.
func (a Asked) OnlyForeign() bool { return !a.KUnit() && len(a.Targets) == 0 && !a.Auto }

// KUnit says that KUnit suites are asked for.
func (a Asked) KUnit() bool {
	return a.All || len(a.Globs)+len(a.Folders)+len(a.Configs) > 0
}

// Add adds what another asks for.
func (a Asked) Add(b Asked) Asked {
	a.All = a.All || b.All
	for _, l := range []struct {
		to   *[]string
		from []string
	}{{&a.Globs, b.Globs}, {&a.Folders, b.Folders}, {&a.Configs, b.Configs}, {&a.Targets, b.Targets}} {
		for _, item := range l.from {
			*l.to = with(slices.Clip(*l.to), item)
		}
	}
	return a
}

// configFile is what KUnit calls the config of a folder's suites.
const configFile = ".kunitconfig"

// Split takes the suites out of TEST's value, and leaves what the user brought. tree is
// the local tree under test, or nothing.
func Split(test, tree string) (a Asked, brought string, err error) {
	var rest []string
	for _, item := range userland.Items(test) {
		kind, names, named := strings.Cut(item, ":")
		if taken, err := a.take(item); err != nil {
			return a, "", err
		} else if taken {
			continue
		}
		switch {
		case item == "auto":
			a.Auto = true
		case kind == "kunit" && !named:
			a.All = true
		case kind == "kunit":
			if err := a.kunit(item, names); err != nil {
				return a, "", err
			}
		case kind == "kselftest":
			if !named {
				return a, "", errors.New("TEST=kselftest: want targets, as in kselftest:futex,timers")
			}
			targets, err := list(item, names)
			if err != nil {
				return a, "", err
			}
			for _, t := range targets {
				if !targetName.MatchString(t) {
					return a, "", fmt.Errorf("TEST=%s: %q is no name of a kselftest target", item, t)
				}
			}
			a.Targets = append(a.Targets, targets...)
		case strings.ContainsAny(item, " \t"):
			rest = append(rest, item)
		default:
			if !a.folder(item, tree) {
				rest = append(rest, item)
			}
		}
	}
	return a, strings.Join(rest, "\n"), nil
}

// targetName is a folder below the selftests', as make and a shell take it.
var targetName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)*$`)

// list splits names at commas and blanks.
func list(item, names string) ([]string, error) {
	all := strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	if len(all) == 0 {
		return nil, fmt.Errorf("TEST=%s names nothing behind the colon", item)
	}
	return all, nil
}

func (a *Asked) kunit(item, names string) error {
	all, err := list(item, names)
	if err != nil {
		return err
	}
	for _, name := range all {
		if strings.Contains(name, "/") {
			if !filepath.IsLocal(name) {
				return fmt.Errorf("TEST=%s: %s is no folder of the kernel's source", item, name)
			}
			a.Folders = append(a.Folders, filepath.Clean(name))
			continue
		}
		if name == "*" {
			a.All = true
			continue
		}
		if _, err := filepath.Match(name, ""); err != nil {
			return fmt.Errorf("TEST=%s: %s is no name or glob of a KUnit suite: %w", item, name, err)
		}
		a.Globs = append(a.Globs, name)
	}
	return nil
}

// folder takes an item that is a folder with a .kunitconfig, of the source or beside it.
func (a *Asked) folder(item, tree string) bool {
	info, err := os.Stat(item)
	if err != nil {
		// It may be relative to the tree's top; a revision of it is looked at later.
		if tree == "" || !errors.Is(err, fs.ErrNotExist) || !filepath.IsLocal(item) {
			return false
		}
		if _, err := os.Stat(filepath.Join(tree, item, configFile)); err != nil {
			return false
		}
		a.Folders = append(a.Folders, filepath.Clean(item))
		return true
	}
	if !info.IsDir() {
		return false
	}
	if _, err := os.Stat(filepath.Join(item, configFile)); err != nil {
		return false
	}
	if within, ok := inside(item, tree); ok {
		a.Folders = append(a.Folders, within)
	} else {
		a.Configs = append(a.Configs, item)
	}
	return true
}

// inside is a path as seen from the tree's top, if it lies in there.
func inside(path, tree string) (string, bool) {
	if tree == "" {
		return "", false
	}
	var real [2]string
	for i, p := range []string{path, tree} {
		abs, err := filepath.Abs(p)
		if err != nil {
			return "", false
		}
		if real[i], err = filepath.EvalSymlinks(abs); err != nil {
			return "", false
		}
	}
	rel, err := filepath.Rel(real[1], real[0])
	return rel, err == nil && filepath.IsLocal(rel)
}

// nearNames is how many names are told of when one is not there.
const nearNames = 6

// Near lists the names that are most like one, the most like first.
func Near(name string, names []string) string {
	word := strings.Trim(strings.ToLower(name), "*?[]")
	type scored struct {
		name  string
		score int
	}
	var all []scored
	for _, n := range names {
		low := strings.ToLower(n)
		score := edlib.OSADamerauLevenshteinDistance(word, low)
		for n := len(word); n <= min(len(word)+1, len(low)); n++ {
			score = min(score, edlib.OSADamerauLevenshteinDistance(word, low[:n]))
		}
		if word != "" && strings.Contains(low, word) {
			score = 0
		}
		all = append(all, scored{n, score})
	}
	slices.SortStableFunc(all, func(a, b scored) int {
		if a.score != b.score {
			return a.score - b.score
		}
		return strings.Compare(a.name, b.name)
	})
	var best []string
	for _, s := range all[:min(nearNames, len(all))] {
		best = append(best, s.name)
	}
	return strings.Join(best, ", ")
}
