package patches

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

var (
	// mboxFrom is the line that opens a mail in a mailbox, told from prose by its
	// time and year (git's builtin/mailsplit.c, is_from_line).
	mboxFrom = regexp.MustCompile(`^From .*[0-9]:[0-9]{2}.* [0-9]{4}`)
	// headerLine is the first line of a mail without one.
	headerLine = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*:(?:[ \t]|\r?\n$)`)
	boundary   = regexp.MustCompile(`(?i)\bboundary\s*=\s*(?:"([^"]+)"|([^\s;"]+))`)
	// escapedFrom is a line of text that a mailbox had to tell from mboxFrom.
	escapedFrom = regexp.MustCompile(`^>+From `)
)

// fromWord begins the line that opens a mail.
var fromWord = []byte("From ")

// letter is one mail of a mailbox.
type letter struct {
	raw []byte
	// line is the number of raw's first line in the file.
	line int
	// mboxrd means that lines beginning with >From have one > too many.
	mboxrd bool
	// flat means that the names in its diff have no folder to strip, as patch -p0 says.
	flat bool
}

// subject is the mail's, decoded.
func (l letter) subject() string {
	lines := bytes.SplitAfter(l.raw, []byte("\n"))
	if bytes.HasPrefix(l.raw, fromWord) {
		lines = lines[1:]
	}
	return decodeWords(headers(lines).get("Subject"))
}

// split cuts a mailbox into mails; it returns none when data is no mail.
func split(data []byte) []letter {
	lines := bytes.SplitAfter(data, []byte("\n"))
	if n := len(lines); len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	first := 0
	for first < len(lines) && blankLine(lines[first]) {
		first++
	}
	if first == len(lines) {
		return nil
	}
	if !opens(lines, first) && !headers(lines[first:]).mail() {
		if first = lateHeader(lines, first); first < 0 {
			return nil
		}
	}
	var letters []letter
	for from := first; from < len(lines); {
		to := letterEnd(lines, from)
		l := letter{raw: bytes.Join(lines[from:to], nil), line: from + 1}
		l.mboxrd = bytes.HasPrefix(l.raw, []byte("From mboxrd@z "))
		letters = append(letters, l)
		from = to
	}
	return letters
}

// lateHeader finds the header of a mail in a text that was copied from a page or a
// pager, with lines above it; -1 means that there is none above the diff.
func lateHeader(lines [][]byte, first int) int {
	for i := first; i < len(lines); i++ {
		if bytes.HasPrefix(lines[i], []byte("diff ")) || bytes.HasPrefix(lines[i], []byte("--- ")) || bytes.HasPrefix(lines[i], []byte("commit ")) {
			return -1
		}
		if h := headers(lines[i:]); strings.Contains(h.get("From"), "@") && h.get("Subject") != "" && h.get("Date") != "" {
			return i
		}
	}
	return -1
}

func blankLine(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }

// opens says whether a mail begins at line i with a mailbox's From line. In prose
// such a line may stand, too, but no header after it. Some tools write no time into
// it; then a whole mail's header must follow.
func opens(lines [][]byte, i int) bool {
	if !bytes.HasPrefix(lines[i], fromWord) {
		return false
	}
	return wholeHeader(lines, i) || mboxFrom.Match(lines[i]) && i+1 < len(lines) &&
		(headerLine.Match(lines[i+1]) || bytes.HasPrefix(lines[i+1], []byte(">From ")))
}

// wholeHeader says that a From line at line i has a mail's header behind it.
func wholeHeader(lines [][]byte, i int) bool {
	if !bytes.HasPrefix(lines[i], fromWord) {
		return false
	}
	h := headers(lines[i+1:])
	return h.get("From") != "" && h.get("Subject") != "" && h.get("Date") != ""
}

// letterEnd gives the index behind the last line of the mail that begins at from.
func letterEnd(lines [][]byte, from int) int {
	start := from
	if bytes.HasPrefix(lines[from], fromWord) {
		start++
	}
	head := headers(lines[start:])
	body := start + head.lines
	// A mailbox of the mboxcl kind counts the body instead of escaping it.
	if n, err := strconv.Atoi(head.get("Content-Length")); err == nil && n > 0 {
		if end := counted(lines, body, n); end > 0 {
			return end
		}
	}
	closing := head.closing()
	seenDiff := false
	for i := body; i < len(lines); i++ {
		if closing != "" {
			// Attachments are mails and mailboxes, too: up to the last boundary nothing
			// is a mail of its own.
			if end := findLine(lines, i, closing); end > 0 {
				i = end
			}
			closing = ""
			continue
		}
		seenDiff = seenDiff || bytes.HasPrefix(lines[i], []byte("diff --git ")) || bytes.HasPrefix(lines[i], []byte("+++ "))
		if i > body && !blankLine(lines[i-1]) {
			// Files of git format-patch --no-signature end with the diff, and so no blank
			// line comes between them where they were put together.
			if wholeHeader(lines, i) {
				return i
			}
			continue
		}
		if opens(lines, i) {
			return i
		}
		// Mails that were put together without From lines.
		if h := headers(lines[i:]); h.mail() && h.get("Date") != "" && (h.get("Message-ID") != "" || seenDiff) && h.get("From") != "" {
			return i
		}
	}
	return len(lines)
}

// counted gives the end of a body of n bytes, when another mail begins behind it.
func counted(lines [][]byte, body, n int) int {
	i := body
	for i < len(lines) && n > 0 {
		n -= len(lines[i])
		i++
	}
	for i < len(lines) && blankLine(lines[i]) {
		i++
	}
	if n == 0 && (i == len(lines) || opens(lines, i)) {
		return i
	}
	return 0
}

func findLine(lines [][]byte, from int, want string) int {
	for i := from; i < len(lines); i++ {
		if strings.TrimRight(string(lines[i]), " \t\r\n") == want {
			return i
		}
	}
	return 0
}

// header holds a mail's header fields.
type header struct {
	fields []field
	// lines is how many lines the header takes, the empty one behind it included.
	lines int
}

type field struct{ name, value string }

// headers reads header lines as git does: what is no header line ends them.
func headers(lines [][]byte) header {
	var h header
	for _, line := range lines {
		h.lines++
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			return h
		}
		if len(h.fields) > 0 && (text[0] == ' ' || text[0] == '\t') {
			last := &h.fields[len(h.fields)-1]
			last.value += " " + strings.TrimSpace(text)
			continue
		}
		if strings.HasPrefix(text, ">From ") && len(h.fields) == 0 {
			continue
		}
		name, value, found := strings.Cut(text, ":")
		if !found || name == "" || strings.ContainsAny(name, " \t") {
			h.lines--
			return h
		}
		h.fields = append(h.fields, field{name, strings.TrimSpace(value)})
	}
	return h
}

// get returns the last field of a name, which counts for git.
func (h header) get(name string) string {
	value := ""
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			value = f.value
		}
	}
	return value
}

// mail says whether these are a mail's headers: a diff's prose may have a line with
// a colon as well.
func (h header) mail() bool {
	return h.get("Subject") != "" || h.get("From") != "" && strings.Contains(h.get("From"), "@")
}

// closing is the line that ends a multipart mail; empty for another.
func (h header) closing() string {
	kind := h.get("Content-Type")
	if !strings.HasPrefix(strings.ToLower(kind), "multipart/") {
		return ""
	}
	if m := boundary.FindStringSubmatch(kind); m != nil {
		return "--" + m[1] + m[2] + "--"
	}
	return ""
}
