package kernel

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Warning is what the compiler warns of.
type Warning struct {
	// File is relative to the kernel source; a header's warning is its own.
	File string
	Line int
	// Message ends with the option that asks for it.
	Message string
}

// compilerWarning is gcc's form of a warning with a place.
var compilerWarning = regexp.MustCompile(`(?m)^([^\s:]+):(\d+):(?:\d+:)? warning: (.*)$`)

// Warnings compiles one C file of a spec's source, whatever was compiled before, and
// returns each warning once. Of several names it is the first that is there; a file that
// is not there has none. It fails as Build does.
func (b *Builder) Warnings(ctx context.Context, spec Spec, v Variant, names ...string) ([]Warning, error) {
	b, err := b.absolute()
	if err != nil {
		return nil, err
	}
	compiler, err := b.Compiler.id(ctx)
	if err != nil {
		return nil, err
	}
	var all []Warning
	err = b.withCommit(ctx, spec, func(t tree, commit string) (err error) {
		i := slices.IndexFunc(names, func(name string) bool {
			_, err := git(ctx, t.src(), "cat-file", "-e", commit+":"+name)
			return err == nil
		})
		if i < 0 {
			return nil
		}
		j := job{Builder: b, spec: spec, variant: v, tree: t, commit: commit, compiler: compiler}
		all, err = j.warnings(ctx, names[i])
		return err
	})
	return all, err
}

// warnings opens the build folder, compiles the file in it and closes it again.
func (j *job) warnings(ctx context.Context, file string) ([]Warning, error) {
	if err := j.open(ctx); err != nil {
		return nil, err
	}
	defer j.log.Close()
	said, err := j.compile(ctx, file)
	if closeErr := j.folder.close(); err == nil {
		err = closeErr
	}
	return warningsIn(said, j.tree.src()), withLog(err, j.log.Name())
}

// compile makes the object of one file anew, with the variables, and returns what was said.
func (j *job) compile(ctx context.Context, file string, variables ...string) (said string, err error) {
	if err := checkoutCommit(ctx, j.tree.src(), j.commit); err != nil {
		return "", err
	}
	if err := j.folder.date(ctx, j.tree.src(), j.commit); err != nil {
		return "", err
	}
	var text bytes.Buffer
	m := &makeRun{src: j.tree.src(), out: j.folder.dir, jobs: j.jobs(), compiler: j.Compiler, sandbox: j.sandbox, log: io.MultiWriter(j.log, &text), object: func(int) {}}
	j.report(Progress{Kernel: j.spec.Name, Step: StepConfigure})
	config, err := j.config(ctx, m, j.commit)
	if err != nil {
		return "", err
	}
	object := strings.TrimSuffix(file, ".c") + ".o"
	root, err := os.OpenRoot(j.folder.dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := root.RemoveAll(filepath.FromSlash(object)); err != nil {
		return "", fmt.Errorf("%s of the build folder: %w", object, err)
	}
	j.report(Progress{Kernel: j.spec.Name, Step: StepCompile})
	if len(variables) > 0 {
		// What they change of that which an object stands on says nothing about the file.
		if err := m.run(ctx, slices.Concat(variables, quirks(m.src, config), []string{"prepare"})...); err != nil {
			return "", err
		}
	}
	text.Reset()
	err = m.run(ctx, slices.Concat(variables, quirks(m.src, config), []string{object})...)
	return text.String(), err
}

// warningsIn finds the warnings in what a build said.
func warningsIn(said, src string) []Warning {
	relative := failureFinder{src: src}
	var all []Warning
	for _, found := range compilerWarning.FindAllStringSubmatch(said, -1) {
		line, _ := strconv.Atoi(found[2])
		w := Warning{File: relative.relative(found[1]), Line: line, Message: found[3]}
		if !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}
