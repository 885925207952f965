package patches

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// treeRepo makes a repository of testdata/tree, which the toy diffs change.
func treeRepo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/tree")); err != nil {
		t.Fatal(err)
	}
	mustGit(t, dir, "", "init", "-q")
	mustGit(t, dir, "", "add", ".")
	mustGit(t, dir, "", "commit", "-q", "-m", "base")
	return dir
}

// commits applies the series as the harness does, and tells what git made of it.
func commits(t *testing.T, repo string, s Series) string {
	t.Helper()
	var b strings.Builder
	for _, p := range s.Patches {
		out, err := git(t, repo, string(p.MailMessage()), "am", "-q", "--keep-non-patch", "--quoted-cr=nowarn", "--no-scissors", "--no-3way", "--keep-cr")
		if err != nil {
			_, _ = git(t, repo, "", "am", "--abort")
			fmt.Fprintf(&b, "git am: %s", out)
			return b.String()
		}
		b.WriteString(mustGit(t, repo, "", "show", "--format=commit by %an <%ae> of %aI%n%w(0,4,4)%B%w(0,0,0)", "--stat=80", "HEAD"))
	}
	return b.String()
}

// TestCases reads inputs as people hold them, each of its own kind. The golden says
// what came out, what was left and why, and what git committed of it.
func TestCases(t *testing.T) {
	inputs, err := filepath.Glob("testdata/cases/*")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	repo := treeRepo(t)
	for _, input := range inputs {
		if filepath.Ext(input) == ".golden" {
			continue
		}
		t.Run(filepath.Base(input), func(t *testing.T) {
			var got string
			s, err := Read(input)
			if err != nil {
				got = "refused: " + strings.ReplaceAll(err.Error(), "testdata/cases/", "") + "\n"
			} else {
				got = s.Describe() + "\n" + commits(t, repo, s)
				mustGit(t, repo, "", "reset", "-q", "--hard", mustGitLine(t, repo, "rev-list", "--max-parents=0", "HEAD"))
			}
			golden := strings.TrimSuffix(input, filepath.Ext(input)) + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("Read(%s) (-want +got); -update writes it anew:\n%s", input, diff)
			}
		})
	}
}

func mustGitLine(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return strings.TrimSpace(mustGit(t, dir, "", args...))
}
