package patches

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// tag is what the front of a Subject says: [PATCH RFC v3 net-next 02/12].
type tag struct {
	// reply is set by "Re:" and its like in other languages, and by "Fwd:".
	reply bool
	// tagged is set by PATCH or RFC in the brackets.
	tagged bool
	// version is 0 where the subject names none; minor is the 1 of v2.1.
	version, minor int
	// number and of are the 2 and the 12; of is 0 without them. half orders what was
	// put between two patches: 2.5/3 or 2a/3.
	number, half, of int
	resend, rfc      bool
	// patchset means that the numbers may be those of a set of patches among several.
	patchset bool
	// meant are the other words in the brackets, sorted: the trees and branches that it is for.
	meant string
}

// elsewhere says that two patches are meant for different trees: each names one that the other
// does not. One that names none may be for any.
func (t tag) elsewhere(o tag) bool {
	a, b := strings.Fields(t.meant), strings.Fields(o.meant)
	lacks := func(all, some []string) bool {
		return slices.ContainsFunc(some, func(word string) bool { return !slices.Contains(all, word) })
	}
	return lacks(a, b) && lacks(b, a)
}

// bare is the tag without the trees, to which a list may add its name.
func (t tag) bare() tag {
	t.meant = ""
	return t
}

// releases is the tag with those trees alone that are a release: 5.10, 6.1.y, OLK-6.6.
func (t tag) releases() tag {
	t.meant = strings.Join(slices.DeleteFunc(strings.Fields(t.meant), func(word string) bool { return !releaseWord.MatchString(word) }), " ")
	return t
}

var (
	// replyWord is how mail programs begin a reply's or a forwarded mail's subject.
	replyWord   = regexp.MustCompile(`(?i)^(?:re|aw|sv|vs|antw|odp|fwd?|wg|tr|rv)(?:\[\d+\])?\s*:\s*`)
	forwardWord = regexp.MustCompile(`(?i)^fwd\s*:\s*`)
	// replyBefore takes any short word as such when a bracket follows it, and counted ones.
	replyBefore = regexp.MustCompile(`(?i)^(?:(?:[\pL]{2,3}|antw)(?:\s*\[\d+\])?\s*:\s*)+\[`)
	count       = regexp.MustCompile(`(?i)^(?:patch|rfc|part|no\.?)?#?(\d{1,4})/(\d{1,4})$`)
	// spacedCount is a count as hands write it: 1 / 3, 1\3.
	spacedCount = regexp.MustCompile(`\b(\d{1,4})\s*[/\\]\s*(\d{1,4})\b`)
	// countVersion is a version behind the count: 1/3-v2.
	countVersion = regexp.MustCompile(`(/\d{1,4})[-_.]?([vV]\d)`)
	// loosePrefix is a count without brackets around it, or without the closing one.
	loosePrefix = regexp.MustCompile(`(?i)^[\[({]?\s*((?:rfc\b[^:\[\]]{0,20})?patch\b[^:\[\]]{0,40}?\d{1,4}\s*(?:[/\\]|of)\s*\d{1,4})\b`)
	halfCount   = regexp.MustCompile(`^(\d{1,4})(?:\.(\d)|([a-z]))/(\d{1,4})$`)
	versionWord = regexp.MustCompile(`(?i)^(?:patch|patches|patchset|rfc|resend|series)?[-_]?(?:v|ver|version|take|try|rev|round)[-.#]?(\d{1,3})(?:\.(\d{1,3}))?$`)
	// kernelRelease is no version of a series but a kernel's: v5.10, and of those with one digit
	// the ones that backports are sent for.
	kernelRelease = regexp.MustCompile(`^v(?:[2-9]\.\d\d|4\.4|4\.9|5\.4|6\.1|6\.6)$`)
	releaseWord   = regexp.MustCompile(`\d\.\d`)
	setWord       = regexp.MustCompile(`(?i)^(?:patch-?set|patch-?series)`)
	// unopened is a prefix whose first bracket is missing.
	unopened    = regexp.MustCompile(`(?i)^(?:rfc|resend)?\s*patch[^:\[\]]{0,30}\]`)
	plainNumber = regexp.MustCompile(`^[\d/]+$`)
	patchWord   = regexp.MustCompile(`(?i)patch|^rfc`)
	// prefixForm is a bracket as git format-patch writes it: words, and then the number.
	prefixForm = regexp.MustCompile(`^\[([\w./+-]+(?: [\w./+-]+)*?)(?: \d{1,4}/\d{1,4})?\]`)
)

// subjectPrefix returns [Patch.Prefix] of a decoded subject.
func subjectPrefix(s string) string {
	m := prefixForm.FindStringSubmatch(s)
	if m == nil || !patchWord.MatchString(m[1]) || slices.ContainsFunc(strings.Fields(m[1]), plainNumber.MatchString) {
		return ""
	}
	return m[1]
}

// parseSubject reads the prefixes of a decoded subject.
func parseSubject(s string) tag {
	var t tag
	s = strings.TrimSpace(s)
	for {
		if m := replyWord.FindString(s); m != "" && !t.tagged {
			t.reply = true
			s = s[len(m):]
			continue
		}
		if before := replyBefore.FindString(s); before != "" && !t.tagged {
			t.reply = true
			s = s[len(before)-1:]
		}
		if m := loosePrefix.FindStringSubmatch(s); m != nil && (s[0] != '[' || !strings.Contains(s, "]")) {
			t.read(m[1])
			return t
		}
		if unopened.MatchString(s) {
			s = "[" + s
		}
		if !strings.HasPrefix(s, "[") {
			return t
		}
		inside, rest := bracket(s)
		t.read(inside)
		s = strings.TrimLeft(rest, " \t:")
	}
}

// bracket splits a subject that begins with a bracket behind its closing one. One
// of the wrong kind closes it when there is no right one.
func bracket(s string) (inside, rest string) {
	depth := 0
	for i, r := range s {
		switch r {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return s[1:i], s[i+1:]
			}
		}
	}
	if i := strings.IndexAny(s, "])}>"); i > 0 {
		return s[1:i], s[i+1:]
	}
	return "", ""
}

func (t *tag) read(inside string) {
	inside = countVersion.ReplaceAllString(spacedCount.ReplaceAllString(inside, "$1/$2"), "$1 $2")
	words := strings.FieldsFunc(inside, func(r rune) bool { return strings.ContainsRune(" \t,;:[]()|", r) })
	for i := 0; i < len(words); i++ {
		word := words[i]
		// "2 of 3", and "take 2".
		if i+2 < len(words) && strings.EqualFold(words[i+1], "of") {
			word += "/" + words[i+2]
		} else if i+1 < len(words) && slices.Contains([]string{"take", "try", "version", "ver", "rev", "round", "v"}, strings.ToLower(word)) {
			word += words[i+1]
		}
		switch {
		case count.MatchString(word):
			m := count.FindStringSubmatch(word)
			t.number, _ = strconv.Atoi(m[1])
			t.of, _ = strconv.Atoi(m[2])
			t.half = 0
		case halfCount.MatchString(word) && t.of == 0:
			m := halfCount.FindStringSubmatch(word)
			t.number, _ = strconv.Atoi(m[1])
			t.of, _ = strconv.Atoi(m[4])
			if m[2] != "" {
				t.half, _ = strconv.Atoi(m[2])
			} else {
				t.half = int(m[3][0]-'a') + 1
			}
		case versionWord.MatchString(word) && !kernelRelease.MatchString(word):
			m := versionWord.FindStringSubmatch(word)
			t.version, _ = strconv.Atoi(m[1])
			t.minor, _ = strconv.Atoi(m[2])
		case !patchWord.MatchString(word) && !again(word) && word != "of" && !plainNumber.MatchString(word):
			meant := append(strings.Fields(t.meant), strings.ToLower(strings.Trim(word, "-_.")))
			slices.Sort(meant)
			t.meant = strings.Join(slices.Compact(meant), " ")
		}
		t.tagged = t.tagged || patchWord.MatchString(word)
		t.resend = t.resend || again(word)
		t.rfc = t.rfc || strings.EqualFold(word, "rfc")
		t.patchset = t.patchset || setWord.MatchString(word)
	}
}

// again says that a word tells of a patch that was sent before.
func again(word string) bool {
	return strings.Contains(strings.ToLower(word), "resend") || strings.EqualFold(word, "repost")
}

// cleanSubject does what git am does to a subject without -k (mailinfo.c,
// cleanup_subject): "Re:" and bracketed prefixes go, an unclosed bracket stays.
// In front of [PATCH] "Fwd:" goes as well, and "Re:" in other languages, which git lets stand;
// behind it "fw:" is the driver's.
func cleanSubject(s string) string {
	tagged := false
	for {
		s = strings.TrimLeft(s, " \t:")
		switch {
		case len(s) >= 3 && strings.EqualFold(s[:3], "re:"):
			s = s[3:]
		case !tagged && forwardWord.MatchString(s):
			s = s[len(forwardWord.FindString(s)):]
		case !tagged && replyBefore.MatchString(s):
			s = s[len(replyBefore.FindString(s))-1:]
		case strings.HasPrefix(s, "["):
			inside, rest, found := strings.Cut(s, "]")
			if !found {
				return strings.TrimSpace(s)
			}
			tagged = tagged || patchWord.MatchString(inside[1:])
			s = rest
		default:
			return strings.TrimSpace(s)
		}
	}
}
