package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"patchproof/kernel/sandbox"
)

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
