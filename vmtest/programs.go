package vmtest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Program is a guest program and the machine that it needs.
type Program struct {
	// Name is the command's name below guest/cmd.
	Name string
	// CPUs and MemoryMiB are the guest's.
	CPUs, MemoryMiB int
	// Deadline is how long the program may take from its first event to its
	// last, under KVM and with a plain kernel.
	Deadline time.Duration
	Devices  []Device
	// Append are words that it needs on the kernel command line.
	Append []string
}

// Programs returns the guest programs, the slowest first, so that the last
// cells of a run are short ones.
func Programs() []Program {
	nvme := Device{Kind: NVMe, SizeMiB: 64}
	return []Program{
		{Name: "fixedfile", CPUs: 2, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []Device{nvme}, Append: []string{"nvme.poll_queues=1"}},
		{Name: "cpuoffline", CPUs: 3, MemoryMiB: 512, Deadline: 60 * time.Second, Devices: []Device{nvme}},
		{Name: "nop", CPUs: 2, MemoryMiB: 512, Deadline: 30 * time.Second},
		{Name: "fdinfo", CPUs: 2, MemoryMiB: 512, Deadline: 30 * time.Second, Devices: []Device{nvme}},
	}
}

// bootDeadline is how long a guest may take from QEMU's start to its program's
// first event, under KVM and with a plain kernel.
const bootDeadline = 15 * time.Second

// tcgScale is by how much longer everything may take without KVM: a boot is
// about three times slower, and cells share the processors.
const tcgScale = 4

// deadline scales a deadline to the accelerator and the kernel's variant.
func deadline(d time.Duration, accel string, variantScale float64) time.Duration {
	scale := variantScale
	if accel == tcg {
		scale *= tcgScale
	}
	return time.Duration(float64(d) * scale)
}

// selectPrograms returns the named programs, all of them when none is named.
func selectPrograms(names []string) ([]Program, error) {
	all := Programs()
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	for _, p := range all {
		known = append(known, p.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown PROGRAMS %q; known: %s", name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(p Program) bool { return !slices.Contains(names, p.Name) }), nil
}
