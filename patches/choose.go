package patches

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

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
			if err := t.neitherNumbered(first, second); err != nil {
				return nil, err
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
			what := "is the same patch,"
			if !same.sameChange(m) {
				what = "is this patch, changed and"
			}
			t.leave(m, fmt.Sprintf("message %d %s sent later", same.patch.Message, what))
		}
		sets = slices.DeleteFunc(sets, func(s *set) bool { return s == older })
	}
	return sets[0], nil
}

func (t *thread) answersAny(m, other *message) bool { return slices.Contains(t.ancestors(m), other) }

// neitherNumbered refuses two patches without numbers of which one is an answer to the other,
// unless they were sent together: git send-email makes answers to the first one of all.
func (t *thread) neitherNumbered(a, b *message) error {
	if t.answersAny(a, b) {
		a, b = b, a
	}
	if !t.answersAny(b, a) || a.sender == b.sender && !a.sent.IsZero() && b.sent.Sub(a.sent).Abs() <= time.Minute {
		return nil
	}
	return fmt.Errorf("%s: %s is a reply to %s, and neither is numbered: keep the one you mean, or number them", t.path, b.title(), a.title())
}

// titleVersion is a version that is not in the brackets of a subject but before or behind its text.
var titleVersion = regexp.MustCompile(`(?i)^v\d{1,2}:? |[ ,]+\(?v\d{1,2}\)?$`)

// sequence makes one series of patches that have no numbers: they are taken in the file's
// order, as git am does, or, if they answer each other, in the one in which they were sent.
func (t *thread) sequence(sets []*set) (*set, error) {
	whole := &set{version: sets[0].version, minor: sets[0].minor, bySlot: map[slot][]*message{}, order: "in the order of the file"}
	titles := map[string]*message{}
	answering := false
	for _, s := range sets {
		for _, m := range s.members {
			title := strings.TrimSpace(titleVersion.ReplaceAllString(m.patch.Subject, ""))
			if before := titles[title]; before != nil {
				return nil, fmt.Errorf("%s: %s has the subject of message %d; keep one of them", t.path, m.title(), before.patch.Message)
			}
			titles[title] = m
			for _, o := range whole.members {
				if err := t.neitherNumbered(o, m); err != nil {
					return nil, err
				}
				answering = answering || t.answersAny(m, o) || t.answersAny(o, m)
			}
			whole.put(m)
		}
	}
	if answering {
		whole.order = "in the order in which they were sent"
		slices.SortStableFunc(whole.members, func(a, b *message) int { return a.sent.Compare(b.sent) })
	}
	var list []Patch
	for _, m := range whole.members {
		t.set[m] = whole
		list = append(list, m.patch)
	}
	if up, down := indexOrder(list); up == 0 && down > 0 {
		whole.order = "the last of the file first, as their index lines say"
		slices.Reverse(whole.members)
	}
	return whole, nil
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
			if a.of+b.of == 0 && !a.sameTitles(b) && !a.alike(b) {
				older, newer := a.members[0], b.members[0]
				if a.version > b.version || a.version == b.version && a.minor > b.minor {
					older, newer = newer, older
				}
				if older.sender == newer.sender && t.answersAny(older, newer) {
					return fmt.Errorf("%s: %s is a reply to %s, neither is numbered, and they are no versions of each other: keep the one you mean",
						t.path, older.title(), newer.title())
				}
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
