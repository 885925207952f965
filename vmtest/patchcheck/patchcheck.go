// Package patchcheck looks at each patch of a series by itself: whether the kernel can be
// built with it and those before it, and what the compiler, sparse, checkpatch, coccicheck,
// kernel-doc and modpost say that they did not say before it. What the source had already is not the
// patch's.
package patchcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/lab"
)

// The tools, as findings name them.
const (
	ToolBuild      = "build"
	ToolCompiler   = "compiler"
	ToolKernelDoc  = "kernel-doc"
	ToolSparse     = "sparse"
	ToolCheckpatch = "checkpatch"
	ToolCoccicheck = "coccicheck"
	ToolModpost    = "modpost"
	ToolKconfig    = "kconfig"
	ToolBoot       = "boot"
)

// Level is how much a finding counts.
type Level string

// A patch with an error or a warning does not pass. A remark is told and no more.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Remark  Level = "remark"
)

// Finding is something that a patch brought.
type Finding struct {
	Tool  string `json:"tool"`
	Level Level  `json:"level"`
	// Rule is the tool's own name of what it found, where it has one.
	Rule string `json:"rule,omitempty"`
	// File and Line are in the source with the patch; without them it is about the whole.
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`
	// Config is the other config in which it was found.
	Config string `json:"config,omitempty"`
}

func (f Finding) String() string {
	text := f.Tool + " " + string(f.Level) + ": "
	if f.File != "" {
		text += fmt.Sprintf("%s:%d: ", f.File, f.Line)
	}
	text += f.Message
	if f.Rule != "" {
		text += " [" + f.Rule + "]"
	}
	if f.Config != "" {
		text += " (" + f.Config + ")"
	}
	return text
}

// Change is a figure of a function or object that a patch changed, in bytes.
type Change struct {
	Name string `json:"name"`
	Old  int    `json:"old"`
	New  int    `json:"new"`
}

// Checked is what there is to say of one patch.
type Checked struct {
	// Number is from 1.
	Number    int    `json:"number"`
	Subject   string `json:"subject"`
	MessageID string `json:"message_id,omitempty"`
	// Builds says whether the kernel can be built with it and those before it.
	Builds bool `json:"builds"`
	// Boots says that it passed something, and nothing less than the kernel before it
	// did; Boot is that comparison in a line. It is empty where none was made.
	Boots    bool      `json:"boots"`
	Boot     string    `json:"boot,omitempty"`
	Findings []Finding `json:"findings"`
	// Unchecked are files that nothing was said of, each with the reason.
	Unchecked []string `json:"unchecked,omitempty"`
	// Sizes and Stack are those that are not as before.
	Sizes []Change `json:"sizes,omitempty"`
	Stack []Change `json:"stack,omitempty"`
}

// Passes says that it brought nothing that counts.
func (c Checked) Passes() bool {
	return !slices.ContainsFunc(c.Findings, func(f Finding) bool { return f.Level != Remark })
}

// Report is patchcheck.json.
type Report struct {
	Schema  int       `json:"schema"`
	Series  string    `json:"series"`
	On      string    `json:"on"`
	Variant string    `json:"variant"`
	Patches []Checked `json:"patches"`
	// Missing are tools that this machine lacks, each with what installs it.
	Missing []string `json:"missing,omitempty"`

	dir string
}

// Schema is the number of the report's format.
const Schema = 1

// Passes says that all patches pass.
func (r *Report) Passes() bool {
	return !slices.ContainsFunc(r.Patches, func(c Checked) bool { return !c.Passes() })
}

// Path is the report's file.
func (r *Report) Path() string { return filepath.Join(r.dir, "patchcheck.json") }

// optional are tools without which something is not looked at.
var optional = []struct{ name, install string }{
	{"sparse", "apt-get install sparse"},
	{"perl", "apt-get install perl"},
	{"spatch", "apt-get install coccinelle"},
}

// Options are what a run is told.
type Options struct {
	Progress func(kernel.Progress)
	// Done is called with each patch as soon as it is checked.
	Done func(Checked)
	// Say tells the user something in a line.
	Say func(format string, args ...any)
	// Unsigned has a patch without Signed-off-by pass.
	Unsigned bool
	// Also are other configs in which files are compiled, as kernel.ParseOthers reads them.
	Also string
}

// Run checks the patches of a selection's own series, in their order.
func Run(ctx context.Context, sel vmtest.Selection, o Options) (*Report, error) {
	lineup, err := kernel.Load()
	if err != nil {
		return nil, err
	}
	specs, variant, err := lineup.Resolve(sel.Selection)
	if err != nil {
		return nil, err
	}
	last := specs[len(specs)-1]
	if last.Name != kernel.Patched {
		return nil, errors.New("no patch to check; PATCH=file names one")
	}
	programs, err := selectPrograms(sel, variant.Name)
	if err != nil {
		return nil, err
	}
	others, err := kernel.ParseOthers(o.Also, sel.Compiler)
	if err != nil {
		return nil, fmt.Errorf("ALSO=%w", err)
	}
	options := sel.Lab(o.Progress)
	options.NoGuests = len(programs) == 0
	l, err := lab.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	r := &Report{Schema: Schema, Series: last.Series[0].Name, On: last.Pin.Name, Variant: variant.Name}
	if last.Tree != "" {
		r.On = last.Tree + " " + last.Rev
	}
	for _, tool := range optional {
		if _, err := exec.LookPath(tool.name); err != nil {
			r.Missing = append(r.Missing, fmt.Sprintf("%s is not installed, so nothing is checked with it; %s brings it", tool.name, tool.install))
		}
	}
	for _, line := range r.Missing {
		o.Say("%s", line)
	}
	c := checker{Options: o, programs: programs, others: others, lab: l, report: r, variant: variant, all: upTo(last), built: map[int]*kernel.Built{}, broken: map[int]error{}}
	// A series that does not apply is refused before anything is built.
	if _, err := l.Builder.Apply(ctx, last); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("perl"); err == nil {
		if c.remarks, err = l.Builder.Checkpatch(ctx, last); err != nil {
			return nil, fmt.Errorf("checkpatch.pl could not be run: %w", err)
		}
	}
	if len(programs) > 0 {
		if err := vmtest.Furnish(ctx, l, programs); err != nil {
			return nil, err
		}
	}
	for n, p := range last.Patches() {
		o.Say("%d/%d  %s", n+1, len(last.Patches()), event.Printable(p.Subject))
		checked, err := c.check(ctx, n+1)
		if err != nil {
			return nil, err
		}
		r.Patches = append(r.Patches, checked)
		o.Done(checked)
	}
	return r, r.write()
}

// upTo are the kernels with none, one, two ... of a spec's patches.
func upTo(spec kernel.Spec) []kernel.Spec {
	list := spec.Patches()
	all := []kernel.Spec{}
	for n := range len(list) + 1 {
		s := spec
		// So named, they are built as what a stranger wrote.
		s.Name = fmt.Sprintf("%s-%d", kernel.Patched, n)
		if n == 0 {
			s.Name = kernel.Base
		} else if n == len(list) {
			s.Name = kernel.Patched
		}
		s.Series = nil
		if n > 0 {
			series := spec.Series[len(spec.Series)-1]
			series.Patches = list[:n]
			s.Series = []patches.Series{series}
		}
		all = append(all, s)
	}
	return all
}

// checker remembers what was found out about the kernels of a series.
type checker struct {
	Options
	// programs are what runs on the kernel with each patch.
	programs []vmtest.Program
	// others are the other configs.
	others []kernel.Other

	lab     *lab.Lab
	report  *Report
	variant kernel.Variant
	// all are the kernels by the number of their patches.
	all     []kernel.Spec
	built   map[int]*kernel.Built
	broken  map[int]error
	remarks [][]kernel.Remark
	// mu guards cells, the runs of the programs on all kernels.
	mu    sync.Mutex
	cells []results.Cell
}

// check looks at the patch with that number, from 1.
func (c *checker) check(ctx context.Context, n int) (Checked, error) {
	p := c.all[n].Patches()[n-1]
	checked := Checked{Number: n, Subject: p.Subject, MessageID: p.MessageID, Findings: []Finding{}}
	if c.remarks != nil {
		for _, remark := range c.remarks[n-1] {
			if c.Unsigned && remark.Type == "MISSING_SIGN_OFF" {
				continue
			}
			checked.Findings = append(checked.Findings, ofCheckpatch(remark))
		}
	}
	if err := c.checkFiles(ctx, n, &checked); err != nil {
		return checked, err
	}
	if err := c.checkOthers(ctx, n, &checked); err != nil {
		return checked, err
	}
	if err := c.coccicheck(ctx, n, &checked); err != nil {
		return checked, err
	}
	if err := c.checkKconfig(ctx, n, &checked); err != nil {
		return checked, err
	}
	if err := c.checkBuild(ctx, n, &checked); err != nil {
		return checked, err
	}
	if !checked.Builds || len(c.programs) == 0 {
		return checked, nil
	}
	err := c.boot(ctx, n, &checked)
	return checked, err
}

// checkFiles compiles the files of the patch by themselves, with and without it, and tells
// what is said of them that is new.
func (c *checker) checkFiles(ctx context.Context, n int, checked *Checked) error {
	p := c.all[n].Patches()[n-1]
	files := c.files(n)
	before, err := c.lab.Builder.Examine(ctx, c.all[n-1], c.variant, oldNames(p, files))
	if err != nil {
		return err
	}
	after, err := c.lab.Builder.Examine(ctx, c.all[n], c.variant, files)
	if err != nil {
		return err
	}
	for _, file := range files {
		old, from := before[oldName(p, file)], n-1
		if old.Error != nil && after[file].Error == nil {
			if old, from, err = c.lastGood(ctx, oldName(p, file), n-1); err != nil {
				return err
			}
		}
		had := len(checked.Findings)
		compare(checked, file, old, after[file], c.all[n].Patches()[from:])
		if from < n-1 {
			for i := range checked.Findings[had:] {
				checked.Findings[had+i].Message += fmt.Sprintf(" (new since %s, the last that %s compiles with)", kernelName(from), file)
			}
		}
	}
	return nil
}

// checkBuild builds the kernel with and without the patch, and tells what breaks and what
// modpost says that is new.
func (c *checker) checkBuild(ctx context.Context, n int, checked *Checked) error {
	if err := c.build(ctx, n-1); err != nil {
		return err
	}
	if err := c.build(ctx, n); err != nil {
		return err
	}
	checked.Builds = c.broken[n] == nil
	switch {
	case c.broken[n] != nil && c.broken[n-1] != nil:
		checked.Unchecked = append(checked.Unchecked, "the kernel does not build without the patch either")
	case c.broken[n] != nil:
		broken := ofBuild(c.broken[n])
		// The compiler has said it of the file by itself.
		checked.Findings = slices.DeleteFunc(checked.Findings, func(f Finding) bool {
			return f.Tool == ToolCompiler && f.Level == Error && f.File == broken.File && f.Line == broken.Line
		})
		checked.Findings = append(checked.Findings, broken)
	case c.broken[n-1] == nil:
		old, err := c.built[n-1].SectionMismatches()
		if err != nil {
			return err
		}
		now, err := c.built[n].SectionMismatches()
		if err != nil {
			return err
		}
		for _, line := range now {
			if !slices.Contains(old, line) {
				checked.Findings = append(checked.Findings, Finding{Tool: ToolModpost, Level: Warning, Message: line})
			}
		}
	}
	return nil
}

// coccicheck adds what the tree's semantic patches report of the patch's own files and did
// not before. They match code that is right, too, so it is told and does not count.
func (c *checker) coccicheck(ctx context.Context, n int, checked *Checked) error {
	p := c.all[n].Patches()[n-1]
	var files []string
	for _, f := range p.Files {
		if filepath.Ext(f.New) == ".c" {
			files = append(files, f.New)
		}
	}
	before, err := c.lab.Builder.Coccicheck(ctx, c.all[n-1], oldNames(p, files))
	if err != nil {
		return err
	}
	after, err := c.lab.Builder.Coccicheck(ctx, c.all[n], files)
	if err != nil {
		return err
	}
	for _, file := range files {
		old, now := before[oldName(p, file)], after[file]
		for _, rule := range slices.Sorted(maps.Keys(now.Found)) {
			for _, w := range added(old.Found[rule], now.Found[rule], []patches.Patch{p}) {
				checked.Findings = append(checked.Findings, Finding{Tool: ToolCoccicheck, Level: Remark, Rule: rule, File: w.File, Line: w.Line, Message: w.Message})
			}
		}
		for _, unused := range now.Unused {
			checked.Unchecked = append(checked.Unchecked, file+": coccicheck's "+unused)
		}
	}
	return nil
}

// lastGood is what was found in a file that does not compile with n patches, with the
// most patches before those that it does compile with, and how many these are.
func (c *checker) lastGood(ctx context.Context, file string, n int) (kernel.Examined, int, error) {
	for m := n - 1; m >= 0; m-- {
		all, err := c.lab.Builder.Examine(ctx, c.all[m], c.variant, []string{file})
		if err != nil {
			return kernel.Examined{}, n, err
		}
		if x := all[file]; x.Error == nil && !x.Absent && !x.Unbuilt {
			return x, m, nil
		}
	}
	all, err := c.lab.Builder.Examine(ctx, c.all[n], c.variant, []string{file})
	return all[file], n, err
}

// files are the C files that the patch may have changed something in: those that it
// touches, and with a header of the patch all that the series touches.
func (c *checker) files(n int) []string {
	all := c.all[len(c.all)-1].Patches()
	list := all[n-1 : n]
	if slices.ContainsFunc(all[n-1].Files, func(f patches.File) bool { return filepath.Ext(f.Name()) == ".h" }) {
		list = all
	}
	var files []string
	for _, p := range list {
		for _, f := range p.Files {
			if filepath.Ext(f.New) == ".c" && compiled(f.New) {
				files = append(files, f.New)
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// compiled says that a C file may be one of the kernel's: those of the tools, of the
// samples' programs and of the selftests are built by makefiles of their own.
func compiled(file string) bool {
	return !strings.HasPrefix(file, "tools/") && !strings.HasPrefix(file, "scripts/") && !strings.HasPrefix(file, "Documentation/")
}

// oldName is what a file was called before the patch.
func oldName(p patches.Patch, file string) string {
	for _, f := range p.Files {
		if f.New == file && f.Old != "" && !f.IsCopy {
			return f.Old
		}
	}
	return file
}

func oldNames(p patches.Patch, files []string) []string {
	var names []string
	for _, file := range files {
		names = append(names, oldName(p, file))
	}
	return names
}

// build builds the kernel with that many patches, once.
func (c *checker) build(ctx context.Context, n int) error {
	if c.built[n] != nil || c.broken[n] != nil {
		return nil
	}
	built, err := c.lab.Build(ctx, c.all[n], c.variant)
	var refused *kernel.BuildError
	var config *kernel.ConfigError
	if errors.As(err, &refused) || errors.As(err, &config) {
		c.broken[n] = err
		return nil
	}
	c.built[n] = built
	return err
}

// ofBuild is a kernel that cannot be built.
func ofBuild(err error) Finding {
	f := Finding{Tool: ToolBuild, Level: Error, Message: err.Error()}
	var refused *kernel.BuildError
	if errors.As(err, &refused) {
		f.File, f.Line, f.Message = refused.File, refused.Line, "the kernel does not build: "+strings.TrimPrefix(refused.Message, "error: ")+" (log: "+refused.Log+")"
	}
	return f
}

// ofCheckpatch is what checkpatch says; its warnings are often a matter of taste.
func ofCheckpatch(r kernel.Remark) Finding {
	level := Remark
	if r.Level == "ERROR" {
		level = Error
	}
	return Finding{Tool: ToolCheckpatch, Level: level, Rule: r.Type, File: r.File, Line: r.Line, Message: r.Message}
}

// folder makes the report's folder, below results/out.
func (r *Report) folder() error {
	if r.dir != "" {
		return nil
	}
	root, err := kernel.Checkout()
	if err != nil {
		return err
	}
	out := filepath.Join(root, "results", "out")
	id, err := results.NewFolder(out, time.Now().UTC())
	if err != nil {
		return fmt.Errorf("making a folder for the results: %w", err)
	}
	r.dir = filepath.Join(out, id)
	return nil
}

// write writes the report.
func (r *Report) write() error {
	if err := r.folder(); err != nil {
		return err
	}
	if err := results.WriteJSON(r.Path(), r); err != nil {
		return err
	}
	for _, c := range r.Patches {
		if err := results.WriteJSON(filepath.Join(r.dir, fmt.Sprintf("b4-%d.json", c.Number)), c.b4()); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := r.sarif().PrettyWrite(&text); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(r.dir, "patchcheck.sarif"), text.Bytes(), 0o644)
}
