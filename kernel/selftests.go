package kernel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"
)

// SelftestsDir is where the kernel's source has its kselftest targets.
const SelftestsDir = "tools/testing/selftests"

// selftestsList is the file that names the tests of an installation, a "target:test" on
// each line.
const selftestsList = "kselftest-list.txt"

// noSelftest are the folders of a kernel's source that no selftest is built of.
var noSelftest = []string{"Documentation", "block", "crypto", "drivers", "fs", "init", "ipc", "kernel", "net", "samples", "security", "sound", "virt"}

// Selftests are kselftest targets, installed in a folder of the store.
type Selftests struct {
	Dir string
	// Tests are the names of a target's tests, in the order of its makefile; not each need have
	// been built.
	Tests map[string][]string
	// XFail says that the source's own runner takes exit code 2 (KSFT_XFAIL) for a failure
	// that was expected; older ones take it for a failure like others.
	XFail bool
	// ByInterpreter says that it starts a script that is not executable with what its first
	// line names; older ones take that for a failure.
	ByInterpreter bool
	// Unbuilt are the targets of which not all tests could be built. One of which none could has
	// no Tests.
	Unbuilt map[string]UnbuiltTarget
}

// UnbuiltTarget is a kselftest target that does not build on this machine, or not as a whole.
type UnbuiltTarget struct {
	// Why is what was said of it, Log the file with all of it.
	Why string `json:"why"`
	Log string `json:"log"`
	// BySource says that compiler or linker said so of the source, and not a tool that is
	// missing here.
	BySource bool `json:"by_source"`
}

// Built are those of a target's tests that were.
func (s Selftests) Built(target string) []string {
	return slices.DeleteFunc(slices.Clone(s.Tests[target]), func(test string) bool {
		return !exists(filepath.Join(s.Dir, target, test))
	})
}

// selftestsForm is part of the key of a build: how targets are built.
const selftestsForm = "as far as they build"

// Selftests builds kselftest targets of a spec's source, once for each content of what
// they are built of, and installs them. Nothing is written into the source.
func (b *Builder) Selftests(ctx context.Context, spec Spec, targets []string) (Selftests, error) {
	b, err := b.absolute()
	if err != nil {
		return Selftests{}, err
	}
	if _, err := exec.LookPath("rsync"); err != nil {
		return Selftests{}, errors.New("kselftest installs its tests with rsync, which is missing; run: apt-get install rsync")
	}
	compiler, err := Compiler{}.id(ctx)
	if err != nil {
		return Selftests{}, err
	}
	var s Selftests
	err = b.withTree(ctx, spec, func(t tree) error {
		commit, err := b.apply(ctx, t, spec)
		if err != nil {
			return err
		}
		content, err := git(ctx, t.src(), "ls-tree", commit)
		if err != nil {
			return err
		}
		parts := append([]string{selftestsForm, compiler}, targets...)
		for line := range strings.Lines(content) {
			if _, name, _ := strings.Cut(strings.TrimSpace(line), "\t"); !slices.Contains(noSelftest, name) {
				parts = append(parts, line)
			}
		}
		dir := filepath.Join(b.Cache, selftestsDir, hashOf(parts...))
		whole := asStored(dir)
		if !whole || outdated(dir) {
			if exists(dir) && !whole {
				b.report(Progress{Step: fmt.Sprintf("note: %s: the stored build of kselftest %s is not what was stored there", spec.Name, strings.Join(targets, ", "))})
			}
			if err := b.makeSelftests(ctx, t, spec, commit, targets, dir); err != nil {
				return err
			}
		}
		now := time.Now()
		// GC goes by it; a store that cannot be written still serves.
		_ = os.Chtimes(dir, now, now)
		s, err = readSelftests(dir)
		return err
	})
	return s, err
}

// makeSelftests builds and installs targets into dir.
func (b *Builder) makeSelftests(ctx context.Context, t tree, spec Spec, commit string, targets []string, dir string) (err error) {
	j := job{Builder: b, spec: spec, variant: Variant{Name: "selftests-" + filepath.Base(dir)[:8]}, tree: t, commit: commit}
	on, note, err := sandbox.Find(ctx, spec.trusted())
	if err != nil {
		return fmt.Errorf("kselftest of %s: %w", spec.Name, err)
	}
	if j.log, err = j.openLog(); err != nil {
		return err
	}
	defer j.log.Close()
	if note != "" {
		j.note(note)
	}
	j.report(Progress{Step: fmt.Sprintf("note: %s: building kselftest %s", spec.Name, strings.Join(targets, ", "))})
	if err := checkoutCommit(ctx, t.src(), commit); err != nil {
		return err
	}
	out := filepath.Join(t.dir, "build-selftests"+tmpSuffix)
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	defer os.RemoveAll(out)
	scratch, installed := filepath.Join(out, scratchDir), filepath.Join(out, "installed")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return err
	}
	m := &makeRun{src: t.src(), out: out, jobs: b.jobs(), log: j.log, object: func(int) {}, sandbox: sandbox.Box{
		On: on, Show: []string{t.src()}, Write: []string{out}, Temp: scratch,
		// Targets of older trees look for the headers in the source.
		Env: []string{"C_INCLUDE_PATH=" + filepath.Join(out, "usr/include")},
	}}
	if err := m.run(ctx, "headers"); err != nil {
		return withLog(fmt.Errorf("kselftest of %s: its headers cannot be made: %w", spec.Name, selftestTrouble(err)), j.log.Name())
	}
	m.src = filepath.Join(t.src(), SelftestsDir)
	// What does not build keeps nothing else from being built.
	args := []string{"-k", "TARGETS=" + strings.Join(targets, " "), "KSFT_INSTALL_PATH=" + installed, "install"}
	makeErr := m.run(ctx, args...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := ownFolder(installed); err != nil {
		return err
	}
	found, err := readSelftests(installed)
	if err != nil && makeErr == nil {
		return withLog(fmt.Errorf("kselftest %s of %s does not build here: %w", strings.Join(targets, ", "), spec.Name, err), j.log.Name())
	}
	unbuilt := unbuiltTargets{Libraries: librariesAt(), Targets: map[string]UnbuiltTarget{}}
	// One after the other, so that no two tools speak at once.
	m.jobs = 1
	for _, target := range targets {
		if n := len(found.Built(target)); n > 0 && n == len(found.Tests[target]) {
			continue
		}
		u, err := j.whyUnbuilt(ctx, m, target, filepath.Join(out, "again"))
		if err != nil {
			return err
		}
		unbuilt.Targets[target] = u
	}
	if makeErr != nil && len(unbuilt.Targets) == 0 {
		j.note(fmt.Sprintf("not all of kselftest %s was built: %v; log: %s", strings.Join(targets, ", "), selftestTrouble(makeErr), j.log.Name()))
	}
	if len(unbuilt.Targets) > 0 {
		// Nothing of a target is installed of which something did not build, unless make goes on
		// after that, too. Why it did not is known.
		if err := m.run(ctx, append([]string{"-i"}, args...)...); ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
	if err := unbuilt.write(installed); err != nil {
		return err
	}
	return storeTests(installed, dir)
}

// whyUnbuilt builds one target by itself, into a folder that nobody needs, and says why not all of
// its tests are there: of several targets make fails only if all do, of one it says why.
func (j *job) whyUnbuilt(ctx context.Context, m *makeRun, target, into string) (UnbuiltTarget, error) {
	u := UnbuiltTarget{Why: "make says that it does, but not all of its tests are there", Log: j.log.Name()}
	if _, err := git(ctx, j.tree.src(), "cat-file", "-e", j.commit+":"+path.Join(SelftestsDir, target, "Makefile")); err != nil {
		u.Why, u.BySource = "this source has no such target", true
		return u, nil
	}
	err := m.run(ctx, "-k", "TARGETS="+target, "KSFT_INSTALL_PATH="+into, "install")
	switch {
	case err == nil:
		return u, nil
	case ctx.Err() != nil:
		return u, context.Cause(ctx)
	}
	var host *hostError
	var refused *BuildError
	u.BySource = errors.As(err, &refused)
	if !u.BySource && (!errors.As(err, &host) || host.passing) {
		return u, withLog(fmt.Errorf("kselftest %s of %s could not be built, which says nothing about its source: %w", target, j.spec.Name, err), j.log.Name())
	}
	u.Why = selftestTrouble(err).Error()
	// A library of the system's is none of the source's business.
	u.BySource = u.BySource && !strings.Contains(u.Why, "cannot find -l") && packageOf(u.Why) == ""
	return u, nil
}

// unbuiltFile tells in a folder of the store what could not be built of what was asked for.
const unbuiltFile = ".unbuilt.json"

// unbuiltTargets is the content of an unbuiltFile. It holds until something is installed.
type unbuiltTargets struct {
	Libraries string                   `json:"libraries"`
	Targets   map[string]UnbuiltTarget `json:"targets"`
}

func (u unbuiltTargets) write(dir string) error {
	if len(u.Targets) == 0 {
		return nil
	}
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := ownFolder(dir); err != nil {
		return err
	}
	return writeAtomic(filepath.Join(dir, unbuiltFile), string(text))
}

// ownFolder makes a folder of what is installed, unless it is there, and refuses what else a
// makefile has put in its place: a link would lead what is written there out of the store.
func ownFolder(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("what is built puts something else than a folder into the place of %s", dir)
	}
	return err
}

func readUnbuilt(dir string) (u unbuiltTargets, err error) {
	text, err := regular.ReadFile(filepath.Join(dir, unbuiltFile))
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return u, err
	}
	return u, json.Unmarshal(text, &u)
}

// outdated says that what could not be built of a stored build may be possible now.
func outdated(dir string) bool {
	u, err := readUnbuilt(dir)
	return err != nil || len(u.Targets) > 0 && u.Libraries != librariesAt()
}

// librariesAt says when something was last put where compilers look for headers and
// libraries, or a shell for tools.
func librariesAt() string {
	var parts []string
	for _, pattern := range []string{"/usr/include", "/usr/include/*-linux-gnu*", "/usr/lib", "/usr/lib/*-linux-gnu*", "/usr/lib64", "/usr/local/include", "/usr/local/lib", "/usr/bin", "/usr/local/bin"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			if info, err := os.Stat(dir); err == nil {
				parts = append(parts, dir, info.ModTime().String())
			}
		}
	}
	return hashOf(parts...)
}

// sumFile holds the hash of what lies beside it in a folder of the store.
const sumFile = ".sum"

// storeTests makes dir of what is installed, with its sumFile.
func storeTests(installed, dir string) error {
	if err := ownFolder(installed); err != nil {
		return err
	}
	sum, err := contentSum(installed)
	if err != nil {
		return err
	}
	if err := writeAtomic(filepath.Join(installed, sumFile), sum+"\n"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	// What is there now was not whole.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(installed, dir)
}

// asStored says whether each bit of a folder with a sumFile is what was stored.
func asStored(dir string) bool {
	stored, err := regular.ReadFile(filepath.Join(dir, sumFile))
	if err != nil {
		return false
	}
	sum, err := contentSum(dir)
	return err == nil && sum+"\n" == string(stored)
}

// contentSum is the hash of all that lies in a folder: names, modes and contents.
func contentSum(dir string) (string, error) {
	var parts []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == sumFile {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum, err := fileSum(path)
		parts = append(parts, name, info.Mode().String(), sum)
		return err
	})
	return hashOf(parts...), err
}

// selftestTrouble is what a compiler said, without what is said of a kernel that does not
// build.
func selftestTrouble(err error) error {
	var refused *BuildError
	if !errors.As(err, &refused) {
		var host *hostError
		if errors.As(err, &host) && strings.Contains(host.what, "Read-only file system") {
			return fmt.Errorf("its makefile writes into the source, which may only be read: %s", host.what)
		}
		return err
	}
	said := refused.Message
	if pkg := packageOf(said); pkg != "" {
		said += fmt.Sprintf(" (Debian and Ubuntu: apt-get install %s)", pkg)
	}
	if refused.File == "" {
		return errors.New(said)
	}
	return fmt.Errorf("%s:%d: %s", refused.File, refused.Line, said)
}

// packageOf is the package that has what linker or compiler do not find, empty where none is known.
func packageOf(said string) string {
	m := notThere.FindStringSubmatch(said)
	if m == nil {
		return ""
	}
	return packages[m[1]+m[2]]
}

// notThere is what linker and compiler say of a library and of a header that are not there.
var notThere = regexp.MustCompile(`cannot find -l([\w-]+)|([\w/.-]+\.h): No such file`)

// packages have the libraries that selftests are built with, by the names of these and of their headers.
var packages = map[string]string{
	"cap": "libcap-dev", "sys/capability.h": "libcap-dev",
	"cap-ng": "libcap-ng-dev", "cap-ng.h": "libcap-ng-dev",
	"popt": "libpopt-dev", "popt.h": "libpopt-dev",
	"mnl": "libmnl-dev", "libmnl/libmnl.h": "libmnl-dev",
	"numa": "libnuma-dev", "numa.h": "libnuma-dev",
	"fuse": "libfuse-dev", "fuse.h": "libfuse-dev",
	"asound": "libasound2-dev", "alsa/asoundlib.h": "libasound2-dev",
	"uring": "liburing-dev", "liburing.h": "liburing-dev",
	"crypto": "libssl-dev", "openssl/bio.h": "libssl-dev", "openssl/evp.h": "libssl-dev",
}

// readSelftests reads which tests are installed.
func readSelftests(dir string) (Selftests, error) {
	s := Selftests{Dir: dir, Tests: map[string][]string{}}
	unbuilt, err := readUnbuilt(dir)
	if err != nil {
		return s, err
	}
	s.Unbuilt = unbuilt.Targets
	f, err := regular.Open(filepath.Join(dir, selftestsList))
	if errors.Is(err, fs.ErrNotExist) && len(s.Unbuilt) > 0 {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("no list of tests was installed (trees before v5.10 make none): %w", err)
	}
	defer f.Close()
	runner, err := regular.ReadFile(filepath.Join(dir, "kselftest", "runner.sh"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.XFail = bytes.Contains(runner, []byte("$KSFT_XFAIL"))
	s.ByInterpreter = bytes.Contains(runner, []byte("interpreter="))
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if target, test, ok := strings.Cut(strings.TrimSpace(lines.Text()), ":"); ok && filepath.IsLocal(test) {
			s.Tests[target] = append(s.Tests[target], test)
		}
	}
	for target := range s.Unbuilt {
		if len(s.Built(target)) == 0 {
			delete(s.Tests, target)
		}
	}
	return s, lines.Err()
}
