package patches

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

var (
	// mboxFrom is the line that opens a mail in a mailbox, told from prose by its
	// time and year (git's builtin/mailsplit.c, is_from_line).
	mboxFrom = regexp.MustCompile(`^From .*[0-9]:[0-9]{2}.* [0-9]{4}`)
	// headerLine is the first line of a mail without one.
	headerLine = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*:[ \t]`)
	// numbered is the 2/7 of [PATCH v3 2/7].
	numbered = regexp.MustCompile(`^(?i:re:\s*)*(?:\[[^\]]*\]\s*)*?\[[^\]]*?\b([0-9]{1,4})/([0-9]{1,4})\b[^\]]*\]`)
	reply    = regexp.MustCompile(`^(?i:re|aw|fwd?):`)
)

// letter is one mail of a mailbox, or the whole of a plain diff.
type letter struct {
	raw []byte
	// line is the number of raw's first line in the file.
	line int
}

// place names the file and, where the text is there unencoded, the line.
func place(path string, line int) string {
	if line == 0 {
		return path
	}
	return fmt.Sprintf("%s:%d", path, line)
}

// parse reads a file's patches, in the order in which they apply.
func parse(path string, data []byte) ([]Patch, error) {
	letters := split(data)
	if len(letters) == 0 {
		return parsePlain(path, data)
	}
	var found []ordered
	for i, l := range letters {
		p, number, of, err := l.patch(path, i+1)
		// A thread holds cover letters and answers; anything else without a diff is
		// a patch that got lost.
		besides := number == 0 && of > 0 || reply.MatchString(p.rawSubject)
		if errors.Is(err, errNoDiff) && len(letters) > 1 && besides {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, ordered{p.Patch, number, of})
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: none of its %d messages has a diff", path, len(letters))
	}
	return order(path, found)
}

type ordered struct {
	Patch
	number, of int
}

// order sorts a thread by its [PATCH n/m] numbers, when it has them.
func order(path string, found []ordered) ([]Patch, error) {
	withNumber := 0
	for _, o := range found {
		if o.of > 0 {
			withNumber++
		}
	}
	if withNumber > 1 {
		slices.SortStableFunc(found, func(a, b ordered) int { return cmp.Compare(a.number, b.number) })
		of := found[len(found)-1].of
		for i, o := range found {
			where := fmt.Sprintf("%s: message %d (%s)", path, o.Message, o.Subject)
			switch {
			case o.of == 0:
				return nil, fmt.Errorf("%s has a diff, but no [PATCH n/%d] as the others have; take it out or number it", where, of)
			case o.of != of:
				return nil, fmt.Errorf("%s is number %d/%d among patches of %d: are these two series?", where, o.number, o.of, of)
			case i > 0 && o.number == found[i-1].number:
				return nil, fmt.Errorf("%s is number %d/%d, and so is message %d; keep one of them", where, o.number, o.of, found[i-1].Message)
			case o.number != i+1:
				return nil, fmt.Errorf("%s: patch %d/%d is missing", path, i+1, of)
			}
		}
		if len(found) != of {
			return nil, fmt.Errorf("%s: patch %d/%d is missing", path, len(found)+1, of)
		}
	}
	list := make([]Patch, 0, len(found))
	for _, o := range found {
		list = append(list, o.Patch)
	}
	return list, nil
}

// split cuts a mailbox into mails; it returns none when data is a plain diff.
func split(data []byte) []letter {
	var letters []letter
	number, blank := 0, true
	for line := range bytes.Lines(data) {
		number++
		opens := blank && mboxFrom.Match(line)
		// A mail saved without its "From " line begins with headers.
		if len(letters) == 0 && blank && !opens && headerLine.Match(line) && looksLikeMail(data) {
			opens = true
		}
		blank = len(bytes.TrimSpace(line)) == 0
		if len(letters) == 0 && !opens {
			if !blank {
				return nil
			}
			continue
		}
		if opens {
			letters = append(letters, letter{line: number})
		}
		l := &letters[len(letters)-1]
		l.raw = append(l.raw, line...)
	}
	return letters
}

func looksLikeMail(data []byte) bool {
	msg, err := mail.ReadMessage(bytes.NewReader(bytes.TrimLeft(data, "\r\n")))
	return err == nil && (msg.Header.Get("Subject") != "" || msg.Header.Get("From") != "")
}

// parsePlain reads a diff without mail headers. What `git show` and `git log -p`
// put above it is understood; other prose becomes the body.
func parsePlain(path string, data []byte) ([]Patch, error) {
	d, err := parseDiff(data)
	if err != nil {
		return nil, locate(path, "", 1, err)
	}
	p := Patch{Path: path, Subject: stem(path), Body: cutBody(toUTF8(d.prose, "")), Files: d.files, Diff: []byte(d.diff), Raw: data}
	if strings.HasPrefix(d.prose, "commit ") {
		if h, err := gitdiff.ParsePatchHeader(d.prose); err == nil && h.Title != "" {
			p.Subject, p.Body, p.Date = oneLine(h.Title), cutBody(h.Body), h.AuthorDate
			if h.Author != nil {
				p.Author, p.Email = oneLine(h.Author.Name), oneLine(h.Author.Email)
			}
		}
	}
	return []Patch{p}, nil
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

type mailPatch struct {
	Patch
	rawSubject string
}

// patch reads one mail, and the n/m of its subject (0, 0 without).
func (l letter) patch(path string, number int) (p mailPatch, n, of int, err error) {
	p.Patch = Patch{Path: path, Message: number, Raw: l.raw}
	head, first := l.raw, l.line
	if mboxFrom.Match(head) {
		_, head, _ = bytes.Cut(head, []byte("\n"))
		first++
	}
	msg, err := mail.ReadMessage(bytes.NewReader(head))
	if err != nil {
		return p, 0, 0, fmt.Errorf("%s: message %d: the mail's headers are broken: %w", place(path, l.line), number, err)
	}
	p.rawSubject = decodeWords(msg.Header.Get("Subject"))
	p.Subject = cleanSubject(p.rawSubject)
	if m := numbered.FindStringSubmatch(p.rawSubject); m != nil {
		n, _ = strconv.Atoi(m[1])
		of, _ = strconv.Atoi(m[2])
	}
	p.Author, p.Email = identity(msg.Header.Get("From"))
	p.MessageID = oneLine(strings.Trim(msg.Header.Get("Message-ID"), " <>"))
	if date, err := msg.Header.Date(); err == nil {
		p.Date = date
	}

	name := fmt.Sprintf("message %d: %s", number, cmp.Or(p.Subject, "no subject"))
	text, err := decode(msg.Header.Get, msg.Body, 0)
	if err != nil {
		return p, n, of, locate(path, name, first, err)
	}
	if text.decoded {
		first = 0
		if err := checkDecoded(text.data); err != nil {
			return p, n, of, locate(path, name, 0, err)
		}
	} else {
		body := len(head) - len(text.data)
		first += bytes.Count(head[:max(body, 0)], []byte("\n"))
	}
	d, err := parseDiff(text.data)
	if err != nil {
		return p, n, of, locate(path, name, first, err)
	}
	for _, f := range d.files {
		for i := range f.Hunks {
			f.Hunks[i].Line += first - 1
			if text.decoded {
				f.Hunks[i].Line = 0
			}
		}
	}
	p.Files, p.Diff = d.files, []byte(d.diff)
	p.Body = cutBody(p.inBody(toUTF8(d.prose, text.charset)))
	if p.Subject == "" {
		p.Subject = stem(path)
	}
	return p, n, of, nil
}

// checkDecoded repeats the check for binary data where the encoding hid it.
func checkDecoded(data []byte) error {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return &lineError{lineAt(data, i), "a zero byte; this is binary data, not a patch"}
	}
	return nil
}

// mailText is a mail's text in the bytes its author wrote.
type mailText struct {
	data    []byte
	charset string
	// decoded means that line numbers in data are not those of the file.
	decoded bool
}

// decode takes the MIME wrapping off a mail or a part of one. Of a multipart mail
// it keeps the text parts, one after the other, as git mailinfo does; HTML is left out.
func decode(header func(string) string, body io.Reader, depth int) (mailText, error) {
	kind, params, err := mime.ParseMediaType(header("Content-Type"))
	if err != nil {
		kind = "text/plain"
	}
	if strings.HasPrefix(kind, "multipart/") {
		return decodeParts(params["boundary"], body, depth)
	}
	text := mailText{charset: strings.ToLower(params["charset"])}
	encoding := strings.ToLower(strings.TrimSpace(header("Content-Transfer-Encoding")))
	switch encoding {
	case "quoted-printable":
		body, text.decoded = quotedprintable.NewReader(body), true
	case "base64":
		body, text.decoded = base64.NewDecoder(base64.StdEncoding, body), true
	case "", "7bit", "8bit", "binary":
	default:
		return text, fmt.Errorf("unknown Content-Transfer-Encoding %q", encoding)
	}
	if text.data, err = io.ReadAll(body); err != nil {
		return text, fmt.Errorf("the mail's %s text is broken: %w", cmp.Or(encoding, "plain"), err)
	}
	return text, nil
}

func decodeParts(boundary string, body io.Reader, depth int) (mailText, error) {
	// Real mails nest two or three deep (signed, alternative, mixed).
	if depth > 5 {
		return mailText{}, errors.New("MIME parts nested too deep")
	}
	if boundary == "" {
		return mailText{}, errors.New("a multipart mail without a boundary")
	}
	whole := mailText{decoded: true}
	parts := multipart.NewReader(body, boundary)
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return whole, nil
		}
		if err != nil {
			return whole, fmt.Errorf("the mail's MIME parts are broken: %w", err)
		}
		kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		extension := filepath.Ext(part.FileName())
		text := kind == "" || strings.HasPrefix(kind, "text/") && kind != "text/html" || strings.HasPrefix(kind, "multipart/") ||
			extension == ".patch" || extension == ".diff"
		if !text {
			continue
		}
		inner, err := decode(part.Header.Get, part, depth+1)
		if err != nil {
			return whole, err
		}
		if len(whole.data) > 0 && !bytes.HasSuffix(whole.data, []byte("\n")) {
			whole.data = append(whole.data, '\n')
		}
		whole.data = append(whole.data, inner.data...)
		whole.charset = cmp.Or(whole.charset, inner.charset)
	}
}

// decodeWords undoes RFC 2047 in a header; a charset it does not know stays
// encoded, for git to decode.
func decodeWords(value string) string {
	if decoded, err := new(mime.WordDecoder).DecodeHeader(value); err == nil {
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

// toUTF8 converts prose, never a diff. What is not UTF-8 on the lists is mostly Latin-1.
func toUTF8(s, charset string) string {
	if utf8.ValidString(s) && charset != "iso-8859-1" {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

// identity reads a From header. Archives and old mailers write some that RFC 5322
// does not allow; what stands between < and > is then taken as the address.
func identity(from string) (name, email string) {
	if from == "" {
		return "", ""
	}
	if a, err := mail.ParseAddress(from); err == nil {
		return cmp.Or(oneLine(a.Name), oneLine(a.Address)), oneLine(a.Address)
	}
	name, rest, _ := strings.Cut(decodeWords(from), "<")
	email, _, _ = strings.Cut(rest, ">")
	return strings.Trim(name, ` "`), oneLine(email)
}

// cleanSubject does what git am does to a subject without -k (mailinfo.c,
// cleanup_subject): "Re:" and bracketed prefixes go, an unclosed bracket stays.
func cleanSubject(s string) string {
	for {
		s = strings.TrimLeft(s, " \t:")
		switch {
		case len(s) >= 3 && strings.EqualFold(s[:3], "re:"):
			s = s[3:]
		case strings.HasPrefix(s, "["):
			_, rest, found := strings.Cut(s, "]")
			if !found {
				return strings.TrimSpace(s)
			}
			s = rest
		default:
			return strings.TrimSpace(s)
		}
	}
}

// inBody takes the author, date and subject that a mail's text may begin with,
// for someone who sends another's patch (git-am(1), DISCUSSION), and returns the rest.
func (p *mailPatch) inBody(prose string) string {
	rest := strings.TrimLeft(prose, "\r\n \t")
	for {
		line, after, _ := strings.Cut(rest, "\n")
		key, value, found := strings.Cut(line, ": ")
		if !found {
			break
		}
		switch strings.ToLower(key) {
		case "from":
			p.Author, p.Email = identity(strings.TrimSpace(value))
		case "subject":
			p.Subject = cleanSubject(decodeWords(value))
		case "date":
			if date, err := mail.ParseDate(strings.TrimSpace(value)); err == nil {
				p.Date = date
			}
		default:
			return rest
		}
		rest = after
	}
	return rest
}

// cutBody ends a message where git am ends it (mailinfo.c, patchbreak).
func cutBody(prose string) string {
	var kept []string
	for line := range strings.Lines(prose) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "---" || strings.HasPrefix(line, "diff -") || strings.HasPrefix(line, "Index: ") {
			break
		}
		kept = append(kept, line)
	}
	return strings.Trim(strings.Join(kept, "\n"), "\n")
}
