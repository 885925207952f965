package patches

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sketch is a mail for a test; what is left empty gets a usual value.
type sketch struct {
	subject, from, id, re, date, body, headers string
	// line is the line that the diff changes, 0 for a mail without a diff.
	line int
}

// diffAt changes one line of fs/x.c in testdata/tree.
func diffAt(line int) string {
	n := max(line-3, 1)
	var b strings.Builder
	fmt.Fprintf(&b, "diff --git a/fs/x.c b/fs/x.c\n--- a/fs/x.c\n+++ b/fs/x.c\n@@ -%d,%d +%d,%d @@\n", n, line+3-n+1, n, line+3-n+1)
	for i := n; i <= line+3; i++ {
		if i == line {
			fmt.Fprintf(&b, "-int line%d;\n+int line%da;\n", i, i)
			continue
		}
		fmt.Fprintf(&b, " int line%d;\n", i)
	}
	return b.String()
}

func (s sketch) String() string {
	var b strings.Builder
	or := func(value, usual string) string {
		if value == "" {
			return usual
		}
		return value
	}
	fmt.Fprintf(&b, "From mboxrd@z Thu Jan  1 00:00:00 1970\nFrom: %s\nDate: %s\nSubject: %s\n",
		or(s.from, "Ada <ada@example.org>"), or(s.date, "Sat, 2 May 2020 10:00:00 +0200"), s.subject)
	if s.id != "" {
		fmt.Fprintf(&b, "Message-ID: <%s>\n", s.id)
	}
	if s.re != "" {
		fmt.Fprintf(&b, "In-Reply-To: <%s>\n", s.re)
	}
	b.WriteString(s.headers + "\n" + or(s.body, "Why.") + "\n")
	if s.line > 0 {
		b.WriteString("---\n" + diffAt(s.line) + "-- \n2.39\n")
	}
	b.WriteString("\n")
	return b.String()
}

// However often a thread is read, it is the same series, and the same is said of it.
func TestThreadIsReadAlike(t *testing.T) {
	var text strings.Builder
	for n := range 6 {
		id, subject := fmt.Sprint(n), fmt.Sprintf("[PATCH %d/6] x", n+1)
		text.WriteString(sketch{subject: subject, id: id, line: 4 + 3*n}.String())
		text.WriteString(sketch{subject: subject, id: "re" + id, re: id, from: "Bo <bo@example.org>", line: 5 + 3*n}.String())
	}
	file := write(t, t.TempDir(), "t.mbox", text.String())
	told := func() string {
		s, err := Read(file)
		if err != nil {
			t.Fatal(err)
		}
		return s.Describe()
	}
	first := told()
	for range 20 {
		if diff := cmp.Diff(first, told()); diff != "" {
			t.Fatalf("read again (-first +again):\n%s", diff)
		}
	}
}

// TestThreads sets threads as people send them against the lines that their series
// changes, or the refusal.
func TestThreads(t *testing.T) {
	const bo = "Bo <bo@example.org>"
	const later, latest = "Sun, 3 May 2020 10:00:00 +0200", "Mon, 4 May 2020 10:00:00 +0200"
	v1 := []sketch{{subject: "[PATCH 0/2] cover", id: "c"}, {subject: "[PATCH 1/2] a", id: "1", re: "c", line: 5}, {subject: "[PATCH 2/2] b", id: "2", re: "c", line: 15}}
	v2 := []sketch{{subject: "[PATCH v2 0/2] cover", id: "C", re: "c", date: later}, {subject: "[PATCH v2 1/2] a", id: "11", re: "C", line: 6, date: later}, {subject: "[PATCH v2 2/2] b", id: "22", re: "C", line: 16, date: later}}
	mail := "Subject: [PATCH 1/1] %s\nFrom: Ada <ada@example.org>\n\nBecause.\n---\n%s"
	attached := func(mails ...string) (headers, body string) {
		for _, m := range mails {
			body += "--XX\nContent-Type: text/plain\nContent-Disposition: attachment; filename=x.patch\n\n" + m + "\n"
		}
		return "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"XX\"\n", "--XX\nContent-Type: text/plain\n\nSee below.\n\n" + body + "--XX--\n"
	}
	mimeHeaders, example := attached(fmt.Sprintf(mail, "an example", diffAt(25)))
	_, examples := attached(fmt.Sprintf(mail, "an example", diffAt(25)), fmt.Sprintf(strings.Replace(mail, "1/1", "1/2", 1), "another", diffAt(35)))
	with := func(base []sketch, more ...sketch) []sketch { return append(append([]sketch{}, base...), more...) }
	for _, tc := range []struct {
		name    string
		mails   []sketch
		version int
		// want are the changed lines of the patches, in order, or a part of the refusal.
		want string
		// said must be in the notes or what was left.
		said string
	}{
		{"series", v1, 0, "5 15", "2 patches, cover letter: cover"},
		{"two versions", with(v1, v2...), 0, "6 16", "v2 (v1 is there, too)"},
		{"two versions, the newer first", with(v2, v1...), 0, "6 16", "v2 (v1 is there, too)"},
		{"version asked for", with(v1, v2...), 1, "5 15", "left out: v2: another version was asked for"},
		{"unknown version", with(v1, v2...), 3, "there is no version 3; it has v1 and v2", ""},
		{"latest incomplete", with(v1, v2[0], v2[1]), 0, "5 15", "left out: v2: patch 2/2 is missing (the cover letter says that there are 2)"},
		{"only the newer cover", with(v1, v2[0]), 0, "5 15", "left out: the cover letter of v2 (cover)"},
		{"partial reroll", with(v1, sketch{subject: "[PATCH v2 2/2] b", id: "22", re: "2", line: 16}), 0, "5 16", "1/2, which v2 does not have, from v1"},
		{"partial reroll of a reroll", with(v1, sketch{subject: "[PATCH v2 2/2] b", id: "22", re: "2", line: 16}, sketch{subject: "[PATCH v3 2/2] b", id: "32", re: "22", line: 17}), 0, "5 17", "1/2, which v3 does not have, from v1"},
		{"partial reroll by v1.1", with(v1, sketch{subject: "[PATCH v1.1 2/2] b", id: "22", re: "2", line: 16}), 0, "5 16", "v1.1"},
		{"one patch again, without a version", with(v1, sketch{subject: "[PATCH 2/2] b", id: "22", re: "2", line: 16, date: later}), 0, "5 16", "is a newer 2/2 in reply to it"},
		{"one patch again, out of the thread", with(v1, sketch{subject: "[PATCH 2/2] b", id: "22", line: 16, date: later}), 0, "and message 3 are both 2/2; keep one", ""},
		{"resend without a mark", with(v1, sketch{subject: "[PATCH 1/2] a", id: "1r", line: 6, date: later}, sketch{subject: "[PATCH 2/2] b", id: "2r", re: "1r", line: 16, date: latest}), 0, "6 16", "sent later"},
		{"RESEND", with(v1, sketch{subject: "[PATCH RESEND 0/2] cover", id: "cr", date: later}, sketch{subject: "[RESEND PATCH 1/2] a", id: "1r", re: "cr", line: 5, date: later}, sketch{subject: "[PATCH RESEND 2/2] b", id: "2r", re: "cr", line: 15, date: later}), 0, "5 15", "message 6 is the same patch, sent later"},
		{"version in the cover only", []sketch{{subject: "[PATCH v3 0/2] cover", id: "c"}, v1[1], v1[2]}, 0, "5 15", "v3"},
		{"RFC, tree and two digits", []sketch{{subject: "[RFC PATCH v3 net-next 02/02] b", id: "2", line: 15}, {subject: "[RFC PATCH v3 net-next 01/02] a", id: "1", line: 5}}, 0, "5 15", "v3"},
		{"patchwork's commas", []sketch{{subject: "[v2,2/2] b", id: "2", line: 15}, {subject: "[v2,1/2] a", id: "1", line: 5}}, 0, "5 15", "v2"},
		{"PATCHv2", []sketch{{subject: "[PATCHv2 2/2] b", id: "2", line: 15}, {subject: "[PATCHv2 1/2] a", id: "1", line: 5}}, 0, "5 15", "v2"},
		{"list prefix", []sketch{{subject: "[foo-list] [PATCH 2/2] b", id: "2", line: 15}, {subject: "[foo-list] [PATCH 1/2] a", id: "1", line: 5}, {subject: "[foo-list] Re: [PATCH 1/2] a", id: "3", re: "1", line: 25}}, 0, "5 15", ""},
		{"several stable trees", []sketch{{subject: "[PATCH 5.4/5.10/5.15 2/2] b", id: "2", line: 15}, {subject: "[PATCH 5.4/5.10/5.15 1/2] a", id: "1", line: 5}}, 0, "5 15", ""},
		{"2.5/3", []sketch{{subject: "[PATCH 2.5/3] h", id: "h", line: 20}, {subject: "[PATCH 1/3] a", id: "1", line: 5}, {subject: "[PATCH 2/3] b", id: "2", line: 15}, {subject: "[PATCH 3/3] c", id: "3", line: 25}}, 0, "5 15 20 25", ""},
		{"4/3 without 3/3", []sketch{{subject: "[PATCH 4/3] h", id: "h", line: 20}, {subject: "[PATCH 1/3] a", id: "1", line: 5}, {subject: "[PATCH 2/3] b", id: "2", line: 15}}, 0, "patch 3/3 is missing", ""},
		{"lone 2/3", []sketch{{subject: "[PATCH 2/3] b", id: "2", line: 15}}, 0, "patches 1/3 and 3/3 are missing", ""},
		{"1/1", []sketch{{subject: "[PATCH 1/1] b", id: "2", line: 15}}, 0, "15", ""},
		{"v1.1 of a patch that v2 renames", with(v1, sketch{subject: "[PATCH v1.1 2/2] b", id: "22", re: "2", line: 16},
			sketch{subject: "[PATCH v2 1/2] a", id: "31", line: 6, date: later}, sketch{subject: "[PATCH v2 2/2] B", id: "32", re: "31", line: 17, date: later}), 0, "6 17", "v2 (v1 and v1.1 are there, too)"},
		{"another's 1/1 in answer", with(v1, sketch{subject: "[PATCH 1/1] mine", id: "x", re: "1", from: bo, line: 25}), 0, "5 15", `(mine) by Bo: a reply to "a" by Ada`},
		{"another's 1/1 in answer to v2", with(with(v1, v2...), sketch{subject: "[PATCH 1/1] mine", id: "x", re: "11", from: bo, line: 25}), 0, "6 16", `(mine) by Bo: a reply to "a" by Ada`},
		{"cover of one", []sketch{{subject: "[PATCH 0/1] c", id: "c"}, {subject: "[PATCH 1/1] b", id: "2", re: "c", line: 15}}, 0, "15", ""},
		{"cover promises more", []sketch{{subject: "[PATCH 0/3] c", id: "c"}, v1[1], v1[2]}, 0, "patch 3/3 is missing (the cover letter says that there are 3)", ""},
		{"cover, and a patch without a number", []sketch{{subject: "[PATCH 0/2] c", id: "c"}, {subject: "[PATCH] b", id: "2", re: "c", line: 15}}, 0, "missing", ""},
		{"answer with a diff, Re:", with(v1, sketch{subject: "Re: [PATCH 2/2] b", id: "r", re: "2", from: bo, line: 25}), 0, "5 15", "a reply with a diff"},
		{"answer with a diff, AW:", with(v1, sketch{subject: "AW: [PATCH 2/2] b", id: "r", re: "2", from: bo, line: 25}), 0, "5 15", "a reply with a diff"},
		{"answer with a diff, its number and no Re:", with(v1, sketch{subject: "[PATCH 2/2] b", id: "r", re: "2", from: bo, line: 25}), 0, "5 15", "somebody other than the author"},
		{"answer with a diff, no PATCH, no Re:", with(v1, sketch{subject: "how about", id: "r", re: "2", from: bo, line: 25}), 0, "5 15", "how about"},
		{"robot with a version", with(v2, sketch{subject: "[PATCH v2] a: fix warning", id: "r", re: "11", from: bo, line: 25}), 0, "6 16", "not a patch of that series"},
		{"robot answers the answer", with(v1, sketch{subject: "Re: [PATCH 2/2] b", id: "r", re: "2", from: bo}, sketch{subject: "[PATCH] fix", id: "r2", re: "r", from: bo, line: 25}), 0, "5 15", "not a patch of that series"},
		{"counter-proposal as a series", with(v1, sketch{subject: "[PATCH 0/2] mine", id: "bc", re: "c", from: bo}, sketch{subject: "[PATCH 1/2] m", id: "b1", re: "bc", from: bo, line: 25}, sketch{subject: "[PATCH 2/2] n", id: "b2", re: "bc", from: bo, line: 30}), 0, "5 15", "not a patch of that series"},
		{"v2 by another", []sketch{{subject: "[PATCH] a", id: "1", line: 5}, {subject: "[PATCH v2] a", id: "2", re: "1", from: bo, line: 6, date: later}}, 0, "6", "v2 (v1 is there, too)"},
		{"same patch again, threaded", []sketch{{subject: "[PATCH] a", id: "1", line: 5}, {subject: "[PATCH] a", id: "2", re: "1", line: 6, date: later}}, 0, "6", "sent later"},
		{"another patch in answer to the own", []sketch{{subject: "[PATCH] a", id: "1", line: 5}, {subject: "[PATCH] b", id: "2", re: "1", line: 6, date: later}}, 0, "neither is numbered", ""},
		{"a set of patches among several", []sketch{{subject: "[PATCHSET 0/2] all", id: "0"}, {subject: "[PATCHSET 1/3] one of three", id: "s", re: "0"}, {subject: "[PATCH 1/2] a", id: "1", re: "s", line: 5}, {subject: "[PATCH 2/2] b", id: "2", re: "s", line: 15}}, 0, "5 15", "2 patches"},
		{"v2 with a bracket missing", []sketch{{subject: "[PATCH] a", id: "1", line: 5}, {subject: "PATCH v2] a", id: "2", re: "1", line: 6, date: later}}, 0, "6", "v2 (v1 is there, too)"},

		{"a series of the author's from another address", []sketch{{subject: "[PATCH] a", id: "1", from: "Ada L <ada@example.com>", line: 5}, {subject: "[PATCH 1/2] b", id: "2", re: "1", from: "Ada L <ada@example.org>", line: 6, date: later}, {subject: "[PATCH 2/2] c", id: "3", re: "1", from: "Ada L <ada@example.org>", line: 16, date: later}}, 0, "these look like two series", ""},
		{"versions before the title", []sketch{{subject: "[PATCH] v2: a", id: "1", line: 5}, {subject: "[PATCH] a", id: "2", line: 6}}, 0, "message 2 (a) has the subject of message 1", ""},
		{"versions behind the title", []sketch{{subject: "[PATCH] a v2", id: "1", line: 5}, {subject: "[PATCH] a (v3)", id: "2", line: 6}}, 0, "message 2 (a (v3)) has the subject of message 1", ""},
		{"a patch beside the series, and a cover letter without a number", []sketch{{subject: "add x", id: "c"}, {subject: "[PATCH 1/2] a", id: "1", re: "c", line: 5}, {subject: "[PATCH 2/2] b", id: "2", re: "c", line: 15}, {subject: "[PATCH] the tests", id: "t", re: "c", line: 25}}, 0, "5 15", "a reply to the cover letter, without a number"},
		{"the first one has lost its number", []sketch{{subject: "[PATCH] a", id: "1", line: 5}, {subject: "[PATCH 2/3] b", id: "2", re: "1", line: 15}, {subject: "[PATCH 3/3] c", id: "3", re: "1", line: 25}}, 0, "5 15 25", "message 1: it has no number; taken for 1/3"},
		{"a series in answer to a patch", []sketch{{subject: "[PATCH] a", id: "1", line: 5}, {subject: "[PATCH 1/2] b", id: "2", re: "1", line: 15}, {subject: "[PATCH 2/2] c", id: "3", re: "1", line: 25}}, 0, "these look like two series", ""},
		{"patches sent together without numbers", []sketch{{subject: "[PATCH] b", id: "2", re: "1", line: 15, date: "Sat, 2 May 2020 10:00:01 +0200"}, {subject: "[PATCH] a", id: "1", line: 5}}, 0, "5 15", "in the order in which they were sent"},
		{"v1 in answer to the v2 of another patch", []sketch{{subject: "[PATCH v2] a", id: "1", line: 5}, {subject: "[PATCH] b", id: "2", re: "1", line: 15}}, 0, "they are no versions of each other", ""},
		{"two patches again, without their numbers", with(v1, sketch{subject: "[PATCH v2] b", id: "22", re: "2", line: 16, date: later}, sketch{subject: "[PATCH v2] a", id: "12", re: "1", line: 6, date: later}), 0, "6 16", "message 4: it has no number; taken for 2/2"},
		{"two patches again, one without its number", with(v1, sketch{subject: "[PATCH v2] b", id: "22", re: "2", line: 16, date: later}, sketch{subject: "[PATCH v2 1/2] a", id: "12", re: "1", line: 6, date: later}), 0, "6 16", "message 4: it has no number"},
		{"one patch again, without its number", with(v1, sketch{subject: "[PATCH v2] b", id: "22", re: "2", line: 16, date: later}), 0, "16", "it answers 2/2 and has no number itself"},
		{"3/3 in answer to a series of two", with(v1, sketch{subject: "[PATCH 3/3] c", id: "3", re: "1", line: 25, date: later}), 0, "5 15 25", "3 patches"},
		{"3/3 of another thread", with(v1, sketch{subject: "[PATCH 3/3] c", id: "3", line: 25, date: later}), 0, "these look like two series", ""},
		{"a robot that names a commit of a tree", []sketch{{subject: "[dm:dm-5.2 22/22] a.c: a warning", id: "1", from: bo}, {subject: "[PATCH dm] a", id: "2", re: "1", from: bo, line: 5}}, 0, "5", "1 patch"},
		{"patches without numbers, each of its own", []sketch{{subject: "[PATCH] a", line: 5}, {subject: "[PATCH] b", line: 15}, {subject: "[PATCH] c", line: 25}}, 0, "5 15 25", "in the order of the file"},
		{"two things of different versions", []sketch{{subject: "[PATCH v2] a", id: "1", line: 5}, {subject: "[PATCH] b", id: "2", line: 15}}, 0, "these look like two series", ""},
		{"two series", with(v1, sketch{subject: "[PATCH 1/3] x", id: "x1", from: bo, line: 20}, sketch{subject: "[PATCH 2/3] y", id: "x2", from: bo, line: 25}, sketch{subject: "[PATCH 3/3] z", id: "x3", from: bo, line: 30}), 0, "these look like two series", ""},
		{"v2 as a single patch", with(v1, sketch{subject: "[PATCH v2] both", id: "s", re: "c", line: 6, date: later}), 0, "6", "v2 (v1 is there, too)"},
		{"own addition in answer", with(v1, sketch{subject: "[PATCH] fixup", id: "s", re: "2", line: 25, date: later}), 0, "5 15", "without a number"},
		{"v2 broken", with(v1, v2[0], v2[1], sketch{subject: "[PATCH v2 2/2] b", id: "22", re: "C", body: "x\n---\n" + strings.Replace(diffAt(16), "-int line16;\n", "", 1)}), 0, "is cut short", ""},
		{"2/2 without a diff", []sketch{v1[0], v1[1], {subject: "[PATCH 2/2] b", id: "2", re: "c"}}, 0, "there is no diff in it (message 3: b)", ""},
		{"a comment with the number of a patch", with(v1, sketch{subject: "[PATCH 2/2] b", id: "r", re: "2", from: bo, body: "Nice."}), 0, "5 15", "no diff"},
		{"forwarded series", []sketch{{subject: "Fwd: [PATCH 2/2] b", id: "2", line: 15}, {subject: "Fwd: [PATCH 1/2] a", id: "1", line: 5}}, 0, "5 15", ""},
		{"only an answer has a diff", []sketch{{subject: "bug", id: "1", from: bo}, {subject: "Re: bug", id: "2", re: "1", line: 5}}, 0, "5", ""},
		{"two answers have diffs", []sketch{{subject: "bug", id: "1", from: bo}, {subject: "Re: bug", id: "2", re: "1", line: 5}, {subject: "Re: bug", id: "3", re: "2", line: 6}}, 0, "only replies have diffs", ""},
		{"the quotation alone", []sketch{{subject: "Re: [PATCH] a", id: "2", re: "1", body: "\n> diff --git a/fs/x.c b/fs/x.c\n> --- a/fs/x.c\n> +++ b/fs/x.c\n"}}, 0, "it only quotes one", ""},
		{"a patch attached to a reply", with(v1, sketch{subject: "Re: [PATCH 2/2] b", id: "r", re: "2", headers: mimeHeaders, body: example}), 0, "5 15", "a reply with a diff"},
		{"patches attached to a reply", with(v1, sketch{subject: "Re: [PATCH 2/2] b", id: "r", re: "2", headers: mimeHeaders, body: examples}), 0, "5 15", "a reply with a diff"},
		{"a patch attached to a lone reply", []sketch{{subject: "bug", id: "1", from: bo}, {subject: "Re: bug", id: "2", re: "1", headers: mimeHeaders, body: example}}, 0, "25", "attached to the mail"},
		{"patches attached to a lone reply", []sketch{{subject: "bug", id: "1", from: bo}, {subject: "Re: bug", id: "2", re: "1", headers: mimeHeaders, body: strings.NewReplacer("1/1", "", "1/2", "").Replace(examples)}}, 0, "25 35", "attached to the mail"},
		{"by References", with(v1, sketch{subject: "[PATCH] warnings", id: "r", from: bo, line: 25, headers: "References: <c> <2>\n"}), 0, "5 15", "not a patch of that series"},
		{"a diff in the cover letter", []sketch{{subject: "[PATCH v2 0/2] cover", id: "c", line: 35}, {subject: "[PATCH v2 1/2] a", id: "1", re: "c", line: 5}, {subject: "[PATCH v2 2/2] b", id: "2", re: "c", line: 15}}, 0, "5 15", "a cover letter; the diff in it"},
		{"a cover letter with a diff, alone", []sketch{{subject: "[PATCH 0/2] cover", id: "c", line: 35}}, 0, "none of its 2 patches is here", ""},
		{"RESEND of the one that was missing", []sketch{v1[0], v1[1], {subject: "[PATCH RESEND 2/2] b", id: "2r", re: "c", line: 15}}, 0, "5 15", ""},
		{"RESEND of one, changed, in reply", with(v1, sketch{subject: "[PATCH RESEND 2/2] b", id: "2r", re: "2", line: 16, date: later}), 0, "5 16", "is a newer 2/2 in reply to it"},
		{"RESEND of one, changed, out of the thread", with(v1, sketch{subject: "[PATCH RESEND 2/2] b", id: "2r", line: 16, date: later}), 0, "are both 2/2; keep one", ""},
		{"two rerolls of different patches", with(v1, sketch{subject: "[PATCH v2 1/2] a", id: "11", re: "1", line: 6}, sketch{subject: "[PATCH v3 2/2] b", id: "32", re: "2", line: 17}), 0, "6 17", "1/2, which v3 does not have, from v2"},
		{"a newer version of another series", []sketch{v1[1], v1[2], {subject: "[PATCH v2 1/2] x", id: "x1", line: 25}, {subject: "[PATCH v2 2/2] y", id: "x2", line: 30}}, 0, "these look like two series", ""},
		{"a newer version with other titles", []sketch{v1[1], v1[2], {subject: "[PATCH v2 1/2] x", id: "x1", line: 5}, {subject: "[PATCH v2 2/2] y", id: "x2", line: 15}}, 0, "5 15", "v2 (v1 is there, too)"},
		{"covers that nobody filled in", []sketch{{subject: "[PATCH 0/1] *** SUBJECT HERE ***", id: "c"}, {subject: "[PATCH 1/1] a", id: "1", re: "c", line: 5}, {subject: "[PATCH 0/2] *** SUBJECT HERE ***", id: "C"}, {subject: "[PATCH 1/2] x", id: "x1", re: "C", line: 25}, {subject: "[PATCH 2/2] y", id: "x2", re: "C", line: 30}}, 0, "these look like two series", ""},
		{"numbers with blanks", []sketch{{subject: "[PATCH 2 / 2] b", line: 15}, {subject: "[PATCH 1 / 2] a", line: 5}}, 0, "5 15", ""},
		{"number and version in one word", []sketch{{subject: "[PATCH 2/2-v3] b", line: 15}, {subject: "[PATCH 1/2-v3] a", line: 5}}, 0, "5 15", "v3"},
		{"no brackets", []sketch{{subject: "PATCH 2/2: b", line: 15}, {subject: "PATCH 1/2: a", line: 5}}, 0, "5 15", ""},
		{"no closing bracket", []sketch{{subject: "[RFC PATCH V2 2/2 b", line: 15}, {subject: "[RFC PATCH V2 1/2 a", line: 5}}, 0, "5 15", ""},
		{"round brackets, one missing", []sketch{{subject: "(PATCH 2/3) b", line: 15}, {subject: "(PATCH 1/3) a", line: 5}}, 0, "patch 3/3 is missing", ""},
		{"one of its patches by itself, from a robot", with(v1, sketch{subject: "[PATCH] b", id: "r", from: bo, line: 15, date: later}), 0, "5 15", "the same patch, in a series of 2"},
		{"one of its patches by itself, changed", with(v1, sketch{subject: "[PATCH] b", id: "r", from: bo, line: 16, date: later}), 0, "these look like two series", ""},
		{"a list's digest", []sketch{{subject: "list digest", id: "d", headers: "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=XX\n", body: "--XX\n\n" + fmt.Sprintf(strings.Replace(mail, "1/1", "1/2", 1), "a", diffAt(5)) + "\n--XX\n\n" + fmt.Sprintf(strings.Replace(mail, "1/1", "2/2", 1), "b", diffAt(15)) + "\n--XX--\n"}}, 0, "5 15", "attached to the mail"},
		{"RFC v2, and then v1", []sketch{{subject: "[RFC PATCH v2 1/2] a", id: "r1", line: 5}, {subject: "[RFC PATCH v2 2/2] b", id: "r2", re: "r1", line: 15}, {subject: "[PATCH 1/2] a", id: "1", line: 6, date: later}, {subject: "[PATCH 2/2] b", id: "2", re: "1", line: 16, date: later}}, 0, "6 16", "v2: an RFC, and older"},
		{"RFC v2 asked for", []sketch{{subject: "[RFC PATCH v2] a", id: "r1", line: 5}, {subject: "[PATCH] a", id: "1", line: 6, date: later}}, 2, "5", "v1: it is older"},
		{"v1, and then RFC v2", []sketch{{subject: "[PATCH] a", id: "1", line: 6}, {subject: "[RFC PATCH v2] a", id: "r1", line: 5, date: later}}, 0, "5", "v1: it is older"},
		{"RFC v1, and then v1", []sketch{{subject: "[RFC PATCH] a", id: "r1", line: 5}, {subject: "[PATCH] a", id: "1", line: 6, date: later}}, 0, "6", "message 2 is this patch, changed and sent later"},
		{"backports of one patch", []sketch{{subject: "[PATCH 5.10] a", id: "1", line: 5}, {subject: "[PATCH 5.15] a", id: "2", line: 6, date: later}}, 0, "is for 5.10, and message 2 (a) for 5.15; keep the one you mean", ""},
		{"backports of one series, below one cover letter", []sketch{{subject: "[SRU][J][N][PATCH 0/1] a", id: "c"}, {subject: "[SRU][J][PATCH 1/1] a", id: "1", re: "c", line: 5}, {subject: "[SRU][N][PATCH 1/1] a", id: "2", re: "c", line: 6, date: later}}, 0, "is 1/1 for n sru, and message 2 the one for j sru", ""},
		{"backports of one series", []sketch{{subject: "[PATCH 5.10 1/2] a", id: "1", line: 5}, {subject: "[PATCH 5.10 2/2] b", id: "2", re: "1", line: 15}, {subject: "[PATCH 5.15 1/2] a", id: "11", line: 6, date: later}, {subject: "[PATCH 5.15 2/2] b", id: "22", re: "11", line: 16, date: later}}, 0, "is 1/2 for 5.15, and message 1 the one for 5.10", ""},
		{"v2 of one backport", []sketch{{subject: "[PATCH OLK-5.10] a", id: "1", line: 5}, {subject: "[PATCH OLK-6.6 v2] a", id: "2", line: 6, date: later}}, 0, "these look like two series", ""},
		{"v2 for v5.10", []sketch{{subject: "[PATCH v5.10 1/2] a", id: "1", line: 5}, {subject: "[PATCH v5.10 2/2] b", id: "2", re: "1", line: 15}, {subject: "[PATCH v5.10 v2 1/2] a", id: "11", line: 6, date: later}, {subject: "[PATCH v5.10 v2 2/2] b", id: "22", re: "11", line: 16, date: later}}, 0, "6 16", "v1: it is older"},
		{"for v5.10 and for v5.4", []sketch{{subject: "[PATCH v5.10] a", id: "1", line: 5}, {subject: "[PATCH v5.4] a", id: "2", line: 6, date: later}}, 0, "is for v5.10, and message 2 (a) for v5.4", ""},
		{"v2.1", []sketch{{subject: "[PATCH v2] a", id: "1", line: 5}, {subject: "[PATCH v2.1] a", id: "2", line: 6, date: later}}, 0, "6", "v2: it is older"},
		{"v2 for another tree", []sketch{{subject: "[PATCH net] a", id: "1", line: 5}, {subject: "[PATCH net-next v2] a", id: "2", line: 6, date: later}}, 0, "6", "v1: it is older"},
		{"again, and now for a tree", []sketch{{subject: "[PATCH] a", id: "1", line: 5}, {subject: "[PATCH net] a", id: "2", line: 6, date: later}}, 0, "6", "message 2 is this patch, changed and sent later"},
		{"answers with as many patches, and no cover letter", []sketch{{subject: "[PATCH 1/2] a", id: "1", line: 5}, {subject: "[PATCH 2/2] b", id: "2", line: 15},
			{subject: "[PATCH 1/2] a", id: "3", re: "1", from: bo, line: 6, date: later}, {subject: "[PATCH 2/2] b", id: "4", re: "2", from: bo, line: 16, date: later}}, 0, "5 15", "somebody other than the author"},
		{"the same, the answers first", []sketch{{subject: "[PATCH 2/2] b", id: "4", re: "2", from: bo, line: 16, date: later}, {subject: "[PATCH 1/2] a", id: "3", re: "1", from: bo, line: 6, date: later},
			{subject: "[PATCH 1/2] a", id: "1", line: 5}, {subject: "[PATCH 2/2] b", id: "2", line: 15}}, 0, "5 15", "somebody other than the author"},
		{"list and direct copy", with(v1, sketch{subject: "[PATCH 1/2] a", id: "1", re: "c", line: 5, headers: "List-Id: <l>\n"}), 0, "5 15", "the same mail as"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var text strings.Builder
			for _, m := range tc.mails {
				text.WriteString(m.String())
			}
			s, err := ReadVersion(write(t, t.TempDir(), "t.mbox", text.String()), tc.version)
			if err != nil {
				// The folder of the test may have the numbers of lines in its name.
				lines := strings.Trim(tc.want, "0123456789 ") == ""
				if lines || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("ReadVersion() = %v; want %q", err, tc.want)
				}
				return
			}
			var got []string
			for _, p := range s.Patches {
				for _, h := range p.Files[0].Hunks {
					for _, line := range h.Lines {
						if line.New() && !line.Old() {
							got = append(got, strings.TrimSuffix(strings.TrimPrefix(line.Line, "int line"), "a;\n"))
						}
					}
				}
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("lines changed (-want +got):\n%s%s", diff, s.Describe())
			}
			if !strings.Contains(s.Describe(), tc.said) {
				t.Errorf("said:\n%s\nwant %q in it", s.Describe(), tc.said)
			}
		})
	}
}

// TestMails reads single mails in the wrappings that they come in.
func TestMails(t *testing.T) {
	const ada = "Ada <ada@example.org> 2020-05-02T08:00:00Z a|Why."
	diff := diffAt(5)
	part := func(kind, disposition, encoding, text string) string {
		return "--XX\nContent-Type: " + kind + "\n" + disposition + encoding + "\n" + text + "\n"
	}
	mixed := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"XX\"\n"
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	text := part("text/plain", "", "", "Why.\n")
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	inner := "From: Bo <bo@example.org>\nDate: Sun, 3 May 2020 10:00:00 +0000\nSubject: [PATCH] b\n\nBecause.\n---\n" + diff
	for _, tc := range []struct{ name, subject, headers, body, want string }{
		{"scissors", "Re: hm", "", "Hello.\n\n-- >8 --\nFrom: Bo <bo@example.org>\nSubject: [PATCH] b\n\nBecause.\n---\n" + diff, "Bo <bo@example.org> 2020-05-02T08:00:00Z b|Because."},
		{"in a note of -mm", "+ a.patch added to -mm tree", "", "The patch titled\n     Subject: a\nhas been added.\n\n------------------------------------------------------\nFrom: Bo <bo@example.org>\nSubject: b\n\nBecause.\n---\n" + diff, "Bo <bo@example.org> 2020-05-02T08:00:00Z b|Because."},
		{"in a note of tip", "[tip: x86/urgent] b", "", "The following commit has been merged:\n\nCommit-ID:     0123456789012345678901234567890123456789\nAuthor:        Bo <bo@example.org>\nAuthorDate:    Sun, 03 May 2020 10:00:00 \nCommitterDate: Sun, 03 May 2020 11:00:00 \n\nb\n\nBecause.\n---\n" + diff, "Bo <bo@example.org> 2020-05-03T10:00:00Z b|Because."},
		{"From replaced by a list", "[PATCH] a", "From: Bo via list <list@example.org>\nList-Post: <mailto:list@example.org>\nReply-To: Bo <bo@example.org>\n", "Why.\n---\n" + diff, "Bo <bo@example.org> 2020-05-02T08:00:00Z a|Why."},
		{"a name with via, and no list", "[PATCH] a", "From: Bo via Cy <bo@example.org>\nReply-To: Di <di@example.org>\n", "Why.\n---\n" + diff, "Bo via Cy <bo@example.org> 2020-05-02T08:00:00Z a|Why."},
		{"no subject", "", "", "The title.\n\nWhy.\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z The title.|Why."},
		{"scissors above the diff only", "[PATCH] a", "", "Why.\n\n--->8---\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|Why.\n\n--->8---"},
		{"forwarded inline", "Fwd: [PATCH] b", "", "Look.\n\n-------- Forwarded Message --------\nSubject: [PATCH] b\nDate: Sun, 3 May 2020 10:00:00 +0000\nFrom: Bo <bo@example.org>\nTo: list@example.org\n\nBecause.\n---\n" + diff, "Bo <bo@example.org> 2020-05-03T10:00:00Z b|Because."},
		{"forwarded by Gmail", "Fwd: [PATCH] b", "", "---------- Forwarded message ---------\nFrom: Bo <bo@example.org>\nDate: Sun, May 3, 2020 at 10:00 AM\nSubject: [PATCH] b\nTo: <l@example.org>\n\n\nBecause.\n---\n" + diff, "Bo <bo@example.org> 2020-05-02T08:00:00Z b|Because."},
		{"forwarded as an attachment", "Fwd: [PATCH] b", mixed, text + part("message/rfc822", "", "", inner) + "--XX--\n", "Bo <bo@example.org> 2020-05-03T10:00:00Z b|Because."},
		{"attached diff, base64", "[PATCH] a", mixed, text + part("text/x-patch; name=a.patch", "", "Content-Transfer-Encoding: base64\n", b64(diff)) + "--XX--\n", ada},
		{"attached diff, base64 with CR LF", "[PATCH] a", mixed, text + part("text/x-patch; name=a.patch", "", "Content-Transfer-Encoding: base64\n", b64(crlf(diff))) + "--XX--\n", ada},
		{"attached diff, octet-stream", "[PATCH] a", mixed, text + part("application/octet-stream", "Content-Disposition: attachment; filename=x\n", "Content-Transfer-Encoding: base64\n", b64(diff)) + "--XX--\n", ada},
		{"attached inline", "[PATCH] a", mixed, text + part("text/x-diff", "Content-Disposition: inline; filename=a.diff\n", "", diff) + "--XX--\n", ada},
		{"attached mail in base64", "patch", mixed, text + part("application/octet-stream; name=0001-b.patch", "", "Content-Transfer-Encoding: base64\n", b64(inner)) + "--XX--\n", "Bo <bo@example.org> 2020-05-03T10:00:00Z b|Because."},
		{"in the text and attached", "[PATCH] a", mixed, part("text/plain", "", "", "Why.\n---\n"+diff) + part("text/x-patch; name=a.patch", "", "", diff) + "--XX--\n", ada},
		{"broken in the text and attached", "[PATCH] a", mixed, part("text/plain", "", "", "Why.\n---\n"+strings.Replace(diff, " int line3;\n", " int\nline3;\n", 1)) + part("text/x-patch; name=a.patch", "", "", diff) + "--XX--\n", ada},
		{"two different ones", "[PATCH] a", mixed, text + part("text/x-patch; name=a.patch", "", "", diff) + part("text/x-patch; name=b.patch", "", "", diffAt(15)) + "--XX--\n", "2 different diffs"},
		{"alternative", "[PATCH] a", "MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=XX\n", part("text/plain", "", "", "Why.\n---\n"+diff) + part("text/html", "", "", "<pre>"+diff+"</pre>") + "--XX--\n", ada},
		{"alternative of HTML alone", "[PATCH] a", "MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=XX\n", part("text/html", "", "", "<pre>"+diff+"</pre>") + "--XX--\n", "HTML only"},
		{"signed", "[PATCH] a", "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=XX\n", part("text/plain", "", "", "Why.\n---\n"+diff) + part("application/pgp-signature", "", "", "-----BEGIN PGP SIGNATURE-----") + "--XX--\n", ada},
		{"quoted-printable with CR LF", "[PATCH] a", "Content-Transfer-Encoding: quoted-printable\n", "Why.\n---\n" + strings.ReplaceAll(diff, "\n", "=0D\n"), ada},
		{"base64 with a list's footer", "[PATCH] a", "Content-Transfer-Encoding: base64\n", b64("Why.\n---\n"+diff) + "\n\n_______\nlist@example.org\n", ada},
		{"all in CR LF, header too", "[PATCH] a", "", "Why.\n---\n" + diff, ada},
		{"flowed", "[PATCH] a", "Content-Type: text/plain; format=flowed\n", "Why it \nis so.\n From here.\n---\n" + strings.ReplaceAll(diff, "\n ", "\n  "), "Ada <ada@example.org> 2020-05-02T08:00:00Z a|Why it is so.\nFrom here."},
		{"only the message flowed", "[PATCH] a", "Content-Type: text/plain; format=flowed; delsp=yes\n", "Why it \nis so.\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|Why itis so."},
		{"not flowed, though it says so", "[PATCH] a", "Content-Type: text/plain; format=flowed\n", "Why.\n---\n" + diff, ada},
		{"koi8-r", "[PATCH] a", "Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: 8bit\n", "\xf0\xd2\xc9\xd7\xc5\xd4\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|Привет"},
		{"iso-2022-jp", "=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "Content-Type: text/plain; charset=iso-2022-jp\n", "\x1b$B%F%9%H\x1b(B\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z 日本|テスト"},
		{"gb2312", "[PATCH] a", "Content-Type: text/plain; charset=gb2312\nContent-Transfer-Encoding: 8bit\n", "\xc4\xe3\xba\xc3\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|你好"},
		{"windows-1250", "[PATCH] a", "Content-Type: text/plain; charset=windows-1250\nContent-Transfer-Encoding: 8bit\n", "\x9aest\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|šest"},
		{"unknown charset", "[PATCH] a", "Content-Type: text/plain; charset=x-none\nContent-Transfer-Encoding: 8bit\n", "f\xc3\xbcr\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|für"},
		{"mboxrd", "[PATCH] a", "", ">From here.\n>>From there.\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|From here.\n>From there."},
		{"a From line like a mailbox's", "[PATCH] a", "", "Why.\n\nFrom x at 10:00 in 2020 on\nit is so.\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|Why.\n\nFrom x at 10:00 in 2020 on\nit is so."},
		{"in-body date and subject", "[PATCH] x", "", "From: \"Bo, Jr. (Corp)\" <bo@example.org>\nDate: 2020-05-03 12:00:00 +0200\nSubject: [PATCH] b:\n folded\n\nWhy.\n---\n" + diff, "Bo, Jr. (Corp) <bo@example.org> 2020-05-03T10:00:00Z b: folded|Why."},
		{"an in-body date that nobody can read", "[PATCH] a", "", "Date: next week\n\nWhy.\n---\n" + diff, ada},
		{"an in-body address that is hidden", "[PATCH] a", "", "From: Bo <bo at example.org>\n\nWhy.\n---\n" + diff, "Bo <bo at example.org> 2020-05-02T08:00:00Z a|Why."},
		{"an in-body name without an address", "[PATCH] a", "", "From: Bo\n\nWhy.\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|From: Bo\n\nWhy."},
		{"an indented From, after a blank line", "[PATCH] a", "", " \n  From: Bo <bo@example.org>\n\nWhy.\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|  From: Bo <bo@example.org>\n\nWhy."},
		{"a name behind the address", "[PATCH] a", "From: Bo <bo@example.org> (Corp)\n", "Why.\n---\n" + diff, "Bo (Corp) <bo@example.org> 2020-05-02T08:00:00Z a|Why."},
		{"an answer in German", "Antw: [PATCH] a", "", "Why.\n---\n" + diff, ada},
		{"an answer that is counted", "Re [2]: Re[3]: [PATCH] a", "", "Why.\n---\n" + diff, ada},
		{"strace in the message", "[PATCH] a", "", "Why.\n--- SIGFPE {si_signo=SIGFPE} ---\n+++ killed by SIGFPE +++\nMore.\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|Why."},
		{"text that looks like a header", "[PATCH] a", "", "Date: is a field.\nWhy.\n---\n" + diff, "Ada <ada@example.org> 2020-05-02T08:00:00Z a|Why."},
		{"a header line that is none", "[PATCH] a", "X-Odd\n", "", "no diff"},
		{"name below the patch", "[PATCH] a", "", "Why.\n---\n" + diff + "\n- Ada\n", ada},
		{"footer below the patch", "[PATCH] a", "", "Why.\n---\n" + diff + "\n_______\n+1 555 1234\n", ada},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mail := "From mboxrd@z Thu Jan  1 00:00:00 1970\nFrom: Ada <ada@example.org>\nDate: Sat, 2 May 2020 10:00:00 +0200\nSubject: " + tc.subject + "\n" + tc.headers + "\n" + tc.body
			if strings.HasPrefix(tc.name, "all in CR LF") {
				mail = crlf(mail)
			}
			s, err := Read(write(t, t.TempDir(), "m", mail))
			if err != nil {
				if !strings.Contains(err.Error(), tc.want) {
					t.Errorf("Read() = %v; want %q", err, tc.want)
				}
				return
			}
			p := s.Patches[0]
			got := fmt.Sprintf("%s <%s> %s %s|%s", p.Author, p.Email, p.Date.UTC().Format("2006-01-02T15:04:05Z"), p.Subject, p.Body)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("Read() (-want +got):\n%s", d)
			}
			if len(s.Patches) != 1 || p.ID() != mustRead(t, diff).ID() {
				t.Errorf("Read() = %d patches, diff:\n%s", len(s.Patches), p.Diff)
			}
		})
	}
}

// TestPasted reads a mail that was copied with lines of a page or a pager above it.
func TestPasted(t *testing.T) {
	mail := sketch{subject: "[PATCH] a", line: 5}.String()
	_, mail, _ = strings.Cut(mail, "\n")
	s, err := Read(write(t, t.TempDir(), "m.txt", "List archive\n\n* [PATCH] a\n"+mail))
	if err != nil {
		t.Fatal(err)
	}
	if p := s.Patches[0]; p.Author != "Ada" || p.Subject != "a" || p.Body != "Why." {
		t.Errorf("Read() = %q by %q: %q; want those of the mail", p.Subject, p.Author, p.Body)
	}
}

// TestUnnumbered reads patches without numbers, the newest of which stands first.
func TestUnnumbered(t *testing.T) {
	index := func(line int, blobs string) string {
		return strings.Replace(diffAt(line), "\n---", "\nindex "+blobs+" 100644\n---", 1)
	}
	text := sketch{subject: "[PATCH] b", body: "Why.\n---\n" + index(15, "2222222..3333333")}.String() + sketch{subject: "[PATCH] a", body: "Why.\n---\n" + index(5, "1111111..2222222")}.String()
	s, err := Read(write(t, t.TempDir(), "m.mbox", text))
	if err != nil {
		t.Fatal(err)
	}
	if s.Patches[0].Subject != "a" || !strings.Contains(s.Describe(), "as their index lines say") {
		t.Errorf("Read() = %s; want a before b, and why", s.Describe())
	}
}

// TestFolders reads folders of mails as programs keep them.
func TestFolders(t *testing.T) {
	first, second := sketch{subject: "[PATCH 1/2] a", line: 5}.String(), sketch{subject: "[PATCH 2/2] b", line: 15}.String()
	bare := func(s string) string { return strings.NewReplacer(" 1/2", "", " 2/2", "").Replace(s) }
	for _, tc := range []struct {
		name  string
		files map[string]string
		// want are the subjects, or a part of the refusal.
		want string
	}{
		{"MH", map[string]string{"2": first, "10": second}, "a b"},
		{"git mailsplit", map[string]string{"0002": first, "0010": second}, "a b"},
		{"maildir with a deleted mail", map[string]string{"cur/1.x:2,S": first, "cur/2.x:2,ST": strings.Replace(second, "] b", "] old", 1), "new/3.x": second}, "a b"},
		{"numbers in the names", map[string]string{"0001-a.patch": bare(first), "0002-b.patch": bare(second)}, "a b"},
		{"a gap in the names", map[string]string{"0001-a.patch": bare(first), "0003-b.patch": bare(second)}, "there is no file 0002-*.patch before 0003-b.patch"},
		{"the first one is not there", map[string]string{"0002-a.patch": bare(first), "0003-b.patch": bare(second)}, "there is no file 0001-*.patch"},
		{"a leftover", map[string]string{"0001-a.patch": bare(first), "0001-b.patch": bare(second)}, "have the same number"},
		{"a leftover of diffs", map[string]string{"0001-a.patch": diffAt(5), "0001-b.patch": diffAt(15)}, "have the same number"},
		{"names have numbers of their own", map[string]string{"100-a.patch": first, "110-x.patch": strings.Replace(second, "2/2] b", "1/3] x", 1), "120-b.patch": bare(second)}, "a x b"},
		{"a patch of another series is missing", map[string]string{"100-a.patch": first, "110-x.patch": strings.Replace(second, "2/2] b", "3/3] x", 1)}, "a x"},
		{"two versions, with numbers of their own", map[string]string{"100-a.patch": first, "110-b.patch": strings.Replace(first, "1/2", "v2 1/2", 1)}, "v2: patch 2/2 is missing"},
		{"one of git format-patch is missing", map[string]string{"0001-a.patch": strings.Replace(first, "1/2", "1/3", 1), "0003-b.patch": strings.Replace(second, "2/2", "3/3", 1)}, "patch 2/3 is missing"},
		{"numbers in the subjects count", map[string]string{"0003-a.patch": first, "0007-b.patch": second}, "a b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tc.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, dir, name, text)
			}
			s, err := Read(dir)
			if err != nil {
				if !strings.Contains(err.Error(), tc.want) {
					t.Errorf("Read() = %v; want %q", err, tc.want)
				}
				return
			}
			var got []string
			for _, p := range s.Patches {
				got = append(got, p.Subject)
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("subjects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFilesPutTogether reads what `cat 000*` makes of git format-patch --no-signature,
// in which no blank line ends a diff.
func TestFilesPutTogether(t *testing.T) {
	var text string
	for i, line := range []int{5, 15} {
		text += fmt.Sprintf("From %040d Mon Sep 17 00:00:00 2001\nFrom: Ada <ada@example.org>\nDate: Sat, 2 May 2020 10:00:00 +0200\n"+
			"Subject: [PATCH %d/2] a\n\nWhy.\n---\n%s", i, i+1, diffAt(line))
	}
	s, err := Read(write(t, t.TempDir(), "all.patch", text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{mustRead(t, diffAt(5)).ID(), mustRead(t, diffAt(15)).ID()}, []string{s.Patches[0].ID(), s.Patches[1].ID()}); diff != "" {
		t.Errorf("IDs (-want +got):\n%s", diff)
	}
}
