package results

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/google/renameio/v2"

	"patchproof/guest/event"
	"patchproof/patches"
	"patchproof/patches/subjects"
)

// Reference is what the kernels of a pin and a variant are known to do: small enough
// to be read, and kept in git as <pin>-<variant>.toml. It has nothing of a machine but
// rough times; what may come out either way is left out.
type Reference struct {
	Pin     string `toml:"pin"`
	Variant string `toml:"variant"`
	// Accel is the accelerator that the verdicts were seen under.
	Accel   string                     `toml:"accel"`
	Kernels map[string]ReferenceKernel `toml:"kernel"`
}

// ReferenceKernel is what one kernel does.
type ReferenceKernel struct {
	// Patches are the ids of its patches, in order; results of others are not
	// compared.
	Patches []string `toml:"patches"`
	// Programs holds each program's verdict.
	Programs map[string]string `toml:"programs"`
	// Checks holds the verdicts of those that did not pass, by "program/check".
	Checks map[string]string `toml:"checks,omitempty"`
	// Figures holds what was counted, by "program/metric".
	Figures map[string]float64 `toml:"figures,omitempty"`
	// Seconds is about how long each program took, see roughly. It serves to cut a plan
	// into shards, and nothing is held against it.
	Seconds map[string]int `toml:"seconds,omitempty"`
}

// ReferenceFolder is where a subject has its references.
const ReferenceFolder = "reference"

// drift is by how much a figure may differ from its reference, as a part of it.
// Boots of one kernel differ by far less (tolerances); the rest is for another
// compiler's code.
const drift = 0.01

// NewReference makes references of a run, one for each pin and variant in it. It
// refuses what nobody should be held against: a run that did not finish, a verdict
// that was not expected or not judged, runs of one cell that disagree.
func NewReference(r *Run) ([]*Reference, error) {
	if r.Status != Finished {
		return nil, fmt.Errorf("run %s did not finish", r.ID)
	}
	var refs []*Reference
	for _, k := range r.Kernels {
		i := slices.IndexFunc(refs, func(ref *Reference) bool { return ref.Pin == k.Pin && ref.Variant == k.Variant })
		if i < 0 {
			refs = append(refs, &Reference{Pin: k.Pin, Variant: k.Variant, Accel: r.Accel.Name, Kernels: map[string]ReferenceKernel{}})
			i = len(refs) - 1
		}
		told, err := r.reference(k)
		if err != nil {
			return nil, err
		}
		refs[i].Kernels[k.Name] = told
	}
	return refs, nil
}

// reference is what the run says of one kernel.
func (r *Run) reference(k Kernel) (ReferenceKernel, error) {
	var told *ReferenceKernel
	tallies := r.table().tallies[column{k.Name, k.Variant}]
	for _, program := range slices.Sorted(maps.Keys(tallies)) {
		cells := tallies[program]
		first := referenceOf(k, program, cells[0])
		for _, c := range cells {
			if !c.Expected {
				return ReferenceKernel{}, fmt.Errorf("%s of %s on %s was not expected: declare it or mend it first", c.Verdict, Line(program), Line(k.Name))
			}
			other := referenceOf(k, program, c)
			if changes := first.changes(other); len(changes) > 0 {
				return ReferenceKernel{}, fmt.Errorf("runs of %s on %s disagree: %s", Line(program), Line(k.Name), changes[0])
			}
		}
		if told == nil {
			told = &first
			continue
		}
		maps.Copy(told.Programs, first.Programs)
		maps.Copy(told.Checks, first.Checks)
		maps.Copy(told.Figures, first.Figures)
		maps.Copy(told.Seconds, first.Seconds)
	}
	if told == nil {
		return ReferenceKernel{}, fmt.Errorf("nothing ran on %s", Line(k.Name))
	}
	return *told, nil
}

// referenceOf is the part of a reference that one cell gives.
func referenceOf(k Kernel, program string, c Cell) ReferenceKernel {
	told := ReferenceKernel{Patches: append([]string{}, k.PatchIDs...), Programs: map[string]string{}, Checks: map[string]string{}, Figures: map[string]float64{}, Seconds: map[string]int{Line(program): roughly(c.WallS)}}
	var verdicts []event.Verdict
	for _, check := range c.Checks {
		if check.MayFail || check.furtherComplaint() {
			continue
		}
		verdicts = append(verdicts, check.Verdict)
		if check.Verdict == event.Pass {
			continue
		}
		text := string(check.Verdict)
		if check.KnownIssue != "" {
			text += ", a known issue"
		}
		told.Checks[Line(program)+"/"+Line(check.Name)] = text
	}
	told.Programs[Line(program)] = string(c.Verdict)
	if len(verdicts) > 0 && c.Verdict != event.Error {
		told.Programs[Line(program)] = string(event.Worst(verdicts...))
	}
	for _, m := range c.Metrics {
		if m.Unit == unitInsns && toleranceOf(m.Name, m.Unit).never == "" {
			told.Figures[Line(program)+"/"+Line(metricID(m))] = math.Round(m.Value*10) / 10
		}
	}
	return told
}

// roughly rounds seconds to steps of half as much again, so that the lines of a reference
// stay as they are from one machine to the next where that is about as fast.
func roughly(seconds float64) int {
	const step = 1.5
	return int(math.Round(math.Pow(step, math.Round(math.Log(max(1, seconds))/math.Log(step)))))
}

// ReferenceSeconds tells about how long a cell takes, by the references below dir: that of its
// pin and variant, or else what another kernel, variant or pin takes for the same
// program. It is 0 where none has it.
func ReferenceSeconds(dir string) (func(pin, variant, kernel, program string) float64, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.toml"))
	if err != nil {
		return nil, err
	}
	var refs []*Reference
	for _, file := range files {
		ref, err := readReference(file)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return func(pin, variant, kernel, program string) float64 {
		near := func(ref *Reference, name string) (n int) {
			for i, same := range []bool{name == kernel, ref.Variant == variant, ref.Pin == pin} {
				if same {
					n |= 1 << i
				}
			}
			return n
		}
		best, seconds := -1, 0
		for _, ref := range refs {
			for name, k := range ref.Kernels {
				// Of two that are as near the longer counts, whatever the order of the map.
				took, known := k.Seconds[program]
				switch n := near(ref, name); {
				case !known, n < best:
				case n > best:
					best, seconds = n, took
				default:
					seconds = max(seconds, took)
				}
			}
		}
		return float64(seconds)
	}, nil
}

// furtherComplaint says that the check is what the kernel still said, as declared,
// after it had complained of something: another CPU that dies of the same may come to
// it or not, before the machine is gone.
func (c Check) furtherComplaint() bool {
	return c.KnownIssue != "" && strings.HasPrefix(c.Name, subjects.ConsoleCheck+" ")
}

// referenceChange is one fact that differs.
type referenceChange struct{ what, from, to string }

func (c referenceChange) String() string { return c.what + ": " + c.from + " -> " + c.to }

// changes compares what both have: programs, their checks and their figures.
func (k ReferenceKernel) changes(now ReferenceKernel) []referenceChange {
	var changes []referenceChange
	for _, program := range slices.Sorted(maps.Keys(k.Programs)) {
		verdict, ran := now.Programs[program]
		if !ran {
			continue
		}
		if verdict != k.Programs[program] {
			changes = append(changes, referenceChange{program, k.Programs[program], verdict})
		}
		of := func(key string) bool { return strings.HasPrefix(key, program+"/") }
		for _, key := range both(k.Checks, now.Checks) {
			if from, to := listed(k.Checks, key), listed(now.Checks, key); of(key) && from != to {
				changes = append(changes, referenceChange{key, from, to})
			}
		}
		for _, key := range both(k.Figures, now.Figures) {
			from, had := k.Figures[key]
			to, has := now.Figures[key]
			if of(key) && had && has && math.Abs(to-from) > drift*math.Abs(from) {
				changes = append(changes, referenceChange{key, fmt.Sprintf("%.1f", from), fmt.Sprintf("%.1f %s", to, unitInsns)})
			}
		}
	}
	return changes
}

// both are the keys of two maps, sorted.
func both[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// listed is a check's verdict; those that are not listed passed, or were not there.
func listed(checks map[string]string, key string) string {
	if verdict, ok := checks[key]; ok {
		return verdict
	}
	return string(event.Pass)
}

// path is the reference's file below dir, a subject's folder reference.
func (ref *Reference) path(dir string) string {
	return filepath.Join(dir, ref.Pin+"-"+ref.Variant+".toml")
}

// Write puts the reference into its file below dir and returns the path. Kernels that the
// file has already stay in it, unless they were seen under another accelerator. Keys are
// sorted and each has a line, so that a diff says what changed.
func (ref *Reference) Write(dir string) (string, error) {
	if name := ref.Pin + ref.Variant; !filepath.IsLocal(name) || strings.ContainsRune(name, filepath.Separator) {
		return "", fmt.Errorf("pin %q and variant %q cannot be the name of a file", ref.Pin, ref.Variant)
	}
	switch old, err := readReference(ref.path(dir)); {
	case err == nil && old.Accel == ref.Accel:
		maps.Copy(old.Kernels, ref.Kernels)
		ref.Kernels = old.Kernels
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	var doc bytes.Buffer
	doc.WriteString("# What the kernels of the line-up do; checks that are not listed pass. make reference renews this file.\n")
	enc := toml.NewEncoder(&doc)
	enc.Indent = ""
	if err := enc.Encode(ref); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return ref.path(dir), renameio.WriteFile(ref.path(dir), doc.Bytes(), 0o644)
}

// mostChanges is how many lines SinceReference has.
const mostChanges = 12

// SinceReference says in a short paragraph where a run differs from the reference below
// dir, a subject's folder reference. It is empty where there is none for the
// pin, the variant and the patches. Only cells that both have are compared.
func SinceReference(dir string, r *Run) (string, error) {
	var out strings.Builder
	for _, variant := range r.variants() {
		pin := r.Kernels[slices.IndexFunc(r.Kernels, func(k Kernel) bool { return k.Variant == variant })].Pin
		ref, err := readReference((&Reference{Pin: pin, Variant: variant}).path(dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		out.WriteString(ref.since(r))
	}
	return out.String(), nil
}

func (r *Run) variants() []string {
	var variants []string
	for _, k := range r.Kernels {
		variants = append(variants, k.Variant)
	}
	slices.Sort(variants)
	return slices.Compact(variants)
}

func readReference(path string) (*Reference, error) {
	var ref Reference
	if _, err := toml.DecodeFile(path, &ref); err != nil {
		return nil, fmt.Errorf("reading the reference results in %s: %w", path, err)
	}
	return &ref, nil
}

// since compares the run's cells of the reference's pin and variant.
func (ref *Reference) since(r *Run) string {
	var changes []string
	cells := 0
	for _, k := range r.Kernels {
		was, ok := ref.Kernels[k.Name]
		if !ok || k.Pin != ref.Pin || k.Variant != ref.Variant || !slices.Equal(was.Patches, k.PatchIDs) {
			continue
		}
		told := map[string]bool{}
		for _, c := range r.Cells {
			if c.Kernel != k.Name || c.Variant != k.Variant || c.Verdict == event.Error || was.Programs[Line(c.Program)] == "" {
				continue
			}
			cells++
			for _, change := range was.changes(referenceOf(k, c.Program, c)) {
				if text := fmt.Sprintf("%s on %s", change, Line(k.Name)); !told[text] {
					told[text] = true
					changes = append(changes, text)
				}
			}
		}
	}
	if cells == 0 {
		return ""
	}
	what := fmt.Sprintf("reference results of %s, %s", ref.Pin, ref.Variant)
	if r.Accel.Name != ref.Accel {
		what += fmt.Sprintf(" (under %s, this run under %s)", ref.Accel, Line(r.Accel.Name))
	}
	if len(changes) == 0 {
		return fmt.Sprintf("%s as in the %s.\n", patches.Plural(cells, "cell"), what)
	}
	text := fmt.Sprintf("Different from the %s:\n", what)
	for i, change := range changes {
		if i == mostChanges {
			text += fmt.Sprintf("  and %d more\n", len(changes)-i)
			break
		}
		text += "  " + change + "\n"
	}
	return text
}
