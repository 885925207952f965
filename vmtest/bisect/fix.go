package bisect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"patchproof/kernel"
	"patchproof/patches"
)

// exchanged is a mark in the words of a search for what cured a failure.
func exchanged(m kernel.Mark) kernel.Mark {
	switch m {
	case kernel.Good:
		return kernel.Bad
	case kernel.Bad:
		return kernel.Good
	}
	return m
}

// verifyFix holds the first commit that passes again against its parent, which must
// fail, and tries the newer end without it, which must fail, too.
func (s *search) verifyFix(ctx context.Context, first, newer string) (*Answer, error) {
	fix, a, err := s.found(ctx, first)
	if err != nil {
		return nil, err
	}
	if len(fix.commit.Parents) == 0 {
		a.Outcome, a.Doubt = NotProven, noParent
		return s.endFix(a), nil
	}
	parent, err := s.at(ctx, fix.commit.Parents[0])
	if err != nil {
		return nil, err
	}
	before, err := s.try(ctx, parent, s.sig.question(roleParent))
	if err != nil {
		return nil, err
	}
	with := s.record.trial(fix.key)
	a.Before, a.With = sideOf(before), sideOf(with)
	a.Shown, a.Evidence = s.sig.evidence(before.Cells)
	if len(s.sig.build) > 0 {
		a.Evidence = before.Detail
	}
	if before.Mark == kernel.Good {
		a.Outcome, a.Doubt = NotBelieved, "its parent passes, too"
		return s.endFix(a), nil
	}
	if before.Broken == "" && with.Broken == "" && len(s.sig.build) == 0 {
		if a.SameCode, err = s.sameCode(ctx, with, fix, parent); err != nil {
			return nil, err
		}
		if a.SameCode {
			a.Outcome, a.Doubt = NotBelieved, "its kernel has the same code as its parent's, so the difference between their verdicts is chance; a larger COUNT makes that rarer"
			return s.endFix(a), nil
		}
	}
	relapsed, err := s.relapse(ctx, a, fix, newer)
	if err == nil && !relapsed && len(s.sig.build) == 0 {
		err = s.isFix(ctx, a, fix, parent)
	}
	if err != nil {
		return nil, err
	}
	return s.endFix(a), nil
}

// isFix tells a commit that cures, where the newer end does not show that, from one that
// passes by chance.
func (s *search) isFix(ctx context.Context, a *Answer, fix, parent subject) error {
	before, with, ok, err := s.steady(ctx, parent, fix)
	if err != nil {
		return err
	}
	a.Before, a.With = sideOf(before), sideOf(with)
	if !ok {
		a.Outcome, a.Doubt = NotBelieved, fmt.Sprintf("in %s of each, it and its parent do not differ as they would then; a larger COUNT tells chance from cure", patches.Plural(firstRuns, "run"))
	}
	return nil
}

// relapse takes the fix out of the newer end and says whether that fails then.
func (s *search) relapse(ctx context.Context, a *Answer, fix subject, newer string) (bool, error) {
	end, err := s.at(ctx, newer)
	if err != nil {
		return false, err
	}
	if fix.key == end.key {
		a.Revert = "it is the good end itself, which without it is its parent"
		return false, nil
	}
	onto, err := s.lab.Builder.Apply(ctx, end.spec)
	if err != nil {
		return false, err
	}
	patch, err := s.history.Revert(ctx, *fix.commit, onto)
	if errors.Is(err, kernel.ErrNoRevert) || errors.Is(err, kernel.ErrNothingLeft) || errors.Is(err, kernel.ErrNoPatch) {
		a.Revert = err.Error() + " on the good end, so it could not be tried without it"
		return false, nil
	}
	if err != nil {
		return false, err
	}
	end.key, end.title, end.commit = "revert "+fix.key, "the good end without it", nil
	end.spec.Name = "reverted"
	end.spec.Series = append(slices.Clone(end.spec.Series), patches.Series{Name: "revert", Patches: []patches.Patch{patch}})
	t, err := s.try(ctx, end, s.sig.question(roleRevert))
	if err != nil {
		return false, err
	}
	switch t.Mark {
	case kernel.Bad:
		a.Revert = "reverted on the good end, it fails again"
	case kernel.Good:
		a.Revert = "reverted on the good end, it passes still: something else there cures it, too"
	default:
		a.Revert = "reverted on the good end, nothing can be said: " + t.Why
	}
	return t.Mark == kernel.Bad, nil
}

// endFix completes an answer that names a fix.
func (s *search) endFix(a *Answer) *Answer {
	a.end(s)
	switch a.Outcome {
	case Found:
		a.Text = fmt.Sprintf("%s is the first commit that passes again.", a.Title)
	case NotBelieved:
		a.Text = fmt.Sprintf("git bisect ends at %s as the fix, which is not believed: %s.", a.Title, a.Doubt)
	}
	return a
}
