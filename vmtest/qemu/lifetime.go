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
	// stillPatience is how long a guest may be stopped by somebody.
	stillPatience = 15 * time.Minute
)

// lifetime counts the time that a guest has had: not that in which the harness and
// its guests were stopped (Ctrl-Z, a laptop that sleeps), nor that in which somebody
// stopped QEMU alone.
type lifetime struct {
	pid   int
	last  time.Duration
	still time.Duration
}

func (l *lifetime) begin() { l.last = bootTime() }

// passed returns what of the time since the last call counts.
func (l *lifetime) passed() time.Duration {
	now := bootTime()
	gap := now - l.last
	l.last = now
	if gap > standstill || slices.ContainsFunc(append(children(l.pid), l.pid), stopped) {
		l.still += gap
		return 0
	}
	return gap
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
	for _, pid := range children(os.Getpid()) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(line, []byte(word)) {
			return pid
		}
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
