package kernel

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/patches"
)

// lines are a C file of some lines.
func lines(names ...string) string {
	text := ""
	for _, name := range names {
		text += "int " + name + ";\n"
	}
	return text
}

// seriesRepo has a file at HEAD~1 that a series of three patches is made for, and that HEAD
// changes: the first applies as it is, the second by a merge, the third not at all.
func seriesRepo(t *testing.T) (dir string, series patches.Series) {
	t.Helper()
	dir = fixtureRepo(t)
	commit := func(subject, text string) {
		writeFile(t, filepath.Join(dir, "lib.c"), text)
		userGit(t, dir, "add", "lib.c")
		userGit(t, dir, "commit", "-qm", subject, "--author=A U Thor <author@example.org>", "--date=2021-02-03T04:05:06+0100")
	}
	commit("lib", lines("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"))
	start := userGit(t, dir, "rev-parse", "HEAD")
	commit("one", lines("a1", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"))
	commit("two", lines("a1", "b", "c", "d", "e", "f", "g", "h2", "i", "j", "k", "l", "m", "n", "o", "p"))
	commit("three", lines("a1", "b", "c", "d", "e", "f", "g", "h2", "i", "j", "k", "l", "m", "n", "o", "p3"))
	mail := filepath.Join(t.TempDir(), "series.mbox")
	writeFile(t, mail, userGit(t, dir, "format-patch", "-v3", "--subject-prefix=PATCH net-next", "--stdout", start)+"\n")
	userGit(t, dir, "checkout", "-q", "--detach", start)
	commit("theirs", lines("a", "b", "c", "d", "e", "f0", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p0"))
	series, err := patches.Read(mail)
	if err != nil {
		t.Fatal(err)
	}
	return dir, series
}

func treeSpec(dir string, series patches.Series, n int) Spec {
	series.Patches = series.Patches[:n]
	return Spec{Name: Patched, Pin: Pin{Name: treePin}, Tree: dir, Rev: "HEAD", Series: []patches.Series{series}}
}

// TestMergedPatch: what git am refuses is merged where the files that it was made for are
// there, and that is said each time.
func TestMergedPatch(t *testing.T) {
	t.Parallel()
	dir, series := seriesRepo(t)
	var notes []string
	b := &Builder{Cache: t.TempDir(), Progress: func(p Progress) {
		if strings.HasPrefix(p.Step, "note: ") {
			notes = append(notes, p.Step)
		}
	}}
	spec := treeSpec(dir, series, 2)
	for range 2 {
		notes = nil
		commit, err := b.Apply(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		want := lines("a1", "b", "c", "d", "e", "f0", "g", "h2", "i", "j", "k", "l", "m", "n", "o", "p0")
		if got := userGit(t, filepath.Join(b.treeDir(spec), "src"), "show", commit+":lib.c"); got+"\n" != want {
			t.Errorf("lib.c = %s; want %s", got, want)
		}
		if diff := cmp.Diff([]string{"note: patch 2, \"two\", does not apply to " + dir + " HEAD as it is; git am -3 merged it"}, notes); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
	}
	var refused *ApplyError
	if _, err := b.Apply(t.Context(), treeSpec(dir, series, 3)); !errors.As(err, &refused) || refused.Number != 3 || len(refused.Mismatches) != 1 {
		t.Errorf("Apply = %v; want patch 3 refused with its hunk", err)
	}
}

// TestAppliedAlready: git am -3 drops a patch that the tree has, which must not pass
// for a tested one.
func TestAppliedAlready(t *testing.T) {
	t.Parallel()
	dir, series := seriesRepo(t)
	writeFile(t, filepath.Join(dir, "lib.c"), lines("a1", "b", "c", "d", "e", "f0", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p0"))
	userGit(t, dir, "commit", "-qam", "has it")
	b := &Builder{Cache: t.TempDir()}
	var refused *ApplyError
	if _, err := b.Apply(t.Context(), treeSpec(dir, series, 1)); !errors.As(err, &refused) || len(refused.Mismatches) != 1 || !refused.Mismatches[0].Applied {
		t.Errorf("Apply = %v; want that the tree has it", err)
	}
}

func TestHandwork(t *testing.T) {
	t.Parallel()
	dir, series := seriesRepo(t)
	b := &Builder{Cache: t.TempDir()}
	spec := treeSpec(dir, series, 3)
	work := filepath.Join(t.TempDir(), "work")
	// git renews the date of an object that it would write and finds there.
	untouched := func() map[string]string {
		all := snapshot(t, dir)
		maps.DeleteFunc(all, func(path, _ string) bool { return strings.Contains(path, "/.git/objects/") })
		return all
	}
	before := untouched()
	start := func() *Handwork {
		t.Helper()
		h, err := b.StartHandwork(t.Context(), spec, work)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := start()
	if _, err := h.Refresh(t.Context(), work+"-patches"); err == nil || !strings.Contains(err.Error(), "patch 1 of 3 is not applied yet") {
		t.Errorf("Refresh = %v; want that nothing is applied yet", err)
	}
	// Interrupted before it began, it goes on.
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Continue(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("Continue = %v; want it interrupted", err)
	}
	notes, err := start().Continue(t.Context())
	var stopped *StoppedError
	if !errors.As(err, &stopped) || stopped.Number != 3 || len(stopped.Conflicts) != 1 || len(stopped.Mismatches) != 1 {
		t.Fatalf("Continue = %v; want it to stop at patch 3 with a conflict", err)
	}
	if diff := cmp.Diff([]string{`patch 2, "two": git am -3 merged it`}, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	// Nothing done, it says the same.
	if _, err := start().Continue(t.Context()); !errors.As(err, &stopped) || len(stopped.Conflicts) != 1 {
		t.Errorf("Continue = %v; want it to stop at the conflict again", err)
	}
	// Other patches do not go where hand work is.
	if _, err := b.StartHandwork(t.Context(), treeSpec(dir, series, 2), work); err == nil || !strings.Contains(err.Error(), "holds other hand work") {
		t.Errorf("StartHandwork of another series = %v; want it refused", err)
	}
	writeFile(t, filepath.Join(work, "lib.c"), lines("a1", "b", "c", "d", "e", "f0", "g", "h2", "i", "j", "k", "l", "m", "n", "o", "p03"))
	if h, err = OpenHandwork(work); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Continue(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := h.Refresh(t.Context(), work+"-patches")
	if err != nil || n != 3 {
		t.Fatalf("Refresh = %d, %v; want 3", n, err)
	}
	if diff := cmp.Diff(before, untouched()); diff != "" {
		t.Errorf("the tree changed (-before +after):\n%s", diff)
	}
	again, err := patches.Read(work + "-patches")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range again.Patches {
		if p.Author != "A U Thor" || !p.Date.Equal(series.Patches[i].Date) || p.Subject != series.Patches[i].Subject || p.Prefix != "PATCH net-next v3" {
			t.Errorf("patch %d: %s, %v, [%s] %q; want the original's", i+1, p.Author, p.Date, p.Prefix, p.Subject)
		}
	}
	commit, err := b.Apply(t.Context(), Spec{Name: Patched, Pin: spec.Pin, Tree: dir, Rev: "HEAD", Series: []patches.Series{again}})
	if err != nil {
		t.Fatal(err)
	}
	if got := userGit(t, filepath.Join(b.treeDir(spec), "src"), "show", commit+":lib.c"); !strings.HasSuffix(got, "p03;") {
		t.Errorf("lib.c = %s; want what was mended", got)
	}
}

// TestHandworkKeepsWhatIsInNoCommit: what the user made and git does not know of would be
// swept away with what an interrupted run left.
func TestHandworkKeepsWhatIsInNoCommit(t *testing.T) {
	t.Parallel()
	mended := lines("a1", "b", "c", "d", "e", "f0", "g", "h2", "i", "j", "k", "l", "m", "n", "o", "p03")
	for name, test := range map[string]struct {
		// byUser has the user commit the patch before the file changes.
		byUser bool
		file   string
	}{
		"a new file": {false, "new.c"}, "a new file behind a commit": {true, "new.c"}, "a change behind a commit": {true, "lib.c"},
	} {
		dir, series := seriesRepo(t)
		series.Patches = []patches.Patch{series.Patches[2], series.Patches[0]}
		work := filepath.Join(t.TempDir(), "work")
		h, err := (&Builder{Cache: t.TempDir()}).StartHandwork(t.Context(), treeSpec(dir, series, 2), work)
		if err != nil {
			t.Fatal(err)
		}
		var stopped *StoppedError
		if _, err := h.Continue(t.Context()); !errors.As(err, &stopped) || stopped.Number != 1 {
			t.Fatalf("%s: Continue = %v; want it to stop at patch 1", name, err)
		}
		writeFile(t, filepath.Join(work, "lib.c"), strings.Replace(mended, "a1", "a", 1))
		if test.byUser {
			userGit(t, work, "add", "lib.c")
			userGit(t, work, "am", "--continue")
		}
		const mine = "int mine;\n"
		writeFile(t, filepath.Join(work, test.file), mine)
		if _, err := h.Continue(t.Context()); !errors.As(err, &stopped) || !strings.Contains(err.Error(), "in no commit, and lost if it went on: "+test.file) {
			t.Errorf("%s: Continue = %v; want it to stop at %s", name, err, test.file)
		}
		if text, err := os.ReadFile(filepath.Join(work, test.file)); string(text) != mine {
			t.Errorf("%s: %s is %q, %v; want what the user wrote", name, test.file, text, err)
		}
		if test.file == "lib.c" {
			continue
		}
		userGit(t, work, "add", test.file)
		if test.byUser {
			userGit(t, work, "commit", "-qm", "mine")
		}
		if _, err := h.Continue(t.Context()); err != nil {
			t.Errorf("%s: with it added: %v", name, err)
		}
		if got := userGit(t, work, "ls-files", test.file); got != test.file {
			t.Errorf("%s: %s is in no commit", name, test.file)
		}
	}
}

// TestHandworkCommittedByHand: a user who commits the patch without git am has mended it.
func TestHandworkCommittedByHand(t *testing.T) {
	t.Parallel()
	dir, series := seriesRepo(t)
	series.Patches = series.Patches[2:]
	work := filepath.Join(t.TempDir(), "two\nlines")
	h, err := (&Builder{Cache: t.TempDir()}).StartHandwork(t.Context(), treeSpec(dir, series, 1), work)
	if err != nil {
		t.Fatal(err)
	}
	var stopped *StoppedError
	if _, err := h.Continue(t.Context()); !errors.As(err, &stopped) {
		t.Fatalf("Continue = %v; want it to stop", err)
	}
	for _, names := range [][]string{{"a", "mended"}, {"a", "mended", "twice"}} {
		writeFile(t, filepath.Join(work, "lib.c"), lines(names...))
		userGit(t, work, "commit", "-qam", strings.Join(names, " "))
	}
	userGit(t, work, "commit", "-q", "--amend", "-m", "twice", "-m", "diff --git a/new.c b/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/new.c\n@@ -0,0 +1 @@\n+int new;\n")
	if _, err := h.Continue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := h.Refresh(t.Context(), work+"-patches"); n != 2 || err != nil {
		t.Errorf("Refresh = %d, %v; want the user's two commits", n, err)
	}
	// A diff in a message is no change.
	again, err := patches.Read(work + "-patches")
	if err != nil || len(again.Patches) != 2 || len(again.Patches[1].Files) != 1 {
		t.Errorf("read again: %+v, %v; want two patches of one file each", again.Patches, err)
	}
	writeFile(t, h.file("count"), "")
	if _, err := h.Continue(t.Context()); err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), "WORK") {
		t.Errorf("with a damaged record Continue = %v; want what to do", err)
	}
}

// TestHandworkWithoutBlobs: where git knows nothing of the files that a patch was made for,
// the hunks that apply are there, and the others beside them.
func TestHandworkWithoutBlobs(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	series := readPatch(t, otherPatch+mainPatch)
	b := &Builder{Cache: t.TempDir()}
	work := filepath.Join(t.TempDir(), "work")
	h, err := b.StartHandwork(t.Context(), treeSpec(dir, series, 1), work)
	if err != nil {
		t.Fatal(err)
	}
	var stopped *StoppedError
	if _, err := h.Continue(t.Context()); !errors.As(err, &stopped) {
		t.Fatalf("Continue = %v; want it to stop", err)
	}
	if diff := cmp.Diff([]string{"fs/io_uring.c.rej"}, stopped.Rejected); diff != "" {
		t.Errorf("Rejected (-want +got):\n%s", diff)
	}
	if text, err := os.ReadFile(filepath.Join(work, "main.c")); !strings.Contains(string(text), "return 1") {
		t.Errorf("main.c = %q, %v; want it patched", text, err)
	}
	// A rejected hunk that is still there is not done.
	if _, err := h.Continue(t.Context()); !errors.As(err, &stopped) || len(stopped.Rejected) != 1 {
		t.Errorf("Continue = %v; want it to stop at the rejected hunk", err)
	}
	if err := os.Remove(filepath.Join(work, "fs/io_uring.c.rej")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Continue(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Changes that are in no commit would be lost.
	writeFile(t, filepath.Join(work, "main.c"), "int more;\n")
	if _, err := h.Refresh(t.Context(), work+"-patches"); err == nil || !strings.Contains(err.Error(), "changes that are in no commit") {
		t.Errorf("Refresh = %v; want the changes refused", err)
	}
}

func TestHandworkElsewhere(t *testing.T) {
	t.Parallel()
	dir, series := seriesRepo(t)
	b := &Builder{Cache: t.TempDir()}
	taken := t.TempDir()
	mine := filepath.Join(taken, "mine")
	writeFile(t, mine, "mine\n")
	writeFile(t, filepath.Join(taken, "work.tmp", "mine"), "mine\n")
	for work, want := range map[string]string{
		filepath.Join(dir, "work"): "lies in TREE=", filepath.Join(b.Cache, "work"): "lies in the cache", taken: "is not empty",
		mine: "not a directory",
	} {
		if _, err := b.StartHandwork(t.Context(), treeSpec(dir, series, 3), work); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("StartHandwork in %s = %v; want %q", work, err, want)
		}
	}
	if _, err := OpenHandwork(taken); err == nil || !strings.Contains(err.Error(), "holds no hand work") {
		t.Errorf("OpenHandwork = %v; want that there is none", err)
	}
	h, err := b.StartHandwork(t.Context(), treeSpec(dir, series, 1), filepath.Join(taken, "work"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Continue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Refresh(t.Context(), mine); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("Refresh into a file = %v; want it refused", err)
	}
	for _, file := range []string{mine, filepath.Join(taken, "work.tmp", "mine")} {
		if text, err := os.ReadFile(file); err != nil || string(text) != "mine\n" {
			t.Errorf("%s of the user's: %q, %v", file, text, err)
		}
	}
}
