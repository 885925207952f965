package patches

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode"

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

// squeeze takes all white space out of a line, for comparing beyond indentation.
func squeeze(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, line)
}

// slack is by how many lines, in the tree, a place may be stretched or shrunk by
// insertions and deletions and still count as one place.
const slack = 8

// nearest finds the index at which the image is most like want, or -1 when they
// have no line in common. Each common line votes for the distance between its two
// places, a rare line with more weight than a brace; votes for nearly the same
// distance, which lines inserted in between cause, support each other.
func (img *image) nearest(want []string, at int) int {
	where := map[string][]int{}
	for i, line := range img.lines {
		if key := squeeze(line); key != "" {
			where[key] = append(where[key], i)
		}
	}
	// votes[d] is for the want's first line standing at d-len(want).
	votes := make([]float64, len(img.lines)+len(want)+1)
	for i, line := range want {
		places := where[squeeze(line)]
		for _, place := range places {
			votes[place-i+len(want)] += 1 / float64(len(places))
		}
	}
	best, bestScore := -1, 0.0
	for d, own := range votes {
		if own == 0 {
			continue
		}
		score := own / 2
		for _, v := range votes[max(d-slack, 0):min(d+slack+1, len(votes))] {
			score += v / 2
		}
		// The further from where the hunk says, the less likely it was meant.
		pos := d - len(want)
		score *= 1 - float64(max(pos-at, at-pos))/float64(2*len(votes))
		if score > bestScore {
			best, bestScore = pos, score
		}
	}
	if bestScore == 0 {
		return -1
	}
	return max(best, 0)
}

// side sets all of want before the tree's lines at the place the hunk names.
func (img *image) side(want []string, at int) []Row {
	var rows []Row
	for _, line := range want {
		rows = append(rows, Row{Side: Want, Text: line})
	}
	at = min(at, max(len(img.lines)-len(want), 0))
	for i := at; i < min(at+len(want), len(img.lines)); i++ {
		rows = append(rows, Row{Side: Tree, Line: i + 1, Text: img.lines[i]})
	}
	return rows
}

// compare aligns want with the image's lines around pos by their heaviest common
// subsequence. Lines that differ in white space alone are paired, not equal.
func (img *image) compare(want []string, pos int) []Row {
	// A hunk of this many lines deletes a file or rewrites it; the quadratic table
	// would cost more than the answer is worth.
	const most = 1500
	if len(want) > most {
		want = want[:most]
	}
	from := max(pos-slack, 0)
	have := img.lines[from:min(pos+len(want)+slack, len(img.lines))]
	count := map[string]int{}
	for _, line := range img.lines {
		count[squeeze(line)]++
	}
	same := make([][]int, len(want)+1)
	for i := range same {
		same[i] = make([]int, len(have)+1)
	}
	wantKeys, haveKeys := squeezeAll(want), squeezeAll(have)
	// A pair of rare lines says more than a pair of braces, an exact one more than
	// one of other white space; a line of the tree skipped in between costs.
	weight := func(i, j int) int {
		w := 200 + 800/count[haveKeys[j]]
		switch {
		case want[i] == have[j]:
			return w
		case wantKeys[i] == haveKeys[j] && wantKeys[i] != "":
			return w - 10
		}
		return 0
	}
	skip := func(i int) int {
		if i == 0 || i == len(want) {
			return 0
		}
		return 100
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(have) - 1; j >= 0; j-- {
			same[i][j] = max(same[i+1][j], same[i][j+1]-skip(i))
			if w := weight(i, j); w > 0 {
				same[i][j] = max(same[i][j], same[i+1][j+1]+w)
			}
		}
	}
	var rows []Row
	i, j := 0, 0
	for i < len(want) || j < len(have) {
		w := 0
		if i < len(want) && j < len(have) {
			w = weight(i, j)
		}
		switch {
		case w > 0 && want[i] == have[j] && same[i][j] == same[i+1][j+1]+w:
			rows = append(rows, Row{Both, from + j + 1, have[j]})
			i, j = i+1, j+1
		case w > 0 && same[i][j] == same[i+1][j+1]+w:
			rows = append(rows, Row{Want, 0, want[i]}, Row{Tree, from + j + 1, have[j]})
			i, j = i+1, j+1
		case j == len(have) || i < len(want) && same[i+1][j] >= same[i][j+1]-skip(i):
			rows = append(rows, Row{Want, 0, want[i]})
			i++
		default:
			rows = append(rows, Row{Tree, from + j + 1, have[j]})
			j++
		}
	}
	return trimEdges(rows)
}

func squeezeAll(lines []string) []string {
	keys := make([]string, len(lines))
	for i, line := range lines {
		keys[i] = squeeze(line)
	}
	return keys
}

// trimEdges drops the tree's lines around the place, except as many as expected
// lines are missing there: those are what the tree has instead.
func trimEdges(rows []Row) []Row {
	trim := func() {
		wanted, treed := 0, 0
		for _, r := range rows {
			if r.Side == Both {
				break
			}
			if r.Side == Want {
				wanted++
			} else {
				treed++
			}
		}
		drop := max(treed-wanted, 0)
		rows = slices.DeleteFunc(rows, func(r Row) bool {
			if r.Side == Tree && drop > 0 {
				drop--
				return true
			}
			return false
		})
	}
	trim()
	slices.Reverse(rows)
	trim()
	slices.Reverse(rows)
	lead := slices.IndexFunc(rows, func(r Row) bool { return r.Side == Both })
	if lead > 0 {
		slices.SortStableFunc(rows[:lead], func(a, b Row) int { return int(a.Side - b.Side) })
	}
	return rows
}
