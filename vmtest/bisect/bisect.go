// Package bisect finds out who is to blame for a failure: which patch of a
// series, which commit of a local tree, or which config option.
//
// A search verifies both ends, takes from the bad one the signature that it goes
// by (symptom.go), lets git bisect choose what to try next (package kernel's
// History), builds and runs each choice (lab.go), and does not believe what comes
// out before the culprit's code differs from its parent's and the bad end without
// it is cured (this file). Everything that was tried is in the record (record.go).
package bisect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"time"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/bisect/quorum"
	"patchproof/vmtest/lab"
	"patchproof/vmtest/qemu"
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

// noParent is why what begins a history, as one of several that were merged, is not proven.
const noParent = "it has no parent to be held against"

// verify holds a culprit against its parent, and the bad end against itself
// without the culprit.
func (s *search) verify(ctx context.Context, first, bad string) (*Answer, error) {
	culprit, err := s.at(ctx, first)
	if err != nil {
		return nil, err
	}
	a := &Answer{Outcome: Found, Culprit: culprit.commit, Title: culprit.title, Signature: &s.sig.Symptom}
	if a.Touched, err = s.history.Touched(ctx, *culprit.commit); err != nil {
		return nil, err
	}
	with := s.record.trial(culprit.key)
	a.Shown, a.Evidence = s.sig.evidence(with.Cells)
	if len(s.sig.build) > 0 {
		a.Evidence = with.Detail
	}
	if s.sig.warning != "" {
		a.Shown = []string{s.sig.warning}
	}
	if len(culprit.commit.Parents) == 0 {
		a.Outcome, a.Doubt = NotProven, noParent
		return a.end(s), nil
	}
	point, err := s.at(ctx, culprit.commit.Parents[0])
	if err != nil {
		return nil, err
	}
	before, err := s.try(ctx, point, s.sig.question(roleParent))
	if err != nil {
		return nil, err
	}
	a.Before, a.With = sideOf(before), sideOf(with)
	if before.Mark == kernel.Bad {
		a.Outcome = NotBelieved
		a.Doubt = "its parent shows the same"
		return a.end(s), nil
	}
	if s.metric != nil {
		if s.proveMetric(a, before, with); a.Outcome != Found {
			return a.end(s), nil
		}
	}
	if before.Broken == "" && !s.sig.ofBuild() {
		if a.SameCode, err = s.sameCode(ctx, with, culprit, point); err != nil {
			return nil, err
		}
		if a.SameCode && s.belief == nil && s.metric == nil {
			s.tell.Say("git bisect ends at %s, which changes no code, so the verdicts are chance; each kernel is run until the answer is %g %% sure", a.Title, 100*usualConfidence)
			return s.voteAfterAll(ctx, bad)
		}
		if a.SameCode {
			a.Outcome = NotBelieved
			a.Doubt = "its kernel has the same code as its parent's, so the difference between their verdicts is chance"
			return a.end(s), nil
		}
	}
	if s.belief == nil && s.metric == nil && !s.sig.ofBuild() {
		flaky, err := s.flaky(ctx, culprit, point, bad)
		if err != nil {
			return nil, err
		}
		if flaky {
			s.tell.Say("git bisect ends at %s, but in %s of a kernel, it and its parent do not differ as they would then: the failure comes and goes; each kernel is run until the answer is %g %% sure", a.Title, patches.Plural(firstRuns, "run"), 100*usualConfidence)
			return s.voteAfterAll(ctx, bad)
		}
		a.Before, a.With = sideOf(before), sideOf(with)
	}
	if len(culprit.commit.Parents) > 1 {
		if err := s.tryBranches(ctx, a, culprit); err != nil || a.Outcome != Found {
			return a.end(s), err
		}
	}
	mark, err := s.cure(ctx, a, culprit, bad, true)
	if errors.Is(err, kernel.ErrNothingLeft) || errors.Is(err, kernel.ErrNoRevert) {
		return s.afterwards(ctx, a, culprit, bad, err)
	}
	if err == nil && a.Outcome == Found && mark == kernel.Skip {
		return s.untold(ctx, a, culprit, bad)
	}
	if err == nil && a.Outcome == NotBelieved && s.metric == nil {
		err = s.isFirst(ctx, a, culprit, point)
	}
	if err != nil {
		return nil, err
	}
	return a.end(s), nil
}

// firstRuns is how often a commit must fail, and its parent pass, to be the first of
// several bad ones: by Fisher's exact test that is chance once in 252 times.
const firstRuns = 5

// isFirst tells a commit without which the bad end is not cured, as others there do the
// same, from one that is named by chance.
func (s *search) isFirst(ctx context.Context, a *Answer, culprit, parent subject) error {
	with, before, ok, err := s.steady(ctx, culprit, parent)
	if err != nil {
		return err
	}
	a.Before, a.With = sideOf(before), sideOf(with)
	if ok {
		a.Outcome = FirstOfSeveral
	}
	return nil
}

// voteAfterAll searches by quorum what git bisect has searched: its steps took what comes and
// goes at its word. Asked again, they would not come out the same, with more runs known.
func (s *search) voteAfterAll(ctx context.Context, bad string) (*Answer, error) {
	s.record.Voted, s.confidence = append(s.record.Voted, s.from+".."+bad), usualConfidence
	return s.vote(ctx, s.from, bad)
}

// flaky says whether more runs show that the failure comes and goes, so that one run of a kernel
// is not to be taken at its word: those of the parent, which passed by chance if the culprit is
// innocent. Failing runs often take until a deadline, so more of the culprit's are made only where
// it is the bad end, and no other kernel has failed.
func (s *search) flaky(ctx context.Context, culprit, parent subject, bad string) (bool, error) {
	patient, q := s.patient()
	before, err := patient.try(ctx, parent, q)
	if err != nil {
		return false, err
	}
	if before.Mark == kernel.Bad || culprit.commit.ID != bad {
		return before.Mark == kernel.Bad, nil
	}
	with, err := patient.try(ctx, culprit, q)
	return err == nil && slices.ContainsFunc(with.Cells, s.clean), err
}

// patient are trials, and what they ask, of so many runs as show whether a failure comes and goes.
func (s *search) patient() (trials, question) {
	patient := *s.trials
	patient.count = max(s.count, firstRuns)
	q := s.sig.question(roleStep)
	q.enough = func(results.Cell) bool { return false }
	return patient, q
}

// clean says that a run shows nothing of the signature, nor of another face of it.
func (s *search) clean(c results.Cell) bool {
	return !slices.ContainsFunc(symptoms(c, s.sig.check), s.sig.isKin)
}

// steady runs a kernel that fails and one that passes as often as shows that they differ:
// ok says that the one failed each time, and the other never.
func (s *search) steady(ctx context.Context, failing, passing subject) (fails, passes *Trial, ok bool, err error) {
	patient, q := s.patient()
	if fails, err = patient.try(ctx, failing, q); err != nil {
		return nil, nil, false, err
	}
	if passes, err = patient.try(ctx, passing, q); err != nil {
		return nil, nil, false, err
	}
	return fails, passes, passes.Mark == kernel.Good && fails.Mark == kernel.Bad && !slices.ContainsFunc(fails.Cells, s.clean), nil
}

// tryBranches tries what a merge brings in, which must be good by itself.
func (s *search) tryBranches(ctx context.Context, a *Answer, merge subject) error {
	for _, id := range merge.commit.Parents[1:] {
		point, err := s.at(ctx, id)
		if err != nil {
			return err
		}
		t, err := s.try(ctx, point, s.sig.question(roleParent))
		if err != nil {
			return err
		}
		if t.Mark == kernel.Bad {
			a.Outcome = NotProven
			a.Doubt = fmt.Sprintf("it merges %s, which shows the same; so does all of that branch that was tried. Try GOOD=%s BAD=%s", point.title, s.name(merge.commit.Parents[0]), s.name(id))
			return nil
		}
	}
	a.Merge = true
	return nil
}

// lookOn is how many commits are tried behind one of which it matters what it does, where
// that one cannot be judged.
const lookOn = 3

// changesTried is how many commits may have changed a culprit's lines, if it is to be believed
// that none of them cured what it does.
const changesTried = 16

// afterwards goes on when a culprit cannot be taken out of the bad end: later commits
// changed the same lines, or undid it. The proof is made where it still reverts, and with
// each commit that changed its lines since: if one passes, what is wrong with the bad
// end came later, and is searched there. Gone is how the attempt to revert ended.
func (s *search) afterwards(ctx context.Context, a *Answer, culprit subject, bad string, gone error) (*Answer, error) {
	after, err := s.history.Between(ctx, a.Culprit.ID, bad)
	if err != nil {
		return nil, err
	}
	n := sort.Search(len(after), func(i int) bool {
		reverts, searchErr := s.history.Reverts(ctx, *a.Culprit, after[i])
		err = errors.Join(err, searchErr)
		return !reverts
	})
	if err != nil {
		return nil, err
	}
	doubt := "nothing of it is left on the bad end, which fails nevertheless"
	if errors.Is(gone, kernel.ErrNoRevert) {
		doubt = "later commits changed the same lines, so that the bad end cannot be tried without it"
	} else if n >= len(after) || n == len(after)-1 && errors.Is(gone, kernel.ErrNothingLeft) {
		a.Outcome, a.Doubt = NotProven, doubt+"; a larger COUNT tells chance from cause"
		return a.end(s), nil
	}
	if n > 0 && n < len(after) {
		// It cures nothing where nothing is wrong.
		point, t, err := s.judged(ctx, *s.trials, after[n-1:n])
		if err != nil {
			return nil, err
		}
		if t.Mark == kernel.Good {
			return s.behind(ctx, a, point, bad)
		}
		_, err = s.cure(ctx, a, culprit, after[n-1], false)
		if err != nil && !errors.Is(err, kernel.ErrNoRevert) && !errors.Is(err, kernel.ErrNothingLeft) {
			return nil, err
		}
		if a.Outcome != Found {
			return a.end(s), nil
		}
	}
	if errors.Is(gone, kernel.ErrNoRevert) {
		trail, err := s.history.Follow(ctx, *a.Culprit, after, changesTried)
		if err != nil {
			return nil, err
		}
		return s.followed(ctx, a, culprit, trail, after, doubt)
	}
	point, t, err := s.judged(ctx, *s.trials, after[n:min(n+lookOn, len(after))])
	if err != nil {
		return nil, err
	}
	if t.Mark == kernel.Good {
		return s.behind(ctx, a, point, bad)
	}
	a.Outcome = NotProven
	a.Doubt = doubt + fmt.Sprintf("; with %s, since which it cannot be taken out, it is %s. Try GOOD=%s, a later commit that passes, or a larger COUNT", point.title, t.Mark, s.name(point.commit.ID))
	return a.end(s), nil
}

// untold proves a culprit without which the bad end cannot be judged. What no later commit
// touched is there still; the rest is followed.
func (s *search) untold(ctx context.Context, a *Answer, culprit subject, bad string) (*Answer, error) {
	after, err := s.history.Between(ctx, a.Culprit.ID, bad)
	if err != nil {
		return nil, err
	}
	trail, err := s.history.Follow(ctx, *a.Culprit, after, changesTried)
	if err != nil {
		return nil, err
	}
	if len(trail.Changing) == 0 {
		return a.end(s), nil
	}
	return s.followed(ctx, a, culprit, trail, after, "later commits changed its lines, and the bad end cannot be judged without it")
}

// followed proves a culprit some of whose lines were changed by later commits, up to the bad
// end: each of them, and what is before it, must fail, and the bad end without all of them
// must not.
func (s *search) followed(ctx context.Context, a *Answer, culprit subject, trail *kernel.Trail, after []string, doubt string) (*Answer, error) {
	bad := after[len(after)-1]
	w := &walk{search: s, culprit: *a.Culprit, patient: *s.trials}
	passes, err := w.along(ctx, trail, after)
	if err != nil {
		return nil, err
	}
	if passes != nil {
		return s.behind(ctx, a, *passes, bad)
	}
	if w.doubt != "" {
		a.Outcome, a.Doubt = NotProven, doubt+", "+w.doubt
		return a.end(s), nil
	}
	if trail.Gone != "" {
		a.Outcome = NotProven
		a.Doubt = fmt.Sprintf("nothing is left of its lines, nor of those that came in their place, since %s, which fails still. Try GOOD=%s, or a later commit that passes", w.last.title, s.name(w.last.commit.ID))
		return a.end(s), nil
	}
	all := patches.Plural(len(trail.Changing), "later commit") + " that changed its lines"
	type way struct {
		key, what string
		patch     func(onto string) (patches.Patch, error)
	}
	ways := []way{{"revert " + culprit.key + " and " + all, "it and " + all, func(onto string) (patches.Patch, error) {
		return s.history.RevertAll(ctx, *a.Culprit, w.later, onto)
	}}, {"revert " + culprit.key + " and its lines", "its lines and what came in their place", func(onto string) (patches.Patch, error) {
		return s.history.Undo(ctx, trail, onto)
	}}}
	if w.branched {
		// With a merge, all of its branch would be taken out.
		ways = ways[1:]
	}
	for _, by := range ways {
		mark, err := s.takeOut(ctx, a, bad, "the bad end", by.key, by.what, by.patch)
		if errors.Is(err, kernel.ErrNoRevert) || errors.Is(err, kernel.ErrNothingLeft) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if mark == kernel.Good {
			a.Kept = "it shows still with " + all
			return a.end(s), nil
		}
		if a.Outcome != Found {
			return a.end(s), nil
		}
	}
	a.Outcome, a.Doubt = NotProven, doubt
	return a.end(s), nil
}

// walk tries the later commits that changed a culprit's lines.
type walk struct {
	*search
	culprit kernel.Commit
	// patient makes more runs of a failure that comes and goes.
	patient trials
	// later are those of the main line, each against the one before it. Branched says that one
	// merges a branch that has the culprit, too, and fails by itself.
	later    []kernel.Commit
	branched bool
	// last is what was tried last, and doubt why nothing can be said.
	last  subject
	doubt string
}

// along tries those that changed the culprit's lines after it, each the parent of the next,
// and what is before each. It ends at one that passes.
func (w *walk) along(ctx context.Context, trail *kernel.Trail, after []string) (passes *subject, err error) {
	if len(trail.Changing) > changesTried {
		w.doubt = fmt.Sprintf("and what more than %d of them do is not tried", changesTried)
		return nil, nil
	}
	// Of a failure that comes and goes, one may pass by chance the sooner the more are tried.
	patient := w.patient
	if w.belief != nil && len(trail.Changing) > 0 {
		patient.count += w.surer(2 * len(trail.Changing))
	}
	for _, id := range trail.Changing {
		i := slices.Index(after, id)
		before := w.culprit.ID
		if i > 0 {
			before = after[i-1]
		}
		for _, tries := range [][]string{{before}, after[i:min(i+lookOn, len(after))]} {
			var t *Trial
			if w.last, t, err = w.judged(ctx, patient, tries); err != nil {
				return nil, err
			}
			if t.Mark == kernel.Good {
				return &w.last, nil
			}
		}
		commit, err := w.history.Commit(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, parent := range commit.Parents {
			if parent == before {
				continue
			}
			if err := w.side(ctx, patient, parent); err != nil || w.doubt != "" {
				return nil, err
			}
		}
		commit.Parents = []string{before}
		w.later = append(w.later, commit)
	}
	return nil, nil
}

// side tries what a merge brings in that changed the culprit's lines: it must be good by
// itself, or have the culprit, too, and fail all along as the main line does.
func (w *walk) side(ctx context.Context, patient trials, parent string) error {
	merge := w.last
	point, t, err := w.judged(ctx, patient, []string{parent})
	if err != nil || t.Mark == kernel.Good {
		return err
	}
	w.doubt = fmt.Sprintf("since %s, which merges %s, and that is %s by itself", merge.title, point.title, t.Mark)
	has, err := w.history.IsAncestor(ctx, w.culprit.ID, parent)
	if err != nil || !has || t.Mark != kernel.Bad {
		return err
	}
	branch, err := w.history.Between(ctx, w.culprit.ID, parent)
	if err != nil {
		return err
	}
	trail, err := w.history.Follow(ctx, w.culprit, branch, changesTried)
	if err != nil {
		return err
	}
	inside := &walk{search: w.search, culprit: w.culprit, patient: w.patient}
	passes, err := inside.along(ctx, trail, branch)
	switch {
	case err != nil:
		return err
	case passes != nil:
		w.doubt += fmt.Sprintf(", but %s in it passes", passes.title)
	case inside.doubt != "":
		w.doubt = inside.doubt
	case trail.Gone == "":
		w.doubt, w.branched, w.last = "", true, merge
	}
	return nil
}

// judged tries some commits until one of them can be judged.
func (s *search) judged(ctx context.Context, l trials, commits []string) (point subject, t *Trial, err error) {
	for _, id := range commits {
		if point, err = s.at(ctx, id); err != nil {
			return point, nil, err
		}
		if t, err = l.try(ctx, point, s.sig.question(roleUndone)); err != nil || t.Mark != kernel.Skip {
			return point, t, err
		}
	}
	return point, t, nil
}

// surer is how many runs more than now leave no more doubt of n kernels that pass than of one.
func (s *search) surer(n int) int {
	return int(math.Ceil(math.Log(float64(n)) / -math.Log(1-min(s.belief.Rate(), 0.999))))
}

// behind goes on after a commit that passes, though the culprit comes before it.
func (s *search) behind(ctx context.Context, a *Answer, passes subject, bad string) (*Answer, error) {
	if slices.Contains(s.passed, passes.key) {
		// In branches each of which mends what another breaks, it would go round.
		a.Outcome, a.Doubt = NotProven, fmt.Sprintf("%s passes, and the search behind that leads back to it", passes.title)
		return a.end(s), nil
	}
	s.passed = append(s.passed, passes.key)
	s.tell.Say("%s shows it, but %s passes: what is wrong with the bad end came later. The search goes on behind that.", a.Title, passes.title)
	return s.between(ctx, passes.commit.ID, bad)
}

// sameCode says whether the culprit's kernel does what its parent's does, once. The
// commit itself may show that; else the kernels are compared, and where they might
// differ in the numbers of lines only, two are built in which those are the same.
func (s *search) sameCode(ctx context.Context, t *Trial, culprit, parent subject) (bool, error) {
	if t.SameCode != nil {
		return *t.SameCode, nil
	}
	same, err := s.history.Inert(ctx, *culprit.commit)
	if err == nil && !same {
		same, err = s.compare(ctx, culprit, parent, kernel.SameCode)
	}
	if err != nil {
		return false, err
	}
	if !same {
		maybe, err := s.compare(ctx, culprit, parent, kernel.SameShape)
		if err != nil {
			return false, err
		}
		if maybe {
			if same, err = s.sameLevelled(ctx, culprit, parent); err != nil {
				return false, err
			}
		}
	}
	t.SameCode = &same
	return same, s.record.save()
}

// compare builds two kernels, unless that was done, and holds one against the other.
func (s *search) compare(ctx context.Context, one, other subject, same func(a, b *kernel.Built) (bool, error)) (bool, error) {
	a, err := s.lab.Build(ctx, one.spec, one.variant)
	if err != nil {
		return false, err
	}
	b, err := s.lab.Build(ctx, other.spec, other.variant)
	if err != nil {
		return false, err
	}
	return same(a, b)
}

// sameLevelled compares a culprit with its parent after both have been given the
// same numbers of lines.
func (s *search) sameLevelled(ctx context.Context, culprit, parent subject) (bool, error) {
	before, after, err := s.history.Level(ctx, *culprit.commit)
	if err != nil || len(before)+len(after) == 0 {
		return false, err
	}
	for _, side := range []struct {
		of   *subject
		more []patches.Patch
	}{{&parent, before}, {&culprit, after}} {
		if len(side.more) > 0 {
			side.of.spec.Series = append(slices.Clone(side.of.spec.Series), patches.Series{Name: "level", Patches: side.more})
		}
	}
	same, err := s.compare(ctx, culprit, parent, kernel.SameCode)
	if brokenBy(err) != "" {
		// It cannot be shown.
		return false, nil
	}
	return same, err
}

// revertFile is where a search leaves the patch that takes its culprit out.
const revertFile = "revert.patch"

// cure takes the culprit out of an end, the bad one or one in its history, and tries that.
func (s *search) cure(ctx context.Context, a *Answer, culprit subject, of string, isBadEnd bool) (kernel.Mark, error) {
	end, err := s.at(ctx, of)
	if err != nil {
		return "", err
	}
	if culprit.key == end.key {
		// Without the culprit, the bad end is the culprit's parent.
		a.Revert = "it is the bad end itself, which without it is its parent"
		return "", nil
	}
	where, key := "the bad end", "revert "+culprit.key
	if !isBadEnd {
		where, key = end.title, key+" on "+of
	}
	return s.takeOut(ctx, a, of, where, key, "it", func(onto string) (patches.Patch, error) {
		return s.history.Revert(ctx, *culprit.commit, onto)
	})
}

// takeOut takes something out of an end, and tries that as a kernel of that key. What it makes
// of the answer is told with the names of the end and of what is taken out.
func (s *search) takeOut(ctx context.Context, a *Answer, of, where, key, what string, revertOn func(onto string) (patches.Patch, error)) (kernel.Mark, error) {
	revert, err := s.at(ctx, of)
	if err != nil {
		return "", err
	}
	onto, err := s.lab.Builder.Apply(ctx, revert.spec)
	if err != nil {
		return "", err
	}
	patch, err := revertOn(onto)
	if errors.Is(err, kernel.ErrNoPatch) {
		a.Outcome, a.Doubt = NotProven, fmt.Sprintf("the bad end cannot be tried without it, as %v", err)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(s.record.dir(), revertFile), patch.Diff, 0o644); err != nil {
		return "", err
	}
	revert.key = key
	revert.title = where + " without " + what
	revert.commit = nil
	revert.spec.Name = "reverted"
	revert.spec.Series = append(slices.Clone(revert.spec.Series), patches.Series{Name: "revert", Patches: []patches.Patch{patch}})
	t, err := s.try(ctx, revert, s.sig.question(roleRevert))
	if err != nil {
		return "", err
	}
	told := "reverted on " + where
	if what != "it" {
		told = where + " without " + what
	}
	switch t.Mark {
	case kernel.Good:
		a.Revert = told + ", it is cured"
	case kernel.Bad:
		a.Revert = told + ", the same shows still"
		a.Outcome, a.Doubt = NotBelieved, where+" shows the same without "+what
	default:
		a.Revert = told + ", nothing can be said: " + t.Why
	}
	return t.Mark, nil
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

// newTrials opens the laboratory, which must be closed.
func newTrials(ctx context.Context, q Question, program vmtest.Program, tell Teller) (*trials, error) {
	m, err := metricOf(q.Metric)
	if err != nil {
		return nil, err
	}
	var w *warned
	if q.Warning {
		if w, err = warnedOf(q.Check); err != nil {
			return nil, err
		}
	}
	if m != nil && m.bench != "" {
		if q.Accel == qemu.KVM {
			return nil, fmt.Errorf("ACCEL=%s: instructions are counted under tcg", q.Accel)
		}
		q.Accel = qemu.TCG
	}
	l, err := lab.Open(ctx, q.Lab(tell.Progress))
	if err != nil {
		return nil, err
	}
	return &trials{
		record: &Record{QEMU: l.QEMU, Host: qemu.Host(), Program: program.Name, Check: q.Check, Selection: q.Set},
		cell:   vmtest.RunCell, program: program, count: q.Count, atOnce: cmp.Or(q.Jobs, runtime.NumCPU()), lab: l, tell: tell,
		confidence: q.Confidence, budget: q.Budget, metric: m, warned: w,
	}, nil
}

// open takes up an earlier record of the question, or begins one.
func (l *trials) open(name, question string, variant kernel.Variant, q Question) (unlock func(), err error) {
	l.record.Question, l.record.Variant = question, variant.Name
	r, unlock, err := open(name, *l.record, q.Fresh)
	if err != nil {
		return nil, err
	}
	l.record = r
	if n := len(r.Trials); n > 0 {
		l.tell.Say("taking up the search in %s, with %s tried", r.dir(), patches.Plural(n, "kernel"))
	}
	// Who asks now may allow more runs.
	r.Status, r.Selection, r.Answer = results.Running, q.Set, nil
	return unlock, r.save()
}

// close records how the search ended.
func (l *trials) close(answer *Answer, err error) (*Record, error) {
	l.record.Answer, l.record.Status = answer, results.Finished
	if err != nil {
		l.record.Status = results.Interrupted
	} else {
		l.record.Told = l.record.Report()
	}
	l.record.Finished = time.Now().UTC()
	if l.record.Finished.Before(l.record.Started) {
		// The clock was set back meanwhile, and no search ends before it begins.
		l.record.Finished = l.record.Started
	}
	return l.record, errors.Join(err, l.record.save())
}
