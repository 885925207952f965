package kernel

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"patchproof/kernel/sandbox"
)

// stretch is some lines of a file that came from a commit, or in place of such: those from
// the first, counted from 0, up to the one before end. It has none where some were taken out.
type stretch struct{ first, end int }

// hunk is what a diff puts in place of a stretch.
type hunk struct{ old, new stretch }

// Follow goes after the lines of a commit along later ones, each the parent of the next and
// the first a child of it. It returns those that change one of the lines, or of those that
// came in their place, or a line beside them: there, what the commit does is kept or cured.
// The last of these is gone where none of the lines is left after it; gone is empty where
// some are to the end, and for a commit that added none.
func (h *History) Follow(ctx context.Context, commit Commit, later []string) (changing []string, gone string, err error) {
	changed, err := h.changes(ctx, commit.Parents[0], commit.ID)
	if err != nil || len(changed) == 0 || len(later) == 0 {
		return nil, "", err
	}
	moved, err := h.moved(ctx, commit.ID, later[len(later)-1])
	if err != nil {
		return nil, "", err
	}
	var paths []string
	for _, c := range changed {
		paths = append(paths, c.path)
		if moved[c.path] == "" {
			continue
		}
		names, err := h.Names(ctx, c.path, commit.ID, later[len(later)-1])
		if err != nil {
			return nil, "", err
		}
		paths = append(paths, names...)
	}
	steps, err := h.steps(ctx, commit.ID, later, paths)
	if err != nil {
		return nil, "", err
	}
	// Of what a merge brings, most is never touched again.
	touched := map[string]bool{}
	for _, all := range steps {
		for _, c := range all {
			touched[c.from] = true
		}
	}
	files := map[string][]stretch{}
	stays, added := false, false
	for _, c := range changed {
		if !touched[c.path] {
			stays = true
			continue
		}
		files[c.path] = []stretch{}
		for _, k := range h.hunks(ctx, c) {
			files[c.path] = append(files[c.path], k.new)
			added = added || k.new.end > k.new.first
		}
	}
	for _, id := range later {
		hit := false
		for _, c := range steps[id] {
			lines, known := files[c.from]
			if !known {
				continue
			}
			hunks := h.hunks(ctx, c.fileChange)
			now, touches := follow(lines, hunks)
			// A file without lines is changed as a whole.
			hit = hit || touches || len(hunks) == 0 && c.old != c.new
			delete(files, c.from)
			files[c.path] = now
		}
		if !hit {
			continue
		}
		changing = append(changing, id)
		left := stays || !added
		for _, lines := range files {
			left = left || slices.ContainsFunc(lines, func(s stretch) bool { return s.end > s.first })
		}
		if !left {
			return changing, id, ctx.Err()
		}
	}
	return changing, "", ctx.Err()
}

// follow moves stretches of a file to where a diff of it leaves them, with what it puts in
// their place. hit says whether it changes one of them, or a line beside it.
func follow(lines []stretch, hunks []hunk) (moved []stretch, hit bool) {
	for _, s := range lines {
		at, until := s.first, s.end
		for _, k := range hunks {
			if k.old.first > s.end {
				break
			}
			shift := k.new.end - k.old.end
			within := s.first == s.end && k.old.end >= s.first || k.old.first < s.end && k.old.end > s.first
			hit = hit || k.old.end >= s.first
			switch {
			case within:
				// All that is put there may do what these lines did.
				if k.old.first <= s.first {
					at = k.new.first
				}
				until = s.end + shift
				if k.old.end >= s.end {
					until = k.new.end
				}
			case k.old.end <= s.first:
				at, until = s.first+shift, s.end+shift
			}
		}
		moved = append(moved, stretch{at, max(at, until)})
	}
	return moved, hit
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
