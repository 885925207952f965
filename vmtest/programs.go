package vmtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/suites"
	"patchproof/vmtest/userland"
)

// Program is a guest program and the machine that it needs.
type Program struct {
	// Name is the row in the matrix.
	Name string
	// Command is the command's name below guest/cmd, Name when it is empty: one
	// command may make several rows.
	Command string
	// Script is the path of a file that testCommand runs in the guest.
	Script string
	// CPUs and MemoryMiB are the guest's.
	CPUs, MemoryMiB int
	// Deadline is how long the program may take from its first event to its
	// last, under KVM and with a plain kernel.
	Deadline time.Duration
	// EachWithin says that Deadline is for each of its checks, of which nobody knows how
	// many there are.
	EachWithin bool `json:",omitempty"`
	Devices    []qemu.Device
	// Append are words that it needs on the kernel command line.
	Append []string
	// Seeded programs take patchproof.seed, without which they have a seed of their own.
	Seeded bool
	// Mode is how the processors are emulated.
	Mode qemu.Mode
	// Counted has the instructions counted that the guest executes between its
	// marks (package guest/mark): to the instruction in mode icount, and of several
	// CPUs each for itself in mode normal. It needs TCG.
	Counted bool
	// Timed says that it measures time. Then its cells run one after the other, when
	// all kernels are made, and the kernels take turns: see turns. Its processors are
	// bound to the host's.
	Timed bool
	// Variants are those whose kernels can run it; none means all.
	Variants []string
	// Config are the options, without CONFIG_, that a kernel must have for it.
	Config []string
	// AtBoot is how long the kernel may be busy before the program begins, under KVM and
	// with a plain kernel.
	AtBoot time.Duration
	// KUnit has the results of KUnit suites, which run before the program, taken from the
	// console: those of the suites that one of the globs matches, or of all without one.
	KUnit bool
	Globs []string
	// Wished are suites of which those that did not run are skips.
	Wished []suites.Suite
	userland.Guest
	// Suite are the tests that it runs one after the other, where they go on in another
	// guest when one of them ends this one.
	Suite []string `json:",omitempty"`
	// Harm is what it does that nobody wants on a machine in use; empty is safe.
	Harm string
}

// command is the guest command that the program runs.
func (p Program) command() string { return cmp.Or(p.Command, p.Name) }

// runsOn says whether the program can run on kernels of the variant.
func (p Program) runsOn(variant string) bool {
	return len(p.Variants) == 0 || slices.Contains(p.Variants, variant)
}

// Programs returns the programs of a subject, in the order in which they start.
func Programs(s *subjects.Subject) []Program { return programs(s.Programs, s.Path) }

// programs are those declared, whose scripts lie where path says.
func programs(declared []subjects.Program, path func(string) string) []Program {
	var all []Program
	for _, p := range declared {
		program := Program{
			Name: p.Name, Command: p.Command, CPUs: p.CPUs, MemoryMiB: p.MemoryMiB, Deadline: p.Deadline,
			Devices: Devices(p.Devices), Append: p.Args, Seeded: p.Seeded, Mode: qemu.Mode(p.Mode),
			Variants: p.Variants, Config: p.Config, Harm: p.Harm,
		}
		if p.Script != "" {
			program.Script = path(p.Script)
			program.Command, program.Deadline = testCommand, p.Deadline+testSlack
			program.Append = append(slices.Clip(p.Args), event.TestKey+"="+p.Name)
		}
		all = append(all, program)
	}
	return all
}

// ownPrograms are the programs for a patch or a tree of the user's: those for any kernel,
// and those of the subjects that the patches touch.
func ownPrograms(specs []kernel.Spec, variant string) ([]Program, error) {
	declared, any, err := kernel.Subjects()
	if err != nil {
		return nil, err
	}
	all := anyKernel(any)
	for _, s := range declared {
		if slices.ContainsFunc(specs, func(spec kernel.Spec) bool { return concerns(s, spec) }) {
			all = append(all, Programs(s)...)
		}
	}
	return slices.DeleteFunc(all, func(p Program) bool { return !p.runsOn(variant) }), nil
}

// anyKernel are the programs for any kernel, which have no scripts: they belong to no
// subject's folder.
func anyKernel(declared []subjects.Program) []Program {
	return programs(declared, func(script string) string { return script })
}

func concerns(s *subjects.Subject, spec kernel.Spec) bool {
	for _, p := range spec.Patches() {
		for _, f := range p.Files {
			if s.Concerns(f.New) || s.Concerns(f.Old) {
				return true
			}
		}
	}
	return false
}

// Devices are a subject's as QEMU is given them.
func Devices(declared []subjects.Device) []qemu.Device {
	var all []qemu.Device
	for _, d := range declared {
		all = append(all, qemu.Device{Kind: qemu.DeviceKind(d.Kind), SizeMiB: d.SizeMiB, BadSectors: d.BadSectors})
	}
	return all
}

// bootDeadline is how long a guest may take from QEMU's start to its program's
// first event, under KVM and with a plain kernel.
const bootDeadline = 15 * time.Second

// tcgScale is by how much longer everything may take without KVM: a boot is
// about three times slower, and cells share the processors.
const tcgScale = 4

// singlestepScale is by how much slower a guest is when each instruction is a
// translation block of its own.
const singlestepScale = 6

// icountScale is by how much slower one is under icount, or whose instructions are
// counted.
const icountScale = 3

// scale is what deadlines, and the programs' own limits, are multiplied by.
func (s CellSpec) scale() float64 {
	scale := s.Scale
	if s.accel() == qemu.TCG {
		scale *= tcgScale
	}
	switch {
	case s.Program.Mode == qemu.Singlestep:
		scale *= singlestepScale
	case s.Program.Mode == qemu.Icount || s.Program.Counted:
		scale *= icountScale
	}
	return scale
}

// deadline scales a deadline.
func (s CellSpec) deadline(d time.Duration) time.Duration {
	return time.Duration(float64(d) * s.scale())
}

// accel is the accelerator of the cell.
func (s CellSpec) accel() string {
	if s.Program.Mode != qemu.Normal || s.Program.Counted {
		return qemu.TCG
	}
	return s.Accel.Name
}

// SelectPrograms returns the programs that a selection names, when it names none all
// that run on the variant. They are those of its subject, and those of the default one
// where it has none; by name, also those for any kernel. The word quick stands for the subject's quick
// ones.
func SelectPrograms(sel Selection, variant string) ([]Program, error) {
	subject, err := kernel.NamedSubject(sel.Subject)
	if err != nil {
		return nil, err
	}
	all := Programs(subject)
	if len(sel.Programs) == 0 {
		return slices.DeleteFunc(all, func(p Program) bool { return !p.runsOn(variant) }), nil
	}
	_, any, err := kernel.Subjects()
	if err != nil {
		return nil, err
	}
	all = append(anyKernel(any), all...)
	var known, wanted []string
	for _, p := range all {
		known = append(known, p.Name)
	}
	for _, name := range sel.Programs {
		switch {
		case name == subjects.Quick && len(subject.Quick) > 0:
			wanted = append(wanted, subject.Quick...)
			continue
		case !slices.Contains(known, name):
			known = append(known, subjects.Quick)
			return nil, fmt.Errorf("unknown PROGRAMS %q; most like it: %s; known: %s", name, suites.Near(name, known), strings.Join(known, ", "))
		}
		if p := all[slices.Index(known, name)]; !p.runsOn(variant) {
			return nil, fmt.Errorf("PROGRAMS=%s needs VARIANT=%s", name, strings.Join(p.Variants, " or "))
		}
		wanted = append(wanted, name)
	}
	return slices.DeleteFunc(all, func(p Program) bool { return !slices.Contains(wanted, p.Name) || !p.runsOn(variant) }), nil
}

// Disk is how many bytes the disks of a guest take, for the program that has most.
func Disk(programs []Program) int64 {
	most := int64(0)
	for _, p := range programs {
		sum := int64(0)
		for _, d := range p.Devices {
			sum += int64(d.SizeMiB) << 20
		}
		most = max(most, sum)
	}
	return most
}
