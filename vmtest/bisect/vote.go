package bisect

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/vmtest/bisect/quorum"
)

// usualConfidence and usualBudget are what a search by quorum wishes and may spend
// when nobody says.
const (
	usualConfidence = 0.95
	usualBudget     = 300
)

// endShare is the part of the budget, as a divisor, in which the bad end must fail.
const endShare = 3

// endIsBad is how likely it is, before anything ran, that the good end is bad.
const endIsBad = 0.02

// buildCost is what a kernel that was not built yet costs more than a run.
const buildCost = 1.2

// failed counts the runs that show the signature.
func (s *search) failed(cells []results.Cell) int {
	n := 0
	for _, c := range cells {
		if _, ok := s.sig.shows(c); ok {
			n++
		}
	}
	return n
}

// vote searches the commits between two ends where a bad kernel fails now and then
// only: run by run, until one commit is as likely the first bad one as is wished.
func (s *search) vote(ctx context.Context, good, bad string) (*Answer, error) {
	ids, histories, err := s.history.Range(ctx, good, bad)
	if err != nil {
		return nil, err
	}
	prior := make([]float64, len(ids))
	for i := range prior {
		prior[i] = 1
	}
	prior[0] = endIsBad * float64(len(ids))
	s.belief = quorum.New(prior, histories)
	v := &voters{search: s, ids: ids, ran: make([]int, len(ids)), looked: make([]bool, len(ids))}
	budget, last := cmp.Or(s.budget, usualBudget), len(ids)-1
	s.tell.Say("%s to search by quorum, with at most %s", patches.Plural(last, "commit"), patches.Plural(budget, "run"))
	runs := 0
	for _, end := range []int{0, last} {
		if t := s.record.trial(ids[end]); t != nil {
			for v.ran[end] < min(len(t.Cells), s.count) {
				v.take(t, end)
			}
			for end == last && s.failed(t.Cells[:v.ran[end]]) < quorum.EndFailures && runs < budget {
				if err := v.run(ctx, last); err != nil {
					return nil, err
				}
				runs++
			}
		}
	}
	for ; ; runs++ {
		best, p := s.belief.Best()
		if p >= s.confidence/2 && !v.looked[best] && best > 0 {
			if err := v.look(ctx, best); err != nil {
				return nil, err
			}
			continue
		}
		// That the good end is bad must be seen.
		unseen := best == 0 && s.failed(s.record.trial(ids[0]).Cells[:v.ran[0]]) == 0
		if p >= s.confidence && !unseen {
			return s.elect(ctx, ids[best], best == 0, bad, p)
		}
		next, more := s.belief.Next(v.cost)
		if p >= s.confidence {
			next, more = 0, true
		}
		if !more || runs >= budget {
			return v.undecided(ctx, more)
		}
		if err := v.run(ctx, next); err != nil {
			return nil, err
		}
	}
}

// voters are the commits of a search by quorum.
type voters struct {
	*search
	ids []string
	// ran counts the runs of each that the belief knows of, looked says whether its
	// code was held against its parent's.
	ran    []int
	looked []bool
}

// cost is what a run of a commit costs, compared with one that is built.
func (v *voters) cost(c int) float64 {
	if v.ran[c] > 0 {
		return 1
	}
	return buildCost
}

// run runs a commit once and takes what it tells.
func (v *voters) run(ctx context.Context, c int) error {
	point, err := v.at(ctx, v.ids[c])
	if err != nil {
		return err
	}
	t, err := v.again(ctx, point, v.sig.question(roleStep), v.ran[c]+1)
	if err != nil {
		return err
	}
	if t.Broken != "" {
		v.tellOf(t)
		v.belief.Close(c)
		return nil
	}
	mark := v.take(t, c)
	best, p := v.belief.Best()
	likeliest, err := v.at(ctx, v.ids[best])
	if err != nil {
		return err
	}
	v.tell.Say("run %d of %s: %s; likeliest is %s, %s", v.ran[c], point.title, mark, likeliest.title, percent(p))
	return nil
}

// skipsAllowed is how many runs of a commit may tell nothing before it is left alone, where
// no more than these told anything.
const skipsAllowed = 3

// take makes the belief know of the next run of a commit.
func (v *voters) take(t *Trial, c int) kernel.Mark {
	cell := t.Cells[v.ran[c]]
	v.ran[c]++
	mark, _ := v.sig.judge([]results.Cell{cell})
	if mark == kernel.Skip {
		skips := 0
		for _, cell := range t.Cells[:v.ran[c]] {
			if m, _ := v.sig.judge([]results.Cell{cell}); m == kernel.Skip {
				skips++
			}
		}
		if skips >= skipsAllowed && 2*skips >= v.ran[c] {
			v.belief.Close(c)
		}
		return mark
	}
	v.belief.Ran(c, mark == kernel.Bad)
	return mark
}

// look rules a commit out whose kernel does what its parent's does.
func (v *voters) look(ctx context.Context, c int) error {
	v.looked[c] = true
	culprit, err := v.at(ctx, v.ids[c])
	if err != nil {
		return err
	}
	inert, err := v.history.Inert(ctx, *culprit.commit)
	if err == nil && !inert && len(culprit.commit.Parents) == 1 {
		inert, err = v.sameAsParent(ctx, culprit)
	}
	if err == nil && inert {
		v.belief.Exclude(c)
		v.tell.Say("%s changes no code, so it is not to blame", culprit.title)
	}
	return err
}

// sameAsParent builds a commit and its parent and compares them.
func (v *voters) sameAsParent(ctx context.Context, culprit subject) (bool, error) {
	parent, err := v.at(ctx, culprit.commit.Parents[0])
	if err != nil {
		return false, err
	}
	same, err := v.sameCode(ctx, &Trial{}, culprit, parent)
	if brokenBy(err) != "" {
		return false, nil
	}
	return same, err
}

// elect answers with the likeliest commit, after it has been put to the proof.
func (s *search) elect(ctx context.Context, first string, isGoodEnd bool, bad string, p float64) (*Answer, error) {
	if isGoodEnd {
		end := s.record.trial(first)
		a := &Answer{Outcome: GoodIsBad, Signature: &s.sig.Symptom, Confidence: p,
			Text: fmt.Sprintf("the good end is bad: %s on %s in %d of %s. Try an earlier GOOD.", s.sig.Symptom, end.Title, s.failed(end.Cells), patches.Plural(len(end.Cells), "run"))}
		if first == s.history.Base {
			a.Outcome = BaseDoes
		}
		a.Shown, a.Evidence = s.sig.evidence(end.Cells)
		return a, nil
	}
	// As many passes as leave less doubt than is allowed.
	rate := min(s.belief.Rate(), 0.999)
	s.count = min(max(int(math.Ceil(math.Log(1-s.confidence)/math.Log(1-rate))), 1), cmp.Or(s.budget, usualBudget))
	culprit, err := s.at(ctx, first)
	if err != nil {
		return nil, err
	}
	// It may have been found by its neighbours alone.
	t, err := s.try(ctx, culprit, s.sig.question(roleStep))
	if err != nil {
		return nil, err
	}
	if t.Mark != kernel.Bad {
		a := &Answer{Outcome: NotProven, Signature: &s.sig.Symptom, Text: fmt.Sprintf(
			"the likeliest is %s, but that is not proven: itself it is %s in %s. A larger CONFIDENCE or BUDGET may tell.", culprit.title, t.Mark, patches.Plural(len(t.Cells), "run"))}
		return a, nil
	}
	return s.verify(ctx, first, bad)
}

// undecided answers when the runs are used up, or none tells anything any more.
func (v *voters) undecided(ctx context.Context, budget bool) (*Answer, error) {
	likely := v.belief.Likely(v.confidence)
	best, p := v.belief.Best()
	if best == 0 && p >= v.confidence {
		end := v.record.trial(v.ids[0])
		return &Answer{Outcome: NotProven, Signature: &v.sig.Symptom,
			Text: fmt.Sprintf("no commit between the ends can be the first bad one, but the good end, %s, passed in all of %s.", end.Title, patches.Plural(len(end.Cells), "run"))}, nil
	}
	why := "no run can tell more"
	if budget {
		why = fmt.Sprintf("the %s are used up; BUDGET=%d goes on where this ended", patches.Plural(cmp.Or(v.budget, usualBudget), "run"), 2*cmp.Or(v.budget, usualBudget))
	}
	a := &Answer{Outcome: NotProven, Signature: &v.sig.Symptom,
		Text: fmt.Sprintf("one of %s is the first bad one, with %s; the likeliest has %s: %s.", patches.Plural(len(likely), "commit"), percent(v.confidence), percent(p), why)}
	for _, c := range likely {
		commit, err := v.history.Commit(ctx, v.ids[c])
		if err != nil {
			return nil, err
		}
		a.Candidates = append(a.Candidates, fmt.Sprintf("%.12s %s", commit.ID, commit.Subject))
	}
	return a, nil
}
