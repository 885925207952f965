package patches

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Flaw is why a series is not fit to be sent, in one of its mails or in all of them.
type Flaw struct {
	// Mail is the number of the mail, 2/5, or its file where it has none; empty is the
	// series.
	Mail string `json:"mail,omitempty"`
	Text string `json:"text"`
	// Person says that it is for the one who sends it to put right, and for no program:
	// names and signatures.
	Person bool `json:"person,omitempty"`
}

func (f Flaw) String() string {
	if f.Mail == "" {
		return f.Text
	}
	return f.Mail + ": " + f.Text
}

// Outgoing is a series as its author is about to send it.
type Outgoing struct {
	Flaws []Flaw
	// Notes are what is left to the program that sends.
	Notes []string
}

// ReadOutgoing reads what git format-patch wrote, a folder or a mailbox, and says what
// would be wrong with the mails if they were sent as they are: subjects, numbers, the
// cover letter, threading, names. Whether the patches are any good is not asked.
func ReadOutgoing(path string) (Outgoing, error) {
	files, err := outgoingFiles(path)
	if err != nil {
		return Outgoing{}, err
	}
	var mails []outgoing
	for _, file := range files {
		data, err := readFile(file)
		if err != nil {
			return Outgoing{}, err
		}
		letters := split(data)
		if len(letters) == 0 {
			return Outgoing{}, fmt.Errorf("%s is no mail; git format-patch writes patches as mails", file)
		}
		for _, l := range letters {
			for _, m := range l.read(file, len(mails)+1) {
				if m.err != nil && !m.noDiff() && !m.isCover() {
					return Outgoing{}, m.err
				}
				mails = append(mails, outgoing{m, string(l.raw)})
			}
		}
	}
	return look(mails), nil
}

// outgoingFiles are the files that git send-email would be given.
func outgoingFiles(path string) ([]string, error) {
	if !isFolder(path) {
		if _, err := os.Stat(path); err != nil {
			if list := strings.Fields(path); len(list) > 1 && exist(list) {
				return list, nil
			}
			return nil, noPatch(err)
		}
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		if slices.Contains([]string{".patch", ".eml", ".mbox"}, filepath.Ext(entry.Name())) {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no files *.patch; git format-patch -o writes them", path)
	}
	return files, nil
}

// outgoing is one mail, with its text as it is.
type outgoing struct {
	message
	raw string
}

func (m outgoing) label() string {
	if m.of > 0 {
		return fmt.Sprintf("%d/%d", m.number, m.of)
	}
	return filepath.Base(m.patch.Path)
}

const (
	// longest is how long the summary of a patch may be (submitting-patches.rst).
	longest = 75
	// templates are what git format-patch leaves to be filled in.
	subjectTemplate, blurbTemplate = "*** SUBJECT HERE ***", "*** BLURB HERE ***"
)

var (
	areaPrefix = regexp.MustCompile(`^[^\s:][^:]*: \S|^Revert "`)
	changelog  = regexp.MustCompile(`(?im)^\W*(?:changed?|changes|changelog|interdiff|range-diff|diff(?:erence)?s? (?:to|from|against))\b|` +
		`\bhistory:|\bsince v\d|^\W*v\d+:|\bv\d+ ?(?:->|=>|→) ?v?\d`)
	// forRebase begins the subject of a commit that git rebase --autosquash is to take away.
	forRebase = regexp.MustCompile(`^(?:fixup|squash|amend)! `)
	// noReason is a line of a message that says nothing of why.
	noReason = regexp.MustCompile(`(?m)^(?:[A-Z][a-z-]+-by|Fixes|Cc|Link|Closes): .*$`)
	// shortlog is what git format-patch puts behind the text of a cover letter.
	shortlog = regexp.MustCompile(`^.+ \(\d+\):\r?\n`)
	// nobody is an address that git makes up where it was told none.
	nobody    = regexp.MustCompile(`(?i)(^|@)([^@.]*|.*\.(local|localdomain|\(none\)))$`)
	signedOff = regexp.MustCompile(`(?m)^Signed-off-by: (.+?) *<(.+@.+)>$`)
)

// look finds what is wrong with the mails.
func look(mails []outgoing) Outgoing {
	var out Outgoing
	say := func(m *outgoing, format string, args ...any) {
		f := Flaw{Text: fmt.Sprintf(format, args...)}
		if m != nil {
			f.Mail = m.label()
		}
		out.Flaws = append(out.Flaws, f)
	}
	var cover *outgoing
	var members []*outgoing
	for i := range mails {
		m := &mails[i]
		switch {
		case m.isCover() && cover == nil:
			// A diff in it is from the version before to this one.
			cover = m
		case m.noDiff():
			say(m, "%q has no patch and is no cover letter", m.patch.Subject)
		default:
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		say(nil, "there is no patch")
		return out
	}
	numbers(members, cover, say)
	out.threading(members, cover, say)
	messages(members, say)
	coverLetter(cover, len(members), say)
	first := members[0]
	if cover != nil {
		first = cover
	}
	if first.version > 1 && !slices.ContainsFunc(mails, func(m outgoing) bool { return changelog.MatchString(m.prose()) }) {
		say(first, "version %d does not say what changed since the one before", first.version)
	}
	out.names(members)
	if !slices.ContainsFunc(mails, func(m outgoing) bool { return m.base != "" }) {
		out.Notes = append(out.Notes, "no mail names the commit that the series is for; git format-patch --base=COMMIT adds base-commit:")
	}
	return out
}

// messages finds what is wrong with the subjects of the patches, and says which have no message.
func messages(members []*outgoing, say sayer) {
	seen := map[string]string{}
	for _, m := range members {
		subject := m.patch.Subject
		switch {
		case m.reply:
			say(m, "the subject begins as an answer's does")
		case !m.tagged:
			say(m, "the subject has no [PATCH]")
		}
		if !areaPrefix.MatchString(subject) {
			say(m, "the subject %q does not begin with what it changes, as in \"io_uring: \"", subject)
		}
		if n := utf8.RuneCountInString(subject); n > longest {
			say(m, "the subject has %d characters; want at most %d", n, longest)
		}
		if forRebase.MatchString(subject) {
			say(m, "it belongs into the commit that it names; git rebase -i --autosquash puts it there")
		}
		if strings.HasSuffix(subject, ".") {
			say(m, "the subject ends in a full stop")
		}
		if before := seen[subject]; before != "" {
			say(m, "the subject is that of %s, too", before)
		}
		seen[subject] = m.label()
		if strings.TrimSpace(noReason.ReplaceAllString(m.patch.Body, "")) == "" {
			say(m, "it has no message that says why")
		}
	}
}

// coverLetter says whether a series lacks one, or has one that nobody has filled in.
func coverLetter(cover *outgoing, patches int, say sayer) {
	if cover == nil {
		if patches > 1 {
			say(nil, "%d patches have no cover letter; git format-patch --cover-letter writes one", patches)
		}
		return
	}
	_, text, _ := strings.Cut(strings.ReplaceAll(cover.raw, "\r\n", "\n"), "\n\n")
	switch {
	case !cover.tagged:
		say(cover, "the subject has no [PATCH]")
	case shortlog.MatchString(strings.TrimLeft(text, "\n")):
		say(cover, "the cover letter has no text")
	case strings.Contains(cover.patch.Subject, subjectTemplate), strings.Contains(cover.raw, blurbTemplate):
		say(cover, "the cover letter is not filled in")
	}
}

// prose is a mail without its diff.
func (m outgoing) prose() string {
	if at := diffStart.FindStringIndex(m.raw); at != nil {
		return m.raw[:at[0]]
	}
	return m.raw
}

type sayer func(m *outgoing, format string, args ...any)

// numbers checks that the mails are one series, whole and of one version.
func numbers(members []*outgoing, cover *outgoing, say sayer) {
	if len(members) == 1 && members[0].of <= 1 && cover == nil {
		return
	}
	all := members
	if cover != nil {
		all = append([]*outgoing{cover}, members...)
	}
	at := map[int]bool{}
	for _, m := range members {
		switch {
		case m.of == 0:
			say(m, "it has no number; git format-patch -n numbers a series")
		case m.half > 0 || m.number < 1 || m.number > m.of:
			say(m, "that is no number of a series")
		case at[m.number]:
			say(m, "two patches have this number")
		}
		at[m.number] = true
	}
	for _, m := range all {
		if m.of > 0 && m.of != len(members) {
			say(m, "it says that there are %d patches, and there are %d", m.of, len(members))
			return
		}
		if m.version != all[0].version {
			say(m, "it is of version %d, and %s of version %d", max(m.version, 1), all[0].label(), max(all[0].version, 1))
		}
	}
	for i, m := range members {
		if m.of == len(members) && m.number != i+1 {
			say(m, "it is mail %d by the names of the files", i+1)
			return
		}
	}
}

// threading checks that the patches answer the cover letter, where the mails have ids.
func (o *Outgoing) threading(members []*outgoing, cover *outgoing, say sayer) {
	top := members[0]
	if cover != nil {
		top = cover
	}
	ids := map[string]bool{}
	if top.id != "" {
		ids[top.id] = true
	}
	some := top.id != ""
	for _, m := range members {
		some = some || m.id != ""
	}
	if !some {
		if len(members) > 1 {
			o.Notes = append(o.Notes, "the mails have no Message-ID yet; git send-email gives them some and threads them")
		}
		return
	}
	for _, m := range members {
		if m.id == "" {
			say(m, "it has no Message-ID, and others have")
		}
		if m != top && !slices.ContainsFunc(m.answers, func(id string) bool { return ids[id] }) {
			say(m, "it answers neither %s nor a patch before it, so that it falls out of the thread", top.label())
		}
		if m != top && ids[m.id] {
			say(m, "its Message-ID is another mail's, too")
		}
		ids[m.id] = true
	}
}

// names checks who wrote and signed the patches. Only these people can put it right.
func (o *Outgoing) names(members []*outgoing) {
	person := func(mail, format string, args ...any) {
		o.Flaws = append(o.Flaws, Flaw{Mail: mail, Text: fmt.Sprintf(format, args...), Person: true})
	}
	authors := map[string][]string{}
	var unsigned []string
	for _, m := range members {
		who := fmt.Sprintf("%s <%s>", m.patch.Author, m.patch.Email)
		if m.patch.Author == "" || nobody.MatchString(m.patch.Email) {
			authors[who] = append(authors[who], m.label())
		}
		signs := signedOff.FindAllStringSubmatch(m.patch.Body, -1)
		if len(signs) == 0 {
			unsigned = append(unsigned, m.label())
			continue
		}
		own := slices.ContainsFunc(signs, func(s []string) bool {
			return strings.EqualFold(s[2], m.patch.Email) || s[1] == m.patch.Author
		})
		if !own {
			person(m.label(), "it is from %s and not signed off by the author", who)
		}
	}
	for _, who := range slices.Sorted(maps.Keys(authors)) {
		person(strings.Join(authors[who], ", "), "the author is %s; a person's name belongs there (git commit --amend --author)", who)
	}
	if len(unsigned) > 0 {
		person(strings.Join(unsigned, ", "), "no Signed-off-by; whoever sends it has to give it (git rebase --signoff)")
	}
}
