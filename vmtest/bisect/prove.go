package bisect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
)

// noParent is why what begins a history, as one of several that were merged, is not proven.
const noParent = "it has no parent to be held against"

// found is a commit that a search ends at, and the answer that names it, if it is believed.
func (s *search) found(ctx context.Context, id string) (subject, *Answer, error) {
	point, err := s.at(ctx, id)
	if err != nil {
		return point, nil, err
	}
	touched, err := s.history.Touched(ctx, *point.commit)
	return point, &Answer{Outcome: Found, Culprit: point.commit, Title: point.title, Signature: &s.sig.Symptom, Touched: touched}, err
}

// verify holds a culprit against its parent, and the bad end against itself
// without the culprit.
func (s *search) verify(ctx context.Context, first, bad string) (*Answer, error) {
	culprit, a, err := s.found(ctx, first)
	if err != nil {
		return nil, err
	}
	with := s.record.trial(culprit.key)
	a.Shown, a.Evidence = s.sig.evidence(with.Cells)
	// A run of the culprit ends with the signature, and those of the bad end tell all.
	if end := s.record.trial(bad); end != nil && end != with {
		if shown, evidence := s.sig.evidence(end.Cells); len(shown) > len(a.Shown) {
			a.Shown, a.Evidence, a.ShownBy = shown, evidence, "the bad end"
		}
	}
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
	if ended, err := s.againstParent(ctx, a, culprit, point, bad); err != nil || ended != nil {
		return ended, err
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

// againstParent holds a culprit against its parent. Where that ends the search, or begins another
// by quorum, it returns the answer.
func (s *search) againstParent(ctx context.Context, a *Answer, culprit, parent subject, bad string) (*Answer, error) {
	with := s.record.trial(culprit.key)
	before, err := s.try(ctx, parent, s.sig.question(roleParent))
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
		if a.SameCode, err = s.sameCode(ctx, with, culprit, parent); err != nil {
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
		flaky, err := s.flaky(ctx, culprit, parent, bad)
		if err != nil {
			return nil, err
		}
		if flaky {
			s.tell.Say("git bisect ends at %s, but in %s of a kernel, it and its parent do not differ as they would then: the failure comes and goes; each kernel is run until the answer is %g %% sure", a.Title, patches.Plural(firstRuns, "run"), 100*usualConfidence)
			return s.voteAfterAll(ctx, bad)
		}
		a.Before, a.With = sideOf(before), sideOf(with)
	}
	return nil, nil
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
