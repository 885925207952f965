package event

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"time"
)

// What the collector of a bundle tells the programs that it runs, by environment.
const (
	// FDEnv is the descriptor that events go to instead of the virtio port. A
	// program that has one leaves the machine on.
	FDEnv = "PATCHPROOF_EVENTS"
	// OptionsEnv are words that go before those of the kernel's command line.
	OptionsEnv = "PATCHPROOF_OPTIONS"
	// DiskEnv is the disk whose content is scratch.
	DiskEnv = "PATCHPROOF_DISK"
)

// Manifest says what is in a bundle. The collector finds it beside itself.
type Manifest struct {
	// Bundle names the bundle by its content.
	Bundle   string           `json:"bundle"`
	Kernels  []BundledKernel  `json:"kernels"`
	Programs []BundledProgram `json:"programs"`
}

// BundledKernel is a kernel of a bundle.
type BundledKernel struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	// BuildID is the linker's, by which a running kernel is known.
	BuildID string `json:"build_id"`
	// Features are what the kernel is declared to have; nil leaves it to the
	// programs to find out.
	Features []string `json:"features"`
	// Record and Known are the host's: what run.json says of the kernel, and the
	// issues that are declared for it.
	Record json.RawMessage `json:"record,omitempty"`
	Known  json.RawMessage `json:"known,omitempty"`
}

// BundledProgram is a program as it is run on real hardware.
type BundledProgram struct {
	Name    string `json:"name"`
	Command string `json:"command"`
	// Options are boot options for the program alone, Boot those that the kernel
	// must have been booted with.
	Options []string `json:"options"`
	Boot    []string `json:"boot"`
	CPUs    int      `json:"cpus"`
	// Disk says that it writes to a disk, Harm what it does that nobody wants on a
	// machine in use; empty is safe.
	Disk bool   `json:"disk"`
	Harm string `json:"harm"`
	// Alone says that it needs a boot in which nothing else was run.
	Alone bool `json:"alone"`
	// DeadlineS is in seconds.
	DeadlineS float64 `json:"deadline_s"`
}

// CollectionSchema is the number of the format below.
const CollectionSchema = 1

// Collection is what the collector writes: a boot of a machine after another.
type Collection struct {
	Schema int    `json:"collection"`
	Boots  []Boot `json:"boots"`
}

// Boot is one call of the collector. It is written anew when a program begins and
// when it ends, so that a machine that dies leaves what was finished.
type Boot struct {
	// ID is the kernel's boot id and the time since boot.
	ID      string    `json:"id"`
	Bundle  string    `json:"bundle"`
	Started time.Time `json:"started"`
	Facts   Facts     `json:"facts"`
	// Kernel is the one of the bundle that is running; one without a name is
	// another, of which only Facts tell.
	Kernel BundledKernel `json:"kernel"`
	Ran    []Ran         `json:"ran"`
	// Running is the program in flight.
	Running string `json:"running,omitempty"`
	// Refused are the programs that were not run, with the reason.
	Refused  []Refused `json:"refused,omitempty"`
	Finished bool      `json:"finished"`
}

// Facts are what is known of the machine.
type Facts struct {
	// Machine tells machines apart, without saying which it is.
	Machine string `json:"machine"`
	Product string `json:"product"`
	// Hypervisor names what the machine runs on when it is a VM.
	Hypervisor string `json:"hypervisor,omitempty"`
	CPU        string `json:"cpu"`
	CPUs       int    `json:"cpus"`
	MemoryKiB  int    `json:"memory_kib"`
	Release    string `json:"release"`
	Version    string `json:"version"`
	BuildID    string `json:"build_id"`
	Cmdline    string `json:"cmdline"`
	// Driver and Governor are cpufreq's, of CPU 0; Microcode is the CPU's.
	Driver    string `json:"cpufreq_driver,omitempty"`
	Governor  string `json:"cpufreq_governor,omitempty"`
	Microcode string `json:"microcode,omitempty"`
	// Clock is the clocksource.
	Clock string `json:"clocksource"`
	// Mitigations are the kernel's lines about vulnerabilities, by name.
	Mitigations map[string]string `json:"mitigations,omitempty"`
}

// Ran is one program's run.
type Ran struct {
	Program string   `json:"program"`
	Verdict Verdict  `json:"verdict"`
	Reason  string   `json:"reason,omitempty"`
	Checks  []Check  `json:"checks"`
	Metrics []Metric `json:"metrics"`
	// Log is what the kernel logged meanwhile, and LogTrouble why it is not known.
	Log        []string `json:"log"`
	LogTrouble string   `json:"log_trouble,omitempty"`
	// Started is when the program began, by the machine's own clock.
	Started time.Time `json:"started"`
	// WallS is the program's life, StealS the time that the hypervisor took from
	// all CPUs meanwhile, both in seconds.
	WallS  float64 `json:"wall_s"`
	StealS float64 `json:"steal_s"`
	// KHz is CPU 0's frequency at the end, 0 where the kernel does not say.
	KHz int `json:"khz,omitempty"`
}

// Refused is a program that was not run.
type Refused struct {
	Program string `json:"program"`
	Why     string `json:"why"`
}

// buildIDNote is NT_GNU_BUILD_ID (elf.h).
const buildIDNote = 3

// BuildID finds the linker's build id among ELF notes, as they are in vmlinux's
// section .notes and in /sys/kernel/notes. It is empty when there is none.
func BuildID(notes []byte) string {
	const header = 12
	padded := func(n uint32) int { return int(n+3) &^ 3 }
	for len(notes) >= header {
		name, desc := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:])
		kind := binary.LittleEndian.Uint32(notes[8:])
		if name > 1<<10 || desc > 1<<10 || header+padded(name)+padded(desc) > len(notes) {
			return ""
		}
		if kind == buildIDNote && string(notes[header:header+int(name)]) == "GNU\x00" {
			return hex.EncodeToString(notes[header+padded(name) : header+padded(name)+int(desc)])
		}
		notes = notes[header+padded(name)+padded(desc):]
	}
	return ""
}
