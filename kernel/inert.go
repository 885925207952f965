package kernel

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel/sandbox"
	"patchproof/patches"
)

// Inert says whether a commit changes nothing that can run: only documents, and of
// C files only comments and white space. What the numbers of lines do, in messages
// and in the debug variants' tables, is nothing that can run.
func (h *History) Inert(ctx context.Context, commit Commit) (bool, error) {
	if len(commit.Parents) != 1 {
		return false, nil
	}
	changes, err := h.changes(ctx, commit.Parents[0], commit.ID)
	if err != nil {
		return false, err
	}
	for _, c := range changes {
		if isDocument(c.path) {
			continue
		}
		if !c.modified || !isC(c.path) {
			return false, nil
		}
		old, err := h.blob(ctx, c.old)
		if err != nil {
			return false, err
		}
		text, err := h.blob(ctx, c.new)
		if err != nil {
			return false, err
		}
		if !slices.Equal(tokens(old), tokens(text)) {
			return false, nil
		}
	}
	return true, nil
}

// isDocument says that no build of a kernel reads the file.
func isDocument(path string) bool {
	base := filepath.Base(path)
	switch filepath.Ext(base) {
	case ".rst", ".md":
		return true
	case ".txt", ".svg", ".dot":
		return strings.HasPrefix(path, "Documentation/")
	case ".yaml":
		return strings.HasPrefix(path, "Documentation/devicetree/")
	}
	return strings.HasPrefix(path, "LICENSES/") ||
		slices.Contains([]string{"MAINTAINERS", "CREDITS", ".mailmap", ".gitignore", ".gitattributes", ".clang-format"}, base)
}

func isC(path string) bool { return strings.HasSuffix(path, ".c") || strings.HasSuffix(path, ".h") }

// fileChange is what a commit does to a file.
type fileChange struct {
	path, old, new string
	// modified says that the file was there before and is after, with the same mode.
	modified bool
}

// changes lists the files in which two commits differ.
func (h *History) changes(ctx context.Context, old, commit string) ([]fileChange, error) {
	out, err := git(ctx, h.dir, "diff-tree", "-r", "-z", "--no-renames", "--raw", "--no-abbrev", old, commit)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	var all []fileChange
	for i := 0; i+1 < len(parts); i += 2 {
		// :100644 100644 <blob> <blob> M
		f := strings.Fields(strings.TrimPrefix(parts[i], ":"))
		if len(f) != 5 {
			return nil, fmt.Errorf("git diff-tree printed %q", parts[i])
		}
		all = append(all, fileChange{path: parts[i+1], old: f[2], new: f[3], modified: f[4] == "M" && f[0] == f[1]})
	}
	return all, nil
}

// blob returns the content of a file by its id.
func (h *History) blob(ctx context.Context, id string) (string, error) {
	out, err := sandbox.Output(ctx, gitCommand(h.dir, "cat-file", "blob", id))
	return string(out), err
}

// token takes C apart: comments, strings and characters whole, so that what looks
// like a comment inside of a string is none; names and numbers; operators, the
// longest first; and white space.
var token = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[A-Za-z0-9_$.]+|` +
	`<<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|##|\n|[ \t\r\f\v]+|.`)

// tokens are what a compiler makes of a C file, but for numbers of lines. Where a
// directive ends counts, and so does white space within one: it tells macros with
// arguments from those without.
func tokens(text string) []string {
	text = strings.NewReplacer("\\\r\n", "", "\\\n", "").Replace(text)
	var all []string
	begins, directive := true, false
	for _, t := range token.FindAllString(text, -1) {
		blank := strings.TrimSpace(t) == "" || strings.HasPrefix(t, "/*") || strings.HasPrefix(t, "//")
		switch {
		case t == "\n":
			if directive {
				// Space or a comment at its end is none.
				if last := len(all) - 1; all[last] == " " {
					all = all[:last]
				}
				all = append(all, t)
			}
			begins, directive = true, false
			continue
		case blank:
			if directive && all[len(all)-1] != " " {
				all = append(all, " ")
			}
			continue
		case t == "#" && begins:
			directive = true
		}
		begins = false
		all = append(all, t)
	}
	return all
}

// Level returns for a commit and for its parent the patch that gives both the same
// numbers of lines, by blank lines where one of them has less. Kernels built with
// them differ in what the commit really changes, and in nothing else.
func (h *History) Level(ctx context.Context, commit Commit) (parent, child []patches.Patch, err error) {
	if len(commit.Parents) == 0 {
		return nil, nil, nil
	}
	changes, err := h.changes(ctx, commit.Parents[0], commit.ID)
	if err != nil {
		return nil, nil, err
	}
	var before, after strings.Builder
	for _, c := range changes {
		if !c.modified || !isC(c.path) {
			continue
		}
		diff, err := git(ctx, h.dir, "diff", "--no-color", "--no-ext-diff", "--unified=0", c.old, c.new)
		if err != nil {
			return nil, nil, err
		}
		old, err := h.blob(ctx, c.old)
		if err != nil {
			return nil, nil, err
		}
		text, err := h.blob(ctx, c.new)
		if err != nil {
			return nil, nil, err
		}
		oldLevel, newLevel := level(old, text, diff)
		if err := h.addDiff(ctx, &before, c.path, c.old, old, oldLevel); err != nil {
			return nil, nil, err
		}
		if err := h.addDiff(ctx, &after, c.path, c.new, text, newLevel); err != nil {
			return nil, nil, err
		}
	}
	if parent, err = h.patchOf(before.String(), "level the parent"); err != nil {
		return nil, nil, err
	}
	child, err = h.patchOf(after.String(), "level the commit")
	return parent, child, err
}

var hunkRange = regexp.MustCompile(`(?m)^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@`)

// level pads both versions of a file so that each line that they have in common has
// the same number. In a macro of several lines the padding goes on with it.
func level(old, text, diff string) (oldLevel, newLevel string) {
	a, b := strings.SplitAfter(old, "\n"), strings.SplitAfter(text, "\n")
	var outA, outB strings.Builder
	doneA, doneB := 0, 0
	write := func(out *strings.Builder, lines []string) {
		for _, line := range lines {
			out.WriteString(line)
		}
	}
	pad := func(out *strings.Builder, n int) {
		blank := "\n"
		if strings.HasSuffix(out.String(), "\\\n") {
			blank = "\\\n"
		}
		out.WriteString(strings.Repeat(blank, max(n, 0)))
	}
	for _, m := range hunkRange.FindAllStringSubmatch(diff, -1) {
		startA, lenA := hunkSide(m[1], m[2])
		startB, lenB := hunkSide(m[3], m[4])
		write(&outA, a[doneA:startA+lenA])
		write(&outB, b[doneB:startB+lenB])
		doneA, doneB = startA+lenA, startB+lenB
		pad(&outA, lenB-lenA)
		pad(&outB, lenA-lenB)
	}
	write(&outA, a[doneA:])
	write(&outB, b[doneB:])
	return outA.String(), outB.String()
}

// hunkSide is where a hunk begins, counted from 0, and how many lines it has.
func hunkSide(start, length string) (first, n int) {
	first, _ = strconv.Atoi(start)
	n = 1
	if length != "" {
		n, _ = strconv.Atoi(length)
	}
	if n > 0 {
		first--
	}
	return first, n
}

// addDiff appends the diff that makes one text of another to a patch.
func (h *History) addDiff(ctx context.Context, diff *strings.Builder, path, id, old, text string) error {
	if old == text {
		return nil
	}
	file := filepath.Join(h.dir, "level")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	other, err := git(ctx, h.dir, "hash-object", "-w", "--no-filters", file)
	if err != nil {
		return err
	}
	out, err := sandbox.Output(ctx, gitCommand(h.dir, "diff", "--no-color", "--no-ext-diff", "--full-index", id, other))
	if err != nil {
		return err
	}
	head, body, _ := strings.Cut(string(out), "\n@@")
	head = strings.NewReplacer("a/"+id, "a/"+path, "b/"+other, "b/"+path).Replace(head)
	diff.WriteString(head + "\n@@" + body)
	return nil
}

// patchOf reads a diff as patches, none for an empty one.
func (h *History) patchOf(diff, subject string) ([]patches.Patch, error) {
	if diff == "" {
		return nil, nil
	}
	file := filepath.Join(h.dir, "level.diff")
	if err := os.WriteFile(file, []byte(diff), 0o644); err != nil {
		return nil, err
	}
	series, err := patches.Read(file)
	if err != nil {
		return nil, err
	}
	series.Patches[0].Subject = subject
	return series.Patches, nil
}
