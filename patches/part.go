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
)

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
	if err := p.unwrap(h.get("Content-Transfer-Encoding")); err != nil {
		return nil, err
	}
	// The sender says that it is text; of another kind it may be all the same.
	said := strings.HasPrefix(kind, "text/") || depth == 0
	if err := p.wide(); err != nil && (said || isPatchName(p.name)) {
		return nil, err
	}
	if !p.html && !p.mail && !said && !isPatchName(p.name) && !looksLikeDiff(p.data) {
		return nil, nil
	}
	zero := bytes.IndexByte(p.data, 0)
	switch {
	case zero < 0 || p.html || p.mail:
		return []part{p}, nil
	case !said:
		return nil, nil
	case p.first == 0:
		return nil, fmt.Errorf("line %d of the decoded text: a zero byte; this is binary data, not a patch", lineAt(p.data, zero))
	}
	return nil, &lineError{p.first - first + lineAt(p.data, zero), "a zero byte; this is binary data, not a patch"}
}

// unwrap takes off the transfer encoding, a signature and the compression. Where the text is not
// as it stands in the mail, its lines have no number there.
func (p *part) unwrap(encoding string) (err error) {
	encoding = strings.ToLower(strings.TrimSpace(encoding))
	switch encoding {
	case "quoted-printable":
		p.data, p.first = unquotePrintable(p.data), 0
	case "base64":
		if p.data, err = unbase64(p.data); err != nil {
			return fmt.Errorf("the mail's base64 text is broken: %w", err)
		}
		p.first = 0
	case "x-uuencode", "uuencode", "x-uue", "binhex":
		return fmt.Errorf("unknown Content-Transfer-Encoding %q", encoding)
	}
	// Any other encoding is none, as for git: mailers write 8-bit, 8 bit or utf-8 there.
	p.data = unsigned(p.data)
	if unpacked, err := unpack(p.data); err == nil && !bytes.Equal(unpacked, p.data) {
		p.data, p.first = unpacked, 0
		p.name = strings.TrimSuffix(p.name, filepath.Ext(p.name))
	}
	return nil
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
	plain := unflowDiff(p.data, p.delSp)
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

// unflowDiff undoes format=flowed from the diff on.
func unflowDiff(data []byte, delSp bool) []byte {
	at := diffStart.FindIndex(data)
	if wrapped := bytes.Index(data, []byte("diff --git ")); wrapped >= 0 && (at == nil || wrapped < at[0]) {
		at = []int{wrapped}
	}
	if at == nil {
		return data
	}
	return slices.Concat(data[:at[0]], unflow(data[at[0]:], delSp))
}

// unflow undoes format=flowed (RFC 3676): one space of stuffing goes, and a line that ends in a
// space goes on in the next one.
func unflow(data []byte, delSp bool) []byte {
	var out []byte
	joined := false
	for line := range bytes.Lines(data) {
		text := bytes.TrimRight(line, "\r\n")
		if string(text) == "-- " {
			if joined {
				out = append(out, '\n')
			}
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
