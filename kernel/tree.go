package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel/sandbox"
	"patchproof/patches"
)

// tree is a folder of the cache for one pin or one local tree: a git repository
// src with a work tree, and an output folder per variant beside it.
type tree struct {
	dir string
	// base is the commit that series are applied to.
	base string
	// exact takes a patch only where its context is, without a merge.
	exact bool
}

func (t tree) src() string { return filepath.Join(t.dir, "src") }

// build is the build folder (O=). A variant with options of its own has one for
// itself, so that the next kernel of the plain one compiles only what changed, and so
// has one with modules, without which most objects are others.
func (t tree) build(v Variant, c Compiler) string {
	name := t.plainBuild(v, c)
	requests, err := readFragments(v)
	switch {
	case err == nil && wantsModules(v, requests):
		return name + "-with-modules"
	case len(v.Over)+len(v.Config) > 0:
		return name + "-with-options"
	}
	return name
}

// plainBuild is the build folder of a variant without options of its own.
func (t tree) plainBuild(v Variant, c Compiler) string {
	return filepath.Join(t.dir, "build-"+v.Name+c.folder())
}

// ApplyError is a patch that does not apply. The tree is left without it.
type ApplyError struct {
	// Kernel is the kernel to build, On what the patch was applied to.
	Kernel, On string
	// Number is the patch's place among the kernel's patches, from 1.
	Number     int
	Patch      patches.Patch
	Mismatches []patches.Mismatch
	// Git is git am's own message, for what Mismatches cannot explain.
	Git string
}

func (e *ApplyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kernel %s: patch %d, %q (%s), does not apply to %s", e.Kernel, e.Number, e.Patch.Subject, e.Patch.Path, e.On)
	if len(e.Mismatches) > 0 {
		fmt.Fprintf(&b, "\n%s", strings.TrimRight(patches.Format(e.Mismatches), "\n"))
	} else {
		fmt.Fprintf(&b, ":\n%s", e.Git)
	}
	if e.Kernel == Patched {
		b.WriteString("\nbin/patchproof patch base says which commit it was made for; make apply opens a work tree to mend it in")
	}
	return b.String()
}

// treeDir is where a spec's tree lies; every local repository has its own.
func (b *Builder) treeDir(spec Spec) string {
	if spec.Tree == "" {
		return filepath.Join(b.Cache, "trees", spec.Pin.Name)
	}
	return filepath.Join(b.Cache, "trees", "tree-"+hashOf(spec.Tree)[:12])
}

// prepare makes the tree of a spec ready for applying patches. The caller holds its lock.
func (b *Builder) prepare(ctx context.Context, spec Spec) (tree, error) {
	t := tree{dir: b.treeDir(spec)}
	var err error
	switch {
	case spec.Tree != "":
		t.base, err = b.borrow(ctx, t, spec)
	case spec.Pin.fromGit():
		t.base, err = b.fetchPin(ctx, t, spec)
	default:
		t.base, err = b.importPin(ctx, t, spec)
	}
	return t, err
}

// importPin returns the base commit of an archive pin, made from its source the first time.
func (b *Builder) importPin(ctx context.Context, t tree, spec Spec) (string, error) {
	pin := spec.Pin
	if commit, ok := t.imported(ctx, pin); ok {
		return commit, nil
	}
	if err := b.checkRoom(pin.Name, pin.Archive.Size*unpacked); err != nil {
		return "", err
	}
	entries, origin, err := b.source(ctx, spec)
	if err != nil {
		return "", err
	}
	if err := os.RemoveAll(t.src()); err != nil {
		return "", err
	}
	tmp := t.src() + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := importSource(ctx, tmp, pin.Tree, pin.message(), pin.Date, entries); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("importing pin %s from %s: %w", pin.Name, origin, err)
	}
	if err := os.Rename(tmp, t.src()); err != nil {
		return "", err
	}
	return git(ctx, t.src(), "rev-parse", "--verify", baseRef)
}

// imported returns the base commit if it is there and is the pin's.
func (t tree) imported(ctx context.Context, pin Pin) (string, bool) {
	if _, err := os.Stat(t.src()); err != nil {
		return "", false
	}
	out, err := git(ctx, t.src(), "rev-parse", baseRef, baseRef+"^{tree}")
	if err != nil {
		return "", false
	}
	commit, oid, _ := strings.Cut(out, "\n")
	if pin.Tree == "" {
		message, err := git(ctx, t.src(), "log", "-1", "--format=%B", baseRef)
		return commit, err == nil && strings.TrimSpace(message) == strings.TrimSpace(pin.message())
	}
	return commit, oid == pin.Tree
}

// message is that of the base commit. By it a source is known again of which only the
// archive's hash is.
func (p Pin) message() string {
	if p.Tree == "" {
		return fmt.Sprintf("Linux %s\n\nThe source as in %s, sha256 %s.\n", p.Version, p.Archive.Name, p.Archive.SHA256)
	}
	return fmt.Sprintf("Linux %s\n\nThe source as released.\n", p.Version)
}

// fetchPin returns the base commit of a git pin, fetched the first time.
func (b *Builder) fetchPin(ctx context.Context, t tree, spec Spec) (string, error) {
	pin := spec.Pin
	if _, err := os.Stat(t.src()); err == nil {
		if commit, err := git(ctx, t.src(), "rev-parse", "--verify", "--quiet", baseRef); err == nil {
			return commit, nil
		}
	}
	sources := pin.Sources
	if b.Source != "" {
		sources = []Source{{Git: b.Source, Rev: "HEAD"}}
	}
	if err := os.RemoveAll(t.src()); err != nil {
		return "", err
	}
	tmp := tree{dir: t.dir + ".tmp"}
	if err := os.RemoveAll(tmp.dir); err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp.dir)
	if err := initRepo(ctx, tmp.src()); err != nil {
		return "", err
	}
	var tries []error
	for _, s := range sources {
		b.report(Progress{Kernel: spec.Name, Step: StepFetch, Note: s.Git + " " + s.Rev})
		commit, err := b.fetchCommit(ctx, tmp, pin, s)
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		var failed *sandbox.FailedCommand
		if errors.As(err, &failed) && failed.Said != "" {
			err = errors.New(failed.Said)
		}
		if isLocalTrouble(err) {
			return "", err
		}
		if err != nil {
			tries = append(tries, fmt.Errorf("%s %s: %w", s.Git, s.Rev, err))
			continue
		}
		if _, err := git(ctx, tmp.src(), "update-ref", baseRef, commit); err != nil {
			return "", err
		}
		if err := os.MkdirAll(t.dir, 0o755); err != nil {
			return "", err
		}
		return commit, os.Rename(tmp.src(), t.src())
	}
	return "", &sourcesError{"pin " + pin.Name, tries}
}

// fetchCommit fetches one revision without its history and returns it if it is the pin.
func (b *Builder) fetchCommit(ctx context.Context, t tree, pin Pin, s Source) (string, error) {
	if _, err := git(ctx, t.src(), "fetch", "--quiet", "--depth=1", "--no-tags", s.Git, s.Rev); err != nil {
		return "", err
	}
	commit, err := git(ctx, t.src(), "rev-parse", "--verify", "FETCH_HEAD^{commit}")
	if err != nil {
		return "", err
	}
	differs := pin.Accept.compare(ctx, t, commit)
	if differs == nil {
		return commit, nil
	}
	if pin.Accept.Series == "" {
		return "", differs
	}
	series, err := readSeries(pin.Accept.Series)
	if err != nil {
		return "", err
	}
	t.base, t.exact = commit, true
	if _, _, err := t.apply(ctx, Spec{Name: "accept", Pin: pin, Series: []patches.Series{series}}, commit); err != nil {
		return "", fmt.Errorf("%w, and its series does not apply: %w", differs, err)
	}
	return commit, nil
}

// compare returns nil if the commit has the pin's blobs.
func (a Accept) compare(ctx context.Context, t tree, commit string) error {
	if len(a.Blobs) == 0 {
		return errors.New("the pin names no blobs")
	}
	for path, want := range a.Blobs {
		got, err := git(ctx, t.src(), "rev-parse", "--verify", commit+":"+path)
		if err != nil {
			return fmt.Errorf("commit %.12s has no %s", commit, path)
		}
		if !strings.HasPrefix(got, want) {
			return fmt.Errorf("%s is blob %.12s in commit %.12s, the pin wants %s", path, got, commit, want)
		}
	}
	return nil
}

// localGit runs git on a repository of the user's, which it must not change in
// any way: no lock, no refreshed index, no hook, no helper of its configuration.
func localGit(ctx context.Context, dir string, args ...string) (string, error) {
	return git(ctx, dir, append([]string{"--no-optional-locks", "-c", "core.fsmonitor=false"}, args...)...)
}

// borrow makes a repository of our own that sees the objects of the local tree,
// and returns the commit that Rev is there.
func (b *Builder) borrow(ctx context.Context, t tree, spec Spec) (string, error) {
	commit, err := localSource(ctx, spec)
	if err != nil {
		return "", err
	}
	objects, err := localGit(ctx, spec.Tree, "rev-parse", "--path-format=absolute", "--git-path", "objects")
	if err != nil {
		return "", err
	}
	shallow, err := localGit(ctx, spec.Tree, "rev-parse", "--path-format=absolute", "--git-path", "shallow")
	if err != nil {
		return "", err
	}
	gitDir := filepath.Join(t.src(), ".git")
	if _, err := os.Stat(filepath.Join(gitDir, "HEAD")); err != nil {
		if err := initRepo(ctx, t.src()); err != nil {
			return "", err
		}
	}
	alternates := filepath.Join(gitDir, "objects", "info", "alternates")
	if err := os.MkdirAll(filepath.Dir(alternates), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(alternates, []byte(quotePath(objects)+"\n"), 0o644); err != nil {
		return "", err
	}
	if err := copyCut(filepath.Join(gitDir, "shallow"), shallow); err != nil {
		return "", err
	}
	grafts := filepath.Join("info", "grafts")
	if err := copyCut(filepath.Join(gitDir, grafts), filepath.Join(filepath.Dir(shallow), grafts)); err != nil {
		return "", err
	}
	if err := copyReplaced(ctx, t.src(), spec.Tree); err != nil {
		return "", err
	}
	if err := checkWhole(ctx, t, spec, commit); err != nil {
		return "", err
	}
	if exists(filepath.Join(gitDir, "index")) {
		return commit, nil
	}
	if err := b.checkRoomForTree(ctx, t, spec, commit); err != nil {
		t.forget()
		return "", err
	}
	return commit, nil
}

// forget removes a tree of which nothing was checked out yet.
func (t tree) forget() {
	if !exists(filepath.Join(t.src(), ".git", "index")) {
		os.RemoveAll(t.dir)
	}
}

// localSource returns the commit that is built for a spec's Rev: what git replace has
// put in its place, if anything.
func localSource(ctx context.Context, spec Spec) (string, error) {
	commit, err := resolveLocal(ctx, spec)
	if err != nil {
		return "", err
	}
	// git follows as many (object.c, do_lookup_replace_object).
	for range 5 {
		other, err := localGit(ctx, spec.Tree, "rev-parse", "--verify", "--quiet", replaceRefs+commit)
		if err != nil {
			break
		}
		commit = other
	}
	return commit, nil
}

// replaceRefs are those of git replace.
const replaceRefs = "refs/replace/"

// copyReplaced makes a repository see the commits as another does that borrows from it
// or is borrowed from: with what git replace has put in the place of some.
func copyReplaced(ctx context.Context, to, from string) error {
	list := func(dir string) (string, error) {
		return localGit(ctx, dir, "for-each-ref", "--format=%(refname) %(objectname)", replaceRefs)
	}
	theirs, err := list(from)
	if err != nil {
		return err
	}
	ours, err := list(to)
	if err != nil || ours == theirs {
		return err
	}
	var changes strings.Builder
	for line := range strings.Lines(ours) {
		ref, _, _ := strings.Cut(line, " ")
		if !strings.Contains(theirs, ref+" ") {
			fmt.Fprintf(&changes, "delete %s\n", ref)
		}
	}
	for line := range strings.Lines(theirs) {
		fmt.Fprintf(&changes, "update %s\n", strings.TrimSuffix(line, "\n"))
	}
	cmd := gitCommand(to, "update-ref", "--stdin")
	cmd.Stdin = strings.NewReader(changes.String())
	_, err = sandbox.Output(ctx, cmd)
	return err
}

// checkWhole fails for a commit of a partial clone of which files were not fetched yet.
// To fetch them is for the user's own git: that has the keys, and what its
// configuration names is not run here.
func checkWhole(ctx context.Context, t tree, spec Spec, commit string) error {
	if !isPartial(ctx, spec.Tree) {
		return nil
	}
	objects, err := git(ctx, t.src(), "rev-list", "--objects", "--missing=print", "--max-count=1", commit)
	if err != nil {
		return err
	}
	missing := strings.Count("\n"+objects, "\n?")
	if missing == 0 {
		return nil
	}
	return fmt.Errorf("TREE=%s is a partial clone in which %d objects of commit %.12s are missing. Fetch them: git -C %[1]s diff --numstat "+
		"$(git -C %[1]s hash-object -t tree /dev/null) %.12[3]s >/dev/null; or those of all commits: git -C %[1]s fetch --refetch --no-filter", spec.Tree, missing, commit)
}

// copyCut makes a repository's history end, or go on, where another's does: its file
// shallow or grafts, which may have changed or gone, as after git fetch --unshallow.
func copyCut(to, from string) error {
	cut, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(to)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, cut, 0o644)
}

var (
	makefileVersion    = regexp.MustCompile(`(?m)^VERSION\s*=\s*(\d+)\s*$`)
	makefilePatchlevel = regexp.MustCompile(`(?m)^PATCHLEVEL\s*=\s*(\d+)\s*$`)
)

// oldest is the first major version with CONFIG_PVH, by which kernels are booted. What counts its
// versions by years, as U-Boot and barebox do, has a kernel's makefiles and is none.
const (
	oldest = 5
	years  = 2000
)

// checkKernel fails for a local tree's commit that is no kernel source, or is too old a one.
// Such a one leaves nothing behind.
func checkKernel(ctx context.Context, t tree, spec Spec, commit string) (err error) {
	if spec.Tree == "" {
		return nil
	}
	defer func() {
		if err != nil {
			t.forget()
		}
	}()
	makefile, err := git(ctx, t.src(), "cat-file", "blob", commit+":Makefile")
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("TREE=%s %s (%.12s) is no kernel source: it has no Makefile at its top", spec.Tree, spec.Rev, commit)
	}
	version := makefileVersion.FindStringSubmatch(makefile)
	level := makefilePatchlevel.FindStringSubmatch(makefile)
	if version == nil || level == nil {
		// A cut-down tree may leave them out, and not this.
		if _, err := git(ctx, t.src(), "cat-file", "-e", commit+":Kconfig"); err == nil {
			return nil
		}
		return fmt.Errorf("TREE=%s %s (%.12s) is no kernel source: its Makefile has no VERSION and PATCHLEVEL", spec.Tree, spec.Rev, commit)
	}
	major, err := strconv.Atoi(version[1])
	switch {
	case err != nil || major >= years:
		return fmt.Errorf("TREE=%s %s (%.12s) is no kernel source: its Makefile says version %s.%s", spec.Tree, spec.Rev, commit, version[1], level[1])
	case major < oldest:
		return fmt.Errorf("TREE=%s %s (%.12s) is Linux %s.%s; 5.4 to 7.x are served, and no kernel before %d.0 boots here",
			spec.Tree, spec.Rev, commit, version[1], level[1], oldest)
	}
	return nil
}

// resolveLocal returns the commit that a spec's Rev is in its local tree.
func resolveLocal(ctx context.Context, spec Spec) (string, error) {
	if info, err := os.Stat(spec.Tree); err != nil {
		return "", fmt.Errorf("TREE: %w", err)
	} else if !info.IsDir() {
		return "", fmt.Errorf("TREE=%s is not a folder", spec.Tree)
	}
	if _, err := localGit(ctx, spec.Tree, "rev-parse", "--git-dir"); err != nil {
		if _, statErr := os.Lstat(filepath.Join(spec.Tree, ".git")); statErr == nil {
			return "", fmt.Errorf("the .git of TREE=%s is damaged, or its repository has gone; clone the tree anew: %w", spec.Tree, err)
		}
		return "", fmt.Errorf("TREE=%s is not a git repository", spec.Tree)
	}
	// A tarball may be unpacked within some repository, which is not what is meant.
	if prefix, err := localGit(ctx, spec.Tree, "rev-parse", "--show-prefix"); err == nil && prefix != "" {
		top, err := localGit(ctx, spec.Tree, "rev-parse", "--show-toplevel")
		if err != nil {
			return "", err
		}
		return "", fmt.Errorf("TREE=%s has no git repository of its own: it is a folder of the one in %s; give that, or a clone", spec.Tree, top)
	}
	commit, err := localGit(ctx, spec.Tree, "rev-parse", "--verify", "--quiet", "--end-of-options", spec.Rev+"^{commit}")
	if err != nil {
		if id, revErr := localGit(ctx, spec.Tree, "rev-parse", "--verify", "--quiet", "--end-of-options", spec.Rev); revErr == nil {
			if _, typeErr := localGit(ctx, spec.Tree, "cat-file", "-t", id); typeErr != nil {
				return "", fmt.Errorf("TREE=%[1]s lacks the object of %[2]q; git -C %[1]s fsck names what is missing: %[3]w", spec.Tree, spec.Rev, typeErr)
			}
		}
		return "", fmt.Errorf("TREE=%s has no commit %q%s", spec.Tree, spec.Rev, Shallow(ctx, spec.Tree))
	}
	return commit, nil
}

// Dirty reports whether a local tree has changes that are not committed: they
// are not in what is built, which a user should be told.
func Dirty(ctx context.Context, dir string) bool {
	// Its attributes and configuration could name filters to run.
	var args []string
	filters, _ := localGit(ctx, dir, "config", "--name-only", "--get-regexp", `^filter\..*\.(clean|smudge|process)$`)
	for name := range strings.Lines(filters) {
		args = append(args, "-c", strings.TrimSuffix(name, "\n")+"=")
	}
	out, err := localGit(ctx, dir, append(args, "status", "--porcelain", "--untracked-files=no")...)
	return err == nil && out != ""
}

// apply applies the patches of spec to base and returns the commit, and a note for each
// patch that needed a merge. Each list of patches is applied once: its commit stays under
// a ref named by its content.
func (t tree) apply(ctx context.Context, spec Spec, base string) (string, []string, error) {
	list := spec.Patches()
	refs := make([]string, len(list))
	var keys, notes []string
	key := base
	for i, p := range list {
		key = hashOf(key, string(p.MailMessage()))
		refs[i] = seriesRefs + key
		keys = append(keys, key)
	}
	on := spec.Pin.Name
	if spec.Tree != "" {
		on = spec.Tree + " " + spec.Rev
	}
	merged := func(i int) {
		notes = append(notes, fmt.Sprintf("patch %d, %q, does not apply to %s as it is; git am -3 merged it", i+1, spec.Patches()[i].Subject, on))
	}
	for i, ref := range slices.Backward(refs) {
		if commit, err := git(ctx, t.src(), "rev-parse", "--verify", "--quiet", ref+"^{commit}"); err == nil {
			for j, key := range keys[:i+1] {
				if _, err := git(ctx, t.src(), "rev-parse", "--verify", "--quiet", mergedRefs+key); err == nil {
					merged(j)
				}
			}
			if i == len(refs)-1 {
				return commit, notes, nil
			}
			base, list, refs = commit, list[i+1:], refs[i+1:]
			break
		}
	}
	if len(list) == 0 {
		return base, notes, nil
	}
	if err := checkoutCommit(ctx, t.src(), base); err != nil {
		return "", nil, err
	}
	for i, p := range list {
		number := len(keys) - len(list) + i
		commit, threeWay, err := t.am(ctx, p)
		var refused *ApplyError
		if errors.As(err, &refused) {
			refused.Kernel, refused.On, refused.Number = spec.Name, on, number+1
		}
		if err != nil {
			return "", nil, err
		}
		if threeWay {
			merged(number)
			if _, err := git(ctx, t.src(), "update-ref", mergedRefs+keys[number], commit); err != nil {
				return "", nil, err
			}
		}
		if _, err := git(ctx, t.src(), "update-ref", refs[i], commit); err != nil {
			return "", nil, err
		}
	}
	commit, err := git(ctx, t.src(), "rev-parse", "--verify", "HEAD")
	return commit, notes, err
}

// am commits one patch on HEAD: exactly where its context is, without fuzz, else by a
// merge with the files that it was made for, where the repository has them.
func (t tree) am(ctx context.Context, p patches.Patch) (commit string, threeWay bool, err error) {
	head, err := git(ctx, t.src(), "rev-parse", "--verify", "HEAD")
	if err != nil {
		return "", false, err
	}
	err = gitAm(ctx, t.src(), p)
	if err == nil {
		commit, err = git(ctx, t.src(), "rev-parse", "--verify", "HEAD")
		return commit, false, err
	}
	if err := t.abort(ctx, err); err != nil {
		return "", false, err
	}
	refused := &ApplyError{Patch: p, Mismatches: mismatches(ctx, t.src(), "HEAD", p), Git: err.Error()}
	if t.exact {
		return "", false, refused
	}
	if err := gitAm(ctx, t.src(), p, "--3way"); err != nil {
		if err := t.abort(ctx, err); err != nil {
			return "", false, err
		}
		return "", false, refused
	}
	commit, err = git(ctx, t.src(), "rev-parse", "--verify", "HEAD")
	if err == nil && commit == head {
		// git am -3 drops a patch of which the tree has everything, and calls that well.
		return "", false, refused
	}
	return commit, true, err
}

// gitAm gives a patch to git am in a work tree.
func gitAm(ctx context.Context, dir string, p patches.Patch, options ...string) error {
	cmd := gitCommand(dir, append([]string{"am", "--quiet", "--keep-non-patch", "--quoted-cr=nowarn", "--no-scissors", "--no-gpg-sign", "--no-3way", "--keep-cr",
		"--committer-date-is-author-date"}, options...)...)
	cmd.Stdin = strings.NewReader(string(p.MailMessage()))
	_, err := sandbox.Output(ctx, cmd)
	return err
}

// abort takes back a git am that failed, unless it failed for a reason that is not the patch's.
func (t tree) abort(ctx context.Context, failed error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, err := git(ctx, t.src(), "am", "--abort"); err != nil {
		return fmt.Errorf("%w (%w)", err, failed)
	}
	var command *sandbox.FailedCommand
	if isLocalTrouble(failed) || errors.As(failed, &command) && damage.MatchString(command.Said) {
		return failed
	}
	return nil
}

// mismatches are the hunks of a patch that do not apply to a commit.
func mismatches(ctx context.Context, dir, commit string, p patches.Patch) []patches.Mismatch {
	return p.Mismatches(func(path string) ([]byte, error) {
		out, err := sandbox.Output(ctx, gitCommand(dir, "cat-file", "blob", commit+":"+path))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
		return out, nil
	})
}

// hashOf is the sha256 of the parts, each set off from the next.
func hashOf(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(sum, "%d:%s\n", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
