package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hugelgupf/vmtest/qemu"
	"mvdan.cc/sh/v3/syntax"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
	"patchproof/kernel/sandbox"
	"patchproof/vmtest/console"
)

// VM is one guest to boot.
type VM struct {
	Machine Machine
	Boot    Boot
	Devices []Device
	// Program is the program whose report is awaited.
	Program string
	// BootDeadline is for the way from QEMU's start to the program's first
	// event, Deadline for the way from there to its last.
	BootDeadline, Deadline time.Duration
	// Renewed says that Deadline is for the way from any event to the next.
	Renewed bool
	// Console is the path of the console's log.
	Console string
	// Counter is the plugin that counts instructions and Counts the file that it
	// writes, where they are counted.
	Counter, Counts string
	// Root, when set, is what the guest sees of the host's root.
	Root *sandbox.View
	// Net gives it a network card, behind which QEMU is the network.
	Net bool
	// Pinned binds the guest's processors to the host's from the program's first
	// event on, and has the host's trouble with them recorded.
	Pinned bool
	// Step, when set, is told of the phases after the boot and of each check.
	Step func(phase Phase, check string)
	// Idle, when set, is told again and again whether the guest does next to nothing.
	Idle func(idle bool)

	// Enough, when set, says of a check that the guest is to end there.
	Enough func(event.Check) bool

	// spoke, when set, is called when the guest has printed something.
	spoke func()
}

// Phase is how far a guest has come.
type Phase string

// The phases, in their order: QEMU is started, the program has reported its
// start, it has reported its end or run out of time, nothing of the guest is left.
const (
	PhaseBooting Phase = "booting"
	PhaseRunning Phase = "running"
	PhaseEnding  Phase = "ending"
	PhaseEnded   Phase = "ended"
)

// Ending is what ended a VM.
type Ending int

// The endings.
const (
	// Exited: QEMU ended by itself, which a guest brings about by powering off
	// or by a panic.
	Exited Ending = iota
	// Silent: the guest printed nothing at all before the boot's deadline.
	Silent
	// BootStuck: the program had not begun at the boot's deadline.
	BootStuck
	// Stuck: the program had not ended at its deadline.
	Stuck
	// BrokenOff: the report broke off, or is not to be trusted, and the guest went on.
	BrokenOff
	// Enough: a check told all that was asked.
	Enough
	// Cancelled: the harness was told to stop.
	Cancelled
)

// Late says that the guest was past one of its deadlines.
func (e Ending) Late() bool { return e == Silent || e == BootStuck || e == Stuck }

// Outcome is all that is known of a VM after its end.
type Outcome struct {
	Ending Ending
	// Boot is the time from QEMU's start to the program's first event, zero if
	// there was none. Wall is the life of QEMU.
	Boot, Wall time.Duration
	Report     *event.Collector
	// ReportErr says why the report is not to be trusted.
	ReportErr error
	// HostFailed says that ReportErr came about on the host.
	HostFailed bool
	Splats     []console.Splat
	// Host is what the host saw of a pinned guest's processors.
	Host []event.Metric
	// Dump is what the guest printed when it was asked where it is stuck, and
	// DumpErr why it could not be asked.
	Dump    string
	DumpErr error
	// Places says in short where Dump shows the tasks, and LastLine is what the
	// console said last before.
	Places, LastLine string
	// Died says that the kernel panicked, Reset that the guest ended without
	// that and without powering itself off.
	Died, Reset bool
	// InitBegan says that the kernel came as far as running init, UnpackedInPart that its memory
	// was too small for all of what it boots into.
	InitBegan, UnpackedInPart bool
	// InitExited says that the program ended without powering the guest off.
	InitExited bool
	// RunnerGone says that what runs a test was killed before that, and SwitchedOff how the
	// machine was told to end, if it was.
	RunnerGone  bool
	SwitchedOff string
	// Printed says that the guest printed at least one byte.
	Printed bool
	// QEMUErr is a failure of QEMU itself, with what it printed.
	QEMUErr error
	// StoodStill is how long the harness or QEMU was stopped meanwhile, as by
	// Ctrl-Z or a laptop that sleeps.
	StoodStill time.Duration
	// Starved is how long it waited meanwhile for processors of the host that were
	// busy with others, which no deadline counts.
	Starved time.Duration
	// LogErr is a failure to write the console log.
	LogErr error
	// Command is the command line that runs this guest again.
	Command string
}

// disks makes an image for each device and returns what attaches them.
func (v VM) disks(dir string) (qemu.Fn, error) {
	var attach []qemu.Fn
	for i, d := range v.Devices {
		image := filepath.Join(dir, image(i))
		if err := allocate(image, int64(d.SizeMiB)<<20); err != nil {
			return nil, fmt.Errorf("an image of %d MiB for the guest's disk; free some space or set TMPDIR to another folder: %w", d.SizeMiB, err)
		}
		attach = append(attach, d.attach(image))
	}
	return qemu.All(attach...), nil
}

// image is the name of the image of a device.
func image(i int) string { return fmt.Sprintf("disk%d.img", i) }

// allocate makes a file of zeroes that has all its space: a disk that finds none when
// the guest writes would fail with an error that looks like the kernel's.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = io.CopyN(f, zeroes{}, size)
	}
	return errors.Join(err, f.Close())
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// counter loads the plugin that counts instructions.
func (v VM) counter() qemu.Fn {
	if v.Counter == "" {
		return qemu.All()
	}
	return qemu.WithQEMUArgs("-plugin", commas(v.Counter)+",out="+commas(v.Counts))
}

// eventsFile keeps the program's report in a file.
func eventsFile() qemu.Fn {
	return qemu.WithQEMUArgs(
		"-device", "virtio-serial", "-chardev", "file,id=events,path=events.json",
		"-device", "virtserialport,chardev=events,name="+event.Port)
}

// Command is a line for a shell that boots the same guest by hand, with the
// console on the terminal. Without a report a program prints what it finds and leaves
// the guest on.
func (v VM) Command(report bool) string {
	// By hand, the disks and the report lie in the current folder.
	command, err := v.process(".")
	if err != nil {
		return ""
	}
	args, err := v.byHand(report, command)
	if err != nil {
		return ""
	}
	var line []string
	for i, d := range v.Devices {
		line = append(line, fmt.Sprintf("truncate -s %dM %s &&", d.SizeMiB, image(i)))
	}
	for _, arg := range args {
		quoted, err := syntax.Quote(arg, syntax.LangBash)
		if err != nil {
			return "" // a zero byte, which no command line can have
		}
		line = append(line, quoted)
	}
	return strings.Join(line, " ")
}

// OnTerminal is the process that boots the guest in a folder, as the line of Command does
// that has no report. It dies with the harness.
func (v VM) OnTerminal(ctx context.Context, folder string) (*exec.Cmd, error) {
	if _, err := v.disks(folder); err != nil {
		return nil, err
	}
	command, err := v.process(".")
	if err != nil {
		return nil, err
	}
	args, err := v.byHand(false, process(command, folder))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = folder
	return cmd, nil
}

// byHand are the words that boot the guest with the console on the terminal, with command
// those that start QEMU.
func (v VM) byHand(report bool, command []string) ([]string, error) {
	v.Machine.stepped = v.Machine.Mode == Singlestep
	fns := []qemu.Fn{bare(command), v.Machine.options(), v.Boot.options(), endOnPanic(), v.root(), v.net(), qemu.WithQEMUArgs("-serial", "mon:stdio")}
	if report {
		fns = append(fns, eventsFile())
	}
	for i, d := range v.Devices {
		fns = append(fns, d.attach(image(i)))
	}
	o, err := qemu.OptionsFor(qemu.ArchAMD64, fns...)
	if err != nil {
		return nil, err
	}
	return o.Cmdline()
}
