package suites

import (
	"context"
	"path"
	"regexp"
	"strings"

	"patchproof/kernel"
)

// makefiles finds which option a file of the source is built by, as kbuild's makefiles
// say it (Documentation/kbuild/makefiles.rst).
type makefiles struct {
	ctx     context.Context
	content kernel.Content
	// texts are makefiles and sources by their paths, as far as they were read.
	texts map[string]string
}

// load reads the makefiles of the files' folders and of those above.
func (m *makefiles) load(files []string) error {
	seen := map[string]bool{}
	var paths []string
	for _, file := range files {
		for dir := path.Dir(file); !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			paths = append(paths, path.Join(dir, "Makefile"), path.Join(dir, "Kbuild"))
			if dir == "." {
				break
			}
		}
	}
	var err error
	m.texts, err = m.content.ReadAll(m.ctx, paths)
	return err
}

// optionOf returns the option without CONFIG_, empty where it is not found.
func (m *makefiles) optionOf(file string) (string, error) {
	dir, base := path.Split(file)
	if option := m.object(path.Clean(dir), strings.TrimSuffix(base, ".c")+".o", 0); option != "" {
		return option, nil
	}
	return m.included(file)
}

// assignment is a line of a makefile that adds to a list of objects.
var assignment = regexp.MustCompile(`(?m)^\s*([A-Za-z0-9_./-]+)-(y|objs|m|\$[({]CONFIG_(\w+)[)}])\s*[:+]?=\s*(.*)$`)

// object follows an object through the makefile of a folder, and those above.
func (m *makefiles) object(dir, object string, depth int) string {
	if depth > 8 {
		return ""
	}
	text := m.texts[path.Join(dir, "Makefile")] + "\n" + m.texts[path.Join(dir, "Kbuild")]
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, a := range assignment.FindAllStringSubmatch(text, -1) {
		words, _, _ := strings.Cut(a[4], "#")
		for _, word := range strings.Fields(words) {
			if word != object {
				continue
			}
			switch {
			case a[3] != "":
				return a[3]
			case a[1] != "obj":
				if option := m.object(dir, a[1]+".o", depth+1); option != "" {
					return option
				}
			case dir != ".":
				if option := m.object(path.Dir(dir), path.Base(dir)+"/", depth+1); option != "" {
					return option
				}
			}
		}
	}
	if dir == "." || strings.HasSuffix(object, "/") {
		return ""
	}
	return m.object(path.Dir(dir), path.Join(path.Base(dir), object), depth+1)
}

var configWord = regexp.MustCompile(`CONFIG_(\w*(?:KUNIT|TEST)\w*)`)

// included finds the option around the #include of a file that is no object of its own.
func (m *makefiles) included(file string) (string, error) {
	base := path.Base(file)
	dir := path.Dir(file)
	users, err := m.content.Grep(m.ctx, `#include ".*`+regexp.QuoteMeta(base)+`"`, ":(glob)"+dir+"/*.c", ":(glob)"+path.Dir(dir)+"/*.c")
	if err != nil || len(users) == 0 {
		return "", err
	}
	texts, err := m.content.ReadAll(m.ctx, users)
	if err != nil {
		return "", err
	}
	for _, user := range users {
		before, _, _ := strings.Cut(texts[user], base+`"`)
		if found := configWord.FindAllStringSubmatch(before, -1); len(found) > 0 {
			return found[len(found)-1][1], nil
		}
	}
	return "", nil
}
