package bisect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/patches/regular"
	"patchproof/results"
	"patchproof/vmtest"
)

// configSpan is the configs that a search is about: two ends, each a variant or
// one with a file over it, for one kernel.
type configSpan struct {
	spec      kernel.Spec
	program   vmtest.Program
	good, bad kernel.Variant
}

// CheckConfig finds what is wrong with a question about configs without changing
// anything.
func CheckConfig(q Question) error {
	_, err := q.resolveConfig()
	return err
}

// resolveConfig reads what the question names.
func (q Question) resolveConfig() (*configSpan, error) {
	if q.Good == "" || q.Bad == "" {
		return nil, errors.New("want GOOD=config and BAD=config: each a variant, or a file with options")
	}
	if q.Good == q.Bad {
		return nil, fmt.Errorf("GOOD=%s and BAD=%s are the same config", q.Good, q.Bad)
	}
	lineup, err := kernel.Load()
	if err != nil {
		return nil, err
	}
	sel := q.Selection.Selection
	sel.Kernels = []string{kernel.Base}
	if sel.Patch != "" {
		sel.Kernels = []string{kernel.Patched}
	}
	specs, variant, err := lineup.Resolve(sel)
	if err != nil {
		return nil, err
	}
	s := &configSpan{spec: specs[0]}
	for _, end := range []struct {
		name, value string
		variant     *kernel.Variant
	}{{"GOOD", q.Good, &s.good}, {"BAD", q.Bad, &s.bad}} {
		if *end.variant, err = configEnd(lineup, variant, end.name, end.value); err != nil {
			return nil, err
		}
	}
	if s.program, err = q.program(s.good.Name); err != nil {
		return nil, err
	}
	return s, nil
}

// configEnd finds a variant by its name or puts a file over one.
func configEnd(lineup *kernel.Lineup, over kernel.Variant, name, value string) (kernel.Variant, error) {
	var known []string
	for _, v := range lineup.Variants {
		if v.Name == value {
			return v, nil
		}
		known = append(known, v.Name)
	}
	text, err := regular.ReadFile(value)
	if err != nil {
		return kernel.Variant{}, fmt.Errorf("%s=%s is neither a variant (%s) nor a file: %w", name, value, strings.Join(known, ", "), err)
	}
	end := kernel.Fragment{Name: value, Text: string(text)}
	if err := end.RefuseModules(); err != nil {
		return kernel.Variant{}, fmt.Errorf("%s: %w", name, err)
	}
	over.Over = []kernel.Fragment{end}
	return over, over.Validate()
}

// configSearch is a search for options under way.
type configSearch struct {
	*configSpan
	*trials
	sig signature
	// goodConfig and badConfig are the ends' resolved configs, all is how they
	// differ, and mix is the variant of what lies between.
	goodConfig, badConfig string
	all                   []kernel.Difference
	mix                   kernel.Variant
}

// RunConfig searches for the smallest set of options by which a config that
// passes becomes one that fails, and returns the record.
func RunConfig(ctx context.Context, q Question, tell Teller) (*Record, error) {
	span, err := q.resolveConfig()
	if err != nil {
		return nil, err
	}
	program, err := q.program(span.bad.Name)
	if err != nil {
		return nil, err
	}
	l, err := newTrials(ctx, q, program, tell)
	if err != nil {
		return nil, err
	}
	defer l.lab.Close()
	return l.searchConfig(ctx, q, span)
}

// searchConfig searches the options of a span.
func (l *trials) searchConfig(ctx context.Context, q Question, span *configSpan) (*Record, error) {
	if span.spec.Tree != "" {
		commit, err := kernel.LocalCommit(ctx, span.spec.Tree, span.spec.Rev)
		if err != nil {
			return nil, err
		}
		span.spec.Rev = commit
	}
	if err := vmtest.Furnish(ctx, l.lab, []vmtest.Program{l.program}); err != nil {
		return nil, err
	}
	unlock, err := l.open("bisect-config.json", span.identity(q, l.lab.Initramfs), span.bad, q)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s := &configSearch{configSpan: span, trials: l}
	answer, err := s.answer(ctx)
	return l.close(answer, err)
}

// identity is all that the answer depends on.
func (s *configSpan) identity(q Question, initramfs string) string {
	parts := []string{"config", s.program.Name, q.Check, q.Accel, filepath.Base(initramfs), s.spec.Pin.Name, s.spec.Tree, s.spec.Rev,
		q.Compiler.CC, q.Compiler.LLVM}
	for _, patch := range s.spec.Patches() {
		parts = append(parts, patch.ID())
	}
	for _, v := range []kernel.Variant{s.good, s.bad} {
		parts = append(parts, v.Name)
		for _, f := range v.Over {
			parts = append(parts, f.Text)
		}
	}
	return questionOf(parts...)
}

func (s *configSearch) answer(ctx context.Context) (*Answer, error) {
	check := asked(s.record.Check)
	good, goodConfig, err := s.tryEnd(ctx, check.endQuestion(), s.good)
	if err != nil {
		return nil, err
	}
	if a := check.unknown(good); a != nil {
		return a, nil
	}
	bad, badConfig, err := s.tryEnd(ctx, question{role: roleBad, enough: func(results.Cell) bool { return false }}, s.bad)
	if err != nil {
		return nil, err
	}
	if good.Broken != "" || bad.Broken != "" {
		return noEnd(good, bad), nil
	}
	sig, ok := signatureOf(good.Cells, bad.Cells, check)
	if !ok {
		return noSignature(bad, check), nil
	}
	s.sig = sig
	good.Mark, good.Why = sig.judge(good.Cells)
	bad.Mark, bad.Why = sig.judge(bad.Cells)
	if sig.onGood {
		return &Answer{Outcome: GoodIsBad, Text: fmt.Sprintf("the good end is bad: %s with %s, as with %s.%s", sig.Symptom, good.Title, bad.Title, sig.alsoAlone())}, nil
	}
	if good.Mark != kernel.Good {
		return &Answer{Outcome: Inconclusive, Text: fmt.Sprintf("%s cannot serve as the good end: %s.", good.Title, good.Why)}, nil
	}
	s.tell.Say("the bad end's signature: %s%s", sig.Symptom, where(sig.Blocked))
	s.goodConfig, s.badConfig = goodConfig, badConfig
	if s.all, err = kernel.Differences(goodConfig, badConfig); err != nil {
		return nil, err
	}
	s.tell.Say("the configs differ in %s", patches.Plural(len(s.all), "option"))
	s.mix = s.bad
	s.mix.Fragments, s.mix.Lenient = nil, true
	s.mix.Scale = max(s.good.Scale, s.bad.Scale)
	return s.between(ctx)
}

// tryEnd tries an end and reads the config that it came out with.
func (s *configSearch) tryEnd(ctx context.Context, q question, v kernel.Variant) (*Trial, string, error) {
	title := "variant " + v.Name
	for _, f := range v.Over {
		title += " with " + f.Name
	}
	t, err := s.try(ctx, subject{key: q.role, title: title, spec: s.named(strings.ReplaceAll(q.role, " ", "-")), variant: v}, q)
	if err != nil || t.Broken != "" {
		return t, "", err
	}
	built, err := s.lab.Build(ctx, s.named("end"), v)
	if err != nil {
		return nil, "", err
	}
	text, err := os.ReadFile(built.Config)
	return t, string(text), err
}

// named is the kernel under the name of a step.
func (s *configSearch) named(name string) kernel.Spec {
	spec := s.spec
	spec.Name = name
	return spec
}

// between finds the options. Each round finds one that the failure needs: with
// those found so far, it is the last of the shortest list, in the order of the
// config, with which the good config fails; so each takes a number of kernels
// that grows with the logarithm of the options. What the found ones make
// superfluous goes at the end.
func (s *configSearch) between(ctx context.Context) (*Answer, error) {
	var found []kernel.Difference
	rest := s.all
	for {
		t, err := s.tryWith(ctx, found, roleStep)
		if err != nil {
			return nil, err
		}
		if t.Mark == kernel.Bad {
			break
		}
		// The shortest prefix of rest that makes it fail has between low+1 and high
		// options.
		low, high := 0, len(rest)
		for high-low > 1 {
			middle := (low + high) / 2
			t, err := s.tryWith(ctx, append(slices.Clone(found), rest[:middle]...), roleStep)
			if err != nil {
				return nil, err
			}
			if t.Mark == kernel.Bad {
				high = middle
			} else {
				low = middle
			}
		}
		if high == 0 {
			return &Answer{Outcome: NotBelieved, Signature: &s.sig.Symptom,
				Text: "the good config with all options of the bad one does not fail as that does; the image or the chance of it may differ."}, nil
		}
		found = append(found, rest[high-1])
		rest = rest[:high-1]
	}
	for i := 0; i < len(found); {
		fewer := slices.Delete(slices.Clone(found), i, i+1)
		t, err := s.tryWith(ctx, fewer, roleStep)
		if err != nil {
			return nil, err
		}
		if t.Mark == kernel.Bad {
			found = fewer
		} else {
			i++
		}
	}
	return s.verify(ctx, found)
}

// verify takes the found options out of the bad config.
func (s *configSearch) verify(ctx context.Context, found []kernel.Difference) (*Answer, error) {
	a := &Answer{Outcome: Found, Signature: &s.sig.Symptom, Runs: s.count}
	for _, d := range found {
		a.Options = append(a.Options, fmt.Sprintf("%s (good: %s)", d.BadLine(), d.GoodLine()))
	}
	with := s.record.trial(keyOf(found))
	a.Shown, a.Evidence = s.sig.evidence(with.Cells)
	var changes string
	for _, d := range found {
		changes += d.GoodLine() + "\n"
	}
	t, err := s.tryMix(ctx, "without "+keyOf(found), "the bad config without them", s.badConfig, changes, nil, roleRevert)
	if err != nil {
		return nil, err
	}
	switch t.Mark {
	case kernel.Good:
		a.Text = fmt.Sprintf("%s the good config fails, and without the bad one passes.", withOptions(len(found)))
		a.Revert = "the bad config without them passes"
	case kernel.Bad:
		a.Text = fmt.Sprintf("%s the good config fails, but the bad one does without, too: they are not the only ones.", withOptions(len(found)))
		a.Outcome, a.Doubt = NotBelieved, "the bad config fails without them"
	default:
		a.Text = fmt.Sprintf("%s the good config fails.", withOptions(len(found)))
		a.Revert = "the bad config without them says nothing: " + t.Why
	}
	o := oddsOf(s.record, s.sig)
	a.Rate, a.Confidence = o.rate(), o.confidence()
	return a, nil
}

func withOptions(n int) string {
	if n == 1 {
		return "With one option of the bad config"
	}
	return fmt.Sprintf("With %d options of the bad config", n)
}

// keyOf identifies a set of options.
func keyOf(from []kernel.Difference) string {
	names := []string{}
	for _, d := range from {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	return "config " + questionOf(names...)[:16]
}

// tryWith tries the good config with some options of the bad one.
func (s *configSearch) tryWith(ctx context.Context, from []kernel.Difference, role string) (*Trial, error) {
	var changes string
	var options []string
	for _, d := range from {
		changes += d.BadLine() + "\n"
		options = append(options, d.BadLine())
	}
	title := fmt.Sprintf("the good config with %d options of the bad one", len(from))
	if len(from) == 1 {
		title = "the good config with " + options[0]
	}
	return s.tryMix(ctx, keyOf(from), title, s.goodConfig, changes, options, role)
}

// tryMix tries a config that lies between the ends: one of theirs with changes.
func (s *configSearch) tryMix(ctx context.Context, key, title, end, changes string, options []string, role string) (*Trial, error) {
	v := s.mix
	v.Over = []kernel.Fragment{{Name: "the end's config", Text: end}, {Name: "the search's changes", Text: changes}}
	return s.try(ctx, subject{key: key, title: title, options: options, spec: s.named("config"), variant: v},
		s.sig.question(role))
}
