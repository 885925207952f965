package vmtest

import (
	"regexp"
	"slices"
	"strings"
)

// The lines of the answers to sysrq-w, -l and -t, without their timestamps
// (kernel/sched/core.c, sched_show_task; kernel/sched/debug.c;
// arch/x86/kernel/process_64.c, __show_regs).
var (
	taskHead = regexp.MustCompile(`^task:\S+ +state:`)
	// frame is a line of a stack, which names a function. A "?" marks what
	// only may be one.
	frame     = regexp.MustCompile(`^ (\? )?([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+`)
	registers = regexp.MustCompile(`^(?:R(?:[A-D]X|[SB]P|[SD]I|[01][0-9]): |RIP: 0033|[CF]S: |CR[0-9]: |Code: )`)
)

// digest shortens what a stuck guest printed about all of its tasks to what may
// tell something: registers, the scheduler's statistics, and kernel threads that
// wait for work in their own loop are left out. The console log has everything.
func digest(dump string) string {
	var kept, task []string
	var names []string
	inTask, statistics := false, false
	end := func() {
		if inTask && !idle(names) {
			kept = append(kept, task...)
		}
		inTask, task, names = false, nil, nil
	}
	for line := range strings.Lines(dump) {
		line = strings.TrimSuffix(line, "\n")
		m := kernelLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		text := m[1]
		statistics = statistics && !strings.HasPrefix(text, "Showing busy workqueues") || strings.HasPrefix(text, "Sched Debug Version")
		call := frame.FindStringSubmatch(text)
		switch {
		case statistics || registers.MatchString(text):
		case taskHead.MatchString(text):
			end()
			inTask, task = true, []string{line}
		case inTask && call != nil:
			if call[1] == "" {
				names = append(names, call[2])
			}
			task = append(task, line)
		case inTask && strings.HasPrefix(text, "Call Trace:"):
		default:
			end()
			kept = append(kept, line)
		}
	}
	end()
	return strings.Join(kept, "\n")
}

// idle says whether a task with these functions on its stack, the innermost
// first, is a kernel thread that waits in its own loop: between the scheduler
// and kthread() there is no more than that loop.
func idle(stack []string) bool {
	waiting := []string{"__schedule", "schedule", "schedule_timeout", "schedule_preempt_disabled", "schedule_hrtimeout_range", "preempt_schedule_common", "_cond_resched", "kthreadd"}
	stack = slices.DeleteFunc(slices.Clone(stack), func(name string) bool { return slices.Contains(waiting, name) })
	loop := slices.Index(stack, "kthread")
	if loop < 0 {
		loop = slices.Index(stack, "ret_from_fork")
		return loop == 0
	}
	return loop <= 1
}
