package patches

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// thread finds the series that a mailbox's mails are about.
type thread struct {
	path  string
	mails []*message
	byID  map[string]*message
	left  []string
	set   map[*message]*set
}

// assemble picks the patches that a mailbox means: of several versions the latest
// complete one, or the one asked for, when want is not 0.
func assemble(path string, mails []message, want int) (Series, error) {
	t := thread{path: path, byID: map[string]*message{}, set: map[*message]*set{}}
	for i := range mails {
		t.add(&mails[i])
	}
	t.samePeople()
	patches, err := t.patches()
	if err != nil {
		return Series{}, err
	}
	sets, err := t.sets(patches)
	if err != nil {
		return Series{}, err
	}
	chosen, err := t.choose(sets, want)
	if err != nil {
		return Series{}, err
	}
	return t.series(chosen, sets)
}

// samePeople gives one sender to the mails of a person who writes from two addresses.
func (t *thread) samePeople() {
	first := map[string]string{}
	for _, m := range t.mails {
		// One word may be many people's name.
		if !strings.Contains(m.name, " ") {
			continue
		}
		if first[m.name] == "" {
			first[m.name] = m.sender
		}
		m.sender = first[m.name]
	}
}

// add takes a mail in, unless it is there already: one that went to a list and to a
// person comes twice.
func (t *thread) add(m *message) {
	if m.id != "" {
		before := t.byID[m.id]
		if before != nil && before.tag.bare() == m.tag.bare() && before.patch.Subject == m.patch.Subject && before.sameChange(m) {
			t.left = append(t.left, fmt.Sprintf("message %d: the same mail as message %d (same Message-ID)", m.patch.Message, before.patch.Message))
			return
		}
		if before == nil {
			t.byID[m.id] = m
		}
	}
	t.mails = append(t.mails, m)
}

// sameChange says whether both mails have the same diff, or none.
func (m *message) sameChange(other *message) bool {
	if m.err != nil || other.err != nil {
		return m.err != nil && other.err != nil
	}
	return m.patch.ID() == other.patch.ID()
}

// ancestors are the mails of the file that m answers, the nearest first.
func (t *thread) ancestors(m *message) []*message {
	var all []*message
	seen := map[*message]bool{m: true}
	for queue := []*message{m}; len(queue) > 0; queue = queue[1:] {
		for _, id := range queue[0].answers {
			if a := t.byID[id]; a != nil && !seen[a] {
				seen[a] = true
				all = append(all, a)
				queue = append(queue, a)
			}
		}
	}
	return all
}

func (m *message) isCover() bool {
	return !m.reply && m.of > 0 && m.number == 0 && m.half == 0
}

// noDiff says that the mail is prose.
func (m *message) noDiff() bool { return m.err != nil && errors.Is(m.err, errNoDiff) }

// title names a mail for a reader.
func (m *message) title() string {
	return fmt.Sprintf("message %d (%s)", m.patch.Message, cmp.Or(m.patch.Subject, "no subject"))
}

// patches are the mails that may be patches of the series.
func (t *thread) patches() ([]*message, error) {
	var found, answers []*message
	for _, m := range t.mails {
		switch {
		case m.isCover():
			if !m.noDiff() {
				t.leave(m, "a cover letter; the diff in it, between two versions perhaps, is no patch of the series")
			}
		case m.noDiff() && (m.reply || m.of == 0 || m.patchset || !m.tagged && m.meant != ""):
			// A robot names the commit of a tree that it tells of as [tree:branch 14/22].
		case m.reply:
			if m.err == nil || len(t.mails) == 1 {
				answers = append(answers, m)
			}
		case m.err != nil && !m.saysPatch() && len(m.answers) > 0 && len(t.mails) > 1:
			// A part of a diff in a discussion.
			t.leave(m, "a broken diff, and no [PATCH] in the subject")
		default:
			found = append(found, m)
		}
	}
	if len(found) > 0 {
		for _, m := range answers {
			t.leave(m, "a reply with a diff, not a patch of the series")
		}
		return found, nil
	}
	switch {
	case len(t.mails) == 1 && t.mails[0].err != nil:
		return nil, t.mails[0].err
	case len(answers) == 0:
		for _, m := range t.mails {
			if m.err != nil && !m.noDiff() {
				return nil, m.err
			}
			if m.err == nil {
				return nil, fmt.Errorf("%s: %s is a cover letter with a diff in it, and none of its %d patches is here", t.path, m.title(), m.of)
			}
		}
		return nil, fmt.Errorf("%s: none of the %d messages has a diff", t.path, len(t.mails))
	case slices.ContainsFunc(answers, func(m *message) bool { return m.of == 0 }) &&
		slices.ContainsFunc(answers, func(m *message) bool { return m.patch.Message != answers[0].patch.Message }):
		var names []string
		for _, m := range answers {
			names = append(names, m.title())
		}
		return nil, fmt.Errorf("%s: only replies have diffs: %s; save the one you mean in a file of its own", t.path, JoinAnd(names))
	}
	return answers, nil
}

// saysPatch says that the mail calls itself a patch.
func (m *message) saysPatch() bool { return m.tagged || m.of > 0 || m.version > 0 }

func (t *thread) leave(m *message, why string) {
	by := ""
	if m.patch.Author != "" {
		by = " by " + m.patch.Author
	}
	t.left = append(t.left, fmt.Sprintf("%s%s: %s", m.title(), by, why))
}

// versionOf is a patch's version. One that names none has that of its cover letter,
// or of the patch of its series that it answers.
func (t *thread) versionOf(m *message) (version, minor int) {
	if m.version > 0 {
		return m.version, m.minor
	}
	if !m.noDiff() || m.of == 0 {
		for _, a := range t.ancestors(m) {
			if a.reply {
				continue
			}
			if a.isCover() && (a.of == m.of || m.of == 0) || a.noDiff() && a.of == 0 && m.of > 0 {
				return max(a.version, 1), a.minor
			}
			if m.of > 1 && a.of == m.of && a.number != m.number && a.version > 0 {
				return a.version, a.minor
			}
		}
	}
	return 1, 0
}

// series turns the choice into what Read returns.
func (t *thread) series(chosen *set, sets []*set) (Series, error) {
	s := Series{Path: t.path, Name: stem(t.path)}
	taken := map[*message]bool{}
	for _, m := range chosen.list() {
		if m.err != nil {
			return Series{}, m.err
		}
		taken[m] = true
		s.Patches = append(s.Patches, m.patch)
		for _, note := range m.notes {
			s.Notes = append(s.Notes, fmt.Sprintf("message %d: %s", m.patch.Message, note))
		}
	}
	explicit := slices.ContainsFunc(chosen.members, func(m *message) bool { return m.version > 0 }) || chosen.version > 1
	if explicit {
		s.Version = chosen.version
	}
	s.Notes = append([]string{t.taken(chosen, sets)}, s.Notes...)
	for _, other := range sets {
		if other == chosen || slices.Contains(chosen.from, other) {
			continue
		}
		if slices.ContainsFunc(other.members, func(m *message) bool { return t.set[m] == other && !taken[m] }) {
			why := "it is older"
			switch {
			case other.rfc() && !chosen.rfc() && chosen.sent().After(other.sent()):
				why = "an RFC, and older"
			case other.version > chosen.version:
				why = "another version was asked for"
			}
			if lacks := other.missing(); len(lacks) > 0 {
				why = other.why()
			}
			if other.version != chosen.version || other.minor != chosen.minor {
				s.Left = append(s.Left, fmt.Sprintf("%s: %s", other.name(), why))
			}
		}
	}
	for _, m := range t.mails {
		if m.isCover() && !slices.ContainsFunc(sets, func(o *set) bool { return o.cover == m }) {
			version, _ := t.versionOf(m)
			s.Left = append(s.Left, fmt.Sprintf("the cover letter of v%d (%s): its patches are not here", version, m.patch.Subject))
		}
	}
	s.Left = append(s.Left, t.left...)
	t.trailers(&s, chosen, taken)
	t.bases(&s, chosen)
	return s, nil
}

// taken says in one line what was taken.
func (t *thread) taken(chosen *set, sets []*set) string {
	text := "1 patch"
	if len(chosen.members) > 1 {
		text = fmt.Sprintf("%d patches", len(chosen.members))
	}
	var others []string
	for _, s := range sets {
		if s.name() != chosen.name() && !slices.Contains(others, s.name()) {
			others = append(others, s.name())
		}
	}
	slices.Sort(others)
	switch {
	case len(others) == 1:
		text += fmt.Sprintf(", %s (%s is there, too)", chosen.name(), others[0])
	case len(others) > 1:
		text += fmt.Sprintf(", %s (%s are there, too)", chosen.name(), JoinAnd(others))
	case chosen.version > 1:
		text += ", " + chosen.name()
	}
	for _, from := range chosen.from {
		var old []string
		for _, m := range from.list() {
			if slices.Contains(chosen.members, m) {
				old = append(old, fmt.Sprintf("%d/%d", m.number, m.of))
			}
		}
		text += fmt.Sprintf("; %s, which %s does not have, from %s", JoinAnd(old), chosen.name(), from.name())
	}
	if chosen.order != "" {
		text += fmt.Sprintf(", %s (they are not numbered)", chosen.order)
	}
	if chosen.cover != nil {
		text += ", cover letter: " + chosen.cover.patch.Subject
	}
	return text
}

// trailers lists what others gave to the patches in their answers.
func (t *thread) trailers(s *Series, chosen *set, taken map[*message]bool) {
	for _, m := range t.mails {
		if taken[m] || len(m.trailers) == 0 || !m.reply && !m.noDiff() || m == chosen.cover {
			continue
		}
		for _, a := range t.ancestors(m) {
			if !taken[a] && a != chosen.cover {
				continue
			}
			for _, line := range m.trailers {
				if slices.ContainsFunc(s.Patches, func(p Patch) bool { return strings.Contains(p.Body, line) }) {
					continue
				}
				s.Trailers = append(s.Trailers, fmt.Sprintf("%s (for %s)", line, cmp.Or(a.patch.Subject, "the series")))
			}
			break
		}
	}
}

// bases takes over what the cover letter or a patch says of the tree it is for.
func (t *thread) bases(s *Series, chosen *set) {
	list := chosen.list()
	if chosen.cover != nil {
		list = append([]*message{chosen.cover}, list...)
	}
	for _, m := range list {
		s.Base = cmp.Or(s.Base, m.base)
		if len(s.Prerequisites) == 0 {
			s.Prerequisites = m.prerequisites
		}
	}
}
