package kernel

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/patches"
)

// threadMail is a mail of a thread of two patches.
func threadMail(id, refs, subject, body string) string {
	text := "From: A U Thor <author@example.org>\nDate: Wed, 3 Feb 2021 04:05:06 +0100\nSubject: " + subject + "\nMessage-ID: <" + id + ">\n"
	if refs != "" {
		text += "In-Reply-To: <" + refs + ">\nReferences: <" + refs + ">\n"
	}
	return text + "\n" + body
}

// threadMails are a series, an answer to it and a mail of another thread.
var threadMails = []string{
	threadMail("cover@x", "", "[PATCH 0/2] both", "Two changes.\n"),
	threadMail("one@x", "cover@x", "[PATCH 1/2] main: one", "From here on.\n---\n"+mainPatch+"-- \n2.39\n"),
	threadMail("other@x", "", "[PATCH] other", "---\n"+otherPatch+"-- \n2.39\n"),
	threadMail("two/2@x", "cover@x", "[PATCH 2/2] io_uring: two", "---\n"+strings.ReplaceAll(goodPatch, "\n\n", "\n \n")+"-- \n2.39\n"),
	threadMail("re@x", "one@x", "Re: [PATCH 1/2] main: one", "Reviewed-by: R <r@example.org>\n"),
}

// wantThread are the subjects of the patches of cover@x.
var wantThread = []string{"main: one", "io_uring: two"}

func subjectLines(t *testing.T, file string) []string {
	t.Helper()
	series, err := patches.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range series.Patches {
		all = append(all, p.Subject)
	}
	return all
}

func TestThreadFromArchive(t *testing.T) {
	t.Parallel()
	var box bytes.Buffer
	for i, text := range threadMails {
		if i != 2 {
			fmt.Fprintf(&box, "From mboxrd@z Thu Jan  1 00:00:00 1970\n%s\n", text)
		}
	}
	answers := map[string]func(http.ResponseWriter){
		"/list/two%2F2@x/t.mbox.gz": func(w http.ResponseWriter) {
			z := gzip.NewWriter(w)
			z.Write(box.Bytes())
			z.Close()
		},
		"/list/page@x/t.mbox.gz": func(w http.ResponseWriter) { fmt.Fprint(w, "<html>Are you a robot?</html>") },
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := answers[r.URL.EscapedPath()]; answer != nil {
			answer(w)
			return
		}
		http.NotFound(w, r)
	}))
	defer server.Close()
	standard := http.DefaultClient.Transport
	http.DefaultClient.Transport = server.Client().Transport
	defer func() { http.DefaultClient.Transport = standard }()

	cache := t.TempDir()
	address := server.URL + "/list/two%2F2@x/T/#u"
	for _, reachable := range []bool{true, false} {
		sel, notes, err := TakeThread(t.Context(), Selection{Patch: address}, cache)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantThread, subjectLines(t, sel.Patch)); diff != "" {
			t.Errorf("reachable %t: patches (-want +got):\n%s", reachable, diff)
		}
		if said := strings.Contains(strings.Join(notes, ""), "the thread as fetched on "); said == reachable {
			t.Errorf("reachable %t: notes %q", reachable, notes)
		}
		delete(answers, "/list/two%2F2@x/t.mbox.gz")
	}
	for id, want := range map[string]string{"page@x": "not a mailbox but a web page", "none@x": "no such message (404)"} {
		_, _, err := TakeThread(t.Context(), Selection{Patch: server.URL + "/list/" + id + "/"}, cache)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "INBOX=folder") {
			t.Errorf("TakeThread of %s = %v; want %q and what to do", id, err, want)
		}
	}
}

// inboxRepo is a public-inbox repository of either layout with mails in it.
func inboxRepo(t *testing.T, dir string, mails []string, second bool) {
	t.Helper()
	if _, err := os.Stat(dir); err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		userGit(t, dir, "init", "-q")
	}
	for _, text := range mails {
		_, id, _ := strings.Cut(text, "Message-ID: <")
		id, _, _ = strings.Cut(id, ">")
		name := fmt.Sprintf("%x", sha1.Sum([]byte(id)))
		name = name[:2] + "/" + name[2:]
		if second {
			name = "m"
		}
		writeFile(t, filepath.Join(dir, name), text)
		userGit(t, dir, "add", "-A")
		userGit(t, dir, "commit", "-qm", id)
	}
}

func TestThreadFromInbox(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir()+"/first", t.TempDir()
	inboxRepo(t, first, threadMails, false)
	// Epochs are bare, and one thread lies in several.
	for i, part := range [][]string{threadMails[:3], threadMails[3:]} {
		inboxRepo(t, fmt.Sprintf("%s/%d", second, i), part, true)
		userGit(t, second, "clone", "-q", "--bare", fmt.Sprintf("%s/%d", second, i), fmt.Sprintf("git/%d.git", i))
	}
	for name, dir := range map[string]string{"v1": first, "v2": second} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			for _, id := range []string{"cover@x", "<two/2@x>", "https://lore.kernel.org/r/re@x", "https://lore.kernel.org/list/two%2F2@x/T/#t"} {
				before := snapshot(t, dir)
				sel, _, err := TakeThread(t.Context(), Selection{Lore: id, Inbox: dir}, cache)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(wantThread, subjectLines(t, sel.Patch)); diff != "" {
					t.Errorf("LORE=%s: patches (-want +got):\n%s", id, diff)
				}
				if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
					t.Errorf("the inbox changed (-before +after):\n%s", diff)
				}
			}
			if _, _, err := TakeThread(t.Context(), Selection{Lore: "none@x", Inbox: dir}, cache); err == nil || !strings.Contains(err.Error(), "no message none@x among its 5") {
				t.Errorf("TakeThread of an unknown message = %v", err)
			}
		})
	}
	// What came since the index was made is found, what was taken out is not.
	cache := t.TempDir()
	if _, _, err := TakeThread(t.Context(), Selection{Lore: "cover@x", Inbox: first}, cache); err != nil {
		t.Fatal(err)
	}
	late := threadMail("late@x", "", "[PATCH] late", "---\n"+mainPatch)
	inboxRepo(t, first, []string{late}, false)
	sel, _, err := TakeThread(t.Context(), Selection{Lore: "late@x", Inbox: first}, cache)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"late"}, subjectLines(t, sel.Patch)); diff != "" {
		t.Errorf("patches (-want +got):\n%s", diff)
	}
	name := fmt.Sprintf("%x", sha1.Sum([]byte("late@x")))
	userGit(t, first, "rm", "-q", name[:2]+"/"+name[2:])
	userGit(t, first, "commit", "-qm", "spam")
	if _, _, err := TakeThread(t.Context(), Selection{Lore: "late@x", Inbox: first}, cache); err == nil {
		t.Error("TakeThread found a mail that was taken out")
	}
}

func TestThreadRefused(t *testing.T) {
	for want, sel := range map[string]Selection{
		"exclude each other":       {Lore: "a@x", Patch: "fix.mbox"},
		"needs LORE":               {Inbox: "/nowhere"},
		"is no message id":         {Lore: "a b"},
		"has no message id in it":  {Patch: "https://lore.kernel.org/list/"},
		"no such file":             {Lore: "a@x", Inbox: "/nowhere"},
		"neither a git repository": {Lore: "a@x", Inbox: t.TempDir()},
	} {
		cache := t.TempDir()
		if _, _, err := TakeThread(t.Context(), sel, cache); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("TakeThread(%+v) = %v; want %q", sel, err, want)
		}
		if got := list(t, cache); len(got) > 0 {
			t.Errorf("TakeThread(%+v) left %q in the cache", sel, got)
		}
	}
}
