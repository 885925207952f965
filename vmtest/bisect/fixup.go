package bisect

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"patchproof/kernel"
	"patchproof/patches"
)

// fixup is a patch that commits need on top to build or boot, which has nothing to do
// with what is searched.
type fixup struct {
	series patches.Series
	// from and to are revisions of the tree: the commits after one, up to the other,
	// need it. Both are empty where all do that it applies to.
	from, to string
}

// fixupsOf reads FIXUP: patches as patches.Read takes them, each with a range behind it
// or none, set off by semicolons.
func fixupsOf(value string) ([]fixup, error) {
	var all []fixup
	for part := range strings.SplitSeq(value, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		var f fixup
		file := part
		if i := strings.LastIndexByte(part, ' '); i >= 0 && strings.Contains(part[i:], "..") {
			file = strings.TrimSpace(part[:i])
			f.from, f.to, _ = strings.Cut(part[i+1:], "..")
			if f.from == "" || f.to == "" || strings.HasPrefix(f.to, ".") {
				return nil, fmt.Errorf("FIXUP=%s: want a range A..B of revisions: the commits after A, up to B", part)
			}
		}
		var err error
		if f.series, err = patches.Read(file); err != nil {
			return nil, fmt.Errorf("FIXUP: %w", err)
		}
		all = append(all, f)
	}
	return all, nil
}

// partsOf are what an answer depends on of fix-ups.
func partsOf(all []fixup) []string {
	var text []string
	for _, f := range all {
		for _, patch := range f.series.Patches {
			text = append(text, "fixup", patch.ID(), f.from, f.to)
		}
	}
	return text
}

// locate makes commits of the ranges' revisions.
func locate(ctx context.Context, tree string, all []fixup) ([]fixup, error) {
	all = slices.Clone(all)
	for i := range all {
		for _, rev := range []*string{&all[i].from, &all[i].to} {
			if *rev == "" {
				continue
			}
			commit, err := kernel.LocalCommit(ctx, tree, *rev)
			if err != nil {
				return nil, fmt.Errorf("FIXUP: %w", err)
			}
			*rev = commit
		}
	}
	return all, nil
}

// fixupsFor returns the fix-ups of a commit.
func (p *path) fixupsFor(ctx context.Context, commit string) ([]patches.Series, error) {
	if known, ok := p.needs[commit]; ok {
		return known, nil
	}
	var need []patches.Series
	for _, f := range p.fixups {
		ok, err := p.inNeed(ctx, f, commit)
		if err != nil {
			return nil, err
		}
		if ok {
			need = append(need, f.series)
		}
	}
	if p.needs == nil {
		p.needs = map[string][]patches.Series{}
	}
	p.needs[commit] = need
	return need, nil
}

// inNeed says whether a commit is in the range of a fix-up or, where that has none,
// whether it applies.
func (p *path) inNeed(ctx context.Context, f fixup, commit string) (bool, error) {
	if f.from == "" {
		return p.history.Applies(ctx, commit, f.series.Patches)
	}
	if commit == f.from {
		return false, nil
	}
	after, err := p.history.IsAncestor(ctx, f.from, commit)
	if err != nil || !after {
		return false, err
	}
	return p.history.IsAncestor(ctx, commit, f.to)
}
