package suites

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"patchproof/kernel"
)

// mostSuites is how many suites of a folder are taken where none is called like the file
// that a patch touches.
const mostSuites = 8

// Nearest returns the tests that lie nearest to the files which a patch touches, and notes
// that say what was chosen, why, and for which files there is nothing.
func Nearest(ctx context.Context, files []string, contents []kernel.Content) (a Asked, notes []string, err error) {
	n := nearest{contents: contents}
	for _, c := range contents {
		found, err := kunitSuites(ctx, c, false)
		if err != nil {
			return a, nil, err
		}
		for _, s := range found {
			if s.Option != "" && !slices.Contains(n.suites, s) {
				n.suites = append(n.suites, s)
			}
		}
	}
	n.maintainers, err = contents[0].Read(ctx, "MAINTAINERS")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return a, nil, err
	}
	for _, file := range files {
		before := len(n.notes)
		if err := n.kunit(ctx, file); err != nil {
			return a, nil, err
		}
		if err := n.kselftest(ctx, file); err != nil {
			return a, nil, err
		}
		if len(n.notes) == before {
			n.notes = append(n.notes, "auto: neither a KUnit suite nor a kselftest target was found for "+file)
		}
	}
	return n.asked, n.notes, nil
}

// nearest is what is known of the source, and what was found for the files so far.
type nearest struct {
	// contents are the source without the patch and with it.
	contents    []kernel.Content
	suites      []Suite
	maintainers string
	asked       Asked
	notes       []string
}

func (n *nearest) say(file, format string, args ...any) {
	n.notes = append(n.notes, "auto: "+fmt.Sprintf(format, args...)+", for "+file)
}

// kunit finds the KUnit suites of a file.
func (n *nearest) kunit(ctx context.Context, file string) error {
	folder, err := n.contents[0].ReadAll(ctx, []string{path.Join(path.Dir(file), configFile)})
	if err != nil {
		return err
	}
	near, beside := nearSuites(file, n.suites)
	switch {
	case len(folder) > 0:
		n.asked.Folders = with(n.asked.Folders, path.Dir(file))
		n.say(file, "the KUnit suites of %s/%s", path.Dir(file), configFile)
	case len(near) > 0:
		for _, s := range near {
			n.asked.Globs = with(n.asked.Globs, s.Name)
		}
		why := "by its name"
		if plainName(near[0].File) != plainName(file) {
			why = "in the same folder"
		}
		n.say(file, "KUnit %s, %s", suiteList(near), why)
	case len(beside) > 0:
		n.say(file, "none of the %d KUnit suites of the folder, as none is called like it", len(beside))
	}
	return nil
}

// kselftest finds the targets that a file is part of, or that MAINTAINERS names beside it.
func (n *nearest) kselftest(ctx context.Context, file string) error {
	own, err := ownTarget(ctx, n.contents, file)
	if err != nil {
		return err
	}
	if own != "" {
		n.asked.Targets = with(n.asked.Targets, own)
		n.say(file, "kselftest %s, which it is part of", own)
	}
	targets, err := targetsOf(ctx, n.contents[0], n.maintainers, file)
	if err != nil {
		return err
	}
	targets = slices.DeleteFunc(targets, func(t string) bool { return t == own })
	for _, t := range targets {
		n.asked.Targets = with(n.asked.Targets, t)
	}
	if len(targets) > 0 {
		n.say(file, "kselftest %s, by MAINTAINERS", strings.Join(targets, ", "))
	}
	alike, err := targetAlike(ctx, n.contents[0], file)
	if err == nil && alike != "" && alike != own && !slices.Contains(targets, alike) {
		n.asked.Targets = with(n.asked.Targets, alike)
		n.say(file, "kselftest %s, by its name", alike)
	}
	return err
}

// targetAlike is the kselftest target that is called like a file at the top of a subsystem, as
// kcmp is like kernel/kcmp.c, or nothing. Deeper down names such as core.c are everywhere.
func targetAlike(ctx context.Context, c kernel.Content, file string) (string, error) {
	if strings.Count(file, "/") != 1 || path.Ext(file) != ".c" {
		return "", nil
	}
	listed, err := allTargets(ctx, c)
	stem := strings.TrimSuffix(path.Base(file), ".c")
	i := slices.IndexFunc(listed, func(t string) bool { return path.Base(t) == stem })
	if err != nil || i < 0 {
		return "", err
	}
	makefile := path.Join(kernel.SelftestsDir, listed[i], "Makefile")
	there, err := c.ReadAll(ctx, []string{makefile})
	if _, ok := there[makefile]; !ok {
		return "", err
	}
	return listed[i], nil
}

func with(list []string, item string) []string {
	if slices.Contains(list, item) {
		return list
	}
	return append(list, item)
}

func suiteList(suites []Suite) string {
	var names []string
	for _, s := range suites {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// nearSuites are the suites of a file: it or its tests by its name, or those beside it where
// they are few. beside are all in its folder.
func nearSuites(file string, all []Suite) (near, beside []Suite) {
	dir, stem := path.Dir(file), plainName(file)
	for _, s := range all {
		if s.File == file {
			return []Suite{s}, nil
		}
		home := path.Dir(s.File)
		if base := path.Base(home); base == "tests" || base == "test" {
			home = path.Dir(home)
		}
		if home != dir && path.Dir(s.File) != dir {
			continue
		}
		beside = append(beside, s)
		if plainName(s.File) == stem {
			near = append(near, s)
		}
	}
	if len(near) == 0 && len(beside) <= mostSuites {
		near = beside
	}
	return near, beside
}

// plainName is a file's name without what says that it is a test.
func plainName(file string) string {
	name := strings.TrimSuffix(path.Base(file), path.Ext(file))
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '_' || r == '-' })
	words = slices.DeleteFunc(words, func(w string) bool { return w == "test" || w == "tests" || w == "kunit" })
	return strings.Join(words, "_")
}

// ownTarget is the kselftest target that a file is part of, or nothing: of those that the last
// source lists the innermost.
func ownTarget(ctx context.Context, contents []kernel.Content, file string) (own string, err error) {
	below, ok := strings.CutPrefix(file, kernel.SelftestsDir+"/")
	if !ok {
		return "", nil
	}
	names, err := allTargets(ctx, contents[len(contents)-1])
	return innermost(names, below), err
}

// innermost is the target that a file or folder below the selftests' is part of, or nothing.
func innermost(targets []string, below string) (name string) {
	for _, t := range targets {
		if strings.HasPrefix(below+"/", t+"/") && len(t) > len(name) {
			name = t
		}
	}
	return name
}

// targetIn is the target that a pattern of MAINTAINERS leads to: one that the source lists, or
// a folder.
func targetIn(pattern string, listed []string) string {
	if i := strings.IndexAny(pattern, "*?["); i >= 0 {
		pattern = pattern[:strings.LastIndexByte(pattern[:i], '/')+1]
	}
	folder := strings.TrimSuffix(pattern, "/")
	return cmp.Or(innermost(listed, folder), folder)
}

// targetsOf are the kselftest targets that belong to a file: those named in the same
// section of MAINTAINERS, as folders or by files in them.
func targetsOf(ctx context.Context, c kernel.Content, maintainers, file string) ([]string, error) {
	known, err := allTargets(ctx, c)
	if err != nil {
		return nil, err
	}
	var names []string
	for section := range strings.SplitSeq(maintainers, "\n\n") {
		covers, excluded := false, false
		var targets []string
		for line := range strings.Lines(section) {
			kind, pattern, _ := strings.Cut(line, ":")
			pattern = strings.TrimSpace(pattern)
			switch {
			case kind == "X":
				excluded = excluded || coversFile(pattern, file)
			case kind == "N":
				names, err := regexp.Compile(pattern)
				covers = covers || err == nil && names.MatchString(file)
			case kind == "F":
				// The last section has all there is.
				covers = covers || strings.Trim(pattern, "*/") != "" && coversFile(pattern, file)
				if below, ok := strings.CutPrefix(pattern, kernel.SelftestsDir+"/"); ok {
					targets = append(targets, targetIn(below, known))
				}
			}
		}
		if covers && !excluded {
			names = append(names, targets...)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !targetName.MatchString(name) })
	slices.Sort(names)
	names = slices.Compact(names)
	var makefiles []string
	for _, name := range names {
		makefiles = append(makefiles, path.Join(kernel.SelftestsDir, name, "Makefile"))
	}
	if len(makefiles) == 0 {
		return nil, nil
	}
	there, err := c.ReadAll(ctx, makefiles)
	return slices.DeleteFunc(names, func(name string) bool {
		_, ok := there[path.Join(kernel.SelftestsDir, name, "Makefile")]
		return !ok
	}), err
}

// coversFile says whether a pattern of MAINTAINERS covers a file: a folder all below it, any
// other what it matches, folders included, also where these lack the slash.
func coversFile(pattern, file string) bool {
	if strings.HasSuffix(pattern, "/") {
		parts := strings.Split(file, "/")
		n := strings.Count(pattern, "/")
		if len(parts) <= n {
			return false
		}
		ok, _ := path.Match(strings.TrimSuffix(pattern, "/"), strings.Join(parts[:n], "/"))
		return ok
	}
	ok, _ := path.Match(pattern, file)
	return ok || strings.HasPrefix(file, pattern+"/")
}
