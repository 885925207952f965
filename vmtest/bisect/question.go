package bisect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/vmtest"
)

// Question is what a user asks. Empty fields mean the default.
type Question struct {
	vmtest.Selection
	// Program is the guest program, Check narrows what of it counts: see asked.
	Program, Check string
	// Good and Bad are the ends: patch numbers or commits, see span; for a config
	// search, variants or files.
	Good, Bad string
	// Confidence is how sure the answer is to be where a bad kernel fails now and then
	// only, between 0 and 1; 0 is not to search by quorum unless that shows. Budget is
	// how many runs that may take.
	Confidence float64
	Budget     int
	// Fix asks for the first commit that passes again: Good comes after Bad then.
	Fix bool
	// Warning asks for the first commit at which the compiler warns of the file that
	// Check names: see warnedOf.
	Warning bool
	// Fixup names the patches that commits need on top to build: see fixupsOf.
	Fixup string
	// Metric is a figure to search by, in place of a failure: see metricOf.
	Metric string
	// Fresh forgets what an earlier search of the same found.
	Fresh bool
}

// FromEnv reads a question from variables, which getenv looks up.
func FromEnv(getenv func(string) string) (Question, error) {
	sel, err := vmtest.FromEnv(getenv)
	if err != nil {
		return Question{}, err
	}
	for _, other := range []struct{ name, instead string }{{"PROGRAMS", "PROGRAM=name: it is about one"}, {"KERNELS", "GOOD and BAD"}} {
		if value := sel.Set[other.name]; value != "" {
			return Question{}, fmt.Errorf("%s=%s: a search takes %s", other.name, value, other.instead)
		}
	}
	for _, name := range []string{"PROGRAM", "CHECK", "GOOD", "BAD", "FIND", "FIXUP", "METRIC", "CONFIDENCE", "BUDGET", "FRESH"} {
		if value := getenv(name); value != "" {
			sel.Set[name] = value
		}
	}
	q := Question{
		Selection: sel,
		Program:   sel.Set["PROGRAM"], Check: sel.Set["CHECK"],
		Good: sel.Set["GOOD"], Bad: sel.Set["BAD"], Fixup: sel.Set["FIXUP"], Metric: sel.Set["METRIC"],
	}
	if value := sel.Set["CONFIDENCE"]; value != "" {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(value, "%"), 64)
		if err != nil || percent < 50 || percent > 99.99 {
			return Question{}, fmt.Errorf("CONFIDENCE=%s: want a percentage from 50 to 99.99", value)
		}
		q.Confidence = percent / 100
	}
	if value := sel.Set["BUDGET"]; value != "" {
		if q.Budget, err = strconv.Atoi(value); err != nil || q.Budget < 1 {
			return Question{}, fmt.Errorf("BUDGET=%s: want how many runs a search by quorum may make, from 1", value)
		}
	}
	switch sel.Set["FIND"] {
	case "", "break":
	case "fix":
		q.Fix = true
		if q.Confidence > 0 {
			return Question{}, fmt.Errorf("FIND=fix and CONFIDENCE=%s exclude each other: a search by quorum is for what breaks", sel.Set["CONFIDENCE"])
		}
	case "warning":
		q.Warning = true
		if _, err := warnedOf(q.Check); err != nil {
			return Question{}, err
		}
	default:
		return Question{}, fmt.Errorf("FIND=%s: want break, fix for the first commit that passes again, or warning for the compiler's", sel.Set["FIND"])
	}
	if !q.Warning {
		if err := checkAsked(q.Check); err != nil {
			return Question{}, err
		}
	}
	if err := unheeded(q, sel.Set); err != nil {
		return Question{}, err
	}
	if q.Metric != "" {
		for _, name := range []string{"CHECK", "FIND", "CONFIDENCE"} {
			if sel.Set[name] != "" {
				return Question{}, fmt.Errorf("METRIC=%s and %s=%s exclude each other: the one is a figure, the other a failure", q.Metric, name, sel.Set[name])
			}
		}
	}
	switch sel.Set["FRESH"] {
	case "", "0":
	case "1":
		q.Fresh = true
	default:
		return Question{}, fmt.Errorf("FRESH=%s: want 1, to forget what is known of this search", sel.Set["FRESH"])
	}
	return q, nil
}

// unheeded refuses what a search of its kind has no use for.
func unheeded(q Question, set map[string]string) error {
	kind, why, names := "", "", []string(nil)
	switch {
	case q.Warning:
		kind, why, names = "FIND=warning", "the compiler is asked, once for each commit, and nothing is run", []string{"PROGRAM", "COUNT", "CONFIDENCE", "BUDGET"}
	case q.Fix:
		kind, why, names = "FIND=fix", "it makes no search by quorum", []string{"BUDGET"}
	case strings.HasPrefix(q.Metric, "size "):
		kind, why, names = "METRIC="+q.Metric, "a size is taken once, and nothing is run", []string{"PROGRAM", "COUNT", "BUDGET"}
	case q.Metric != "":
		kind, why, names = "METRIC="+q.Metric, "it makes no search by quorum", []string{"BUDGET"}
	}
	for _, name := range names {
		if set[name] != "" {
			return fmt.Errorf("%s=%s is of no use with %s: %s", name, set[name], kind, why)
		}
	}
	return nil
}

// program finds the guest program.
func (q Question) program(variant string) (vmtest.Program, error) {
	m, err := metricOf(q.Metric)
	if err != nil {
		return vmtest.Program{}, err
	}
	if m != nil && m.bench != "" {
		return m.program(q.Program, q)
	}
	subject, err := kernel.NamedSubject(q.Subject)
	if err != nil {
		return vmtest.Program{}, err
	}
	name := cmp.Or(q.Program, subject.Demo.Program)
	if name == "" {
		return vmtest.Program{}, fmt.Errorf("subject %s declares no program to search by: want PROGRAM=name", subject.Name)
	}
	var known []string
	for _, p := range vmtest.Programs(subject) {
		if p.Name == name {
			if len(p.Variants) > 0 && !slices.Contains(p.Variants, variant) {
				return vmtest.Program{}, fmt.Errorf("PROGRAM=%s needs VARIANT=%s", name, strings.Join(p.Variants, " or "))
			}
			return p, nil
		}
		known = append(known, p.Name)
	}
	return vmtest.Program{}, fmt.Errorf("unknown PROGRAM %q; known: %s", name, strings.Join(known, ", "))
}

// demonstration is the series that a subject declares for a search without variables.
func (q Question) demonstration() (series, pin string, err error) {
	subject, err := kernel.NamedSubject(q.Subject)
	if err != nil {
		return "", "", err
	}
	pin = cmp.Or(q.Pin, subject.Pin)
	if series = subject.Demo.Series[pin]; series == "" {
		return "", "", fmt.Errorf("subject %s has no series to search on %s: want PATCH=file, or TREE=folder with GOOD=revision", subject.Name, pin)
	}
	return subject.Path(series), pin, nil
}

// span is the commits that a search is about.
type span struct {
	variant kernel.Variant
	program vmtest.Program
	// base is the source without patches and patched with all that are searched;
	// patched is nil when the commits of a local tree are.
	base    kernel.Spec
	patched *kernel.Spec
	// top is put on top of every commit of a local tree.
	top []patches.Series
	// fixups are put on commits of a local tree that need them, below top.
	fixups []fixup
	// good and bad are the ends as asked for; fix says that bad is the older one.
	good, bad string
	fix       bool
}

// resolve reads what the question names and checks it as far as that needs no
// kernel source.
func (q Question) resolve() (*span, error) {
	lineup, err := kernel.Load()
	if err != nil {
		return nil, err
	}
	sel := q.Selection.Selection
	if q.Tree == "" && q.Patch == "" {
		if sel.Patch, sel.Pin, err = q.demonstration(); err != nil {
			return nil, err
		}
	}
	// The older end is asked for, the newer one is the tip.
	oldName, old, newName, newer := "GOOD", q.Good, "BAD", q.Bad
	if q.Fix {
		oldName, old, newName, newer = newName, newer, oldName, old
	}
	overTree := q.Tree != "" && (q.Patch == "" || q.Good != "" || q.Bad != "")
	if overTree {
		if old == "" {
			return nil, fmt.Errorf("TREE needs %s=revision, where the search begins; or PATCH alone, to search that", oldName)
		}
		if newer != "" && q.Rev != "" {
			return nil, fmt.Errorf("%s=%s and REV=%s exclude each other", newName, newer, q.Rev)
		}
		sel.Rev = cmp.Or(newer, q.Rev, "HEAD")
	}
	sel.Kernels = []string{kernel.Base}
	if sel.Patch != "" {
		sel.Kernels = append(sel.Kernels, kernel.Patched)
	}
	specs, variant, err := lineup.Resolve(sel)
	if err != nil {
		return nil, err
	}
	s := &span{variant: variant, base: specs[0], fix: q.Fix}
	if s.program, err = q.program(variant.Name); err != nil {
		return nil, err
	}
	if q.Fixup != "" && !overTree {
		return nil, fmt.Errorf("FIXUP=%s is for the commits of a TREE between GOOD and BAD; in a series it can be a patch of it", q.Fixup)
	}
	if s.fixups, err = fixupsOf(q.Fixup); err != nil {
		return nil, err
	}
	switch {
	case overTree:
		s.good, s.bad = old, sel.Rev
		if len(specs) > 1 {
			s.top = specs[1].Series
		}
	default:
		s.patched = &specs[1]
		s.good, s.bad = cmp.Or(old, "0"), cmp.Or(newer, strconv.Itoa(len(s.patched.Patches())))
	}
	if s.fix {
		s.good, s.bad = s.bad, s.good
	}
	if s.patched != nil {
		return s, s.checkNumbers()
	}
	return s, nil
}

// checkNumbers refuses patch numbers that no search could begin with.
func (s *span) checkNumbers() error {
	good, err := s.number("GOOD", s.good)
	if err != nil {
		return err
	}
	bad, err := s.number("BAD", s.bad)
	switch {
	case err != nil:
		return err
	case good == -1, bad == -1, !s.fix && good < bad, s.fix && bad < good:
		return nil
	case good == bad:
		return fmt.Errorf("GOOD=%s and BAD=%s are the same patch", s.good, s.bad)
	case s.fix:
		return fmt.Errorf("FIND=fix: BAD=%s comes after GOOD=%s in the series", s.bad, s.good)
	}
	return fmt.Errorf("GOOD=%s comes after BAD=%s in the series; FIND=fix searches for what cured it", s.good, s.bad)
}

// number is the number of the patch that an end of a series names, 0 for its base, and -1
// where it is the id of a commit: these are known when the patches have been applied.
func (s *span) number(name, value string) (int, error) {
	last := len(s.patched.Patches())
	n, err := strconv.Atoi(value)
	switch {
	case err == nil && n >= 0 && n <= last:
		return n, nil
	case value == "base":
		return 0, nil
	case commitID.MatchString(value):
		return -1, nil
	}
	return 0, s.noEnd(name, value)
}

// commitID is one, or enough of its beginning.
var commitID = regexp.MustCompile(`^[0-9a-f]{7,}$`)

// noEnd is the error for an end that is not of the series.
func (s *span) noEnd(name, value string) error {
	return fmt.Errorf("%s=%s: want a patch from 1 to %d, 0 for the base, or a commit of the series", name, value, len(s.patched.Patches()))
}

// path is a search's way through the commits, once they are there.
type path struct {
	*span
	history *kernel.History
	// chain is the base and then one commit for each patch that is searched;
	// empty for a local tree's commits.
	chain     []string
	good, bad string
	// needs are the fix-ups of the commits that were looked at.
	needs map[string][]patches.Series
}

// open makes the history in dir and finds the ends in it.
func (s *span) open(ctx context.Context, b *kernel.Builder, dir string) (*path, error) {
	p := &path{span: s}
	spec := s.base
	if s.patched != nil {
		spec = *s.patched
	}
	var err error
	if s.patched == nil {
		// Another run may have the tree in the store for as long as it builds.
		if p.good, err = kernel.LocalCommit(ctx, s.base.Tree, s.good); err != nil {
			return nil, fmt.Errorf("GOOD: %w", err)
		}
		if p.bad, err = kernel.LocalCommit(ctx, s.base.Tree, s.bad); err != nil {
			return nil, fmt.Errorf("BAD: %w", err)
		}
	}
	if p.history, err = b.History(ctx, spec, dir); err != nil {
		return nil, err
	}
	// A branch may move on meanwhile.
	if s.base.Tree != "" {
		s.base.Rev = p.history.Base
		if s.patched != nil {
			s.patched.Rev = p.history.Base
		}
	}
	switch {
	case s.patched != nil:
		after, err := p.history.Between(ctx, p.history.Base, p.history.Tip)
		if err != nil {
			return nil, err
		}
		p.chain = append([]string{p.history.Base}, after...)
		if p.good, err = p.end("GOOD", s.good); err != nil {
			return nil, err
		}
		if p.bad, err = p.end("BAD", s.bad); err != nil {
			return nil, err
		}
	case s.fix:
		p.good = p.history.Tip
	default:
		p.bad = p.history.Tip
	}
	if p.fixups, err = locate(ctx, s.base.Tree, s.fixups); err != nil {
		return nil, err
	}
	return p, p.checkEnds(ctx)
}

// end finds a patch by its number or a commit by the beginning of its id.
func (p *path) end(name, value string) (string, error) {
	n, err := p.number(name, value)
	if err == nil && n == -1 {
		n = slices.IndexFunc(p.chain, func(commit string) bool { return strings.HasPrefix(commit, value) })
	}
	if n == -1 {
		err = p.noEnd(name, value)
	}
	if err != nil {
		return "", err
	}
	return p.chain[n], nil
}

// checkEnds refuses a range that has no way from good to bad.
func (p *path) checkEnds(ctx context.Context) error {
	if p.good == p.bad {
		return fmt.Errorf("GOOD=%s and BAD=%s are the same commit, %.12s", p.span.good, p.span.bad, p.good)
	}
	if p.fix {
		ok, err := p.history.IsAncestor(ctx, p.bad, p.good)
		if err != nil || ok {
			return err
		}
		return fmt.Errorf("FIND=fix: BAD=%s is not an ancestor of GOOD=%s, so no commit between them is the first that passes again", p.span.bad, p.span.good)
	}
	ok, err := p.history.IsAncestor(ctx, p.good, p.bad)
	if err != nil || ok {
		return err
	}
	if reverse, err := p.history.IsAncestor(ctx, p.bad, p.good); err != nil || reverse {
		return errors.Join(err, fmt.Errorf("GOOD=%s comes after BAD=%s; FIND=fix searches for what cured it", p.span.good, p.span.bad))
	}
	where := "they have no commit in common"
	if base := p.history.MergeBase(ctx, p.good, p.bad); base != "" {
		where = "try GOOD=" + base + ", where they part"
	}
	return fmt.Errorf("GOOD=%s is not an ancestor of BAD=%s, so no commit between them is the first bad one; %s%s", p.span.good, p.span.bad, where, kernel.Shallow(ctx, p.base.Tree))
}

// place is where a commit stands in the series, -1 if it is not of it.
func (p *path) place(commit string) int { return slices.Index(p.chain, commit) }

// name is how a user names a commit as an end.
func (p *path) name(commit string) string {
	if n := p.place(commit); n >= 0 {
		return strconv.Itoa(n)
	}
	return commit[:12]
}

// at returns the kernel of a commit.
func (p *path) at(ctx context.Context, id string) (subject, error) {
	commit, err := p.history.Commit(ctx, id)
	if err != nil {
		return subject{}, err
	}
	s := subject{key: commit.ID, commit: &commit, variant: p.variant, spec: p.base}
	switch n := p.place(commit.ID); {
	case n == 0:
		s.title = "base, " + strconv.Quote(commit.Subject)
	case n > 0:
		s.spec = firstPatches(*p.patched, n)
		s.spec.Name = fmt.Sprintf("patch-%d", n)
		s.title = fmt.Sprintf("patch %d of %d, %q", n, len(p.chain)-1, commit.Subject)
	default:
		needed, err := p.fixupsFor(ctx, commit.ID)
		if err != nil {
			return subject{}, err
		}
		for _, series := range needed {
			s.fixups = append(s.fixups, series.Name)
		}
		s.spec.Name, s.spec.Rev, s.spec.Series = commit.ID[:12], commit.ID, slices.Concat(needed, p.top)
		s.title = fmt.Sprintf("%.12s %q", commit.ID, commit.Subject)
	}
	// What the series itself declares is what is searched.
	s.spec.Known = p.base.Known
	return s, nil
}

// firstPatches is a spec with its first n patches only.
func firstPatches(spec kernel.Spec, n int) kernel.Spec {
	all := spec.Series
	spec.Series = nil
	for _, series := range all {
		take := min(n, len(series.Patches))
		n -= take
		series.Patches = series.Patches[:take]
		spec.Series = append(spec.Series, series)
	}
	return spec
}

// without is a commit's kernel without what is put on top of it.
func (p *path) without(s subject) subject {
	s.key += " without the patch"
	s.title += " without the patch"
	s.spec.Series = s.spec.Series[:len(s.spec.Series)-len(p.top)]
	return s
}

// identity is all that the answer depends on.
func (p *path) identity(q Question, initramfs string) string {
	parts := []string{"bisect", q.Metric, p.program.Name, q.Check, p.variant.Name, p.variant.ConfigText(), q.Accel, filepath.Base(initramfs), p.good, p.bad,
		q.Compiler.CC, q.Compiler.LLVM}
	if p.fix {
		parts = append(parts, "fix")
	}
	if q.Warning {
		parts = append(parts, warningCheck)
	}
	parts = append(parts, partsOf(p.fixups)...)
	for _, series := range p.top {
		for _, patch := range series.Patches {
			parts = append(parts, patch.ID())
		}
	}
	return questionOf(parts...)
}
