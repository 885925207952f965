package bisect

import (
	"context"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
)

// buildCheck is the check that stands for a kernel that can be built.
const buildCheck = "build"

// buildBreak searches for the commit since which the bad end does not build. Its
// signature is the compiler's first error; a kernel that fails with another is
// skipped, and none is run.
func (s *search) buildBreak(ctx context.Context, good, bad *Trial) (*Answer, error) {
	names, err := s.failedNames(ctx, bad.Failure)
	if err != nil {
		return nil, err
	}
	s.sig = signature{build: names, Symptom: Symptom{Check: buildCheck, Verdict: event.Fail, Title: bad.Broken, Detail: bad.Detail}}
	s.confidence = 0
	good.Mark, good.Why = s.sig.judgeBuild(good)
	bad.Mark, bad.Why = s.sig.judgeBuild(bad)
	s.tell.Say("the bad end, %s: %s; the search is for the first commit with that error", bad.Title, bad.Broken)
	return s.between(ctx, s.path.good, s.path.bad)
}

// failedNames is an error of the compiler's under each name that its file had in the range.
func (s *search) failedNames(ctx context.Context, failure string) ([]string, error) {
	file, message, _ := strings.Cut(failure, ": ")
	all := []string{failure}
	if file == "" || !s.history.Has(ctx, s.path.bad, file) {
		return all, nil
	}
	names, err := s.history.Names(ctx, file, s.path.good, s.path.bad)
	for _, name := range names[min(1, len(names)):] {
		all = append(all, name+": "+message)
	}
	return all, err
}

// judgeBuild says what a build, or the compiler's error, makes of a kernel.
func (sig signature) judgeBuild(t *Trial) (kernel.Mark, string) {
	switch {
	case t.Broken == "":
		return kernel.Good, ""
	case slices.Contains(sig.build, t.Failure):
		return kernel.Bad, t.Broken
	}
	return kernel.Skip, t.Broken
}

// ofBuild says that no kernel is run to judge it.
func (sig signature) ofBuild() bool {
	return len(sig.build) > 0 || sig.warning != "" || sig.metric != nil && sig.metric.section != ""
}
