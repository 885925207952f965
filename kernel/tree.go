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
	"slices"
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
