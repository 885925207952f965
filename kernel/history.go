package kernel

import (
	"bytes"
	"context"
	"errors"
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

// History is the commits below a kernel: those of a local tree, and one for
// each patch. It is a bare repository of its own that borrows the objects of
// the tree in the cache, which borrows a user's: what git bisect writes while
// it searches is in neither.
type History struct {
	dir string
	// Base is the commit that the spec's patches are applied to, Tip the last
	// of them.
	Base, Tip string
}

// Commit is what people are told of a commit.
type Commit struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
	// Author is a name and an address.
	Author  string   `json:"author"`
	Parents []string `json:"-"`
}

// History applies the patches of a spec and makes a repository at dir, a folder
// that exists and is empty, in which its commits can be searched. It is good for
// as long as the store is in use.
func (b *Builder) History(ctx context.Context, spec Spec, dir string) (*History, error) {
	b, err := b.absolute()
	if err != nil {
		return nil, err
	}
	h := &History{dir: dir}
	err = b.withTree(ctx, spec, func(t tree) error {
		h.Base = t.base
		if h.Tip, err = b.apply(ctx, t, spec); err != nil {
			return err
		}
		return h.borrow(ctx, filepath.Join(t.src(), ".git"))
	})
	if err != nil {
		return nil, err
	}
	// git bisect wants a HEAD to come back to.
	_, err = git(ctx, dir, "update-ref", "--no-deref", "HEAD", h.Tip)
	return h, err
}

// borrow makes the repository see the objects of another.
func (h *History) borrow(ctx context.Context, gitDir string) error {
	if _, err := git(ctx, h.dir, "init", "--quiet", "--bare", "--template="); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(h.dir, "info"), 0o755); err != nil {
		return err
	}
	files := map[string]string{
		"objects/info/alternates": filepath.Join(gitDir, "objects") + "\n",
		// So that hunks are told by functions and not by labels.
		"info/attributes": "*.c diff=cpp\n*.h diff=cpp\n",
	}
	for name, text := range files {
		path := filepath.Join(h.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{"shallow", "info/grafts"} {
		if err := copyCut(filepath.Join(h.dir, name), filepath.Join(gitDir, name)); err != nil {
			return err
		}
	}
	return copyReplaced(ctx, h.dir, gitDir)
}

// LocalCommit returns the commit that a revision is in a local tree.
func LocalCommit(ctx context.Context, dir, rev string) (string, error) {
	return resolveLocal(ctx, Spec{Tree: dir, Rev: rev})
}

// Commit looks a revision up: an id or the beginning of one.
func (h *History) Commit(ctx context.Context, rev string) (Commit, error) {
	out, err := git(ctx, h.dir, "log", "-1", "--no-show-signature", "--format=%H%x00%P%x00%an <%ae>%x00%s", "--end-of-options", rev+"^{commit}")
	if err != nil {
		return Commit{}, fmt.Errorf("no commit %q", rev)
	}
	parts := strings.SplitN(out, "\x00", 4)
	if len(parts) < 4 {
		return Commit{}, fmt.Errorf("git log of %s printed %q", rev, out)
	}
	return Commit{ID: parts[0], Parents: strings.Fields(parts[1]), Author: parts[2], Subject: parts[3]}, nil
}

// Between returns the ids of the commits after old up to tip, the oldest first, each
// with old in its history: along first parents, as far as these have it.
func (h *History) Between(ctx context.Context, old, tip string) ([]string, error) {
	out, err := git(ctx, h.dir, "rev-list", "--ancestry-path", "--parents", old+".."+tip)
	if err != nil {
		return nil, err
	}
	parents := map[string][]string{}
	for line := range strings.Lines(out) {
		if names := strings.Fields(line); len(names) > 0 {
			parents[names[0]] = names[1:]
		}
	}
	var all []string
	for id := tip; parents[id] != nil; {
		all = append(all, id)
		of := parents[id]
		i := slices.IndexFunc(of, func(parent string) bool { return parent == old || parents[parent] != nil })
		if i < 0 {
			break
		}
		id = of[i]
	}
	slices.Reverse(all)
	return all, nil
}

// Count returns how many commits are in tip's history and not in old's.
func (h *History) Count(ctx context.Context, old, tip string) (int, error) {
	out, err := git(ctx, h.dir, "rev-list", "--count", old+".."+tip)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out)
}

// Range lists good and then the commits that are in bad's history and not in good's,
// each behind its parents. Histories holds for each the numbers of those in its own
// history, itself included; it is nil where the commits are a line.
func (h *History) Range(ctx context.Context, good, bad string) (ids []string, histories [][]int, err error) {
	out, err := git(ctx, h.dir, "rev-list", "--reverse", "--topo-order", "--parents", bad, "--not", good)
	if err != nil {
		return nil, nil, err
	}
	ids, place, line := []string{good}, map[string]int{good: 0}, true
	var parents [][]int
	for entry := range strings.Lines(out) {
		names := strings.Fields(entry)
		if len(names) == 0 {
			continue
		}
		var of []int
		for _, parent := range names[1:] {
			// What lies outside is in good's history.
			of = append(of, place[parent])
		}
		place[names[0]] = len(ids)
		line = line && len(of) == 1 && of[0] == len(ids)-1
		ids, parents = append(ids, names[0]), append(parents, of)
	}
	if line {
		return ids, nil, nil
	}
	in := [][]bool{{true}}
	histories = [][]int{{0}}
	for i, of := range parents {
		mine := make([]bool, len(ids))
		mine[i+1] = true
		for _, parent := range of {
			for c, there := range in[parent] {
				mine[c] = mine[c] || there
			}
		}
		in = append(in, mine)
		var list []int
		for c, there := range mine {
			if there {
				list = append(list, c)
			}
		}
		histories = append(histories, list)
	}
	return ids, histories, nil
}

// IsAncestor says whether old is in tip's history.
func (h *History) IsAncestor(ctx context.Context, old, tip string) (bool, error) {
	out, err := git(ctx, h.dir, "rev-list", "--max-count=1", old, "--not", tip)
	return out == "", err
}

// MergeBase returns the newest commit that both have in their history, empty if
// there is none.
func (h *History) MergeBase(ctx context.Context, one, other string) string {
	out, err := git(ctx, h.dir, "merge-base", one, other)
	if err != nil {
		return ""
	}
	return out
}

// Before returns the commit n steps down the first parents, or the oldest one
// there is.
func (h *History) Before(ctx context.Context, commit string, n int) (string, error) {
	out, err := git(ctx, h.dir, "rev-list", "--first-parent", "--max-count="+strconv.Itoa(n+1), commit)
	all := strings.Fields(out)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[len(all)-1], nil
}

// Applies says whether patches apply to a commit, one after the other.
func (h *History) Applies(ctx context.Context, commit string, list []patches.Patch) (bool, error) {
	index := filepath.Join(h.dir, "applies.index")
	defer os.Remove(index)
	if _, err := h.withIndex(ctx, index, nil, "read-tree", commit); err != nil {
		return false, err
	}
	for _, p := range list {
		if _, err := h.withIndex(ctx, index, p.Diff, "apply", "--cached", "-"); err != nil {
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
			return false, nil
		}
	}
	return true, nil
}

// withIndex runs git with that file as its index, which the caller removes.
func (h *History) withIndex(ctx context.Context, index string, stdin []byte, args ...string) (string, error) {
	cmd := gitCommand(h.dir, args...)
	cmd.Env = append(cmd.Env, "GIT_INDEX_FILE="+index)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := sandbox.Output(ctx, cmd)
	return strings.TrimSpace(string(out)), err
}

// Mark is what is known of a commit.
type Mark string

// The marks, in git bisect's words.
const (
	Good Mark = "good"
	Bad  Mark = "bad"
	Skip Mark = "skip"
)

// Bisected is where a search ended.
type Bisected struct {
	// First is the first bad commit; it is empty when commits had to be skipped,
	// and Candidates then are those that it may be.
	First      string
	Candidates []string
}

// firstBad and maybeBad are how the log of git bisect ends.
var (
	firstBad = regexp.MustCompile(`(?m)^# first bad commit: \[([0-9a-f]+)\]`)
	maybeBad = regexp.MustCompile(`(?m)^# possible first bad commit: \[([0-9a-f]+)\]`)
)

// judge says what is known of a commit. An error ends the search.
type judge func(ctx context.Context, commit string) (Mark, error)

// Bisect lets git bisect choose the commits between good, an ancestor, and bad
// that judge is asked about: first those along first parents, which were tested as
// they are, and inside a merged branch only when its merge is the first bad one of
// these. The log is that of git bisect, also when there is an error.
func (h *History) Bisect(ctx context.Context, good, bad string, judge judge) (found Bisected, log string, err error) {
	found, log, err = h.halve(ctx, bad, []string{good}, judge, "--first-parent")
	if err != nil || found.First == "" {
		return found, log, err
	}
	merge, err := h.Commit(ctx, found.First)
	if err != nil || len(merge.Parents) < 2 {
		return found, log, err
	}
	// Good may be in what is merged.
	inside, more, err := h.halve(ctx, merge.ID, []string{merge.Parents[0], good}, judge)
	return inside, log + "\n" + more, err
}

// halve is a search by git bisect, with its options.
func (h *History) halve(ctx context.Context, bad string, good []string, judge judge, options ...string) (found Bisected, log string, err error) {
	_, err = git(ctx, h.dir, slices.Concat([]string{"bisect", "start", "--no-checkout"}, options, []string{bad}, good)...)
	for {
		var logErr error
		if log, logErr = git(ctx, h.dir, "bisect", "log"); logErr != nil {
			return Bisected{}, log, errors.Join(err, logErr)
		}
		if first := firstBad.FindStringSubmatch(log); first != nil {
			return Bisected{First: first[1]}, log, nil
		}
		for _, maybe := range maybeBad.FindAllStringSubmatch(log, -1) {
			found.Candidates = append(found.Candidates, maybe[1])
		}
		if len(found.Candidates) > 0 {
			return found, log, nil
		}
		// Ending with skipped commits is a failure to git, which the log tells.
		if err != nil {
			return Bisected{}, log, err
		}
		commit, headErr := git(ctx, h.dir, "rev-parse", "--verify", "BISECT_HEAD")
		if headErr != nil {
			return Bisected{}, log, headErr
		}
		mark, judgeErr := judge(ctx, commit)
		if judgeErr != nil {
			return Bisected{}, log, judgeErr
		}
		_, err = git(ctx, h.dir, "bisect", string(mark), commit)
	}
}

// Touched are the functions, types and the like in a file that a commit changes.
type Touched struct {
	File  string   `json:"file"`
	Names []string `json:"names"`
}

func (t Touched) String() string {
	if len(t.Names) == 0 {
		return t.File
	}
	return t.File + ": " + strings.Join(t.Names, ", ")
}

var (
	hunkHead = regexp.MustCompile(`^@@ [^@]* @@ ?(.*)$`)
	// definition is a line of a diff that begins a function; it is not indented.
	definition = regexp.MustCompile(`^[+-][A-Za-z_][\w \t*]*\b(\w+)\(`)
	calledLike = regexp.MustCompile(`(\w+)\s*\(`)
	aggregate  = regexp.MustCompile(`\b(?:struct|union|enum) (\w+)`)
)

// Touched lists what a commit changes. What a merge brings is other commits' doing.
func (h *History) Touched(ctx context.Context, commit Commit) ([]Touched, error) {
	if len(commit.Parents) != 1 {
		return nil, nil
	}
	out, err := git(ctx, h.dir, "diff", "--no-color", "--no-ext-diff", "--no-prefix", "--unified=0", commit.Parents[0], commit.ID)
	if err != nil {
		return nil, err
	}
	return touched(out), nil
}

func touched(diff string) []Touched {
	var all []Touched
	inHunk := false
	add := func(name string) {
		if t := &all[len(all)-1]; name != "" && !slices.Contains(t.Names, name) {
			t.Names = append(t.Names, name)
		}
	}
	for line := range strings.Lines(diff) {
		line = strings.TrimRight(line, "\n")
		switch head := hunkHead.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "diff --git "):
			inHunk = false
			all = append(all, Touched{File: fileOf(strings.TrimPrefix(line, "diff --git "))})
		case head != nil && len(all) > 0:
			inHunk = true
			add(nameIn(head[1]))
		case inHunk:
			if found := definition.FindStringSubmatch(line); found != nil {
				add(found[1])
			}
		}
	}
	return all
}

// fileOf is the new one of the two names that begin a file of a diff without prefixes. A
// space may be in them; where they differ, none is taken to be.
func fileOf(names string) string {
	name := names[strings.LastIndexByte(names, ' ')+1:]
	if half := len(names) / 2; len(names)%2 == 1 && names[:half] == names[half+1:] {
		name = names[:half]
	}
	if plain, err := strconv.Unquote(name); err == nil {
		return plain
	}
	return name
}

// nameIn is the name of the function or type that a hunk's header shows.
func nameIn(head string) string {
	if found := calledLike.FindStringSubmatch(head); found != nil {
		return found[1]
	}
	if found := aggregate.FindStringSubmatch(head); found != nil {
		return found[1]
	}
	words := strings.FieldsFunc(head, func(r rune) bool {
		return !(r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
	})
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// ErrNoRevert means that a commit cannot be taken out: what came later changed
// the same lines.
var ErrNoRevert = errors.New("it does not revert cleanly")

// ErrNothingLeft means that there is nothing to take out: what came later has
// undone all of it.
var ErrNothingLeft = errors.New("nothing of it is left")

// ErrNoPatch means that what takes a commit out is no patch that can be put on a kernel.
var ErrNoPatch = errors.New("what takes it out cannot be written as a patch")

// moved are the names on onto of files that have been renamed since a commit.
func (h *History) moved(ctx context.Context, commit, onto string) (map[string]string, error) {
	out, err := git(ctx, h.dir, "diff", "--name-status", "-z", "--find-renames", "--diff-filter=R", commit, onto)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	// R100 <old> <new>, each with a NUL behind it.
	for parts := strings.Split(out, "\x00"); len(parts) >= 3; parts = parts[3:] {
		names[parts[1]] = parts[2]
	}
	return names, nil
}

// Revert returns a patch that takes a commit, against its first parent, out of onto.
func (h *History) Revert(ctx context.Context, commit Commit, onto string) (patches.Patch, error) {
	if len(commit.Parents) == 0 {
		return patches.Patch{}, fmt.Errorf("%w: it has no parent", ErrNoRevert)
	}
	tree, err := h.without(ctx, commit, onto)
	if err != nil {
		return patches.Patch{}, err
	}
	return h.patchTo(ctx, onto, tree, commit.Subject)
}

// Reverts says whether Revert finds something to take out of a commit, and can.
func (h *History) Reverts(ctx context.Context, commit Commit, onto string) (bool, error) {
	tree, err := h.without(ctx, commit, onto)
	if errors.Is(err, ErrNoRevert) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	is, err := git(ctx, h.dir, "rev-parse", "--verify", onto+"^{tree}")
	return is != tree, err
}

// RevertAll returns a patch that takes a commit and some later ones out of onto, the last of
// them first. Each of the later ones is taken out against its only parent.
func (h *History) RevertAll(ctx context.Context, commit Commit, later []Commit, onto string) (patches.Patch, error) {
	tree := onto
	for _, c := range slices.Backward(append([]Commit{commit}, later...)) {
		var err error
		if tree, err = h.without(ctx, c, tree); err != nil {
			return patches.Patch{}, err
		}
	}
	return h.patchTo(ctx, onto, tree, commit.Subject)
}

// without is the tree of onto, a commit or a tree, without a commit.
func (h *History) without(ctx context.Context, commit Commit, onto string) (string, error) {
	// git merge-tree finds the base of a merge by itself. So commits are made up
	// whose common parent is the one to take out.
	tip := func(rev string) (string, error) {
		return git(ctx, h.dir, "commit-tree", "-p", commit.ID, "-m", "side", rev+"^{tree}")
	}
	ours, err := tip(onto)
	if err != nil {
		return "", err
	}
	theirs, err := tip(commit.Parents[0])
	if err != nil {
		return "", err
	}
	out, err := git(ctx, h.dir, "merge-tree", "--write-tree", "--no-messages", ours, theirs)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", ErrNoRevert
	}
	return strings.TrimSpace(out), nil
}

// patchTo is the patch from a commit to a tree without that of the subject.
func (h *History) patchTo(ctx context.Context, onto, tree, subject string) (patches.Patch, error) {
	diff, err := sandbox.Output(ctx, gitCommand(h.dir, "diff", "--no-color", "--no-ext-diff", "--binary", "--full-index", "--no-renames", onto+"^{tree}", tree))
	if err != nil {
		return patches.Patch{}, err
	}
	if len(bytes.TrimSpace(diff)) == 0 {
		return patches.Patch{}, ErrNothingLeft
	}
	file := filepath.Join(h.dir, "revert.diff")
	if err := os.WriteFile(file, diff, 0o644); err != nil {
		return patches.Patch{}, err
	}
	series, err := patches.Read(file)
	if err != nil {
		return patches.Patch{}, fmt.Errorf("%w: %s", ErrNoPatch, strings.TrimPrefix(err.Error(), file+":"))
	}
	patch := series.Patches[0]
	patch.Subject = fmt.Sprintf("Revert %q", subject)
	return patch, nil
}
