package results

import (
	"maps"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/patches/subjects"
)

// outcome is what a program or a check came out as in all iterations; nothing is
// seen of a check that only the harness's trouble had a part in.
type outcome struct {
	kind       Kind
	seen       map[event.Verdict]bool
	unexpected bool
}

func (o outcome) equal(other outcome) bool {
	return maps.Equal(o.seen, other.seen) && o.unexpected == other.unexpected
}

func (o outcome) String() string {
	if len(o.seen) == 0 {
		return string(event.Error)
	}
	var names []string
	for v := range o.seen {
		names = append(names, string(v))
	}
	slices.Sort(names)
	return strings.Join(names, "/")
}

// worst is the gravest verdict.
func (o outcome) worst() event.Verdict { return event.Worst(slices.Collect(maps.Keys(o.seen))...) }

// bad says whether the kernel failed at least once.
func (o outcome) bad() bool { w := o.worst(); return w != event.Pass && w != event.Skip }

func (o *outcome) take(v event.Verdict, expected bool) {
	if o.seen == nil {
		o.seen = map[event.Verdict]bool{}
	}
	if v == event.Error {
		return
	}
	o.seen[v] = true
	o.unexpected = o.unexpected || !expected
}

func programOutcome(cells []Cell) outcome {
	o := outcome{kind: KindProgram}
	for _, c := range cells {
		o.take(c.Verdict, c.Expected)
	}
	return o
}

// outcomes are those of the programs and of their checks, which name names.
func outcomes(programs map[string][]Cell, name func(Check) string) map[string]outcome {
	all := map[string]outcome{}
	for program, cells := range programs {
		all[program] = programOutcome(cells)
		for _, c := range cells {
			for _, check := range c.Checks {
				what := program + "/" + name(check)
				o := all[what]
				o.kind = KindCheck
				o.take(check.Verdict, check.Expected)
				all[what] = o
			}
		}
	}
	return all
}

// Title is the check's name, and what a complaint of the kernel says, without
// which two crashes by different causes would be alike.
func (c Check) Title() string {
	if !subjects.IsConsole(c.Name) {
		return c.Name
	}
	first, _, _ := strings.Cut(c.Detail, "\n")
	return consolePrefix + TitleKey(first)
}

// TitleKey is the title of a complaint as it is compared: kernels of other versions name the
// same fault otherwise. Since 6.4 KASAN tells a slab's objects apart.
func TitleKey(title string) string {
	return strings.Replace(title, "KASAN: slab-use-after-free", "KASAN: use-after-free", 1)
}

// changeOf is the change from one outcome to another; nil is that there is none.
func changeOf(what string, from, to *outcome) Change {
	change := Change{What: what, From: Absent, To: Absent, Effect: effect(from, to)}
	for _, side := range []struct {
		o    *outcome
		text *string
	}{{from, &change.From}, {to, &change.To}} {
		if side.o != nil {
			change.Kind, *side.text = side.o.kind, side.o.String()
		}
	}
	if change.From == change.To {
		change.From += expectation(*from)
		change.To += expectation(*to)
	}
	return change
}

func expectation(o outcome) string {
	switch {
	case o.unexpected:
		return ", unexpected"
	case o.bad():
		return ", as declared"
	}
	return ""
}

// effect judges a change of verdicts. A pass that is gone is as bad as a failure
// that came, unless it went with a declared one: what was shown once and is not
// shown any more must not look good.
func effect(from, to *outcome) Effect {
	switch {
	case to == nil:
		if from.seen[event.Pass] {
			return Worse
		}
		return Changed
	case len(to.seen) == 0:
		if from != nil && from.seen[event.Pass] {
			return Unjudged
		}
		return Changed
	case from == nil || len(from.seen) == 0:
		return newEffect(*to)
	}
	lost := from.seen[event.Pass] && !to.seen[event.Pass]
	if !to.bad() {
		switch {
		case lost:
			return Worse
		case from.bad() && to.worst() == event.Pass:
			return Better
		}
		return Changed
	}
	graver := from.worst() != to.worst() && event.Worst(from.worst(), to.worst()) == to.worst()
	surprising := to.unexpected && !from.unexpected
	switch {
	case (graver || lost) && !to.unexpected:
		return Declared
	case graver || lost || surprising:
		return Worse
	case from.worst() != to.worst() || to.seen[event.Pass] && !from.seen[event.Pass]:
		return Better
	}
	return Changed
}

// cutShortAsDeclared says that a known issue, and nothing else, kept a program from
// coming to all of its checks.
func cutShortAsDeclared(cells []Cell) bool {
	short := false
	for _, c := range cells {
		if !c.Expected {
			return false
		}
		short = short || c.Verdict == event.Crash || slices.ContainsFunc(c.Checks, func(check Check) bool { return check.Name == DeadlineCheck })
	}
	return short
}

// newEffect judges what only the second side has.
func newEffect(to outcome) Effect {
	switch {
	case to.bad() && to.unexpected:
		return Worse
	case to.bad():
		return Declared
	}
	return Changed
}
