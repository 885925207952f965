package vmtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/patches/subjects"
	"patchproof/results"
)

// expect holds a finding against the issues that are declared for the kernel.
// A cell is as expected when every check that did not pass is declared with
// that verdict, and every declared check that was reported did fail. A check
// that may fail is fine both ways, and so is one in quarantine. An error is never as
// expected, and a skip only of a feature that the kernel is not declared to have,
// which the program itself has judged.
func expect(f *finding, s CellSpec) {
	var issues []subjects.KnownIssue
	for _, k := range s.Known {
		if !k.IsQuarantine() && k.Covers(s.Kernel, s.Variant, s.Program.Name, k.Check) {
			issues = append(issues, k)
		}
	}
	f.expected = f.verdict != event.Error
	seen := make([]bool, len(issues))
	for i := range f.checks {
		c := &f.checks[i]
		c.Expected = c.Verdict == event.Pass || c.Verdict == event.Skip
		var of []subjects.KnownIssue
		for n, k := range issues {
			if covers(k, *c, s) {
				seen[n] = true
				of = append(of, k)
			}
		}
		if len(of) > 0 {
			f.declared(c, of)
		}
		f.quarantine(c, s)
		f.expected = f.expected && c.Expected
	}
	f.blameKernelFirst()
	// A complaint or a check that is declared and did not come is a known
	// issue that passed, unless the program did not come to its end, or
	// another guest may have run what shows it.
	for n, k := range issues {
		if seen[n] || k.MayFail || !f.ended || f.verdict == event.Error || len(s.Program.Suite) > 0 {
			continue
		}
		f.expected = false
		f.reason = fmt.Sprintf("known issue passed: %s did not show (declared: %s)", k.Check, k.Reason)
	}
}

// declared holds a check against the issues that are declared for it: one of them has to have its
// verdict or, where it did not fail, none may say that it always does.
func (f *finding) declared(c *results.Check, of []subjects.KnownIssue) {
	good := c.Expected
	i := slices.IndexFunc(of, func(k subjects.KnownIssue) bool { return good && !k.MayFail || k.Verdict == string(c.Verdict) })
	k := of[max(i, 0)]
	c.KnownIssue, c.MayFail, c.Expected = k.Reason, k.MayFail, good == (i < 0)
	if k.Function != "" {
		c.KnownIssue += " (" + k.Function + ")"
	}
	if good && !c.Expected {
		did := map[event.Verdict]string{event.Pass: "passed", event.Skip: "was skipped"}[c.Verdict]
		f.reason = fmt.Sprintf("known issue %s: %s (declared: %s)", did, c.Name, k.Reason)
	}
}

// quarantine makes a check's failure expected that is in quarantine with its verdict. Where the
// quarantine has run out the reason says so.
func (f *finding) quarantine(c *results.Check, s CellSpec) {
	if c.Expected {
		return
	}
	expired := ""
	for _, k := range s.Known {
		k.Check = results.TitleKey(k.Check)
		switch {
		case !k.Quarantines(s.Kernel, s.Variant, s.Program.Name, c.Title(), string(c.Verdict)):
		case k.Expired:
			expired = fmt.Sprintf("the quarantine of %s ran out on %s: %s", c.Title(), k.Until, k.Reason)
		default:
			c.Expected, c.MayFail, c.Quarantine = true, true, k.Until
			c.KnownIssue = fmt.Sprintf("in quarantine until %s: %s", k.Until, k.Reason)
			return
		}
	}
	switch {
	case expired == "":
	case f.reason == "":
		f.reason = expired
	default:
		f.reason += "; " + expired
	}
}

// blameKernelFirst lets no trouble of the harness hide an unexpected verdict
// about the kernel: the cell's verdict is then the gravest of those.
func (f *finding) blameKernelFirst() {
	if f.verdict != event.Error {
		return
	}
	var verdicts []event.Verdict
	unexpected := false
	for _, c := range f.checks {
		if c.Verdict == event.Error {
			continue
		}
		verdicts = append(verdicts, c.Verdict)
		unexpected = unexpected || !c.Expected
	}
	if unexpected {
		f.verdict = event.Worst(verdicts...)
	}
}

// covers says whether the issue is declared for this check.
func covers(k subjects.KnownIssue, c results.Check, s CellSpec) bool {
	name := c.Name
	if subjects.IsConsole(name) {
		name = subjects.ConsoleCheck
		if k.Match == "" {
			return false
		}
		title, _, _ := strings.Cut(c.Detail, "\n")
		if match, err := regexp.MatchString(k.Match, title); err != nil || !match {
			return false
		}
	}
	return k.Covers(s.Kernel, s.Variant, s.Program.Name, name)
}
