package qemu

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tick is how often the time that a guest has had is counted, standstill the
	// pause between two ticks from which on the harness itself was stopped.
	tick       = 100 * time.Millisecond
	standstill = 3 * time.Second
	// stillPatience is how long a guest may be stopped by somebody, and how long
	// it may wait for processors.
	stillPatience = 15 * time.Minute
)

// lifetime counts the time that a guest has had: not that in which the harness and
// its guests were stopped (Ctrl-Z, a laptop that sleeps), nor that in which somebody
// stopped QEMU alone, nor that in which it wanted to run and the host's processors
// were busy with others.
type lifetime struct {
	pid  int
	last time.Duration
	// still is the time in which it was stopped, starved that in which it waited for
	// processors.
	still, starved time.Duration
	// idle, when set, is told in each window whether the guest does next to nothing.
	idle func(bool)
	// Of the present window: its beginning, the processes and what each of their threads had had
	// by then, and how much of it the guest has had so far.
	since     time.Duration
	processes []int
	spent     map[string]spent
	had       time.Duration
}

// spent is how long a thread has run so far, and how long it has waited for a processor.
type spent struct{ ran, waited time.Duration }

const (
	// window is the time over which a thread's wait for a processor is added up: many times
	// as long as a host lets one wait that shares its processors fairly.
	window = 2 * time.Second
	// idlePart is the part of a window, as a divisor, which the threads of a guest run
	// together while it only waits. Its ticks, and QEMU's own, take a fraction of that.
	idlePart = 5
)

func (l *lifetime) begin() {
	l.last = bootTime()
	l.open()
}

// open begins a window.
func (l *lifetime) open() {
	l.since, l.had = l.last, 0
	l.processes = append(children(l.pid), l.pid)
	l.spent = map[string]spent{}
	for _, pid := range l.processes {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, thread := range threads {
			if s, ok := spentBy(thread); ok {
				l.spent[thread] = s
			}
		}
	}
}

// passed returns what of the time since the last call counts, less than nothing when
// a thread that had waited longer than that has run now.
func (l *lifetime) passed() time.Duration {
	now := bootTime()
	gap := now - l.last
	l.last = now
	if gap > standstill || slices.ContainsFunc(l.processes, stopped) {
		l.still += gap
		l.open()
		return 0
	}
	// The guest is no faster than the slowest of its threads.
	var longest, ran time.Duration
	for thread, before := range l.spent {
		if s, ok := spentBy(thread); ok {
			longest = max(longest, s.waited-before.waited)
			ran += s.ran - before.ran
		}
	}
	had := max(0, now-l.since-longest)
	passed := had - l.had
	l.had = had
	l.starved += gap - passed
	if now-l.since >= window {
		if l.idle != nil {
			l.idle(len(l.spent) > 0 && ran+longest < (now-l.since)/idlePart)
		}
		l.open()
	}
	return passed
}

// spentBy reads what a thread has had so far (Documentation/scheduler/sched-stats.rst: the
// first two numbers of schedstat, in nanoseconds). A wait is added up when it is over. A host
// whose kernel does not count this has no such file.
func spentBy(schedstat string) (s spent, ok bool) {
	text, err := os.ReadFile(schedstat)
	if err != nil {
		return s, false
	}
	words := strings.Fields(string(text))
	if len(words) < 2 {
		return s, false
	}
	ran, ranErr := strconv.ParseInt(words[0], 10, 64)
	waited, waitedErr := strconv.ParseInt(words[1], 10, 64)
	return spent{time.Duration(ran), time.Duration(waited)}, ranErr == nil && waitedErr == nil
}

// bootTime is a clock that goes on while the host sleeps, and which nobody sets.
func bootTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// stopped says that a process was sent SIGSTOP, or is traced.
func stopped(pid int) bool {
	if pid == 0 {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// pid (name) state ...; a name may hold anything.
	_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
	return strings.HasPrefix(rest, "T") || strings.HasPrefix(rest, "t")
}

// childWith returns the process that this one started with a word on its command
// line, which the library keeps to itself, or 0.
func childWith(word string) int {
	// A process that is becoming another program has no command line for a moment.
	for range 10 {
		for _, pid := range children(os.Getpid()) {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if bytes.Contains(line, []byte(word)) {
				return pid
			}
		}
		time.Sleep(tick / 10)
	}
	return 0
}

// children are the processes that one has started: of a sandbox, what runs in it.
func children(pid int) []int {
	var all []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, id := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(id); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}
