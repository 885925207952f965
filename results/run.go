// Package results is the record of a run: its schema, the store that writes
// and reads it, and what people are told about it.
//
// The runner creates a Writer, adds each cell as it finishes, and the store
// keeps one folder per run:
//
//	results/out/<run id>/run.json   everything below, rewritten whole per cell
//	results/out/<run id>/*.log      one console per cell
//	results/out/<run id>/junit.xml  the run as other tools read it, at its end
//	results/out/<run id>/ktap.txt   the same
//	results/out/latest              a link to the newest run
//
// Everything later reads run.json only: Read gives it back, ExitCode judges it,
// Report says it to people.
package results

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"patchproof/guest/event"
)

// Schema is the number of the format that this package writes. A field more
// keeps the number, because readers ignore what they do not know; a field
// whose meaning changes or that goes away raises it and adds an upgrade.
const Schema = 1

// TitleRules is the number of the rules by which complaints of the kernel get their titles
// (vmtest/console): a change of the rules raises it, because a title is a key.
const TitleRules = 10

// Status says how far a run came.
type Status string

// A run is Running from its first byte on disk; when its process is killed it
// stays so, and is then as good as its last finished cell.
const (
	Running     Status = "running"
	Finished    Status = "finished"
	Interrupted Status = "interrupted"
)

// Run is the content of run.json. Times are UTC.
type Run struct {
	Schema   int       `json:"schema"`
	ID       string    `json:"id"`
	Status   Status    `json:"status"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	// Command is the command line that began the run.
	Command []string `json:"command,omitempty"`
	// Selection holds the make variables that were set: KERNELS, COUNT, ...
	Selection map[string]string `json:"selection,omitempty"`
	// Subject names the patch under test; a run of a user's own patch or tree has none.
	Subject string `json:"subject,omitempty"`
	Host    Host   `json:"host"`
	Accel   Accel  `json:"accel"`
	// QEMU is the version that QEMU prints.
	QEMU    string   `json:"qemu"`
	Kernels []Kernel `json:"kernels"`
	// Harness is a hash of the checkout of patchproof that made the run.
	Harness string `json:"harness,omitempty"`
	// Shard says which part of a plan this is, where it is not all of it.
	Shard *Shard `json:"shard,omitempty"`
	// Titles are the TitleRules that the run was made with; 0 is what runs from before
	// they had a number have.
	Titles int `json:"titles,omitempty"`
	// Cells come in the order in which they finished.
	Cells []Cell `json:"cells"`
	// Against is the comparison of a patch with its base, where the run made it.
	Against *Against `json:"against,omitempty"`

	// Dir is the folder that run.json was read from; console paths start there.
	Dir string `json:"-"`
}

// Host is the machine that QEMU ran on.
type Host struct {
	OS     string `json:"os"`
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
}

// Accel is QEMU's accelerator, kvm or tcg, and why it was taken. Timings under
// different accelerators are never compared.
type Accel struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Kernel is one column of the matrix.
type Kernel struct {
	Name    string `json:"name"`
	Pin     string `json:"pin"`
	Variant string `json:"variant"`
	// Series holds the subjects of the patches, in order; a base has none.
	Series   []string `json:"series"`
	PatchIDs []string `json:"patch_ids"`
	// Commit and Tree are git object ids of the patched source.
	Commit     string `json:"commit"`
	Tree       string `json:"tree"`
	ConfigHash string `json:"config_hash"`
	Compiler   string `json:"compiler"`
	// Key and Vmlinux are the kernel's key in the store and its path there.
	Key     string `json:"key"`
	Vmlinux string `json:"vmlinux"`
	// Objects and BuildS are how many objects the build compiled and how many
	// seconds it took, in this run or in the one that filled the store.
	Objects int     `json:"objects"`
	BuildS  float64 `json:"build_s"`
	// Features are those that the line-up declares, which no program may skip.
	Features []string `json:"features"`
	// BuildError says how the patches broke the build, when they did: such a
	// kernel has no image and no cells.
	BuildError string `json:"build_error,omitempty"`
	// Source is the archive that a pin was taken from.
	Source *Source `json:"source,omitempty"`
	// Quarantine is all that was declared when it was run, for this kernel or another.
	Quarantine []Quarantine `json:"quarantine,omitempty"`
}

// Quarantine is a declared one.
type Quarantine struct {
	// Kernels and Variants are those that it is for; none means all.
	Kernels  []string `json:"kernels,omitempty"`
	Variants []string `json:"variants,omitempty"`
	Program  string   `json:"program"`
	// Check is a name, or "console: " and what the kernel complained of.
	Check   string        `json:"check"`
	Verdict event.Verdict `json:"verdict"`
	Reason  string        `json:"reason"`
	// Since and Until are days; Until, in UTC, is the last on which it held. Expired
	// says that it had passed when the run began.
	Since   string `json:"since"`
	Until   string `json:"until"`
	Expired bool   `json:"expired,omitempty"`
}

// Source is a kernel source's archive.
type Source struct {
	Version string `json:"version"`
	File    string `json:"file"`
	SHA256  string `json:"sha256"`
	// Trust says why the hash is believed.
	Trust string `json:"trust"`
}

// Cell is one program run once on one kernel in its own VM.
type Cell struct {
	Kernel  string `json:"kernel"`
	Variant string `json:"variant"`
	Program string `json:"program"`
	// Iteration counts from 1 to COUNT.
	Iteration int `json:"iteration"`
	// Only are the tests of a suite that this run was limited to; without any it had all.
	Only []string `json:"only,omitempty"`
	// Version is a hash of what ran and how: of what the guest booted into, the program's
	// machine and its arguments. Cells of one version on one kernel are runs of one thing.
	Version string `json:"version,omitempty"`
	// Mode is how the processors were emulated where that is not the usual way:
	// singlestep or icount, both with TCG.
	Mode    string        `json:"mode,omitempty"`
	Verdict event.Verdict `json:"verdict"`
	// Expected is false for every verdict that no declaration explains: also
	// for the pass of a known issue, and always for an error.
	Expected bool `json:"expected"`
	// Reason is the verdict's reason in one line, where no check gives it.
	Reason string `json:"reason,omitempty"`
	// StartS is when QEMU started, in seconds since the run began (Started).
	StartS float64 `json:"start_s"`
	// WallS is the life of QEMU, BootS the time from its start to the
	// program's first event, both in seconds of the host.
	WallS float64 `json:"wall_s"`
	BootS float64 `json:"boot_s"`
	// Stopped is how far the guest came, where it did not come to its end by itself
	// and with a whole report, and nothing on the host was the reason.
	Stopped *Stopped       `json:"stopped,omitempty"`
	Checks  []Check        `json:"checks"`
	Metrics []event.Metric `json:"metrics"`
	// Console is the console log's path inside the run's folder.
	Console string `json:"console,omitempty"`
	// Files are the paths, inside the run's folder, of what the program sent back.
	Files []string `json:"files,omitempty"`
	// Command is the QEMU command line that runs this cell again.
	Command string `json:"command,omitempty"`
}

// Check is what a program, or the console watch, asserted, and whether it came
// out as expected.
type Check struct {
	event.Check
	Expected bool `json:"expected"`
	// KnownIssue is the declared reason where the series declares this check
	// as a known issue on this kernel, whatever its verdict was here.
	KnownIssue string `json:"known_issue,omitempty"`
	// MayFail says that the known issue is a race that cannot be forced, so that
	// the check may come out either way.
	MayFail bool `json:"may_fail,omitempty"`
	// Quarantine is the last day of the quarantine by which the failure is expected.
	Quarantine string `json:"quarantine,omitempty"`
	// Where are the places of the patched source that a complaint of the kernel
	// names, in its order.
	Where []Frame `json:"where,omitempty"`
}

// Frame is a place of the patched source on a stack.
type Frame struct {
	// Function is as the debug info has it. Inlined says that the next frame is
	// what it was inlined into.
	Function string `json:"function"`
	Inlined  bool   `json:"inlined,omitempty"`
	// File and Line are 0 and empty where the kernel has no debug info; the file
	// is then known for functions in files that the series changes.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Patch is the number, from 1, of the patch in the kernel's series that added
	// the line or, without a line, changed the function last; 0 means none.
	Patch int `json:"patch,omitempty"`
}

// Place says where the frame is and, where the kernel's series has something to do
// with it, of which of its patches; series holds their subjects.
func (f Frame) Place(series []string) string {
	text := f.File
	if f.Line > 0 {
		text = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	if f.Patch > 0 && f.Patch <= len(series) {
		how := "patch"
		if f.Line == 0 {
			how = "changed by patch"
		}
		text += fmt.Sprintf(" [%s %d/%d %s]", how, f.Patch, len(series), series[f.Patch-1])
	}
	if f.Inlined {
		return f.Function + " " + text + ", inlined into"
	}
	return f.Function + " " + text
}

// Counts is the path, inside the run's folder, of what the counter of instructions wrote, where
// the cell was counted.
func (c Cell) Counts() string { return strings.TrimSuffix(c.Console, ".log") + ".counts" }

// failedAsKnown says whether the check is a known issue that showed itself.
func (c Check) failedAsKnown() bool {
	return c.KnownIssue != "" && c.Expected && c.Verdict != event.Pass && c.Verdict != event.Skip
}

// declaration says why the failure is expected.
func (c Check) declaration() string {
	if c.Quarantine != "" {
		return Line(c.KnownIssue)
	}
	return "a known issue: " + Line(c.KnownIssue)
}

// blamesKernel says whether the cell's verdict is an unexpected one of the
// kernel, and not the harness's own trouble.
func (c Cell) blamesKernel() bool {
	return !c.Expected && c.Verdict != event.Error
}

// ExitCode judges the run as docs/architecture.md's contract says: 1 when a verdict about
// a kernel was unexpected, or its patches broke the build; else 2 when the harness failed a cell, ran none,
// found nothing to compare or did not finish; else 0.
func (r *Run) ExitCode() int {
	code := 0
	// Where there are more shards than cells, some have none to run.
	none := len(r.Cells) == 0 && (r.Shard == nil || len(r.Shard.share()) > 0)
	if r.Status != Finished || none || r.Against != nil && r.Against.Compared == 0 {
		code = 2
	}
	for _, k := range r.Kernels {
		if k.BuildError != "" {
			return 1
		}
	}
	if r.Against != nil && r.Against.worse() {
		return 1
	}
	for _, c := range r.Cells {
		if c.blamesKernel() {
			return 1
		}
		// Held against base, a program counts once both have a verdict.
		if c.Verdict == event.Error && (r.Against == nil || slices.Contains(r.Against.Unjudged, c.Program)) {
			code = 2
		}
	}
	return code
}
