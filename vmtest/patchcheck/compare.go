package patchcheck

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"patchproof/kernel"
	"patchproof/patches"
)

// leftOut is what is said behind the name of a file that was not compiled.
const leftOut = ": the config leaves it out, it was not compiled"

// compare adds what one file brought; series are the patches between before and after.
func compare(c *Checked, file string, before, after kernel.Examined, series []patches.Patch) {
	switch {
	case after.Absent:
		return
	case after.Unbuilt:
		c.Unchecked = append(c.Unchecked, file+leftOut)
		return
	case after.Error != nil && before.Error == nil:
		c.Findings = append(c.Findings, Finding{Tool: ToolCompiler, Level: Error, File: after.Error.File, Line: after.Error.Line, Message: strings.TrimPrefix(after.Error.Message, "error: ")})
		return
	case after.Error != nil:
		c.Unchecked = append(c.Unchecked, file+": it does not compile without the patch either")
		return
	case before.Error != nil:
		c.Unchecked = append(c.Unchecked, file+": it does not compile without the patch, so what is new in it is not known")
		return
	}
	for _, w := range added(before.Warnings, after.Warnings, series) {
		tool := ToolKernelDoc
		if strings.Contains(w.Message, "[-W") {
			tool = ToolCompiler
		}
		c.Findings = append(c.Findings, Finding{Tool: tool, Level: Warning, File: w.File, Line: w.Line, Message: w.Message})
	}
	for _, w := range added(before.Sparse, after.Sparse, series) {
		c.Findings = append(c.Findings, Finding{Tool: ToolSparse, Level: Warning, File: w.File, Line: w.Line, Message: w.Message})
	}
	c.Sizes = append(c.Sizes, changes(before.Sizes, after.Sizes)...)
	c.Stack = append(c.Stack, changes(before.Stack, after.Stack)...)
}

// digits are what moves in a warning without its meaning: lines, sizes.
var digits = regexp.MustCompile(`\d+`)

// added are the warnings of which there are more than before the series. Of several alike,
// those on lines that were warned of before are not new; of the rest the last ones are.
func added(before, after []kernel.Warning, series []patches.Patch) []kernel.Warning {
	key := func(file, message string) string {
		return filepath.Base(file) + ":" + digits.ReplaceAllString(message, "N")
	}
	type place struct {
		file string
		line int
		key  string
	}
	had, there := map[string]int{}, map[place]int{}
	for _, w := range before {
		file, line := follow(series, w.File, w.Line)
		had[key(file, w.Message)]++
		there[place{file, line, key(file, w.Message)}]++
	}
	var moved []kernel.Warning
	for _, w := range after {
		if at := (place{w.File, w.Line, key(w.File, w.Message)}); there[at] > 0 {
			there[at]--
			had[at.key]--
			continue
		}
		moved = append(moved, w)
	}
	var all []kernel.Warning
	for _, w := range moved {
		if k := key(w.File, w.Message); had[k] > 0 {
			had[k]--
		} else {
			all = append(all, w)
		}
	}
	return all
}

// follow is where a line of a file is after patches, and 0 where they take it away.
func follow(series []patches.Patch, file string, line int) (string, int) {
	for _, p := range series {
		i := slices.IndexFunc(p.Files, func(f patches.File) bool { return f.Old == file && !f.IsCopy })
		if i < 0 {
			continue
		}
		file, line = p.Files[i].New, lineAfter(p.Files[i].Hunks, line)
	}
	return file, line
}

func lineAfter(hunks []patches.Hunk, line int) int {
	shift := 0
	for _, h := range hunks {
		old := h.OldStart
		if h.OldLines == 0 {
			// Such a hunk names the line that it follows.
			old++
		}
		for _, l := range h.Lines {
			switch {
			case old > line:
				return line + shift
			case l.Op == gitdiff.OpAdd:
				shift++
				continue
			case l.Op == gitdiff.OpDelete && old == line:
				return 0
			case l.Op == gitdiff.OpDelete:
				shift--
			}
			old++
		}
	}
	return line + shift
}

// changes are the figures that differ, the greatest change first.
func changes(before, after map[string]int) []Change {
	var all []Change
	names := map[string]bool{}
	for _, m := range []map[string]int{before, after} {
		for name := range m {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if before[name] != after[name] {
			all = append(all, Change{Name: name, Old: before[name], New: after[name]})
		}
	}
	slices.SortStableFunc(all, func(a, b Change) int { return abs(b.New-b.Old) - abs(a.New-a.Old) })
	return all
}

func abs(n int) int { return max(n, -n) }
