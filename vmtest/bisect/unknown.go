package bisect

import (
	"fmt"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/patches"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/suites"
)

// byOthers are the checks that no program makes.
var byOthers = []string{subjects.ConsoleCheck, results.DeadlineCheck, results.ResetCheck, results.ReportCheck, buildCheck}

// knownTo says whether a run of the good end made a check that the user may mean, or may
// not have come to it. Of one that it never makes it cannot be the good end.
func (a asked) knownTo(c results.Cell) bool {
	cut := []event.Verdict{event.Crash, event.Error, event.Skip}
	if a == "" || c.Stopped != nil || slices.Contains(cut, c.Verdict) {
		return true
	}
	name, wild := strings.CutSuffix(string(a), "*")
	means := func(check string) bool { return check == string(a) || wild && strings.HasPrefix(check, name) }
	return slices.Contains(gravity, event.Verdict(a)) || slices.ContainsFunc(byOthers, means) ||
		slices.ContainsFunc(c.Checks, func(k results.Check) bool { return means(k.Name) })
}

// endQuestion is one about the good end before there is a signature: all runs of an end
// are made, but for those that would be made for a check that is not there.
func (a asked) endQuestion() question {
	return question{role: roleGood, enough: func(c results.Cell) bool { return !a.knownTo(c) }}
}

// unknown answers where the good end makes no check of the name that was asked for; nil
// where it does.
func (a asked) unknown(good *Trial) *Answer {
	i := slices.IndexFunc(good.Cells, func(c results.Cell) bool { return !a.knownTo(c) })
	if i < 0 {
		return nil
	}
	var names []string
	for _, k := range good.Cells[i].Checks {
		names = append(names, k.Name)
	}
	text := fmt.Sprintf("CHECK=%s: the good end, %s, made %s in %s, none of that name", a, good.Title, patches.Plural(len(names), "check"), good.Cells[i].Program)
	if len(names) > 0 {
		text += "; most like it: " + suites.Near(string(a), names)
	}
	return &Answer{Outcome: Untestable, Text: text + "."}
}
