package suites

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"patchproof/kernel"
	"patchproof/patches/regular"
)

// Suite is a KUnit suite of a source.
type Suite struct {
	// Name is what the kernel calls it, File where it is.
	Name, File string
	// Option is what turns it on, without CONFIG_; empty where that is not known.
	Option string
}

// suiteFile finds files with suites, likelyTests where they are as a rule: reading those
// alone takes a fiftieth of the time.
const suiteFile = `struct kunit_suite +[A-Za-z0-9_]+ *= *\{?`

var likelyTests = []string{":(glob)**/*test*.c", ":(glob)**/*kunit*.c", ":(glob)**/*test*/**/*.c", ":(glob)**/*kunit*/**/*.c"}

// kunitSuites returns the suites of a source, sorted by name; everywhere looks beyond
// the usual places, too.
func kunitSuites(ctx context.Context, c kernel.Content, everywhere bool) ([]Suite, error) {
	where := likelyTests
	if everywhere {
		where = []string{"*.c"}
	}
	files, err := c.Grep(ctx, suiteFile, where...)
	if err != nil {
		return nil, err
	}
	texts, err := c.ReadAll(ctx, files)
	if err != nil {
		return nil, err
	}
	m := makefiles{ctx: ctx, content: c}
	if err := m.load(files); err != nil {
		return nil, err
	}
	var all []Suite
	for _, file := range files {
		names := suiteNames(texts[file])
		if len(names) == 0 {
			continue
		}
		option, err := m.optionOf(file)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			all = append(all, Suite{Name: name, File: file, Option: option})
		}
	}
	slices.SortFunc(all, func(a, b Suite) int { return strings.Compare(a.Name+"\x00"+a.File, b.Name+"\x00"+b.File) })
	return all, nil
}

var (
	suiteBegin  = regexp.MustCompile(`struct\s+kunit_suite\s+\w+\s*=\s*\{`)
	suiteName   = regexp.MustCompile(`\.name\s*=\s*("(?:[^"\\]|\\.)*"|\w+)`)
	defineName  = regexp.MustCompile(`(?m)^#\s*define\s+(\w+)\s+"([^"]*)"`)
	quotedParts = regexp.MustCompile(`"([^"]*)"`)
)

// suiteNames are the names of the suites that a file declares.
func suiteNames(text string) []string {
	defines := map[string]string{}
	for _, m := range defineName.FindAllStringSubmatch(text, -1) {
		defines[m[1]] = m[2]
	}
	var names []string
	for _, at := range suiteBegin.FindAllStringIndex(text, -1) {
		body, _, _ := strings.Cut(text[at[1]:], "};")
		m := suiteName.FindStringSubmatch(body)
		if m == nil {
			continue
		}
		if quoted := quotedParts.FindStringSubmatch(m[1]); quoted != nil {
			names = append(names, quoted[1])
		} else if value, ok := defines[m[1]]; ok {
			names = append(names, value)
		}
	}
	return names
}

// Choice is what a run of KUnit suites comes down to.
type Choice struct {
	// Fragment is the config that they need.
	Fragment kernel.Fragment
	// Wished are those that a glob found among others, Wishes is their config. What a tree
	// cannot have of them keeps the others from nothing.
	Wishes kernel.Fragment
	Wished []Suite
	// Suites are globs of those whose results are told; none means all.
	Suites []string
	// Needs are options that a kernel must have for any result.
	Needs []string
}

// ChooseKUnit finds what is asked for in the sources under test, of which a suite must
// be in one at least, and makes a config of it.
func ChooseKUnit(ctx context.Context, a Asked, contents []kernel.Content) (Choice, error) {
	// A test may make the kernel complain though all is well (KUNIT_FAULT_TEST).
	lines := []string{
		"CONFIG_KUNIT=y",
		"# optional: where the kernel has debugfs", "CONFIG_KUNIT_DEBUGFS=y",
		"# optional: older trees have none; it makes the kernel complain and passes then", "# CONFIG_KUNIT_FAULT_TEST is not set",
	}
	if a.All {
		lines = append(lines, "CONFIG_KUNIT_ALL_TESTS=y")
	}
	for _, dir := range a.Folders {
		text, err := folderConfig(ctx, dir, contents)
		if err != nil {
			return Choice{}, err
		}
		lines = append(lines, text...)
	}
	for _, dir := range a.Configs {
		text, err := regular.ReadFile(filepath.Join(dir, configFile))
		if err != nil {
			return Choice{}, fmt.Errorf("TEST=%s: %w", dir, err)
		}
		lines = append(lines, strings.Split(string(text), "\n")...)
	}
	options, wished, err := suiteOptions(ctx, a, contents)
	if err != nil {
		return Choice{}, err
	}
	for _, option := range options {
		lines = append(lines, "# optional: the patch may bring it", "CONFIG_"+option+"=y")
	}
	c := Choice{Fragment: kernel.Fragment{Name: "for TEST=kunit", Text: strings.Join(settle(builtIn(lines)), "\n") + "\n", Pulls: true}}
	var wishes []string
	for _, s := range wished {
		if !slices.ContainsFunc(c.Wished, func(o Suite) bool { return o.Name == s.Name }) {
			c.Wished = append(c.Wished, s)
		}
		if line := "CONFIG_" + s.Option + "=y"; s.Option != "" && !slices.Contains(options, s.Option) {
			wishes = with(wishes, line)
		}
	}
	c.Wishes = kernel.Fragment{Name: "for TEST=kunit:" + strings.Join(a.Globs, ","), Text: strings.Join(wishes, "\n") + "\n", Pulls: true, Wish: true}
	if !a.All && len(a.Folders)+len(a.Configs) == 0 {
		c.Suites = a.Globs
		if len(options) == 1 {
			c.Needs = options
		}
	}
	return c, nil
}

// builtIn makes modules built in: KUnit's suites run while the kernel boots, before anything is loaded.
func builtIn(lines []string) []string {
	for i, line := range lines {
		if option, ok := strings.CutSuffix(strings.TrimSpace(line), "=m"); ok && !strings.HasPrefix(option, "#") {
			lines[i] = option + "=y"
		}
	}
	return lines
}

// settle leaves of the lines that set an option the last.
func settle(lines []string) []string {
	last := map[string]int{}
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if name, _, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "CONFIG_") {
			last[name] = i
		} else if name, ok := strings.CutSuffix(line, " is not set"); ok {
			last[strings.TrimPrefix(name, "# ")] = i
		}
		lines[i] = line
	}
	var kept []string
	for i, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		if off, ok := strings.CutSuffix(line, " is not set"); ok {
			name = strings.TrimPrefix(off, "# ")
		}
		if at, ok := last[name]; ok && at != i {
			continue
		}
		kept = append(kept, line)
	}
	return kept
}

// folderConfig reads a folder's .kunitconfig from the last of the sources that has one.
func folderConfig(ctx context.Context, dir string, contents []kernel.Content) ([]string, error) {
	for _, c := range slices.Backward(contents) {
		text, err := c.Read(ctx, path.Join(dir, configFile))
		if err == nil {
			return strings.Split(text, "\n"), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	have, err := contents[0].Files(ctx, ":(glob)**/"+configFile)
	if err != nil {
		return nil, err
	}
	if len(have) == 0 {
		return nil, fmt.Errorf("TEST=kunit:%s: this kernel's source has no .kunitconfig at all; kunit:NAME takes suites by their names", dir)
	}
	for i := range have {
		have[i] = path.Dir(have[i])
	}
	return nil, fmt.Errorf("TEST=kunit:%s: this kernel's source has no %s/%s; most like it: %s", dir, dir, configFile, Near(dir, have))
}

// suiteOptions are the options of the suites that the globs match, and the suites that need not
// all be there: a glob found them together with those of other options, or nobody named them.
func suiteOptions(ctx context.Context, a Asked, contents []kernel.Content) (options []string, wished []Suite, err error) {
	if len(a.Globs) == 0 {
		return nil, nil, nil
	}
	var suites []Suite
	matched := func(glob string) []Suite {
		var found []Suite
		for _, s := range suites {
			if ok, _ := filepath.Match(glob, s.Name); ok {
				found = append(found, s)
			}
		}
		return found
	}
	for _, everywhere := range []bool{false, true} {
		suites = nil
		for _, c := range contents {
			all, err := kunitSuites(ctx, c, everywhere)
			if err != nil {
				return nil, nil, err
			}
			suites = append(suites, all...)
		}
		if !slices.ContainsFunc(a.Globs, func(g string) bool { return len(matched(g)) == 0 }) {
			break
		}
	}
	for _, glob := range a.Globs {
		found := matched(glob)
		if len(found) == 0 {
			var names []string
			for _, s := range suites {
				names = append(names, s.Name)
			}
			slices.Sort(names)
			return nil, nil, fmt.Errorf("TEST=kunit:%s: none of this kernel's %d KUnit suites is called so; most like it: %s", glob, len(slices.Compact(names)), Near(glob, slices.Compact(names)))
		}
		var of []string
		for _, s := range found {
			if s.Option != "" {
				of = with(of, s.Option)
			}
		}
		if len(of) == 1 && !a.Auto {
			options = with(options, of[0])
		} else {
			wished = append(wished, found...)
		}
		if len(of) == 0 {
			return nil, nil, fmt.Errorf("TEST=kunit:%s: which option builds %s is not known; TEST=FOLDER, with a .kunitconfig in it, says it", glob, found[0].File)
		}
	}
	slices.Sort(options)
	return options, wished, nil
}
