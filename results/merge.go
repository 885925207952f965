package results

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchproof/patches"

	"github.com/google/renameio/v2"
)

// Shards are the runs of all parts of one plan.
type Shards struct {
	// Runs are in the order of their index.
	Runs []*Run
	// Notes say what was left aside.
	Notes []string

	merged Run
	// from is the run that each cell of merged is of.
	from []*Run
}

// machineVariables are those of a selection that may differ from shard to shard: they say
// nothing about what is tested.
var machineVariables = []string{"SHARD", "JOBS", "CACHE", "ACCEL", "KERNEL_SRC"}

// ReadShards reads the runs in dirs, which must be all parts of one plan, each there once and
// each with all of its cells. The error names every part that is missing, there twice or not whole,
// and what the runs do not have in common. Nothing is written.
func ReadShards(dirs []string) (*Shards, error) {
	var all []*Run
	var wrong []error
	for _, dir := range dirs {
		run, err := Read(dir)
		switch {
		case err != nil:
			wrong = append(wrong, err)
		case run.Shard == nil:
			wrong = append(wrong, fmt.Errorf("%s is not a shard: it was run without SHARD", run.Dir))
		default:
			all = append(all, run)
		}
	}
	if len(all) == 0 {
		return nil, errors.Join(append(wrong, errors.New("no shard that could be merged"))...)
	}
	first := all[0]
	for _, run := range all[1:] {
		if why := first.otherThan(run); why != "" {
			wrong = append(wrong, fmt.Errorf("%s and %s are not of one run: %s", first.Dir, run.Dir, why))
		}
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	s := &Shards{}
	for index := 1; index <= first.Shard.Of; index++ {
		run, err := s.one(index, all)
		if err == nil {
			err = run.whole()
		}
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		s.Runs = append(s.Runs, run)
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return s, s.merge()
}

// otherThan says what two shards do not have in common, and nothing if they are of one run.
func (r *Run) otherThan(o *Run) string {
	differ := func(what, a, b string) string {
		return fmt.Sprintf("%s, %s and %s", what, Line(cmp.Or(a, "none")), Line(cmp.Or(b, "none")))
	}
	for _, pair := range []struct{ what, a, b string }{
		{"the number of shards", fmt.Sprint(r.Shard.Of), fmt.Sprint(o.Shard.Of)},
		{"patchproof (harness)", r.Harness, o.Harness},
		{"the accelerator", r.Accel.Name, o.Accel.Name},
		{"QEMU", r.QEMU, o.QEMU},
		{"the subject", r.Subject, o.Subject},
	} {
		if pair.a != pair.b {
			return differ(pair.what, pair.a, pair.b)
		}
	}
	a, b := maps.Clone(r.Selection), maps.Clone(o.Selection)
	for _, name := range both(a, b) {
		if a[name] != b[name] && !slices.Contains(machineVariables, name) {
			return differ(name, a[name], b[name])
		}
	}
	if !slices.Equal(r.Shard.Plan, o.Shard.Plan) {
		return "their plans, which have other cells or another order"
	}
	for _, k := range r.Kernels {
		i := slices.IndexFunc(o.Kernels, func(other Kernel) bool { return k.Name == other.Name && k.Variant == other.Variant })
		if i < 0 {
			continue
		}
		other := o.Kernels[i]
		for _, pair := range []struct{ what, a, b string }{
			{"the pin", k.Pin, other.Pin},
			{"the patches (patch ids)", strings.Join(k.PatchIDs, " "), strings.Join(other.PatchIDs, " ")},
			{"the source (tree)", k.Tree, other.Tree},
			{"the config", k.ConfigHash, other.ConfigHash},
			{"the compiler", k.Compiler, other.Compiler},
			{"the kernel (key)", k.Key, other.Key},
			{"what the patches broke", k.BuildError, other.BuildError},
			{"the quarantines", k.declaredQuarantines(), other.declaredQuarantines()},
		} {
			if pair.a != pair.b {
				return differ(fmt.Sprintf("%s of %s/%s", pair.what, Line(k.Name), Line(k.Variant)), pair.a, pair.b)
			}
		}
	}
	return ""
}

// one is the run of a part. Beside one that finished, one that was cut off is left
// aside, unless it saw a kernel fail: a verdict is not to be had away by another try.
func (s *Shards) one(index int, all []*Run) (*Run, error) {
	var runs []*Run
	for _, run := range all {
		if run.Shard.Index == index {
			runs = append(runs, run)
		}
	}
	finished := slices.DeleteFunc(slices.Clone(runs), func(r *Run) bool { return r.Status != Finished })
	switch {
	case len(runs) == 0:
		missing := Run{Shard: &Shard{Index: index, Of: all[0].Shard.Of, Plan: all[0].Shard.Plan}}
		return nil, fmt.Errorf("%s is missing, with %s", missing.Shard, missing.missing())
	case len(runs) == 1:
		return runs[0], nil
	case len(finished) != 1:
		return nil, fmt.Errorf("%s is there %d times: %s", runs[0].Shard, len(runs), dirsOf(runs))
	}
	for _, run := range runs {
		if run == finished[0] {
			continue
		}
		for _, c := range run.Cells {
			if c.blamesKernel() && !run.Shard.Mutants() {
				return nil, fmt.Errorf("%s is there %d times: %s; %s did not finish, and cannot be left aside, because it has a %s of %s",
					run.Shard, len(runs), dirsOf(runs), run.Dir, c.Verdict, c.key())
			}
		}
		s.Notes = append(s.Notes, fmt.Sprintf("%s did not finish and is left aside for %s", run.Dir, finished[0].Dir))
	}
	return finished[0], nil
}

func dirsOf(runs []*Run) string {
	var dirs []string
	for _, run := range runs {
		dirs = append(dirs, run.Dir)
	}
	return strings.Join(dirs, ", ")
}

// whole says what a shard lacks, or has that is not its own.
func (r *Run) whole() error {
	if r.Status != Finished {
		return fmt.Errorf("%s in %s did not finish (%s) and lacks %s", r.Shard, r.Dir, r.Status, r.missing())
	}
	seen := map[cellKey]bool{}
	for _, c := range r.Cells {
		if seen[c.key()] {
			return fmt.Errorf("%s in %s has %s twice", r.Shard, r.Dir, c.key())
		}
		seen[c.key()] = true
		if r.Shard.Mutants() || slices.ContainsFunc(r.Shard.share(), c.planned) {
			continue
		}
		// Held against base, what differs is repeated.
		repeats := func(p Planned) bool { first := c; first.Iteration = p.Iteration; return first.planned(p) }
		if r.Against == nil || !slices.ContainsFunc(r.Shard.share(), repeats) {
			return fmt.Errorf("%s in %s has %s, which is not in its part of the plan", r.Shard, r.Dir, c.key())
		}
	}
	if missing := r.missing(); missing != "" && !r.broken() {
		return fmt.Errorf("%s in %s lacks %s", r.Shard, r.Dir, missing)
	}
	return nil
}

// planned says whether the cell is that one of the plan.
func (c Cell) planned(p Planned) bool {
	return c.key() == cellKey{p.Kernel, p.Variant, p.Program, p.Iteration}
}

// broken says that patches broke a build: what would have run on that kernel, and on those
// after it, is not missing.
func (r *Run) broken() bool {
	return slices.ContainsFunc(r.Kernels, func(k Kernel) bool { return k.BuildError != "" })
}

// missing says how many cells of its part of the plan a run lacks, and the first of them. Whether mutants
// are missing is told by their own record.
func (r *Run) missing() string {
	var names []string
	for _, p := range r.Shard.share() {
		if p.Mutant == "" && !slices.ContainsFunc(r.Cells, func(c Cell) bool { return c.planned(p) }) {
			names = append(names, p.name())
		}
	}
	switch {
	case r.Shard.Mutants():
		if n := len(r.Shard.share()); r.Status != Finished && n > 0 {
			return patches.Plural(n, "mutant") + " or some of them"
		}
		return ""
	case len(names) == 0:
		if r.Status != Finished {
			return "no cell"
		}
		return ""
	}
	text := patches.Plural(len(names), "cell") + ": " + names[0]
	if len(names) > 1 {
		text += ", ..."
	}
	return text
}

// merge makes one run of the shards: what a run of the whole plan on one machine would
// have recorded, with cells in the order of the plan.
func (s *Shards) merge() error {
	m := s.head()
	for _, run := range s.Runs {
		for _, k := range run.Kernels {
			if !slices.ContainsFunc(m.Kernels, func(o Kernel) bool { return o.Name == k.Name && o.Variant == k.Variant }) {
				m.Kernels = append(m.Kernels, k)
			}
		}
	}
	cells, err := s.cells(m.Started)
	if err != nil {
		return err
	}
	for _, c := range cells {
		m.Cells, s.from = append(m.Cells, c.Cell), append(s.from, c.from)
	}
	if plan := s.Runs[0].Shard; plan.Mutants() {
		// The control comes first.
		slices.SortStableFunc(m.Kernels, func(a, b Kernel) int {
			rank := func(k Kernel) int {
				return slices.IndexFunc(plan.Plan, func(p Planned) bool { return p.Mutant == k.Name })
			}
			return cmp.Compare(rank(a), rank(b))
		})
	}
	m.Against = s.against()
	s.merged = m
	return m.validate()
}

// head is the merged run without kernels and cells: from the first beginning to the last end,
// on all hosts, with what all of them selected.
func (s *Shards) head() Run {
	first := s.Runs[0]
	m := *first
	m.Shard, m.Status, m.Dir, m.Against = nil, Finished, "", nil
	m.Command = os.Args
	m.Selection = maps.Clone(first.Selection)
	m.Kernels, m.Cells = []Kernel{}, []Cell{}
	for _, run := range s.Runs {
		if run.Started.Before(m.Started) {
			m.Started = run.Started
		}
		if run.Finished.After(m.Finished) {
			m.Finished = run.Finished
		}
		for _, name := range both(m.Selection, run.Selection) {
			if m.Selection[name] != run.Selection[name] || name == "SHARD" {
				delete(m.Selection, name)
			}
		}
		if run.Host.CPU != m.Host.CPU && !strings.Contains(m.Host.CPU, run.Host.CPU) {
			m.Host.CPU += "; " + run.Host.CPU
		}
	}
	if len(m.Selection) == 0 {
		m.Selection = nil
	}
	return m
}

// shardCell is a cell with the shard that it is from and its rank in the plan.
type shardCell struct {
	Cell
	rank int
	from *Run
}

// cells are those of all shards, in the order of the plan, with starts counted from the
// beginning of the merged run.
func (s *Shards) cells(started time.Time) ([]shardCell, error) {
	var cells []shardCell
	seen := map[cellKey]bool{}
	consoles := map[string]bool{}
	for _, run := range s.Runs {
		for _, c := range run.Cells {
			// Each shard of mutants runs the control; one that came out otherwise did not finish.
			if seen[c.key()] && run.Shard.Mutants() {
				continue
			}
			if seen[c.key()] || c.Console != "" && consoles[c.Console] {
				return nil, fmt.Errorf("%s is in more than one shard", c.key())
			}
			seen[c.key()], consoles[c.Console] = true, true
			c.StartS += run.Started.Sub(started).Seconds()
			rank := slices.IndexFunc(run.Shard.Plan, func(p Planned) bool {
				return c.Kernel == p.Kernel && c.Variant == p.Variant && c.Program == p.Program ||
					p.Mutant != "" && c.Kernel == p.Mutant
			})
			cells = append(cells, shardCell{c, rank, run})
		}
	}
	slices.SortStableFunc(cells, func(a, b shardCell) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Iteration, b.Iteration))
	})
	return cells, nil
}

// against puts the comparisons of the shards together. All runs of a program are in one shard, which has
// judged them.
func (s *Shards) against() *Against {
	var all *Against
	for _, run := range s.Runs {
		switch a := run.Against; {
		case a == nil:
		case all == nil:
			copied := *a
			all = &copied
			all.Unjudged, all.Differences, all.Gains = slices.Clone(a.Unjudged), slices.Clone(a.Differences), slices.Clone(a.Gains)
		default:
			all.Compared, all.Programs = all.Compared+a.Compared, all.Programs+a.Programs
			all.Unjudged = append(all.Unjudged, a.Unjudged...)
			all.Differences = append(all.Differences, a.Differences...)
			all.Gains = append(all.Gains, a.Gains...)
		}
	}
	if all == nil {
		return nil
	}
	rank := func(program string) int {
		return slices.IndexFunc(s.Runs[0].Shard.Plan, func(p Planned) bool { return p.Program == program })
	}
	slices.SortStableFunc(all.Unjudged, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	slices.SortStableFunc(all.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(slices.Index(differenceOrder, a.Kind), slices.Index(differenceOrder, b.Kind)),
			cmp.Compare(rank(a.Program), rank(b.Program)))
	})
	slices.SortStableFunc(all.Gains, func(a, b Difference) int { return cmp.Compare(rank(a.Program), rank(b.Program)) })
	return all
}

// Write makes a run of the shards below root (results/out), with their consoles and what
// programs sent back, lets root/latest point at it and returns it. When it fails, no folder stays.
// beside, where it is not nil, writes what lies beside the record into the run's folder: the
// record comes last, so that a run that is there is whole.
func (s *Shards) Write(root string, beside func(dir string) error) (_ *Run, err error) {
	id, err := NewFolder(root, time.Now().UTC())
	if err != nil {
		return nil, fmt.Errorf("making a folder for the results: %w", err)
	}
	dir := filepath.Join(root, id)
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	s.merged.ID = id
	for i, c := range s.merged.Cells {
		for _, file := range append([]string{c.Console, c.Counts()}, c.Files...) {
			if file == "" || c.Console == "" && file == c.Counts() {
				continue
			}
			err := copyInside(s.from[i].Dir, dir, file)
			if errors.Is(err, fs.ErrNotExist) && file == c.Counts() {
				continue // Few cells are counted; who reads the counts says where they lack.
			}
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", s.from[i].Shard, s.from[i].Dir, err)
			}
		}
	}
	if beside != nil {
		if err := beside(dir); err != nil {
			return nil, err
		}
	}
	w := &Writer{dir: dir, run: s.merged}
	if err := w.run.export(dir); err != nil {
		return nil, err
	}
	if err := w.write(); err != nil {
		return nil, err
	}
	if err := renameio.Symlink(id, filepath.Join(root, latestLink)); err != nil {
		return nil, err
	}
	return Read(dir)
}

// copyInside copies a file from one folder into another, under the same name. A shard may come
// from another machine: no link in it leads out of its folder.
func copyInside(from, to, name string) error {
	source, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer target.Close()
	info, err := source.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the run.json names %s, which is not there (%w)", Line(name), fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a plain file", Line(name))
	}
	in, err := source.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := target.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := target.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
