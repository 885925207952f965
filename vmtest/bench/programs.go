package bench

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"patchproof/patches/subjects"
	"patchproof/vmtest"
	"patchproof/vmtest/qemu"
)

// program is the row of a group's machine in the record of a run.
func program(g subjects.Group, cpus int) string {
	if len(g.CPUs) > 1 {
		return fmt.Sprintf("bench-%s-%d", g.Name, cpus)
	}
	return "bench-" + g.Name
}

// order is where a program comes in the tables, behind all when it measures
// nothing.
func order(b subjects.Bench, name string) int {
	i := 0
	for _, g := range b.Groups {
		for _, cpus := range g.CPUs {
			if program(g, cpus) == name {
				return i
			}
			i++
		}
	}
	return i
}

// Instrument is what kernels are measured with. A run has one: figures of two are
// never in one table.
type Instrument string

// Insns counts instructions, under TCG, which any machine has. Time takes the time,
// under KVM.
const (
	Insns Instrument = "insns"
	Time  Instrument = "time"
)

// Instruments are all there are.
var Instruments = []Instrument{Insns, Time}

// Programs returns the programs of the named groups, of all that the instrument can
// measure on this host when none is named.
func Programs(b subjects.Bench, names []string, instrument Instrument) ([]vmtest.Program, error) {
	if len(b.Groups) == 0 {
		return nil, errors.New("the subject declares nothing to measure (bench.group in its subject.toml)")
	}
	var known []string
	for _, g := range b.Groups {
		known = append(known, g.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown BENCH %q; known: %s", name, strings.Join(known, ", "))
		}
	}
	var programs []vmtest.Program
	for _, g := range b.Groups {
		if len(names) > 0 && !slices.Contains(names, g.Name) {
			continue
		}
		for _, cpus := range g.CPUs {
			p := vmtest.Program{
				Name: program(g, cpus), Command: b.Command, CPUs: cpus, MemoryMiB: 512, Deadline: 60 * time.Second,
				Devices: vmtest.Devices(g.Devices), Append: append([]string{"patchproof.bench=" + g.Name}, g.Args...), Counted: !g.Uncounted,
			}
			if g.Icount {
				p.Mode = qemu.Icount
			}
			if instrument == Time {
				if g.Uncounted || cpus > runtime.NumCPU() {
					continue
				}
				p.Mode, p.Counted, p.Timed = qemu.Normal, false, true
				p.Append = append(p.Append, "patchproof.clock=1")
			}
			programs = append(programs, p)
		}
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("nothing of BENCH=%s can be timed on this host, which has %d processors", strings.Join(names, ","), runtime.NumCPU())
	}
	return programs, nil
}

// Measuring is the program that counts the instructions of a workload; where several
// machines run it, name is that of one.
func Measuring(b subjects.Bench, workload, name string) (vmtest.Program, error) {
	programs, err := Programs(b, nil, Insns)
	if err != nil {
		return vmtest.Program{}, err
	}
	var workloads, measuring, all []string
	for _, g := range b.Groups {
		if g.Uncounted {
			continue
		}
		workloads = append(workloads, g.Workloads...)
		for _, cpus := range g.CPUs {
			all = append(all, program(g, cpus))
			if slices.Contains(g.Workloads, workload) {
				measuring = append(measuring, program(g, cpus))
			}
		}
	}
	switch {
	case name != "" && !slices.Contains(all, name):
		return vmtest.Program{}, fmt.Errorf("unknown PROGRAM %q; known: %s", name, strings.Join(all, ", "))
	case len(measuring) == 0:
		return vmtest.Program{}, fmt.Errorf("no such workload; known: %s", strings.Join(workloads, ", "))
	case name == "" && len(measuring) > 1:
		return vmtest.Program{}, fmt.Errorf("several machines run it: want PROGRAM, one of %s", strings.Join(measuring, ", "))
	case name != "" && !slices.Contains(measuring, name):
		return vmtest.Program{}, fmt.Errorf("PROGRAM=%s does not run it; %s does", name, strings.Join(measuring, ", "))
	}
	name = cmp.Or(name, measuring[0])
	return programs[slices.IndexFunc(programs, func(p vmtest.Program) bool { return p.Name == name })], nil
}
