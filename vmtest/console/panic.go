package console

import (
	"cmp"
	"regexp"
	"strings"
)

// panicHead is what a panic begins with, before what it is for.
const panicHead = "Kernel panic - not syncing: "

// initLast is in the BUG() of a kernel without CONFIG_PID_NS whose init ends as in initExit while
// one of init's threads is the last to go. That is beside the panic, before or after it
// (find_child_reaper in kernel/exit.c, since v5.6), and nothing else comes to that line.
const initLast = "include/linux/pid_namespace.h:"

var (
	// initExit is the panic that follows when init ends by itself, with whatever
	// status, and not by a signal: u-root's init does when its program has ended
	// without powering the machine off. That is no fault of the kernel of a guest; of any
	// other it is not known what its init had for it.
	initExit = regexp.MustCompile(`^Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000[0-9a-f]{2}00`)
	// inPanic is where panic() stands on a stack, notSyncing and exitCode what is left of its line.
	inPanic    = regexp.MustCompile(`^ +v?panic\+0x`)
	notSyncing = regexp.MustCompile(`not syncing: (.+)`)
	exitCode   = regexp.MustCompile(`exitcode=0x[0-9a-f]{8}()`)
)

// unheeded says that a line is not looked at any further: it tells that init has ended, or is
// of a flood. The first panic is heeded in a flood as well.
func (w *Watcher) unheeded(caller, text string) bool {
	if w.lastOfInit != nil && caller == *w.lastOfInit {
		return true
	}
	if w.asking.guest || !w.asking.log {
		last := strings.HasPrefix(text, "kernel BUG at ") && strings.Contains(text, initLast)
		if last {
			w.lastOfInit = &caller
		}
		if last || initExit.MatchString(text) {
			w.InitExited = true
			w.closeAll()
			return true
		}
	}
	flooded := w.work >= mostWork
	if !strings.HasPrefix(text, panicHead) {
		return flooded
	}
	again := w.Died
	w.Died = true
	return flooded && again
}

// tornPanic finds what a panic was for, from where panic() stands on a stack, if the panic itself could
// not be read. A kernel that goes down prints without the port's lock (oops_in_progress in
// serial8250_console_write): bytes that another processor just sends for a program come to stand in the
// middle of its line.
func (w *Watcher) tornPanic(caller, text string) string {
	if w.Died || w.InitExited || !inPanic.MatchString(text) || w.reader(caller) != nil {
		return ""
	}
	for _, said := range []*regexp.Regexp{notSyncing, exitCode} {
		for _, line := range w.printed.lines {
			if m := said.FindStringSubmatch(line); m != nil {
				return panicHead + cmp.Or(m[1], "Attempted to kill init! "+m[0])
			}
		}
	}
	return panicHead + "its line cannot be read"
}
