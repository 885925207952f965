package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/patches"
)

// branchRepo is the fixture with two commits on top, a merge above them, and a branch aside.
func branchRepo(t *testing.T) string {
	t.Helper()
	dir := fixtureRepo(t)
	writeFile(t, filepath.Join(dir, "many.c"), "int a;\nint c;\nint d;\n")
	userGit(t, dir, "add", "many.c")
	userGit(t, dir, "commit", "-qm", "many")
	userGit(t, dir, "tag", "start")
	// Hunks without context would be put at the end of the file.
	userGit(t, dir, "config", "diff.context", "0")
	// It would be read as the subject.
	userGit(t, dir, "config", "format.headers", "Subject: [PATCH] other\n")
	writeFile(t, filepath.Join(dir, "many.c"), "int a;\nint b;\nint c;\nint d;\n")
	writeFile(t, filepath.Join(dir, "main.c"), "int start(void) { return 1; }\n")
	userGit(t, dir, "commit", "-qam", "main: one\n\nBecause.")
	writeFile(t, filepath.Join(dir, "fs/io_uring.c"), "int cached;\n")
	userGit(t, dir, "commit", "-qam", "[RFC] io_uring: two")
	userGit(t, dir, "tag", "topic")
	userGit(t, dir, "checkout", "-q", "-b", "aside", "start")
	writeFile(t, filepath.Join(dir, "aside.c"), "int aside;\n")
	userGit(t, dir, "add", "aside.c")
	userGit(t, dir, "commit", "-qm", "aside")
	userGit(t, dir, "checkout", "-q", "--detach", "topic")
	return dir
}

func TestCommitsAsAPatch(t *testing.T) {
	t.Parallel()
	dir := branchRepo(t)
	for patch, want := range map[string][]string{
		"start..HEAD":    {"main: one", "io_uring: two"},
		"HEAD~2..":       {"main: one", "io_uring: two"},
		"HEAD~1..HEAD":   {"io_uring: two"},
		"start..topic~1": {"main: one"},
	} {
		t.Run(patch, func(t *testing.T) {
			b := &Builder{Cache: t.TempDir()}
			before := snapshot(t, dir)
			sel, notes, err := TakeBranch(t.Context(), Selection{Tree: dir, Patch: patch}, b.Cache)
			if err != nil || notes != nil {
				t.Fatalf("TakeBranch = %q, %v; want no notes and no error", notes, err)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("the tree changed (-before +after):\n%s", diff)
			}
			series, err := patches.Read(sel.Patch)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range series.Patches {
				got = append(got, p.Subject)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("subjects (-want +got):\n%s", diff)
			}
			commit, err := b.Apply(t.Context(), Spec{Name: "patched", Pin: Pin{Name: treePin}, Tree: dir, Rev: sel.Rev, Series: []patches.Series{series}})
			if err != nil {
				t.Fatal(err)
			}
			tip := strings.TrimPrefix(patch[strings.Index(patch, ".."):], "..")
			if tip == "" {
				tip = "HEAD"
			}
			src := tree{dir: b.treeDir(Spec{Tree: dir})}.src()
			if got, want := userGit(t, src, "rev-parse", commit+"^{tree}"), userGit(t, dir, "rev-parse", tip+"^{tree}"); got != want {
				t.Errorf("the patches make tree %s; want that of %s, %s", got, tip, want)
			}
		})
	}
}

// What a message says is no part of the change, nor of the series' order, even where it reads like
// a patch.
func TestCommitsWithPatchesInTheirMessages(t *testing.T) {
	t.Parallel()
	const hunk = "@@ -1,2 +1,3 @@\n+# odd\n config SMP\n \tbool \"SMP\"\n"
	for name, message := range map[string]string{
		"a diff of git's":   "one\n\nIt said:\n\ndiff --git a/Kconfig b/Kconfig\n--- a/Kconfig\n+++ b/Kconfig\n" + hunk + "\nand so on.\n",
		"a plain diff":      "one\n\n--- a/Kconfig\n+++ b/Kconfig\n" + hunk,
		"Subversion's":      "one\n\nIndex: Kconfig\n=====\n--- a/Kconfig\n+++ b/Kconfig\n" + hunk,
		"a hunk":            "one\n\n" + hunk,
		"a mail":            "one\n\nFrom 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nSubject: [PATCH 2/2] other\n",
		"dashes":            "one\n\nbody\n---\nmore\n",
		"another's number":  "[PATCH 3/3] one\n\nbody\n",
		"another's version": "[tip] [PATCH v2 1/9] one ä\n",
		"a cover's number":  "[PATCH 0/2] one\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := fixtureRepo(t)
			userGit(t, dir, "tag", "start")
			writeFile(t, filepath.Join(dir, "main.c"), "int start(void) { return 1; }\n")
			userGit(t, dir, "-c", "commit.cleanup=verbatim", "commit", "-qam", message)
			writeFile(t, filepath.Join(dir, "main.c"), "int start(void) { return 2; }\n")
			userGit(t, dir, "commit", "-qam", "two")
			b := &Builder{Cache: t.TempDir()}
			sel, _, err := TakeBranch(t.Context(), Selection{Tree: dir, Patch: "start..HEAD"}, b.Cache)
			if err != nil {
				t.Fatal(err)
			}
			series, err := patches.Read(sel.Patch)
			if err != nil {
				t.Fatal(err)
			}
			spec := Spec{Name: "patched", Pin: Pin{Name: treePin}, Tree: dir, Rev: sel.Rev, Series: []patches.Series{series}}
			commit, err := b.Apply(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			src := tree{dir: b.treeDir(spec)}.src()
			if diff := userGit(t, src, "diff", userGit(t, dir, "rev-parse", "HEAD^{tree}"), commit, "--"); diff != "" {
				t.Errorf("the patches make another tree than the commits:\n%s", diff)
			}
		})
	}
}

func TestChangesAsAPatch(t *testing.T) {
	t.Parallel()
	dir := branchRepo(t)
	writeFile(t, filepath.Join(dir, "main.c"), "int staged;\n")
	userGit(t, dir, "add", "main.c")
	writeFile(t, filepath.Join(dir, "fs/io_uring.c"), "int changed;\n")
	writeFile(t, filepath.Join(dir, "new.c"), "int untracked;\n")
	untracked := "not in it, as git does not track them (git add -N makes it): new.c"
	for patch, want := range map[string]struct{ files, notes []string }{
		worktreePatch: {[]string{"fs/io_uring.c", "main.c"}, []string{untracked}},
		indexPatch:    {[]string{"main.c"}, []string{untracked, "not in it, as it is not staged: what changed in fs/io_uring.c"}},
	} {
		before := snapshot(t, dir)
		sel, notes, err := TakeBranch(t.Context(), Selection{Tree: dir, Patch: patch}, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if sel.Rev != userGit(t, dir, "rev-parse", "HEAD") {
			t.Errorf("%s lies on %s; want HEAD", patch, sel.Rev)
		}
		series, err := patches.Read(sel.Patch)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range series.Patches[0].Files {
			got = append(got, f.Name())
		}
		if diff := cmp.Diff(want.files, got); diff != "" {
			t.Errorf("files of %s (-want +got):\n%s", patch, diff)
		}
		if diff := cmp.Diff(want.notes, notes); diff != "" {
			t.Errorf("notes of %s (-want +got):\n%s", patch, diff)
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("the tree changed (-before +after):\n%s", diff)
		}
	}
}

func TestPatchesThatTreesDoNotHave(t *testing.T) {
	t.Parallel()
	dir := branchRepo(t)
	merged := branchRepo(t)
	userGit(t, merged, "merge", "-q", "--no-edit", "aside")
	untracked := branchRepo(t)
	writeFile(t, filepath.Join(untracked, "new.c"), "int new;\n")
	conflict := branchRepo(t)
	for _, text := range []string{"int theirs;\n", "int mine;\n"} {
		userGit(t, conflict, "checkout", "-q", "-B", text[4:8], "topic")
		writeFile(t, filepath.Join(conflict, "main.c"), text)
		userGit(t, conflict, "commit", "-qam", "main")
	}
	// It ends with 1, as it should.
	_, _ = git(t.Context(), conflict, "merge", "-q", "thei")
	bare := filepath.Join(t.TempDir(), "bare")
	userGit(t, dir, "clone", "-q", "--bare", dir, bare)
	for _, test := range []struct{ tree, rev, patch, want string }{
		{dir, "", "topic..topic", "is empty"},
		{dir, "", "topic..start", "the other way round, PATCH=start..topic has commits"},
		{dir, "", "aside..topic", "they part at"},
		{dir, "", "v9..topic", `no commit "v9"`},
		{dir, "", "start..v9", `no commit "v9"`},
		{dir, "", "start...topic", "want FROM..TO"},
		{dir, "", "..topic", "want FROM..TO"},
		{dir, "topic", "start..topic", "leave REV out"},
		{dir, "", "topic", "a commit of TREE=" + dir + ": PATCH=topic^..topic is what it changes"},
		{dir, "", "worktree", "is empty"},
		{dir, "", "index", "is empty"},
		{untracked, "", "worktree", "is empty: TREE=" + untracked + " has no such change since HEAD"},
		{untracked, "", "worktree", "git does not track them (git add -N makes it): new.c"},
		{conflict, "", "worktree", "conflicts are open in main.c"},
		{conflict, "", "index", "conflicts are open in main.c"},
		{merged, "", "start..HEAD", "has the merge"},
		{bare, "", "worktree", "bare repository"},
		{filepath.Join(dir, ".git"), "", "worktree", "bare repository or the .git of one"},
		{"", "", "start..topic", "needs TREE=folder"},
		{"", "", "worktree", "needs TREE=folder"},
	} {
		cache := t.TempDir()
		_, _, err := TakeBranch(t.Context(), Selection{Tree: test.tree, Rev: test.rev, Patch: test.patch}, cache)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("PATCH=%s REV=%s: error = %v; want one with %q", test.patch, test.rev, err, test.want)
		}
		if left := list(t, cache); len(left) > 0 {
			t.Errorf("PATCH=%s left behind: %v", test.patch, left)
		}
	}
}

// A file comes first, and a path that is not there stays one.
func TestPatchesThatAreFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("a..b", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, patch := range []string{"", "-", "fix.patch", "../missing.patch", "a..b", "/tmp/../none"} {
		sel := Selection{Patch: patch}
		if got, _, err := TakeBranch(t.Context(), sel, t.TempDir()); err != nil || got.Patch != patch {
			t.Errorf("PATCH=%s: TakeBranch = %q, %v; want it as it was", patch, got.Patch, err)
		}
	}
}
