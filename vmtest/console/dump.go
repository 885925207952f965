package console

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The lines of the answers to sysrq-w, -l and -t, without their timestamps
// (kernel/sched/core.c, sched_show_task; kernel/sched/debug.c;
// arch/x86/kernel/process_64.c, __show_regs).
var (
	taskHead = regexp.MustCompile(`^task:(.+?) +state:(\S).* pid: *(\d+) +(?:tgid: *\d+ +)?ppid: *(\d+)`)
	// frame is a line of a stack, which names a function. A "?" marks what
	// only may be one.
	frame = regexp.MustCompile(`^ (\? )?([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+`)
	// part is the beginning or the end of one, since 5.16 of a task's, too.
	part      = regexp.MustCompile(`^ </?(?:TASK|IRQ|NMI|SOFTIRQ|#\w+|ENTRY_TRAMPOLINE)>$`)
	registers = regexp.MustCompile(`^(?:R(?:[A-D]X|[SB]P|[SD]I|[01][0-9]): |RIP: 0033|[CF]S: |CR[0-9]: |Code: )`)
)

// task is what a stuck guest printed about one of its tasks.
type task struct {
	// name, state, pid and ppid are as in its first line: uinit, S, 35, 1.
	name, state, pid, ppid string
	lines                  []string
	// stack are the functions that are surely on its stack, innermost first.
	stack []string
}

// digest shortens what a stuck guest printed about all of its tasks to what may
// tell something: registers, the scheduler's statistics, and kernel threads that
// wait for work in their own loop are left out. The console log has everything.
// places says in short where the other tasks are.
func digest(dump string) (text, places string) {
	var kept []string
	var tasks []*task
	var now *task
	statistics := false
	end := func() {
		if now != nil && !idle(now.stack) {
			kept, tasks = append(kept, now.lines...), append(tasks, now)
		}
		now = nil
	}
	for line := range strings.Lines(dump) {
		line = strings.TrimSuffix(line, "\n")
		_, _, text, ok := stamped(line)
		if !ok {
			continue
		}
		statistics = statistics && !strings.HasPrefix(text, "Showing busy workqueues") || strings.HasPrefix(text, "Sched Debug Version")
		head, call := taskHead.FindStringSubmatch(text), frame.FindStringSubmatch(text)
		switch {
		case statistics || registers.MatchString(text):
		case head != nil:
			end()
			now = &task{name: head[1], state: head[2], pid: head[3], ppid: head[4], lines: []string{line}}
		case now != nil && call != nil:
			if call[1] == "" {
				now.stack = append(now.stack, call[2])
			}
			now.lines = append(now.lines, line)
		case now != nil && (strings.HasPrefix(text, "Workqueue:") || strings.HasPrefix(text, "Stopper:")):
			now.lines = append(now.lines, line)
		case now != nil && (strings.HasPrefix(text, "Call Trace:") || part.MatchString(text)):
		default:
			end()
			kept = append(kept, line)
		}
	}
	end()
	return strings.Join(kept, "\n"), whereabouts(tasks)
}

// idle says whether a task with these functions on its stack, the innermost
// first, is a kernel thread that waits in its own loop: between the scheduler
// and kthread() there is no more than that loop. So does a worker without work that
// waits for another to be made (kernel/workqueue.c, manage_workers), which a key that is
// sent to the guest's console may bring about.
func idle(stack []string) bool {
	if slices.Contains(stack, "worker_thread") && slices.Contains(stack, "kthread_create_on_node") {
		return !slices.ContainsFunc(stack, func(f string) bool { return strings.HasPrefix(f, "process_") })
	}
	stack = slices.DeleteFunc(slices.Clone(stack), waits)
	loop := slices.Index(stack, "kthread")
	if loop < 0 {
		loop = slices.Index(stack, "ret_from_fork")
		return loop == 0
	}
	return loop <= 1
}

// waits says whether the function is one of those in which any task waits.
func waits(function string) bool {
	return slices.Contains([]string{"__schedule", "schedule", "schedule_timeout", "schedule_preempt_disabled", "schedule_hrtimeout_range", "schedule_hrtimeout_range_clock", "preempt_schedule_common", "_cond_resched", "wait_woken", "kthreadd"}, function)
}

// whereabouts names the programs' tasks, and what else is blocked, each with the
// functions in which they are: "init in do_wait; uinit in futex_wait_queue_me (4),
// io_cqring_wait". Kernel threads that can be interrupted are left out.
func whereabouts(tasks []*task) string {
	// What is blocked was printed twice, by sysrq-w and -t.
	known := map[string]bool{}
	var names []string
	in := map[string][]string{}
	times := map[string]int{}
	for _, t := range tasks {
		// kthreadd is 2, and the parent of all kernel threads.
		if known[t.pid] || (t.pid == "2" || t.ppid == "2") && t.state != "D" {
			continue
		}
		known[t.pid] = true
		where := "user space or on a processor"
		if i := slices.IndexFunc(t.stack, func(f string) bool { return !waits(f) }); i >= 0 {
			where = t.stack[i]
		}
		if !slices.Contains(names, t.name) {
			names = append(names, t.name)
		}
		if !slices.Contains(in[t.name], where) {
			in[t.name] = append(in[t.name], where)
		}
		times[t.name+where]++
	}
	for i, name := range names {
		slices.Sort(in[name])
		for j, where := range in[name] {
			if n := times[name+where]; n > 1 {
				in[name][j] = fmt.Sprintf("%s (%d)", where, n)
			}
		}
		names[i] = name + " in " + strings.Join(in[name], ", ")
	}
	return strings.Join(names, "; ")
}
