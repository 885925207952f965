package patchcheck

import (
	"context"
	"slices"

	"patchproof/patches"
)

// checkOthers compiles the files of a patch in the other configs too, and adds what is said
// there and nowhere before. A file that one of these has is not left out any more.
func (c *checker) checkOthers(ctx context.Context, n int, checked *Checked) error {
	p, files := c.all[n].Patches()[n-1], c.files(n)
	for _, other := range c.others {
		builder := c.lab.Builder
		builder.Compiler = other.Compiler
		before, err := builder.Examine(ctx, c.all[n-1], other.Variant, oldNames(p, files))
		if err != nil {
			return err
		}
		after, err := builder.Examine(ctx, c.all[n], other.Variant, files)
		if err != nil {
			return err
		}
		for _, file := range files {
			if after[file].Unbuilt {
				continue
			}
			var found Checked
			compare(&found, file, before[oldName(p, file)], after[file], []patches.Patch{p})
			checked.Unchecked = slices.DeleteFunc(checked.Unchecked, func(line string) bool { return line == file+leftOut })
			for _, f := range found.Findings {
				said := func(old Finding) bool {
					return old.Tool == f.Tool && old.Level == f.Level && old.File == f.File && old.Line == f.Line
				}
				if !slices.ContainsFunc(checked.Findings, said) {
					f.Config = other.Name
					checked.Findings = append(checked.Findings, f)
				}
			}
			for _, line := range found.Unchecked {
				checked.Unchecked = append(checked.Unchecked, other.Name+": "+line)
			}
		}
	}
	return nil
}
