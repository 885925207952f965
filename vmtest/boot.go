package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hugelgupf/vmtest/qemu"
	"github.com/hugelgupf/vmtest/qemu/qevent"

	"patchproof/guest/event"
	"patchproof/vmtest/console"
)

// vm is one guest to boot.
type vm struct {
	Machine machine
	Boot    bootFrom
	Devices []Device
	// Program is the program whose report is awaited.
	Program string
	// BootDeadline is for the way from QEMU's start to the program's first
	// event, Deadline for the way from there to its last.
	BootDeadline, Deadline time.Duration
	// Console is the path of the console's log.
	Console string
	// Counter and Counts are as in CellSpec.
	Counter, Counts string
	// Pinned binds the guest's processors to the host's from the program's first
	// event on, and has the host's trouble with them recorded.
	Pinned bool
	// enough, when set, is called at the program's first event.
	enough func()
	// step, when set, is told of the phases after the boot and of each check.
	step func(phase Phase, check string)
}

// ending is what ended a VM.
type ending int

const (
	// exited: QEMU ended by itself, which a guest brings about by powering off
	// or by a panic.
	exited ending = iota
	// silent: the guest printed nothing at all before the boot's deadline.
	silent
	// bootStuck: the program had not begun at the boot's deadline.
	bootStuck
	// stuck: the program had not ended at its deadline.
	stuck
	// brokenOff: the report broke off, or is not to be trusted, and the guest went on.
	brokenOff
	// cancelled: the harness was told to stop.
	cancelled
)

// late says that the guest was past one of its deadlines.
func (e ending) late() bool { return e == silent || e == bootStuck || e == stuck }

// outcome is all that is known of a VM after its end.
type outcome struct {
	Ending ending
	// Boot is the time from QEMU's start to the program's first event, zero if
	// there was none. Wall is the life of QEMU.
	Boot, Wall time.Duration
	Report     *event.Collector
	// ReportErr says why the report is not to be trusted.
	ReportErr error
	Splats    []console.Splat
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
	// InitExited says that the program ended without powering the guest off.
	InitExited bool
	// Printed says that the guest printed at least one byte.
	Printed bool
	// QEMUErr is a failure of QEMU itself, with what it printed.
	QEMUErr error
	// LogErr is a failure to write the console log.
	LogErr error
	// Command is the command line that runs this guest again.
	Command string
}

// run boots the guest and stays until nothing of it is left. The error says
// that the harness could not even start it.
func (v vm) run(ctx context.Context) (*outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tmp, err := os.MkdirTemp("", "patchproof-vm-")
	if err != nil {
		return nil, fmt.Errorf("a folder for the guest's disks: %w", err)
	}
	defer os.RemoveAll(tmp)
	disks, err := v.disks(tmp)
	if err != nil {
		return nil, err
	}
	if v.step == nil {
		v.step = func(Phase, string) {}
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
	stderr := &clipped{}
	start := time.Now()
	q, err := qemu.StartContext(ctx, qemu.ArchAMD64,
		process(), v.Machine.options(), v.Boot.options(), endOnPanic(), disks, v.counter(),
		port.options(), monitor(&monitorConn), events(reports, breakOff),
		qemu.WithSerialOutput(stderr))
	if monitorConn != nil {
		defer monitorConn.Close()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("QEMU could not be started: %w", err), log.Close())
	}

	out := &outcome{Command: v.command(eventsFile()), Report: event.NewCollector(v.Program)}
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
			switch e.Kind {
			case event.KindCheck:
				v.step(Running, e.Check.Name)
			case event.KindEnd:
				v.step(Ending, "")
			case event.KindStart:
				out.Boot = time.Since(start)
				switch {
				case v.Machine.Mode == Singlestep:
					out.ReportErr = g.singlestep()
				case v.Pinned:
					bound, out.ReportErr = g.pin()
				}
				if out.ReportErr != nil {
					breakOff(out.ReportErr)
				}
				close(g.began)
				v.step(Running, "")
				if v.enough != nil {
					v.enough()
				}
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

	out.Ending = g.await(ctx, v.BootDeadline, v.Deadline)
	if out.Ending.late() {
		w.Ask()
		v.step(Ending, "")
		out.DumpErr = g.interrogate()
	}
	if out.Ending != exited {
		cancel()
	}
	<-g.gone
	out.Wall = time.Since(start)
	readers.Wait()
	out.LogErr = log.Close()
	out.Printed = g.printed.Load() > 0
	out.Splats, out.LastLine, out.InitExited, out.Died = w.Splats(), w.Last, w.InitExited, w.Died
	out.Dump, out.Places = w.Dump()
	out.Reset = out.Ending == exited && out.Printed && !w.PoweredOff && !w.InitExited && !w.Died
	if w.DroppedLines && out.LogErr == nil {
		out.LogErr = errors.New("the kernel could not print everything (printk messages dropped)")
	}
	if out.Ending == exited {
		var exit *exec.ExitError
		if errors.As(waitErr, &exit) {
			out.QEMUErr = fmt.Errorf("QEMU failed (%w): %s", waitErr, stderr)
		} else if out.ReportErr == nil && !errors.Is(waitErr, qevent.ErrEventChannelMissingDoneEvent) {
			out.ReportErr = waitErr
		}
	}
	if out.Ending == brokenOff && out.ReportErr == nil {
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

// disks makes an image for each device and returns what attaches them.
func (v vm) disks(dir string) (qemu.Fn, error) {
	var attach []qemu.Fn
	for i, d := range v.Devices {
		image := filepath.Join(dir, fmt.Sprintf("disk%d.img", i))
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			return nil, fmt.Errorf("an image for the guest's disk: %w", err)
		}
		if err := os.Truncate(image, int64(d.SizeMiB)<<20); err != nil {
			return nil, fmt.Errorf("an image for the guest's disk: %w", err)
		}
		attach = append(attach, d.attach(image))
	}
	return qemu.All(attach...), nil
}

// counter loads the plugin that counts instructions.
func (v vm) counter() qemu.Fn {
	if v.Counter == "" {
		return qemu.All()
	}
	return qemu.WithQEMUArgs("-plugin", v.Counter+",out="+v.Counts)
}

// eventsFile keeps the program's report in a file. Without it a program prints
// its report and leaves the guest on.
func eventsFile() qemu.Fn {
	return qemu.WithQEMUArgs(
		"-device", "virtio-serial", "-chardev", "file,id=events,path=events.json",
		"-device", "virtserialport,chardev=events,name="+event.Port)
}

// command is a line for a shell that boots the same guest by hand, with the
// console on the terminal.
func (v vm) command(report qemu.Fn) string {
	v.Machine.stepped = v.Machine.Mode == Singlestep
	fns := []qemu.Fn{bare(qemuBinary), v.Machine.options(), v.Boot.options(), endOnPanic(), qemu.WithQEMUArgs("-serial", "mon:stdio"), report}
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
		if strings.ContainsAny(arg, " \t'\"$&;()<>|*?") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		line = append(line, arg)
	}
	return strings.Join(line, " ")
}

// guest is a running VM as the harness sees it.
type guest struct {
	console *os.File
	// qmp opens QEMU's monitor, once.
	qmp func() (*qmp, error)
	// printed counts the bytes on the console.
	printed counter
	// began is closed at the program's first event, broke when nothing that can be
	// trusted comes any more, gone when QEMU has ended and everything that it wrote
	// has been read.
	began, gone chan struct{}
	broke       <-chan struct{}
}

// await returns at the first ending.
func (g *guest) await(ctx context.Context, boot, program time.Duration) ending {
	began, broke := g.began, g.broke
	deadline := time.After(boot)
	for {
		select {
		case <-ctx.Done():
			return cancelled
		case <-g.gone:
			// The terminal's Ctrl-C reaches QEMU as well.
			if ctx.Err() != nil {
				return cancelled
			}
			return exited
		case <-began:
			began = nil
			deadline = time.After(program)
		case <-broke:
			// So it does when QEMU ends, a little before.
			began, broke = nil, nil
			deadline = time.After(endPatience)
		case <-deadline:
			if broke == nil {
				return brokenOff
			}
			if began == nil {
				return stuck
			}
			if g.printed.Load() == 0 {
				return silent
			}
			return bootStuck
		}
	}
}

// endPatience is how long QEMU may take to end, once it has closed the report's
// channel.
const endPatience = 10 * time.Second

const (
	// answerPatience is how long a stuck guest may take to react to a key.
	answerPatience = 5 * time.Second
	// quiet is the silence after which a dump counts as whole, dumpPatience
	// how long all of them may take.
	quiet        = time.Second
	dumpPatience = 30 * time.Second
)

// interrogate makes a stuck guest print where its tasks are: through the magic
// sysrq keys on its serial port (a break, then the key; the kernel's
// Documentation/admin-guide/sysrq.rst), and if nothing answers through an NMI,
// on which the kernel panics with the stack of the processor.
func (g *guest) interrogate() error {
	m, err := g.qmp()
	if err != nil {
		return err
	}
	// 8: print everything on the console, because u-root's init lowers the
	// level below that of the dumps. w: blocked tasks. t: all tasks, since one
	// may well be stuck without being blocked. l: the processors' stacks.
	end := time.Now().Add(dumpPatience)
	for _, key := range "8wtl" {
		before := g.printed.Load()
		if err := m.execute("chardev-send-break", map[string]any{"id": "console"}); err != nil {
			return err
		}
		g.console.SetWriteDeadline(time.Now().Add(answerPatience))
		if _, err := g.console.Write([]byte(string(key))); err != nil {
			return fmt.Errorf("sysrq over the console: %w", err)
		}
		if !g.answered(before) {
			if err := m.execute("inject-nmi", nil); err != nil {
				return err
			}
			g.settle(end)
			return nil
		}
		if key != '8' {
			g.settle(end)
		}
	}
	return nil
}

// singlestep makes each instruction a translation block of its own from now on.
func (g *guest) singlestep() error {
	m, err := g.qmp()
	if err != nil {
		return err
	}
	command := "singlestep on"
	if oneInsnPerTB() {
		command = "one-insn-per-tb on"
	}
	return m.execute("human-monitor-command", map[string]any{"command-line": command})
}

// answered waits until the guest prints something.
func (g *guest) answered(before int64) bool {
	for end := time.Now().Add(answerPatience); time.Now().Before(end); {
		if g.printed.Load() != before {
			return true
		}
		select {
		case <-g.gone:
			return false
		case <-time.After(quiet / 20):
		}
	}
	return false
}

// settle waits until the guest has been quiet for a while or is gone, but not
// beyond end.
func (g *guest) settle(end time.Time) {
	last, since := g.printed.Load(), time.Now()
	for time.Now().Before(end) {
		select {
		case <-g.gone:
			return
		case <-time.After(quiet / 20):
		}
		if now := g.printed.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) >= quiet {
			return
		}
	}
}

// counter counts the bytes written to it.
type counter struct{ atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.Add(int64(len(p)))
	return len(p), nil
}

// clipped keeps the first part of what QEMU prints about itself.
type clipped struct {
	mu   sync.Mutex
	text []byte
}

func (c *clipped) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p[:min(len(p), 4<<10-len(c.text))]...)
	return len(p), nil
}

func (c *clipped) Close() error { return nil }

func (c *clipped) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return console.PrintableLines(strings.TrimSpace(string(c.text)))
}
