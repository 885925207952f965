package vmtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"patchproof/vmtest/qemu"
)

// Program is a guest program and the machine that it needs.
type Program struct {
	// Name is the row in the matrix.
	Name string
	// Command is the command's name below guest/cmd, Name when it is empty: one
	// command may make several rows.
	Command string
	// CPUs and MemoryMiB are the guest's.
	CPUs, MemoryMiB int
	// Deadline is how long the program may take from its first event to its
	// last, under KVM and with a plain kernel.
	Deadline time.Duration
	Devices  []qemu.Device
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
}

// command is the guest command that the program runs.
func (p Program) command() string { return cmp.Or(p.Command, p.Name) }

// runsOn says whether the program can run on kernels of the variant.
func (p Program) runsOn(variant string) bool {
	return len(p.Variants) == 0 || slices.Contains(p.Variants, variant)
}

// Programs returns the guest programs, the slowest first, so that the last
// cells of a run are short ones.
func Programs() []Program {
	nvme := qemu.Device{Kind: qemu.NVMe, SizeMiB: 64}
	badDisk := []qemu.Device{{Kind: qemu.NVMe, SizeMiB: 64, BadSectors: []int64{badSector}}}
	// QEMU's NVMe disk does not say that trying again is of no use.
	toBadSector := []string{fmt.Sprintf("patchproof.bad-sector=%d", badSector), "nvme_core.max_retries=0"}
	// Writes share one queue and its interrupt, reads have one per CPU.
	oneWriteQueue := []string{"nvme.write_queues=1"}
	plain, debug := []string{"plain"}, []string{"debug"}
	polled := []string{"nvme.poll_queues=1"}
	race := func(name string) []string { return []string{"patchproof.race=" + name} }
	return []Program{
		// Single-stepped ones take half a minute each on processors that are not shared.
		{Name: "cpuoffline-singlestep", Command: "cpuoffline", CPUs: 3, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme},
			Append: []string{"patchproof.rounds=4", "slab_nomerge"}, Mode: qemu.Singlestep, Variants: plain},
		{Name: "contexts-singlestep", Command: "contexts", CPUs: 2, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme},
			Append: polled, Mode: qemu.Singlestep, Variants: plain},
		{Name: "faults-interrupt-singlestep", Command: "faults", CPUs: 1, MemoryMiB: 512, Deadline: 20 * time.Second,
			Devices: badDisk, Append: slices.Concat(toBadSector, []string{"patchproof.interrupt=1"}), Mode: qemu.Singlestep, Variants: plain},
		{Name: "race-timer", Command: "race", CPUs: 1, MemoryMiB: 512, Deadline: 30 * time.Second, Append: append(race("timer"), "slab_nomerge"), Mode: qemu.Singlestep, Variants: plain},
		{Name: "race-link", Command: "race", CPUs: 1, MemoryMiB: 512, Deadline: 30 * time.Second, Append: append(race("link"), "slab_nomerge"), Mode: qemu.Singlestep, Variants: plain},
		{Name: "race-disk", Command: "race", CPUs: 1, MemoryMiB: 512, Deadline: 30 * time.Second, Devices: []qemu.Device{nvme}, Append: append(race("disk"), "slab_nomerge"), Mode: qemu.Singlestep, Variants: plain},
		// A short deadline, because the RFC spends all of it.
		{Name: "race-lock", Command: "race", CPUs: 1, MemoryMiB: 512, Deadline: 8 * time.Second, Append: race("lock"), Variants: plain},
		{Name: "race-disk-lock", Command: "race", CPUs: 2, MemoryMiB: 512, Deadline: 12 * time.Second,
			Devices: badDisk, Append: slices.Concat(race("disk-lock"), toBadSector, oneWriteQueue), Variants: plain},
		{Name: "race-hotplug-shrink", Command: "race", CPUs: 3, MemoryMiB: 512, Deadline: 30 * time.Second, Append: race("hotplug-shrink"), Variants: plain},
		{Name: "race-hotplug-completion", Command: "race", CPUs: 3, MemoryMiB: 512, Deadline: 30 * time.Second, Devices: []qemu.Device{nvme}, Append: append(race("hotplug-completion"), "slab_nomerge"), Variants: plain},
		{Name: "race-shrink-completion", Command: "race", CPUs: 3, MemoryMiB: 512, Deadline: 30 * time.Second, Devices: []qemu.Device{nvme}, Append: append(race("shrink-completion"), "slab_nomerge"), Variants: plain},
		{Name: "race-all-three", Command: "race", CPUs: 3, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme}, Append: append(race("all-three"), "slab_nomerge"), Variants: plain},
		{Name: "race-order", Command: "race", CPUs: 1, MemoryMiB: 512, Deadline: 30 * time.Second, Append: race("order"), Variants: debug},
		{Name: "race-irq-lock", Command: "race", CPUs: 1, MemoryMiB: 512, Deadline: 30 * time.Second, Append: race("irq-lock"), Variants: debug},
		{Name: "race-disk-irq-lock", Command: "race", CPUs: 2, MemoryMiB: 512, Deadline: 30 * time.Second,
			Devices: badDisk, Append: slices.Concat(race("disk-irq-lock"), toBadSector, oneWriteQueue), Variants: debug},
		// What is lost when a processor goes: 20 s of it are kmemleak's, which waits
		// five seconds and scans all memory twice.
		{Name: "leaks", Command: "cpuoffline", CPUs: 3, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme}, Append: []string{"kmemleak=on", "patchproof.rounds=4", "slab_nomerge"}, Variants: debug},
		{Name: "accounting", CPUs: 2, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme},
			Append: slices.Concat(polled, oneWriteQueue, []string{"slab_nomerge"})},
		// Little memory, so that it is soon taken.
		{Name: "shrinker", Command: "accounting", CPUs: 2, MemoryMiB: 256, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme},
			Append: []string{"patchproof.part=shrinker", "slab_nomerge"}},
		{Name: "faults", CPUs: 2, MemoryMiB: 512, Deadline: 60 * time.Second,
			Devices: []qemu.Device{
				{Kind: qemu.NVMe, SizeMiB: 64, BadSectors: []int64{badSector}},
				{Kind: qemu.VirtioBlk, SizeMiB: 64, BadSectors: []int64{badSector}},
			},
			Append: slices.Concat(toBadSector, []string{"nvme.poll_queues=1", "slab_nomerge"})},
		{Name: "cpuoffline", CPUs: 3, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme}, Append: []string{"slab_nomerge"}},
		{Name: "fixedfile", CPUs: 2, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme}, Append: polled},
		{Name: "contexts", CPUs: 2, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme}, Append: polled},
		// Nothing is measured on a debug kernel.
		{Name: "cost", CPUs: 1, MemoryMiB: 512, Deadline: 30 * time.Second, Mode: qemu.Icount, Variants: plain},
		{Name: "failslab", CPUs: 2, MemoryMiB: 512, Deadline: 30 * time.Second, Devices: []qemu.Device{nvme}, Append: []string{"nvme.poll_queues=1", "slab_nomerge", "slub_debug=A,io_kiocb"}, Variants: []string{"debug"}},
		{Name: "mixer", CPUs: 2, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []qemu.Device{nvme}, Append: []string{"nvme.poll_queues=1", "slab_nomerge"}, Seeded: true},
		{Name: "fdinfo", CPUs: 2, MemoryMiB: 512, Deadline: 30 * time.Second, Devices: []qemu.Device{nvme}, Append: []string{"maxcpus=1"}},
		{Name: "nop", CPUs: 2, MemoryMiB: 512, Deadline: 30 * time.Second},
		{Name: "hostile", CPUs: 2, MemoryMiB: 512, Deadline: 30 * time.Second, Append: []string{"slab_nomerge"}},
	}
}

// badSector fails on the disks of the program faults.
const badSector = 4096

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

// SelectPrograms returns the named programs, when none is named all that run on
// the variant.
func SelectPrograms(names []string, variant string) ([]Program, error) {
	all := Programs()
	if len(names) == 0 {
		return slices.DeleteFunc(all, func(p Program) bool { return !p.runsOn(variant) }), nil
	}
	var known []string
	for _, p := range all {
		known = append(known, p.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown PROGRAMS %q; known: %s", name, strings.Join(known, ", "))
		}
		if p := all[slices.Index(known, name)]; !p.runsOn(variant) {
			return nil, fmt.Errorf("PROGRAMS=%s needs VARIANT=%s", name, strings.Join(p.Variants, " or "))
		}
	}
	return slices.DeleteFunc(all, func(p Program) bool { return !slices.Contains(names, p.Name) }), nil
}
