package results

import (
	"strings"

	"patchproof/guest/event"
)

// lineLimit is how many characters of a guest's line people are shown. The
// whole text is in run.json.
const lineLimit = 200

// Line returns the first line of s that says something, fit to print: what a
// guest wrote may hold terminal escapes, text-direction overrides, NULs, broken
// UTF-8 or a megabyte without a newline. A long line ends in an ellipsis.
func Line(s string) string { return line(s, lineLimit) }

// line is Line with another limit.
func line(s string, limit int) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	first = strings.TrimSpace(first)
	n := 0
	for i := range first {
		if n == limit {
			first = first[:i] + "…"
			break
		}
		n++
	}
	return strings.ReplaceAll(event.Printable(first), "\t", " ")
}
