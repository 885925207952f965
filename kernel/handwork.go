package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel/sandbox"
	"patchproof/patches"
	"patchproof/patches/regular"
)

// Handwork is a work tree of the user's own in which a series is applied, and mended by
// hand where git cannot. It sees the objects of the cache, or of the user's tree, which
// is only read.
type Handwork struct{ dir string }

// handDir is the folder in .git of what is kept about the hand work; handFile in it says
// where it is, and is written last.
const (
	handDir  = "patchproof"
	handFile = "at"
)

// handState is what handFile says.
type handState struct {
	// next is the number, from 1, of the patch to apply, and head the commit before it.
	next int
	head string
	// stopped means that the work tree is the user's: this patch did not apply.
	stopped bool
}

// StoppedError is a patch that waits for hand work.
type StoppedError struct {
	Dir, On    string
	Number, Of int
	Subject    string
	Mismatches []patches.Mismatch
	// Conflicts are the files with <<<<<<< in them, Rejected the files *.rej; where both are
	// empty, nothing of the patch is in the work tree. Loose are files with what is in no
	// commit, and would be lost.
	Conflicts, Rejected, Loose []string
}

func (e *StoppedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "patch %d of %d, %q, does not apply to %s and waits for hand work in %s\n", e.Number, e.Of, e.Subject, e.On, e.Dir)
	if len(e.Mismatches) > 0 {
		b.WriteString(patches.Format(e.Mismatches))
	}
	if len(e.Conflicts) > 0 {
		fmt.Fprintf(&b, "conflicts (<<<<<<<) are in: %s\n", strings.Join(e.Conflicts, ", "))
	}
	if len(e.Rejected) > 0 {
		fmt.Fprintf(&b, "what did not apply is in: %s; delete these when done\n", strings.Join(e.Rejected, ", "))
	}
	if len(e.Loose) > 0 {
		fmt.Fprintf(&b, "in no commit, and lost if it went on: %s; git add or commit what belongs to the series, and take the rest away\n", strings.Join(e.Loose, ", "))
	}
	b.WriteString("then: make apply again. To leave the patch out: git am --skip there, then make apply")
	return b.String()
}

// StartHandwork makes the work tree at dir, which must not exist or be empty, or returns
// the one that is there for the same patches on the same base.
func (b *Builder) StartHandwork(ctx context.Context, spec Spec, dir string) (*Handwork, error) {
	b, err := b.absolute()
	if err != nil {
		return nil, err
	}
	if spec.Tree != "" && sandbox.Within(dir, spec.Tree) {
		return nil, fmt.Errorf("WORK=%s lies in TREE=%s, which is only read; choose another folder", dir, spec.Tree)
	}
	if sandbox.Within(dir, b.Cache) {
		return nil, fmt.Errorf("WORK=%s lies in the cache, which make cache gc empties; choose another folder", dir)
	}
	h := &Handwork{dir}
	_, readErr := h.read("key")
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("WORK=%s cannot be a work tree; choose another folder: %w", dir, err)
	case len(entries) > 0 && readErr != nil:
		return nil, fmt.Errorf("WORK=%s is not empty, and holds no hand work of make apply: choose another folder, which need not be there yet", dir)
	}
	err = b.withTree(ctx, spec, func(t tree) error {
		parts := []string{t.base}
		for _, p := range spec.Patches() {
			parts = append(parts, string(p.MailMessage()))
		}
		key := hashOf(parts...)
		if there, err := h.read("key"); err == nil {
			if there != key {
				title, _ := h.read("title")
				return fmt.Errorf("WORK=%s holds other hand work (%s): finish that with make refresh, remove the folder, or choose another WORK", dir, title)
			}
			return nil
		}
		return h.create(ctx, t, spec, key)
	})
	return h, err
}

// OpenHandwork returns the hand work at dir.
func OpenHandwork(dir string) (*Handwork, error) {
	h := &Handwork{dir}
	if _, err := h.read(handFile); err != nil {
		return nil, fmt.Errorf("WORK=%s holds no hand work; make apply PATCH=... begins some", dir)
	}
	return h, nil
}

// unfinished is where a folder is made that is not whole yet. What lies there is removed, so
// that it is a name that nobody else would give.
func unfinished(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".patchproof.tmp")
}

// create makes the work tree beside its place and moves it there when it is whole.
func (h *Handwork) create(ctx context.Context, t tree, spec Spec, key string) error {
	tmp := &Handwork{unfinished(h.dir)}
	if err := os.RemoveAll(tmp.dir); err != nil {
		return err
	}
	defer os.RemoveAll(tmp.dir)
	if err := initRepo(ctx, tmp.dir); err != nil {
		return err
	}
	gitDir := filepath.Join(tmp.dir, ".git")
	objects := filepath.Join(t.src(), ".git", "objects")
	if spec.Tree != "" {
		var err error
		if objects, err = localGit(ctx, spec.Tree, "rev-parse", "--path-format=absolute", "--git-path", "objects"); err != nil {
			return err
		}
	}
	alternates := filepath.Join(gitDir, "objects", "info", "alternates")
	if err := os.MkdirAll(filepath.Dir(alternates), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(alternates, []byte(quotePath(objects)+"\n"), 0o644); err != nil {
		return err
	}
	for _, name := range []string{"shallow", "info/grafts"} {
		if err := copyCut(filepath.Join(gitDir, name), filepath.Join(t.src(), ".git", name)); err != nil {
			return err
		}
	}
	if _, err := git(ctx, tmp.dir, "checkout", "--quiet", "--force", "--detach", t.base); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(gitDir, handDir), 0o755); err != nil {
		return err
	}
	list := spec.Patches()
	for i, p := range list {
		if err := tmp.write(strconv.Itoa(i+1)+".mail", string(p.MailMessage())); err != nil {
			return err
		}
	}
	on := spec.Pin.Name
	if spec.Tree != "" {
		on = spec.Tree + " " + spec.Rev
	}
	for name, text := range map[string]string{"key": key, "base": t.base, "on": on, "count": strconv.Itoa(len(list)), "title": list[0].Subject, "prefix": commonPrefix(list)} {
		if err := tmp.write(name, text); err != nil {
			return err
		}
	}
	if err := tmp.keep(handState{next: 1, head: t.base}); err != nil {
		return err
	}
	if err := os.Remove(h.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(h.dir), 0o755); err != nil {
		return err
	}
	return os.Rename(tmp.dir, h.dir)
}

// commonPrefix is what all mails of the series have in their subjects' brackets, or empty.
func commonPrefix(list []patches.Patch) string {
	if slices.ContainsFunc(list, func(p patches.Patch) bool { return p.Prefix != list[0].Prefix }) {
		return ""
	}
	return list[0].Prefix
}

func (h *Handwork) file(name string) string { return filepath.Join(h.dir, ".git", handDir, name) }

func (h *Handwork) read(name string) (string, error) {
	text, err := regular.ReadFile(h.file(name))
	return string(text), err
}

func (h *Handwork) write(name, text string) error { return writeAtomic(h.file(name), text) }

func (h *Handwork) keep(s handState) error {
	return h.write(handFile, fmt.Sprintf("%d %s %t", s.next, s.head, s.stopped))
}

func (h *Handwork) state() (s handState, of int, err error) {
	text, err := h.read(handFile)
	if err != nil {
		return s, 0, err
	}
	if _, err := fmt.Sscanf(text, "%d %s %t", &s.next, &s.head, &s.stopped); err != nil {
		return s, 0, h.damaged(handFile, text)
	}
	count, err := h.read("count")
	if err != nil {
		return s, 0, err
	}
	if of, err = strconv.Atoi(count); err != nil {
		return s, 0, h.damaged("count", count)
	}
	return s, of, nil
}

func (h *Handwork) damaged(name, text string) error {
	return fmt.Errorf("the record of the hand work in %s is damaged: %s says %q; what is done there is in git, and another folder (WORK) begins anew", h.dir, h.file(name), text)
}

// Continue applies the patches that are not applied yet. It ends with *StoppedError at one
// that needs hand work, and goes on behind it when called again. Notes tell of each patch
// that git merged, or that was left out.
func (h *Handwork) Continue(ctx context.Context) (notes []string, err error) {
	s, of, err := h.state()
	if err != nil {
		return nil, err
	}
	for s.next <= of {
		mail, err := patches.Read(h.file(strconv.Itoa(s.next) + ".mail"))
		if err != nil {
			return notes, err
		}
		p := mail.Patches[0]
		head, err := git(ctx, h.dir, "rev-parse", "--verify", "HEAD")
		if err != nil {
			return notes, err
		}
		underway := exists(filepath.Join(h.dir, ".git", "rebase-apply"))
		if s.stopped {
			if err := h.keepLoose(ctx, p, s, of, !underway && head != s.head); err != nil {
				return notes, err
			}
		}
		switch {
		case s.stopped && underway:
			if err := h.mended(ctx, p, s, of, head); err != nil {
				return notes, err
			}
			notes = append(notes, fmt.Sprintf("patch %d, %q: as mended by hand", s.next, p.Subject))
		case s.stopped && head == s.head:
			notes = append(notes, fmt.Sprintf("patch %d, %q: left out", s.next, p.Subject))
		case !underway && head != s.head:
			// It was committed, by the user or before an interruption.
		default:
			// Whatever an interrupted run left is nobody's work.
			if err := h.reset(ctx, s.head); err != nil {
				return notes, err
			}
			merged, err := h.apply(ctx, p, s, of)
			if err != nil {
				return notes, err
			}
			if merged {
				notes = append(notes, fmt.Sprintf("patch %d, %q: git am -3 merged it", s.next, p.Subject))
			}
		}
		if s.head, err = git(ctx, h.dir, "rev-parse", "--verify", "HEAD"); err != nil {
			return notes, err
		}
		s.next, s.stopped = s.next+1, false
		if err := h.keep(s); err != nil {
			return notes, err
		}
	}
	return notes, nil
}

// keepLoose stops at files of the user's that are in no commit: those that git does not track
// and that are not the patch's and, where the user has committed the patch, all changes.
func (h *Handwork) keepLoose(ctx context.Context, p patches.Patch, s handState, of int, committed bool) error {
	out, err := git(ctx, h.dir, "ls-files", "--others", "--exclude-standard", "-z")
	if err != nil {
		return err
	}
	if committed {
		changed, err := git(ctx, h.dir, "diff", "--name-only", "-z", "HEAD")
		if err != nil {
			return err
		}
		out = changed + "\x00" + out
	}
	var loose []string
	for name := range strings.SplitSeq(out, "\x00") {
		own := slices.ContainsFunc(p.Files, func(f patches.File) bool { return f.Name() == name })
		if name != "" && !strings.HasSuffix(name, ".rej") && (committed || !own) {
			loose = append(loose, name)
		}
	}
	if len(loose) == 0 {
		return nil
	}
	stopped := h.stop(ctx, p, s, of, nil)
	var e *StoppedError
	if errors.As(stopped, &e) {
		e.Loose = loose
	}
	return stopped
}

// reset makes the work tree a commit.
func (h *Handwork) reset(ctx context.Context, commit string) error {
	for _, left := range []string{"rebase-apply", "index.lock"} {
		if err := os.RemoveAll(filepath.Join(h.dir, ".git", left)); err != nil {
			return err
		}
	}
	if _, err := git(ctx, h.dir, "reset", "--quiet", "--hard", commit); err != nil {
		return err
	}
	_, err := git(ctx, h.dir, "clean", "-fdq")
	return err
}

// apply commits a patch, or leaves of it what can be applied.
func (h *Handwork) apply(ctx context.Context, p patches.Patch, s handState, of int) (merged bool, err error) {
	found := mismatches(ctx, h.dir, "HEAD", p)
	amErr := gitAm(ctx, h.dir, p, "--3way")
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if isLocalTrouble(amErr) {
		return false, amErr
	}
	head, err := git(ctx, h.dir, "rev-parse", "--verify", "HEAD")
	if err != nil || amErr == nil && head != s.head {
		return len(found) > 0, err
	}
	if amErr == nil {
		// Nothing of it is missing. Whether it is to be left out is the user's to say.
		if gitAm(ctx, h.dir, p) == nil {
			return false, nil
		}
	} else if conflicts, _, err := h.unresolved(ctx); err != nil {
		return false, err
	} else if len(conflicts) == 0 {
		// Its failure is that some hunks do not apply.
		git(ctx, h.dir, "apply", "--reject", "--whitespace=nowarn", filepath.Join(h.dir, ".git", "rebase-apply", "patch"))
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	s.stopped = true
	if err := h.keep(s); err != nil {
		return false, err
	}
	return false, h.stop(ctx, p, s, of, found)
}

// unresolved are the files with conflicts, and those with rejected hunks.
func (h *Handwork) unresolved(ctx context.Context) (conflicts, rejected []string, err error) {
	out, err := git(ctx, h.dir, "diff", "--name-only", "--diff-filter=U", "-z")
	if err != nil {
		return nil, nil, err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		text, err := regular.ReadFile(filepath.Join(h.dir, name))
		if name != "" && err == nil && strings.Contains("\n"+string(text), "\n<<<<<<< ") {
			conflicts = append(conflicts, name)
		}
	}
	out, err = git(ctx, h.dir, "ls-files", "--others", "-z")
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if strings.HasSuffix(name, ".rej") {
			rejected = append(rejected, name)
		}
	}
	return conflicts, rejected, err
}

func (h *Handwork) stop(ctx context.Context, p patches.Patch, s handState, of int, found []patches.Mismatch) error {
	conflicts, rejected, err := h.unresolved(ctx)
	if err != nil {
		return err
	}
	on, err := h.read("on")
	if err != nil {
		return err
	}
	return &StoppedError{Dir: h.dir, On: on, Number: s.next, Of: of, Subject: p.Subject, Mismatches: found, Conflicts: conflicts, Rejected: rejected}
}

// mended commits what the user made of a patch, with its author and message, unless that is
// in commits of the user's, of which head is the last.
func (h *Handwork) mended(ctx context.Context, p patches.Patch, s handState, of int, head string) error {
	conflicts, rejected, err := h.unresolved(ctx)
	if err != nil {
		return err
	}
	if len(conflicts) > 0 || len(rejected) > 0 {
		return h.stop(ctx, p, s, of, nil)
	}
	if _, err := git(ctx, h.dir, "add", "--update"); err != nil {
		return err
	}
	for _, f := range p.Files {
		if _, err := os.Lstat(filepath.Join(h.dir, f.Name())); err == nil {
			if _, err := git(ctx, h.dir, "--literal-pathspecs", "add", "--force", "--", f.Name()); err != nil {
				return err
			}
		}
	}
	if _, err := git(ctx, h.dir, "diff", "--cached", "--quiet", "HEAD"); err == nil {
		if head != s.head {
			_, err := git(ctx, h.dir, "am", "--skip")
			return err
		}
		return h.stop(ctx, p, s, of, mismatches(ctx, h.dir, "HEAD", p))
	}
	_, err = git(ctx, h.dir, "am", "--continue")
	return err
}
