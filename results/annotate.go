package results

import (
	"fmt"
	"strings"
)

// mostAnnotations is how many GitHub shows of one step.
const mostAnnotations = 10

// Annotations are the unexpected checks of a run as GitHub's workflow commands, which mark lines in a pull
// request: the place is the first of a complaint's that a patch added, or else its first
// in the source.
func Annotations(r *Run) string {
	var out strings.Builder
	n := 0
	add := func(title, detail string, where []Frame) {
		if n++; n > mostAnnotations {
			return
		}
		place := ""
		if f := annotated(where); f.Line > 0 {
			place = fmt.Sprintf("file=%s,line=%d,", property(Line(f.File)), f.Line)
		}
		fmt.Fprintf(&out, "::error %stitle=%s::%s\n", place, property(title), message(detail))
	}
	for _, k := range r.Kernels {
		if k.BuildError != "" {
			add(Line(k.Name)+" does not build", k.BuildError, nil)
		}
	}
	for _, c := range r.Cells {
		if !c.blamesKernel() {
			continue
		}
		title := fmt.Sprintf("%s of %s on %s", c.Verdict, Line(c.Program), Line(c.Kernel))
		told := false
		for _, check := range c.Checks {
			if !check.Expected {
				told = true
				add(title, check.Name+": "+check.Detail, check.Where)
			}
		}
		if !told {
			add(title, c.Reason, nil)
		}
	}
	if n > mostAnnotations {
		fmt.Fprintf(&out, "::error::%d more, see the summary\n", n-mostAnnotations)
	}
	return out.String()
}

func annotated(where []Frame) Frame {
	var first Frame
	for _, f := range where {
		switch {
		case f.Line > 0 && f.Patch > 0:
			return f
		case f.Line > 0 && first.Line == 0:
			first = f
		}
	}
	return first
}

// message is a text of anyone's in a command: only escaped, as GitHub's runner wants it, can it not begin
// another one.
func message(text string) string {
	var lines []string
	for _, l := range summaryLines(text) {
		lines = append(lines, Line(l))
	}
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(strings.Join(lines, "\n"))
}

// property is one in front of the message, where two characters more have a meaning.
func property(text string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(message(text))
}
