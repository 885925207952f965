package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/patches"
)

// Side is one kernel of one run, as one of the two that are compared.
type Side struct {
	Run    *Run
	Kernel Kernel
}

// Effect is what a change means for the second side.
type Effect string

// The effects, gravest first. Worse is a regression. Unjudged is a pass of the
// first side of which the second, by the harness's trouble or because it was
// interrupted, says nothing. Declared is worse as well, but as the known issues
// of the second side say. Changed is neither worse nor better as far as anybody
// can tell.
const (
	Worse    Effect = "worse"
	Unjudged Effect = "unjudged"
	Declared Effect = "declared"
	Better   Effect = "better"
	Changed  Effect = "changed"
)

var effects = []Effect{Worse, Unjudged, Declared, Better, Changed}

// Kind is what a Change is about.
type Kind string

// The kinds of change. KindKernel is about building a kernel, or having it at all,
// and KindMissing about a program that only one side has a verdict for.
const (
	KindKernel  Kind = "kernel"
	KindMissing Kind = "missing"
	KindProgram Kind = "program"
	KindCheck   Kind = "check"
	KindMetric  Kind = "metric"
	KindFeature Kind = "feature"
)

// Change is something that differs between two sides.
type Change struct {
	Kind Kind `json:"kind"`
	// What is "program", "program/check", "program/metric label=value" or
	// "feature name". A complaint of the kernel has its title for a name,
	// "program/console: title", because its number is by chance.
	What string `json:"what"`
	// From and To are verdicts ("hang/pass" when iterations disagree), figures,
	// or, of a feature, "declared"; Absent where a side has none.
	From string `json:"from"`
	To   string `json:"to"`
	// Unit is a metric's, and Delta how much larger To is, as a part of From.
	Unit   string  `json:"unit,omitempty"`
	Delta  float64 `json:"delta,omitempty"`
	Effect Effect  `json:"effect"`
}

// Absent stands for what one of two sides does not have.
const Absent = "absent"

// Comparison is what changed from one side to another.
type Comparison struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Compared counts the verdicts and features that were compared, and Figures
	// the metrics.
	Compared int `json:"compared"`
	Figures  int `json:"figures"`
	// Changes are the gravest first, then by name.
	Changes []Change `json:"changes"`
	// Notes say in a sentence each what was not compared, and why.
	Notes []string `json:"notes"`
}

// CompareRuns compares the kernels that two runs have in common, in a's order.
// The error says that they have none, or no program.
func CompareRuns(a, b *Run) ([]Comparison, error) {
	var all []Comparison
	// Where the second has none at all, its verdicts are gone, or only builds are compared.
	if len(b.Cells) > 0 && !slices.ContainsFunc(a.Cells, func(c Cell) bool {
		return slices.ContainsFunc(b.Cells, func(other Cell) bool { return c.Program == other.Program })
	}) {
		return nil, fmt.Errorf("runs %s and %s have no program in common, so that nothing can be compared", Line(a.ID), Line(b.ID))
	}
	for _, k := range a.Kernels {
		i := slices.IndexFunc(b.Kernels, func(other Kernel) bool { return other.Name == k.Name && other.Variant == k.Variant })
		switch {
		case i >= 0:
			all = append(all, Compare(Side{a, k}, Side{b, b.Kernels[i]}))
		case b.Status != Finished:
			c := Comparison{From: Side{a, k}.name(true), To: Line(b.ID), Notes: []string{}}
			c.add(Change{Kind: KindKernel, What: k.Name, From: "run", To: Absent, Effect: Unjudged})
			all = append(all, c)
		default:
			// A finished run has all kernels that it was asked for.
			c := Comparison{From: Side{a, k}.name(true), To: Line(b.ID), Changes: []Change{}}
			c.note("%s is no kernel of %s", k.Name, b.ID)
			all = append(all, c)
		}
	}
	if !slices.ContainsFunc(all, func(c Comparison) bool { return c.Compared > 0 || len(c.Changes) > 0 }) {
		return nil, fmt.Errorf("runs %s and %s have no kernel in common", Line(a.ID), Line(b.ID))
	}
	return all, nil
}

// Judged says whether any program was judged there.
func (s Side) Judged() bool { return len(s.judged()) > 0 }

// CompareWithBase compares each kernel of a run with its base. The error says
// that no kernel has one, or that nothing is known of it.
func CompareWithBase(r *Run) ([]Comparison, error) {
	var all []Comparison
	for _, k := range r.Kernels {
		if base, ok := r.base(k); ok {
			if !(Side{r, base}).Judged() {
				return nil, fmt.Errorf("run %s judged nothing on %s, so that nothing can be compared", Line(r.ID), Line(base.Name))
			}
			all = append(all, Compare(Side{r, base}, Side{r, k}))
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("run %s has no kernel besides its base", Line(r.ID))
	}
	return all, nil
}

// Compare says what changed from one side to the other. Cells that the harness
// could not judge say nothing about a kernel, and only a verdict, a feature or a
// figure counts, no text and no time.
func Compare(a, b Side) Comparison {
	both := a.Run.ID != b.Run.ID
	c := Comparison{From: a.name(both), To: b.name(both), Changes: []Change{}, Notes: []string{}}
	c.surroundings(a, b)
	c.builds(a, b)
	from, to := a.judged(), b.judged()
	c.missing(a, b, from, to)
	maps.DeleteFunc(from, func(program string, _ []Cell) bool { return to[program] == nil })
	maps.DeleteFunc(to, func(program string, _ []Cell) bool { return from[program] == nil })
	// The same complaint has another title by other rules.
	name := Check.Title
	if a.Run.Titles != b.Run.Titles {
		name = func(c Check) string { return c.Name }
		c.note("their complaints are titled by other rules, so it is not compared what the kernels said")
	}
	walk(outcomes(from, name), outcomes(to, name), outcome.equal, &c.Compared, func(what string, was, is *outcome) {
		change := changeOf(what, was, is)
		program, _, _ := strings.Cut(what, "/")
		if is == nil && change.Effect == Worse && cutShortAsDeclared(to[program]) {
			change.Effect = Declared
		}
		c.add(change)
	})
	walk(features(a.Kernel), features(b.Kernel), func(a, b string) bool { return a == b }, &c.Compared, func(what string, from, to *string) {
		change := Change{Kind: KindFeature, What: "feature " + what, From: Absent, To: Absent, Effect: Changed}
		if from != nil {
			change.From = *from
		}
		if to != nil {
			change.To = *to
		}
		c.add(change)
	})
	c.metrics(a, b, from, to)
	slices.SortStableFunc(c.Changes, func(a, b Change) int {
		if d := slices.Index(effects, a.Effect) - slices.Index(effects, b.Effect); d != 0 {
			return d
		}
		return strings.Compare(a.What, b.What)
	})
	return c
}

func (c *Comparison) add(change Change) { c.Changes = append(c.Changes, change) }

func (c *Comparison) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// name is the kernel's, with its run's where that is another.
func (s Side) name(withRun bool) string {
	name := s.Run.table().title(column{s.Kernel.Name, s.Kernel.Variant})
	if withRun {
		name += " of " + Line(s.Run.ID)
	}
	return name
}

// surroundings notes what else differs than the kernel.
func (c *Comparison) surroundings(a, b Side) {
	for _, d := range []struct{ what, from, to string }{
		{"accelerators", a.Run.Accel.Name, b.Run.Accel.Name},
		{"variants", a.Kernel.Variant, b.Kernel.Variant},
		{"pins", a.Kernel.Pin, b.Kernel.Pin},
		{"compilers", a.Kernel.Compiler, b.Kernel.Compiler},
		{"versions of QEMU", a.Run.QEMU, b.Run.QEMU},
	} {
		if d.from != d.to {
			c.note("their %s differ: %s and %s", d.what, Line(d.from), Line(d.to))
		}
	}
	for _, s := range []Side{a, b} {
		if s.Run.Status != Finished {
			c.note("run %s is not finished", s.Run.ID)
		}
		if a.Run.ID == b.Run.ID {
			break
		}
	}
}

// builds compares whether the kernels could be built at all.
func (c *Comparison) builds(a, b Side) {
	from, to := a.Kernel.BuildError != "", b.Kernel.BuildError != ""
	change := Change{Kind: KindKernel, What: "build", From: "builds", To: "builds", Effect: Better}
	if from {
		change.From = "does not build"
	}
	if to {
		change.To, change.Effect = "does not build", Worse
	}
	if from != to {
		c.add(change)
	}
}

// missing adds the programs that only one side has a verdict for.
func (c *Comparison) missing(a, b Side, from, to map[string][]Cell) {
	var notFrom, notTo []string
	for _, program := range slices.Sorted(maps.Keys(from)) {
		was := programOutcome(from[program])
		switch {
		case to[program] != nil:
		case b.has(program):
			c.lost(program, was, string(event.Error))
		case !b.selected(program):
			notTo = append(notTo, program)
		case b.Run.Status != Finished:
			c.lost(program, was, Absent)
		case b.Kernel.BuildError != "":
			// Said already.
		default:
			c.add(Change{Kind: KindMissing, What: program, From: was.String(), To: Absent, Effect: effect(&was, nil)})
		}
	}
	for _, program := range slices.Sorted(maps.Keys(to)) {
		if from[program] != nil {
			continue
		}
		is := programOutcome(to[program])
		change := Change{Kind: KindMissing, What: program, From: Absent, To: is.String(), Effect: effect(nil, &is)}
		if a.has(program) {
			change.From = string(event.Error)
		}
		if change.Effect != Worse && !a.selected(program) {
			notFrom = append(notFrom, program)
			continue
		}
		c.add(change)
	}
	c.notAsked(c.From, notFrom)
	c.notAsked(c.To, notTo)
}

// notAsked notes the programs that a side was not asked to run.
func (c *Comparison) notAsked(side string, programs []string) {
	if len(programs) > 0 {
		c.note("%s not asked for in %s: %s", patches.Plural(len(programs), "program"), side, strings.Join(programs, ", "))
	}
}

// lost adds a program that the second side did not come to judge.
func (c *Comparison) lost(program string, was outcome, to string) {
	change := Change{Kind: KindMissing, What: program, From: was.String(), To: to, Effect: Changed}
	if was.seen[event.Pass] {
		change.Effect = Unjudged
	}
	c.add(change)
}

// has says whether the program ran at all, judged or not.
func (s Side) has(program string) bool {
	return slices.ContainsFunc(s.Run.Cells, func(c Cell) bool {
		return c.Kernel == s.Kernel.Name && c.Variant == s.Kernel.Variant && c.Program == program
	})
}

// selected says whether the run was asked for the program.
func (s Side) selected(program string) bool {
	asked := s.Run.Selection["PROGRAMS"]
	return asked == "" || slices.Contains(strings.FieldsFunc(asked, func(r rune) bool { return r == ',' || r == ' ' }), program)
}

// judged returns the cells that say something about the kernel, by program.
func (s Side) judged() map[string][]Cell {
	cells := map[string][]Cell{}
	for _, c := range s.Run.Cells {
		if c.Kernel == s.Kernel.Name && c.Variant == s.Kernel.Variant && c.Verdict != event.Error {
			cells[c.Program] = append(cells[c.Program], c)
		}
	}
	return cells
}

func features(k Kernel) map[string]string {
	all := map[string]string{}
	for _, f := range k.Features {
		all[f] = "declared"
	}
	return all
}

// walk calls differs for each key whose values are not equal, in the order of the keys;
// a nil value is missing. It adds to compared how many keys there are.
func walk[V any](from, to map[string]V, equal func(a, b V) bool, compared *int, differs func(key string, from, to *V)) {
	for _, key := range both(from, to) {
		*compared++
		var was, is *V
		if v, ok := from[key]; ok {
			was = &v
		}
		if v, ok := to[key]; ok {
			is = &v
		}
		if was == nil || is == nil || !equal(*was, *is) {
			differs(key, was, is)
		}
	}
}
