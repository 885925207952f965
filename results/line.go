package results

import (
	"strings"
	"unicode"
)

// lineLimit is how many characters of a guest's line people are shown. The
// whole text is in run.json.
const lineLimit = 200

// Line returns the first line of s that says something, fit to print: what a
// guest wrote may hold terminal escapes, text-direction overrides, NULs, broken
// UTF-8 or a megabyte without a newline. Each character that is not printable
// becomes U+FFFD, and a long line ends in an ellipsis.
func Line(s string) string { return line(s, lineLimit) }

// line is Line with another limit.
func line(s string, limit int) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	var out strings.Builder
	n := 0
	for _, r := range strings.TrimSpace(first) {
		if n == limit {
			out.WriteRune('…')
			break
		}
		n++
		out.WriteRune(printable(r))
	}
	return out.String()
}

// printable has the shape that strings.Map wants.
func printable(r rune) rune {
	if r == '\t' {
		return ' '
	}
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}
