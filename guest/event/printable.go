package event

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable spells out what a guest could use to confuse a terminal, a page or a
// reader of JSON or XML: control characters, invalid UTF-8, and the code points that hide or
// reorder text. Tabs stay. It is how text that a guest wrote is made safe to show.
func Printable(s string) string {
	isPlain := func(r rune) bool { return r == '\t' || unicode.IsPrint(r) }
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !isPlain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case isPlain(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[size:]
	}
	return b.String()
}

// PrintableLines makes each line of s Printable.
func PrintableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Printable(line)
	}
	return strings.Join(lines, "\n")
}
