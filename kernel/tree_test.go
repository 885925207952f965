package kernel

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/patches"
)

// snapshot maps every path below dir to its content, time stamp and mode.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text []byte
		if d.Type().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		all[path] = fmt.Sprintf("%x %v %v", sha256.Sum256(text), info.ModTime(), info.Mode())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLocalTreeIsNotTouched(t *testing.T) {
	t.Parallel()
	origin := fixtureRepo(t)
	writeFile(t, filepath.Join(origin, "main.c"), "int second;\n")
	userGit(t, origin, "commit", "-qam", "second")
	for name, make := range map[string]func(t *testing.T) string{
		"checkout": func(t *testing.T) string {
			dir := filepath.Join(t.TempDir(), "tree")
			userGit(t, origin, "clone", "-q", origin, dir)
			// What git would love to clean up: a stale index, staged and unstaged changes, hooks.
			writeFile(t, filepath.Join(dir, "main.c"), "int uncommitted;\n")
			writeFile(t, filepath.Join(dir, "staged.c"), "int staged;\n")
			userGit(t, dir, "add", "staged.c")
			hook := filepath.Join(dir, ".git/hooks/post-checkout")
			writeFile(t, hook, "#!/bin/sh\ntouch "+dir+"/hooked\n")
			if err := os.Chmod(hook, 0o755); err != nil {
				t.Fatal(err)
			}
			return dir
		},
		"worktree": func(t *testing.T) string {
			dir := filepath.Join(t.TempDir(), "tree")
			userGit(t, origin, "worktree", "add", "-q", "--detach", dir, "HEAD")
			return dir
		},
		"bare": func(t *testing.T) string {
			dir := filepath.Join(t.TempDir(), "tree")
			userGit(t, origin, "clone", "-q", "--bare", origin, dir)
			return dir
		},
		"shallow": func(t *testing.T) string {
			dir := filepath.Join(t.TempDir(), "tree")
			userGit(t, origin, "clone", "-q", "--depth=1", "file://"+origin, dir)
			return dir
		},
		"shared objects": func(t *testing.T) string {
			dir := filepath.Join(t.TempDir(), "tree")
			userGit(t, origin, "clone", "-q", "--shared", origin, dir)
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := make(t)
			head := userGit(t, dir, "rev-parse", "HEAD")
			b := &Builder{Cache: t.TempDir()}
			before, originBefore := snapshot(t, dir), snapshot(t, origin)
			spec := Spec{Name: "patched", Pin: Pin{Name: treePin}, Tree: dir, Rev: "HEAD", Series: []patches.Series{readPatch(t, goodPatch)}}
			commit, err := b.Apply(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			Dirty(t.Context(), dir)
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("the tree changed (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(originBefore, snapshot(t, origin)); diff != "" {
				t.Errorf("the tree's origin changed (-before +after):\n%s", diff)
			}
			src := filepath.Join(b.treeDir(spec), "src")
			if parent := userGit(t, src, "rev-parse", commit+"^"); parent != head {
				t.Errorf("the patch lies on %s; want HEAD, %s", parent, head)
			}
			if text, err := os.ReadFile(filepath.Join(src, "main.c")); string(text) != "int second;\n" {
				t.Errorf("main.c = %q, %v; want the committed one", text, err)
			}
		})
	}
}

func TestDirty(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	if Dirty(t.Context(), dir) {
		t.Error("Dirty = true for a fresh checkout")
	}
	writeFile(t, filepath.Join(dir, "main.c"), "int changed;\n")
	if !Dirty(t.Context(), dir) {
		t.Error("Dirty = false with a changed file")
	}
}

func TestBadTrees(t *testing.T) {
	t.Parallel()
	repo := fixtureRepo(t)
	file := filepath.Join(repo, "Makefile")
	broken := t.TempDir()
	if err := os.Mkdir(filepath.Join(broken, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	origin, borrowed := fixtureRepo(t), filepath.Join(t.TempDir(), "borrowed")
	userGit(t, origin, "clone", "-q", "-s", origin, borrowed)
	if err := os.RemoveAll(origin); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ tree, rev, want string }{
		"broken .git":           {broken, "HEAD", "is damaged, or its repository has gone"},
		"borrowed objects gone": {borrowed, "HEAD", `lacks the object of "HEAD"`},
		"none":                  {filepath.Join(repo, "none"), "HEAD", "no such file"},
		"file":                  {file, "HEAD", "not a folder"},
		"no git":                {t.TempDir(), "HEAD", "not a git repository"},
		"another's folder":      {filepath.Join(repo, "fs"), "HEAD", "it is a folder of the one in " + repo},
		"no such":               {repo, "v9", `no commit "v9"`},
		"an option":             {repo, "--all", `no commit "--all"`},
		"not commit":            {repo, "HEAD:Makefile", "no commit"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Builder{Cache: filepath.Join(t.TempDir(), "cache")}
			_, err := b.Build(t.Context(), Spec{Name: "base", Pin: Pin{Name: treePin}, Tree: test.tree, Rev: test.rev}, plain)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v; want one with %q", err, test.want)
			}
			if left := list(t, b.Cache); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestTreesThatAreNoKernel(t *testing.T) {
	t.Parallel()
	repo := t.TempDir()
	userGit(t, repo, "init", "-q")
	writeFile(t, filepath.Join(repo, "README"), "prose\n")
	userGit(t, repo, "add", "README")
	userGit(t, repo, "commit", "-qm", "prose")
	userGit(t, repo, "tag", "prose")
	for name, makefile := range map[string]string{
		"program": "all:\n\t./make-all\n",
		"U-Boot":  "VERSION = 2024\nPATCHLEVEL = 01\nSUBLEVEL =\n",
		"old":     "VERSION = 2\nPATCHLEVEL = 6\nSUBLEVEL = 32\n",
	} {
		writeFile(t, filepath.Join(repo, "Makefile"), makefile)
		userGit(t, repo, "add", "Makefile")
		userGit(t, repo, "commit", "-qm", name)
		userGit(t, repo, "tag", name)
	}
	writeFile(t, filepath.Join(repo, "Makefile"), "all:\n")
	writeFile(t, filepath.Join(repo, "Kconfig"), "config X\n\tbool \"X\"\n")
	userGit(t, repo, "add", "Makefile", "Kconfig")
	userGit(t, repo, "commit", "-qm", "cut down")
	userGit(t, repo, "tag", "cut-down")
	b := &Builder{Cache: t.TempDir()}
	for rev, want := range map[string]string{
		"prose":   "is no kernel source: it has no Makefile at its top",
		"program": "is no kernel source: its Makefile has no VERSION",
		"U-Boot":  "is no kernel source: its Makefile says version 2024.01",
		"old":     "is Linux 2.6; 5.4 to 7.x are served",
	} {
		_, err := b.Build(t.Context(), Spec{Name: "base", Pin: Pin{Name: treePin}, Tree: repo, Rev: rev}, plain)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v; want one with %q", rev, err, want)
		}
		if exists(b.treeDir(Spec{Tree: repo})) {
			t.Errorf("%s: its tree stays in the cache", rev)
		}
	}
	// Of a tree that is cut down it is make that says what is wrong.
	b = &Builder{Cache: t.TempDir()}
	_, err := b.Build(t.Context(), Spec{Name: "base", Pin: Pin{Name: treePin}, Tree: repo, Rev: "cut-down"}, plain)
	if err == nil || !strings.Contains(err.Error(), "tinyconfig") {
		t.Errorf("cut-down: error = %v; want make's", err)
	}
}

func TestHistoryThatGrows(t *testing.T) {
	t.Parallel()
	origin := fixtureRepo(t)
	userGit(t, origin, "commit", "-q", "--allow-empty", "-m", "second")
	dir := filepath.Join(t.TempDir(), "tree")
	userGit(t, origin, "clone", "-q", "--depth=1", "file://"+origin, dir)
	b := &Builder{Cache: t.TempDir()}
	spec := Spec{Name: "base", Pin: Pin{Name: treePin}, Tree: dir, Rev: "HEAD"}
	commits := func() string {
		t.Helper()
		if _, err := b.Apply(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		return userGit(t, filepath.Join(b.treeDir(spec), "src"), "rev-list", "--count", userGit(t, dir, "rev-parse", "HEAD"))
	}
	if got := commits(); got != "1" {
		t.Fatalf("%s commits in a clone of depth 1; want 1", got)
	}
	userGit(t, dir, "fetch", "-q", "--unshallow")
	if got := commits(); got != "2" {
		t.Errorf("%s commits after git fetch --unshallow; want 2", got)
	}
}

// What git replace and grafts make of a history is what its user sees, and what is
// built and searched.
func TestHistoryAsItsUserSeesIt(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	first := userGit(t, dir, "rev-parse", "HEAD")
	writeFile(t, filepath.Join(dir, "Makefile"), fixtureFiles["Makefile"]+"# second\n")
	userGit(t, dir, "commit", "-qam", "second")
	cut := userGit(t, dir, "commit-tree", "-m", "cut", "HEAD^{tree}")
	tip := userGit(t, dir, "commit-tree", "-p", cut, "-m", "tip", "HEAD^{tree}")
	b := &Builder{Cache: t.TempDir()}
	spec := Spec{Name: "base", Pin: Pin{Name: treePin}, Tree: dir, Rev: tip}
	reached := func(want bool, when string) {
		t.Helper()
		h := mustHistory(t, b, spec)
		if got, err := h.IsAncestor(t.Context(), first, h.Tip); got != want || err != nil {
			t.Errorf("%s: the first commit is in the history: %v, %v; want %v", when, got, err, want)
		}
	}
	reached(false, "as committed")
	userGit(t, dir, "replace", "--graft", cut, first)
	reached(true, "with a commit replaced")
	userGit(t, dir, "replace", "-d", cut)
	reached(false, "and put back")
	writeFile(t, filepath.Join(dir, ".git", "info", "grafts"), cut+" "+first+"\n")
	reached(true, "with a graft")
	if err := os.Remove(filepath.Join(dir, ".git", "info", "grafts")); err != nil {
		t.Fatal(err)
	}
	reached(false, "and without it")

	before, err := b.Apply(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	userGit(t, dir, "replace", tip, first)
	after, err := b.Apply(t.Context(), spec)
	if err != nil || after == before || after != first {
		t.Errorf("with the commit itself replaced, %s is built, %v; before %s, want %s", after, err, before, first)
	}
}

func TestPartialClone(t *testing.T) {
	t.Parallel()
	origin := fixtureRepo(t)
	userGit(t, origin, "config", "uploadpack.allowFilter", "true")
	userGit(t, origin, "config", "uploadpack.allowAnySHA1InWant", "true")
	for _, filter := range []string{"blob:none", "tree:0"} {
		dir := filepath.Join(t.TempDir(), "tree")
		userGit(t, origin, "clone", "-q", "--no-checkout", "--filter="+filter, "file://"+origin, dir)
		b := &Builder{Cache: t.TempDir()}
		spec := Spec{Name: "base", Pin: Pin{Name: treePin}, Tree: dir, Rev: "HEAD"}
		before := snapshot(t, dir)
		_, err := b.Apply(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), "is a partial clone in which") {
			t.Fatalf("%s: error = %v; want what is missing", filter, err)
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("%s: the user's repository changed (-before +after):\n%s", filter, diff)
		}
		_, advice, _ := strings.Cut(err.Error(), "Fetch them: ")
		advice, _, _ = strings.Cut(advice, ";")
		if out, err := exec.Command("sh", "-c", advice).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", advice, err, out)
		}
		if _, err := b.Apply(t.Context(), spec); err != nil {
			t.Errorf("%s: after what is advised: %v", filter, err)
		}
	}
}

// A tree whose objects are another repository's, which borrows them in turn.
// What git cannot read of a partial clone is told with what fetches it, and of any other
// error nothing is said.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	origin := fixtureRepo(t)
	userGit(t, origin, "config", "uploadpack.allowFilter", "true")
	dir := filepath.Join(t.TempDir(), "tree")
	userGit(t, origin, "clone", "-q", "--no-checkout", "--filter=tree:0", "file://"+origin, dir)
	// A repository that borrows from it cannot fetch.
	tip, borrower := userGit(t, dir, "rev-parse", "HEAD"), t.TempDir()
	userGit(t, borrower, "init", "-q")
	writeFile(t, filepath.Join(borrower, ".git/objects/info/alternates"), filepath.Join(dir, ".git/objects")+"\n")
	_, lacking := localGit(t.Context(), borrower, "diff-tree", "--root", "-r", tip)
	if lacking == nil {
		t.Fatal("the clone has all trees")
	}
	other := errors.New("exit status 1")
	for _, test := range []struct {
		dir    string
		err    error
		advice bool
	}{{dir, lacking, true}, {dir, other, false}, {origin, lacking, false}, {"", lacking, false}, {dir, nil, false}} {
		err := Incomplete(t.Context(), test.dir, test.err)
		advice := err != nil && strings.Contains(err.Error(), "git -C "+dir+" fetch --refetch --no-filter")
		if advice != test.advice || !errors.Is(err, test.err) {
			t.Errorf("Incomplete(%q, %v) = %v; want advice: %v", test.dir, test.err, err, test.advice)
		}
	}
}

func TestShallow(t *testing.T) {
	t.Parallel()
	origin := fixtureRepo(t)
	userGit(t, origin, "commit", "--allow-empty", "-qm", "more")
	dir := filepath.Join(t.TempDir(), "tree")
	userGit(t, origin, "clone", "-q", "--depth=1", "file://"+origin, dir)
	for _, test := range []struct{ dir, want string }{{dir, "git -C " + dir + " fetch --unshallow"}, {origin, ""}} {
		_, err := LocalCommit(t.Context(), test.dir, "HEAD~5")
		if err == nil || strings.Contains(err.Error(), "shallow") != (test.want != "") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("HEAD~5 of %s: %v; want %q", test.dir, err, test.want)
		}
	}
}

func TestAlternates(t *testing.T) {
	t.Parallel()
	origin := fixtureRepo(t)
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")
	userGit(t, origin, "clone", "-q", "-s", origin, first)
	userGit(t, origin, "clone", "-q", "-s", first, second)
	b := &Builder{Cache: t.TempDir()}
	if _, err := b.Apply(t.Context(), Spec{Name: "base", Pin: Pin{Name: treePin}, Tree: second, Rev: "HEAD"}); err != nil {
		t.Error(err)
	}
}

// A cache that was another user's, and a tree that is another's.
func TestOtherOwner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	const nobody = 65534
	dir, cache := fixtureRepo(t), t.TempDir()
	b := &Builder{Cache: cache}
	mustBuild(t, b, localSpec(dir, "base"))
	for _, top := range []string{dir, cache} {
		err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, nobody, nobody))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mustBuild(t, b, localSpec(dir, "patched", readPatch(t, goodPatch)))
}

func TestPatchThatDoesNotApply(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	spec := Spec{Name: "patched", Pin: Pin{Name: treePin}, Tree: dir, Rev: "HEAD",
		Series: []patches.Series{readPatch(t, goodPatch), readPatch(t, otherPatch)}}
	_, err := b.Apply(t.Context(), spec)
	var refused *ApplyError
	if !errors.As(err, &refused) {
		t.Fatalf("error = %v; want *ApplyError", err)
	}
	if refused.Number != 2 || refused.Kernel != "patched" || len(refused.Mismatches) != 1 {
		t.Errorf("error = %+v; want patch 2 of kernel patched with one mismatch", refused)
	}
	for _, want := range []string{"patched", "change.patch", "fs/io_uring.c", "@@ -2,5 +2,5 @@", "return another;", "return cached + 1;"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v; want one with %q", err, want)
		}
	}
	src := filepath.Join(b.treeDir(spec), "src")
	if status := userGit(t, src, "status", "--porcelain"); status != "" {
		t.Errorf("the tree was left with %q; want it clean", status)
	}
	if _, err := os.Stat(filepath.Join(src, ".git/rebase-apply")); err == nil {
		t.Error("git am was left under way")
	}
	// The same tree still serves.
	spec.Series = spec.Series[:1]
	if _, err := b.Apply(t.Context(), spec); err != nil {
		t.Errorf("Apply afterwards: %v", err)
	}
}

func TestApplyIsStableAndRemembered(t *testing.T) {
	t.Parallel()
	data := xz(t, fixtureTar(t))
	archive := filepath.Join(t.TempDir(), "linux.tar.xz")
	writeFile(t, archive, string(data))
	mail := filepath.Join(t.TempDir(), "a.mbox")
	writeFile(t, mail, "From a@localhost Wed May 13 16:30:44 2020\nFrom: A B <a@localhost>\nDate: Wed, 13 May 2020 10:30:44 -0600\nSubject: [PATCH] change\n\nWhy.\n\n"+strings.ReplaceAll(goodPatch, "\n\n", "\n \n"))
	series, err := patches.Read(mail)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b := &Builder{Cache: t.TempDir(), Source: archive}
		spec := Spec{Name: "patched", Pin: fixturePin(t, data), Series: []patches.Series{series}}
		var commits []string
		for range 2 {
			commit, err := b.Apply(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			commits = append(commits, commit)
		}
		const want = "636f87dd3210ba89a43c6b48007a17f7e227677e"
		if diff := cmp.Diff([]string{want, want}, commits); diff != "" {
			t.Errorf("commits (-want +got):\n%s", diff)
		}
	}
}

func TestGitPin(t *testing.T) {
	t.Parallel()
	upstream := fixtureRepo(t)
	head := userGit(t, upstream, "rev-parse", "HEAD")
	blob := userGit(t, upstream, "rev-parse", "HEAD:fs/io_uring.c")[:12]
	applies := filepath.Join(t.TempDir(), "good.patch")
	writeFile(t, applies, strings.ReplaceAll(goodPatch, "\n\n", "\n \n"))
	refused := filepath.Join(t.TempDir(), "other.patch")
	writeFile(t, refused, strings.ReplaceAll(otherPatch, "\n\n", "\n \n"))
	none := filepath.Join(t.TempDir(), "none")
	branch := userGit(t, upstream, "symbolic-ref", "HEAD")
	for name, test := range map[string]struct {
		accept  Accept
		sources []Source
		want    string // in the error
	}{
		"blob":           {Accept{Blobs: map[string]string{"fs/io_uring.c": blob}}, []Source{{Git: upstream, Rev: branch}}, ""},
		"by commit":      {Accept{Blobs: map[string]string{"fs/io_uring.c": blob}}, []Source{{Git: upstream, Rev: head}}, ""},
		"second source":  {Accept{Blobs: map[string]string{"fs/io_uring.c": blob}}, []Source{{Git: none, Rev: branch}, {Git: upstream, Rev: branch}}, ""},
		"series applies": {Accept{Blobs: map[string]string{"fs/io_uring.c": "d2e37215d05a"}, Series: applies}, []Source{{Git: upstream, Rev: branch}}, ""},
		"other blob":     {Accept{Blobs: map[string]string{"fs/io_uring.c": "d2e37215d05a"}, Series: refused}, []Source{{Git: upstream, Rev: branch}}, "d2e37215d05a"},
		"no source":      {Accept{Blobs: map[string]string{"fs/io_uring.c": blob}}, []Source{{Git: none, Rev: branch}}, none},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Builder{Cache: t.TempDir()}
			spec := Spec{Name: "base", Pin: Pin{Name: "for-1.0", Accept: test.accept, Sources: test.sources}}
			commit, err := b.Apply(t.Context(), spec)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error = %v; want one with %q", err, test.want)
				}
				if _, err := os.Stat(filepath.Join(b.treeDir(spec), "src")); err == nil {
					t.Error("a tree was left behind")
				}
				return
			}
			if err != nil || commit != head {
				t.Errorf("Apply = %s, %v; want upstream's %s", commit, err, head)
			}
		})
	}
}
