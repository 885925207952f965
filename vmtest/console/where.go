package console

import (
	"regexp"
	"slices"
	"strings"
)

// runsInit is what the kernel says before it leaves the machine to init
// (init/main.c, run_init_process).
var runsInit = regexp.MustCompile(`^Run \S+ as init process$`)

var number = regexp.MustCompile(`\d+`)

// Comparable is a line of the console without what differs from run to run.
func Comparable(line string) string {
	if _, _, text, ok := stamped(line); ok {
		line = text
	}
	return number.ReplaceAllString(steady(line), "N")
}

var (
	// stoppedIn is where a processor is in the kernel.
	stoppedIn = regexp.MustCompile(`^RIP: 0010:([\w.]+)\+0x`)
	// everyday are the functions that are on the stacks of a healthy guest as well:
	// where its programs wait, where its processors rest, and what is below any work.
	everyday = regexp.MustCompile(`^(?:do_wait|.*wait4|.*waitid|futex_.*|do_futex|ep_.*|do_epoll_.*|hrtimer_nanosleep|do_nanosleep|common_nsleep|do_sys_poll|do_select|core_sys_select|poll_schedule_timeout.*|sigsuspend|do_sigtimedwait.*|n_tty_read|tty_read|vfs_read|new_sync_read|ksys_.*|do_syscall_.*|(?:__)?(?:x64|ia32|se|do)_sys_.*|entry_.*|asm_.*|sysvec_.*|common_interrupt|kthread|ret_from_fork.*|worker_thread|process_one_work|devtmpfs_work_loop|devtmpfsd|smpboot_thread_fn|rcu_.*kthread|kernel_init|kernel_init_freeable|do_initcalls|do_one_initcall|rest_init|arch_call_rest_init|start_kernel|x86_64_start_.*|secondary_startup_.*|cpu_startup_entry|do_idle|default_idle.*|default_enter_idle|arch_cpu_idle|amd_e400_idle|native_safe_halt|mwait_idle.*|acpi_.*idle.*|cpuidle_.*|call_cpuidle|exit_to_user_mode.*|syscall_exit_.*|do_exit|do_group_exit|get_signal|arch_do_signal.*)$`)
)

// telling bounds the functions that are taken of one stack: those further out
// belong to much else, too.
const telling = 2

// Where lists the functions in which a guest that was asked has tasks and
// processors, without those that say nothing.
func Where(dump string) []string {
	var where, stack []string
	onStack := false
	end := func() {
		for _, f := range telltale(stack) {
			if !slices.Contains(where, f) {
				where = append(where, f)
			}
		}
		stack, onStack = nil, false
	}
	for line := range strings.Lines(dump) {
		_, _, text, ok := stamped(strings.TrimSuffix(line, "\n"))
		if !ok {
			continue
		}
		if rip := stoppedIn.FindStringSubmatch(text); rip != nil {
			// What is above it is how the answer came about.
			stack, onStack = []string{rip[1]}, true
			continue
		}
		if taskHead.MatchString(text) {
			end()
			onStack = true
			continue
		}
		if call := frame.FindStringSubmatch(text); call != nil && onStack {
			if call[1] == "" {
				stack = append(stack, call[2])
			}
			continue
		}
		if !onStack || !strings.HasPrefix(text, "Call Trace:") && !registers.MatchString(text) && !strings.HasPrefix(text, "Workqueue:") && !strings.HasPrefix(text, " <") {
			end()
		}
	}
	end()
	return where
}

// telltale are the innermost functions of a stack that may tell why its task is
// where it is; none when it is where a healthy guest's tasks are.
func telltale(stack []string) []string {
	stack = slices.DeleteFunc(slices.Clone(stack), waits)
	if len(stack) == 0 || everyday.MatchString(stack[0]) {
		return nil
	}
	end := slices.IndexFunc(stack, everyday.MatchString)
	if end < 0 {
		end = len(stack)
	}
	return stack[:min(end, telling)]
}
