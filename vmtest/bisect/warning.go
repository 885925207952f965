package bisect

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest/suites"
)

// warningCheck stands for what the compiler warns of.
const warningCheck = "warning"

// warned is a file whose warnings are searched, and a part of the warning's words, or
// nothing. Names are what the file is called in the range, the name at its end first.
type warned struct {
	file, words string
	names       []string
}

// warnedOf reads the CHECK of FIND=warning: a C file, and behind a colon words of the
// warning where it is not just any new one.
func warnedOf(check string) (*warned, error) {
	file, words, _ := strings.Cut(check, ":")
	if file = strings.TrimSpace(file); !strings.HasSuffix(file, ".c") || strings.HasPrefix(file, "/") || strings.Contains(file, "..") {
		return nil, fmt.Errorf("FIND=warning: want CHECK=file.c, a C file of the tree that the compiler warns of, or CHECK='file.c: words of the warning'; got %q", check)
	}
	return &warned{file: file, words: strings.TrimSpace(words)}, nil
}

// compile takes a trial's warnings in place of its kernel.
func (l *trials) compile(ctx context.Context, s subject, t *Trial) error {
	found, err := l.lab.Builder.Warnings(ctx, s.spec, s.variant, l.warned.names...)
	if why := brokenBy(err); why != "" {
		t.Broken, t.Detail = why, err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	t.Warnings = &[]string{}
	for _, w := range found {
		// Where it is moves from commit to commit, and so may the file.
		if slices.Contains(l.warned.names, w.File) {
			w.File = l.warned.file
		}
		if text := w.File + ": " + w.Message; strings.Contains(text, l.warned.words) && !slices.Contains(*t.Warnings, text) {
			*t.Warnings = append(*t.Warnings, text)
		}
	}
	return nil
}

// nameWarned finds what the file is called at the commits of the search. It answers where
// the bad end has no such file.
func (s *search) nameWarned(ctx context.Context) (*Answer, error) {
	names, err := s.history.Names(ctx, s.warned.file, s.path.good, s.path.bad)
	if err != nil {
		return nil, err
	}
	switch {
	case len(names) > 0:
		if names[0] != s.warned.file {
			s.tell.Say("%s is called %s now", s.warned.file, names[0])
		}
		s.warned.file, s.warned.names = names[0], names
		return nil, nil
	case len(s.top) > 0:
		// The patch on top of every commit may bring it.
		s.warned.names = []string{s.warned.file}
		return nil, nil
	}
	have, err := s.history.CFiles(ctx, s.path.bad)
	if err != nil {
		return nil, err
	}
	point, err := s.at(ctx, s.path.bad)
	text := fmt.Sprintf("CHECK=%s: the bad end, %s, has no such file; most like it: %s.", s.warned.file, point.title, suites.Near(s.warned.file, have))
	return &Answer{Outcome: Untestable, Text: text}, err
}

// answerWarning searches for the first commit at which the compiler warns of something.
func (s *search) answerWarning(ctx context.Context) (*Answer, error) {
	s.confidence = 0
	if a, err := s.nameWarned(ctx); a != nil || err != nil {
		return a, err
	}
	none := func(*Trial) (kernel.Mark, string) { return "", "" }
	var ends []*Trial
	for _, end := range []struct{ commit, role string }{{s.path.good, roleGood}, {s.path.bad, roleBad}} {
		point, err := s.at(ctx, end.commit)
		if err != nil {
			return nil, err
		}
		t, err := s.try(ctx, point, question{role: end.role, built: none})
		if err != nil {
			return nil, err
		}
		ends = append(ends, t)
	}
	good, bad := ends[0], ends[1]
	if good.Broken != "" || bad.Broken != "" {
		return noEnd(good, bad), nil
	}
	what := "a warning of " + s.warned.file
	if s.warned.words != "" {
		what += fmt.Sprintf(" with %q", s.warned.words)
	}
	i := slices.IndexFunc(*bad.Warnings, func(w string) bool { return !slices.Contains(*good.Warnings, w) })
	switch {
	case len(*bad.Warnings) == 0:
		return &Answer{Outcome: BadIsGood, Text: fmt.Sprintf("the bad end, %s, is compiled without %s.", bad.Title, what)}, nil
	case i < 0:
		return &Answer{Outcome: GoodIsBad, Text: fmt.Sprintf("the good end, %s, has each %s that the bad end has. Try an earlier GOOD.", good.Title, strings.TrimPrefix(what, "a "))}, nil
	}
	text := (*bad.Warnings)[i]
	s.sig = signature{warning: text, Symptom: Symptom{Check: warningCheck, Verdict: event.Fail, Title: text}}
	for _, t := range ends {
		t.Mark, t.Why = s.sig.judgeWarning(t)
	}
	s.tell.Say("the search is for the first commit with the warning %s", results.Line(text))
	return s.between(ctx, s.path.good, s.path.bad)
}

// judgeWarning says whether a kernel's file is compiled with the warning.
func (sig signature) judgeWarning(t *Trial) (kernel.Mark, string) {
	switch {
	case t.Broken != "":
		return kernel.Skip, t.Broken
	case t.Warnings == nil:
		return kernel.Skip, "it was not compiled"
	case slices.Contains(*t.Warnings, sig.warning):
		return kernel.Bad, sig.warning
	}
	return kernel.Good, ""
}
