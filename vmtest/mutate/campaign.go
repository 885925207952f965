package mutate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/results/seal"
	"patchproof/vmtest"
	"patchproof/vmtest/lab"
)

// campaign is what the mutants of a run share.
type campaign struct {
	Options
	lab      *lab.Lab
	spec     kernel.Spec
	variants []kernel.Variant
	writer   *results.Writer
	// took is how long each program took on the control, by variant and name.
	took map[string]float64
	// controls holds the variants whose control came out as declared.
	controls map[string]bool

	mu sync.Mutex
	n  int // cells so far, for the names of console logs
}

// newCampaign checks the selection, opens the laboratory, builds the control and
// begins the record. The laboratory must be closed.
func newCampaign(ctx context.Context, o Options) (c *campaign, err error) {
	lineup, err := kernel.Load()
	if err != nil {
		return nil, err
	}
	specs, variant, err := lineup.Resolve(o.Selection.Selection)
	if err != nil {
		return nil, err
	}
	spec := specs[len(specs)-1]
	if len(spec.Series) == 0 {
		return nil, fmt.Errorf("kernel %s has no series that could be broken", spec.Name)
	}
	if len(o.Kernels) > 1 {
		return nil, fmt.Errorf("KERNELS=%s: mutants break one kernel", strings.Join(o.Kernels, ","))
	}
	c = &campaign{Options: o, spec: spec, variants: []kernel.Variant{variant}, took: map[string]float64{}, controls: map[string]bool{}}
	if o.Variant == "" {
		c.variants = slices.DeleteFunc(lineup.Variants, func(v kernel.Variant) bool { return v.Role == kernel.RoleHardware })
	}
	for i, v := range c.variants {
		if c.variants[i], err = v.With(o.Config); err != nil {
			return nil, err
		}
	}
	programs, err := c.programs()
	if err != nil {
		return nil, err
	}
	if err := vmtest.Check(o.Selection); err != nil {
		return nil, err
	}
	options := o.Selection.Lab(o.Progress)
	options.Disk = vmtest.Disk(programs)
	l, err := lab.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if err := vmtest.Furnish(ctx, l, programs); err != nil {
		return nil, err
	}
	control, err := l.Build(ctx, spec, c.variants[0])
	if err != nil {
		return nil, err
	}
	if err := l.Ready(ctx, control); err != nil {
		return nil, err
	}
	c.lab = l
	c.lab.Shard = o.Part
	c.writer, err = l.Record(o.Set, nil)
	return c, err
}

// programs are those of all variants, each once.
func (c *campaign) programs() ([]vmtest.Program, error) {
	var all []vmtest.Program
	for _, v := range c.variants {
		some, err := vmtest.SelectPrograms(c.Selection, v.Name)
		if err != nil {
			return nil, err
		}
		for _, p := range some {
			if !slices.ContainsFunc(all, func(o vmtest.Program) bool { return o.Name == p.Name }) {
				all = append(all, p)
			}
		}
	}
	return all, nil
}

func (c *campaign) variantNames() []string {
	var names []string
	for _, v := range c.variants {
		names = append(names, v.Name)
	}
	return names
}

func (c *campaign) variant(name string) kernel.Variant {
	return c.variants[slices.Index(c.variantNames(), name)]
}

// build builds the control with a mutant on top.
func (c *campaign) build(ctx context.Context, m Mutant, variant string) (*kernel.Built, error) {
	spec := c.spec
	spec.Name = m.Name
	spec.Series = append(slices.Clone(spec.Series), m.Series)
	return c.lab.Build(ctx, spec, c.variant(variant))
}

// control runs the programs on the unbroken kernel, once per variant, but for those
// that an earlier run saw come out as declared on the same kernel.
func (c *campaign) control(ctx context.Context, variant kernel.Variant) error {
	if c.controls[variant.Name] {
		return nil
	}
	// The store has it as a rule, and a mutant may be under the compiler.
	built, err := c.lab.Builder.Stored(ctx, c.spec, variant)
	if err == nil && built == nil {
		built, err = c.lab.Build(ctx, c.spec, variant)
	}
	if err != nil {
		return err
	}
	if err := c.writer.AddKernel(vmtest.KernelRecord(built)); err != nil {
		return err
	}
	programs, err := vmtest.SelectPrograms(c.Selection, variant.Name)
	if err != nil {
		return err
	}
	file, err := c.file(built)
	if err != nil {
		return err
	}
	passed := map[string]float64{}
	c.recall(file, &passed)
	programs = slices.DeleteFunc(programs, func(p vmtest.Program) bool {
		took, done := passed[p.Name]
		if done {
			c.took[variant.Name+"/"+p.Name] = took
		}
		return done
	})
	if len(programs) > 0 {
		c.Say("control: %s on %s, %s", patches.Plural(len(programs), "program"), c.spec.Name, variant.Name)
	}
	err = c.runControl(ctx, built, variant, programs, func(cell results.Cell) error {
		passed[cell.Program] = cell.WallS
		return keep(file, passed)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.controls[variant.Name] = err == nil
	return err
}

// runControl runs programs on the unbroken kernel and hands on each cell that came out as declared,
// until one does not.
func (c *campaign) runControl(ctx context.Context, built *kernel.Built, variant kernel.Variant, programs []vmtest.Program, passed func(results.Cell) error) error {
	cellCtx, stop := context.WithCancel(ctx)
	defer stop()
	var failed error
	for cell := range c.runAll(cellCtx, c.spec.Name, built, variant, programs) {
		if ctx.Err() != nil || failed != nil {
			continue
		}
		if failed = c.writer.Add(cell); failed != nil {
			stop()
			continue
		}
		if !cell.Expected {
			by, detail, _ := killer(cell)
			failed = fmt.Errorf("%w: %s, variant %s: %s: %s (console: %s)", errControl, c.spec.Name, variant.Name, by, detail, filepath.Join(c.writer.Dir(), cell.Console))
			stop()
			continue
		}
		c.took[variant.Name+"/"+cell.Program] = cell.WallS
		failed = passed(cell)
	}
	return failed
}

// order puts the programs that a mutant's patch names first, then the quick ones.
func (c *campaign) order(m Mutant, variant string) []vmtest.Program {
	programs, _ := vmtest.SelectPrograms(c.Selection, variant)
	hint := func(p vmtest.Program) int {
		if slices.Contains(m.SeenBy, p.Name) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(programs, func(a, b vmtest.Program) int {
		return cmp.Or(cmp.Compare(hint(a), hint(b)), cmp.Compare(c.took[variant+"/"+a.Name], c.took[variant+"/"+b.Name]))
	})
	return programs
}

// runAll runs programs on a kernel that is judged as the control is, in their order,
// as many at once as the laboratory has places, and gives the cells as they end. Those
// that have not begun when ctx ends are left out.
func (c *campaign) runAll(ctx context.Context, name string, built *kernel.Built, variant kernel.Variant, programs []vmtest.Program) <-chan results.Cell {
	cells := make(chan results.Cell)
	var wait sync.WaitGroup
	wait.Add(len(programs))
	for i, p := range programs {
		c.lab.Queue(i, func(func(bool)) {
			defer wait.Done()
			if ctx.Err() == nil {
				cells <- c.runCell(ctx, name, built, variant, p)
			}
		})
	}
	go func() { wait.Wait(); close(cells) }()
	return cells
}

// runCell runs one of them.
func (c *campaign) runCell(ctx context.Context, name string, built *kernel.Built, variant kernel.Variant, p vmtest.Program) results.Cell {
	c.mu.Lock()
	c.n++
	log := fmt.Sprintf("%03d-%s-%s-%s.log", c.n, name, variant.Name, p.Name)
	c.mu.Unlock()
	spec := vmtest.CellSpec{
		Kernel: name, Variant: variant.Name, Program: p, Iteration: 1,
		Scale:    variant.Scale,
		Features: append([]string{}, c.spec.Features...), Known: c.known(name),
		Console: filepath.Join(c.writer.Dir(), log), Watch: c.Watch,
		Enough: func(k results.Check) bool { return !k.Expected && k.Verdict != event.Error },
	}
	return vmtest.RunCell(ctx, spec.In(c.lab, built))
}

// known are the control's known issues, declared for the kernel called name.
func (c *campaign) known(name string) []subjects.KnownIssue {
	var known []subjects.KnownIssue
	for _, k := range c.spec.Known {
		if len(k.Kernels) > 0 && !slices.Contains(k.Kernels, c.spec.Name) {
			continue
		}
		if len(k.Kernels) > 0 {
			k.Kernels = []string{name}
		}
		known = append(known, k)
	}
	return known
}

// file is where the verdict about a kernel is remembered: it holds for the same
// kernel, programs and declarations only.
func (c *campaign) file(built *kernel.Built) (string, error) {
	programs, err := vmtest.SelectPrograms(c.Selection, built.Variant)
	if err != nil {
		return "", err
	}
	doc, err := json.Marshal(struct {
		Key, Initramfs, Accel string
		Programs              []vmtest.Program
		Known                 []subjects.KnownIssue
	}{built.Key, c.lab.Initramfs, c.lab.Accel.Name, programs, c.spec.Known})
	if err != nil {
		return "", err
	}
	return filepath.Join(c.Cache, "mutants", fmt.Sprintf("%x.json", sha256.Sum256(doc))), nil
}

// recallVerdict fills in a verdict that an earlier run came to.
func (c *campaign) recallVerdict(built *kernel.Built, v *Verdict) bool {
	file, err := c.file(built)
	var old Verdict
	if err != nil || !c.recall(file, &old) {
		return false
	}
	v.Killed, v.By, v.Timeout, v.Detail, v.Reused = old.Killed, old.By, old.Timeout, old.Detail, true
	return true
}

// rememberVerdict keeps a verdict for the next run.
func (c *campaign) rememberVerdict(built *kernel.Built, v Verdict) error {
	file, err := c.file(built)
	if err != nil {
		return err
	}
	return keep(file, v)
}

// recall reads what an earlier run kept, unless all is to be made anew. What cannot be read is.
func (c *campaign) recall(file string, what any) bool {
	if c.Fresh {
		return false
	}
	text, sealed, err := seal.Read(file)
	return err == nil && sealed && json.Unmarshal(text, what) == nil
}

// keep writes what the next run recalls.
func keep(file string, what any) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return seal.Write(file, what)
}

// verdictsFile is beside run.json.
const verdictsFile = "mutants.json"

// verdictsRecord is what it holds.
type verdictsRecord struct {
	Mutants []Verdict `json:"mutants"`
}

func writeVerdicts(dir string, verdicts []Verdict) error {
	return seal.Write(filepath.Join(dir, verdictsFile), verdictsRecord{verdicts})
}
