package results

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

func quarantined(c Check) Check {
	c.Quarantine, c.KnownIssue, c.MayFail = "2026-02-01", "in quarantine until 2026-02-01: r", true
	return c
}

// Each quarantine is listed with what its check did, whether that turned anything red or not, and the answer
// counts them.
func TestQuarantines(t *testing.T) {
	entry := Quarantine{Program: "nop", Check: "cqe", Verdict: event.Fail, Reason: "r", Since: "2026-01-01", Until: "2026-02-01"}
	with := func(change func(*Quarantine)) Quarantine {
		q := entry
		change(&q)
		return q
	}
	for _, tt := range []struct {
		name string
		list []Quarantine
		// checks are those of nop on posted; base passes.
		checks []Check
		lines  []string
		answer string
		code   int
	}{
		{name: "none", checks: []Check{check("cqe", event.Pass, "")}, answer: "posted: 3 programs passed as on base; nothing unexpected."},
		{name: "it failed", list: []Quarantine{entry}, checks: []Check{quarantined(check("cqe", event.Fail, ""))},
			lines:  []string{"nop/cqe: fail in 0 of 1 on base, 1 of 1 on posted; since 2026-01-01, until 2026-02-01: r"},
			answer: "posted: 2 of 3 programs passed as on base; nothing unexpected; 1 check failed in quarantine."},
		{name: "it did not", list: []Quarantine{entry}, checks: []Check{check("cqe", event.Pass, "")},
			lines:  []string{"nop/cqe: fail in 0 of 1 on base, 0 of 1 on posted; since 2026-01-01, until 2026-02-01: r"},
			answer: "posted: 3 programs passed as on base; nothing unexpected."},
		{name: "for one kernel", list: []Quarantine{with(func(q *Quarantine) { q.Kernels = []string{"posted"} })}, checks: []Check{quarantined(check("cqe", event.Fail, ""))},
			lines:  []string{"nop/cqe: fail in 1 of 1 on posted; since 2026-01-01, until 2026-02-01: r"},
			answer: "posted: 2 of 3 programs passed as on base; nothing unexpected; 1 check failed in quarantine."},
		{name: "another verdict", list: []Quarantine{entry}, checks: []Check{unexpected(check("cqe", event.Hang, ""))}, code: 1,
			lines:  []string{"nop/cqe: fail in 0 of 1 on base, 0 of 1 on posted; since 2026-01-01, until 2026-02-01: r"},
			answer: "posted: 2 of 3 programs passed as on base; UNEXPECTED: hang of nop on posted."},
		{name: "it ran out", list: []Quarantine{with(func(q *Quarantine) { q.Expired = true })}, checks: []Check{unexpected(check("cqe", event.Fail, ""))}, code: 1,
			lines:  []string{"nop/cqe: fail in 0 of 1 on base, 1 of 1 on posted; RAN OUT on 2026-02-01, so that it counts again: r"},
			answer: "posted: 2 of 3 programs passed as on base; UNEXPECTED: fail of nop on posted; 1 quarantine ran out."},
		{name: "it ran out and passes", list: []Quarantine{with(func(q *Quarantine) { q.Expired = true })}, checks: []Check{check("cqe", event.Pass, "")},
			lines:  []string{"nop/cqe: fail in 0 of 1 on base, 0 of 1 on posted; RAN OUT on 2026-02-01, so that it counts again: r"},
			answer: "posted: 3 programs passed as on base; nothing unexpected; 1 quarantine ran out."},
		{name: "a slip", list: []Quarantine{with(func(q *Quarantine) { q.Check = "cqes" })}, checks: []Check{check("cqe", event.Pass, "")},
			lines:  []string{"nop/cqes MATCHES NOTHING: nop made no such check on base and posted (r)"},
			answer: "posted: 3 programs passed as on base; nothing unexpected; 1 quarantine matches nothing."},
		{name: "a complaint that did not come", list: []Quarantine{with(func(q *Quarantine) { q.Check, q.Verdict = "console: BUG: x", event.Crash })}, checks: []Check{check("cqe", event.Pass, "")},
			lines:  []string{"nop/console: BUG: x: crash in 0 of 1 on base, 0 of 1 on posted; since 2026-01-01, until 2026-02-01: r"},
			answer: "posted: 3 programs passed as on base; nothing unexpected."},
		{name: "not run", list: []Quarantine{
			with(func(q *Quarantine) { q.Program = "nopp" }), with(func(q *Quarantine) { q.Kernels = []string{"postd"} }), with(func(q *Quarantine) { q.Variants = []string{"debug"} }),
		}, checks: []Check{check("cqe", event.Pass, "")},
			lines:  []string{"not run, so that nothing matches: nopp/cqe, nop/cqe, nop/cqe"},
			answer: "posted: 3 programs passed as on base; nothing unexpected."},
		{name: "one beside a known issue", list: []Quarantine{entry},
			checks: []Check{quarantined(check("cqe", event.Fail, "")), knownIssue(check("b", event.Fail, ""), "a bug")},
			lines:  []string{"nop/cqe: fail in 0 of 1 on base, 1 of 1 on posted; since 2026-01-01, until 2026-02-01: r"},
			answer: "posted: 2 of 3 programs passed as on base; 1 known issue; nothing unexpected; 1 check failed in quarantine."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := asIs()
			r.Started = wholeRun().Started
			for i := range r.Kernels {
				r.Kernels[i].Quarantine = tt.list
			}
			for i, c := range r.Cells {
				if c.Kernel == "posted" && c.Program == "nop" {
					r.Cells[i] = cellOf("posted", "nop", tt.checks...)
				}
			}
			if diff := cmp.Diff(tt.lines, Quarantines(r)); diff != "" {
				t.Errorf("Quarantines (-want +got):\n%s", diff)
			}
			if got := Answer(r); got != tt.answer {
				t.Errorf("Answer = %q; want %q", got, tt.answer)
			}
			if got := r.ExitCode(); got != tt.code {
				t.Errorf("ExitCode = %d; want %d", got, tt.code)
			}
			// Never hidden, wherever the run is shown.
			var report strings.Builder
			if err := Report(&report, r, View{}); err != nil {
				t.Fatal(err)
			}
			for _, line := range tt.lines {
				if !strings.Contains(report.String(), "In quarantine:\n  "+line+"\n") || !strings.Contains(Summary(r), "In quarantine:\n\n- ") {
					t.Errorf("neither the report nor the summary may hide %q:\n%s\n%s", line, report.String(), Summary(r))
				}
			}
			held := strings.Contains(tt.answer, "failed in quarantine")
			if text := tallyOf(r, "posted", "nop").text(); strings.Contains(text, "1 in quarantine") != held {
				t.Errorf("the matrix has %q; want 1 in quarantine: %v", text, held)
			}
			if _, note := Reply(r, nil, "A <a@example.org>"); held && !strings.Contains(note, "no Tested-by: posted failed in quarantine in nop") {
				t.Errorf("the note of the reply is %q; want no Tested-by", note)
			}
			var junit strings.Builder
			if err := JUnit(&junit, r); err != nil {
				t.Fatal(err)
			}
			if held != strings.Contains(junit.String(), `<skipped message="fail, in quarantine until 2026-02-01: r"`) {
				t.Errorf("JUnit has, in quarantine %v:\n%s", held, junit.String())
			}
			if err := xml.Unmarshal([]byte(junit.String()), new(struct{})); err != nil {
				t.Error(err)
			}
		})
	}
}

func tallyOf(r *Run, kernel, program string) tally {
	return r.table().tallies[column{kernel, "plain"}][program]
}

// Parts that were declared other quarantines are not of one run. Whether one ran out meanwhile is no
// difference.
func TestMergeQuarantines(t *testing.T) {
	entry := Quarantine{Program: "nop", Check: "cqe", Verdict: event.Fail, Reason: "r", Since: "2026-01-01", Until: "2026-02-01"}
	for name, tt := range map[string]struct {
		change func(*Quarantine)
		merges bool
	}{
		"the same":        {func(*Quarantine) {}, true},
		"ran out":         {func(q *Quarantine) { q.Expired = true }, true},
		"another check":   {func(q *Quarantine) { q.Check = "b" }, false},
		"another verdict": {func(q *Quarantine) { q.Verdict = event.Hang }, false},
		"another day":     {func(q *Quarantine) { q.Until = "2026-02-02" }, false},
	} {
		a, b := Kernel{Quarantine: []Quarantine{entry}}, Kernel{Quarantine: []Quarantine{entry}}
		tt.change(&b.Quarantine[0])
		shard := &Shard{Index: 1, Of: 1}
		why := (&Run{Shard: shard, Kernels: []Kernel{a}}).otherThan(&Run{Shard: shard, Kernels: []Kernel{b}})
		if (why == "") != tt.merges || !tt.merges && !strings.Contains(why, "the quarantines") {
			t.Errorf("%s: the shards differ in %q; want that they are of one run: %v", name, why, tt.merges)
		}
	}
}
