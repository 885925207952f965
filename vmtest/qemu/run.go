package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hugelgupf/vmtest/qemu"
	"github.com/hugelgupf/vmtest/qemu/qevent"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/vmtest/console"
)

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
	port, err := openSerial(tmp)
	if err != nil {
		return nil, err
	}
	defer port.close()
	w := &console.Watcher{}
	log, err := console.Create(v.Console, w.Line)
	if err != nil {
		return nil, err
	}
	g, err := v.start(ctx, tmp, port, disks)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	defer g.close()

	out := &Outcome{Command: v.Command(true), Report: event.NewCollector(v.Program)}
	var readers sync.WaitGroup
	readers.Go(func() { port.copyTo(io.MultiWriter(&g.printed, &g.heeded, log), g.gone) })
	readers.Go(func() { v.listen(g, out) })
	life := &lifetime{pid: childWith(tmp), idle: v.Idle}
	go endLeft(tmp, life.pid, g.gone)
	out.Ending = g.await(ctx, life, v)
	out.StoodStill, out.Starved = life.still, life.starved
	if out.Ending.Late() {
		w.Ask()
		v.Step(PhaseEnding, "")
		out.DumpErr = g.interrogate()
	}
	if out.Ending != Exited {
		cancel()
	}
	<-g.gone
	out.Wall = time.Since(g.start)
	readers.Wait()
	out.LogErr = log.Close()
	out.Printed = g.printed.Load() > 0
	out.see(w)
	out.QEMUErr = out.failure(g, v.Boot.Kernel)
	out.ReportErr = out.distrust(g)
	return out, nil
}

// start starts QEMU, whose guest has the serial port and the disks.
func (v VM) start(ctx context.Context, tmp string, port *serial, disks qemu.Fn) (*guest, error) {
	command, err := v.process(tmp)
	if err != nil {
		return nil, err
	}
	g := &guest{console: port.in, reports: make(chan event.Event), began: make(chan struct{}), told: make(chan struct{}), gone: make(chan struct{})}
	g.broken, g.breakOff = context.WithCancelCause(context.Background())
	g.qmp = sync.OnceValues(func() (*qmp, error) { return openQMP(g.monitor) })
	g.printed.first = v.spoke
	g.start = time.Now()
	q, err := qemu.StartContext(ctx, qemu.ArchAMD64,
		bare(process(command, tmp)), confined(), v.Machine.options(), v.Boot.options(), endOnPanic(), disks, v.counter(), v.root(), v.net(),
		port.options(), monitor(&g.monitor), events(g.reports, g.breakOff),
		qemu.WithSerialOutput(&g.stderr))
	if err != nil {
		g.close()
		return nil, fmt.Errorf("QEMU could not be started: %w", err)
	}
	// It fits into the socket; a QEMU that is gone already is told by Wait.
	_, _ = io.WriteString(g.monitor, negotiate)
	go func() {
		g.waitErr = q.Wait()
		close(g.gone)
	}()
	return g, nil
}

// listen collects the report until it ends, or is not to be trusted any more.
func (v VM) listen(g *guest, out *Outcome) {
	var bound *pinned
	told := false
	for {
		var e event.Event
		more := false
		select {
		case e, more = <-g.reports:
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
			g.breakOff(out.ReportErr)
			continue
		}
		g.reported.Store(true)
		switch e.Kind {
		case event.KindCheck:
			v.Step(PhaseRunning, e.Check.Name)
			if v.Enough != nil && !told && v.Enough(*e.Check) {
				told = true
				close(g.told)
			}
		case event.KindEnd:
			v.Step(PhaseEnding, "")
		case event.KindStart:
			out.Boot = time.Since(g.start)
			switch {
			case v.Machine.Mode == Singlestep:
				out.ReportErr = g.singlestep()
			case v.Pinned:
				bound, out.ReportErr = g.pin()
			}
			if out.ReportErr != nil {
				out.HostFailed = true
				g.breakOff(out.ReportErr)
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
}

// see takes what the console told.
func (out *Outcome) see(w *console.Watcher) {
	out.Splats, out.LastLine = w.Splats(), w.Last
	out.Dump, out.Places = w.Dump()
	out.Died, out.InitBegan, out.InitExited, out.UnpackedInPart = w.Died, w.InitBegan, w.InitExited, w.UnpackedInPart
	out.RunnerGone, out.SwitchedOff = w.RunnerGone, w.SwitchedOff
	out.Reset = out.Ending == Exited && out.Printed && !w.PoweredOff && !w.InitExited && !w.Died
	if w.DroppedLines && out.LogErr == nil {
		out.LogErr = errors.New("the kernel could not print everything (printk messages dropped)")
	}
}

// failure is what went wrong with QEMU itself.
func (out *Outcome) failure(g *guest, image string) error {
	if out.Ending.Late() && out.Starved >= stillPatience {
		return fmt.Errorf("the host was so busy that the guest waited %v for processors; run it again with less beside it", out.Starved.Round(time.Second))
	}
	if out.Ending.Late() && errors.Is(out.DumpErr, errMute) {
		return fmt.Errorf("QEMU ran, and neither the guest nor QEMU itself said anything: %w", out.DumpErr)
	}
	if out.Ending != Exited {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(g.waitErr, &exit) {
		if why := Unloadable(image); why != "" && g.printed.Load() == 0 {
			return fmt.Errorf("what the build left as %s is no kernel: %s; mend the makefile that wrote it, or build it again: rm -r %s (QEMU: %s)", filepath.Base(image), why, filepath.Dir(image), &g.stderr)
		}
		return fmt.Errorf("QEMU failed (%w): %s", g.waitErr, &g.stderr)
	}
	// It exits with 0 then.
	if line := terminated.FindString(g.stderr.String()); line != "" {
		return fmt.Errorf("somebody terminated QEMU: %s", line)
	}
	// A wrapper may end well though QEMU was killed.
	if out.Reset {
		if why := g.why(); why == "" || strings.HasPrefix(why, "host-") {
			return fmt.Errorf("QEMU ended with 0 while the guest ran, and not because of the guest %s", cmp.Or(why, "(its monitor gave no reason)"))
		}
	}
	return nil
}

// terminated is what QEMU says before it ends on a signal.
var terminated = regexp.MustCompile(`terminating on signal .*`)

// distrust is why the report is not to be trusted, the first reason of all.
func (out *Outcome) distrust(g *guest) error {
	switch {
	case out.ReportErr != nil:
		return out.ReportErr
	case out.Ending == Exited && out.QEMUErr == nil && g.waitErr != nil && !errors.Is(g.waitErr, qevent.ErrEventChannelMissingDoneEvent):
		return g.waitErr
	case out.Ending == BrokenOff:
		return fmt.Errorf("the report broke off while the guest went on: %w", context.Cause(g.broken))
	case out.Ending == Enough:
		return nil
	}
	if err := out.Report.Finish(); err != nil {
		return err
	}
	return g.waitErr
}
