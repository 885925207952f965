// Package mutate asks whether the guest programs would notice: it breaks a kernel
// on purpose, one small patch (a mutant) at a time on top of its series, and runs
// the programs until a check comes out otherwise than on the unbroken kernel.
//
// The unbroken kernel, the control, runs every program first: where it does not
// come out as declared, no verdict about a mutant would mean anything.
package mutate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest"
)

// Mutant is a kernel patch that is wrong on purpose.
type Mutant struct {
	// Name is the patch's file name without its extension.
	Name   string
	Series patches.Series
	// SeenBy names programs to try first, and Variant the one to begin with: the
	// lines "Seen-by:" and "Variant:" of the patch's message. They save time and
	// decide nothing.
	SeenBy  []string
	Variant string
	// Err is why the file cannot be read as a patch.
	Err error
}

// extensions are those of files that are mutants.
var extensions = []string{".patch", ".diff", ".mbox"}

// Read reads every *.patch, *.diff and *.mbox of a folder as a mutant, in the order
// of their names. A file that is no patch is one with an Err.
func Read(folder string) ([]Mutant, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("the folder of the mutants cannot be read: %w", err)
	}
	var mutants []Mutant
	for _, file := range files {
		ext := filepath.Ext(file.Name())
		if !slices.Contains(extensions, ext) {
			continue
		}
		m := Mutant{Name: strings.TrimSuffix(file.Name(), ext)}
		if m.Series, m.Err = patches.Read(filepath.Join(folder, file.Name())); m.Err != nil {
			mutants = append(mutants, m)
			continue
		}
		body := m.Series.Patches[0].Body
		if line := seenBy.FindStringSubmatch(body); line != nil {
			m.SeenBy = strings.FieldsFunc(line[1], func(r rune) bool { return r == ',' || r == ' ' })
		}
		if line := variantLine.FindStringSubmatch(body); line != nil {
			m.Variant = line[1]
		}
		mutants = append(mutants, m)
	}
	if len(mutants) == 0 {
		return nil, fmt.Errorf("%s: no files that end in %s, so there are no mutants", folder, strings.Join(extensions, ", "))
	}
	return mutants, nil
}

var (
	seenBy      = regexp.MustCompile(`(?m)^Seen-by: (.+)$`)
	variantLine = regexp.MustCompile(`(?m)^Variant: (\S+)$`)
)

// Verdict is what became of one mutant, as mutants.json lists it.
type Verdict struct {
	Name   string `json:"name"`
	Killed bool   `json:"killed"`
	// By is the program and the check that came out otherwise.
	By string `json:"by,omitempty"`
	// Timeout says that nothing but a deadline told: the cell hung and no check
	// said why.
	Timeout bool `json:"timeout,omitempty"`
	// Variant is the one that it was killed in, or the last that it survived.
	Variant string `json:"variant"`
	// Detail is the check's, or why the mutant could not be judged.
	Detail string `json:"detail,omitempty"`
	// Error is the harness's own trouble, or a patch that is of no use: the mutant
	// was neither killed nor did it survive.
	Error string `json:"error,omitempty"`
	// WallS, BuildS are seconds from the build's start to the verdict, and of them
	// those in the build.
	WallS  float64 `json:"wall_s"`
	BuildS float64 `json:"build_s"`
	// Cells is how many programs were run on it.
	Cells int `json:"cells"`
	// Reused says that an earlier run judged the same kernel with the same programs.
	Reused bool `json:"reused,omitempty"`
	// Functions are those that the patch changes.
	Functions []string `json:"functions,omitempty"`
}

// Options are what a campaign needs beside the mutants.
type Options struct {
	vmtest.Selection
	// Fresh judges again what was judged before.
	Fresh bool
	// Part, when set, says which of all mutants these are.
	Part *results.Shard
	// Progress is told how builds go, Watch how cells do (it may be nil), and Say a
	// line for people at each step.
	Progress func(kernel.Progress)
	Watch    func(vmtest.Step)
	Say      func(format string, args ...any)
	// Done is called with each verdict, in the mutants' order.
	Done func(Verdict)
}

// Run judges the mutants and writes run.json and mutants.json into the folder that
// it returns. An error is the harness's own trouble, or a control that did not come
// out as declared (errControl).
func Run(ctx context.Context, mutants []Mutant, o Options) (dir string, verdicts []Verdict, err error) {
	c, err := newCampaign(ctx, o)
	if err != nil {
		return "", nil, err
	}
	defer c.lab.Close()
	defer func() {
		status := results.Finished
		if err != nil {
			status = results.Interrupted
		}
		err = errors.Join(err, c.writer.Finish(status))
	}()
	// A deeper pipeline would only make kernels wait for processors.
	built := make(chan *turn, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer close(built)
		for i := range mutants {
			t := &turn{mutant: mutants[i], variant: c.first(mutants[i]), began: time.Now()}
			if t.mutant.Err == nil {
				t.kernel, t.err = c.build(ctx, t.mutant, t.variant)
			}
			t.built = time.Since(t.began)
			select {
			case built <- t:
			case <-ctx.Done():
				return
			}
		}
	}()
	for t := range built {
		v, err := c.judge(ctx, t)
		if err != nil {
			return c.writer.Dir(), verdicts, err
		}
		verdicts = append(verdicts, v)
		if err := writeVerdicts(c.writer.Dir(), verdicts); err != nil {
			return c.writer.Dir(), verdicts, err
		}
		o.Done(v)
	}
	return c.writer.Dir(), verdicts, context.Cause(ctx)
}

// errControl means that the unbroken kernel did not come out as declared.
var errControl = errors.New("the control, without any mutant, did not come out as declared")

// turn is a mutant on its way from the compiler to its cells.
type turn struct {
	mutant  Mutant
	variant string
	kernel  *kernel.Built
	err     error
	began   time.Time
	built   time.Duration
}

// first is the variant that a mutant begins with.
func (c *campaign) first(m Mutant) string {
	if m.Variant != "" && slices.Contains(c.variantNames(), m.Variant) {
		return m.Variant
	}
	return c.variants[0].Name
}

// judge runs the programs on a mutant, in its first variant and, if it survives
// there, in the ones after it.
func (c *campaign) judge(ctx context.Context, t *turn) (Verdict, error) {
	v := Verdict{Name: t.mutant.Name, Variant: t.variant, BuildS: t.built.Seconds(), Functions: functions(t.mutant)}
	if t.mutant.Err != nil {
		v.Error = t.mutant.Err.Error()
		return v, nil
	}
	at := slices.Index(c.variantNames(), t.variant)
	for ; at < len(c.variants); at++ {
		variant := c.variants[at]
		if v.Variant != variant.Name {
			c.Say("%s survived %s; trying %s", v.Name, v.Variant, variant.Name)
			began := time.Now()
			t.kernel, t.err = c.build(ctx, t.mutant, variant.Name)
			v.BuildS += time.Since(began).Seconds()
		}
		v.Variant = variant.Name
		if err := ctx.Err(); err != nil {
			return v, context.Cause(ctx)
		}
		if t.err != nil {
			if !useless(t.err) {
				return v, t.err
			}
			v.Error = t.err.Error()
			break
		}
		if err := c.control(ctx, variant); err != nil {
			return v, err
		}
		if c.recallVerdict(t.kernel, &v) {
			if v.Killed {
				break
			}
			continue
		}
		if err := c.writer.AddKernel(vmtest.KernelRecord(t.kernel)); err != nil {
			return v, err
		}
		if err := c.tryAll(ctx, t, variant, &v); err != nil {
			return v, err
		}
		if v.Error != "" {
			break
		}
		if err := c.rememberVerdict(t.kernel, v); err != nil {
			return v, err
		}
		if v.Killed {
			break
		}
	}
	v.WallS = time.Since(t.began).Seconds()
	return v, nil
}

// useless says that a patch cannot be a mutant: it does not apply or not compile.
func useless(err error) bool {
	var apply *kernel.ApplyError
	var build *kernel.BuildError
	return errors.As(err, &apply) || errors.As(err, &build) && build.Patched
}

// tryAll runs the programs on the mutant's kernel, as many at once as cells may,
// until one tells. One that hangs tells less than a check can, so others are asked
// too.
func (c *campaign) tryAll(parent context.Context, t *turn, variant kernel.Variant, v *Verdict) error {
	ctx, stop := context.WithCancel(parent)
	defer stop()
	cells := c.runAll(ctx, t.mutant.Name, t.kernel, variant, c.order(t.mutant, variant.Name))
	var failed error
	trouble, hangs := "", 0
	for cell := range cells {
		if failed != nil || ctx.Err() != nil {
			continue // told already, or interrupted
		}
		v.Cells++
		if failed = c.writer.Add(cell); failed != nil {
			stop()
			continue
		}
		if cell.Verdict == event.Error {
			// Maybe what the mutant did to the program: another one may tell.
			trouble = cmp.Or(trouble, fmt.Sprintf("%s could not be judged: %s", cell.Program, cell.Reason))
			continue
		}
		if cell.Expected {
			continue
		}
		by, detail, timeout := killer(cell)
		if timeout {
			hangs++
		}
		if !v.Killed || !timeout {
			v.Killed, v.By, v.Detail, v.Timeout = true, by, detail, timeout
		}
		if !timeout || hangs == maxHangs {
			stop()
		}
	}
	if !v.Killed {
		v.Error = trouble
	}
	if failed == nil && (!v.Killed || v.Timeout) {
		failed = context.Cause(parent)
	}
	return failed
}

// maxHangs programs may run into their deadline before no other is asked why.
const maxHangs = 2

// killer names the check that tells: one of the program rather than the console's,
// and the deadline only where there is no other.
func killer(cell results.Cell) (by, detail string, timeout bool) {
	rank := func(c results.Check) int {
		switch {
		case c.Expected:
			return 3
		case c.Name == results.DeadlineCheck:
			return 2
		case subjects.IsConsole(c.Name):
			return 1
		}
		return 0
	}
	best := -1
	for i, c := range cell.Checks {
		if best < 0 || rank(c) < rank(cell.Checks[best]) {
			best = i
		}
	}
	if best < 0 || cell.Checks[best].Expected {
		// No check: what a known issue declares did not come, and the reason says which.
		what, _, _ := strings.Cut(cell.Reason, " (declared")
		return cell.Program + ": " + what, cell.Reason, false
	}
	check := cell.Checks[best]
	by = cell.Program + "/" + check.Name
	title, _, _ := strings.Cut(check.Detail, "\n")
	if rank(check) == 1 {
		by += ": " + title
	}
	if check.Verdict == event.Pass {
		by += " (a known issue, passed)"
	}
	return by, title, rank(check) == 2
}

// functions are the names behind the hunk headers of a mutant's patches.
func functions(m Mutant) []string {
	var names []string
	for _, patch := range m.Series.Patches {
		for _, match := range hunkFunction.FindAllStringSubmatch(string(patch.Diff), -1) {
			if !slices.Contains(names, match[1]) {
				names = append(names, match[1])
			}
		}
	}
	return names
}

// hunkFunction finds the last name before a bracket in the text that diff puts
// behind a hunk's line numbers.
var hunkFunction = regexp.MustCompile(`(?m)^@@ .* @@.*?(\w+)\(`)

// Exit is the exit code for the verdicts: 0 when all mutants were killed, 1 when
// some survived, 2 when some could not be judged.
func Exit(verdicts []Verdict) int {
	code := 0
	for _, v := range verdicts {
		switch {
		case v.Error != "":
			return 2
		case !v.Killed:
			code = 1
		}
	}
	return code
}

// Folder is where a subject's mutants of a kernel are for a pin: of the first kernel that
// has some, and for the subject's own pin, where none is named.
func Folder(s *subjects.Subject, name, pin string) (string, error) {
	pin = cmp.Or(pin, s.Pin)
	for _, m := range s.Mutants {
		if folder := m.Folders[pin]; (name == "" || m.Kernel == name) && folder != "" {
			return s.Path(folder), nil
		}
	}
	return "", fmt.Errorf("subject %s has no mutants of %s for %s (name a folder with MUTANTS=)", s.Name, cmp.Or(name, "any kernel"), pin)
}
