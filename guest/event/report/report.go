//go:build linux

// Package report is the guest's half of package event: it runs a program's
// checks, sends what they found to the host and powers the machine off.
package report

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
	"patchproof/guest/machine"
)

// featuresKey is the word of the kernel command line in which the host
// declares what the kernel under test can do.
const featuresKey = "patchproof.features"

// T is a running program. Its methods may be called from any goroutine.
type T struct {
	program  string
	features func() []string

	mu   sync.Mutex
	send func(event.Event)
	seq  int
	// troubled says that a check met machine.Trouble.
	troubled bool
}

// Main runs a program to its end and powers the machine off; it does not
// return. A panic becomes the check "program" with verdict error.
//
// Without the port (a person in a shell) it prints the events instead and
// leaves the machine on. So it does under a bundle's collector, which has a
// descriptor for the events. A machine that the harness did not boot is somebody's
// own: there a program runs under the collector only, which asks first.
func Main(program string, run func(*T)) {
	if fd, err := strconv.Atoi(os.Getenv(event.FDEnv)); err == nil {
		collected(program, run, &port{fd: fd})
	}
	if _, ours := machine.BootOption(machine.ScaleKey); !ours {
		fmt.Fprintf(os.Stderr, "%s: this machine was not booted by patchproof: ./bb collect runs the programs on it, and says before what they do\n", program)
		os.Exit(2)
	}
	port, err := awaitPort(event.Port)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v; printing the results here\n", program, err)
		t := newT(program, printEvent)
		t.run(run)
		os.Exit(0)
	}
	t := newT(program, func(e event.Event) {
		printTrouble(e)
		if err := port.emit(e); err != nil {
			fmt.Fprintf(os.Stderr, "%s: event %d could not be sent: %v\n", program, e.Seq, err)
		}
	})
	t.run(run)
	if err := port.close(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: the end could not be sent: %v\n", program, err)
	}
	// No sync: the disks are scratch, and a stuck request would make it wait
	// for ever.
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Fprintf(os.Stderr, "%s: power-off: %v\n", program, err)
	os.Exit(1)
}

// collected runs the program for the collector and ends.
func collected(program string, run func(*T), to *port) {
	// A child of the program must not keep the collector waiting.
	unix.CloseOnExec(to.fd)
	code := 0
	newT(program, func(e event.Event) {
		if err := to.emit(e); err != nil {
			fmt.Fprintf(os.Stderr, "%s: event %d could not be sent: %v\n", program, e.Seq, err)
			code = 1
		}
	}).run(run)
	os.Exit(code)
}

func newT(program string, send func(event.Event)) *T {
	return &T{program: program, send: send, features: sync.OnceValue(declared)}
}

// declared returns the features that the host declares, nil when it leaves it
// to the program to find out.
func declared() []string {
	value, ok := machine.BootOption(featuresKey)
	if !ok || value == "auto" {
		return nil
	}
	return strings.Split(value, ",")
}

func (t *T) run(run func(*T)) {
	t.emit(event.Event{Kind: event.KindStart, Program: t.program})
	if err := machine.Recovered(func() error { run(t); return nil }); err != nil {
		t.check("program", event.Error, err.Error())
	}
	t.leaks()
	t.emit(event.Event{Kind: event.KindEnd, Program: t.program})
}

// leaks checks that the kernel has lost no memory, where kmemleak was switched
// on for the program.
func (t *T) leaks() {
	if value, _ := machine.BootOption("kmemleak"); value != "on" {
		return
	}
	start := time.Now()
	report, err := machine.Leaks()
	t.Metric("leak_scan", time.Since(start).Seconds(), "s", nil)
	switch {
	case err != nil:
		t.Error("leaks", err)
	case report != "":
		t.check("leaks", event.Fail, report)
	default:
		t.Check("leaks", nil)
	}
}

// Check reports a check: pass when err is nil, error when it is machine.Trouble,
// else fail with its text. It returns whether the check passed. What fails after
// trouble is an error too: a CPU that is not there any more, or a ring that nobody
// closed, is not the kernel's fault.
func (t *T) Check(name string, err error) bool {
	if err == nil {
		t.check(name, event.Pass, "")
		return true
	}
	verdict := event.Fail
	if t.trouble(err) {
		verdict = event.Error
	}
	t.check(name, verdict, err.Error())
	return false
}

// trouble says whether this or an earlier error is machine.Trouble.
func (t *T) trouble(err error) bool {
	_, is := errors.AsType[machine.Trouble](err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.troubled = t.troubled || is
	return t.troubled
}

// Within runs f on a thread of its own and reports it as Check does. When f
// has not returned after limit (see machine.Patience) the check is a hang, with the kernel stacks of
// the tasks that may be stuck, and f is left behind.
//
// The thread ends with f: the kernel may keep a file open for each thread that has used
// it until that thread ends (v5.10 does so with rings), so a goroutine that moves
// between threads would leave it behind.
func (t *T) Within(limit time.Duration, name string, f func() error) bool {
	limit = machine.Patience(limit)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends
		done <- machine.Recovered(f)
	}()
	select {
	case err := <-done:
		return t.Check(name, err)
	case <-time.After(limit):
		t.Hang(name, fmt.Sprintf("still running after %v\n%s", limit, machine.StuckTasks()))
		return false
	}
}

// Hang reports a check that did not come to an end; detail says where it is
// stuck.
func (t *T) Hang(name, detail string) { t.check(name, event.Hang, detail) }

// Error reports a check that could not be made because of the harness's own
// trouble (a device that is missing, say).
func (t *T) Error(name string, err error) { t.check(name, event.Error, err.Error()) }

// FeatureValue is what the kernel is declared to have of a feature that has a value,
// name=value.
func FeatureValue(name string) (value string, ok bool) {
	for _, feature := range declared() {
		if value, ok := strings.CutPrefix(feature, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// Skip reports a check that was not made because the kernel lacks feature.
// On a kernel that is declared to have it, that is a failure.
func (t *T) Skip(name, feature, why string) {
	if slices.Contains(t.features(), feature) {
		t.check(name, event.Fail, fmt.Sprintf("skipped (%s), but the kernel is declared to have %s", why, feature))
		return
	}
	t.check(name, event.Skip, why)
}

// Feature says whether the kernel is declared to have the feature. When known
// is false the host left it to the program to find out.
func (t *T) Feature(name string) (has, known bool) {
	return slices.Contains(t.features(), name), t.features() != nil
}

// Metric reports a measured figure; labels may be nil.
func (t *T) Metric(name string, value float64, unit string, labels map[string]string) {
	t.emit(event.Event{Kind: event.KindMetric, Metric: &event.Metric{Name: name, Value: value, Unit: unit, Labels: labels}})
}

// Logf reports a line for people.
func (t *T) Logf(format string, args ...any) {
	t.emit(event.Event{Kind: event.KindLog, Text: clip(fmt.Sprintf(format, args...))})
}

// File sends back a piece of a file, which the host puts behind those that came
// before; data may be no longer than FilePart.
func (t *T) File(name string, data []byte) {
	t.emit(event.Event{Kind: event.KindFile, File: &event.FilePart{Name: name, Data: data}})
}

// Tested says that a user's test has ended.
func (t *T) Tested() { t.emit(event.Event{Kind: event.KindTested}) }

// FilePart is the largest piece of a file that fits into a line of the host's reader,
// which is a bufio.Scanner.
const FilePart = 24 << 10

// Verdict reports a check whose verdict the program knows by other means than an error:
// what a user's test said of itself.
func (t *T) Verdict(name string, v event.Verdict, detail string) { t.check(name, v, detail) }

func (t *T) check(name string, v event.Verdict, detail string) {
	t.emit(event.Event{Kind: event.KindCheck, Check: &event.Check{Name: name, Verdict: v, Detail: clip(detail)}})
}

// emit numbers the event and sends it. Sending under the lock keeps the
// numbers in order on the wire.
func (t *T) emit(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.Seq = t.seq
	e.UptimeS = machine.Uptime().Seconds()
	if e.Kind == event.KindEnd {
		e.Count = t.seq
	}
	t.seq++
	t.send(e)
}

// textLimit keeps a line below the 64 KiB at which the host's bufio.Scanner
// gives up, with every byte escaped to six.
const textLimit = 10_000

func clip(s string) string {
	if len(s) <= textLimit {
		return s
	}
	return strings.ToValidUTF8(s[:textLimit], "") + "\n(cut)"
}

// printTrouble repeats on the console what did not pass, so that the console
// log alone tells where a splat belongs.
func printTrouble(e event.Event) {
	if e.Check == nil || e.Check.Verdict == event.Pass || e.Check.Verdict == event.Skip {
		return
	}
	printEvent(e)
}

func printEvent(e event.Event) {
	switch e.Kind {
	case event.KindCheck:
		fmt.Printf("%-5s %s %s\n", e.Check.Verdict, e.Check.Name, strings.ReplaceAll(e.Check.Detail, "\n", "\n      "))
	case event.KindMetric:
		fmt.Printf("      %s %g %s %v\n", e.Metric.Name, e.Metric.Value, e.Metric.Unit, e.Metric.Labels)
	case event.KindLog:
		fmt.Printf("      %s\n", e.Text)
	}
}
