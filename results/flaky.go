package results

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"patchproof/guest/event"
	"patchproof/patches"
)

// Flakes are the checks that come and go in the stored runs of the same kernels and programs.
type Flakes struct {
	// Run is the run whose kernels and programs these are.
	Run string `json:"run"`
	// Runs counts the stored runs that have some of them, itself included; Cells their cells.
	Runs  int `json:"runs"`
	Cells int `json:"cells"`
	// Unversioned counts the stored cells of these that do not say which version of their
	// program ran, as those of older runs: they are left out.
	Unversioned int     `json:"unversioned"`
	Flakes      []Flake `json:"flakes"`
}

// Flake is a check, or a program as a whole, that fails in some runs and not in others.
type Flake struct {
	Kernel  string `json:"kernel"`
	Variant string `json:"variant"`
	Program string `json:"program"`
	// Check is a name, or "console: " and what the kernel complained of. It is empty for the
	// program as a whole.
	Check string `json:"check"`
	Rate  Rate   `json:"rate"`
	// Verdicts counts all that was seen, also skips and errors, which are in no rate.
	Verdicts map[event.Verdict]int `json:"verdicts"`
	// LastFailed is the newest run in which it failed.
	LastFailed string `json:"last_failed"`
	// Declared is the reason where a known issue or a quarantine tells of it.
	Declared string `json:"declared,omitempty"`
}

// sameProgram is what has to be the same, beside the kernel, for two cells to be runs of one
// thing. What a guest ran and how is the version.
type sameProgram struct{ kernel, variant, program, mode, version, accel string }

func (r *Run) sameProgram(c Cell) sameProgram {
	s := sameProgram{c.Kernel, c.Variant, c.Program, c.Mode, c.Version, r.Accel.Name}
	if c.Mode != "" {
		// Both modes are TCG's.
		s.accel = ""
	}
	return s
}

// checkRuns is what one check, or a program as a whole, did.
type checkRuns struct {
	verdicts   map[event.Verdict]int
	lastFailed string
	declared   string
}

func fails(v event.Verdict) bool {
	return v == event.Fail || v == event.Crash || v == event.Hang
}

func (c *checkRuns) take(v event.Verdict, run string) {
	if c.verdicts == nil {
		c.verdicts = map[event.Verdict]int{}
	}
	c.verdicts[v]++
	if fails(v) {
		c.lastFailed = max(c.lastFailed, run)
	}
}

func (c *checkRuns) rate() (r Rate) {
	for v, n := range c.verdicts {
		switch {
		case fails(v):
			r.Failed, r.Runs = r.Failed+n, r.Runs+n
		case v == event.Pass:
			r.Runs += n
		}
	}
	return r
}

// FlakesOf says which checks of the run's kernels and programs come and go in it and in the stored
// runs. Only runs of the same kernel, of the same version of the program, under the same
// accelerator and with complaints titled by the same rules go into a rate.
func FlakesOf(run *Run, stored iter.Seq[*Run]) Flakes {
	s := newFlakeSearch(run)
	s.take(run)
	for other := range stored {
		if other.ID != run.ID {
			s.take(other)
		}
	}
	found := s.found
	for key, g := range s.groups {
		found.Flakes = append(found.Flakes, g.flakes(key)...)
	}
	slices.SortFunc(found.Flakes, func(a, b Flake) int {
		return cmp.Or(cmp.Compare(a.Program, b.Program), cmp.Compare(a.Kernel, b.Kernel), cmp.Compare(a.Variant, b.Variant),
			cmp.Compare(a.Check, b.Check), cmp.Compare(a.LastFailed, b.LastFailed))
	})
	return found
}

// flakeSearch gathers the cells that are of the same kernels and programs as a run's.
type flakeSearch struct {
	run      *Run
	programs map[string]bool
	groups   map[sameProgram]*cellGroup
	seen     map[cellLife]bool
	found    Flakes
}

// cellGroup are cells of one program on one kernel, and the runs that they are of.
type cellGroup struct {
	cells []Cell
	runs  []string
}

// cellLife tells a cell from others, in whichever record it is: a run that was merged of shards
// has the cells of these once more.
type cellLife struct {
	sameProgram
	run         string
	iteration   int
	wall, boots float64
}

func newFlakeSearch(run *Run) *flakeSearch {
	s := &flakeSearch{
		run: run, programs: map[string]bool{}, groups: map[sameProgram]*cellGroup{}, seen: map[cellLife]bool{},
		found: Flakes{Run: run.ID, Flakes: []Flake{}},
	}
	for _, c := range run.Cells {
		s.programs[c.Program] = true
		if c.Version != "" {
			s.groups[run.sameProgram(c)] = &cellGroup{}
		}
	}
	return s
}

// take takes a run's cells.
func (s *flakeSearch) take(other *Run) {
	counted := false
	for _, c := range other.Cells {
		if !s.programs[c.Program] || !s.sameKernel(other, c) {
			continue
		}
		if c.Version == "" {
			s.found.Unversioned++
			continue
		}
		key := other.sameProgram(c)
		g := s.groups[key]
		if g == nil {
			continue
		}
		l := cellLife{sameProgram: key, iteration: c.Iteration, wall: c.WallS, boots: c.BootS}
		if c.WallS == 0 {
			l.run = other.ID
		}
		if s.seen[l] {
			continue
		}
		s.seen[l], counted = true, true
		s.found.Cells++
		g.cells, g.runs = append(g.cells, c), append(g.runs, other.ID)
	}
	if counted {
		s.found.Runs++
	}
}

// sameKernel says whether another run's cell is of a kernel of this one, and its complaints are
// titled by the same rules.
func (s *flakeSearch) sameKernel(other *Run, c Cell) bool {
	return s.run.Titles == other.Titles && slices.ContainsFunc(s.run.Kernels, func(k Kernel) bool {
		return k.Name == c.Kernel && k.Variant == c.Variant && k.same(other.kernel(column{c.Kernel, c.Variant}))
	})
}

// flakes are those of the group.
func (g *cellGroup) flakes(key sameProgram) []Flake {
	var all []Flake
	for _, name := range append([]string{""}, titles(g.cells...)...) {
		var did checkRuns
		for i, c := range g.cells {
			if v, declared, told := c.did(name); told {
				did.take(v, g.runs[i])
				did.declared = cmp.Or(did.declared, declared)
			}
		}
		rate := did.rate()
		if rate.Failed == 0 || rate.Failed == rate.Runs {
			continue
		}
		all = append(all, Flake{
			Kernel: key.kernel, Variant: key.variant, Program: key.program, Check: name, Rate: rate,
			Verdicts: did.verdicts, LastFailed: did.lastFailed, Declared: did.declared,
		})
	}
	return all
}

// did is the verdict of a check in the cell, or that of the cell where the check has no name. The
// cell may tell nothing of it.
func (c Cell) did(check string) (v event.Verdict, declared string, told bool) {
	if check == "" {
		return c.Verdict, "", true
	}
	for _, k := range c.Checks {
		if k.Title() == check {
			return k.Verdict, k.KnownIssue, true
		}
	}
	// What only the harness makes, and only when something is wrong.
	return event.Pass, "", byWatch(check) && c.Verdict != event.Error
}

// verdictCounts says how often each verdict was seen, the gravest first.
func verdictCounts(counts map[event.Verdict]int) string {
	verdicts := slices.SortedFunc(maps.Keys(counts), func(a, b event.Verdict) int {
		if a != b && event.Worst(a, b) == a {
			return -1
		}
		return 1
	})
	var parts []string
	for _, v := range verdicts {
		parts = append(parts, fmt.Sprintf("%s %d", v, counts[v]))
	}
	return strings.Join(parts, ", ")
}

// Name is program/check, for people.
func (f Flake) Name() string { return checkName(f.Program, f.Check) }

// checkName names a check, or the program where the check has no name, for people.
func checkName(program, check string) string {
	if check == "" {
		return Line(program)
	}
	return Line(program + "/" + check)
}

// On names the kernel.
func (f Flake) On() string { return Line(f.Kernel + "/" + f.Variant) }

// Counts says how often each verdict was seen, such as "crash 3, pass 21".
func (f Flake) Counts() string { return verdictCounts(f.Verdicts) }

// Scope says in a sentence what the rates are of.
func (f Flakes) Scope() string {
	text := fmt.Sprintf("%s in %s of the same kernels and programs as %s", patches.Plural(f.Cells, "cell"), patches.Plural(f.Runs, "run"), Line(f.Run))
	if f.Unversioned > 0 {
		text += fmt.Sprintf("; left out, as they do not say which version of their program ran: %s", patches.Plural(f.Unversioned, "cell"))
	}
	return text
}

// String is the list for a terminal.
func (f Flakes) String() string {
	var out strings.Builder
	if len(f.Flakes) == 0 {
		return fmt.Sprintf("Nothing comes and goes: %s.\n", f.Scope())
	}
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fails\tverdicts\ton\tlast failed in\twhat")
	for _, flake := range f.Flakes {
		name := flake.Name()
		if flake.Declared != "" {
			name += " (declared)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", flake.Rate, flake.Counts(), flake.On(), Line(flake.LastFailed), name)
	}
	table.Flush()
	fmt.Fprintf(&out, "%s.\n", f.Scope())
	return out.String()
}

// of is what the stored runs say of a check on a kernel.
func (f Flakes) of(c Cell, check Check) (Flake, bool) {
	i := slices.IndexFunc(f.Flakes, func(k Flake) bool {
		return k.Kernel == c.Kernel && k.Variant == c.Variant && k.Program == c.Program && k.Check == check.Title()
	})
	if i < 0 {
		return Flake{}, false
	}
	return f.Flakes[i], true
}
