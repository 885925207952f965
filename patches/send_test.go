package patches

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// outgoingMail is a mail as git format-patch writes it.
func outgoingMail(head, subject, body string) string {
	return fmt.Sprintf("From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: A Developer <a@example.org>\nDate: Wed, 13 May 2020 10:00:00 +0000\n%sSubject: %s\n\n%s\n", head, subject, body)
}

const (
	signedBody = "Why.\n\nSigned-off-by: A Developer <a@example.org>\n---\n"
	oneChange  = "--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-a\n+b\n"
)

// What is right is told by nothing; each case breaks one thing, in one mail.
func TestReadOutgoing(t *testing.T) {
	good := map[string]string{
		"v2-0000-cover-letter.patch": outgoingMail("Message-ID: <0@x>\n", "[PATCH v2 0/2] a: better", "Better.\n\nChanges since v1:\n- all"),
		"v2-0001-a-one.patch":        outgoingMail("Message-ID: <1@x>\nIn-Reply-To: <0@x>\n", "[PATCH v2 1/2] a: one", signedBody+oneChange),
		"v2-0002-a-two.patch":        outgoingMail("Message-ID: <2@x>\nReferences: <0@x> <1@x>\n", "[PATCH v2 2/2] a: two", signedBody+oneChange),
	}
	const cover, one, two = "v2-0000-cover-letter.patch", "v2-0001-a-one.patch", "v2-0002-a-two.patch"
	for _, test := range []struct {
		name, file, old, new string
		want                 []string
		person               bool
	}{
		{name: "as it should be"},
		{name: "no mail", file: two, want: []string{"0/2: it says that there are 2 patches, and there are 1"}},
		{name: "no cover", file: cover, want: []string{
			"2 patches have no cover letter; git format-patch --cover-letter writes one",
			"1/2: version 2 does not say what changed since the one before",
		}},
		{"not filled in", cover, "a: better", subjectTemplate, []string{"0/2: the cover letter is not filled in"}, false},
		{"no text", cover, "Better.", blurbTemplate, []string{"0/2: the cover letter is not filled in"}, false},
		{"no changes", cover, "Changes since v1:", "", []string{"0/2: version 2 does not say what changed since the one before"}, false},
		{"a cover letter of commits only", cover, "Better.\n\nChanges since v1:\n- all", "A Developer (2):\n  a: one\n  a: two\n\nChanges since v1: all", []string{"0/2: the cover letter has no text"}, false},
		{"a cover letter without a tag", cover, "[PATCH v2 0/2]", "[v2 0/2]", []string{"0/2: the subject has no [PATCH]"}, false},
		{name: "a diff from the version before", file: cover, old: "Changes since v1:\n- all", new: "Interdiff against v1:\ndiff --git a/a.c b/a.c\n" + oneChange},
		{name: "other words for changes", file: cover, old: "Changes since v1:", new: "Changed in v2:"},
		{name: "a history", file: cover, old: "Changes since v1:\n- all", new: "Version history:\nv2 - rebased"},
		{name: "letters of two bytes", file: two, old: "a: two", new: "a: " + strings.Repeat("ä", 72)},
		{name: "a revert", file: two, old: "a: two", new: `Revert "Merge branch x"`},
		{"for a rebase", two, "a: two", "fixup! a: one", []string{"2/2: it belongs into the commit that it names; git rebase -i --autosquash puts it there"}, false},
		{"trailers alone", two, "Why.", "Fixes: 012345678901 (\"a: zero\")", []string{"2/2: it has no message that says why"}, false},
		{"another version", one, "v2 1/2", "1/2", []string{"1/2: it is of version 1, and 0/2 of version 2"}, false},
		{"another number", two, "2/2", "1/2", []string{"1/2: two patches have this number", "1/2: it is mail 2 by the names of the files"}, false},
		{"not numbered", two, "v2 2/2", "v2", []string{"v2-0002-a-two.patch: it has no number; git format-patch -n numbers a series"}, false},
		{"an answer", two, "[PATCH v2 2/2]", "Re: [PATCH v2 2/2]", []string{"2/2: the subject begins as an answer's does"}, false},
		{"no tag", two, "[PATCH v2 2/2]", "[v2 2/2]", []string{"2/2: the subject has no [PATCH]"}, false},
		{"no area", two, "a: two", "two", []string{`2/2: the subject "two" does not begin with what it changes, as in "io_uring: "`}, false},
		{"a full stop", two, "a: two", "a: two.", []string{"2/2: the subject ends in a full stop"}, false},
		{"long", two, "a: two", "a: " + strings.Repeat("x", 73), []string{"2/2: the subject has 76 characters; want at most 75"}, false},
		{"the same", two, "a: two", "a: one", []string{"2/2: the subject is that of 1/2, too"}, false},
		{"no message", two, "Why.", "", []string{"2/2: it has no message that says why"}, false},
		{"out of the thread", two, "References: <0@x> <1@x>\n", "", []string{"2/2: it answers neither 0/2 nor a patch before it, so that it falls out of the thread"}, false},
		{"no id", two, "Message-ID: <2@x>\n", "", []string{"2/2: it has no Message-ID, and others have"}, false},
		{"an id twice", two, "<2@x>", "<0@x>", []string{"2/2: its Message-ID is another mail's, too"}, false},
		{"not signed", two, "Signed-off-by: A Developer <a@example.org>\n", "", []string{"2/2: no Signed-off-by; whoever sends it has to give it (git rebase --signoff)"}, true},
		{"signed by another", two, "by: A Developer <a@", "by: B Developer <b@", []string{"2/2: it is from A Developer <a@example.org> and not signed off by the author"}, true},
		{"nobody", two, "From: A Developer <a@example.org>", "From: A Developer <a@host.(none)>", []string{"2/2: the author is A Developer <a@host.(none)>; a person's name belongs there (git commit --amend --author)"}, true},
	} {
		dir := t.TempDir()
		for name, text := range good {
			if name == test.file {
				if test.old == "" && test.new == "" {
					continue
				}
				broken := strings.Replace(text, test.old, test.new, 1)
				if broken == text {
					t.Fatalf("%s: %q is not in the mail", test.name, test.old)
				}
				text = broken
			}
			write(t, dir, name, text)
		}
		out, err := ReadOutgoing(dir)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		var got []string
		for _, f := range out.Flaws {
			got = append(got, f.String())
			if f.Person != test.person {
				t.Errorf("%s: %q: for a person %t; want %t", test.name, f, f.Person, test.person)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: flaws (-want +got):\n%s", test.name, diff)
		}
	}
	if _, err := ReadOutgoing(write(t, t.TempDir(), "a.patch", oneChange)); err == nil || !strings.Contains(err.Error(), "is no mail") {
		t.Errorf("a diff: %v; want an error that says it is no mail", err)
	}
}

// A lone patch needs neither a number nor a cover letter.
func TestReadOutgoingAlone(t *testing.T) {
	for subject, want := range map[string]int{"[PATCH] a: one": 0, "[PATCH 1/1] a: one": 0, "[PATCH 1/2] a: one": 1} {
		out, err := ReadOutgoing(write(t, t.TempDir(), "0001-a-one.patch", outgoingMail("", subject, signedBody+oneChange)))
		if err != nil || len(out.Flaws) != want {
			t.Errorf("%s: %v, %v; want %d flaws", subject, out.Flaws, err, want)
		}
	}
}
