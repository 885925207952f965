//go:build linux

package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Task is a thread, of the kernel or of a process, and where it is.
type Task struct {
	TID   string
	Name  string
	State string
	// Stack is the kernel stack as /proc/<tid>/stack shows it, innermost
	// function first; empty while the task runs.
	Stack string
}

func (t Task) String() string {
	return fmt.Sprintf("%s (%s) state %s\n%s", t.Name, t.TID, t.State, t.Stack)
}

// Tasks lists every thread but those that end while it looks.
func Tasks() []Task { return tasks("/proc/[0-9]*/task/[0-9]*/stat", "") }

// tasks reads the threads whose stat files match the pattern and whose names
// start with the prefix. The stack comes last, as it costs most.
func tasks(pattern, prefix string) []Task {
	stats, _ := filepath.Glob(pattern)
	var tasks []Task
	for _, path := range stats {
		name, state := nameAndState(path)
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		dir := filepath.Dir(path)
		stack, err := os.ReadFile(filepath.Join(dir, "stack"))
		if err != nil {
			continue
		}
		tasks = append(tasks, Task{TID: filepath.Base(dir), Name: name, State: state, Stack: string(stack)})
	}
	return tasks
}

// nameAndState reads /proc/<pid>/stat (proc(5)): the name stands between the
// first "(" and the last ")", the state letter after it.
func nameAndState(path string) (name, state string) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "?", "?"
	}
	_, rest, _ := strings.Cut(string(b), "(")
	end := strings.LastIndex(rest, ")")
	if end < 0 || len(rest) < end+3 {
		return "?", "?"
	}
	return rest[:end], rest[end+2 : end+3]
}

// KernelTasksIn lists the kernel's threads whose names start with the prefix and
// that have the function on their stack, whatever their state. (Each is its own
// process, so that the other threads of processes need not be looked at.)
func KernelTasksIn(prefix, function string) []Task {
	var in []Task
	for _, t := range tasks("/proc/[0-9]*/stat", prefix) {
		if strings.Contains(t.Stack, " "+function+"+") {
			in = append(in, t)
		}
	}
	return in
}

// Await tries until there is no error or the limit has passed, which is longer where the machine is
// slow (Patience), and returns the last error.
func Await(limit time.Duration, try func() error) error {
	return AwaitUntil(time.Now().Add(Patience(limit)), try)
}

// AwaitUntil is Await with a deadline.
func AwaitUntil(deadline time.Time, try func() error) error {
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// suspects are words on a task's stack that make it one that a hang may be about,
// although it sleeps interruptibly.
var suspects = []string{"blk_"}

// Suspect adds a word to the suspects: a package for a part of the kernel does so in
// its init.
func Suspect(word string) { suspects = append(suspects, word) }

// StuckTasks describes the tasks that a hang may be about: those in
// uninterruptible sleep and those with a suspect on their stack.
func StuckTasks() string {
	var b strings.Builder
	for _, t := range Tasks() {
		if t.State == "D" || slices.ContainsFunc(suspects, func(word string) bool { return strings.Contains(t.Stack, word) }) {
			b.WriteString(t.String())
		}
	}
	if b.Len() == 0 {
		return "no task is in uninterruptible sleep or has a suspect on its stack"
	}
	return b.String()
}

// Sleeps counts how often the kernel's thread of that name has gone to sleep, and
// says whether it sleeps now. One that was woken does not, also while it waits for
// a processor.
func Sleeps(name string) (times int, asleep bool, err error) {
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, false, err
	}
	for _, path := range comms {
		if comm, err := os.ReadFile(path); err == nil && string(comm) == name+"\n" {
			status := filepath.Join(filepath.Dir(path), "status")
			b, err := os.ReadFile(status)
			if err != nil {
				return 0, false, err
			}
			times, err := numberIn(status, "voluntary_ctxt_switches:")
			return times, strings.Contains(string(b), "\nState:\tS"), err
		}
	}
	return 0, false, fmt.Errorf("no task is called %s", name)
}
