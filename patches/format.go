package patches

import (
	"fmt"
	"path/filepath"
	"strings"

	"patchproof/guest/event"
)

// width is the terminal that the text is made for, in columns.
const width = 80

// shownRows bounds the comparison of one hunk on the terminal.
const shownRows = 14

// name is how a patch is called on a terminal.
func (p Patch) name() string {
	base := filepath.Base(p.Path)
	if p.Message > 1 {
		base = fmt.Sprintf("%s, message %d", base, p.Message)
	}
	return fmt.Sprintf("%s (%s)", event.Printable(p.Subject), base)
}

// Format is the text of all mismatches, for a terminal of 80 columns; each
// patch is named once. It ends in a newline, unless there is nothing to say.
func Format(all []Mismatch) string {
	var b strings.Builder
	patch, applied := "", 0
	for i, m := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		if m.Patch != patch {
			patch = m.Patch
			b.WriteString(fold(patch+":", "") + "\n")
		}
		b.WriteString(m.String())
		if m.Applied {
			applied++
		}
	}
	if applied > 0 {
		b.WriteString("\n" + fold(fmt.Sprintf("The tree has %d of these %d changes already: choose an older revision, or leave them out of the patch.", applied, len(all)), "") + "\n")
	}
	return b.String()
}

// String is the mismatch's text without the patch's name, in whole lines.
func (m Mismatch) String() string {
	var b strings.Builder
	if m.Hunk == 0 {
		b.WriteString(fold(event.Printable(m.File)+" "+event.Printable(m.Why)+".", "  ") + "\n")
		return b.String()
	}
	b.WriteString(fold(fmt.Sprintf("%s, hunk %d of %d %s.", event.Printable(m.File), m.Hunk, m.Hunks, m.Why), "  ") + "\n")
	header := "  " + event.Printable(m.Header)
	if m.Line > 0 {
		header = fmt.Sprintf("  line %d: %s", m.Line, event.Printable(m.Header))
	}
	b.WriteString(cut(header, width) + "\n")
	if len(m.Rows) == 0 {
		return b.String()
	}
	switch {
	case m.At == 0:
		b.WriteString("  The file has no line of it. Expected, and what the tree has there:\n")
	case m.Same == m.Total:
		fmt.Fprintf(&b, "  Its %d lines are there from line %d on, but not in one piece:\n", m.Total, m.At)
	default:
		fmt.Fprintf(&b, "  The nearest place is line %d; %d of the %d lines expected are there:\n", m.At, m.Same, m.Total)
	}
	m.table(&b)
	return b.String()
}

// table prints the rows from shortly before the first difference.
func (m Mismatch) table(b *strings.Builder) {
	const context = 3
	first, last := -1, 0
	for i, r := range m.Rows {
		if r.Side != Both {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	from := max(first-context, 0)
	rows := m.Rows[from:min(last+context+1, len(m.Rows))]
	if from > 0 {
		fmt.Fprintf(b, "  %13s (%s)\n", "", Plural(from, "equal line"))
	}
	// Where nothing is common, both blocks get their share.
	if m.At == 0 {
		rows = halves(rows)
	}
	shown := rows[:min(len(rows), shownRows)]
	for _, r := range shown {
		label, number := "", ""
		switch r.Side {
		case Want:
			label = "patch"
		case Tree:
			label = "tree"
		}
		if r.Line > 0 {
			number = fmt.Sprint(r.Line)
		}
		text := event.Printable(expand(strings.TrimSuffix(r.Text, "\n")))
		if !strings.HasSuffix(r.Text, "\n") {
			text += " (no line end)"
		}
		b.WriteString(strings.TrimRight(cut(fmt.Sprintf("  %-5s %6s | %s", label, number, text), width), " ") + "\n")
	}
	different := 0
	for _, r := range rows[len(shown):] {
		if r.Side != Both {
			different++
		}
	}
	if different > 0 {
		fmt.Fprintf(b, "  %13s (%s more)\n", "", Plural(different, "different line"))
	}
}

// halves keeps the beginning of both blocks of a comparison without equal lines.
func halves(rows []Row) []Row {
	var kept []Row
	counts := map[Side]int{}
	for _, r := range rows {
		if counts[r.Side]++; counts[r.Side] <= shownRows/2 {
			kept = append(kept, r)
		}
	}
	return kept
}

// expand sets tabs to columns of eight, as the kernel's sources mean them.
func expand(s string) string {
	var b strings.Builder
	column := 0
	for _, r := range s {
		if r == '\t' {
			n := 8 - column%8
			b.WriteString(strings.Repeat(" ", n))
			column += n
			continue
		}
		b.WriteRune(r)
		column++
	}
	return b.String()
}

func cut(s string, columns int) string {
	if runes := []rune(s); len(runes) > columns {
		return string(runes[:columns-3]) + "..."
	}
	return s
}

// fold breaks a sentence at spaces to fit the width; later lines get the indent.
func fold(s, indent string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(s) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
