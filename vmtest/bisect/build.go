package bisect

import (
	"context"
	"errors"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
)

// buildCheck is the check that stands for a kernel that can be built.
const buildCheck = "build"

// buildBreak searches for the commit since which the bad end does not build. Its
// signature is the compiler's first error, and no kernel is run. Of one that fails with
// another, the C file of the error is compiled by itself, and all that the compiler says of
// it counts; it is skipped where that tells nothing.
func (s *search) buildBreak(ctx context.Context, good, bad *Trial) (*Answer, error) {
	names, err := s.failedNames(ctx, bad.Failure)
	if err != nil {
		return nil, err
	}
	s.sig = signature{build: names, Symptom: Symptom{Check: buildCheck, Verdict: event.Fail, Title: bad.Broken, Detail: bad.Detail}}
	s.confidence = 0
	for _, failure := range names {
		if file, message, _ := strings.Cut(failure, ": "); strings.HasSuffix(file, ".c") {
			s.failing, s.error = append(s.failing, file), message
		}
	}
	good.Mark, good.Why = s.sig.judgeBuild(good)
	bad.Mark, bad.Why = s.sig.judgeBuild(bad)
	kind := "with"
	if s.fix {
		kind = "without"
	}
	s.tell.Say("the bad end, %s: %s; the search is for the first commit %s that error", bad.Title, bad.Broken, kind)
	return s.betweenEnds(ctx)
}

// failedNames is an error of the compiler's under each name that its file had in the range.
func (s *search) failedNames(ctx context.Context, failure string) ([]string, error) {
	file, message, _ := strings.Cut(failure, ": ")
	all := []string{failure}
	if file == "" || !s.history.Has(ctx, s.path.bad, file) {
		return all, nil
	}
	older, newer := s.path.good, s.path.bad
	if s.fix {
		older, newer = newer, older
	}
	names, err := s.history.Names(ctx, file, older, newer)
	for _, name := range names {
		if name != file {
			all = append(all, name+": "+message)
		}
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
	case t.Compiles:
		return kernel.Good, "the file of that error has it not, though the kernel does not build: " + strings.TrimPrefix(t.Broken, notBuilt)
	}
	return kernel.Skip, t.Broken
}

// alone compiles the file of the error that is searched for, of a kernel that another
// error keeps from being built: of several errors, chance says which one comes first.
func (l *trials) alone(ctx context.Context, s subject, t *Trial) error {
	if t.Failure == "" || len(l.failing) == 0 {
		return nil
	}
	_, err := l.lab.Builder.Warnings(ctx, s.spec, s.variant, l.failing...)
	var refused *kernel.BuildError
	switch {
	case err == nil:
		t.Compiles = true
	case errors.As(err, &refused) && slices.Contains(l.failing, refused.File):
		if searched := refused.Also(refused.File, l.error); searched != nil {
			refused = searched
		} else {
			t.Compiles = refused.SaysAll(refused.File)
		}
		t.Broken, t.Failure = brokenBy(refused), failureOf(refused)
		t.Detail = strings.TrimPrefix(t.Broken, notBuilt)
		if refused.Log != "" {
			t.Detail += "\nlog: " + refused.Log
		}
	case brokenBy(err) == "":
		// An interrupted one must be made again.
		t.Broken, t.Detail, t.Failure = "", "", ""
		return err
	}
	return nil
}

// failureOf is an error of the compiler's without its line, which moves.
func failureOf(refused *kernel.BuildError) string { return refused.File + ": " + refused.Message }

// ofBuild says that no kernel is run to judge it.
func (sig signature) ofBuild() bool {
	return len(sig.build) > 0 || sig.warning != "" || sig.metric != nil && sig.metric.section != ""
}
