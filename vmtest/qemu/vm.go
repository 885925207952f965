package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hugelgupf/vmtest/qemu"
	"github.com/hugelgupf/vmtest/qemu/qevent"
	"mvdan.cc/sh/v3/syntax"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
	"patchproof/kernel"
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
	Root *kernel.View
	// Net gives it a network card, behind which QEMU is the network.
	Net bool
	// Pinned binds the guest's processors to the host's from the program's first
	// event on, and has the host's trouble with them recorded.
	Pinned bool
	// Step, when set, is told of the phases after the boot and of each check.
	Step func(phase Phase, check string)

	// enough, when set, is called when the guest has printed something.
	enough func()
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
	// InitBegan says that the kernel came as far as running init.
	InitBegan bool
	// InitExited says that the program ended without powering the guest off.
	InitExited bool
	// PoweredOff says that the guest switched itself off.
	PoweredOff bool
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

// Run boots the guest and stays until nothing of it is left. The error says
// that the harness could not even start it.
func (v VM) Run(ctx context.Context) (*Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tmp, remove, err := kernel.TempDir("vm")
	if err != nil {
		return nil, fmt.Errorf("a folder for the guest's disks: %w", err)
	}
	defer remove()
	tmp = absolute(tmp)
	disks, err := v.disks(tmp)
	if err != nil {
		return nil, err
	}
	if v.Step == nil {
		v.Step = func(Phase, string) {}
	}
	w := &console.Watcher{}
	log, err := console.Create(v.Console, w.Line)
	if err != nil {
		return nil, err
	}

	port, err := openSerial(tmp)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	defer port.close()
	var monitorConn net.Conn
	reports := make(chan event.Event)
	broken, breakOff := context.WithCancelCause(context.Background())
	defer breakOff(nil)
	g := &guest{console: port.in, qmp: sync.OnceValues(func() (*qmp, error) { return openQMP(monitorConn) }), began: make(chan struct{}), broke: broken.Done(), gone: make(chan struct{})}
	g.printed.first = v.enough
	stderr := &clipped{}
	command, err := v.process(tmp)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	start := time.Now()
	q, err := qemu.StartContext(ctx, qemu.ArchAMD64,
		process(command, tmp), confined(), v.Machine.options(), v.Boot.options(), endOnPanic(), disks, v.counter(), v.root(), v.net(),
		port.options(), monitor(&monitorConn), events(reports, breakOff),
		qemu.WithSerialOutput(stderr))
	if monitorConn != nil {
		defer monitorConn.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("QEMU could not be started: %w", err), log.Close())
	}

	out := &Outcome{Command: v.Command(true), Report: event.NewCollector(v.Program)}
	var readers sync.WaitGroup
	readers.Go(func() { port.copyTo(io.MultiWriter(&g.printed, log), g.gone) })
	readers.Go(func() {
		var bound *pinned
		for {
			var e event.Event
			more := false
			select {
			case e, more = <-reports:
			case <-g.gone:
				// The library closes the channel before it says so, unless it was
				// cancelled before it had begun to listen.
			}
			if !more {
				return
			}
			if out.ReportErr != nil {
				continue
			}
			if out.ReportErr = out.Report.Add(e); out.ReportErr != nil {
				breakOff(out.ReportErr)
				continue
			}
			g.reported.Store(true)
			switch e.Kind {
			case event.KindCheck:
				v.Step(PhaseRunning, e.Check.Name)
			case event.KindEnd:
				v.Step(PhaseEnding, "")
			case event.KindStart:
				out.Boot = time.Since(start)
				switch {
				case v.Machine.Mode == Singlestep:
					out.ReportErr = g.singlestep()
				case v.Pinned:
					bound, out.ReportErr = g.pin()
				}
				if out.ReportErr != nil {
					out.HostFailed = true
					breakOff(out.ReportErr)
				}
				close(g.began)
				v.Step(PhaseRunning, "")
			}
			// A check ends each workload. At the program's end QEMU may be gone already.
			if bound != nil && e.Kind == event.KindCheck {
				bound.update()
				out.Host = bound.metrics()
			}
		}
	})
	var waitErr error
	go func() {
		waitErr = q.Wait()
		close(g.gone)
	}()

	life := &lifetime{pid: childWith(tmp)}
	go endLeft(tmp, life.pid, g.gone)
	out.Ending = g.await(ctx, life, v)
	out.StoodStill, out.Starved = life.still, life.starved
	if out.Ending.Late() {
		if out.Starved >= stillPatience {
			out.QEMUErr = fmt.Errorf("the host was so busy that the guest waited %v for processors; run it again with less beside it", out.Starved.Round(time.Second))
		}
		w.Ask()
		v.Step(PhaseEnding, "")
		out.DumpErr = g.interrogate()
	}
	if out.Ending != Exited {
		cancel()
	}
	<-g.gone
	out.Wall = time.Since(start)
	readers.Wait()
	out.LogErr = log.Close()
	out.Printed = g.printed.Load() > 0
	out.Splats, out.LastLine, out.InitExited, out.Died = w.Splats(), w.Last, w.InitExited, w.Died
	out.InitBegan = w.InitBegan
	out.Dump, out.Places = w.Dump()
	out.PoweredOff, out.RunnerGone, out.SwitchedOff = w.PoweredOff, w.RunnerGone, w.SwitchedOff
	out.Reset = out.Ending == Exited && out.Printed && !w.PoweredOff && !w.InitExited && !w.Died
	if w.DroppedLines && out.LogErr == nil {
		out.LogErr = errors.New("the kernel could not print everything (printk messages dropped)")
	}
	if out.Ending == Exited {
		var exit *exec.ExitError
		if errors.As(waitErr, &exit) {
			out.QEMUErr = fmt.Errorf("QEMU failed (%w): %s", waitErr, stderr)
		} else if line := terminated.FindString(stderr.String()); line != "" {
			// It exits with 0 then.
			out.QEMUErr = fmt.Errorf("somebody terminated QEMU: %s", line)
		} else if out.ReportErr == nil && !errors.Is(waitErr, qevent.ErrEventChannelMissingDoneEvent) {
			out.ReportErr = waitErr
		}
	}
	if out.Ending == BrokenOff && out.ReportErr == nil {
		out.ReportErr = fmt.Errorf("the report broke off while the guest went on: %w", context.Cause(broken))
	}
	if out.ReportErr == nil {
		out.ReportErr = out.Report.Finish()
	}
	if out.ReportErr == nil {
		out.ReportErr = waitErr
	}
	return out, nil
}

// terminated is what QEMU says before it ends on a signal.
var terminated = regexp.MustCompile(`terminating on signal .*`)

// disks makes an image for each device and returns what attaches them.
func (v VM) disks(dir string) (qemu.Fn, error) {
	var attach []qemu.Fn
	for i, d := range v.Devices {
		image := filepath.Join(dir, fmt.Sprintf("disk%d.img", i))
		if err := allocate(image, int64(d.SizeMiB)<<20); err != nil {
			return nil, fmt.Errorf("an image of %d MiB for the guest's disk; free some space or set TMPDIR to another folder: %w", d.SizeMiB, err)
		}
		attach = append(attach, d.attach(image))
	}
	return qemu.All(attach...), nil
}

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
	v.Machine.stepped = v.Machine.Mode == Singlestep
	// By hand, the disks and the report lie in the current folder.
	command, err := v.process(".")
	if err != nil {
		return ""
	}
	fns := []qemu.Fn{bare(command), v.Machine.options(), v.Boot.options(), endOnPanic(), v.root(), v.net(), qemu.WithQEMUArgs("-serial", "mon:stdio")}
	if report {
		fns = append(fns, eventsFile())
	}
	var line []string
	for i, d := range v.Devices {
		image := fmt.Sprintf("disk%d.img", i)
		line = append(line, fmt.Sprintf("truncate -s %dM %s &&", d.SizeMiB, image))
		fns = append(fns, d.attach(image))
	}
	o, err := qemu.OptionsFor(qemu.ArchAMD64, fns...)
	if err != nil {
		return ""
	}
	args, err := o.Cmdline()
	if err != nil {
		return ""
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
