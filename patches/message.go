package patches

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"path/filepath"
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
	// sender is the address in the mail's own From, in small letters.
	sender string
	id     string
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
		m.err = locate(path, m.name(), first, err)
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
		m.err = locate(path, m.name(), p.first, err)
		return []message{m}
	}
	if l.mboxrd {
		p.unescape()
	}
	m.take(p)
	return []message{m}
}

// name is how an error calls the mail.
func (m *message) name() string {
	return fmt.Sprintf("message %d: %s", m.patch.Message, cmp.Or(m.patch.Subject, "no subject"))
}

func (m *message) readHeader(h header) {
	raw := decodeWords(h.get("Subject"))
	m.tag = parseSubject(raw)
	m.patch.Subject = cleanSubject(raw)
	m.patch.Author, m.patch.Email = identity(h.get("From"))
	m.unmunge(h)
	m.sender = strings.ToLower(m.patch.Email)
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
		m.note("the date %q cannot be read; %s is used instead", value, unknownDate.Format(time.DateOnly))
		return
	}
	m.patch.Date = t
}

func (m *message) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// part is a text of a mail in the bytes its author wrote.
type part struct {
	header
	data    []byte
	charset string
	// first is the file's line on which data begins; 0 when it was encoded, so that
	// line numbers in it are not those of the file.
	first int
	// name is an attachment's file name.
	name string
	// html and mail are parts that are not read as text; flowed is format=flowed.
	html, mail, flowed, delSp bool
	// flat is the letter's.
	flat bool
}

// decode takes the MIME wrapping off a mail or a part of one and returns its texts.
func decode(h header, body []byte, first, depth int) ([]part, error) {
	// Real mails nest two or three deep (signed, alternative, mixed).
	if depth > 5 {
		return nil, errors.New("MIME parts nested too deep")
	}
	kind, params, err := mime.ParseMediaType(h.get("Content-Type"))
	if err != nil && kind == "" {
		kind = strings.ToLower(strings.TrimSpace(strings.SplitN(h.get("Content-Type"), ";", 2)[0]))
	}
	kind = cmp.Or(kind, "text/plain")
	if strings.HasPrefix(kind, "multipart/") {
		closing := h.closing()
		if closing == "" {
			return nil, errors.New("a multipart mail without a boundary")
		}
		parts, err := decodeParts(strings.TrimSuffix(closing, "--"), body, first, depth)
		for i := range parts {
			// The parts of a list's digest are mails (RFC 2046, 5.1.5).
			parts[i].mail = parts[i].mail || kind == "multipart/digest" && parts[i].header.get("Content-Type") == ""
		}
		return parts, err
	}
	p := part{header: h, data: body, charset: params["charset"], first: first}
	p.flowed = strings.EqualFold(params["format"], "flowed")
	p.delSp = strings.EqualFold(params["delsp"], "yes")
	p.name = params["name"]
	if _, disposition, err := mime.ParseMediaType(h.get("Content-Disposition")); err == nil {
		p.name = cmp.Or(disposition["filename"], p.name)
	}
	p.html = kind == "text/html" || kind == "application/xhtml+xml"
	p.mail = kind == "message/rfc822"
	encoding := strings.ToLower(strings.TrimSpace(h.get("Content-Transfer-Encoding")))
	switch encoding {
	case "quoted-printable":
		p.data, p.first = unquotePrintable(body), 0
	case "base64":
		if p.data, err = unbase64(body); err != nil {
			return nil, fmt.Errorf("the mail's base64 text is broken: %w", err)
		}
		p.first = 0
	case "x-uuencode", "uuencode", "x-uue", "binhex":
		return nil, fmt.Errorf("unknown Content-Transfer-Encoding %q", encoding)
	}
	// Any other encoding is none, as for git: mailers write 8-bit, 8 bit or utf-8 there.
	p.data = unsigned(p.data)
	if unpacked, err := unpack(p.data); err == nil && !bytes.Equal(unpacked, p.data) {
		p.data, p.first = unpacked, 0
		p.name = strings.TrimSuffix(p.name, filepath.Ext(p.name))
	}
	if err := p.wide(); err != nil && (strings.HasPrefix(kind, "text/") || depth == 0 || isPatchName(p.name)) {
		return nil, err
	}
	text := p.html || p.mail || strings.HasPrefix(kind, "text/") || depth == 0 || isPatchName(p.name) || looksLikeDiff(p.data)
	if !text {
		return nil, nil
	}
	if !p.html && !p.mail {
		if i := bytes.IndexByte(p.data, 0); i >= 0 {
			if strings.HasPrefix(kind, "text/") || depth == 0 {
				if p.first == 0 {
					return nil, fmt.Errorf("line %d of the decoded text: a zero byte; this is binary data, not a patch", lineAt(p.data, i))
				}
				return nil, &lineError{p.first - first + lineAt(p.data, i), "a zero byte; this is binary data, not a patch"}
			}
			return nil, nil
		}
	}
	return []part{p}, nil
}

// wide decodes text in UTF-16: the charset that the mail names, or an attachment that
// PowerShell wrote.
func (p *part) wide() error {
	if bytes.IndexByte(p.data, 0) < 0 {
		return nil
	}
	text, err := fromUTF16(p.data)
	if e := encodingOf(p.charset); e != nil && strings.HasPrefix(strings.ToLower(p.charset), "utf-16") {
		text, err = e.NewDecoder().Bytes(p.data)
		p.charset = "utf-8"
	}
	if err == nil && !bytes.Equal(text, p.data) {
		p.data, p.first = text, 0
	}
	return err
}

var signedText = regexp.MustCompile(`(?s)^\s*-----BEGIN PGP SIGNED MESSAGE-----\r?\n(?:[A-Z][A-Za-z]*: [^\n]*\n)*\r?\n(.*?)\r?\n?-----BEGIN PGP SIGNATURE-----\r?\n`)

// unsigned is the text that PGP signed, in which lines that begin with a dash have another in
// front, and a blank (RFC 9580, 7.2).
func unsigned(data []byte) []byte {
	m := signedText.FindSubmatch(data)
	if m == nil {
		return data
	}
	text := bytes.ReplaceAll(append([]byte("\n"), m[1]...), []byte("\n- "), []byte("\n"))
	return append(text[1:], '\n')
}

func isPatchName(name string) bool {
	return slices.Contains([]string{".patch", ".diff", ".mbox", ".eml", ".txt"}, strings.ToLower(filepath.Ext(name)))
}

var diffStart = regexp.MustCompile(`(?m)^(?:diff --git .|--- .+\n\+\+\+ .+\n@@ -)`)

func looksLikeDiff(data []byte) bool {
	return diffStart.Match(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))
}

// decodeParts cuts a multipart body at its boundary and decodes each part.
func decodeParts(boundary string, body []byte, first, depth int) ([]part, error) {
	var all []part
	start := -1
	lines := bytes.SplitAfter(body, []byte("\n"))
	flush := func(end int) error {
		if start < 0 {
			return nil
		}
		h := headers(lines[start:end])
		from := start + h.lines
		// The line end before a boundary belongs to the boundary, but a patch needs
		// its last one.
		parts, err := decode(h, bytes.Join(lines[from:end], nil), first+from, depth+1)
		all = append(all, parts...)
		return err
	}
	for i, line := range lines {
		text := strings.TrimRight(string(line), " \t\r\n")
		if text != boundary && text != boundary+"--" {
			continue
		}
		if err := flush(i); err != nil {
			return nil, err
		}
		start = i + 1
		if text != boundary {
			return all, nil
		}
	}
	// A mail that was cut short has no closing boundary; its last hunk tells.
	return all, flush(len(lines))
}

// unquotePrintable undoes quoted-printable as leniently as git: what is no escape
// stays as it is.
func unquotePrintable(data []byte) []byte {
	var out []byte
	for line := range bytes.Lines(data) {
		text := bytes.TrimRight(line, " \t\r\n")
		end := []byte("\n")
		if !bytes.HasSuffix(line, end) {
			end = nil
		}
		if soft, found := bytes.CutSuffix(text, []byte("=")); found {
			text, end = soft, nil
		}
		for i := 0; i < len(text); i++ {
			if text[i] == '=' && i+2 < len(text) {
				if high, low := unhex(text[i+1]), unhex(text[i+2]); high >= 0 && low >= 0 {
					out = append(out, byte(high<<4|low))
					i += 2
					continue
				}
			}
			out = append(out, text[i])
		}
		out = append(out, end...)
	}
	return out
}

func unhex(c byte) int { return strings.IndexByte("0123456789ABCDEF", bytes.ToUpper([]byte{c})[0]) }

var base64Line = regexp.MustCompile(`^[A-Za-z0-9+/]*={0,2}$`)

// unbase64 decodes a body line by line, up to the plain footer that list servers
// put below some.
func unbase64(data []byte) ([]byte, error) {
	var text strings.Builder
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if !base64Line.Match(line) || bytes.HasSuffix([]byte(strings.TrimSpace(text.String())), []byte("=")) {
			break
		}
		text.Write(line)
	}
	encoded := strings.TrimRight(text.String(), "=")
	out, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	if len(out) == 0 && len(bytes.TrimSpace(data)) > 0 {
		return nil, errors.New("there is none in it")
	}
	return out, nil
}

// attached returns the mails that are attached to this one, which then is only
// their envelope: it says which thread they belong to.
func (m *message) attached(parts []part) []message {
	var inner []message
	for _, p := range parts {
		if p.html {
			continue
		}
		letters := split(p.data)
		if !p.mail && (len(letters) == 0 || p.name == "" && !mboxFrom.Match(p.data)) {
			continue
		}
		for _, l := range letters {
			if p.first > 0 {
				l.line += p.first - 1
			}
			for _, found := range l.read(m.patch.Path, m.patch.Message) {
				if found.err != nil && errors.Is(found.err, errNoDiff) {
					continue
				}
				if p.first == 0 {
					found.forgetLines()
				}
				found.id = cmp.Or(m.id, found.id)
				found.answers = append(found.answers, m.answers...)
				found.sender = cmp.Or(m.sender, found.sender)
				found.reply = m.reply
				if !found.sent.IsZero() && !m.sent.IsZero() {
					found.sent = m.sent
				}
				// The envelope's numbers count where the attached mail has none.
				if found.of == 0 {
					found.number, found.half, found.of = m.number, m.half, m.of
				}
				if found.version == 0 {
					found.version, found.minor = m.version, m.minor
				}
				found.note("attached to the mail %q", m.patch.Subject)
				inner = append(inner, found)
			}
		}
	}
	if len(inner) > 1 && m.of > 0 {
		for i := range inner {
			if inner[i].of == m.of && inner[i].number == m.number {
				inner[i].number, inner[i].half, inner[i].of = 0, 0, 0
			}
		}
	}
	return inner
}

// forgetLines drops line numbers that mean nothing in the file.
func (m *message) forgetLines() {
	for _, f := range m.patch.Files {
		for i := range f.Hunks {
			f.Hunks[i].Line = 0
		}
	}
}

// choose makes one text of a mail's parts: the message, and below it the diff.
func (m *message) choose(parts []part) (part, error) {
	var texts []part
	html := false
	for _, p := range parts {
		if p.html {
			html = true
		} else if !p.mail {
			texts = append(texts, p)
		}
	}
	var diffs []int
	for i, p := range texts {
		if looksLikeDiff(p.data) {
			diffs = append(diffs, i)
		}
	}
	switch {
	case len(diffs) == 0 && html && !slices.ContainsFunc(texts, func(p part) bool { return len(bytes.TrimSpace(p.data)) > 0 }):
		return part{}, errHTML
	case len(texts) == 0:
		return part{}, errNoDiff
	case len(diffs) > 1:
		kept, err := m.oneDiff(texts, diffs)
		if err != nil {
			return part{}, err
		}
		texts = kept
	}
	if len(texts) == 1 {
		return texts[0], nil
	}
	whole := part{charset: texts[0].charset, flowed: texts[0].flowed, delSp: texts[0].delSp}
	for i, p := range texts {
		data := p.data
		if i == 0 {
			data = []byte(toUTF8Prose(data, p.charset))
		}
		if len(whole.data) > 0 && !bytes.HasSuffix(whole.data, []byte("\n")) {
			whole.data = append(whole.data, '\n')
		}
		// A diff of its own is no continuation of what stands before it.
		if i > 0 && looksLikeDiff(p.data) && !slices.Contains(diffs, 0) && i == firstOf(diffs) {
			whole.data = append(whole.data, "\n---\n"...)
		}
		whole.data = append(whole.data, data...)
	}
	if !slices.Contains(diffs, 0) {
		whole.charset = "utf-8"
	}
	return whole, nil
}

func firstOf(list []int) int {
	if len(list) == 0 {
		return -1
	}
	return list[0]
}

// toUTF8Prose converts a part that holds no diff, so that parts in several charsets
// can be put together.
func toUTF8Prose(data []byte, charset string) string {
	if looksLikeDiff(data) {
		return string(data)
	}
	return toUTF8(string(data), charset)
}

// oneDiff decides which of a mail's several diffs are meant: mailers break a diff in
// the text, so people attach it as well.
func (m *message) oneDiff(texts []part, diffs []int) ([]part, error) {
	ids := map[string]bool{}
	touched := map[string]int{}
	overlap := false
	var good []int
	for _, i := range diffs {
		d, err := parseText(&texts[i])
		if err != nil {
			continue
		}
		good = append(good, i)
		ids[Patch{Files: d.files}.ID()] = true
		for _, f := range d.files {
			if before, found := touched[f.Name()]; found && before != i {
				overlap = true
			}
			touched[f.Name()] = i
		}
	}
	drop := func(keep int, why string) []part {
		m.note("it has %d diffs; %s", len(diffs), why)
		var kept []part
		for i, p := range texts {
			if i == keep || !slices.Contains(diffs, i) {
				kept = append(kept, p)
			} else if prose := proseOf(p.data); len(bytes.TrimSpace(prose)) > 0 && i < keep {
				p.data = prose
				kept = append(kept, p)
			}
		}
		return kept
	}
	switch {
	case len(ids) == 1 && len(good) == len(diffs):
		return drop(diffs[0], "they are the same, and one is taken"), nil
	case len(good) == 1 && good[0] != diffs[0]:
		return drop(good[0], "the attached one is taken, as the one in the text is broken"), nil
	case len(good) == len(diffs) && !overlap:
		m.note("its %d diffs change different files; all are taken, in the order of the mail", len(diffs))
		return texts, nil
	}
	return nil, fmt.Errorf("it has %d different diffs, in its text or attached; save the one you mean as a file", len(diffs))
}

// proseOf is a text up to its diff.
func proseOf(data []byte) []byte {
	if at := diffStart.FindIndex(data); at != nil {
		return data[:at[0]]
	}
	return data
}

// unescape takes one > from what a mailbox has escaped; hunks hold no such lines.
func (p *part) unescape() {
	if !bytes.Contains(p.data, []byte(">From ")) {
		return
	}
	var out []byte
	for line := range bytes.Lines(p.data) {
		if escapedFrom.Match(line) {
			line = line[1:]
		}
		out = append(out, line...)
	}
	p.data = out
}

// parseText parses a part's diff, and undoes format=flowed where its mailer did it.
func parseText(p *part) (parsedDiff, error) {
	strip := autoStrip
	if p.flat {
		strip = 0
	}
	d, err := parseDiff(p.data, strip)
	if !p.flowed || err == nil && !stuffed(p.data) {
		return d, err
	}
	plain := unflow(p.data, p.delSp)
	again, flowedErr := parseDiff(plain, strip)
	if flowedErr != nil {
		if err == nil {
			return d, nil
		}
		if errors.Is(err, errNoDiff) {
			return d, err
		}
		return d, fmt.Errorf("%w; the mail is sent as format=flowed, which breaks patches", err)
	}
	p.data, p.first = plain, 0
	return again, nil
}

// stuffed says whether the lines of a diff that begin with a space have one more,
// which RFC 3676 puts there: a context line of C rarely begins with a space itself.
func stuffed(data []byte) bool {
	inHunk, some := false, false
	for line := range strings.Lines(string(data)) {
		switch {
		case strings.HasPrefix(line, "@@ -"):
			inHunk = true
		case strings.HasPrefix(line, "-- "), strings.HasPrefix(line, "diff --git "):
			inHunk = false
		case inHunk && strings.HasPrefix(line, " "):
			if !strings.HasPrefix(line, "  ") {
				return false
			}
			some = true
		}
	}
	return some
}

// unflow undoes format=flowed (RFC 3676) from the diff on: one space of stuffing
// goes, and a line that ends in a space goes on in the next one.
func unflow(data []byte, delSp bool) []byte {
	var out []byte
	at := diffStart.FindIndex(data)
	if wrapped := bytes.Index(data, []byte("diff --git ")); wrapped >= 0 && (at == nil || wrapped < at[0]) {
		at = []int{wrapped}
	}
	if at == nil {
		return data
	}
	out = append(out, data[:at[0]]...)
	joined := false
	for line := range bytes.Lines(data[at[0]:]) {
		text := bytes.TrimRight(line, "\r\n")
		if string(text) == "-- " {
			out = append(out, line...)
			joined = false
			continue
		}
		if bytes.HasPrefix(text, []byte(" ")) {
			text = text[1:]
		}
		soft := bytes.HasSuffix(text, []byte(" ")) && len(bytes.TrimSpace(text)) > 0
		if soft && delSp {
			text = text[:len(text)-1]
		}
		out = append(out, text...)
		if joined = soft; !joined {
			out = append(out, '\n')
		}
	}
	return out
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
		m.err = locate(m.patch.Path, m.name(), p.first, err)
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
	m.patch.Body = cutBody(m.inBody(toUTF8(d.prose, p.charset)))
	if m.patch.Subject == "" {
		// git makes the first paragraph of the message the subject.
		title, body, _ := strings.Cut(m.patch.Body, "\n\n")
		m.patch.Subject, m.patch.Body = oneLine(title), body
	}
	if m.patch.Subject == "" {
		m.patch.Subject = stem(m.patch.Path)
	}
}

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
		name = from[:open]
		email, _, _ = strings.Cut(from[open+1:], ">")
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
	rest := strings.TrimLeft(prose, "\r\n \t")
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
			if email == "" || !strings.Contains(email, "@") {
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
		m.patch.Subject = cleanSubject(subject)
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
