package bench

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"patchproof/vmtest"
	"patchproof/vmtest/qemu"
)

// group is a set of workloads that share a machine, each a cell per kernel.
type group struct {
	name string
	// cpus are the machine's, and each number a machine of its own where there are
	// several.
	cpus    []int
	devices []qemu.Device
	// words of the kernel command line.
	words []string
	// icount has the single CPU emulated to the instruction (qemu.Icount). Its clock
	// jumps to the next timer when the CPU is idle, which a disk does not survive.
	icount bool
	// uncounted groups measure something else than instructions.
	uncounted bool
}

// groups in the order in which they are shown: NOPs by batch size, single and
// linked; reads of a tmpfs file and of NVMe, plain and registered; timeouts that
// fire and polls that are woken; then the axes: rings, CPUs at once, another CPU
// that shrinks, states of the cache; and the memory that the cache holds.
var groups = []group{
	{name: "nop", cpus: []int{1}, icount: true},
	{name: "file", cpus: []int{1}, icount: true},
	{name: "nvme", cpus: []int{1}, devices: []qemu.Device{{Kind: qemu.NVMe, SizeMiB: 64}}, words: []string{"nvme.poll_queues=1"}},
	{name: "life", cpus: []int{1}, icount: true},
	{name: "rings", cpus: []int{1}, icount: true},
	{name: "cpus", cpus: []int{1, 2, 4, 8}},
	{name: "shrink", cpus: []int{2}},
	{name: "states", cpus: []int{2}, words: []string{"slab_nomerge"}},
	{name: "memory", cpus: []int{2}, words: []string{"slab_nomerge"}, uncounted: true},
}

// program is the row of a group's machine in the record of a run.
func (g group) program(cpus int) string {
	if len(g.cpus) > 1 {
		return fmt.Sprintf("bench-%s-%d", g.name, cpus)
	}
	return "bench-" + g.name
}

// order is where a program comes in the tables, behind all when it measures
// nothing.
func order(program string) int {
	i := 0
	for _, g := range groups {
		for _, cpus := range g.cpus {
			if g.program(cpus) == program {
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
func Programs(names []string, instrument Instrument) ([]vmtest.Program, error) {
	var known []string
	for _, g := range groups {
		known = append(known, g.name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown BENCH %q; known: %s", name, strings.Join(known, ", "))
		}
	}
	var programs []vmtest.Program
	for _, g := range groups {
		if len(names) > 0 && !slices.Contains(names, g.name) {
			continue
		}
		for _, cpus := range g.cpus {
			p := vmtest.Program{
				Name: g.program(cpus), Command: "bench", CPUs: cpus, MemoryMiB: 512, Deadline: 60 * time.Second,
				Devices: g.devices, Append: append([]string{"patchproof.bench=" + g.name}, g.words...), Counted: !g.uncounted,
			}
			if g.icount {
				p.Mode = qemu.Icount
			}
			if instrument == Time {
				if g.uncounted || cpus > runtime.NumCPU() {
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
