package patches

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// Mismatch says why one hunk, or one whole file, of a patch does not apply to a tree.
type Mismatch struct {
	// Patch names the patch for a reader: its subject and file.
	Patch string
	File  string
	// Hunk counts from 1 up to Hunks; 0 when the file as a whole does not fit.
	Hunk, Hunks int
	// Header is the hunk's @@ line, and Line where it stands in the patch's file
	// (0 when the mail was encoded).
	Header string
	Line   int
	// Why is one sentence's predicate about the file or the hunk.
	Why string
	// Applied means that the tree has the change already.
	Applied bool
	// At is the line of the tree that is most like the hunk, from 1; 0 when no line
	// of the hunk is in the file. Same of the hunk's Total expected lines are there.
	At, Same, Total int
	// Rows set the lines that the hunk expects beside the tree's at that place.
	Rows []Row
}

// Row is one line of the comparison. Side tells whose it is.
type Row struct {
	Side Side
	// Line is the line's number in the tree's file, 0 on side Want.
	Line int
	Text string
}

// Side is the origin of a [Row].
type Side int

// A line is in both, only expected by the patch, or only in the tree.
const (
	Both Side = iota
	Want
	Tree
)

// Mismatches applies the patch in memory to the files that read gives and reports
// every hunk that git am would refuse. A hunk may have moved by any distance, but its
// context must be exact (git am's default, no fuzz). read gets names as in [File] and
// answers fs.ErrNotExist for a file that the tree does not have. No mismatch means
// that the patch applies.
func (p Patch) Mismatches(read func(path string) ([]byte, error)) []Mismatch {
	return tree{read: read, files: map[string]*image{}}.patch(p)
}

func (t tree) patch(p Patch) []Mismatch {
	for _, img := range t.files {
		if img != nil {
			clear(img.used)
		}
	}
	var all []Mismatch
	for _, f := range p.Files {
		for _, m := range t.apply(f) {
			m.Patch, m.File = p.name(), f.Name()
			all = append(all, m)
		}
	}
	return all
}

// image is a file under change. used marks the lines that a hunk has covered;
// git does not let a later hunk of the same file match there.
type image struct {
	lines []string
	used  []bool
}

func newImage(text string) *image {
	lines := slices.Collect(strings.Lines(text))
	return &image{lines: lines, used: make([]bool, len(lines))}
}

// tree is the tree as the files of the patch before have left it; nil is a file
// that is not there.
type tree struct {
	read  func(string) ([]byte, error)
	files map[string]*image
}

func (t tree) load(name string) (*image, error) {
	if img, found := t.files[name]; found {
		return img, nil
	}
	data, err := t.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		t.files[name] = nil
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t.files[name] = newImage(string(data))
	return t.files[name], nil
}

func (t tree) apply(f File) []Mismatch {
	whole := func(applied bool, format string, args ...any) []Mismatch {
		return []Mismatch{{Hunks: len(f.Hunks), Applied: applied, Why: fmt.Sprintf(format, args...)}}
	}
	if f.IsNew {
		return t.create(f, whole)
	}
	img, err := t.load(f.Old)
	if err != nil {
		return whole(false, "cannot be read: %v", err)
	}
	target, err := t.load(f.Name())
	if err != nil {
		return whole(false, "cannot be read: %v", err)
	}
	moves := !f.IsDelete && f.New != f.Old
	switch {
	case img == nil && f.IsDelete:
		return whole(true, "is to be deleted, but does not exist in the tree")
	case img == nil && moves:
		return whole(target != nil, "comes from %s, which does not exist in the tree", f.Old)
	case img == nil:
		return whole(false, "does not exist in the tree")
	case moves && target != nil:
		return whole(false, "comes from %s, but exists in the tree already", f.Old)
	}
	if moves {
		img = newImage(strings.Join(img.lines, ""))
	}
	if f.Binary {
		// git alone can tell.
		return nil
	}
	found := img.applyAll(f)
	if f.IsDelete {
		if left := len(img.lines); len(found) == 0 && left > 0 {
			return whole(false, "is to be deleted, but has %d lines in the tree that the patch does not know", left)
		}
		t.files[f.Old] = nil
		return found
	}
	t.files[f.New] = img
	if f.IsRename {
		t.files[f.Old] = nil
	}
	return found
}

func (t tree) create(f File, whole func(bool, string, ...any) []Mismatch) []Mismatch {
	var content strings.Builder
	for _, h := range f.Hunks {
		for _, line := range h.Lines {
			content.WriteString(line.Line)
		}
	}
	old, err := t.load(f.New)
	if err != nil {
		return whole(false, "cannot be read: %v", err)
	}
	if old == nil {
		t.files[f.New] = newImage(content.String())
		return nil
	}
	if strings.Join(old.lines, "") == content.String() {
		return whole(true, "exists in the tree with the content that the patch gives it")
	}
	return whole(false, "exists in the tree, but the patch creates it")
}

// applyAll changes the image by every hunk that fits, so that those after a
// hunk that does not are still judged.
func (img *image) applyAll(f File) []Mismatch {
	var found []Mismatch
	shift := 0
	for i, h := range f.Hunks {
		pre, post := h.sides()
		at := max(h.OldStart-1, 0) + shift
		// git pins a hunk that begins on line 1 to the start of the file, and one
		// without context after it to the end (apply.c, apply_one_fragment).
		start := h.OldStart <= 1
		end := h.Lines[len(h.Lines)-1].Op != gitdiff.OpContext
		pos := img.find(pre, at, start, end)
		if pos < 0 {
			m := img.explain(pre, post, at, start, end)
			m.Hunk, m.Hunks, m.Header, m.Line = i+1, len(f.Hunks), h.Header, h.Line
			found = append(found, m)
			if !m.Applied {
				continue
			}
		} else {
			img.replace(pos, len(pre), post)
		}
		shift += len(post) - len(pre)
	}
	return found
}

// sides are the hunk's lines before and after the change.
func (h Hunk) sides() (pre, post []string) {
	for _, line := range h.Lines {
		if line.Old() {
			pre = append(pre, line.Line)
		}
		if line.New() {
			post = append(post, line.Line)
		}
	}
	return pre, post
}

func (img *image) replace(pos, n int, with []string) {
	img.lines = slices.Replace(img.lines, pos, pos+n, with...)
	img.used = slices.Replace(img.used, pos, pos+n, slices.Repeat([]bool{true}, len(with))...)
}

// find gives the index of the place nearest to at where want stands, or -1.
func (img *image) find(want []string, at int, start, end bool) int {
	last := len(img.lines) - len(want)
	if start {
		at = 0
	} else if end {
		at = last
	}
	fits := func(pos int) bool {
		if pos < 0 || pos > last || start && pos != 0 || end && pos != last {
			return false
		}
		for i, line := range want {
			if img.used[pos+i] || img.lines[pos+i] != line {
				return false
			}
		}
		return true
	}
	at = min(max(at, 0), max(last, 0))
	for d := 0; d <= len(img.lines); d++ {
		if fits(at + d) {
			return at + d
		}
		if fits(at - d) {
			return at - d
		}
	}
	return -1
}

// explain says what the image has where it should have pre.
func (img *image) explain(pre, post []string, at int, start, end bool) Mismatch {
	m := Mismatch{Total: len(pre)}
	if pos := img.find(post, at, start, end); pos >= 0 && len(post) > 0 {
		m.Why, m.Applied, m.At = fmt.Sprintf("is applied already: its result stands at line %d", pos+1), true, pos+1
		return m
	}
	if pos := img.find(pre, at, false, false); pos >= 0 && len(pre) > 0 {
		m.At, m.Same = pos+1, len(pre)
		edge := "has no context after its change, so it must end the file"
		if start && pos > 0 {
			edge = "must begin the file"
		}
		m.Why = fmt.Sprintf("%s, but its lines stand at line %d of %d", edge, pos+1, len(img.lines))
		return m
	}
	m.Why = "does not apply"
	near := img.nearest(pre, at)
	if near < 0 {
		m.Rows = img.side(pre, at)
		return m
	}
	m.Rows = img.compare(pre, near)
	blank := 0
	for _, r := range m.Rows {
		if r.Side == Both {
			m.Same++
		}
		if r.Line > 0 && m.At == 0 {
			m.At = r.Line
		}
	}
	for i := range pre {
		if near+i < len(img.lines) && squeeze(pre[i]) == squeeze(img.lines[near+i]) {
			blank++
		}
	}
	if blank == len(pre) {
		m.Why = "does not apply: only white space differs (a mailer or an editor may have changed tabs, spaces or the last line end)"
	}
	return m
}
