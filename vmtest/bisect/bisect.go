// Package bisect finds out who is to blame for a failure: which patch of a
// series, which commit of a local tree, or which config option.
//
// A search verifies both ends, takes from the bad one the signature that it goes
// by (symptom.go), lets git bisect choose what to try next (package kernel's
// History), builds and runs each choice (trials.go), and does not believe what comes
// out before the culprit's code differs from its parent's and the bad end without
// it is cured (prove.go, later.go). Everything that was tried is in the record (record.go).
package bisect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/bisect/quorum"
)

// Check finds what is wrong with a question without changing anything.
func Check(q Question) error {
	_, err := q.resolve()
	return err
}

// search is a search for a commit under way.
type search struct {
	*path
	*trials
	sig signature
	// belief is of a search by quorum.
	belief *quorum.Search
	// from is the good end of what is searched now, and passed are those behind which the
	// search went on.
	from   string
	passed []string
}

// Run searches and returns the record, in which the answer is. An error is the
// harness's trouble, or a question that has no answer; the record is nil when
// the search has not begun.
func Run(ctx context.Context, q Question, tell Teller) (*Record, error) {
	span, err := q.resolve()
	if err != nil {
		return nil, err
	}
	l, err := newTrials(ctx, q, span.program, tell)
	if err != nil {
		return nil, err
	}
	defer l.lab.Close()
	return l.search(ctx, q, span)
}

// search searches the commits of a span.
func (l *trials) search(ctx context.Context, q Question, span *span) (*Record, error) {
	dir, remove, err := kernel.TempDir("bisect")
	if err != nil {
		return nil, err
	}
	defer remove()
	p, err := span.open(ctx, &l.lab.Builder, dir)
	if err != nil {
		return nil, err
	}
	if err := vmtest.Furnish(ctx, l.lab, []vmtest.Program{l.program}); err != nil {
		return nil, err
	}
	unlock, err := l.open("bisect.json", p.identity(q, l.lab.Initramfs), span.variant, q)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s := &search{path: p, trials: l}
	answer, err := s.answer(ctx)
	return l.close(answer, kernel.Incomplete(ctx, span.base.Tree, err))
}

// answer makes the search.
func (s *search) answer(ctx context.Context) (*Answer, error) {
	if s.metric != nil {
		return s.answerMetric(ctx)
	}
	if s.warned != nil {
		return s.answerWarning(ctx)
	}
	good, err := s.tryEnd(ctx, s.good, roleGood)
	if err != nil {
		return nil, err
	}
	if a := asked(s.record.Check).unknown(good); a != nil {
		return a, nil
	}
	bad, err := s.tryEnd(ctx, s.bad, roleBad)
	if err != nil {
		return nil, err
	}
	if check := s.record.Check; good.Broken == "" && bad.Failure != "" && (check == "" || check == buildCheck) {
		return s.buildBreak(ctx, good, bad)
	}
	if good.Broken != "" || bad.Broken != "" {
		return noEnd(good, bad), nil
	}
	if s.record.Check == buildCheck {
		return &Answer{Outcome: BadIsGood, Text: fmt.Sprintf("the bad end, %s, builds.", bad.Title)}, nil
	}
	sig, ok := signatureOf(good.Cells, bad.Cells, asked(s.record.Check))
	if !ok {
		return noSignature(bad, asked(s.record.Check)), nil
	}
	s.sig = sig
	good.Mark, good.Why = sig.judge(good.Cells)
	bad.Mark, bad.Why = sig.judge(bad.Cells)
	if sig.onGood && s.fix {
		a := &Answer{Outcome: GoodIsBad, Signature: &sig.Symptom, Text: fmt.Sprintf("it is not cured: %s on %s, as on %s.", sig.Symptom, good.Title, bad.Title)}
		a.Shown, a.Evidence = sig.evidence(good.Cells)
		return a, nil
	}
	if sig.onGood {
		return s.suspectBase(ctx, good, bad)
	}
	if good.Mark != kernel.Good {
		return &Answer{Outcome: Inconclusive, Text: fmt.Sprintf("%s cannot serve as the good end: %s.", good.Title, good.Why)}, nil
	}
	s.tell.Say("the bad end's signature: %s%s", sig.Symptom, where(sig.Blocked))
	if failed := s.failed(bad.Cells); s.confidence == 0 && !s.fix && failed < len(bad.Cells) {
		s.confidence = usualConfidence
		s.tell.Say("the bad end fails in %d of %s, so each kernel is run until the answer is %g %% sure", failed, patches.Plural(len(bad.Cells), "run"), 100*s.confidence)
	}
	if len(s.top) > 0 {
		if err := s.tryWithout(ctx); err != nil {
			return nil, err
		}
	}
	return s.betweenEnds(ctx)
}

// tryEnd tries one of the ends. Its mark is known when both have been tried.
func (s *search) tryEnd(ctx context.Context, commit, role string) (*Trial, error) {
	point, err := s.at(ctx, commit)
	if err != nil {
		return nil, err
	}
	if s.record.Check == buildCheck {
		return s.try(ctx, point, question{role: role, built: func(*Trial) (kernel.Mark, string) { return "", "" }})
	}
	if role == roleGood {
		return s.try(ctx, point, asked(s.record.Check).endQuestion())
	}
	// How often the bad end fails is to be known, so all of its runs are made.
	q := question{role: role, enough: func(results.Cell) bool { return false }}
	if s.confidence == 0 {
		return s.try(ctx, point, q)
	}
	// A search by quorum has its own way of finding that out, once it has shown.
	patient := *s.trials
	patient.count = max(s.count, cmp.Or(s.budget, usualBudget)/endShare)
	q.enough = func(c results.Cell) bool { return len(symptoms(c, asked(s.record.Check))) > 0 }
	return patient.try(ctx, point, q)
}

// question is one whose answer the signature gives.
func (sig signature) question(role string) question {
	switch {
	case sig.metric != nil:
		return sig.metric.question(role)
	case len(sig.build) > 0:
		return question{role: role, built: sig.judgeBuild}
	case sig.warning != "":
		return question{role: role, built: sig.judgeWarning}
	}
	enough := func(c results.Cell) bool {
		_, bad := sig.shows(c)
		return bad
	}
	return question{role: role, judge: sig.judge, enough: enough, told: func(k results.Check) bool {
		return enough(results.Cell{Checks: []results.Check{k}})
	}}
}

// tryWithout tries the bad end without the patch on top of it: that tells
// whether the patch has a part in it at all.
func (s *search) tryWithout(ctx context.Context) error {
	point, err := s.at(ctx, s.path.bad)
	if err != nil {
		return err
	}
	_, err = s.try(ctx, s.without(point), s.sig.question(roleWithout))
	return err
}

// betweenEnds searches the commits between the ends that were asked for.
func (s *search) betweenEnds(ctx context.Context) (*Answer, error) {
	if s.fix {
		return s.between(ctx, s.path.bad, s.path.good)
	}
	return s.between(ctx, s.path.good, s.path.bad)
}

// between searches the commits between two ends that are verified. Where the fix is
// searched, these and the marks change places: git bisect's good is the old state.
func (s *search) between(ctx context.Context, good, bad string) (*Answer, error) {
	s.from = good
	count, err := s.history.Count(ctx, good, bad)
	if err != nil {
		return nil, err
	}
	if s.confidence == 0 && slices.Contains(s.record.Voted, good+".."+bad) {
		s.confidence = usualConfidence
	}
	if s.confidence > 0 {
		return s.vote(ctx, good, bad)
	}
	s.tell.Say("%s to search, in about %s", patches.Plural(count, "commit"), patches.Plural(bits.Len(uint(count-1)), "step"))
	found, log, err := s.history.Bisect(ctx, good, bad, func(ctx context.Context, commit string) (kernel.Mark, error) {
		point, err := s.at(ctx, commit)
		if err != nil {
			return "", err
		}
		t, err := s.try(ctx, point, s.sig.question(roleStep))
		if err != nil {
			return "", err
		}
		if s.fix {
			return exchanged(t.Mark), nil
		}
		return t.Mark, nil
	})
	if log != "" {
		err = errors.Join(err, os.WriteFile(filepath.Join(s.record.dir(), "git-bisect.log"), []byte(log+"\n"), 0o644))
	}
	if err != nil {
		return nil, err
	}
	if found.First == "" {
		return s.skipped(ctx, found.Candidates)
	}
	if s.fix {
		return s.verifyFix(ctx, found.First, bad)
	}
	return s.verify(ctx, found.First, bad)
}

// noEnd answers when an end cannot be tried at all.
func noEnd(ends ...*Trial) *Answer {
	for _, t := range ends {
		if t.Broken != "" {
			return &Answer{Outcome: Untestable, Text: fmt.Sprintf("the %s, %s, cannot be tried: %s.", t.Role, t.Title, t.Broken), Evidence: t.Detail}
		}
	}
	return nil
}

// noSignature answers when the bad end shows nothing that was asked for.
func noSignature(bad *Trial, check asked) *Answer {
	shown := shownBy(bad, check)
	switch trouble := harnessTrouble(bad); {
	case len(shown) == 0 && trouble != "":
		return &Answer{Outcome: Untestable, Text: fmt.Sprintf("the bad end, %s, cannot be judged: %s.", bad.Title, trouble)}
	case len(shown) == 0:
		return &Answer{Outcome: BadIsGood, Text: fmt.Sprintf("the bad end, %s, passes: %s without a failure. If it fails rarely, a larger COUNT finds it.", bad.Title, patches.Plural(len(bad.Cells), "run"))}
	}
	return &Answer{Outcome: OtherVerdict, Text: fmt.Sprintf("the bad end, %s, does not show CHECK=%s, but %s.", bad.Title, check, shown[0])}
}

// alsoAlone says what the bad end shows that the good end does not, beside what
// both do.
func (sig signature) alsoAlone() string {
	if len(sig.alone) == 0 {
		return ""
	}
	return fmt.Sprintf(" Only the bad end shows %s; CHECK=%s searches for that.", sig.alone[0], sig.alone[0].Check)
}

// suspectBase answers when the good end has the signature too; in a local tree it
// goes on below.
func (s *search) suspectBase(ctx context.Context, good, bad *Trial) (*Answer, error) {
	both := fmt.Sprintf("%s on %s, as on %s.%s", s.sig.Symptom, good.Title, bad.Title, s.sig.alsoAlone())
	if s.base.Tree != "" {
		s.tell.Say("the base already does this: %s The search goes on in the history below it.", both)
		return s.below(ctx, s.path.good)
	}
	a := &Answer{Outcome: BaseDoes, Signature: &s.sig.Symptom, Text: "the base already does this: " + both}
	if s.path.good != s.history.Base {
		a.Outcome, a.Text = GoodIsBad, fmt.Sprintf("the good end is bad: %s Try an earlier GOOD.", both)
	}
	a.Shown, a.Evidence = s.sig.evidence(good.Cells)
	return a, nil
}

// firstStride is how many commits are gone back at first for a good end, and
// strideGrowth by how much further each time.
const (
	firstStride  = 16
	strideGrowth = 4
)

// below goes down the history from a bad commit until one is good, and searches
// what lies between.
func (s *search) below(ctx context.Context, bad string) (*Answer, error) {
	// Whatever else is wrong with an older commit, it is the new good end when it
	// made the check and passed.
	q := s.sig.question(roleOlder)
	q.judge = func(cells []results.Cell) (kernel.Mark, string) { return s.sig.over(cells).judge(cells) }
	for stride, from := firstStride, bad; ; stride *= strideGrowth {
		older, err := s.history.Before(ctx, from, stride)
		if err != nil {
			return nil, err
		}
		point, err := s.at(ctx, older)
		if err != nil {
			return nil, err
		}
		if older == from {
			a := &Answer{Outcome: BaseDoes, Signature: &s.sig.Symptom, Text: fmt.Sprintf("no older commit is known to be good; the oldest that is here is %s.", point.title)}
			a.Shown, a.Evidence = s.sig.evidence(s.record.trial(bad).Cells)
			return a, nil
		}
		t, err := s.try(ctx, point, q)
		if err != nil {
			return nil, err
		}
		from = older
		switch t.Mark {
		case kernel.Bad:
			bad = older
		case kernel.Good:
			s.sig = s.sig.over(t.Cells)
			return s.between(ctx, older, bad)
		}
	}
}

// skipped answers when git bisect is left with commits that cannot be judged.
func (s *search) skipped(ctx context.Context, candidates []string) (*Answer, error) {
	unbuilt := false
	a := &Answer{Outcome: AllSkipped, Signature: &s.sig.Symptom,
		Text: fmt.Sprintf("one of %d commits is the first bad one; the others between could not be judged.", len(candidates))}
	for _, id := range candidates {
		c, err := s.history.Commit(ctx, id)
		if err != nil {
			return nil, err
		}
		text := fmt.Sprintf("%.12s %s", c.ID, c.Subject)
		if t := s.record.trial(c.ID); t != nil && t.Mark == kernel.Skip {
			text += " (skipped: " + results.Line(t.Why) + ")"
			unbuilt = unbuilt || t.Failure != ""
		}
		a.Candidates = append(a.Candidates, text)
	}
	if unbuilt && s.base.Tree != "" {
		a.Text += " FIXUP=patch puts on them what they need to build."
	}
	return a, nil
}

// shownBy are the symptoms of a trial, each once.
func shownBy(t *Trial, check asked) []Symptom {
	var all []Symptom
	for _, c := range t.Cells {
		for _, sy := range symptoms(c, check) {
			if !slices.ContainsFunc(all, sy.like) {
				all = append(all, sy)
			}
		}
	}
	return all
}

// harnessTrouble is why a trial has no verdict.
func harnessTrouble(t *Trial) string {
	for _, c := range t.Cells {
		if c.Verdict == event.Error {
			return results.Line(c.Reason)
		}
	}
	return ""
}

// where says in which functions tasks are blocked.
func where(functions []string) string {
	if len(functions) == 0 {
		return ""
	}
	return ", blocked in " + strings.Join(functions, ", ")
}
