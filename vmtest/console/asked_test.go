package console

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Where the kernel is asked with sysrq or an NMI its answer is no complaint, and what it
// complained of before is.
func TestReadTellsAskingFromComplaints(t *testing.T) {
	const (
		level = "C0 sysrq: Changing Loglevel\nC0 sysrq: Loglevel set to 8\n"
		tasks = "C0 sysrq: Show Blocked State\nC0 sysrq: Show State\n" +
			"C0 task:init state:S stack:0 pid:1 tgid:1 ppid:0 task_flags:0x400100 flags:0x00080000\nC0 Call Trace:\nC0  <TASK>\n" +
			"C0  __schedule+0x2/0x3\nC0  schedule+0x2/0x3\nC0  quokka_wait+0x2/0x30\nC0  do_syscall_64+0x2/0x3\nC0  </TASK>\n"
		cpus = "C0 sysrq: Show backtrace of all active CPUs\nC0 NMI backtrace for cpu 0\nC0 CPU: 0 UID: 0 PID: 9 Comm: quokkad Not tainted 7.1.0 #1\n" +
			"C0 Call Trace:\nC0  <IRQ>\nC0  dump_stack_lvl+0x1/0x2\nC0  __handle_sysrq+0x1/0x2\nC0  </IRQ>\nC0 RIP: 0010:wombat_run+0x1/0x2\n" +
			"C1 NMI backtrace for cpu 1\nC1 RIP: 0010:quokka_spin+0x1/0x2\nC1 INFO: NMI handler (nmi_cpu_backtrace_handler) took too long to run: 7.137 msecs\n"
		lockup = "C1 watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [quokkad:9]\nC1 CPU: 1 UID: 0 PID: 9 Comm: quokkad Not tainted 7.1.0 #1\n" +
			"C1 RIP: 0010:quokka_spin+0x1/0x2\nC1 Call Trace:\nC1  <TASK>\nC1  quokka_poll+0x1/0x2\nC1  do_syscall_64+0x1/0x2\nC1  </TASK>\n"
		nmi = "C0 Uhhuh. NMI received for unknown reason 21 on CPU 0.\nC0 Kernel panic - not syncing: NMI: Not continuing\n" +
			"C0 CPU: 0 UID: 0 PID: 9 Comm: quokkad Not tainted 7.1.0 #1\nC0 Call Trace:\nC0  <NMI>\nC0  vpanic+0x1/0x2\nC0  nmi_panic+0x1/0x2\n" +
			"C0  unknown_nmi_error+0x1/0x2\nC0 RIP: 0010:queued_spin_lock_slowpath+0x1/0x2\nC0  ? quokka_left_over+0x1/0x2\nC0  </NMI>\nC0  <IRQ>\nC0  quokka_put+0x1/0x2\nC0  </IRQ>\n"
		stall = "C0 rcu: INFO: rcu_preempt self-detected stall on CPU\nC0 Call Trace:\nC0  <IRQ>\nC0  rcu_sched_clock_irq+0x1/0x2\nC0  asm_sysvec_apic_timer_interrupt+0x1/0x2\n" +
			"C0  show_state_filter+0x1/0x2\nC0  __handle_sysrq+0x1/0x2\nC0  serial8250_interrupt+0x1/0x2\nC0  </IRQ>\nC0  do_idle+0x1/0x2\n"
		unwinder = "C0 BUG: KASAN: stack-out-of-bounds in unwind_next_frame+0x1/0x2\nC0 Call Trace:\nC0  unwind_next_frame+0x1/0x2\n" +
			"C0  show_stack+0x1/0x2\nC0  show_state_filter+0x1/0x2\nC0  __handle_sysrq+0x1/0x2\nC0 ======\n"
		crash = "T9 sysrq: Trigger a crash\nT9 Kernel panic - not syncing: sysrq triggered crash\nT9 Call Trace:\nT9  panic+0x1/0x2\nT9  sysrq_handle_crash+0x1/0x2\nT9  __handle_sysrq+0x1/0x2\n"
		down  = "C0 WARNING: CPU: 0 PID: 9 at kernel/smp.c:9 smp_call_function_many+0x1/0x2\nC0 RIP: 0010:smp_call_function_many+0x1/0x2\nC0 Call Trace:\nC0  panic+0x1/0x2\nC0  nmi_panic+0x1/0x2\nC0 ---[ end trace 0000000000000000 ]---\n"
		// What the harness's guests begin with, and what other people's kernels do.
		guest  = "T0 Command line: console=ttyS0 sysrq_always_enabled oops=panic unknown_nmi_panic patchproof.features=auto patchproof.cpus=2\n"
		others = "T0 Command line: BOOT_IMAGE=/vmlinuz-7.1.0 root=/dev/sda1 ro unknown_nmi_panic panic=30\n"
		where  = "at 12.000001 s sysrq asked it where it is: init in quokka_wait"
	)
	const softLockup = "BUG: soft lockup in quokka_spin"
	const (
		serr   = "C0 NMI: PCI system error (SERR) for reason b1 on CPU 0.\n"
		byNMI  = "at 12.000001 s an NMI asked it where it is: a processor was in quokka_put"
		broken = "BUG: KASAN: stack-out-of-bounds in show_state_filter"
	)
	hardware := serr + strings.SplitAfterN(nmi, "\n", 2)[1]
	tests := []struct {
		name, log string
		want      []string
		asked     string
	}{
		{"nothing", "C0 sysrq: sysrq always enabled.\n", nil, ""},
		{"the keys of the harness", guest + level + tasks + cpus, nil, where},
		{"the key of a user", tasks, nil, where},
		{"an NMI", guest + nmi, nil, byNMI},
		{"an NMI, and what comes of going down", guest + nmi + down, nil, byNMI},
		{"a command line as 5.7 prints it again", strings.Replace(guest, "Command", "Kernel command", 1) + nmi, nil, byNMI},
		{"somebody else's NMI", others + nmi, []string{nmiPanic}, ""},
		{"an NMI, and no beginning", nmi, []string{nmiPanic}, ""},
		{"somebody else's NMI, and what comes of going down", others + nmi + down, []string{nmiPanic}, ""},
		{"another kernel booted after the harness's", guest + others + nmi, []string{nmiPanic}, ""},
		{"a program's name for the harness's words", strings.Replace(others, "ro ", "ro quokka=patchproof. ", 1) + nmi, []string{nmiPanic}, ""},
		{"an NMI of a device", guest + hardware, []string{nmiPanic}, ""},
		{"a complaint, and the keys", guest + lockup + level + tasks + cpus, []string{softLockup}, where},
		{"a complaint, and an NMI", guest + lockup + nmi, []string{softLockup}, byNMI},
		{"somebody else's complaint, and an NMI", others + lockup + nmi, []string{softLockup, nmiPanic}, ""},
		{"a complaint after a user's key", tasks + lockup, []string{softLockup}, where},
		{"a stall that printing brings", others + tasks + stall, nil, where},
		{"a stall in a key that shows nothing", others + strings.Replace(stall, "show_state_filter", "sysrq_handle_mountro", 1), []string{"rcu: stall of rcu_preempt in serial8250_interrupt"}, ""},
		{"what the harness's keys bring to light", guest + level + tasks + unwinder, nil, where},
		{"what a user's keys bring to light", others + level + tasks + unwinder, []string{broken}, where},
		{"what a user's key brings to light in a guest", guest + tasks + unwinder, []string{broken}, where},
		{"a crash that was asked for", guest + crash, []string{"Kernel panic - not syncing: sysrq triggered crash"}, ""},
		{"an NMI of broken memory", guest + strings.Replace(nmi, "NMI: Not", "NMI IOCK error: Not", 1), []string{"Kernel panic - not syncing: NMI IOCK error: Not continuing"}, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w, err := Read(strings.NewReader(stampedBy(tc.log)))
			if err != nil {
				t.Fatal(err)
			}
			asked := w.Asked()
			if diff := cmp.Diff(tc.want, titles(w)); diff != "" {
				t.Errorf("titles (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.asked, asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// While a guest runs nobody asks before Ask: an NMI is a fault then.
func TestWatchHearsOfAnNMI(t *testing.T) {
	got := watched("[   12.000001][    C0] Kernel panic - not syncing: NMI: Not continuing\n")
	if len(got) != 1 || got[0].Title != nmiPanic {
		t.Errorf("watch = %+v; want the panic", got)
	}
}

// stampedBy makes the lines "C0 text" those of a console.
func stampedBy(log string) string {
	var s strings.Builder
	for line := range strings.Lines(log) {
		who, text, _ := strings.Cut(line, " ")
		s.WriteString("[   12.000001][ " + who + "] " + text)
	}
	return s.String()
}

func titles(w *Watcher) []string {
	var all []string
	for _, s := range w.Splats() {
		all = append(all, s.Title)
	}
	return all
}
