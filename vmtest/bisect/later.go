package bisect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"patchproof/kernel"
	"patchproof/patches"
)

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
