// Package subjects reads what belongs to a patch under test, as data: its folder with a
// subject.toml, its known issues, and those that are set aside for a while.
package subjects

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"patchproof/patches/regular"
)

// subjectFile makes a folder a subject.
const subjectFile = "subject.toml"

// Subject is a patch under test with all that belongs to it, as data: a folder
// with a subject.toml. Paths in that file begin at the folder.
type Subject struct {
	// Name is the folder's name and Dir its path.
	Name string `toml:"-"`
	Dir  string `toml:"-"`
	// Title says in a few words what the patch is.
	Title string `toml:"title"`
	// Default makes it the subject where nobody names one. One subject has it.
	Default bool `toml:"default"`
	// Pin is what it is built on where nobody names a pin.
	Pin string `toml:"pin"`
	// Touches are the files and, with a slash at their end, folders of the kernel whose
	// patches its programs are for, whoever wrote them. A name may have a "*".
	Touches []string `toml:"touches"`
	// Kernels are what it adds to the line-up.
	Kernels []Kernel `toml:"kernel"`
	// Programs are in the order in which they start: the slowest first, so that
	// the last cells of a run are short ones.
	Programs []Program `toml:"program"`
	// Quick names the programs of PROGRAMS=quick, and Hardware those that a bundle
	// runs on a real machine, in that order.
	Quick    []string `toml:"quick"`
	Hardware []string `toml:"hardware"`
	// Issues are known issues of the programs on any pin, base included. Those of one
	// series are declared beside it.
	Issues []KnownIssue `toml:"issue"`
	// Quarantine are added to Issues when it is read.
	Quarantine []Quarantine `toml:"quarantine"`
	Mutants    []Mutants    `toml:"mutants"`
	Demo       Demo         `toml:"bisect"`
	Bench      Bench        `toml:"bench"`
	Figures    []Figure     `toml:"figure"`
}

// Kernel is a kernel of the line-up.
type Kernel struct {
	Name string `toml:"name"`
	// Features are what programs must not skip on it.
	Features []string `toml:"features"`
	// OnRequest leaves it out of a line-up that is not asked for it by name.
	OnRequest bool `toml:"on-request"`
	// Series holds the patches per pin, in order. TreePin stands for a local tree.
	Series map[string][]string `toml:"series"`
}

// TreePin stands for a local tree (TREE=folder) where a pin's name is asked for.
const TreePin = "tree"

// Program is a guest command and the machine that it needs.
type Program struct {
	// Name is the row in the matrix.
	Name string `toml:"name"`
	// Command is the command's name below guest/cmd, Name when it is empty: one
	// command may make several rows.
	Command string `toml:"command"`
	// Script is an executable or a script of the subject's that runs instead of a
	// command, as with TEST=.
	Script string `toml:"script"`
	// CPUs and MemoryMiB are the guest's.
	CPUs      int `toml:"cpus"`
	MemoryMiB int `toml:"memory-mib"`
	// Deadline is how long it may take from its first event to its last, under KVM
	// and with a plain kernel.
	Deadline time.Duration `toml:"deadline"`
	Devices  []Device      `toml:"devices"`
	// Args are words for the kernel command line; those that begin with "patchproof."
	// are for the program.
	Args []string `toml:"args"`
	// Seeded programs take SEED.
	Seeded bool `toml:"seeded"`
	// Mode is how the processors are emulated: empty, singlestep or icount.
	Mode string `toml:"mode"`
	// Variants are those whose kernels can run it; none means all.
	Variants []string `toml:"variants"`
	// Config are the options, without CONFIG_, that a kernel must have for it.
	Config []string `toml:"config"`
	// Harm is what it does that nobody wants on a machine in use; empty is safe.
	Harm string `toml:"harm"`
}

// Device is a disk of the guest.
type Device struct {
	// Kind is nvme or virtio-blk-pci, as QEMU calls them.
	Kind    string `toml:"kind"`
	SizeMiB int    `toml:"size-mib"`
	// BadSectors are sectors of 512 bytes that cannot be read or written.
	BadSectors []int64 `toml:"bad-sectors"`
}

// Mutants are patches that are wrong on purpose, one a file. Those of the first kernel
// are meant where nobody names one.
type Mutants struct {
	// Kernel is the one that they break.
	Kernel string `toml:"kernel"`
	// Folders holds them per pin.
	Folders map[string]string `toml:"folder"`
}

// Demo is what a bisection without variables shows.
type Demo struct {
	// Program is also what any bisection goes by where nobody names one.
	Program string `toml:"program"`
	// Series is the one that is searched, per pin.
	Series map[string]string `toml:"series"`
}

// Bench is what is measured of a subject.
type Bench struct {
	// Command is the guest command that measures, told the group by
	// patchproof.bench.
	Command string `toml:"command"`
	// Explained are the workloads whose difference is shown function by function.
	Explained []string `toml:"explained"`
	// Parts are of the subject's own code, by which instructions are told apart.
	Parts []Part `toml:"part"`
	// Groups are in the order in which they are shown.
	Groups []Group `toml:"group"`
	// Hardware names the groups that a bundle has.
	Hardware []string `toml:"hardware"`
}

// Part is code with a name: all of some files, and functions whose names contain a
// word.
type Part struct {
	Name     string   `toml:"name"`
	Files    []string `toml:"files"`
	Contains []string `toml:"contains"`
}

// Group is a set of workloads that share a machine, each a cell per kernel.
type Group struct {
	Name string `toml:"name"`
	// CPUs are the machine's, and each number is a machine of its own.
	CPUs    []int    `toml:"cpus"`
	Devices []Device `toml:"devices"`
	Args    []string `toml:"args"`
	// Icount has the single CPU emulated to the instruction. Its clock jumps to the
	// next timer when the CPU is idle, which a disk does not survive.
	Icount bool `toml:"icount"`
	// Uncounted groups measure something else than instructions.
	Uncounted bool `toml:"uncounted"`
	// Workloads are the names of what it measures, by which a search finds the group.
	Workloads []string `toml:"workloads"`
}

// Figure is a picture of a report that a subject asks for.
type Figure struct {
	// Kind is one of FigureKinds.
	Kind    string `toml:"kind"`
	Title   string `toml:"title"`
	Caption string `toml:"caption"`
	// Metric is what is drawn; of snapshots the counters, of which Metrics are all.
	Metric  string   `toml:"metric"`
	Metrics []string `toml:"metrics"`
	// Prefix is how the names of the workloads begin. What follows is a place on the
	// axis, which is called Axis.
	Prefix string `toml:"prefix"`
	Axis   string `toml:"axis"`
	// Label tells lines apart, beside the kernel.
	Label string `toml:"label"`
	// Workload is the one that a trend follows.
	Workload string `toml:"workload"`
}

// FigureKinds are the kinds of figures: a metric over the number that ends a
// workload's name, the same workload through the stored runs, counters from snapshot
// to snapshot, a metric by the state that a workload's name ends with, and a metric
// over rounds. Of figures by state and by round the first that has data is drawn.
var FigureKinds = []string{FigureScale, FigureTrend, FigureSnapshots, FigureStates, FigureRounds}

// The kinds of figures.
const (
	FigureScale     = "scale"
	FigureTrend     = "trend"
	FigureSnapshots = "snapshots"
	FigureStates    = "states"
	FigureRounds    = "rounds"
)

// All reads all subjects below dir, by name. Exactly one is the default.
func All(dir string) ([]*Subject, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", subjectFile))
	if err != nil {
		return nil, err
	}
	var all []*Subject
	var defaults []string
	for _, file := range files {
		s, err := Read(filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		if all = append(all, s); s.Default {
			defaults = append(defaults, file)
		}
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("%s: no folder in it has a %s", dir, subjectFile)
	case len(defaults) != 1:
		return nil, fmt.Errorf("%d subjects say default = true, and one must (%s)", len(defaults), strings.Join(defaults, ", "))
	}
	return all, nil
}

// Read reads a subject's folder. A key that it does not know is an error.
func Read(dir string) (*Subject, error) {
	path := filepath.Join(dir, subjectFile)
	s := &Subject{Name: filepath.Base(dir), Dir: dir}
	if err := readTOML(path, s); err != nil {
		return nil, err
	}
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	held, err := inForce(s.Quarantine, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.Issues = append(s.Issues, held...)
	return s, nil
}

// Concerns says whether the subject's programs are for a patch to that file.
func (s *Subject) Concerns(file string) bool {
	return slices.ContainsFunc(s.Touches, func(t string) bool {
		if strings.HasSuffix(t, "/") {
			return strings.HasPrefix(file, t)
		}
		ok, _ := path.Match(t, file)
		return ok
	})
}

// programsFile has the programs for any kernel.
const programsFile = "programs.toml"

// AnyKernel reads the programs that are for any kernel, whatever is patched, from the
// folder of the subjects; there may be none.
func AnyKernel(dir string) ([]Program, error) {
	file := filepath.Join(dir, programsFile)
	var doc struct {
		Programs []Program `toml:"program"`
	}
	if err := readTOML(file, &doc); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range doc.Programs {
		if err := newName(p.Name, &names); err != nil {
			return nil, fmt.Errorf("%s: program: %w", file, err)
		}
		if err := p.validate(); err != nil {
			return nil, fmt.Errorf("%s: program %s: %w", file, p.Name, err)
		}
		if p.Script != "" {
			return nil, fmt.Errorf("%s: program %s: a script belongs to a subject", file, p.Name)
		}
	}
	return doc.Programs, nil
}

// readTOML reads a TOML file into doc and refuses keys that doc does not have.
func readTOML(file string, doc any) error {
	text, err := regular.ReadFile(file)
	if err != nil {
		return err
	}
	meta, err := toml.Decode(string(text), doc)
	var syntax toml.ParseError
	if errors.As(err, &syntax) {
		at := ""
		if syntax.LastKey != "" {
			at = " (at the key " + syntax.LastKey + ")"
		}
		return fmt.Errorf("%s:%d: %s%s", file, syntax.Position.Line, syntax.Message, at)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("%s: unknown key %s", file, unknown[0])
	}
	return nil
}

// Path is where a path of the subject's file is.
func (s *Subject) Path(path string) string { return filepath.Join(s.Dir, filepath.FromSlash(path)) }

// Quick is the word that stands for a subject's quick programs.
const Quick = "quick"
