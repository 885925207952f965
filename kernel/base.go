package kernel

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel/sandbox"
	"patchproof/patches"
)

// Fit says how well a series fits a commit.
type Fit struct {
	// Select is what selects the commit: "PIN=v5.10.13", or "TREE=folder REV=commit".
	Select string `json:"select"`
	// Commit is its id, and Name what else it is called.
	Commit string `json:"commit"`
	Name   string `json:"name,omitempty"`
	// Same of the Total files that the series tells the content of are as it has them;
	// Differs lists the others.
	Same    int      `json:"same"`
	Total   int      `json:"total"`
	Differs []string `json:"differs,omitempty"`
	// Mismatches are the hunks that do not apply.
	Mismatches []patches.Mismatch `json:"mismatches,omitempty"`
}

// Exact says that all files are as the series has them.
func (f Fit) Exact() bool { return f.Same == f.Total && f.Total > 0 && f.Applies() }

// Applies says that every hunk applies.
func (f Fit) Applies() bool { return len(f.Mismatches) == 0 }

// BaseAnswer is what was found about the commit that a series was made for.
type BaseAnswer struct {
	// Named is the commit of the series' base-commit line, Known whether TREE has it.
	Named string `json:"named,omitempty"`
	Known bool   `json:"known,omitempty"`
	// Best is the commit to take, nil where there is none to choose from. Head is REV of TREE.
	Best *Fit `json:"best,omitempty"`
	Head *Fit `json:"head,omitempty"`
	// Others are the pins that are in the cache.
	Others []Fit `json:"others,omitempty"`
	// Needs says where the patches are that must be there before the series.
	Needs []string `json:"needs,omitempty"`
	// NotLooked are pins that are not in the cache yet.
	NotLooked []string `json:"not_looked,omitempty"`
}

// FindBase looks for the commit that a series was made for: in the history of a local
// tree, where one is given, and among the pins that the cache has.
func (b *Builder) FindBase(ctx context.Context, series patches.Series, pins []Pin, dir, rev string) (*BaseAnswer, error) {
	b, err := b.absolute()
	if err != nil {
		return nil, err
	}
	answer := &BaseAnswer{Named: series.Base}
	for _, id := range series.Lacks() {
		answer.Needs = append(answer.Needs, fmt.Sprintf("patch %s must be there before, and is not among these", id))
	}
	var all []Fit
	if dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
		spec := Spec{Name: Base, Pin: Pin{Name: treePin}, Tree: dir, Rev: cmp.Or(rev, "HEAD")}
		err := b.withTree(ctx, spec, func(t tree) error {
			s := baseSearch{b: b, git: t.src(), user: dir, series: series, images: series.PreImages()}
			found, err := s.inHistory(ctx, t.base, answer)
			all = append(all, found...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, pin := range pins {
		src := tree{dir: b.treeDir(Spec{Pin: pin})}.src()
		commit, err := git(ctx, src, "rev-parse", "--verify", "--quiet", baseRef+"^{commit}")
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			answer.NotLooked = append(answer.NotLooked, pin.Name)
			continue
		}
		s := baseSearch{b: b, git: src, series: series, images: series.PreImages()}
		fits, err := s.fits(ctx, []string{commit})
		if err != nil {
			return nil, err
		}
		if fits[0].Mismatches, err = s.mismatches(ctx, commit); err != nil {
			return nil, err
		}
		fits[0].Select, fits[0].Name = "PIN="+pin.Name, "Linux "+pin.Version
		answer.Others = append(answer.Others, fits[0])
		all = append(all, fits[0])
	}
	if len(all) > 0 {
		best := slices.MaxFunc(all, compareFits)
		// Of equals the first, not the last, is meant.
		best = all[slices.IndexFunc(all, func(f Fit) bool { return compareFits(f, best) == 0 })]
		answer.Best = &best
	}
	return answer, nil
}

// compareFits orders by how well a series fits.
func compareFits(a, b Fit) int {
	rank := func(f Fit) int {
		switch {
		case f.Exact():
			return 2
		case f.Applies():
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Same, b.Same), -cmp.Compare(len(a.Mismatches), len(b.Mismatches)))
}

// baseSearch compares a series with commits of one repository.
type baseSearch struct {
	b *Builder
	// git is a repository of the cache, user the user's own whose objects it sees.
	git, user string
	series    patches.Series
	images    []patches.PreImage
}

// inHistory returns the commits of the user's tree to choose from: the one that the series
// names, head, and the best that the history has where these do not fit.
func (s baseSearch) inHistory(ctx context.Context, head string, answer *BaseAnswer) ([]Fit, error) {
	candidates := []string{head}
	if s.series.Base != "" {
		named, err := localGit(ctx, s.user, "rev-parse", "--verify", "--quiet", "--end-of-options", s.series.Base+"^{commit}")
		if answer.Known = err == nil; answer.Known && named != head {
			candidates = []string{named, head}
		}
	}
	fits, err := s.judge(ctx, candidates)
	if err != nil {
		return nil, err
	}
	at := fits[len(fits)-1]
	answer.Head = &at
	if answer.Known {
		for i := range answer.Needs {
			answer.Needs[i] += s.whereIs(ctx, s.series.Lacks()[i], candidates[0], head)
		}
	}
	if slices.ContainsFunc(fits, Fit.Exact) {
		return fits, nil
	}
	more, err := s.search(ctx, head)
	if err != nil {
		return nil, err
	}
	return append(fits, more...), nil
}

// judge says how the series fits commits of the user's tree.
func (s baseSearch) judge(ctx context.Context, commits []string) ([]Fit, error) {
	fits, err := s.fits(ctx, commits)
	for i := range fits {
		if err != nil {
			break
		}
		fits[i].Select = fmt.Sprintf("TREE=%s REV=%.12s", s.user, fits[i].Commit)
		fits[i].Name, _ = localGit(ctx, s.user, "describe", "--tags", fits[i].Commit)
		fits[i].Mismatches, err = s.mismatches(ctx, fits[i].Commit)
	}
	return fits, err
}

// fits compares the files of commits with what the series tells of them.
func (s baseSearch) fits(ctx context.Context, commits []string) ([]Fit, error) {
	var ask strings.Builder
	for _, c := range commits {
		for _, image := range s.images {
			fmt.Fprintf(&ask, "%s:%s\n", c, image.Path)
		}
	}
	cmd := gitCommand(s.git, "cat-file", "--batch-check=%(objectname)")
	cmd.Stdin = strings.NewReader(ask.String())
	out, err := sandbox.Output(ctx, cmd)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(s.images) > 0 && len(lines) != len(commits)*len(s.images) {
		return nil, fmt.Errorf("git cat-file answered %d lines to %d questions", len(lines), len(commits)*len(s.images))
	}
	var all []Fit
	for i, c := range commits {
		f := Fit{Commit: c, Total: len(s.images)}
		for j, image := range s.images {
			if matches(image, lines[i*len(s.images)+j]) {
				f.Same++
			} else {
				f.Differs = append(f.Differs, image.Path)
			}
		}
		all = append(all, f)
	}
	return all, nil
}

// matches compares a file with git cat-file's line about it.
func matches(image patches.PreImage, line string) bool {
	if strings.HasSuffix(line, " missing") {
		return image.Blob == ""
	}
	return image.Blob != "" && strings.HasPrefix(line, image.Blob)
}

// mismatches are the hunks that do not apply to a commit.
func (s baseSearch) mismatches(ctx context.Context, commit string) ([]patches.Mismatch, error) {
	all := s.series.Mismatches(func(path string) ([]byte, error) {
		out, err := sandbox.Output(ctx, gitCommand(s.git, "cat-file", "blob", commit+":"+path))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
		return out, nil
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return all, nil
}

const (
	// mostSearched bounds the files whose history is read, mostTried the commits in
	// which it is tried whether the hunks apply.
	mostSearched = 24
	mostTried    = 200
)

// search returns the commit of the history of all branches and tags in which most files are
// as the series has them; where it tells of none or none fits, the newest one that its hunks
// apply to.
func (s baseSearch) search(ctx context.Context, head string) ([]Fit, error) {
	tips, err := s.tips(ctx, head)
	if err != nil {
		return nil, err
	}
	if err := s.index(ctx, tips); err != nil {
		return nil, err
	}
	// Where a file comes to be as it should, a stretch of commits begins that has it so.
	candidates, dates := []string{}, map[string]int64{}
	var touched []string
	for i, path := range s.paths() {
		if i == mostSearched {
			break
		}
		changes, err := s.changes(ctx, tips, path)
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			if _, known := dates[c.commit]; !known {
				touched = append(touched, c.commit)
			}
			dates[c.commit] = c.date
			image := slices.IndexFunc(s.images, func(image patches.PreImage) bool { return image.Path == path })
			if image >= 0 && s.images[image].Blob != "" && strings.HasPrefix(c.blob, s.images[image].Blob) && !slices.Contains(candidates, c.commit) {
				candidates = append(candidates, c.commit)
			}
		}
	}
	if len(candidates) > 0 {
		fits, err := s.fits(ctx, candidates)
		if err != nil {
			return nil, err
		}
		best := slices.MaxFunc(fits, func(a, b Fit) int {
			return cmp.Or(cmp.Compare(a.Same, b.Same), cmp.Compare(dates[a.Commit], dates[b.Commit]))
		})
		judged, err := s.judge(ctx, []string{s.tagged(ctx, best)})
		if err != nil || judged[0].Applies() {
			return judged, err
		}
		tried, err := s.newestThatApplies(ctx, touched, dates)
		return append(judged, tried...), err
	}
	return s.newestThatApplies(ctx, touched, dates)
}

// newestThatApplies tries the commits that changed the files, the newest first.
func (s baseSearch) newestThatApplies(ctx context.Context, commits []string, dates map[string]int64) ([]Fit, error) {
	slices.SortStableFunc(commits, func(a, b string) int { return -cmp.Compare(dates[a], dates[b]) })
	for _, c := range commits[:min(len(commits), mostTried)] {
		found, err := s.mismatches(ctx, c)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			continue
		}
		fits, err := s.fits(ctx, []string{c})
		if err != nil {
			return nil, err
		}
		return s.judge(ctx, []string{s.tagged(ctx, fits[0])})
	}
	return nil, nil
}

// paths are the files to search the history of.
func (s baseSearch) paths() []string {
	var all []string
	for _, image := range s.images {
		if image.Blob != "" {
			all = append(all, image.Path)
		}
	}
	for _, path := range s.series.Paths() {
		if !slices.Contains(all, path) {
			all = append(all, path)
		}
	}
	return all
}

// tips are the commits of the user's branches and tags, and head.
func (s baseSearch) tips(ctx context.Context, head string) (string, error) {
	// A mirror may have thousands of others, such as pull requests.
	out, err := localGit(ctx, s.user, "for-each-ref", "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname)", "refs/heads", "refs/remotes", "refs/tags")
	if err != nil {
		return "", err
	}
	tips := []string{head}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		for i := 0; i+1 < len(words); i += 2 {
			if words[i] == "commit" && !slices.Contains(tips, words[i+1]) {
				tips = append(tips, words[i+1])
			}
		}
	}
	return strings.Join(tips, "\n") + "\n", nil
}

// index lets git note which commit changes which paths (git-commit-graph), once for each
// commit. Without it a search in the kernel's history takes minutes.
func (s baseSearch) index(ctx context.Context, tips string) error {
	if !exists(filepath.Join(s.git, ".git", "objects", "info", "commit-graphs")) {
		s.b.report(Progress{Step: "note: indexing the history of " + s.user + ", which takes time once"})
	}
	cmd := gitCommand(s.git, "commit-graph", "write", "--stdin-commits", "--changed-paths", "--split", "--no-progress")
	cmd.Stdin = strings.NewReader(tips)
	_, err := sandbox.Output(ctx, cmd)
	return err
}

// change is a commit that leaves a path with a blob.
type change struct {
	commit, blob string
	date         int64
}

// changes lists the commits that changed a path, the newest first.
func (s baseSearch) changes(ctx context.Context, tips, path string) ([]change, error) {
	cmd := gitCommand(s.git, "--literal-pathspecs", "log", "--stdin", "--full-history", "-m", "--raw", "--no-abbrev", "--no-renames",
		"--no-show-signature", "--format=%H %ct", "--", path)
	cmd.Stdin = strings.NewReader(tips)
	out, err := sandbox.Output(ctx, cmd)
	if err != nil {
		return nil, err
	}
	var all []change
	var at change
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 2:
			at.commit = words[0]
			at.date, _ = strconv.ParseInt(words[1], 10, 64)
		case len(words) > 5 && strings.HasPrefix(words[0], ":"):
			at.blob = words[3]
			all = append(all, at)
		}
	}
	return all, lines.Err()
}

// tagged is a tagged commit with the same files, where there is one: people build these.
func (s baseSearch) tagged(ctx context.Context, found Fit) string {
	cmd := gitCommand(s.user, "--no-optional-locks", "-c", "core.fsmonitor=false",
		"for-each-ref", "--contains="+found.Commit, "--sort=creatordate", "--count=3", "--format=%(objectname)", "refs/tags")
	// The index is in our repository, which sees the objects of theirs.
	cmd.Env = append(cmd.Env, "GIT_OBJECT_DIRECTORY="+filepath.Join(s.git, ".git", "objects"))
	out, err := sandbox.Output(ctx, cmd)
	if err != nil {
		return found.Commit
	}
	for tag := range strings.FieldsSeq(string(out)) {
		commit, err := localGit(ctx, s.user, "rev-parse", "--verify", "--quiet", tag+"^{commit}")
		if err != nil {
			continue
		}
		if fits, err := s.fits(ctx, []string{commit}); err == nil && slices.Equal(fits[0].Differs, found.Differs) {
			return commit
		}
	}
	return found.Commit
}

// whereIs says which commit after base is the patch with an id.
func (s baseSearch) whereIs(ctx context.Context, id, base, head string) string {
	log, err := sandbox.Output(ctx, gitCommand(s.git, "log", "-p", "--no-merges", "--no-color", "--no-ext-diff", "--no-textconv", "--no-show-signature", "--max-count=2000", base+".."+head))
	if err != nil {
		return ""
	}
	cmd := gitCommand(s.git, "patch-id", "--stable")
	cmd.Stdin = strings.NewReader(string(log))
	ids, err := sandbox.Output(ctx, cmd)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(ids)) {
		if words := strings.Fields(line); len(words) == 2 && words[0] == id {
			return fmt.Sprintf("; TREE has it as %.12s", words[1])
		}
	}
	return "; neither has TREE after its base"
}

// Text says it to people.
func (a *BaseAnswer) Text() string {
	var b strings.Builder
	if a.Named != "" {
		switch {
		case a.Known:
			fmt.Fprintf(&b, "The series names its base: %.12s, which TREE has.\n", a.Named)
		case a.Head != nil:
			fmt.Fprintf(&b, "The series names its base: %.12s, which TREE does not have (git fetch there may bring it).\n", a.Named)
		default:
			fmt.Fprintf(&b, "The series names its base: %.12s; TREE=folder looks for it in a git tree.\n", a.Named)
		}
	}
	for _, line := range a.Needs {
		fmt.Fprintf(&b, "needs: %s\n", line)
	}
	if a.Head != nil {
		fmt.Fprintf(&b, "%s: %s\n", a.Head.title(), a.Head.text())
	}
	for _, f := range a.Others {
		fmt.Fprintf(&b, "%s: %s\n", f.title(), f.text())
	}
	if len(a.NotLooked) > 0 {
		fmt.Fprintf(&b, "not looked at, as it is not in the cache: PIN=%s\n", strings.Join(a.NotLooked, ", PIN="))
	}
	switch best := a.Best; {
	case best == nil:
		b.WriteString("Nothing to compare with: give TREE=folder, or build a pin first.\n")
	case best.Exact():
		fmt.Fprintf(&b, "Made for: %s, %s.\nmake vmtest %s PATCH=...\n", best.title(), best.text(), best.Select)
	case best.Applies():
		fmt.Fprintf(&b, "No commit has just these files. It applies to %s: %s.\nmake vmtest %s PATCH=...\n", best.title(), best.text(), best.Select)
	default:
		// Trying it there tells of all.
		const shown = 3
		some := best.Mismatches[:min(len(best.Mismatches), shown)]
		fmt.Fprintf(&b, "Nothing fits. The nearest is %s: %s.\n%s", best.title(), best.text(), patches.Format(some))
		if more := len(best.Mismatches) - len(some); more > 0 {
			fmt.Fprintf(&b, "\n(%d more)\n", more)
		}
	}
	return b.String()
}

func (f Fit) title() string {
	if f.Name == "" {
		return f.Select
	}
	return fmt.Sprintf("%s (%s)", f.Select, f.Name)
}

func (f Fit) text() string {
	var parts []string
	switch {
	case f.Total == 0:
		parts = append(parts, "the patch does not tell which files it was made for")
	case f.Same == f.Total:
		parts = append(parts, fmt.Sprintf("all its files (%d) are as the patch has them", f.Total))
	default:
		shown, more := f.Differs, ""
		if len(shown) > 3 {
			shown, more = shown[:3], fmt.Sprintf(" and %d more differ", len(shown)-3)
		} else {
			more = " differ"
		}
		if len(f.Differs) == 1 {
			more = " differs"
		}
		parts = append(parts, fmt.Sprintf("%d of %d files are as the patch has them, %s%s", f.Same, f.Total, strings.Join(shown, ", "), more))
	}
	switch n := len(f.Mismatches); n {
	case 0:
		parts = append(parts, "every hunk applies")
	case 1:
		parts = append(parts, "1 hunk or file does not apply")
	default:
		parts = append(parts, fmt.Sprintf("%d hunks or files do not apply", n))
	}
	return strings.Join(parts, "; ")
}

// ElsewhereNote says in one line that a series names a base that the tree has and that is not
// the commit to be built; empty where there is nothing to say.
func ElsewhereNote(ctx context.Context, series patches.Series, dir, rev string) string {
	if series.Base == "" || dir == "" {
		return ""
	}
	at, err := resolveLocal(ctx, Spec{Tree: dir, Rev: cmp.Or(rev, "HEAD")})
	if err != nil {
		return ""
	}
	named, err := localGit(ctx, dir, "rev-parse", "--verify", "--quiet", "--end-of-options", series.Base+"^{commit}")
	if err != nil || named == at {
		return ""
	}
	s := baseSearch{git: dir, series: series, images: series.PreImages()}
	same := ""
	if fits, err := s.fits(ctx, []string{at}); err == nil && fits[0].Total > 0 {
		same = fmt.Sprintf("; there %d of its %d files are as it has them", fits[0].Same, fits[0].Total)
	}
	return fmt.Sprintf("made for %.12s (base-commit), and tested on %s (%.12s)%s; REV=%.12s tests it where it was made", named, cmp.Or(rev, "HEAD"), at, same, named)
}
