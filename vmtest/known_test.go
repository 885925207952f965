package vmtest

import (
	"strings"
	"testing"

	"patchproof/guest/event"
	"patchproof/patches/subjects"
	"patchproof/results"
)

// A quarantine makes one check's failure expected, with one verdict, and nothing else in the cell.
func TestQuarantine(t *testing.T) {
	const fail, hang, crash = event.Fail, event.Hang, event.Crash
	held := subjects.KnownIssue{Program: "mixer", Check: "a", Verdict: "fail", Reason: "r", MayFail: true, Since: "2026-01-01", Until: "2026-02-01"}
	with := func(change func(*subjects.KnownIssue)) []subjects.KnownIssue {
		k := held
		change(&k)
		return []subjects.KnownIssue{k}
	}
	complaint := func(title string) []subjects.KnownIssue {
		return with(func(k *subjects.KnownIssue) { k.Check, k.Verdict = "console: "+title, "crash" })
	}
	issue := subjects.KnownIssue{Program: "mixer", Check: "a", Verdict: "hang", Reason: "known"}
	for _, tt := range []struct {
		name string
		// checks are "name verdict", or "console verdict title".
		checks   string
		known    []subjects.KnownIssue
		expected bool
		// reason is a part of the cell's.
		reason string
	}{
		{name: "fails", checks: "a fail, b pass", known: with(func(*subjects.KnownIssue) {}), expected: true},
		{name: "passes", checks: "a pass, b pass", known: with(func(*subjects.KnownIssue) {}), expected: true},
		{name: "is not made", checks: "b pass", known: with(func(*subjects.KnownIssue) {}), expected: true},
		{name: "with another verdict", checks: "a hang, b pass", known: with(func(*subjects.KnownIssue) {})},
		{name: "with a graver verdict", checks: "a crash, b pass", known: with(func(*subjects.KnownIssue) {})},
		{name: "another check fails, too", checks: "a fail, b fail", known: with(func(*subjects.KnownIssue) {})},
		{name: "the kernel complains, too", checks: "a fail, console crash BUG: x", known: with(func(*subjects.KnownIssue) {})},
		{name: "the guest hangs, too", checks: "a fail, deadline hang", known: with(func(*subjects.KnownIssue) {})},
		{name: "a name that begins alike", checks: "ab fail", known: with(func(*subjects.KnownIssue) {})},
		{name: "of another program", checks: "a fail", known: with(func(k *subjects.KnownIssue) { k.Program = "mix" })},
		{name: "of another kernel", checks: "a fail", known: with(func(k *subjects.KnownIssue) { k.Kernels = []string{"base"} })},
		{name: "of this kernel", checks: "a fail", known: with(func(k *subjects.KnownIssue) { k.Kernels = []string{"base", "posted"} }), expected: true},
		{name: "of another variant", checks: "a fail", known: with(func(k *subjects.KnownIssue) { k.Variants = []string{"debug"} })},
		{name: "ran out", checks: "a fail", known: with(func(k *subjects.KnownIssue) { k.Expired = true }), reason: "the quarantine of a ran out on 2026-02-01: r"},
		{name: "ran out, and passes", checks: "a pass", known: with(func(k *subjects.KnownIssue) { k.Expired = true }), expected: true},
		{name: "ran out, with another verdict", checks: "a hang", known: with(func(k *subjects.KnownIssue) { k.Expired = true })},
		{name: "renewed", checks: "a fail", known: append(with(func(k *subjects.KnownIssue) { k.Expired = true }), held), expected: true},
		{name: "a deadline", checks: "a pass, deadline hang", known: with(func(k *subjects.KnownIssue) { k.Check, k.Verdict = "deadline", "hang" }), expected: true},
		{name: "a complaint", checks: "console crash BUG: x", known: complaint("BUG: x"), expected: true},
		{name: "another complaint", checks: "console crash BUG: y", known: complaint("BUG: x")},
		{name: "a complaint that begins alike", checks: "console crash BUG: xy", known: complaint("BUG: x")},
		{name: "a complaint, and another after it", checks: "console crash BUG: x, console 2 crash BUG: y", known: complaint("BUG: x")},
		{name: "the complaint came second", checks: "console crash BUG: y, console 2 crash BUG: x", known: complaint("BUG: x")},
		{name: "of a kernel that names it otherwise", checks: "console crash BUG: KASAN: use-after-free in f", known: complaint("BUG: KASAN: slab-use-after-free in f"), expected: true},
		{name: "a known issue beside it", checks: "a hang", known: append(with(func(*subjects.KnownIssue) {}), issue), expected: true},
		{name: "a known issue that does not show", checks: "a pass", known: append(with(func(*subjects.KnownIssue) {}), issue), reason: "known issue passed: a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := finding{ended: true, expected: true}
			var verdicts []event.Verdict
			for _, text := range strings.Split(tt.checks, ", ") {
				var c results.Check
				name, rest, _ := strings.Cut(text, " ")
				if more, after, ok := strings.Cut(rest, " "); ok && more == "2" {
					name, rest = name+" 2", after
				}
				verdict, title, _ := strings.Cut(rest, " ")
				c.Check = event.Check{Name: name, Verdict: event.Verdict(verdict), Detail: title + "\n\nmore"}
				f.checks = append(f.checks, c)
				verdicts = append(verdicts, c.Verdict)
			}
			f.verdict = event.Worst(verdicts...)
			expect(&f, CellSpec{Kernel: "posted", Variant: "plain", Program: Program{Name: "mixer"}, Known: tt.known})
			if f.expected != tt.expected || !strings.Contains(f.reason, tt.reason) || tt.reason == "" && f.reason != "" {
				t.Errorf("expect: expected is %v, %q; want %v, %q", f.expected, f.reason, tt.expected, tt.reason)
			}
			for _, c := range f.checks {
				failed := c.Verdict == fail || c.Verdict == hang || c.Verdict == crash
				if c.Quarantine != "" && (!failed || !c.Expected || !strings.Contains(c.KnownIssue, "in quarantine until 2026-02-01: r")) {
					t.Errorf("the check is %+v; want that only an expected failure is in quarantine, with its reason", c)
				}
				if failed && c.Expected && c.Quarantine == "" && c.KnownIssue != issue.Reason {
					t.Errorf("the check is %+v; want that it says by what it is expected", c)
				}
			}
		})
	}
}
