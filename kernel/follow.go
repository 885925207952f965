package kernel

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"patchproof/kernel/sandbox"
	"patchproof/patches"
)

// stretch is some lines of a file that came from a commit, or in place of such: those from
// the first, counted from 0, up to the one before end. It has none where some were taken out.
type stretch struct{ first, end int }

// hunk is what a diff puts in place of a stretch.
type hunk struct{ old, new stretch }

// piece is a stretch that goes back to a commit, and what that put it in the place of, with
// all that later ones put in its place.
type piece struct {
	stretch
	old []string
}

// Trail is where the lines of a commit went in later ones.
type Trail struct {
	// Changing are those that change one of the lines, or of those that came in their place,
	// or a line beside them: there, what the commit does is kept or cured.
	Changing []string
	// Gone is the last of these where none of the lines is left after it. It is empty where
	// some are to the end, and for a commit that added none.
	Gone string

	commit Commit
	// tip is the last one, files are those that were touched since, by their names there, first
	// those that are yet to be, and stay are the others.
	tip   string
	files map[string][]piece
	first map[string]fileChange
	stay  []fileChange
	// added says that the commit added lines, whole that a file was changed that has none, as
	// it is no text.
	added, whole bool
}

// Follow goes after the lines of a commit along later ones, each the parent of the next and
// the first a child of it. It goes no further than to one more that changes them than most.
func (h *History) Follow(ctx context.Context, commit Commit, later []string, most int) (*Trail, error) {
	t := &Trail{commit: commit, files: map[string][]piece{}, first: map[string]fileChange{}}
	changed, err := h.changes(ctx, commit.Parents[0], commit.ID)
	if err != nil || len(changed) == 0 || len(later) == 0 {
		return t, err
	}
	t.tip = later[len(later)-1]
	paths, err := h.namesSince(ctx, commit.ID, t.tip, changed)
	if err != nil {
		return nil, err
	}
	steps, err := h.steps(ctx, commit.ID, later, paths)
	if err != nil {
		return nil, err
	}
	// Of what a merge brings, most is never touched again.
	touched := map[string]bool{}
	for _, all := range steps {
		for _, c := range all {
			touched[c.from] = true
		}
	}
	for _, c := range changed {
		if touched[c.path] {
			t.first[c.path] = c
		} else {
			t.stay = append(t.stay, c)
		}
	}
	for _, id := range later {
		hit := false
		for _, c := range steps[id] {
			touches, err := t.step(ctx, h, c)
			if err != nil {
				return nil, err
			}
			hit = hit || touches
		}
		if !hit {
			continue
		}
		t.Changing = append(t.Changing, id)
		left := len(t.stay)+len(t.first) > 0 || !t.added
		for _, pieces := range t.files {
			left = left || slices.ContainsFunc(pieces, func(p piece) bool { return p.end > p.first })
		}
		if !left {
			t.Gone = id
			break
		}
		if len(t.Changing) > most {
			break
		}
	}
	return t, ctx.Err()
}

// namesSince are the names that the files of a commit have in it and in later ones up to tip.
func (h *History) namesSince(ctx context.Context, commit, tip string, changed []fileChange) ([]string, error) {
	var paths []string
	for _, c := range changed {
		paths = append(paths, c.path)
	}
	there, err := h.entries(ctx, tip, paths)
	if err != nil || !slices.ContainsFunc(paths, func(path string) bool { return there[path] == "" }) {
		return paths, err
	}
	moved, err := h.moved(ctx, commit, tip)
	if err != nil {
		return nil, err
	}
	for _, path := range slices.Clone(paths) {
		if moved[path] == "" {
			continue
		}
		names, err := h.Names(ctx, path, commit, tip)
		if err != nil {
			return nil, err
		}
		paths = append(paths, names...)
	}
	return paths, nil
}

// begin takes up what the commit itself changes of a file.
func (t *Trail) begin(ctx context.Context, h *History, c fileChange) error {
	delete(t.first, c.path)
	t.files[c.path] = []piece{}
	hunks := h.hunks(ctx, c)
	if len(hunks) == 0 {
		t.whole = t.whole || c.old != c.new
		return nil
	}
	old, err := h.lines(ctx, c.old)
	if err != nil {
		return err
	}
	for _, k := range hunks {
		t.files[c.path] = append(t.files[c.path], piece{k.new, slices.Clone(old[k.old.first:min(k.old.end, len(old))])})
		t.added = t.added || k.new.end > k.new.first
	}
	return nil
}

// step goes on to what the next one changes of a file, and says whether it changes a line.
func (t *Trail) step(ctx context.Context, h *History, c step) (hit bool, err error) {
	if own, yet := t.first[c.from]; yet {
		if err := t.begin(ctx, h, own); err != nil {
			return false, err
		}
	}
	pieces, known := t.files[c.from]
	if !known {
		return false, nil
	}
	hunks := h.hunks(ctx, c.fileChange)
	lines := sync.OnceValues(func() ([]string, error) { return h.lines(ctx, c.old) })
	now, hit, err := follow(pieces, hunks, lines)
	if err != nil {
		return false, err
	}
	delete(t.files, c.from)
	t.files[c.path] = now
	if len(hunks) == 0 && c.old != c.new {
		// A file without lines is changed as a whole.
		t.whole, hit = true, true
	}
	return hit, nil
}

// follow moves pieces of a file to where a diff of it leaves them, with what it puts in
// their place. hit says whether it changes one of them, or a line beside it. The file's lines
// before the diff are asked for where it takes more than a piece.
func follow(pieces []piece, hunks []hunk, lines func() ([]string, error)) (moved []piece, hit bool, err error) {
	if pieces, err = joined(pieces, hunks, lines); err != nil {
		return nil, false, err
	}
	for _, p := range pieces {
		at, until, old := p.first, p.end, p.old
		for _, k := range hunks {
			if k.old.first > p.end {
				break
			}
			shift := k.new.end - k.old.end
			hit = hit || k.old.end >= p.first
			switch {
			case p.within(k):
				// All that is put there may do what these lines did.
				if k.old.first <= p.first {
					at = k.new.first
				}
				until = p.end + shift
				if k.old.end >= p.end {
					until = k.new.end
				}
				if k.old.first < p.first || k.old.end > p.end {
					all, err := lines()
					if err != nil {
						return nil, false, err
					}
					old = slices.Concat(all[min(k.old.first, p.first):p.first], old, all[p.end:max(k.old.end, p.end)])
				}
			case k.old.end <= p.first:
				at, until = p.first+shift, p.end+shift
			}
		}
		moved = append(moved, piece{stretch{at, max(at, until)}, old})
	}
	return moved, hit, nil
}

// within says whether a hunk takes something of a piece.
func (p piece) within(k hunk) bool {
	if k.old.first > p.end {
		return false
	}
	return p.first == p.end && k.old.end >= p.first || k.old.first < p.end && k.old.end > p.first
}

// joined makes one of pieces that one hunk takes together.
func joined(pieces []piece, hunks []hunk, lines func() ([]string, error)) ([]piece, error) {
	var all []piece
	for _, p := range pieces {
		last := len(all) - 1
		if last >= 0 && slices.ContainsFunc(hunks, func(k hunk) bool { return all[last].within(k) && p.within(k) }) {
			text, err := lines()
			if err != nil {
				return nil, err
			}
			between := text[all[last].end:max(all[last].end, p.first)]
			all[last] = piece{stretch{all[last].first, max(p.end, all[last].end)}, slices.Concat(all[last].old, between, p.old)}
			continue
		}
		all = append(all, p)
	}
	return all, nil
}

// lines are those of a file by its id, each with its end; none where there is no such file.
func (h *History) lines(ctx context.Context, id string) ([]string, error) {
	if strings.Trim(id, "0") == "" {
		return nil, nil
	}
	text, err := h.blob(ctx, id)
	if err != nil {
		return nil, err
	}
	return strings.SplitAfter(text, "\n"), nil
}

// entries are what a commit has under some paths, as git update-index takes it.
func (h *History) entries(ctx context.Context, commit string, paths []string) (map[string]string, error) {
	all := map[string]string{}
	for some := range slices.Chunk(paths, 1000) {
		out, err := git(ctx, h.dir, slices.Concat([]string{"--literal-pathspecs", "ls-tree", "-r", "-z", commit, "--"}, some)...)
		if err != nil {
			return nil, err
		}
		for entry := range strings.SplitSeq(out, "\x00") {
			// 100644 blob <id>, and behind a tab the path
			if what, path, ok := strings.Cut(entry, "\t"); ok {
				all[path] = what
			}
		}
	}
	return all, nil
}

// Undo returns a patch that puts back on onto, its last commit with patches on top or none,
// what the commit found in the place of its lines and of all that came in their place since.
// Unlike RevertAll it leaves alone what else later commits did.
func (h *History) Undo(ctx context.Context, t *Trail, onto string) (patches.Patch, error) {
	if t.whole {
		return patches.Patch{}, ErrNoRevert
	}
	last, err := h.steps(ctx, t.tip, []string{onto}, nil)
	if err != nil {
		return patches.Patch{}, err
	}
	onTop := Trail{files: maps.Clone(t.files)}
	for _, c := range last[onto] {
		// What patches on top change is theirs.
		stays := slices.ContainsFunc(t.stay, func(f fileChange) bool { return f.path == c.from })
		hit, err := onTop.step(ctx, h, c)
		if err != nil {
			return patches.Patch{}, err
		}
		if hit || stays {
			return patches.Patch{}, ErrNoRevert
		}
	}
	var paths []string
	for _, c := range t.stay {
		paths = append(paths, c.path)
	}
	was, err := h.entries(ctx, t.commit.Parents[0], paths)
	if err != nil {
		return patches.Patch{}, err
	}
	is, err := h.entries(ctx, onto, slices.Concat(paths, slices.Collect(maps.Keys(onTop.files))))
	if err != nil {
		return patches.Patch{}, err
	}
	var index strings.Builder
	put := func(path, what string) {
		if what == "" {
			what = "0 blob " + strings.Repeat("0", len(t.tip))
		}
		fmt.Fprintf(&index, "%s\t%s\x00", what, path)
	}
	for _, c := range t.stay {
		put(c.path, was[c.path])
	}
	for path, pieces := range onTop.files {
		what, err := h.putBack(ctx, is[path], pieces)
		if err != nil {
			return patches.Patch{}, err
		}
		if is[path] != "" {
			put(path, what)
		}
	}
	tree, err := h.treeWith(ctx, onto, index.String())
	if err != nil {
		return patches.Patch{}, err
	}
	return h.patchTo(ctx, onto, tree, t.commit.Subject)
}

// putBack writes a file with what was in the place of its pieces, and returns its entry: none
// where nothing is left of it.
func (h *History) putBack(ctx context.Context, entry string, pieces []piece) (string, error) {
	fields := strings.Fields(entry)
	if len(fields) < 3 {
		return "", nil
	}
	text, err := h.lines(ctx, fields[2])
	if err != nil {
		return "", err
	}
	for _, p := range slices.Backward(pieces) {
		if p.end > len(text) {
			return "", ErrNoRevert
		}
		text = slices.Concat(text[:p.first], p.old, text[p.end:])
	}
	all := strings.Join(text, "")
	if all == "" {
		return "", nil
	}
	cmd := gitCommand(h.dir, "hash-object", "-w", "--stdin")
	cmd.Stdin = strings.NewReader(all)
	id, err := sandbox.Output(ctx, cmd)
	return fields[0] + " blob " + strings.TrimSpace(string(id)), err
}

// treeWith is the tree of a commit with other entries.
func (h *History) treeWith(ctx context.Context, commit, entries string) (string, error) {
	index := filepath.Join(h.dir, "undo.index")
	defer os.Remove(index)
	if _, err := h.withIndex(ctx, index, nil, "read-tree", commit); err != nil {
		return "", err
	}
	if _, err := h.withIndex(ctx, index, []byte(entries), "update-index", "-z", "--index-info"); err != nil {
		return "", err
	}
	return h.withIndex(ctx, index, nil, "write-tree")
}

// step is how a file differs from what it was, by the name from, one commit before.
type step struct {
	fileChange
	from string
}

// steps lists what each of some commits changes of files, against the one before it.
func (h *History) steps(ctx context.Context, first string, later, paths []string) (map[string][]step, error) {
	var pairs strings.Builder
	for i, id := range later {
		before := first
		if i > 0 {
			before = later[i-1]
		}
		fmt.Fprintf(&pairs, "%s %s\n", id, before)
	}
	cmd := gitCommand(h.dir, slices.Concat([]string{"--literal-pathspecs", "diff-tree", "--stdin", "-r", "-z", "--raw", "--no-abbrev", "--find-renames", "--"}, paths)...)
	cmd.Stdin = strings.NewReader(pairs.String())
	out, err := sandbox.Output(ctx, cmd)
	if err != nil {
		return nil, err
	}
	all, id := map[string][]step{}, ""
	for parts := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); len(parts) > 0; {
		// <commit>, or :100644 100644 <blob> <blob> R100 with one name or two behind it
		fields := strings.Fields(strings.TrimPrefix(parts[0], ":"))
		if !strings.HasPrefix(parts[0], ":") {
			id, parts = strings.TrimSpace(parts[0]), parts[1:]
			continue
		}
		names := 1
		if len(fields) == 5 && strings.HasPrefix(fields[4], "R") {
			names = 2
		}
		if len(fields) != 5 || len(parts) <= names {
			return nil, fmt.Errorf("git diff-tree printed %q", parts[0])
		}
		all[id] = append(all[id], step{fileChange{path: parts[names], old: fields[2], new: fields[3]}, parts[1]})
		parts = parts[1+names:]
	}
	return all, nil
}

// hunks are those of the diff of a file, none where it is no text.
func (h *History) hunks(ctx context.Context, c fileChange) []hunk {
	sides := []string{c.old, c.new}
	for i, id := range sides {
		if strings.Trim(id, "0") != "" {
			continue
		}
		// There is no such file on that side.
		empty, err := git(ctx, h.dir, "hash-object", "-w", "--stdin")
		if err != nil {
			return nil
		}
		sides[i] = empty
	}
	diff, err := git(ctx, h.dir, "diff", "--no-color", "--no-ext-diff", "--unified=0", sides[0], sides[1])
	if err != nil {
		// A submodule's commits are not here.
		return nil
	}
	var all []hunk
	for _, m := range hunkRange.FindAllStringSubmatch(diff, -1) {
		was, gone := hunkSide(m[1], m[2])
		is, came := hunkSide(m[3], m[4])
		all = append(all, hunk{stretch{was, was + gone}, stretch{is, is + came}})
	}
	return all
}
