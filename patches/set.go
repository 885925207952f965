package patches

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// set is the patches of one version of a series, or a patch without a number.
type set struct {
	version, minor, of int
	resend             bool
	cover              *message
	members            []*message
	// bySlot holds the members by their numbers.
	bySlot map[slot][]*message
	// from are the older versions that the rest of a partial reroll comes from.
	from []*set
	// order says how patches without numbers were put in order.
	order string
}

type slot struct{ number, half int }

// slots are those of a series, in its order.
func slots(of map[slot][]*message) []slot {
	return slices.SortedFunc(maps.Keys(of), func(a, b slot) int { return cmp.Or(a.number-b.number, a.half-b.half) })
}

// sets groups the patches by version and series.
func (t *thread) sets(patches []*message) ([]*set, error) {
	var all []*set
	t.renumber(patches)
	for _, m := range patches {
		version, minor := t.versionOf(m)
		var cover *message
		for _, a := range t.ancestors(m) {
			if m.of == 0 && (!a.isCover() && !a.noDiff() || a.reply || a.sender != m.sender) {
				break
			}
			if a.isCover() {
				v, n := t.versionOf(a)
				// Another's answer with a count of its own, as 1/1, is none of its patches.
				if v == version && n == minor && (m.of == a.of || m.of == 0 || m.sender == a.sender) {
					cover = a
				}
				break
			}
		}
		var home *set
		for _, s := range all {
			if m.of > 0 && s.of == m.of && s.version == version && s.minor == minor && s.cover == cover && s.resend == m.resend {
				home = s
			}
		}
		if home == nil {
			home = &set{version: version, minor: minor, of: m.of, resend: m.resend, cover: cover, bySlot: map[slot][]*message{}}
			all = append(all, home)
		}
		home.put(m)
	}
	all = t.merge(t.resent(all))
	for _, s := range all {
		t.findCover(s)
	}
	all = slices.DeleteFunc(all, func(s *set) bool {
		why := t.aside(s, all)
		if why != "" {
			for _, m := range s.members {
				t.leave(m, why)
			}
		}
		return why != ""
	})
	for _, s := range all {
		if err := t.settle(s); err != nil {
			return nil, err
		}
		for _, m := range s.members {
			t.set[m] = s
		}
	}
	return all, nil
}

// renumber gives patches that were sent anew without their numbers those of the patches that they
// answer by their titles. One alone of its version may take the place of the whole series.
func (t *thread) renumber(patches []*message) {
	type version struct {
		sender            string
		number, minor, of int
	}
	anew := map[version][]*message{}
	for _, m := range patches {
		if m.version > 0 && m.of > 0 {
			key := version{m.sender, m.version, m.minor, m.of}
			anew[key] = append(anew[key], m)
		}
	}
	first := map[*message]*message{}
	for _, m := range patches {
		if m.version == 0 || m.of > 0 {
			continue
		}
		for _, a := range t.ancestors(m) {
			if !a.reply && a.of > 1 && a.number > 0 && a.sender == m.sender && a.patch.Subject == m.patch.Subject {
				key := version{m.sender, m.version, m.minor, a.of}
				anew[key] = append(anew[key], m)
				first[m] = a
				break
			}
		}
	}
	t.firstOnes(patches)
	for _, list := range anew {
		for _, m := range list {
			a := first[m]
			switch {
			case a == nil:
			case len(list) == 1:
				m.note("it answers %d/%d and has no number itself, so it is taken alone", a.number, a.of)
			default:
				m.number, m.half, m.of = a.number, a.half, a.of
				m.note("it has no number; taken for %d/%d, which it answers", m.number, m.of)
			}
		}
	}
}

// firstOnes gives 1/N to a patch without a number that 2/N to N/N of its author's answer.
func (t *thread) firstOnes(patches []*message) {
	for _, m := range patches {
		if m.of > 0 {
			continue
		}
		of, there := 0, map[int]bool{}
		for _, p := range patches {
			if p.of > 1 && (p.of == of || of == 0) && p.sender == m.sender && p.version == m.version && t.answersAny(p, m) {
				of = p.of
				there[p.number] = true
			}
		}
		if of > 1 && len(there) == of-1 && !there[0] && !there[1] {
			m.number, m.of = 1, of
			m.note("it has no number; taken for 1/%d, as the others of %d answer it", of, of)
		}
	}
}

func (s *set) put(m *message) {
	s.members = append(s.members, m)
	at := slot{m.number, m.half}
	s.bySlot[at] = append(s.bySlot[at], m)
}

// resent puts single patches that were sent again back into their series: one that
// was missing, one that is the same, or one in reply to what it takes the place of.
func (t *thread) resent(all []*set) []*set {
	for _, s := range all {
		if !s.resend || s.of == 0 || len(s.missing()) == 0 {
			continue
		}
		for _, home := range all {
			if home.resend || home.of != s.of || home.version != s.version || home.minor != s.minor || s.cover != nil && s.cover != home.cover {
				continue
			}
			s.members = slices.DeleteFunc(s.members, func(m *message) bool {
				before := home.bySlot[slot{m.number, m.half}]
				belongs := len(before) == 0 || slices.ContainsFunc(before, func(o *message) bool { return t.answersAny(m, o) || m.sameChange(o) })
				if belongs {
					delete(s.bySlot, slot{m.number, m.half})
					home.put(m)
				}
				return belongs
			})
		}
	}
	return slices.DeleteFunc(all, func(s *set) bool { return len(s.members) == 0 })
}

// merge puts sets together that are parts of one: a patch whose threading headers
// were lost, a RESEND of some, or 4/4 in answer to a series of three.
func (t *thread) merge(all []*set) []*set {
	var merged []*set
next:
	for _, s := range all {
		for _, home := range merged {
			adds := t.addsTo(s, home)
			if s.of == 0 || home.version != s.version || home.minor != s.minor || !adds && (home.of != s.of || s.cover != nil && home.cover != nil) {
				continue
			}
			if slices.ContainsFunc(s.members, func(m *message) bool { return len(home.bySlot[slot{m.number, m.half}]) > 0 }) {
				continue
			}
			home.cover = cmp.Or(home.cover, s.cover)
			for _, m := range s.members {
				home.put(m)
			}
			continue next
		}
		merged = append(merged, s)
	}
	return merged
}

// addsTo says that s goes on counting where other ends, in answer to it.
func (t *thread) addsTo(s, other *set) bool {
	first := s.members[0]
	return other.of > 1 && s.of == other.of+len(s.members) && (s.cover == nil || s.cover == other.cover) && first.sender == other.members[0].sender &&
		!slices.ContainsFunc(s.members, func(m *message) bool { return m.number <= other.of }) &&
		slices.ContainsFunc(t.ancestors(first), func(a *message) bool { return slices.Contains(other.members, a) })
}

// findCover looks for a cover letter that the patches do not answer.
func (t *thread) findCover(s *set) {
	for _, m := range t.mails {
		if s.cover != nil || !m.isCover() {
			continue
		}
		if v, n := t.versionOf(m); v == s.version && n == s.minor && s.of > 0 && (m.of == s.of || m.sender == s.members[0].sender) {
			s.cover = m
		}
	}
}

// aside says why a set is none of the series: it answers another's patch, as a
// robot or a reviewer does. It is empty otherwise.
func (t *thread) aside(s *set, all []*set) string {
	inside := func(m *message) bool { return m == s.cover || slices.Contains(s.members, m) }
	top := s.members[0]
	if s.cover != nil && s.of > 0 {
		top = s.cover
	}
	for _, o := range all {
		if s.of == 0 && o.of > 0 && s.version == o.version && (s.cover != nil && o.cover == s.cover || o.cover == nil && t.sameLetter(top, o.members[0])) {
			return "a reply to the cover letter, without a number; to test it on top, give it as a second file"
		}
	}
	for _, a := range t.ancestors(top) {
		if a.reply || inside(a) || a.noDiff() && !a.isCover() {
			continue
		}
		version, minor := t.versionOf(a)
		newer := s.version > version || s.version == version && s.minor > minor
		if newer || s.of > 0 && s.of == a.of && top.sender == a.sender {
			continue
		}
		if s.version < version && s.of > 0 && top.sender == a.sender {
			continue
		}
		if top.sender != a.sender {
			return fmt.Sprintf("a reply to %q by %s, not a patch of that series", a.patch.Subject, cmp.Or(a.patch.Author, "somebody else"))
		}
		if s.of == 0 && a.of > 1 {
			return fmt.Sprintf("a reply to %d/%d, without a number; to test it on top, give it as a second file", a.number, a.of)
		}
	}
	return ""
}

// sameLetter says that two patches answer one mail of the author's that has no diff: a cover letter
// without a number.
func (t *thread) sameLetter(m, other *message) bool {
	a, b := t.ancestors(m), t.ancestors(other)
	return len(a) > 0 && len(b) > 0 && a[0] == b[0] && a[0].noDiff() && !a[0].reply && a[0].sender == m.sender && m.sender == other.sender
}

// owner is who sent the series: the cover letter, or the most of its patches. Of several who sent
// as many it is the one whom the others answer, or who was first.
func (t *thread) owner(s *set) string {
	counts := map[string]int{}
	for _, m := range s.members {
		counts[m.sender]++
	}
	if s.cover != nil && counts[s.cover.sender] > 0 {
		return s.cover.sender
	}
	return slices.MinFunc(s.members, func(a, b *message) int {
		return cmp.Or(counts[b.sender]-counts[a.sender], len(t.ancestors(a))-len(t.ancestors(b)), a.sent.Compare(b.sent), a.patch.Message-b.patch.Message)
	}).sender
}

// settle leaves one patch for each number of a set.
func (t *thread) settle(s *set) error {
	if s.of == 0 || len(s.members) == 0 {
		return nil
	}
	owner := t.owner(s)
	drop := func(m *message, why string) {
		s.members = slices.DeleteFunc(s.members, func(o *message) bool { return o == m })
		at := slot{m.number, m.half}
		s.bySlot[at] = slices.DeleteFunc(s.bySlot[at], func(o *message) bool { return o == m })
		t.leave(m, why)
	}
	for _, at := range slots(s.bySlot) {
		list := slices.Clone(s.bySlot[at])
		if len(list) < 2 {
			continue
		}
		some := slices.ContainsFunc(list, func(m *message) bool { return m.err == nil })
		for _, m := range list {
			switch {
			case m.noDiff() && some:
				drop(m, "it is numbered like a patch, but has no diff")
			case m.sender != owner && slices.ContainsFunc(list, func(o *message) bool { return o.sender == owner }):
				drop(m, "somebody other than the author of the series sent it")
			}
		}
	}
	again := s.sentAgain()
	for {
		all := slots(s.bySlot)
		twice := slices.IndexFunc(all, func(at slot) bool { return len(s.bySlot[at]) > 1 })
		if twice < 0 {
			return nil
		}
		list := s.bySlot[all[twice]]
		older, newer := list[0], list[1]
		if !older.sent.IsZero() && newer.sent.Before(older.sent) || slices.Contains(t.ancestors(older), newer) {
			older, newer = newer, older
		}
		where := fmt.Sprintf("%d/%d", older.number, older.of)
		switch {
		case older.sameChange(newer) && older.patch.Subject == newer.patch.Subject:
			drop(older, fmt.Sprintf("message %d is the same %s, sent later", newer.patch.Message, where))
		case slices.Contains(t.ancestors(newer), older):
			drop(older, fmt.Sprintf("message %d is a newer %s in reply to it", newer.patch.Message, where))
		case again && older.elsewhere(newer.tag):
			return fmt.Errorf("%s: %s is %s for %s, and message %d the one for %s; keep the one you mean", t.path, newer.title(), where, newer.meant, older.patch.Message, older.meant)
		case again:
			drop(older, fmt.Sprintf("the whole series was sent again, and message %d is its newer %s", newer.patch.Message, where))
		default:
			return fmt.Errorf("%s: %s and message %d are both %s; keep one of them", t.path, newer.title(), older.patch.Message, where)
		}
	}
}

// sentAgain says whether a set was sent twice as a whole, the second time after the first.
func (s *set) sentAgain() bool {
	var first, second []time.Time
	for _, list := range s.bySlot {
		if len(list) == 0 {
			continue
		}
		var times []time.Time
		for _, m := range list {
			times = append(times, m.sent)
		}
		slices.SortFunc(times, time.Time.Compare)
		if len(times) < 2 || times[0].IsZero() {
			return false
		}
		first = append(first, times[:len(times)-1]...)
		second = append(second, times[len(times)-1])
	}
	return len(second) > 0 && slices.MinFunc(second, time.Time.Compare).After(slices.MaxFunc(first, time.Time.Compare))
}

// missing are the numbers that a set lacks.
func (s *set) missing() []string {
	if s.of == 0 {
		if s.cover != nil && s.cover.of > 1 {
			return []string{fmt.Sprintf("1/%d to %d/%d", s.cover.of, s.cover.of, s.cover.of)}
		}
		return nil
	}
	of := s.of
	if s.cover != nil {
		of = max(of, s.cover.of)
	}
	last := of
	for at := range s.bySlot {
		last = max(last, at.number)
	}
	var numbers []string
	for n := 1; n <= last; n++ {
		whole := len(s.bySlot[slot{n, 0}]) > 0
		// 2a/3 and 2b/3 make up 2/3.
		parts := slices.ContainsFunc(slices.Collect(maps.Keys(s.bySlot)), func(at slot) bool { return at.number == n && len(s.bySlot[at]) > 0 })
		if !whole && !(parts && n > 0 && len(s.bySlot[slot{n, 1}]) > 0) {
			numbers = append(numbers, fmt.Sprintf("%d/%d", n, of))
		}
	}
	return numbers
}

// why says in one clause what an incomplete set lacks.
func (s *set) why() string {
	missing := s.missing()
	text := ""
	switch {
	case len(missing) == 1:
		text = "patch " + missing[0] + " is missing"
	case len(missing) > 6:
		text = fmt.Sprintf("%d patches are missing, %s", len(missing), JoinAnd(append(slices.Clone(missing[:4]), "more")))
	default:
		text = "patches " + JoinAnd(missing) + " are missing"
	}
	if s.cover != nil {
		text += fmt.Sprintf(" (the cover letter says that there are %d)", s.cover.of)
	}
	return text
}

func (s *set) name() string {
	if s.minor > 0 {
		return fmt.Sprintf("v%d.%d", s.version, s.minor)
	}
	return fmt.Sprintf("v%d", s.version)
}

// list are the set's patches in their order.
func (s *set) list() []*message {
	list := slices.Clone(s.members)
	if s.of > 0 {
		slices.SortStableFunc(list, func(a, b *message) int { return cmp.Or(a.number-b.number, a.half-b.half) })
	}
	return list
}

// rfc says that all patches of a set are for comments only.
func (s *set) rfc() bool {
	return !slices.ContainsFunc(s.members, func(m *message) bool { return !m.rfc })
}

// elsewhere finds a patch of each set that are the same one for different trees.
func (s *set) elsewhere(other *set) (one, two *message) {
	for _, m := range s.members {
		for _, o := range other.members {
			if m.patch.Subject == o.patch.Subject && m.elsewhere(o.tag) {
				return m, o
			}
		}
	}
	return nil, nil
}

func (s *set) sameTitles(other *set) bool {
	for _, m := range s.members {
		if slices.ContainsFunc(other.members, func(o *message) bool { return o.patch.Subject == m.patch.Subject }) {
			return true
		}
	}
	return s.cover != nil && other.cover != nil && s.cover.patch.Subject == other.cover.patch.Subject && s.alike(other)
}

func (s *set) sent() (latest time.Time) {
	for _, m := range s.members {
		if m.sent.After(latest) {
			latest = m.sent
		}
	}
	return latest
}

// alike says whether two sets change much the same lines, as two versions of a series
// do, whatever became of its titles.
func (s *set) alike(other *set) bool {
	mine, theirs := s.changes(), other.changes()
	common := 0
	for line := range mine {
		if theirs[line] {
			common++
		}
	}
	return common > 0 && 4*common >= min(len(mine), len(theirs))
}

// changes are the lines that a set adds and deletes, with the names of their files.
func (s *set) changes() map[string]bool {
	all := map[string]bool{}
	for _, m := range s.members {
		for _, f := range m.patch.Files {
			for _, h := range f.Hunks {
				for _, line := range h.Lines {
					// A brace or an empty line is in every patch.
					if text := strings.TrimSpace(line.Line); line.Op != gitdiff.OpContext && len(text) > 3 {
						all[fmt.Sprintf("%s %s %s", f.Name(), line.Op, text)] = true
					}
				}
			}
		}
	}
	return all
}
