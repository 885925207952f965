package patches

import (
	"encoding/base64"
	"fmt"
	"mime/quotedprintable"
	"os"
	"patchproof/patches/subjects"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const plainDiff = `diff --git a/fs/x.c b/fs/x.c
index d2e37215d05a..4da8f4a9a285 100644
--- a/fs/x.c
+++ b/fs/x.c
@@ -1,3 +1,4 @@ struct x {
 one
-two
+2
+2.5
 three
`

func letterText(subject, body string) string {
	return "From mail Thu May 14 10:00:00 2020\nFrom: Jens Axboe <axboe@kernel.dk>\nDate: Wed, 13 May 2020 10:30:44 -0600\n" +
		"Message-ID: <1@kernel.dk>\nSubject: " + subject + "\n\n" + body
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// summary is what a user would notice of a patch.
type summary struct {
	Author, Email, Date, Subject, Body, MessageID string
	Files                                         []string
}

func summarise(p Patch) summary {
	s := summary{Author: p.Author, Email: p.Email, Subject: p.Subject, Body: p.Body, MessageID: p.MessageID}
	if !p.Date.IsZero() {
		s.Date = p.Date.Format(time.RFC3339)
	}
	for _, f := range p.Files {
		s.Files = append(s.Files, fmt.Sprintf("%s>%s %s..%s %d", f.Old, f.New, f.PreImage, f.PostImage, len(f.Hunks)))
	}
	return s
}

func TestRead(t *testing.T) {
	var quoted strings.Builder
	w := quotedprintable.NewWriter(&quoted)
	fmt.Fprint(w, "Gr\xc3\xbc\xc3\x9fe = equal.\n---\n fs/x.c | 3 +-\n\n"+plainDiff+"-- \n2.39\n")
	w.Close()
	based := base64.StdEncoding.EncodeToString([]byte("Hello.\n\n" + plainDiff))
	const header = "From: =?utf-8?q?J=C3=B6rg?= <j@example.org>\nDate: Wed, 13 May 2020 10:30:44 -0600\nSubject: =?iso-8859-1?q?=5BPATCH=5D_f=FCr_x?=\nMIME-Version: 1.0\n"
	one := []string{"fs/x.c>fs/x.c d2e37215d05a..4da8f4a9a285 1"}
	const date = "2020-05-13T10:30:44-06:00"
	for _, tc := range []struct {
		name, file, text string
		want             []summary
	}{
		{"plain diff", "my-change.diff", "Some prose.\n" + plainDiff, []summary{{Subject: "my-change", Body: "Some prose.", Files: one}}},
		{"traditional diff with time stamps", "t.patch", "--- linux.orig/fs/x.c\t2020-01-01 00:00:00.1 +0100\n+++ linux/fs/x.c\t2020-01-02 00:00:00.2 +0100\n@@ -1 +1 @@\n-a\n+b\n",
			[]summary{{Subject: "t", Files: []string{"fs/x.c>fs/x.c .. 1"}}}},
		{"git show", "show.txt", "commit 0123456789012345678901234567890123456789\nAuthor: A B <a@b.c>\nDate:   Wed May 13 10:30:44 2020 -0600\n\n    x: change it\n\n    Because.\n\n" + plainDiff,
			[]summary{{Author: "A B", Email: "a@b.c", Date: date, Subject: "x: change it", Body: "Because.", Files: one}}},
		{"mail", "m.mbox", letterText("Re: [PATCH RFC v2] x: twice", "Why.\n\n> From here\nFrom now on.\n---\nnot this\n\n"+plainDiff+"\n-- \nJens Axboe\n\n_____\nlist footer\n"),
			[]summary{{Author: "Jens Axboe", Email: "axboe@kernel.dk", Date: date, Subject: "x: twice", Body: "Why.\n\n> From here\nFrom now on.", MessageID: "1@kernel.dk", Files: one}}},
		{"From line without a time", "m.mbox", strings.Replace(letterText("[PATCH] x", "Why.\n---\n"+plainDiff), "From mail Thu May 14 10:00:00 2020", "From A", 1),
			[]summary{{Author: "Jens Axboe", Email: "axboe@kernel.dk", Date: date, Subject: "x", Body: "Why.", MessageID: "1@kernel.dk", Files: one}}},
		{"mistyped bracket", "m.mbox", letterText("[PATCH RFC} x: cache", plainDiff),
			[]summary{{Author: "Jens Axboe", Email: "axboe@kernel.dk", Date: date, Subject: "[PATCH RFC} x: cache", MessageID: "1@kernel.dk", Files: one}}},
		{"mail for someone else", "m.mbox", letterText("[PATCH] x", "From: Other Person <o@p.q>\nSubject: y: really\n\nWhy.\n\n"+plainDiff),
			[]summary{{Author: "Other Person", Email: "o@p.q", Date: date, Subject: "y: really", Body: "Why.", MessageID: "1@kernel.dk", Files: one}}},
		{"quoted-printable", "m.eml", header + "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.ReplaceAll(quoted.String(), "\r\n", "\n"),
			[]summary{{Author: "Jörg", Email: "j@example.org", Date: date, Subject: "für x", Body: "Grüße = equal.", Files: one}}},
		{"base64", "m.eml", header + "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + based[:76] + "\n" + based[76:] + "\n",
			[]summary{{Author: "Jörg", Email: "j@example.org", Date: date, Subject: "für x", Body: "Hello.", Files: one}}},
		{"Latin-1 prose", "m.eml", header + "Content-Type: text/plain; charset=ISO-8859-1\nContent-Transfer-Encoding: 8bit\n\nGr\xfc\xdfe.\n\n" + plainDiff,
			[]summary{{Author: "Jörg", Email: "j@example.org", Date: date, Subject: "für x", Body: "Grüße.", Files: one}}},
		{"attachment", "m.eml", header + "Content-Type: multipart/mixed; boundary=BB\n\n--BB\nContent-Type: text/plain\n\nSee below.\n--BB\nContent-Type: text/html\n\n<p>See below.\n--BB\nContent-Type: text/x-patch\nContent-Transfer-Encoding: base64\n\n" +
			base64.StdEncoding.EncodeToString([]byte(plainDiff)) + "\n--BB--\n",
			[]summary{{Author: "Jörg", Email: "j@example.org", Date: date, Subject: "für x", Body: "See below.", Files: one}}},
		{"thread", "t.mbox", letterText("[PATCH 2/2] second", plainDiff+"\n") + letterText("[PATCH 0/2] cover", "Nothing yet.\n\n") +
			letterText("[PATCH 1/2] first", plainDiff+"\n") + letterText("Re: [PATCH 1/2] first", "> diff --git a/x b/x\nNice.\n"),
			[]summary{
				{Author: "Jens Axboe", Email: "axboe@kernel.dk", Date: date, Subject: "first", MessageID: "1@kernel.dk", Files: one},
				{Author: "Jens Axboe", Email: "axboe@kernel.dk", Date: date, Subject: "second", MessageID: "1@kernel.dk", Files: one},
			}},
		{"new, deleted, renamed, mode", "k.diff", "diff --git a/n b/n\nnew file mode 100644\nindex 0000000..1234567\n--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+n\n" +
			"diff --git a/d b/d\ndeleted file mode 100644\n--- a/d\n+++ /dev/null\n@@ -1 +0,0 @@\n-d\n\\ No newline at end of file\n" +
			"diff --git a/p/q b/p/r\nsimilarity index 100%\nrename from p/q\nrename to p/r\ndiff --git a/s b/s\nold mode 100644\nnew mode 100755\n",
			[]summary{{Subject: "k", Files: []string{">n 0000000..1234567 1", "d> .. 1", "p/q>p/r .. 0", "s>s .. 0"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Read(write(t, t.TempDir(), tc.file, tc.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []summary
			for _, p := range s.Patches {
				got = append(got, summarise(p))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Read(%s) (-want +got):\n%s", tc.file, diff)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	named := func(name string) string {
		return "diff --git a/x b/x\n--- a/" + name + "\n+++ b/" + name + "\n@@ -1 +1 @@\n-a\n+b\n"
	}
	const svn = "--- fs/x.c\t(revision 6)\n+++ fs/x.c\t(revision 7)\n@@ -1 +1 @@\n-a\n+b\n"
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "m: the file is empty"},
		{"blank", "\n \n", "m: the file is empty"},
		{"a bundle", "# v2 git bundle\n0123 refs/heads/x\n\nPACK\x00", "m: a bundle of git's; fetch it into a tree"},
		{"a tar archive", "0001-x.patch" + strings.Repeat("\x00", 245) + "ustar\x0000" + strings.Repeat("\x00", 248) + plainDiff, "m: an archive; unpack it"},
		{"a zip archive", "PK\x03\x04\x14\x00x", "m: an archive; unpack it"},
		{"colours", strings.Replace(plainDiff, "diff --git a/fs/x.c b/fs/x.c", "\x1b[1mdiff --git a/fs/x.c b/fs/x.c\x1b[m", 1), "m: a diff in colours"},
		{"a log with a graph", "* commit 0123456789abcdef0123456789abcdef01234567\n| Author: A <a@b.c>\n", "m: a log with a graph"},
		{"UTF-16 with more than ASCII", "\xff\xfed\x00\xe9\x00\n\x00", "m: line 1: UTF-16 with other characters"},
		{"a log of its own form", strings.Repeat("0", 40) + "\nx\n\n" + plainDiff + "\n" + strings.Repeat("1", 40) + "\ny\n\n" + plainDiff, "a commit begins here"},
		{"hg log -p", "changeset:   1:0123456789ab\nsummary:     one\n\n" + plainDiff + "\nchangeset:   2:123456789abc\nsummary:     two\n\n" + plainDiff, "a commit begins here"},
		{"svn log --diff", "r7 | ada | 2020-05-02 10:00:00 +0200 | 1 line\n\none\n\nIndex: fs/x.c\n=====\n" + svn + "\nr8 | ada | 2020-05-02 10:00:00 +0200 | 1 line\n\ntwo\n\nIndex: fs/x.c\n=====\n" + svn, "a commit begins here"},
		{"log --oneline --stat", "0123456 one\n---\n x | 1 +\n\n" + plainDiff + "1234567 two\n---\n x | 1 +\n\n" + plainDiff, "a commit begins here"},
		{"a web page", "<!DOCTYPE html>\n<pre>" + plainDiff + "</pre>", "m: a web page"},
		{"prose", "Hello.\n", "m: there is no diff in it"},
		{"mail without diff", letterText("[PATCH] x", "Oops.\n"), "m: there is no diff in it (message 1: x)"},
		{"binary", "diff\x00\xff", "m: line 1: a zero byte"},
		{"gzip", "\x1f\x8b\x08xx", "compressed with gzip, and it does not unpack"},
		{"binary in base64", "Subject: x\nFrom: a@b.c\nContent-Transfer-Encoding: base64\n\nAAAA\n", "line 1 of the decoded text: a zero byte"},
		{"broken base64", "Subject: x\nFrom: a@b.c\nContent-Transfer-Encoding: base64\n\n!!!\n", "m: the mail's base64 text is broken"},
		{"unknown encoding", "Subject: x\nFrom: a@b.c\nContent-Transfer-Encoding: x-uuencode\n\n!!!\n", `unknown Content-Transfer-Encoding "x-uuencode"`},
		{"binary change", "diff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n", "m:1: x: a binary change"},
		{"parent folder", named("../../etc/passwd"), `m:1: file name "../../etc/passwd" has ".." as a part`},
		{"parent folder in the middle", named("fs/../../x"), `has ".." as a part`},
		{"quoted parent folder", "diff --git \"a/\\056./x\" \"b/\\056./x\"\nold mode 100644\nnew mode 100755\n", `file name "../x" has ".."`},
		{"git folder", named(".git/hooks/post-commit"), "leads into git's own folder"},
		{"absolute", "--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n", `m:1: "/etc/passwd" is an absolute file name`},
		{"absolute rename", "diff --git a/x b/y\nrename from x\nrename to /etc/y\n", `file name "/etc/y" is absolute`},
		{"not -p1", "--- x.c\n+++ x.c\n@@ -1 +1 @@\n-a\n+b\n", `m:1: file name "x.c" has no folder`},
		{"truncated", letterText("[PATCH] x", "Why.\n\n"+strings.TrimSuffix(plainDiff, " three\n")), `m:13: hunk "@@ -1,3 +1,4 @@ struct x {" is cut short, or the counts in its header are wrong`},
		{"truncated before next file", strings.TrimSuffix(plainDiff, " three\n") + plainDiff, `m:10: hunk "@@ -1,3 +1,4 @@ struct x {" ends here, before the lines that its header counts`},
		{"nothing after header", "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n", `m:4: hunk "@@ -1,2 +1,2 @@" is cut short`},
		{"counts too few", strings.Replace(plainDiff, "-1,3 +1,4", "-1,2 +1,3", 1), "m:10: fs/x.c, hunk 1: its @@ header counts fewer lines than follow it"},
		{"counts too few before a blank line", plainDiff + "\n+lost\n", "m:12: fs/x.c, hunk 1: its @@ header counts fewer"},
		{"counts take the signature", strings.Replace(plainDiff, "-1,3", "-1,4", 1) + "-- \n2.39\n", "m:11: fs/x.c, hunk 1: its @@ header counts more lines than it has"},
		{"new file with old lines", "diff --git a/x b/x\n--- /dev/null\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "m:4: x, hunk 1: the header creates or deletes"},
		{"file without hunk", "diff --git a/x b/x\n--- a/x\n+++ b/x\n" + plainDiff, "m:4: x: its header is not followed by a hunk"},
		{"hunk without file", "@@ -1 +1 @@\n-a\n+b\n", "m:1: a hunk without a file name before it"},
		{"CR LF in some header lines", strings.Replace(plainDiff, "diff --git a/fs/x.c b/fs/x.c\n", "diff --git a/fs/x.c b/fs/x.c\r\n", 1) + plainDiff, "m:1: some of the diff's header lines end in CR LF"},
		{"wrapped line", strings.Replace(plainDiff, "-two\n", "-two\nwrapped\n", 1), `m:8: hunk "@@ -1,3 +1,4 @@ struct x {" ends here, before the lines`},
		{"second message", letterText("[PATCH 1/2] a", plainDiff+"\n") + letterText("[PATCH 2/2] b", strings.Replace(plainDiff, "-1,3", "-1,9", 1)), `m:28: hunk "@@ -1,9 +1,4 @@ struct x {" is cut short`},
		{"patch missing in thread", letterText("[PATCH 1/3] a", plainDiff+"\n") + letterText("[PATCH 3/3] c", plainDiff), "m: patch 2/3 is missing"},
		{"last patch missing", letterText("[PATCH 1/3] a", plainDiff+"\n") + letterText("[PATCH 2/3] c", plainDiff), "m: patch 3/3 is missing"},
		{"twice the same number", letterText("[PATCH 1/2] a", plainDiff+"\n") + letterText("[PATCH 1/2] b", plainDiff), "message 2 (b) and message 1 are both 1/2"},
		{"two series", letterText("[PATCH 1/2] a", plainDiff+"\n") + letterText("[PATCH 2/3] b", plainDiff), "these look like two series"},
		{"lost diff in thread", letterText("[PATCH 1/2] a", plainDiff+"\n") + letterText("[PATCH 2/2] b", "Oops.\n"), "there is no diff in it (message 2: b)"},
		{"only cover letters", letterText("[PATCH 0/2] a", "x\n\n") + letterText("Re: [PATCH 0/2] a", "y\n"), "none of the 2 messages has a diff"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Read(write(t, dir, "m", tc.text))
			if err == nil {
				t.Fatalf("Read() = nil; want an error with %q", tc.want)
			}
			if got := strings.ReplaceAll(err.Error(), dir+"/", ""); !strings.Contains(got, tc.want) {
				t.Errorf("Read() = %q; want %q in it", got, tc.want)
			}
		})
	}
}

func TestReadKeepsCarriageReturnsOfAFile(t *testing.T) {
	text := strings.NewReplacer(" one\n", " one\r\n", "-two\n", "-two\r\n", "+2\n", "+2\r\n").Replace(plainDiff)
	for _, head := range []string{"", "commit 0123456789\nAuthor: A <a@b.c>\nDate:   Sat May 2 10:00:00 2020 +0200\n\n    t\n\n"} {
		s, err := Read(write(t, t.TempDir(), "x.diff", head+text))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := s.Patches[0].Files[0].Hunks[0].Lines[0].Line, "one\r\n"; got != want {
			t.Errorf("below %q: first line = %q; want %q", head, got, want)
		}
	}
}

func TestReadOtherFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, "none")); err == nil || !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Read(none) = %v; want a missing file", err)
	}
	if _, err := Read("/dev/null"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Read(/dev/null) = %v; want not a regular file", err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "without a file named series") {
		t.Errorf("Read(folder) = %v; want the series file missed", err)
	}
}

func TestReadQuilt(t *testing.T) {
	for _, tc := range []struct{ name, series, want string }{
		{"comments and options", "# first\n\none.patch -p1 # why\n  sub/two.patch\n", ""},
		{"tags", "one.patch #+upstream\n#sub/old.patch\nsub/two.patch  # a comment\n", ""},
		{"guards of series.conf", "+tag one.patch\n", "series:1: the line begins with +tag"},
		{"missing file", "one.patch\n\nthree.patch\n", "series:3: there is no file three.patch in the folder"},
		{"strip level", "one.patch\nsub/two.patch -p2\n", "series:2: option -p2 of sub/two.patch is not supported"},
		{"traversal", "../one.patch\n", `series:1: patch name "../one.patch" has ".."`},
		{"absolute", "/one.patch\n", `series:1: patch name "/one.patch" is absolute`},
		{"twice", "one.patch\none.patch\n", "series:2: one.patch is listed on line 1 already"},
		{"nothing listed", "# none\n", "series: lists no patch"},
		{"a thread", "thread.mbox\n", "series:1: thread.mbox: holds 2 patches"},
		{"not a patch", "series\n", "series:1: series: there is no diff in it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "v5.10.13")
			if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "one.patch", letterText("[PATCH 1/2] first", plainDiff))
			write(t, dir, "sub/two.patch", plainDiff)
			write(t, dir, "thread.mbox", letterText("a", plainDiff+"\n")+letterText("b", plainDiff))
			write(t, dir, "series", tc.series)
			s, err := Read(dir)
			if tc.want != "" {
				if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), dir+"/", ""), tc.want) {
					t.Errorf("Read() = %v; want %q in it", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := []string{s.Name}
			for _, p := range s.Patches {
				got = append(got, p.Subject)
			}
			if diff := cmp.Diff([]string{"v5.10.13", "first", "two"}, got); diff != "" {
				t.Errorf("Read() (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHouseData reads the data of this repository, as users' runs do.
func TestHouseData(t *testing.T) {
	for _, tc := range []struct {
		path    string
		hunks   int
		subject string
	}{
		{"io_kiocb-alloc-cache/posted.mbox", 23, "[PATCH RFC} io_uring: io_kiocb alloc cache"},
		{"io_kiocb-alloc-cache/v5.10.13", 0, ""},
	} {
		t.Run(tc.path, func(t *testing.T) {
			s, err := Read(tc.path)
			if err != nil {
				t.Fatal(err)
			}
			hunks := 0
			for _, f := range s.Patches[0].Files {
				hunks += len(f.Hunks)
			}
			if tc.hunks > 0 && (hunks != tc.hunks || s.Patches[0].Subject != tc.subject) {
				t.Errorf("Read() = %d hunks, %q; want %d, %q", hunks, s.Patches[0].Subject, tc.hunks, tc.subject)
			}
		})
	}
}

func TestQuiltKnownIssues(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "series", "one.patch\n")
	write(t, dir, "one.patch", plainDiff)
	write(t, dir, subjects.KnownIssuesFile,
		"[[issue]]\nprogram = \"p\"\ncheck = \"c\"\nverdict = \"fail\"\nreason = \"r\"\n")
	s, err := Read(dir)
	if err != nil || len(s.Known) != 1 {
		t.Errorf("Read(quilt) = %d known issues, %v; want 1", len(s.Known), err)
	}
}
