package kernel

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/patches"
)

// baseRepo is the fixture with a history in which main.c and fs/io_uring.c change in turn,
// and a branch with another main.c beside it.
func baseRepo(t *testing.T) string {
	t.Helper()
	dir := fixtureRepo(t)
	commit := func(name, text, subject string) {
		writeFile(t, filepath.Join(dir, name), text)
		userGit(t, dir, "add", "-Af")
		userGit(t, dir, "commit", "-qm", subject)
	}
	userGit(t, dir, "tag", "v1.0")
	commit("main.c", "int start(void) { return 1; }\n", "one")
	commit("README", "read me\n", "two")
	userGit(t, dir, "tag", "v1.1")
	commit("fs/io_uring.c", "int cached;\n\nint two(void)\n{\n\treturn 2;\n}\n", "three")
	userGit(t, dir, "checkout", "-q", "-b", "aside", "v1.1")
	commit("main.c", "int start(void) { return 7; }\n", "aside")
	userGit(t, dir, "checkout", "-q", "--detach", "aside~1")
	commit("main.c", "int start(void) { return 3; }\n", "four")
	commit("fs/io_uring.c", "int cached;\n\nint four(void)\n{\n\treturn 4;\n}\n", "five")
	return dir
}

// changed is a series, as format-patch mails it, of a change of files at a commit.
func changed(t *testing.T, dir, commit string, files map[string]string, options ...string) patches.Series {
	t.Helper()
	at := userGit(t, dir, "rev-parse", "HEAD")
	userGit(t, dir, "checkout", "-q", "--detach", commit)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		writeFile(t, filepath.Join(dir, name), files[name])
		userGit(t, dir, "add", name)
	}
	userGit(t, dir, "commit", "-qm", "changed")
	mail := filepath.Join(t.TempDir(), "mail")
	writeFile(t, mail, userGit(t, dir, append([]string{"format-patch", "-1", "--stdout"}, options...)...)+"\n")
	userGit(t, dir, "checkout", "-q", "--detach", at)
	series, err := patches.Read(mail)
	if err != nil {
		t.Fatal(err)
	}
	return series
}

func TestFindBase(t *testing.T) {
	t.Parallel()
	dir := baseRepo(t)
	both := map[string]string{"main.c": "int start(void) { return 9; }\n", "fs/io_uring.c": "int cached;\n"}
	for _, test := range []struct {
		name, at string
		files    map[string]string
		options  []string
		// want is the subject of the commit found, how of its files.
		want, how string
	}{
		{"head", "HEAD", both, nil, "five", "all its files (2) are as the patch has them; every hunk applies"},
		{"a tag between two changes", "v1.1~1", both, nil, "two", "all its files (2) are as the patch has them; every hunk applies"},
		{"another branch", "aside", map[string]string{"main.c": "int start(void) { return 8; }\n"}, nil, "aside", "all its files (1) are as the patch has them; every hunk applies"},
		{"named", "aside", map[string]string{"README": "read\n"}, []string{"--base=HEAD~1"}, "aside", "all its files (1) are as the patch has them; every hunk applies"},
		{"new files only", "v1.0", map[string]string{"new.c": "int new;\n"}, nil, "five", "all its files (1) are as the patch has them; every hunk applies"},
		{"without index lines", "v1.1", both, nil, "two", "the patch does not tell which files it was made for; every hunk applies"},
	} {
		t.Run(test.name, func(t *testing.T) {
			series := changed(t, dir, test.at, test.files, test.options...)
			if test.name == "without index lines" {
				for i := range series.Patches[0].Files {
					series.Patches[0].Files[i].PreImage = ""
				}
			}
			before := snapshot(t, dir)
			b := &Builder{Cache: t.TempDir()}
			answer, err := b.FindBase(t.Context(), series, []Pin{{Name: "v9"}}, dir, "")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("the tree changed (-before +after):\n%s", diff)
			}
			got := userGit(t, dir, "log", "-1", "--format=%s", answer.Best.Commit)
			if got != test.want || answer.Best.text() != test.how {
				t.Errorf("FindBase = %q, %s; want %q, %s\n%s", got, answer.Best.text(), test.want, test.how, answer.Text())
			}
			if want := "not in the cache: PIN=v9\n"; !strings.Contains(answer.Text(), want) {
				t.Errorf("Text() = %s; want %q in it", answer.Text(), want)
			}
		})
	}
}

func TestNothingFitsABase(t *testing.T) {
	t.Parallel()
	dir := baseRepo(t)
	series := changed(t, dir, "HEAD", map[string]string{"main.c": "int start(void) { return 9; }\n", "fs/io_uring.c": "int cached;\n"})
	other := changed(t, fixtureRepo(t), "HEAD", map[string]string{"main.c": "int other(void) { return 9; }\n"}).Patches[0]
	other.Files[0].PreImage = "1234567"
	other.Files[0].Hunks[0].Lines[0].Line = "int nowhere(void) { return 0; }\n"
	series.Patches[0].Files[1] = other.Files[0]
	b := &Builder{Cache: t.TempDir()}
	answer, err := b.FindBase(t.Context(), series, nil, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.Text(); answer.Best.Applies() || !strings.Contains(got, "Nothing fits. The nearest is ") || !strings.Contains(got, "main.c, hunk 1 of 1 does not apply") {
		t.Errorf("Text() = %s; want that nothing fits, and the hunk", got)
	}
}

// TestPrerequisites names a patch that must be there before, and says where it is.
func TestPrerequisites(t *testing.T) {
	t.Parallel()
	dir := baseRepo(t)
	series := changed(t, dir, "HEAD", map[string]string{"README": "you too\n"}, "--base=HEAD~3")
	if len(series.Prerequisites) != 2 {
		t.Fatalf("Prerequisites = %v; want two", series.Prerequisites)
	}
	b := &Builder{Cache: t.TempDir()}
	answer, err := b.FindBase(t.Context(), series, nil, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, rev := range []string{"HEAD~1", "HEAD"} {
		want = append(want, fmt.Sprintf("patch %s must be there before, and is not among these; TREE has it as %.12s", series.Prerequisites[i], userGit(t, dir, "rev-parse", rev)))
	}
	if diff := cmp.Diff(want, answer.Needs); diff != "" {
		t.Errorf("Needs (-want +got):\n%s", diff)
	}
	if got := ElsewhereNote(t.Context(), series, dir, ""); !strings.HasPrefix(got, "made for ") || !strings.Contains(got, "there 1 of its 1 files are as it has them") {
		t.Errorf("ElsewhereNote = %q; want where it was made, and how HEAD fits", got)
	}
	// With the patch before it, it needs nothing.
	userGit(t, dir, "checkout", "-q", "--detach", "HEAD")
	mail := filepath.Join(t.TempDir(), "before")
	writeFile(t, mail, userGit(t, dir, "format-patch", "-2", "--stdout")+"\n")
	before, err := patches.Read(mail)
	if err != nil {
		t.Fatal(err)
	}
	series.Patches = append(before.Patches, series.Patches...)
	if got := series.Lacks(); len(got) > 0 {
		t.Errorf("Lacks() = %v; want nothing", got)
	}
}
