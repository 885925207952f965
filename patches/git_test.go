package patches

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// git runs the real git in dir, without the user's configuration.
func git(t *testing.T, dir, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir),
		"GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t", "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustGit(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	out, err := git(t, dir, stdin, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestIDIsGitPatchID(t *testing.T) {
	mode := "diff --git a/s b/s\nold mode 100644\nnew mode 100755\n"
	rename := "diff --git a/p/q b/p/r\nsimilarity index 80%\nrename from p/q\nrename to p/r\nindex 1234567..7654321 100644\n--- a/p/q\n+++ b/p/r\n@@ -1,2 +1,2 @@ f()\n-a \t b\n+a b\n c\n\\ No newline at end of file\n"
	created := "diff --git a/n b/n\nnew file mode 100644\nindex 0000000..1234567\n--- /dev/null\n+++ b/n\n@@ -0,0 +1,2 @@\n+n\xff\n+--- x\n"
	deleted := "diff --git a/d b/d\ndeleted file mode 100644\nindex 1234567..0000000\n--- a/d\n+++ /dev/null\n@@ -1 +0,0 @@\n-d\n"
	feed := "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,3 @@\n }\n \f\n+\v\n"
	for i, text := range []string{plainDiff, stepDiff, feed, rename, created, deleted, mode, mode + plainDiff, plainDiff + mode, plainDiff + mode + stepDiff + rename + created + deleted, mode + rename} {
		got := mustRead(t, text).ID()
		want, _, _ := strings.Cut(mustGit(t, t.TempDir(), text, "patch-id", "--stable"), " ")
		if got != want {
			t.Errorf("%d: ID() = %s; want %s", i, got, want)
		}
	}
}

func TestIDIgnoresWrapping(t *testing.T) {
	want := mustRead(t, plainDiff).ID()
	for name, text := range map[string]string{
		"mail":        letterText("[PATCH] x", "Why.\n---\n"+plainDiff+"-- \n2.39\n"),
		"moved":       strings.Replace(plainDiff, "-1,3 +1,4 @@ struct x {", "-5,3 +6,4 @@", 1),
		"traditional": strings.NewReplacer("diff --git a/fs/x.c b/fs/x.c\nindex d2e37215d05a..4da8f4a9a285 100644\n--- a/fs/x.c\n", "--- linux.orig/fs/x.c\t2020-01-01\n").Replace(plainDiff),
	} {
		if got := mustRead(t, text).ID(); got != want {
			t.Errorf("%s: ID() = %s; want %s", name, got, want)
		}
	}
	if got := mustRead(t, strings.Replace(plainDiff, "+2\n", "+3\n", 1)).ID(); got == want {
		t.Errorf("ID() of another change = %s too", got)
	}
}

// TestMailMessageThroughGitAm is the round trip that users depend on: what Read
// says about a patch is what git commits.
func TestMailMessageThroughGitAm(t *testing.T) {
	dir := t.TempDir()
	mustGit(t, dir, "", "init", "-q")
	if err := os.Mkdir(filepath.Join(dir, "fs"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "fs/x.c", "one\ntwo\nthree\n")
	mustGit(t, dir, "", "add", ".")
	mustGit(t, dir, "", "commit", "-q", "-m", "base")
	for _, tc := range []struct{ name, text, want string }{
		{"mail", letterText("[PATCH RFC} x: cache", "Why.\n---\nnot this\n\n"+plainDiff+"-- \n2.39\n"),
			"Jens Axboe|axboe@kernel.dk|Wed, 13 May 2020 10:30:44 -0600|[PATCH RFC} x: cache|Why."},
		{"encoded names", "From: =?utf-8?q?J=C3=B6rg_X?= <j@example.org>\nDate: Wed, 13 May 2020 10:30:44 +0200\nSubject: [PATCH 1/1] =?utf-8?q?f=C3=BCr_a_very_long_subject_that_goes_on_and_on_until_it_is_=C3=BCber_seventy-five?=\n\nGrüße.\n\n" + plainDiff,
			`Jörg X|j@example.org|Wed, 13 May 2020 10:30:44 +0200|für a very long subject that goes on and on until it is über seventy-five|Grüße.`},
		{"plain", "Prose.\nFrom now on Thu May 14 10:00:00 2020\n" + plainDiff, "patchproof|patchproof@localhost|Wed, 1 Jan 2020 00:00:00 +0000|plain|Prose.\nFrom now on Thu May 14 10:00:00 2020"},
		{"address only", "From: <j@example.org>\nSubject: x\n\n" + plainDiff, "j@example.org|j@example.org|Wed, 1 Jan 2020 00:00:00 +0000|x|"},
	} {
		s, err := Read(write(t, t.TempDir(), tc.name, tc.text))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		mail := string(s.Patches[0].MailMessage())
		mustGit(t, dir, mail, "am", "-q", "--keep-cr", "--keep-non-patch")
		got := strings.TrimSpace(mustGit(t, dir, "", "log", "-1", "--format=%an|%ae|%aD|%s|%b"))
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: git am (-want +got):\n%s", tc.name, diff)
		}
		if got := mustGit(t, dir, "", "show", "HEAD:fs/x.c"); got != "one\n2\n2.5\nthree\n" {
			t.Errorf("%s: fs/x.c = %q", tc.name, got)
		}
		again := mustRead(t, mail)
		if again.ID() != s.Patches[0].ID() || again.Subject != s.Patches[0].Subject {
			t.Errorf("%s: MailMessage reads back as %s %q; want %s %q", tc.name, again.ID(), again.Subject, s.Patches[0].ID(), s.Patches[0].Subject)
		}
		mustGit(t, dir, "", "reset", "-q", "--hard", "HEAD~")
	}
}

// TestMismatchesAgreeWithGit changes a file in two random ways and compares
// Mismatches with git apply on whether one change applies on top of the other.
func TestMismatchesAgreeWithGit(t *testing.T) {
	const seed, rounds = 1, 24
	random := rand.New(rand.NewPCG(seed, 0))
	mutate := func(lines []string) []string {
		lines = slices.Clone(lines)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(lines))
			switch random.IntN(3) {
			case 0:
				lines[at] = fmt.Sprintf("changed %d\n", random.IntN(100))
			case 1:
				lines = slices.Insert(lines, at, fmt.Sprintf("new %d\n", random.IntN(100)), "same\n")
			case 2:
				lines = slices.Delete(lines, at, at+1)
			}
		}
		return lines
	}
	applied := 0
	for round := range rounds {
		dir := t.TempDir()
		var base []string
		for range 6 + random.IntN(30) {
			base = append(base, fmt.Sprintf("line %d\n", random.IntN(12)))
		}
		write(t, dir, "f", strings.Join(base, ""))
		write(t, dir, "g", strings.Join(mutate(base), ""))
		context := fmt.Sprintf("-U%d", 1+random.IntN(3))
		diff, _ := git(t, dir, "", "diff", "--no-index", context, "f", "g")
		if diff == "" {
			continue
		}
		p := mustRead(t, strings.NewReplacer("b/g", "b/f").Replace(diff))
		tree := strings.Join(mutate(base), "")
		write(t, dir, "f", tree)
		mismatches := p.Mismatches(memory(map[string]string{"f": tree}))
		out, err := git(t, dir, string(p.Diff), "apply", "--check")
		if (err == nil) != (len(mismatches) == 0) {
			t.Errorf("seed %d round %d: git apply: %v %s\nMismatches:\n%s\npatch:\n%s\ntree:\n%s", seed, round, err, out, Format(mismatches), p.Diff, tree)
		}
		if err == nil {
			applied++
		}
	}
	if applied == 0 || applied == rounds {
		t.Errorf("%d of %d patches applied; the test needs both", applied, rounds)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(letterText("[PATCH 1/2] a", plainDiff+"\n") + letterText("[PATCH 2/2] b", stepDiff+"-- \n2.39\n")))
	f.Add([]byte(plainDiff))
	path := filepath.Join(f.TempDir(), "fuzz.mbox")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Read(path)
		if err != nil {
			return
		}
		for _, p := range s.Patches {
			for _, file := range p.Files {
				for _, name := range []string{file.Old, file.New} {
					if name != "" && !filepath.IsLocal(name) {
						t.Errorf("file name %q leaves the tree", name)
					}
				}
			}
			Format(p.Mismatches(memory(nil)))
			Format(p.Mismatches(func(string) ([]byte, error) { return []byte(source()), nil }))
			if p.Date.Year() > 9999 || p.Date.Before(time.Time{}) {
				continue
			}
			message := p.MailMessage()
			if err := os.WriteFile(path, message, 0o644); err != nil {
				t.Fatal(err)
			}
			again, err := Read(path)
			if err != nil {
				t.Fatalf("MailMessage does not read back: %v\n%q", err, message)
			}
			if got := again.Patches[0]; len(again.Patches) != 1 || got.ID() != p.ID() || got.Subject != p.Subject {
				t.Fatalf("MailMessage reads back as %d patches, %s %q; want %s %q\n%q", len(again.Patches), got.ID(), got.Subject, p.ID(), p.Subject, message)
			}
		}
	})
}
