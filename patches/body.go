package patches

import (
	"regexp"
	"strings"
)

var trailerLine = regexp.MustCompile(`(?m)^((?:Reviewed|Acked|Tested|Reported|Suggested|Co-developed|Reported-and-tested|Signed-off)-by): (.+@.+)$`)

func (m *message) readTrailers(text string) {
	for _, t := range trailerLine.FindAllStringSubmatch(strings.ReplaceAll(text, "\r\n", "\n"), -1) {
		m.trailers = append(m.trailers, t[1]+": "+oneLine(toUTF8(t[2], "")))
	}
}

var (
	baseLine         = regexp.MustCompile(`(?m)^base-commit: ([0-9a-f]{12,64})\s*$`)
	prerequisiteLine = regexp.MustCompile(`(?m)^prerequisite-patch-id: ([0-9a-f]{40,64})\s*$`)
)

func (m *message) readBase(text string) {
	if found := baseLine.FindStringSubmatch(text); found != nil {
		m.base = found[1]
	}
	for _, found := range prerequisiteLine.FindAllStringSubmatch(text, -1) {
		m.prerequisites = append(m.prerequisites, found[1])
	}
}

// inBody takes the author, date and subject that a mail's text may begin with, for
// someone who sends another's patch (git-am(1), DISCUSSION), and returns the rest.
// What stands above a scissors line, or above a forwarded mail's headers, is left out.
func (m *message) inBody(prose string) string {
	if rest, found := m.forwarded(prose); found {
		prose = rest
	}
	if rest, found := belowScissors(prose); found {
		m.note("the text above the scissors line is left out")
		prose = rest
	}
	rest := fromText(prose)
	seen := map[string]bool{}
	for {
		line, after, _ := strings.Cut(rest, "\n")
		line = strings.TrimRight(line, "\r")
		if title, found := strings.CutPrefix(line, "[PATCH] "); found && !seen["subject"] {
			seen["subject"] = true
			m.patch.Subject = cleanSubject(oneLine(title))
			rest = after
			continue
		}
		key, value, found := strings.Cut(line, ":")
		key = strings.ToLower(key)
		if !found || seen[key] || key != "from" && key != "subject" && key != "date" {
			break
		}
		for after != "" && (after[0] == ' ' || after[0] == '\t') {
			next, more, _ := strings.Cut(after, "\n")
			if strings.TrimSpace(next) == "" {
				break
			}
			value += " " + strings.TrimSpace(next)
			after = more
		}
		value = strings.TrimSpace(value)
		switch key {
		case "from":
			name, email := identity(value)
			if email == "" {
				return rest
			}
			m.patch.Author, m.patch.Email = name, email
		case "subject":
			m.patch.Subject = cleanSubject(decodeWords(value))
		case "date":
			m.setDate(value)
		}
		seen[key] = true
		rest = after
		if blank, _, _ := strings.Cut(rest, "\n"); strings.TrimSpace(blank) == "" {
			break
		}
	}
	return rest
}

// fromText is a text from its first line on that is not blank, which may be indented.
func fromText(s string) string {
	for {
		line, rest, more := strings.Cut(s, "\n")
		if !more || strings.TrimSpace(line) != "" {
			return s
		}
		s = rest
	}
}

var forwardLine = regexp.MustCompile(`(?mi)^(?:[- ]*-{4,} ?(?:forwarded|original) message ?-{4,}|begin forwarded message:|-{3,} forwarded message(?: .*)?-{3,}) *\r?\n`)

var (
	// ruledHeader is the original's header below a rule, in notes such as those of -mm.
	ruledHeader = regexp.MustCompile(`(?m)^(-{20,} *\r?\n)From: .+@.+\r?\nSubject: `)
	// commitID begins the description of a commit in notes such as tip's.
	commitID = regexp.MustCompile(`(?m)^Commit-ID: +[0-9a-f]{12,64} *\r?\n`)
)

// merged reads what a robot says of a commit that was merged somewhere: its author and
// date, and below them the message with its subject.
func (m *message) merged(prose string) (rest string, found bool) {
	at := commitID.FindStringIndex(prose)
	if at == nil {
		return prose, false
	}
	rest = prose[at[1]:]
	for {
		line, after, more := strings.Cut(rest, "\n")
		rest = after
		key, value, colon := strings.Cut(strings.TrimRight(line, "\r"), ":")
		value = strings.TrimSpace(value)
		if !more || !colon {
			break
		}
		switch key {
		case "Author":
			if name, email := identity(value); strings.Contains(email, "@") {
				m.patch.Author, m.patch.Email = name, email
				found = true
			}
		case "AuthorDate":
			m.setDate(value)
		}
	}
	if !found {
		return prose, false
	}
	rest = strings.TrimLeft(rest, "\r\n")
	if title, body, _ := strings.Cut(rest, "\n"); oneLine(title) == m.patch.Subject {
		rest = body
	}
	return rest, true
}

// forwarded reads the headers that a mail program writes above a forwarded mail.
func (m *message) forwarded(prose string) (rest string, found bool) {
	if rest, found := m.merged(prose); found {
		return rest, true
	}
	at := forwardLine.FindStringIndex(prose)
	if at == nil {
		if ruled := ruledHeader.FindStringSubmatchIndex(prose); ruled != nil {
			at = ruled[2:]
		}
	}
	if at == nil {
		return prose, false
	}
	rest = strings.TrimLeft(prose[at[1]:], "\r\n")
	from, subject := "", ""
	for {
		line, after, _ := strings.Cut(rest, "\n")
		line = strings.Trim(line, "*\r ")
		key, value, colon := strings.Cut(line, ":")
		if line == "" || !colon && from == "" {
			rest = after
			break
		}
		value = strings.Trim(value, "* \t")
		switch strings.ToLower(strings.Trim(key, "* ")) {
		case "from":
			from = value
		case "subject":
			subject = value
		case "date", "sent":
			if t, ok := parseDate(value); ok {
				m.patch.Date = t
			}
		}
		rest = after
	}
	name, email := identity(from)
	if email == "" {
		return prose, false
	}
	m.note("forwarded by %s", m.patch.Author)
	m.patch.Author, m.patch.Email = name, email
	if subject != "" {
		subject = decodeWords(subject)
		m.patch.Subject, m.patch.Prefix = cleanSubject(subject), subjectPrefix(subject)
		if m.of == 0 && m.version == 0 {
			reply := m.reply
			m.tag = parseSubject(subject)
			m.reply = reply
		}
	}
	return rest, true
}

// scissors is a dashed line with scissors in it.
var scissors = regexp.MustCompile(`^[-\s]*(?:>8|8<|>%|%<)[-\s]*(?:(?:>8|8<|>%|%<)[-\s]*|cut here[-\s]*|snip[-\s]*)*$`)

// belowScissors returns what stands below the last scissors line. Where there is
// nothing, the line was put above the diff, and cuts nothing off.
func belowScissors(prose string) (rest string, found bool) {
	rest = prose
	for {
		var below string
		cut := false
		offset := 0
		for line := range strings.Lines(rest) {
			offset += len(line)
			text := strings.TrimSpace(line)
			if text == "---" {
				break
			}
			if len(text) >= 4 && strings.Contains(text, "-") && scissors.MatchString(text) {
				below, cut = rest[offset:], true
				break
			}
		}
		if !cut || cutBody(below) == "" {
			return rest, found
		}
		rest, found = below, true
	}
}

// cutBody ends a message where git am ends it (mailinfo.c, patchbreak), and drops
// white space as git does in a commit's message.
func cutBody(prose string) string {
	var kept []string
	for line := range strings.Lines(prose) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "---" || strings.HasPrefix(line, "diff -") || strings.HasPrefix(line, "Index: ") ||
			strings.HasPrefix(line, "--- ") && len(line) > 4 && line[4] != ' ' {
			break
		}
		if line == "" && (len(kept) == 0 || kept[len(kept)-1] == "") {
			continue
		}
		kept = append(kept, line)
	}
	return strings.Trim(strings.Join(kept, "\n"), "\n")
}
