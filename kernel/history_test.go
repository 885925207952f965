package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fixtureHistory is a user's repository in which each commit is named by its
// place and changes one function of the fixture's io_uring.c.
func fixtureHistory(t *testing.T, commits int) (dir string, spec Spec) {
	dir = fixtureRepo(t)
	for i := 1; i <= commits; i++ {
		text := fixtureFiles["fs/io_uring.c"] + fmt.Sprintf("int step(void)\n{\n\treturn %d;\n}\n", i)
		writeFile(t, filepath.Join(dir, "fs/io_uring.c"), text)
		userGit(t, dir, "commit", "-qam", fmt.Sprintf("change %d", i))
	}
	return dir, localSpec(dir, "base")
}

func mustHistory(t *testing.T, b *Builder, spec Spec) *History {
	t.Helper()
	h, err := b.History(t.Context(), spec, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestBisectFindsTheFirstBadCommit(t *testing.T) {
	t.Parallel()
	const commits = 8
	dir, spec := fixtureHistory(t, commits)
	b := &Builder{Cache: t.TempDir()}
	before := snapshot(t, dir)
	for _, test := range []struct {
		name  string
		first int // the first bad commit
		skip  []int
		// want is what is found, several when they cannot be told apart.
		want  []int
		steps int
	}{
		{name: "the last", first: 8, want: []int{8}, steps: 3},
		{name: "the first", first: 1, want: []int{1}, steps: 3},
		{name: "the middle", first: 4, want: []int{4}, steps: 3},
		{name: "beside one that is skipped", first: 5, skip: []int{4}, want: []int{4, 5}, steps: 8},
		{name: "around one that is skipped", first: 7, skip: []int{4}, want: []int{7}, steps: 8},
		{name: "all skipped", first: 3, skip: []int{1, 2, 3, 4, 5, 6, 7}, want: []int{1, 2, 3, 4, 5, 6, 7, 8}, steps: 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := mustHistory(t, b, spec)
			good, err := LocalCommit(t.Context(), dir, "HEAD~8")
			if err != nil {
				t.Fatal(err)
			}
			steps := 0
			found, log, err := h.Bisect(t.Context(), good, h.Tip, func(ctx context.Context, id string) (Mark, error) {
				steps++
				n := number(t, h, id)
				switch {
				case slices.Contains(test.skip, n):
					return Skip, nil
				case n >= test.first:
					return Bad, nil
				}
				return Good, nil
			})
			if err != nil {
				t.Fatalf("Bisect: %v\n%s", err, log)
			}
			var got []int
			for _, id := range append(found.Candidates, found.First) {
				if id != "" {
					got = append(got, number(t, h, id))
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s%s", diff, log)
			}
			if steps > test.steps || !strings.Contains(log, "git bisect start") {
				t.Errorf("%d steps; want at most %d, and a log:\n%s", steps, test.steps, log)
			}
		})
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("the user's repository changed (-before +after):\n%s", diff)
	}
}

// number is the place of a commit of fixtureHistory, 0 for its first.
func number(t *testing.T, h *History, id string) int {
	t.Helper()
	c, err := h.Commit(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	fmt.Sscanf(c.Subject, "change %d", &n)
	return n
}

func TestBisectStopsWhenItCannotJudge(t *testing.T) {
	t.Parallel()
	_, spec := fixtureHistory(t, 4)
	h := mustHistory(t, &Builder{Cache: t.TempDir()}, spec)
	good, err := h.Before(t.Context(), h.Tip, 4)
	if err != nil {
		t.Fatal(err)
	}
	trouble := errors.New("no disk")
	_, log, err := h.Bisect(t.Context(), good, h.Tip, func(context.Context, string) (Mark, error) { return "", trouble })
	if !errors.Is(err, trouble) || !strings.Contains(log, "git bisect start") {
		t.Errorf("Bisect = %q, %v; want the trouble and the log so far", log, err)
	}
}

func TestHistoryOfASeries(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	spec := localSpec(dir, "patched", readPatch(t, goodPatch), readPatch(t, strings.ReplaceAll(strings.ReplaceAll(goodPatch, "cached + 1", "cached + 2"), "return cached;", "return cached + 1;")))
	h := mustHistory(t, &Builder{Cache: t.TempDir()}, spec)
	chain, err := h.Between(t.Context(), h.Base, h.Tip)
	if err != nil || len(chain) != 2 || chain[1] != h.Tip {
		t.Fatalf("Between = %v, %v; want a commit for each patch, %s the last", chain, err, h.Tip)
	}
	if n, err := h.Count(t.Context(), h.Base, h.Tip); n != 2 || err != nil {
		t.Errorf("Count = %d, %v; want 2", n, err)
	}
	for _, test := range []struct {
		old, tip string
		want     bool
	}{{h.Base, h.Tip, true}, {h.Tip, h.Base, false}, {h.Tip, h.Tip, true}} {
		if got, err := h.IsAncestor(t.Context(), test.old, test.tip); got != test.want || err != nil {
			t.Errorf("IsAncestor(%s, %s) = %v, %v; want %v", test.old, test.tip, got, err, test.want)
		}
	}
	if got := h.MergeBase(t.Context(), h.Base, h.Tip); got != h.Base {
		t.Errorf("MergeBase = %s; want %s", got, h.Base)
	}
	if got, err := h.Before(t.Context(), h.Tip, 100); got != h.Base || err != nil {
		t.Errorf("Before the beginning = %s, %v; want the first commit, %s", got, err, h.Base)
	}
}

func TestRevert(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	change := func(text, subject string) {
		writeFile(t, filepath.Join(dir, "fs/io_uring.c"), text)
		userGit(t, dir, "commit", "-qam", subject)
	}
	original := fixtureFiles["fs/io_uring.c"]
	leaking := strings.Replace(original, "return cached;", "return cached + 1;", 1)
	change(leaking, "culprit")
	change(leaking+"\nint more(void)\n{\n\treturn 2;\n}\n", "harmless")
	b := &Builder{Cache: t.TempDir()}
	h := mustHistory(t, b, localSpec(dir, "base"))
	culprit, err := h.Commit(t.Context(), h.Tip+"^")
	if err != nil {
		t.Fatal(err)
	}
	patch, err := h.Revert(t.Context(), culprit, h.Tip)
	if err != nil {
		t.Fatal(err)
	}
	spec := localSpec(dir, "reverted", readPatch(t, string(patch.Diff)))
	commit, err := b.Apply(t.Context(), spec)
	if err != nil {
		t.Fatalf("the revert does not apply: %v", err)
	}
	text, err := git(t.Context(), tree{dir: b.treeDir(spec)}.src(), "show", commit+":fs/io_uring.c")
	if err != nil || strings.Contains(text, "cached + 1") || !strings.Contains(text, "int more") {
		t.Errorf("reverted file, %v:\n%s", err, text)
	}
	if patch.Subject != `Revert "culprit"` {
		t.Errorf("subject = %q", patch.Subject)
	}

	change(strings.Replace(original, "return cached;", "return cached + 3;", 1), "in the way")
	h = mustHistory(t, b, localSpec(dir, "base"))
	if _, err := h.Revert(t.Context(), culprit, h.Tip); !errors.Is(err, ErrNoRevert) {
		t.Errorf("Revert of what was changed since = %v; want ErrNoRevert", err)
	}
}

// What no patch can hold is not told of as changed since.
func TestRevertThatIsNoPatch(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	writeFile(t, filepath.Join(dir, "fs/line\nbreak.c"), "int x;\n")
	userGit(t, dir, "add", "-A")
	userGit(t, dir, "commit", "-qm", "culprit")
	writeFile(t, filepath.Join(dir, "fs/io_uring.c"), fixtureFiles["fs/io_uring.c"]+"int more;\n")
	userGit(t, dir, "commit", "-qam", "harmless")
	h := mustHistory(t, &Builder{Cache: t.TempDir()}, localSpec(dir, "base"))
	culprit, err := h.Commit(t.Context(), h.Tip+"^")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Revert(t.Context(), culprit, h.Tip); !errors.Is(err, ErrNoPatch) || strings.Contains(err.Error(), h.dir) {
		t.Errorf("Revert = %v; want ErrNoPatch, and nothing of where it was tried", err)
	}
}

// The lines of a commit are followed through changes of them, beside them and before them,
// and through a new name of their file.
func TestFollow(t *testing.T) {
	t.Parallel()
	const before, after = "int a;\nint b;\nint c;\nint d;\n", "int w;\nint x;\nint y;\nint z;\n"
	for _, test := range []struct {
		name string
		// texts are of the file: before the commit, with it, and after each later one.
		texts   []string
		renamed int
		want    []int
		gone    int
	}{
		{"never changed", []string{"", "int bug;\n", "int bug;\n"}, 0, nil, 0},
		{"rewritten twice", []string{"", "int bug;\n", "int bug2;\n", "int bug2;\n", "int bug3;\n"}, 0, []int{2, 4}, 0},
		{"moved down", []string{"", "int bug;\n", "ABOVE int bug;\n", "ABOVE int bug2;\n"}, 0, []int{3}, 0},
		{"changed beside", []string{"", "int bug;\n", "int more;\nint bug;\n"}, 0, []int{2}, 0},
		{"taken out", []string{"", "int bug;\n", "", "int again;\n"}, 0, []int{2}, 2},
		{"taken out in part", []string{"", "int bug;\nint one;\n", "int one;\n", "int one;\n"}, 0, []int{2}, 0},
		{"one that takes lines out", []string{"int check;\n", "", "", "int check;\n"}, 0, []int{3}, 0},
		{"renamed", []string{"", "int bug;\n", "int bug;\n", "int bug2;\n"}, 2, []int{3}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := fixtureRepo(t)
			file := "fs/old.c"
			for i, text := range test.texts {
				if i == test.renamed && i > 0 {
					userGit(t, dir, "mv", file, "fs/new.c")
					file = "fs/new.c"
				}
				top := ""
				if rest, above := strings.CutPrefix(text, "ABOVE "); above {
					top, text = "int above;\n", rest
				}
				writeFile(t, filepath.Join(dir, file), top+before+text+after)
				userGit(t, dir, "add", "-A")
				userGit(t, dir, "commit", "-q", "--allow-empty", "-m", fmt.Sprint("text ", i))
			}
			_, later, trail := mustFollow(t, dir, len(test.texts)-2)
			var got []int
			for _, id := range trail.Changing {
				got = append(got, 2+slices.Index(later, id))
			}
			if end := slices.Index(later, trail.Gone); !slices.Equal(got, test.want) || (end < 0) != (test.gone == 0) || end >= 0 && 2+end != test.gone {
				t.Errorf("Follow = %v, gone with %d; want %v, %d", got, 2+end, test.want, test.gone)
			}
		})
	}
}

// mustFollow follows the commit that has so many behind it in a repository, to its tip.
func mustFollow(t *testing.T, dir string, behind int) (h *History, later []string, trail *Trail) {
	t.Helper()
	h = mustHistory(t, &Builder{Cache: t.TempDir()}, localSpec(dir, "base"))
	commit, err := h.Commit(t.Context(), fmt.Sprintf("%s~%d", h.Tip, behind))
	if err != nil {
		t.Fatal(err)
	}
	if later, err = h.Between(t.Context(), commit.ID, h.Tip); err != nil {
		t.Fatal(err)
	}
	if trail, err = h.Follow(t.Context(), commit, later, 16); err != nil {
		t.Fatal(err)
	}
	return h, later, trail
}

// What a commit did is put back without what else the later ones did that changed its lines.
func TestUndo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		texts []string // before the commit, with it, and after each later one
		want  string
	}{
		{"rewritten", []string{"a b c d e", "a X c d e", "a Y c d Z"}, "a b c d Z"},
		{"with what is beside it", []string{"a b c d e", "a X c d e", "A Y Y c d e", "A W c d E"}, "a b c d E"},
		{"two places taken together", []string{"a b c d e", "a X c Y e", "Z e", "Z f"}, "a b c d f"},
		{"lines that were taken out", []string{"a b c d e", "a e", "a W e", "a V V e f"}, "a b c d e f"},
		{"a file that it brought", []string{"", "X Y Z", "X W Z"}, ""},
		{"nothing changed", []string{"a b c", "a X c", "a X c"}, "a b c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := fixtureRepo(t)
			file := filepath.Join(dir, "fs/undo.c")
			lines := func(text string) string {
				return strings.Join(strings.Fields(text), "\n") + "\n"
			}
			for _, text := range test.texts {
				if text != "" {
					writeFile(t, file, lines(text))
				}
				userGit(t, dir, "add", "-A")
				userGit(t, dir, "commit", "-q", "--allow-empty", "-m", "text")
			}
			h, _, trail := mustFollow(t, dir, len(test.texts)-2)
			patch, err := h.Undo(t.Context(), trail, h.Tip)
			if err != nil {
				t.Fatal(err)
			}
			diff := filepath.Join(t.TempDir(), "undo.diff")
			writeFile(t, diff, string(patch.Diff))
			userGit(t, dir, "apply", diff)
			got, err := os.ReadFile(file)
			if want := test.want; want == "" && err == nil || want != "" && string(got) != lines(want) {
				t.Errorf("without it: %q; want %q", strings.Fields(string(got)), want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	first := userGit(t, dir, "rev-parse", "HEAD")
	move := func(from, to string) {
		userGit(t, dir, "mv", from, to)
		userGit(t, dir, "commit", "-qm", from+" becomes "+to)
	}
	writeFile(t, filepath.Join(dir, "fs/old.c"), "int a;\nint b;\nint c;\nint d;\nint e;\nint f;\n")
	writeFile(t, filepath.Join(dir, "fs/gone.c"), "int g;\n")
	userGit(t, dir, "add", "-A")
	userGit(t, dir, "commit", "-qm", "files")
	move("fs/old.c", "fs/caf\xe9.c")
	writeFile(t, filepath.Join(dir, "fs/caf\xe9.c"), "int a;\nint b;\nint c;\nint d;\nint e;\nint f;\nint g;\n")
	userGit(t, dir, "commit", "-qam", "changed")
	userGit(t, dir, "rm", "-q", "fs/gone.c")
	userGit(t, dir, "commit", "-qm", "gone")
	move("fs/caf\xe9.c", "fs/new.c")
	h := mustHistory(t, &Builder{Cache: t.TempDir()}, localSpec(dir, "base"))
	moved := []string{"fs/new.c", "fs/caf\xe9.c", "fs/old.c"}
	for _, test := range []struct {
		file string
		want []string
	}{
		{"fs/new.c", moved},
		{"fs/old.c", moved},
		{"fs/caf\xe9.c", moved},
		{"fs/io_uring.c", []string{"fs/io_uring.c"}},
		{"fs/gone.c", nil},
		{"fs/none.c", nil},
	} {
		got, err := h.Names(t.Context(), test.file, first, h.Tip)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Names(%q) (-want +got):\n%s", test.file, diff)
		}
	}
}

func TestTouched(t *testing.T) {
	const diff = `diff --git fs/io_uring.c fs/io_uring.c
index 1..2 100644
--- fs/io_uring.c
+++ fs/io_uring.c
@@ -10,0 +11,2 @@ static void io_req_free_batch(struct req_batch *rb, struct io_kiocb *req)
+	if (req->flags & REQ_F_FIXED_FILE)
+		req->file = NULL;
@@ -20,2 +23,4 @@ struct io_submit_state {
+	unsigned more;
@@ -30 +35,5 @@ static int io_a(void)
+static void io_new(struct io_kiocb *req)
+{
+	call(req);
+}
@@ -50 +60 @@ static const struct file_operations io_uring_fops = {
+	.release = x,
diff --git Documentation/x.rst Documentation/x.rst
@@ -1 +1 @@
-old
+new
`
	got := touched(diff)
	want := []Touched{
		{"fs/io_uring.c", []string{"io_req_free_batch", "io_submit_state", "io_a", "io_new", "file_operations"}},
		{"Documentation/x.rst", nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("touched (-want +got):\n%s", diff)
	}
}

func TestFileOf(t *testing.T) {
	for names, want := range map[string]string{
		"fs/a.c fs/a.c":             "fs/a.c",
		"fs/a.c fs/b.c":             "fs/b.c",
		"fs/a b.c fs/a b.c":         "fs/a b.c",
		`"fs/caf\351" "fs/caf\351"`: "fs/caf\xe9",
		`"a\"b \t\\" "a\"b \t\\"`:   "a\"b \t\\",
		`fs/a.c "fs/\303\251.c"`:    "fs/é.c",
	} {
		if got := fileOf(names); got != want {
			t.Errorf("fileOf(%q) = %q; want %q", names, got, want)
		}
	}
}

func TestSameCode(t *testing.T) {
	image := func(name, source string) *Built {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.c"), source)
		cmd := gitCommand(dir)
		cmd.Path, cmd.Args = mustLookPath(t, "gcc"), []string{"gcc", "-nostdlib", "-static", "-O1", "-o", filepath.Join(dir, "vmlinux"), filepath.Join(dir, "x.c")}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return &Built{Key: name, Dir: dir}
	}
	const code = "const char banner[] = \"Linux version 5.6.0-rc1 (gcc)\";\nint limit = 1;\nint _start(void) { return limit; }\n"
	one := image("one", code)
	for _, test := range []struct {
		name, source string
		want         bool
	}{
		{"a comment", "/* longer */\n\n" + code, true},
		{"the release", strings.ReplaceAll(code, "rc1", "rc2"), true},
		{"code", strings.ReplaceAll(code, "return limit", "return limit + 1"), false},
		{"data", strings.ReplaceAll(code, "limit = 1", "limit = 2"), false},
	} {
		if got, err := SameCode(one, image(test.name, test.source)); got != test.want || err != nil {
			t.Errorf("SameCode with another %s = %v, %v; want %v", test.name, got, err, test.want)
		}
	}
}

func mustLookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A file that cannot be read ends it: its lines would be put back wrong.
func TestFollowUnreadable(t *testing.T) {
	t.Parallel()
	unreadable := errors.New("interrupted")
	lines := func() ([]string, error) { return nil, unreadable }
	more := []hunk{{stretch{4, 9}, stretch{4, 5}}}
	for name, pieces := range map[string][]piece{
		"more than a piece": {{stretch{5, 6}, nil}},
		"two pieces":        {{stretch{4, 5}, nil}, {stretch{8, 9}, nil}},
	} {
		if _, _, err := follow(pieces, more, lines); !errors.Is(err, unreadable) {
			t.Errorf("%s: %v; want %v", name, err, unreadable)
		}
	}
	if _, _, err := follow([]piece{{stretch{4, 9}, nil}}, more, lines); err != nil {
		t.Errorf("a piece as a whole: %v; want that nothing is read", err)
	}
}
