package patches

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// thread finds the series that a mailbox's mails are about.
type thread struct {
	path  string
	mails []*message
	byID  map[string]*message
	left  []string
	set   map[*message]*set
}

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
	// newestFirst means patches without numbers that are in the file the other way round.
	newestFirst bool
}

type slot struct{ number, half int }

// slots are those of a series, in its order.
func slots(of map[slot][]*message) []slot {
	return slices.SortedFunc(maps.Keys(of), func(a, b slot) int { return cmp.Or(a.number-b.number, a.half-b.half) })
}

// assemble picks the patches that a mailbox means: of several versions the latest
// complete one, or the one asked for, when want is not 0.
func assemble(path string, mails []message, want int) (Series, error) {
	t := thread{path: path, byID: map[string]*message{}, set: map[*message]*set{}}
	for i := range mails {
		t.add(&mails[i])
	}
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
		case m.noDiff() && (m.reply || m.of == 0):
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

// sets groups the patches by version and series.
func (t *thread) sets(patches []*message) ([]*set, error) {
	var all []*set
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
// were lost, or a RESEND of some.
func (t *thread) merge(all []*set) []*set {
	var merged []*set
next:
	for _, s := range all {
		for _, home := range merged {
			if s.of == 0 || home.of != s.of || home.version != s.version || home.minor != s.minor || s.cover != nil && home.cover != nil {
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
		if s.of == 0 && s.cover != nil && o.cover == s.cover && o.of > 0 {
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

// IncompleteError is a series of which not all patches are there.
type IncompleteError struct {
	Path string
	// Missing says for each version what it lacks.
	Missing string
	// There are the patches that were found, of the latest version.
	There []Patch
}

func (e *IncompleteError) Error() string {
	alone := ""
	if len(e.There) == 1 && !strings.Contains(e.Missing, ";") {
		alone = "; to test this patch alone, take the number out of its subject"
	}
	return fmt.Sprintf("%s: %s; save the whole thread, or give all files of the series%s", e.Path, e.Missing, alone)
}

// choose takes the latest complete version.
func (t *thread) choose(sets []*set, want int) (*set, error) {
	if err := t.related(sets); err != nil {
		return nil, err
	}
	byVersion := map[[2]int][]*set{}
	for _, s := range sets {
		key := [2]int{s.version, s.minor}
		byVersion[key] = append(byVersion[key], s)
	}
	keys := slices.SortedFunc(maps.Keys(byVersion), func(a, b [2]int) int { return cmp.Or(b[0]-a[0], b[1]-a[1]) })
	if want > 0 {
		var known []string
		for _, key := range slices.Backward(keys) {
			known = append(known, byVersion[key][0].name())
		}
		asked := slices.DeleteFunc(slices.Clone(keys), func(key [2]int) bool { return key[0] != want })
		if len(asked) == 0 {
			return nil, fmt.Errorf("%s: there is no version %d; it has %s", t.path, want, JoinAnd(known))
		}
		keys = asked
	}
	if want == 0 {
		keys = outgrown(keys, byVersion)
	}
	var lacks []string
	for i, key := range keys {
		chosen, err := t.oneOf(byVersion[key])
		if err != nil {
			return nil, err
		}
		if len(chosen.missing()) == 0 {
			return chosen, nil
		}
		var older []*set
		for _, lower := range keys[i+1:] {
			older = append(older, byVersion[lower]...)
		}
		if t.reroll(chosen, older) {
			return chosen, nil
		}
		text := chosen.why()
		if len(keys) > 1 {
			text = chosen.name() + ": " + text
		}
		lacks = append(lacks, text)
	}
	e := &IncompleteError{Path: t.path, Missing: strings.Join(lacks, "; ")}
	for _, m := range byVersion[keys[0]][0].list() {
		if m.err != nil {
			// What is there does not help either.
			return nil, m.err
		}
		e.There = append(e.There, m.patch)
	}
	return nil, e
}

// outgrown puts a version first that was sent after RFCs with higher numbers: when they were
// not comments any more, the author began to count anew.
func outgrown(keys [][2]int, byVersion map[[2]int][]*set) [][2]int {
	for i, key := range keys[1:] {
		s := byVersion[key][0]
		if s.rfc() || len(s.missing()) > 0 {
			continue
		}
		for _, higher := range keys[:i+1] {
			if h := byVersion[higher][0]; !h.rfc() || !s.sent().After(h.sent()) {
				return keys
			}
		}
		return append([][2]int{key}, slices.Concat(keys[:i+1], keys[i+2:])...)
	}
	return keys
}

// rfc says that all patches of a set are for comments only.
func (s *set) rfc() bool {
	return !slices.ContainsFunc(s.members, func(m *message) bool { return !m.rfc })
}

// oneOf decides between sets of the same version.
func (t *thread) oneOf(sets []*set) (*set, error) {
	complete := slices.DeleteFunc(slices.Clone(sets), func(s *set) bool { return len(s.missing()) > 0 })
	if len(sets) == 1 || len(complete) == 0 {
		return sets[0], nil
	}
	for _, part := range sets {
		if slices.Contains(complete, part) {
			continue
		}
		for _, m := range part.members {
			for _, o := range complete[0].bySlot[slot{m.number, m.half}] {
				if part.of == complete[0].of && o.sender == m.sender {
					return nil, fmt.Errorf("%s: %s and message %d are both %d/%d; keep one of them", t.path, m.title(), o.patch.Message, m.number, m.of)
				}
			}
			t.leave(m, "its series is incomplete: "+part.why())
		}
	}
	sets = complete
	for len(sets) > 1 {
		a, b := sets[0], sets[1]
		first, second := a.members[0], b.members[0]
		switch {
		case a.of > 1 || b.of > 1:
			if !a.sameTitles(b) {
				return nil, t.twoSeries(a, b)
			}
			// A robot, or somebody else, has sent one patch of a series by itself.
			one, all := a, b
			if one.of > 1 {
				one, all = b, a
			}
			if one.of == 0 {
				m := one.members[0]
				i := slices.IndexFunc(all.members, func(o *message) bool { return o.patch.Subject == m.patch.Subject && o.sameChange(m) })
				if i < 0 {
					return nil, t.twoSeries(a, b)
				}
				t.leave(m, fmt.Sprintf("message %d is the same patch, in a series of %d", all.members[i].patch.Message, all.of))
				sets = slices.DeleteFunc(sets, func(s *set) bool { return s == one })
				continue
			}
		case first.patch.Subject != second.patch.Subject || first.sender != second.sender:
			if t.answersAny(second, first) || t.answersAny(first, second) {
				return nil, fmt.Errorf("%s: %s is a reply to %s, and neither is numbered: keep the one you mean, or number them",
					t.path, second.title(), first.title())
			}
			return t.sequence(sets)
		}
		if one, other := a.elsewhere(b); one != nil {
			return nil, fmt.Errorf("%s: %s is for %s, and %s for %s; keep the one you mean", t.path, one.title(), one.meant, other.title(), other.meant)
		}
		older, newer := a, b
		if newer.sent().Before(older.sent()) {
			older, newer = newer, older
		}
		for _, m := range older.members {
			same := newer.members[max(0, slices.IndexFunc(newer.members, func(o *message) bool { return o.patch.Subject == m.patch.Subject }))]
			t.leave(m, fmt.Sprintf("message %d is the same patch, sent later", same.patch.Message))
		}
		sets = slices.DeleteFunc(sets, func(s *set) bool { return s == older })
	}
	return sets[0], nil
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

func (t *thread) answersAny(m, other *message) bool { return slices.Contains(t.ancestors(m), other) }

// sequence makes one series of patches that have no numbers and do not answer each
// other: they are taken in the file's order, as git am does.
func (t *thread) sequence(sets []*set) (*set, error) {
	whole := &set{version: sets[0].version, minor: sets[0].minor, bySlot: map[slot][]*message{}}
	titles := map[string]*message{}
	for _, s := range sets {
		for _, m := range s.members {
			if before := titles[m.patch.Subject]; before != nil {
				return nil, fmt.Errorf("%s: %s has the subject of message %d; keep one of them", t.path, m.title(), before.patch.Message)
			}
			titles[m.patch.Subject] = m
			for _, o := range whole.members {
				if t.answersAny(m, o) {
					return nil, fmt.Errorf("%s: %s is a reply to %s, and neither is numbered: keep the one you mean, or number them",
						t.path, m.title(), o.title())
				}
			}
			whole.put(m)
		}
	}
	var list []Patch
	for _, m := range whole.members {
		t.set[m] = whole
		list = append(list, m.patch)
	}
	if up, down := indexOrder(list); up == 0 && down > 0 {
		whole.newestFirst = true
		slices.Reverse(whole.members)
	}
	return whole, nil
}

func (s *set) sameTitles(other *set) bool {
	for _, m := range s.members {
		if slices.ContainsFunc(other.members, func(o *message) bool { return o.patch.Subject == m.patch.Subject }) {
			return true
		}
	}
	return s.cover != nil && other.cover != nil && s.cover.patch.Subject == other.cover.patch.Subject && s.alike(other)
}

func (t *thread) twoSeries(a, b *set) error {
	name := func(s *set) string {
		m := s.members[0]
		if s.cover != nil {
			m = s.cover
		}
		if s.of == 0 {
			return fmt.Sprintf("%s %s", m.title(), s.name())
		}
		return fmt.Sprintf("%s %s of %d", m.title(), s.name(), s.of)
	}
	return fmt.Errorf("%s: these look like two series: %s, and %s; keep the one you mean", t.path, name(a), name(b))
}

func (s *set) sent() (latest time.Time) {
	for _, m := range s.members {
		if m.sent.After(latest) {
			latest = m.sent
		}
	}
	return latest
}

// related refuses mailboxes with patches that are not versions of each other.
func (t *thread) related(sets []*set) error {
	for i, a := range sets {
		for _, b := range sets[:i] {
			if a.version == b.version && a.minor == b.minor {
				if a.of != b.of && a.of+b.of > 1 && len(a.missing())+len(b.missing()) > 0 {
					return t.twoSeries(b, a)
				}
				continue
			}
			if a.members[0].releases().elsewhere(b.members[0].releases()) {
				return t.twoSeries(b, a)
			}
			if !slices.Contains(t.kin(a, sets), b) {
				return t.twoSeries(b, a)
			}
		}
	}
	return nil
}

// kin are the sets that are versions of one series with s, as far as that can be told: of a patch
// sent again by itself, v1.1 2/3, just from what it answers.
func (t *thread) kin(s *set, sets []*set) []*set {
	all := []*set{s}
	for i := 0; i < len(all); i++ {
		for _, o := range sets {
			if !slices.Contains(all, o) && (t.threaded(all[i], o) || all[i].sameTitles(o) || all[i].alike(o)) {
				all = append(all, o)
			}
		}
	}
	return all
}

// threaded says whether both belong to one conversation, be its first mail there or not.
func (t *thread) threaded(a, b *set) bool {
	ids := func(s *set) map[string]bool {
		all := map[string]bool{}
		members := s.members
		if s.cover != nil {
			members = append(slices.Clone(members), s.cover)
		}
		for _, m := range members {
			if m.id != "" {
				all[m.id] = true
			}
			for _, id := range m.answers {
				all[id] = true
			}
			for _, o := range t.ancestors(m) {
				for _, id := range o.answers {
					all[id] = true
				}
			}
		}
		return all
	}
	of := ids(a)
	for id := range ids(b) {
		if of[id] {
			return true
		}
	}
	return false
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

// reroll fills s up from older versions, the newest first, when each patch of s answers
// the one of its number there: the author sent anew only what has changed.
func (t *thread) reroll(s *set, older []*set) bool {
	if s.of < 2 || !t.partial(s) {
		return false
	}
	found := map[slot][]*message{}
	for _, before := range older {
		whole := len(before.missing()) == 0
		if before.of != s.of || s.cover != nil && s.cover != before.cover || !whole && !t.partial(before) {
			continue
		}
		for at, list := range before.bySlot {
			if len(s.bySlot[at]) == 0 && len(found[at]) == 0 && len(list) > 0 {
				found[at] = list
				if !slices.Contains(s.from, before) {
					s.from = append(s.from, before)
				}
			}
		}
		if whole {
			for _, at := range slots(found) {
				s.members = append(s.members, found[at]...)
				s.bySlot[at] = found[at]
			}
			return true
		}
	}
	s.from = nil
	return false
}

// partial says that each patch of a set answers one of its number.
func (t *thread) partial(s *set) bool {
	return !slices.ContainsFunc(s.members, func(m *message) bool {
		return !slices.ContainsFunc(t.ancestors(m), func(a *message) bool {
			return a != m && !a.reply && a.number == m.number && a.half == m.half && a.of == m.of && !a.noDiff()
		})
	})
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
	if chosen.of == 0 && len(chosen.members) > 1 {
		if chosen.newestFirst {
			text += ", the last of the file first, as their index lines say (they are not numbered)"
		} else {
			text += ", in the order of the file (they are not numbered)"
		}
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

// JoinAnd writes a list as prose does: "base, posted and fixed".
func JoinAnd(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}
