package patches

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	corpus     = flag.String("corpus", "", "a folder of mails and mailboxes to compare the reader with git and b4 on")
	corpusShow = flag.Int("corpus-show", 20, "how many differences of a kind to print")
)

// read is what a tool makes of a patch, for comparison.
type read struct{ author, email, date, subject, body, id string }

// tally counts outcomes and keeps examples of those that are not equal.
type tally map[string][]string

func (c tally) add(kind, format string, args ...any) {
	c[kind] = append(c[kind], fmt.Sprintf(format, args...))
}

func (c tally) report(t *testing.T, title string) {
	kinds := make([]string, 0, len(c))
	total := 0
	for kind := range c {
		kinds = append(kinds, kind)
		total += len(c[kind])
	}
	slices.Sort(kinds)
	t.Logf("%s: %d", title, total)
	for _, kind := range kinds {
		t.Logf("  %-40s %d", kind, len(c[kind]))
		if kind == "equal" || strings.HasPrefix(kind, "both refuse") {
			continue
		}
		for _, example := range c[kind][:min(len(c[kind]), *corpusShow)] {
			t.Logf("      %s", example)
		}
	}
}

// TestCorpus reads every mail below -corpus and compares what comes out with git
// mailinfo, and every file of several mails with b4 am, where it is installed. It
// prints figures; it fails for a mail that is silently other than git's.
func TestCorpus(t *testing.T) {
	if *corpus == "" {
		t.Skip("give a folder with -corpus")
	}
	singles, threads := tally{}, tally{}
	_, b4Err := exec.LookPath("b4")
	err := filepath.WalkDir(*corpus, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		compareSingles(t, path, singles)
		if b4Err == nil {
			compareThread(t, path, threads)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	singles.report(t, "mails, against git mailinfo --quoted-cr=strip")
	threads.report(t, "files of several mails, against b4 am")
}

// compareSingles compares each mail of a file by itself.
func compareSingles(t *testing.T, path string, c tally) {
	data, err := readFile(path)
	if err != nil {
		c.add("unreadable", "%v", err)
		return
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "in")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if text, err := git(t, dir, "", "mailsplit", "-b", "-o"+out, file); err != nil {
		c.add("git splits it not", "%s: %s", path, text)
		return
	}
	mails, _ := filepath.Glob(out + "/*")
	for i, mail := range mails {
		name := fmt.Sprintf("%s, mail %d", path, i+1)
		theirs, gitErr := mailinfo(t, mail)
		s, err := Read(mail)
		var lone *IncompleteError
		if errors.As(err, &lone) && len(lone.There) == 1 {
			s, err = Series{Patches: lone.There}, nil
		}
		switch {
		case gitErr != nil && err != nil:
			c.add("both refuse", "")
		case gitErr != nil:
			c.add("git refuses, we do not", "%s: %v", name, gitErr)
		case err != nil:
			c.add("we refuse, git does not", "%s: %s", name, strings.ReplaceAll(err.Error(), out, ""))
		case len(s.Patches) != 1:
			c.add("several patches", "%s: %d", name, len(s.Patches))
		default:
			ours := ofPatch(s.Patches[0])
			if what := differ(theirs, ours); what != "" {
				c.add("other "+what, "%s (%v):\n        git  %q\n        ours %q", name, s.Notes, pick(theirs, what), pick(ours, what))
			} else {
				c.add("equal", "")
			}
		}
	}
}

func ofPatch(p Patch) read {
	r := read{author: p.Author, email: p.Email, subject: p.Subject, body: p.Body, id: p.ID()}
	if !p.Date.IsZero() {
		r.date = p.Date.UTC().Format(time.DateTime)
	}
	return r
}

// mailinfo asks git what a mail holds.
func mailinfo(t *testing.T, mail string) (read, error) {
	dir := t.TempDir()
	data, err := os.ReadFile(mail)
	if err != nil {
		return read{}, err
	}
	text, err := git(t, dir, string(data), "mailinfo", "--quoted-cr=strip", "msg", "patch")
	if err != nil {
		return read{}, errors.New(text)
	}
	var r read
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		switch key {
		case "Author":
			r.author = value
		case "Email":
			r.email = value
		case "Subject":
			r.subject = value
		case "Date":
			if date, ok := parseDate(value); ok {
				r.date = date.UTC().Format(time.DateTime)
			}
		}
	}
	msg, err := os.ReadFile(filepath.Join(dir, "msg"))
	if err != nil {
		return read{}, err
	}
	r.body = cutBody(string(msg))
	patch, err := os.ReadFile(filepath.Join(dir, "patch"))
	if err != nil {
		return read{}, err
	}
	if !looksLikeDiff(patch) {
		return read{}, errNoDiff
	}
	// Of an empty line that should be a space, git apply takes note, and git patch-id does not.
	text = string(emptyLine.ReplaceAll(patch, []byte(" ")))
	id := mustGit(t, dir, text, "patch-id", "--stable")
	r.id, _, _ = strings.Cut(id, " ")
	return r, nil
}

var emptyLine = regexp.MustCompile(`(?m)^$`)

func differ(a, b read) string {
	switch {
	case a.id != b.id && a.id != "":
		return "diff"
	case a.author != b.author || a.email != b.email:
		return "author"
	case a.subject != b.subject:
		return "subject"
	case a.date != b.date && b.date != "":
		return "date"
	case a.body != b.body:
		return "body"
	}
	return ""
}

func pick(r read, what string) string {
	return map[string]string{"diff": r.id, "author": r.author + " <" + r.email + ">", "subject": r.subject, "date": r.date, "body": r.body}[what]
}

// compareThread compares the patches that b4 takes of a file with ours.
func compareThread(t *testing.T, path string, c tally) {
	data, err := readFile(path)
	if err != nil || len(split(data)) < 2 {
		return
	}
	dir := t.TempDir()
	in := filepath.Join(dir, "in.mbx")
	if err := os.WriteFile(in, data, 0o644); err != nil {
		t.Fatal(err)
	}
	mustGit(t, dir, "", "init", "-q")
	if err := os.Mkdir(filepath.Join(dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("b4", "--offline-mode", "am", "-m", in, "-o", filepath.Join(dir, "out"), "--no-add-trailers")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CACHE_HOME="+dir)
	said, _ := cmd.CombinedOutput()
	var theirs []string
	if made, _ := filepath.Glob(dir + "/out/*.mbx"); len(made) == 1 {
		mails := filepath.Join(dir, "mails")
		if err := os.Mkdir(mails, 0o755); err != nil {
			t.Fatal(err)
		}
		mustGit(t, dir, "", "mailsplit", "-o"+mails, made[0])
		files, _ := filepath.Glob(mails + "/*")
		for _, file := range files {
			if r, err := mailinfo(t, file); err == nil {
				theirs = append(theirs, r.id+" "+r.subject)
			}
		}
	}
	incomplete := strings.Contains(string(said), "incomplete") || strings.Contains(string(said), "ERROR: missing")
	s, err := Read(in)
	var ours []string
	for _, p := range s.Patches {
		ours = append(ours, p.ID()+" "+p.Subject)
	}
	switch {
	case err != nil && (len(theirs) == 0 || incomplete):
		c.add("both refuse", "")
	case err != nil:
		c.add("we refuse, b4 does not", "%s: b4 takes %d; %s", path, len(theirs), strings.ReplaceAll(err.Error(), in, ""))
	case len(theirs) == 0 || incomplete:
		c.add("b4 refuses, we do not", "%s: %d patches, %v", path, len(ours), s.Notes)
	case slices.Equal(theirs, ours):
		c.add("equal", "")
	default:
		c.add("other patches", "%s:\n        b4   %q\n        ours %q\n        %v %v", path, theirs, ours, s.Notes, s.Left)
	}
}
