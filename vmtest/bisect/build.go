package bisect

import (
	"context"

	"patchproof/guest/event"
	"patchproof/kernel"
)

// buildCheck is the check that stands for a kernel that can be built.
const buildCheck = "build"

// buildBreak searches for the commit since which the bad end does not build. Its
// signature is the compiler's first error; a kernel that fails with another is
// skipped, and none is run.
func (s *search) buildBreak(ctx context.Context, good, bad *Trial) (*Answer, error) {
	s.sig = signature{build: bad.Failure, Symptom: Symptom{Check: buildCheck, Verdict: event.Fail, Title: bad.Broken, Detail: bad.Detail}}
	s.confidence = 0
	good.Mark, good.Why = s.sig.judgeBuild(good)
	bad.Mark, bad.Why = s.sig.judgeBuild(bad)
	s.tell.Say("the bad end, %s: %s; the search is for the first commit with that error", bad.Title, bad.Broken)
	return s.between(ctx, s.path.good, s.path.bad)
}

// judgeBuild says what a build, or the compiler's error, makes of a kernel.
func (sig signature) judgeBuild(t *Trial) (kernel.Mark, string) {
	switch {
	case t.Broken == "":
		return kernel.Good, ""
	case t.Failure == sig.build:
		return kernel.Bad, t.Broken
	}
	return kernel.Skip, t.Broken
}

// ofBuild says that no kernel is run to judge it.
func (sig signature) ofBuild() bool {
	return sig.build != "" || sig.warning != "" || sig.metric != nil && sig.metric.section != ""
}
