package qemu

import (
	"context"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"patchproof/guest/event"
)

// guest is a running VM as the harness sees it.
type guest struct {
	console *os.File
	// start is when QEMU was started, waitErr what it ended with, stderr what it printed.
	start   time.Time
	waitErr error
	stderr  clipped
	// monitor is the connection to QEMU's monitor, which qmp opens, once.
	monitor net.Conn
	qmp     func() (*qmp, error)
	// reports brings the program's report. broken, which breakOff ends, is done when nothing
	// that can be trusted comes any more.
	reports  chan event.Event
	broken   context.Context
	breakOff context.CancelCauseFunc
	// printed counts the bytes on the console, heeded what the kernel says there of keys.
	printed counter
	heeded  heeded
	// began is closed at the program's first event, told at a check behind which nothing needs
	// to be known, gone when QEMU has ended and everything that it wrote has been read.
	began, told, gone chan struct{}
	// reported says that an event has come since it was looked at last.
	reported atomic.Bool
}

// close gives up what start holds for the guest.
func (g *guest) close() {
	g.breakOff(nil)
	if g.monitor != nil {
		g.monitor.Close()
	}
}

// await returns at the first ending.
func (g *guest) await(ctx context.Context, life *lifetime, v VM) Ending {
	began, broke := g.began, g.broken.Done()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	life.begin()
	left := v.BootDeadline
	for {
		select {
		case <-ctx.Done():
			return Cancelled
		case <-g.gone:
			// The terminal's Ctrl-C reaches QEMU as well.
			if ctx.Err() != nil {
				return Cancelled
			}
			return Exited
		case <-g.told:
			return Enough
		case <-began:
			began = nil
			left = v.Deadline
		case <-broke:
			// So it does when QEMU ends, a little before.
			began, broke = nil, nil
			left = endPatience
		case <-ticker.C:
			left -= life.passed()
			if g.reported.Swap(false) && v.Renewed && began == nil && broke != nil {
				left = v.Deadline
			}
			if left > 0 && life.still < stillPatience && life.starved < stillPatience {
				continue
			}
			if broke == nil {
				return BrokenOff
			}
			if began == nil {
				return Stuck
			}
			if g.printed.Load() == 0 {
				return Silent
			}
			return BootStuck
		}
	}
}

// endPatience is how long QEMU may take to end, once it has closed the report's
// channel.
const endPatience = 10 * time.Second

const (
	// answerPatience is how long a stuck guest may be silent before it says that it heeds a
	// key, floodPatience how long it may print other things.
	answerPatience = 5 * time.Second
	floodPatience  = 10 * time.Second
	// quiet is the silence after which nothing more is expected, dumpPatience
	// how long all dumps may take.
	quiet        = time.Second
	dumpPatience = 30 * time.Second
)

// interrogate makes a stuck guest print where its tasks are: through the magic
// sysrq keys on its serial port (a break, then the key; the kernel's
// Documentation/admin-guide/sysrq.rst), and if nothing answers through an NMI,
// on which the kernel panics with the stack of the processor.
//
// The kernel heeds a key when it is done with the one before, so that its word
// of that says that a dump is whole, whatever else the guest prints.
func (g *guest) interrogate() error {
	m, err := g.qmp()
	if err != nil {
		return err
	}
	// 8: print everything on the console, because u-root's init lowers the
	// level below that of the dumps. w: blocked tasks. t: all tasks, since one
	// may well be stuck without being blocked. l: the processors' stacks. 8 once more
	// ends them.
	end := time.Now().Add(dumpPatience)
	patience := floodPatience
	for _, key := range "8wtl8" {
		said, printed := g.heeded.n.Load(), g.printed.Load()
		if err := m.execute("chardev-send-break", map[string]any{"id": "console"}); err != nil {
			return err
		}
		g.console.SetWriteDeadline(time.Now().Add(answerPatience))
		if _, err := g.console.Write([]byte(string(key))); err != nil {
			return fmt.Errorf("sysrq over the console: %w", err)
		}
		if !g.answers(said, printed, time.Now().Add(patience)) {
			if err := m.execute("inject-nmi", nil); err != nil {
				return err
			}
			g.settle(end)
			return nil
		}
		patience = time.Until(end)
	}
	g.settle(time.Now().Add(2 * quiet))
	return nil
}

// why is QEMU's reason for the end of the guest, once it has ended: empty where it told none.
func (g *guest) why() string {
	m, err := g.qmp()
	if err != nil {
		return ""
	}
	m.conn.SetDeadline(time.Now().Add(qmpPatience))
	// There is no answer any more, only what it told before.
	_, _ = m.answer("")
	return m.why
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

// answers waits until the guest says that it heeds one key more than those it has, and returns
// false when it is silent instead, does not say so until end, or is gone. One that printed
// something and then stopped has answered in words that are not known.
func (g *guest) answers(said, printed int64, end time.Time) bool {
	last, since := printed, time.Now()
	for time.Now().Before(end) {
		if g.heeded.n.Load() > said {
			return true
		}
		select {
		case <-g.gone:
			return false
		case <-time.After(quiet / 20):
		}
		if now := g.printed.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) >= answerPatience {
			return last != printed
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

// counter counts the bytes written to it, and calls first at the first of them.
type counter struct {
	atomic.Int64
	first func()
}

func (c *counter) Write(p []byte) (int, error) {
	if n := int64(len(p)); c.Add(n) == n && c.first != nil {
		c.first()
	}
	return len(p), nil
}

// heeded counts the sysrq keys that a kernel says, on its console, that it heeds
// (drivers/tty/sysrq.c).
type heeded struct {
	n    atomic.Int64
	tail []byte
}

// heeds is what it says of the keys that show something, and of that for the level.
var heeds = regexp.MustCompile(`sysrq: (?:Show |Loglevel )`)

func (h *heeded) Write(p []byte) (int, error) {
	text := append(h.tail, p...)
	at := 0
	for _, m := range heeds.FindAllIndex(text, -1) {
		h.n.Add(1)
		at = m[1]
	}
	// The words may come in two pieces.
	h.tail = slices.Clone(text[max(at, len(text)-len("sysrq: Loglevel")):])
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
	return event.PrintableLines(strings.TrimSpace(string(c.text)))
}
