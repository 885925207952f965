package patches

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// message is one mail as a thread's member. A patch that git could not read is kept
// in it with its error: whether that matters depends on the part it plays.
type message struct {
	tag
	patch Patch
	// err says why there is no patch: errNoDiff for prose.
	err error
	// sender is the address in the mail's own From, in small letters, and name the name there.
	sender, name string
	id           string
	// answers are the ids of In-Reply-To and References, the nearest first.
	answers []string
	// sent is the mail's date, which an in-body Date does not change.
	sent time.Time
	// trailers are Reviewed-by and their like in the text.
	trailers []string
	// notes say what was done to the mail on the way.
	notes []string
	// base and prerequisites are the trailers that git format-patch --base writes.
	base          string
	prerequisites []string
}

// place names the file and, where the text is there unencoded, the line.
func place(path string, line int) string {
	if line == 0 {
		return path
	}
	return fmt.Sprintf("%s:%d", path, line)
}

// locate puts the file and the line before an error, and the message after it.
// first is the file's line on which the parsed text begins, or 0 if encoded.
func locate(path, message string, first int, err error) error {
	if message != "" {
		message = " (" + message + ")"
	}
	var le *lineError
	if !errors.As(err, &le) {
		return fmt.Errorf("%s: %w%s", path, err, message)
	}
	if first == 0 {
		return fmt.Errorf("%s: line %d of the decoded text: %s%s", path, le.line, le.msg, message)
	}
	return fmt.Errorf("%s: %s%s", place(path, first+le.line-1), le.msg, message)
}

// errHTML is a mail whose only text is HTML.
var errHTML = errors.New("the mail is HTML only; save it as plain text, or take it from the list's archive")

// errQuoted is a diff in a quotation.
var errQuoted = fmt.Errorf("%w: it only quotes one with \">\", as a reply does; save the mail with the patch itself", errNoDiff)

// read reads one mail. number counts the mails of the file, from 1. It returns more
// than one message when whole mails are attached to it.
func (l letter) read(path string, number int) []message {
	m := message{patch: Patch{Path: path, Message: number}}
	head, first := l.raw, l.line
	if bytes.HasPrefix(head, fromWord) {
		_, head, _ = bytes.Cut(head, []byte("\n"))
		first++
	}
	lines := bytes.SplitAfter(head, []byte("\n"))
	h := headers(lines)
	m.readHeader(h)
	body := bytes.Join(lines[h.lines:], nil)
	first += h.lines

	parts, err := decode(h, body, first, 0)
	if err != nil {
		m.err = locate(path, m.called(), first, err)
		return []message{m}
	}
	for i := range parts {
		parts[i].flat = l.flat
	}
	if inner := m.attached(parts); len(inner) > 0 {
		return inner
	}
	p, err := m.choose(parts)
	if err != nil {
		m.err = locate(path, m.called(), p.first, err)
		return []message{m}
	}
	if l.mboxrd {
		p.unescape()
	}
	m.take(p)
	return []message{m}
}

// called is how an error calls the mail.
func (m *message) called() string {
	return fmt.Sprintf("message %d: %s", m.patch.Message, cmp.Or(m.patch.Subject, "no subject"))
}

func (m *message) readHeader(h header) {
	raw := decodeWords(h.get("Subject"))
	m.tag = parseSubject(raw)
	m.patch.Subject, m.patch.Prefix = cleanSubject(raw), subjectPrefix(raw)
	m.patch.Author, m.patch.Email = identity(h.get("From"))
	m.unmunge(h)
	m.sender, m.name = strings.ToLower(m.patch.Email), m.patch.Author
	m.id = oneLine(strings.Trim(h.get("Message-ID"), " <>"))
	m.patch.MessageID = m.id
	for _, name := range []string{"References", "In-Reply-To"} {
		for _, id := range messageID.FindAllStringSubmatch(h.get(name), -1) {
			m.answers = append(m.answers, id[1])
		}
	}
	slices.Reverse(m.answers)
	if date := h.get("Date"); date != "" {
		m.setDate(date)
	}
	m.sent = m.patch.Date
}

// unmunge finds the author of a mail whose From a mailing list has replaced with its
// own address, so that DMARC lets it pass: "Ada via list <list@example.org>".
func (m *message) unmunge(h header) {
	name, _, found := strings.Cut(m.patch.Author, " via ")
	original := h.get("X-Original-From")
	if original == "" && found && strings.Contains(h.get("List-Post"), m.patch.Email) {
		original = h.get("Reply-To")
	}
	author, email := identity(original)
	if !found || !strings.Contains(email, "@") || strings.Contains(original, ",") {
		return
	}
	if author == email {
		author = strings.Trim(name, `' "`)
	}
	m.note("sent as %s <%s>; its author is %s <%s>", m.patch.Author, m.patch.Email, author, email)
	m.patch.Author, m.patch.Email = author, email
}

var messageID = regexp.MustCompile(`<([^<>\s]+)>`)

func (m *message) setDate(value string) {
	t, ok := parseDate(value)
	if !ok {
		used := unknownDate
		if !m.patch.Date.IsZero() {
			used = m.patch.Date
		}
		m.note("the date %q cannot be read; %s is used instead", value, used.Format(time.DateOnly))
		return
	}
	m.patch.Date = t
}

func (m *message) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// take parses the mail's text into its patch.
func (m *message) take(p part) {
	raw := string(p.data)
	d, err := parseText(&p)
	if err != nil {
		if errors.Is(err, errNoDiff) {
			if strings.Contains(raw, "\n> diff --git ") || strings.Contains(raw, "\n>diff --git ") || strings.Contains(raw, "\n> @@ -") {
				err = errQuoted
			}
			m.readTrailers(raw)
			m.readBase(raw)
		}
		m.err = locate(m.patch.Path, m.called(), p.first, err)
		return
	}
	for _, f := range d.files {
		for i := range f.Hunks {
			f.Hunks[i].Line += p.first - 1
			if p.first == 0 {
				f.Hunks[i].Line = 0
			}
		}
	}
	m.readTrailers(raw)
	m.patch.Files, m.patch.Diff = d.files, []byte(d.diff)
	m.readBase(raw)
	prose := d.prose
	if p.flowed {
		prose = string(unflow([]byte(prose), p.delSp))
	}
	m.patch.Body = cutBody(m.inBody(toUTF8(prose, p.charset)))
	if m.patch.Subject == "" {
		// git makes the first paragraph of the message the subject.
		title, body, _ := strings.Cut(m.patch.Body, "\n\n")
		m.patch.Subject, m.patch.Body = oneLine(title), body
	}
	if m.patch.Subject == "" {
		m.patch.Subject = stem(m.patch.Path)
	}
}

// decodeWords undoes RFC 2047 in a header; what it cannot decode stays as it is.
func decodeWords(value string) string {
	decoder := mime.WordDecoder{CharsetReader: charsetReader}
	if decoded, err := decoder.DecodeHeader(value); err == nil {
		value = decoded
	}
	return oneLine(toUTF8(value, ""))
}

// oneLine makes a text from outside fit for one header line or terminal line.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)), " ")
}

// identity reads a From header in the forms that people and archives write: a name
// may have commas and parentheses without quotes, which RFC 5322 does not allow, or
// stand in parentheses after the address. email is empty when there is none.
func identity(from string) (name, email string) {
	open := strings.LastIndex(from, "<")
	if open >= 0 {
		var behind string
		email, behind, _ = strings.Cut(from[open+1:], ">")
		name = from[:open]
		// What stands behind the address belongs to the name, as for git.
		if behind = strings.TrimSpace(behind); strings.HasPrefix(behind, "(") {
			name = strings.TrimSpace(name) + " " + behind
		}
	} else if at := strings.Index(from, "@"); at >= 0 {
		start := strings.LastIndexAny(from[:at], " \t(") + 1
		end := at + len(from[at:])
		if i := strings.IndexAny(from[at:], " \t)("); i >= 0 {
			end = at + i
		}
		email = from[start:end]
		name = strings.TrimSpace(from[:start] + from[end:])
		if strings.HasPrefix(name, "(") && strings.HasSuffix(name, ")") {
			name = name[1 : len(name)-1]
		}
	} else {
		return decodeWords(unquote(from)), ""
	}
	email = oneLine(strings.TrimSpace(email))
	name = decodeWords(unquote(name))
	return cmp.Or(name, email), email
}

// unquote takes the quotes off a name, and the backslashes that stand in them.
func unquote(s string) string {
	var b strings.Builder
	s = strings.TrimSpace(s)
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			continue
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
