package results

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Count returns how many changes have the effect.
func (c Comparison) Count(e Effect) int {
	n := 0
	for _, change := range c.Changes {
		if change.Effect == e {
			n++
		}
	}
	return n
}

// ComparisonsExit is 1 when something became worse, else 2 when something that
// passed was not judged, else 0.
func ComparisonsExit(all []Comparison) int {
	code := 0
	for _, c := range all {
		if c.Count(Worse) > 0 {
			return 1
		}
		if c.Count(Unjudged) > 0 {
			code = 2
		}
	}
	return code
}

const (
	// textChanges is how many changes that are neither worse nor better are said.
	textChanges = 20
	// textWidth bounds the column of the names.
	textWidth = 60
)

// Text says a comparison to people.
func (c Comparison) Text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s against %s: %s\n", c.To, c.From, c.summary())
	wide := 0
	for _, change := range c.Changes {
		wide = max(wide, min(textWidth, utf8.RuneCountInString(Line(change.What))))
	}
	for n, change := range c.Changes {
		if change.Effect == Changed && n >= textChanges {
			fmt.Fprintf(&out, "  and %d more that are neither worse nor better (--json has all)\n", len(c.Changes)-n)
			break
		}
		mark := string(change.Effect)
		if change.Effect == Worse {
			mark = "WORSE"
		}
		fmt.Fprintf(&out, "  %-8s  %-*s  %s -> %s", mark, wide, Line(change.What), Line(change.From), Line(change.To))
		if change.Unit != "" {
			fmt.Fprintf(&out, " %s", Line(change.Unit))
		}
		if change.Effect != Changed && change.Delta != 0 {
			fmt.Fprintf(&out, " (%+.2f %%)", 100*change.Delta)
		}
		out.WriteString("\n")
	}
	for _, note := range c.Notes {
		fmt.Fprintf(&out, "  note: %s\n", Line(note))
	}
	return out.String()
}

func (c Comparison) summary() string {
	if len(c.Changes) == 0 {
		return fmt.Sprintf("the same in %d verdicts and features and %d metrics", c.Compared, c.Figures)
	}
	var parts []string
	for _, e := range effects {
		if n := c.Count(e); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, e))
		}
	}
	return fmt.Sprintf("%s, of %d verdicts and features and %d metrics", strings.Join(parts, ", "), c.Compared, c.Figures)
}
