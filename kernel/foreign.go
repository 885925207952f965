package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"patchproof/kernel/sandbox"
)

// Foreign is a suite of tests that comes neither with a kernel nor with the user, but as
// a source of Debian's.
type Foreign struct {
	// Package is the source's name in the archive.
	Package string
	// Recipe is what a shell does in the unpacked source to build the tests, and Tests a
	// glob of what they are then.
	Recipe, Tests string
}

// ForeignTests are the tests of such a suite, in a folder of the store.
type ForeignTests struct {
	Dir string
	// Version and SHA256 are the source's.
	Version, SHA256 string
	// Names are the tests', as Foreign.Tests finds them.
	Names []string
}

// Foreign builds a suite of tests, in the sandbox, from the newest source in the signed
// index of the archive that can be had, once for each source and compiler.
func (b *Builder) Foreign(ctx context.Context, f Foreign) (t ForeignTests, err error) {
	if b, err = b.absolute(); err != nil {
		return t, err
	}
	compiler, err := Compiler{}.id(ctx)
	if err != nil {
		return t, err
	}
	release, err := b.store().Use(ctx)
	if err != nil {
		return t, err
	}
	defer release()
	unlock, err := b.store().lock(ctx, filepath.Join(b.Cache, selftestsDir, f.Package+".lock"), "tests of "+f.Package, func(holder string) {
		b.report(Progress{Step: "note: waiting for another run: " + holder})
	})
	if err != nil {
		return t, err
	}
	defer unlock()
	source, err := b.foreignSource(ctx, f.Package)
	if err != nil {
		return t, fmt.Errorf("the source of %s: %w", f.Package, err)
	}
	t = ForeignTests{Dir: filepath.Join(b.Cache, selftestsDir, hashOf(compiler, source.SHA256, f.Recipe, f.Tests)), Version: source.Version, SHA256: source.SHA256}
	if !asStored(t.Dir) {
		if exists(t.Dir) {
			b.report(Progress{Step: fmt.Sprintf("note: the stored tests of %s are not what was stored there", f.Package)})
		}
		if err := b.makeForeign(ctx, f, source, t.Dir); err != nil {
			return t, err
		}
	}
	now := time.Now()
	// GC goes by it; a store that cannot be written still serves.
	_ = os.Chtimes(t.Dir, now, now)
	found, err := os.ReadDir(t.Dir)
	for _, file := range found {
		if name := file.Name(); name != sumFile {
			t.Names = append(t.Names, name)
		}
	}
	return t, err
}

// foreignSource is the newest source of a package that is in the store or served.
func (b *Builder) foreignSource(ctx context.Context, name string) (release, error) {
	orig := regexp.MustCompile(`^` + regexp.QuoteMeta(name) + `_(\d+(?:\.\d+)*)\.orig\.tar\.(?:gz|xz|bz2)$`)
	file := filepath.Join(b.Cache, "releases-"+name+".json")
	known, age, err := readReleases(file)
	if err != nil {
		return release{}, err
	}
	if age > indexAge {
		b.report(Progress{Step: "note: looking for the source of " + name + " in the Debian archive's index"})
		seen, err := debianReleases(ctx, name, orig)
		switch {
		case ctx.Err() != nil:
			return release{}, context.Cause(ctx)
		case err != nil && len(known) == 0:
			return release{}, err
		case err != nil:
			b.report(Progress{Step: fmt.Sprintf("note: an older index is used, as there is no newer one: %v", err)})
		default:
			known = merge(known, seen)
			if err := writeReleases(file, known); err != nil {
				return release{}, err
			}
		}
	}
	var tries []error
	for _, r := range known {
		if exists(filepath.Join(b.Cache, sourcesDir, r.SHA256, filepath.Base(r.File))) {
			return r, nil
		}
		_, err := r.served(ctx)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return release{}, context.Cause(ctx)
		}
		tries = append(tries, err)
	}
	return release{}, fmt.Errorf("it is in Debian's index, but it cannot be had: %w", errors.Join(tries...))
}

// makeForeign builds the tests of a source into dir.
func (b *Builder) makeForeign(ctx context.Context, f Foreign, source release, dir string) error {
	on, note, err := sandbox.Find(ctx, true)
	if err != nil {
		return err
	}
	if note != "" {
		b.report(Progress{Step: "note: " + note})
	}
	archive, err := b.download(ctx, Spec{Name: f.Package, Pin: releasePin(source, trustIndex)})
	if err != nil {
		return err
	}
	b.report(Progress{Step: fmt.Sprintf("note: building the tests of %s %s", f.Package, source.Version)})
	out, err := os.MkdirTemp(filepath.Join(b.Cache, selftestsDir), "*"+tmpSuffix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(out)
	src, scratch, installed := filepath.Join(out, "src"), filepath.Join(out, scratchDir), filepath.Join(out, "installed")
	for _, d := range []string{src, scratch, installed} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	script := fmt.Sprintf("tar -xf %q --strip-components=1 && %s", archive, f.Recipe)
	box := sandbox.Box{On: on, Show: []string{archive}, Write: []string{out}, Temp: scratch, Env: []string{fmt.Sprintf("MAKEFLAGS=-j%d", b.jobs())}}
	cmd, err := box.Command(src, "sh", "-c", script)
	if err != nil {
		return err
	}
	path := filepath.Join(b.Cache, logsDir, f.Package+"-tests.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	runErr := sandbox.Run(ctx, cmd)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	tests, err := filepath.Glob(filepath.Join(src, f.Tests))
	if err != nil {
		return err
	}
	if len(tests) == 0 {
		return withLog(fmt.Errorf("the tests of %s %s do not build here: %w", f.Package, source.Version, cmp.Or(runErr, errors.New("none was made"))), path)
	}
	if runErr != nil {
		b.report(Progress{Step: fmt.Sprintf("note: not all tests of %s %s were built: %v; log: %s", f.Package, source.Version, runErr, path)})
	}
	if err := ownFolder(installed); err != nil {
		return err
	}
	for _, test := range tests {
		if err := os.Rename(test, filepath.Join(installed, filepath.Base(test))); err != nil {
			return err
		}
	}
	return storeTests(installed, dir)
}
