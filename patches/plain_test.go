package patches

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// TestPlain reads diffs without mail headers against the files that they change, or
// the refusal.
func TestPlain(t *testing.T) {
	const hunk = "@@ -1 +1 @@\n-a\n+b\n"
	old := func(a, b string) string { return "--- " + a + "\n+++ " + b + "\n" + hunk }
	log := func(id, date, pre, post string) string {
		return "commit " + id + "\nAuthor: A <a@b.c>\nDate:   " + date + "\n\n    t" + id[:1] + "\n\ndiff --git a/fs/y.c b/fs/y.c\nindex " + pre + ".." + post + " 100644\n" + old("a/fs/y.c", "b/fs/y.c") + "\n"
	}
	const x, y = "1111111111", "2222222222"
	const d1, d2 = "Sat May 2 10:00:00 2020 +0200", "Sun May 3 10:00:00 2020 +0200"
	for _, tc := range []struct{ name, text, want string }{
		{"no prefix", "diff --git fs/y.c fs/y.c\n" + old("fs/y.c", "fs/y.c"), "fs/y.c"},
		{"no prefix, top file", "diff --git Makefile Makefile\n" + old("Makefile", "Makefile"), "Makefile"},
		{"no prefix, deleted", "diff --git fs/y.c fs/y.c\ndeleted file mode 100644\n--- fs/y.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", "fs/y.c"},
		{"no prefix, renamed", "diff --git fs/y.c fs/z.c\nsimilarity index 100%\nrename from fs/y.c\nrename to fs/z.c\n", "fs/z.c"},
		{"no prefix, mode", "diff --git scripts/run.sh scripts/run.sh\nold mode 100644\nnew mode 100755\n", "scripts/run.sh"},
		{"no prefix, quoted", "diff --git \"fs/\\303\\274.c\" \"fs/\\303\\274.c\"\n" + old("\"fs/\\303\\274.c\"", "\"fs/\\303\\274.c\""), "fs/ü.c"},
		{"no prefix, below a folder a", "diff --git a/new.c a/new.c\nnew file mode 100644\n--- /dev/null\n+++ a/new.c\n@@ -0,0 +1 @@\n+n\n", "a/new.c"},
		{"no prefix, from b to a", "diff --git b/y.c a/z.c\nsimilarity index 100%\nrename from b/y.c\nrename to a/z.c\n", "a/z.c"},
		{"the same prefix twice", "diff --git a/fs/y.c a/fs/y.c\n" + old("a/fs/y.c", "a/fs/y.c"), "fs/y.c"},
		{"other prefixes", "diff --git i/fs/y.c w/fs/y.c\n" + old("i/fs/y.c", "w/fs/y.c"), "fs/y.c"},
		{"other prefixes, of two folders", "diff --git x/y/fs/n.c x/z/fs/n.c\nnew file mode 100644\n--- /dev/null\n+++ x/z/fs/n.c\n@@ -0,0 +1 @@\n+n\n", "names two files and moves none"},
		{"a name with a space", "diff --git a/fs/y z.c b/fs/y z.c\n" + old("a/fs/y z.c", "b/fs/y z.c\t"), "fs/y z.c"},
		{"diff -ru", old("linux.orig/fs/y.c\t2020-01-01 10:00:00", "linux/fs/y.c\t2020-01-02 10:00:00"), "fs/y.c"},
		{"diff -ru with dots", old("./linux.orig/fs/y.c\t2020-01-01 10:00:00", "./linux/fs/y.c\t2020-01-02 10:00:00"), "fs/y.c"},
		{"diff -u in the tree, with dots", old("./fs/y.c\t2020-01-01 10:00:00", "./fs/y.c\t2020-01-02 10:00:00"), "fs/y.c"},
		{"diff -u in the tree", old("fs/y.c\t2020-01-01 10:00:00", "fs/y.c\t2020-01-02 10:00:00"), "fs/y.c"},
		{"diff of orig files", old("fs/y.c.orig", "fs/y.c"), "fs/y.c"},
		{"Index: of quilt", "Index: linux/fs/y.c\n=====\n" + old("linux.orig/fs/y.c", "linux/fs/y.c"), "fs/y.c"},
		{"Index: of Subversion", "Index: bfd/y.c\n=====\n" + old("bfd/y.c\t(revision 1)", "bfd/y.c\t(working copy)"), "bfd/y.c"},
		{"the same folder twice", old("linux/fs/y.c", "linux/fs/y.c"), "fs/y.c"},
		{"unknown folders", old("foo/y.c", "foo/y.c"), "it cannot be told whether foo/"},
		{"new by /dev/null, -p0", "--- /dev/null\n+++ fs/n.c\n@@ -0,0 +1 @@\n+n\n", "fs/n.c"},
		{"new by /dev/null, -p1", "--- /dev/null\n+++ linux/fs/n.c\n@@ -0,0 +1 @@\n+n\n", "fs/n.c"},
		{"new by the date of 1970", "--- linux.orig/fs/n.c\t1970-01-01 01:00:00.000000000 +0100\n+++ linux/fs/n.c\t2020-01-01 10:00:00.0 +0100\n@@ -0,0 +1 @@\n+n\n", "fs/n.c"},
		{"Only in", old("l.orig/fs/y.c", "l/fs/y.c") + "Only in l/fs: new.c\n", "new.c is not in the diff"},
		{"Only in, before", "Only in l/fs: new.c\n" + old("l.orig/fs/y.c", "l/fs/y.c"), "new.c is not in the diff"},
		{"Files differ", old("l.orig/fs/y.c", "l/fs/y.c") + "Files l.orig/a.bin and l/a.bin differ\n", "the change of a.bin is not in the diff"},
		{"Only in, in German", "diff -ru l.orig/fs/y.c l/fs/y.c\n" + old("l.orig/fs/y.c", "l/fs/y.c") + "Nur in l/fs: new.c.\n", "a file whose change is not in the diff"},
		{"a binary file, in French", "Les fichiers binaires l.orig/a et l/a sont différents\ndiff -ru l.orig/fs/y.c l/fs/y.c\n" + old("l.orig/fs/y.c", "l/fs/y.c"), "a file whose change is not in the diff"},
		{"a compiler's words above a diff -r", "It fails:\n l/fs/z.c:143: undefined reference to `log'\ndiff -ru l.orig/fs/y.c l/fs/y.c\n" + old("l.orig/fs/y.c", "l/fs/y.c"), "fs/y.c"},
		{"a header line that is joined", "diff --git a/fs/y.c b/fs/y.c index 1234567..7654321 100644\n" + old("a/fs/y.c", "b/fs/y.c"), "joined with the next one by a mailer"},
		{"a header line that is broken behind a folder", "diff --git a/fs/y.c b/fs/\ny.c\nindex 1234567..7654321 100644\n" + old("a/fs/y.c", "b/fs/y.c"), "broken in two by a mailer"},
		{"other prefixes of git's own kind", "diff --git a/fs/y.c b/linux/fs/y.c\n" + old("a/fs/y.c", "b/linux/fs/y.c"), "names two files and moves none"},
		{"prose that names the file", "It is in l/fs/y.c: twice.\n" + old("l.orig/fs/y.c", "l/fs/y.c"), "fs/y.c"},
		{"against y.c.new", old("a/fs/y.c", "b/fs/y.c.new"), "fs/y.c"},
		{"a new file that nothing says is one", "--- a/fs/n.c\n+++ b/fs/n.c\n@@ -0,0 +1 @@\n+n\n", "fs/n.c"},
		{"deleted by git's -D", "diff --git a/fs/y.c b/fs/y.c\ndeleted file mode 100644\nindex 1234567..0000000\n", "without -D"},
		{"an empty file deleted", "diff --git a/fs/y.c b/fs/y.c\ndeleted file mode 100644\nindex e69de29..0000000\n", "fs/y.c"},
		{"a deleted line of dashes", "--- a/fs/y.c\n+++ b/fs/y.c\n@@ -1,2 +1,1 @@\n--- x\n a\n", "fs/y.c"},
		{"a merge's diff", "diff --git a/fs/y.c b/fs/y.c\n" + old("a/fs/y.c", "b/fs/y.c") + "diff --cc fs/z.c\nindex 1,2..3\n--- a/fs/z.c\n+++ b/fs/z.c\n@@@ -1,1 -1,1 +1,1 @@@\n- a\n++b\n", "combined diff"},
		{"CR LF", strings.ReplaceAll(old("a/fs/y.c", "b/fs/y.c"), "\n", "\r\n"), "fs/y.c"},
		{"wrapped index line", "diff --git a/fs/y.c b/fs/y.c\nindex 1..2\n100644\n" + old("a/fs/y.c", "b/fs/y.c"), "not followed by a hunk"},
		{"log, newest first by blobs", log(y, d1, "bbbbbbb", "ccccccc") + log(x, d2, "aaaaaaa", "bbbbbbb"), "t1 t2"},
		{"log, oldest first by blobs", log(x, d2, "aaaaaaa", "bbbbbbb") + log(y, d1, "bbbbbbb", "ccccccc"), "t1 t2"},
		{"log, by dates", log(x, d1, "aaaaaaa", "bbbbbbb") + strings.ReplaceAll(log(y, d2, "ddddddd", "eeeeeee"), "y.c", "z.c"), "t1 t2"},
		{"log without -p", "commit " + x + "\nAuthor: A <a@b.c>\nDate:   " + d1 + "\n\n    t\n\n" + log(y, d2, "a", "b"), "print the log with -p"},
		{"log with a merge", "commit " + x + "\nMerge: aaaaaaa bbbbbbb\nAuthor: A <a@b.c>\nDate:   " + d1 + "\n\n    m\n\n" + log(y, d2, "a", "b"), "t2"},
		{"log --oneline", x + " first thing\ndiff --git a/fs/y.c b/fs/y.c\n" + old("a/fs/y.c", "b/fs/y.c") + y + " second thing\ndiff --git a/fs/z.c b/fs/z.c\n" + old("a/fs/z.c", "b/fs/z.c"), "second thing first thing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Read(write(t, t.TempDir(), "x.diff", tc.text))
			if err != nil {
				if !strings.Contains(err.Error(), tc.want) {
					t.Errorf("Read() = %v; want %q", err, tc.want)
				}
				return
			}
			var got []string
			for _, p := range s.Patches {
				if strings.Contains(tc.name, "log") {
					got = append(got, p.Subject)
					continue
				}
				for _, f := range p.Files {
					got = append(got, f.Name())
				}
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("Read() = %q; want %q", got, tc.want)
			}
		})
	}
}

// What stands above a diff names its author in the forms of other tools.
func TestPlainNamesTheAuthor(t *testing.T) {
	hg := func(title string) string {
		return "# HG changeset patch\n# User Ada L <ada@b.c>\n# Date 1588579200 -7200\n#      Mon May 04 10:00:00 2020 +0200\n# Node ID 0123456789ab\n# Parent  89abcdef0123\n" + title + "\n\nWhy.\n\n" + plainDiff
	}
	at := time.Date(2020, 5, 4, 8, 0, 0, 0, time.UTC)
	type told struct {
		Author, Email, Subject, Body string
		Date                         time.Time
	}
	for _, tc := range []struct {
		name, text string
		want       []told
	}{
		{"hg export", hg("one"), []told{{"Ada L", "ada@b.c", "one", "Why.", at}}},
		{"hg export of two", hg("one") + hg("two"), []told{{"Ada L", "ada@b.c", "one", "Why.", at}, {"Ada L", "ada@b.c", "two", "Why.", at}}},
		{"hg export, CR LF", strings.ReplaceAll(hg("one"), "\n", "\r\n"), []told{{"Ada L", "ada@b.c", "one", "Why.", at}}},
		{"StGit", "one\n\nFrom: Ada L <ada@b.c>\n\nWhy.\n---\n x | 1 +\n\n" + plainDiff, []told{{"Ada L", "ada@b.c", "one", "Why.", time.Time{}}}},
		{"StGit with a date", "one\n\nAuthor: Ada L <ada@b.c>\nDate: Mon, 4 May 2020 10:00:00 +0200\n\nWhy.\n---\n\n" + plainDiff, []told{{"Ada L", "ada@b.c", "one", "Why.", at}}},
		{"DEP-3", "Description: one\n Why.\n .\n And more.\nAuthor: Ada L <ada@b.c>\nOrigin: upstream\n---\nThis header follows DEP-3\n" + plainDiff,
			[]told{{"Ada L", "ada@b.c", "one", "Why.\n\nAnd more.\n\nOrigin: upstream", time.Time{}}}},
		{"DEP-3, the author first", "Author: Ada L <ada@b.c>\nDescription: one\n" + plainDiff, []told{{"Ada L", "ada@b.c", "one", "", time.Time{}}}},
		{"prose", "It was broken.\n\nFromage: yes\n" + plainDiff, []told{{"", "", "x", "It was broken.\n\nFromage: yes", time.Time{}}}},
		{"a commit that prose names", "Since 0123456 a thing is broken.\n0123456 a thing\n\n" + plainDiff, []told{{"", "", "x", "Since 0123456 a thing is broken.\n0123456 a thing", time.Time{}}}},
		{"PowerShell", utf16(strings.ReplaceAll(plainDiff, "\n", "\r\n")), []told{{"", "", "x", "", time.Time{}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Read(write(t, t.TempDir(), "x.diff", tc.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []told
			for _, p := range s.Patches {
				date := p.Date
				if !date.IsZero() {
					date = date.UTC()
				}
				got = append(got, told{p.Author, p.Email, p.Subject, p.Body, date})
				if len(p.Files) != 1 || len(p.Files[0].Hunks) != 1 {
					t.Errorf("%s: %d files; want one with one hunk", p.Subject, len(p.Files))
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Read() (-want +got):\n%s", diff)
			}
		})
	}
}

// utf16 is a text as PowerShell writes it.
func utf16(text string) string {
	var s strings.Builder
	s.WriteString("\xff\xfe")
	for i := range len(text) {
		s.WriteByte(text[i])
		s.WriteByte(0)
	}
	return s.String()
}

// The text that PGP signed has another dash in front of its own.
func TestReadTakesSignedText(t *testing.T) {
	signed := "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + strings.ReplaceAll("Why.\n---\n"+plainDiff, "\n-", "\n- -") +
		"-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
	s, err := Read(write(t, t.TempDir(), "m", letterText("[PATCH] one", signed)))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Patches[0]; got.Body != "Why." || string(got.Diff) != plainDiff {
		t.Errorf("Read() = %q, %q; want the text as it was signed", got.Body, got.Diff)
	}
}

// A folder that holds the series says which one is meant.
func TestReadNamesTheSeriesInside(t *testing.T) {
	dir := t.TempDir()
	inner := filepath.Join(dir, "debian", "patches")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, inner, "series", "x.diff\n")
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "give that folder, PATCH="+inner) {
		t.Errorf("Read() = %v; want the folder named", err)
	}
}

func TestParseDate(t *testing.T) {
	const want = "2020-05-04T08:00:00Z"
	for _, value := range []string{
		"Mon, 4 May 2020 10:00:00 +0200", "Mon, 04 May 2020 10:00:00 +0200 (CEST)", "4 May 2020 10:00:00 +0200", "Mon, 4 May 2020 08:00:00 GMT",
		"Mon, 4 May 2020 10:00:00 CEST", "Mon, 4 May 2020 04:00:00 EDT", "Mon, 4 May 2020 08:00:00 -0000", "Mon, 4 May 2020 08:00:00",
		"Mon May  4 10:00:00 2020 +0200", "Mon May  4 10:00:00 CEST 2020", "Mon May 4 08:00:00 2020",
		"2020-05-04 10:00:00 +0200", "2020-05-04T10:00:00+02:00", "2020-05-04T08:00:00Z", "2020/05/04 10:00:00 +0200",
		"1588579200 +0200", "@1588579200 +0200", "1588579200", "Mon, 4 May 2020 10:00 +0200", "Monday, May 4, 2020 8:00 AM", "05/04/2020 08:00", "4.5.2020 08:00",
		"Mon, 4 May 2020 8:0:0 GMT", "Mon, 4 May 2020 07:59:60 GMT", "Mon, 4 May 2020 10:00:00 \"CEST\"", "4th May 2020 10:00:00 +0200",
		"May 4th, 2020 10:00:00 +0200", "Mon, 4 May 2020 10:00:00 UTC+0200", "Mon, 4 May 2020 10:00:00 GMT+2", "10:00:00 4 May 2020 +0200",
		"Mon, 4 May 2020 10:00:00.5 +02:00", "20200504T080000Z", "20200504T100000+0200", "4 May 20 10:00:00 +0200", "Sun, 3 May 2020 24:00:00 -0800",
	} {
		got, ok := parseDate(value)
		if !ok || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("parseDate(%q) = %v, %v; want %s", value, got, ok, want)
		}
	}
	for _, value := range []string{"", "bogus", "Mon, 4 Mai 2020 10:00:00 +0200", "99999999999999", "Mon, 4 May 2020 25:00:00 +0200", "Mon, 31 Feb 2020 10:00:00 +0200"} {
		if got, ok := parseDate(value); ok {
			t.Errorf("parseDate(%q) = %v; want none", value, got)
		}
	}
}

func TestReadPacked(t *testing.T) {
	mail := letterText("[PATCH v2 1/1] x", "Why.\n---\n"+plainDiff)
	var gz, x, zs bytes.Buffer
	for _, err := range []error{
		func() error { w := gzip.NewWriter(&gz); _, err := w.Write([]byte(mail)); return cmpErr(err, w.Close()) }(),
		func() error {
			w, err := xz.NewWriter(&x)
			if err != nil {
				return err
			}
			_, err = w.Write([]byte(mail))
			return cmpErr(err, w.Close())
		}(),
		func() error {
			w, err := zstd.NewWriter(&zs)
			if err != nil {
				return err
			}
			_, err = w.Write([]byte(mail))
			return cmpErr(err, w.Close())
		}(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var twice bytes.Buffer
	again := gzip.NewWriter(&twice)
	if _, err := again.Write(gz.Bytes()); cmpErr(err, again.Close()) != nil {
		t.Fatal("not packed")
	}
	for name, data := range map[string]string{"a.mbox": mail, "a.mbox.gz": gz.String(), "a.eml.gz": twice.String(), "a.mbox.xz": x.String(), "a.mbox.zst": zs.String()} {
		s, err := Read(write(t, t.TempDir(), name, data))
		if err != nil || s.Name != "a" || s.Version != 2 || len(s.Patches) != 1 || s.Patches[0].Subject != "x" {
			t.Errorf("Read(%s) = %+v, %v", name, s, err)
		}
	}
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func TestReadSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	b := write(t, dir, "b.eml", letterText("[PATCH 1/2] first", "Why.\n---\n"+plainDiff))
	a := write(t, dir, "a.eml", letterText("[PATCH 2/2] second", "Why.\n---\n"+stepDiff))
	d := write(t, dir, "c.diff", plainDiff)
	for _, tc := range []struct {
		path string
		want []string
	}{
		{a + " " + b, []string{"first", "second"}},
		{d + " " + a, []string{"c", "second"}},
	} {
		s, err := Read(tc.path)
		if err != nil {
			t.Errorf("Read(%s): %v", tc.path, err)
			continue
		}
		var got []string
		for _, p := range s.Patches {
			got = append(got, p.Subject)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("Read(%s) (-want +got):\n%s", tc.path, diff)
		}
	}
	if _, err := Read(a + " none.eml"); err == nil || !strings.HasSuffix(err.Error(), "there is no file none.eml") {
		t.Errorf("Read() = %v; want the file that is missing", err)
	}
}

// TestReadReversed takes a quilt patch back that is applied, and one that lies flat.
func TestReadReversed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "series", "flat.patch -p0\nflat.patch.2 -R -p 0\n")
	flat := strings.NewReplacer("a/fs", "fs", "b/fs", "fs").Replace(diffAt(5))
	write(t, dir, "flat.patch", letterText("[PATCH 1/3] lib: flat", flat))
	write(t, dir, "flat.patch.2", flat)
	s, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Patches[0].Subject; got != "lib: flat" {
		t.Errorf("the title of the mail is %q", got)
	}
	repo := treeRepo(t)
	for _, p := range s.Patches {
		mustGit(t, repo, string(p.MailMessage()), "am", "-q")
	}
	want, err := os.ReadFile(filepath.Join("testdata", "tree", "fs", "x.c"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(repo, "fs", "x.c"))
	if err != nil || !bytes.Equal(got, want) || len(s.Patches) != 2 {
		t.Errorf("%d patches, after the reversed one fs/x.c = %v\n%s", len(s.Patches), err, got)
	}
}
