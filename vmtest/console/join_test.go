package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hungAt is what khungtaskd says of a task with these functions on its stack.
func hungAt(comm, pid string, stack ...string) string {
	return "T31 INFO: task " + comm + ":" + pid + " blocked for more than 143 seconds.\n" +
		"T31 task:" + comm + " state:D stack:0 pid:" + pid + "\nT31 Call Trace:\nT31  <TASK>\n" + frames("T31", stack...) + "T31  </TASK>\n"
}

func frames(caller string, functions ...string) string {
	var s strings.Builder
	for _, f := range functions {
		if !strings.Contains(f, "+0x") {
			f += "+0x1f/0x100"
		}
		s.WriteString(caller + "  " + f + "\n")
	}
	return s.String()
}

// One fault is told once, and two faults are told as two, on kernels that say whose a line is.
func TestWatchJoinsWhatIsOneFault(t *testing.T) {
	const (
		owner = "T31 1 lock held by quokkad/70:\nT31  #0: ffff888004a1e028 (&q->lock){+.+.}-{4:4}, at: quokka_open+0x1f/0x80\n" +
			"T31 1 lock held by wombatd/71:\nT31  #0: ffff888004a1e028 (&q->lock){+.+.}-{4:4}, at: wombat_open+0x1f/0x80\n"
		nested = "T9 WARNING: Nested lock was not taken\nT9 6.6.50 #1 Not tainted\nT9 quokkad/9 is trying to lock:\n" +
			"T9 ffff0000c495a9d8 (&q->lock){+.+.}-{2:2}, at: quokka_evict+0x90/0x334\nT9 but this task is not holding:\n"
		oops = "T9 BUG: unable to handle page fault for address: ffff88800badcafe\nT9 Oops: 0000 [#1] SMP\nT9 RIP: 0010:%s+0x7cc/0x30a4\nT9 Call Trace:\n"
		end  = "T9 ---[ end trace 0000000000000000 ]---\n"
	)
	fault := func(at string, stack ...string) string { return fmt.Sprintf(oops, at) + frames("T9", stack...) + end }
	kasan := func(title string, stack ...string) string {
		return "T9 BUG: KASAN: " + title + "+0x1/0x2\nT9 Call Trace:\n" + frames("T9", stack...) + "T9 ========\n"
	}
	const at = "quokka_free+0x8a/0x100"
	tests := []struct {
		name, log string
		want      []string
	}{
		{"a task that waits for the lock of a hung one",
			hungAt("quokkad", "70", "__schedule", "schedule", "quokka_join") + hungAt("wombatd", "71", "__schedule", "mutex_lock_nested", "wombat_open") + owner,
			[]string{"INFO: task hung: quokkad in quokka_join"}},
		{"the victim first",
			hungAt("wombatd", "71", "__schedule", "mutex_lock_nested", "wombat_open") + hungAt("quokkad", "70", "__schedule", "schedule", "quokka_join") + owner,
			[]string{"INFO: task hung: quokkad in quokka_join"}},
		{"a hung owner, as 6.16 names it",
			hungAt("quokkad", "70", "__schedule", "schedule", "quokka_join") + hungAt("wombatd", "71", "__schedule", "__mutex_lock", "wombat_open") +
				"T31 INFO: task wombatd:71 is blocked on a mutex likely owned by task quokkad:70.\n",
			[]string{"INFO: task hung: quokkad in quokka_join"}},
		{"tasks that wait for each other",
			hungAt("quokkad", "70", "__schedule", "__mutex_lock", "quokka_b") + hungAt("wombatd", "71", "__schedule", "__mutex_lock", "wombat_a") +
				"T31 INFO: task quokkad:70 is blocked on a mutex likely owned by task wombatd:71.\n" +
				"T31 INFO: task wombatd:71 is blocked on a mutex likely owned by task quokkad:70.\n",
			[]string{"INFO: task hung: quokkad in quokka_b"}},
		{"hung tasks of two locks",
			hungAt("quokkad", "70", "__schedule", "schedule", "quokka_join") + hungAt("wombatd", "71", "__schedule", "mutex_lock_nested", "wombat_open") +
				strings.Replace(owner, "028", "128", 1),
			[]string{"INFO: task hung: quokkad in quokka_join", "INFO: task hung: wombatd in wombat_open"}},
		{"hung tasks of which nothing is known",
			hungAt("quokkad", "70", "__schedule", "schedule", "quokka_join") + hungAt("wombatd", "71", "__schedule", "mutex_lock_nested", "wombat_open"),
			[]string{"INFO: task hung: quokkad in quokka_join", "INFO: task hung: wombatd in wombat_open"}},
		{"a report that breaks", nested + fault("__lock_acquire", "lock_acquire", "quokka_evict"),
			[]string{"WARNING: Nested lock was not taken: &q->lock in quokka_evict"}},
		{"a report that breaks before it tells whose lock it is",
			strings.Replace(nested, "quokka_evict", "_atomic_dec_and_lock", 1) + fault("__lock_acquire", "lock_acquire", "_atomic_dec_and_lock", "quokka_evict"),
			[]string{"WARNING: Nested lock was not taken: &q->lock in quokka_evict"}},
		{"an oops of another task in a report", nested + strings.ReplaceAll(fault("wombat_run", "wombat_loop"), "T9 ", "T8 "),
			[]string{"WARNING: Nested lock was not taken: &q->lock in quokka_evict", "BUG: unable to handle page fault in wombat_run"}},
		{"a warning of what reports a stall",
			"C1 rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\nC1 ------------[ cut here ]------------\nC1 IRQs not enabled\n" +
				"C1 WARNING: CPU: 1 PID: 9 at kernel/sched/core.c:9 try_invoke+0x8b/0x320\nC1 RIP: 0010:try_invoke+0x8b/0x320\nC1 Call Trace:\nC1  <IRQ>\n" +
				frames("C1", "rcu_sched_clock_irq", "update_process_times", "hrtimer_interrupt", "asm_sysvec_apic_timer_interrupt") +
				"C1  </IRQ>\nC1 RIP: 0010:quokka_spin+0x3/0x4\n" + frames("C1", "quokka_poll") + "C1 ---[ end trace 0000000000000000 ]---\n",
			[]string{"rcu: stall of rcu_preempt in quokka_spin"}},
		{"KASAN and the oops of the same access", kasan("null-ptr-deref in quokka_read", "kasan_report", "quokka_read") + fault("quokka_read", "vfs_read"),
			[]string{"BUG: KASAN: null-ptr-deref in quokka_read"}},
		{"KASAN and an oops elsewhere", kasan("null-ptr-deref in quokka_read", "kasan_report", "quokka_read") + fault("quokka_write", "vfs_write"),
			[]string{"BUG: KASAN: null-ptr-deref in quokka_read", "BUG: unable to handle page fault in quokka_write"}},
		{"two checks in one call",
			"T9 ------------[ cut here ]------------\nT9 WARNING: CPU: 1 PID: 9 at mm/slab_common.c:935 free_large_kmalloc+0x34/0x12c\nT9 RIP: 0010:free_large_kmalloc+0x34/0x12c\nT9 Call Trace:\n" +
				frames("T9", "kfree", at, "quokka_del") + end + kasan("invalid-free in kfree", "kasan_report", "kfree", at, "quokka_del"),
			[]string{"WARNING at mm/slab_common.c in quokka_free"}},
		{"two calls of one function",
			"T9 ------------[ cut here ]------------\nT9 WARNING: CPU: 1 PID: 9 at mm/slab_common.c:935 free_large_kmalloc+0x34/0x12c\nT9 RIP: 0010:free_large_kmalloc+0x34/0x12c\nT9 Call Trace:\n" +
				frames("T9", "kfree", at, "quokka_del") + end + kasan("invalid-free in kfree", "kasan_report", "kfree", "quokka_free+0x9c/0x100", "quokka_del"),
			[]string{"WARNING at mm/slab_common.c in quokka_free", "BUG: KASAN: invalid-free in quokka_free"}},
		{"a text in front of WARN_ON()",
			"T9 BUG: Dentry ffff888119d8a000{i=0,n=x}  still in use (1) [unmount of quokkafs loop4]\nT9 ------------[ cut here ]------------\n" +
				"T9 WARNING: CPU: 0 PID: 9 at fs/dcache.c:1616 umount_check+0x18d/0x1d0\nT9 RIP: 0010:umount_check+0x18d/0x1d0\nT9 Call Trace:\n" + frames("T9", "d_walk") + end,
			[]string{"BUG: Dentry still in use [unmount of quokkafs] in umount_check"}},
		{"a text in front of WARN_ON(), and another line behind",
			"T9 BUG: Dentry ffff888119d8a000{i=0,n=x}  still in use (1) [unmount of quokkafs loop4]\nT9 ------------[ cut here ]------------\n" +
				"T9 WARNING: CPU: 0 PID: 9 at fs/dcache.c:1616 umount_check+0x18d/0x1d0\nT9 Kernel panic - not syncing: panic_on_warn set ...\nT9 quokka: an error on loop4, block 9\n",
			[]string{"BUG: Dentry still in use [unmount of quokkafs] in umount_check"}},
		{"a text, and a warning later",
			"T9 BUG: non-zero pgtables_bytes on freeing mm: 4096\nT9 quokka: a line between\nT9 ------------[ cut here ]------------\n" +
				"T9 WARNING: CPU: 0 PID: 9 at fs/quokka.c:16 quokka_check+0x18d/0x1d0\nT9 RIP: 0010:quokka_check+0x18d/0x1d0\nT9 Call Trace:\n" + frames("T9", "quokka_walk") + end,
			[]string{"BUG: non-zero pgtables_bytes on freeing mm: N", "WARNING at fs/quokka.c in quokka_check"}},
		{"a stack found overwritten while KASAN tells who does",
			"T9 BUG: KASAN: out-of-bounds in quokka_fill+0x1/0x2\nT8 Kernel panic - not syncing: corrupted stack end detected inside scheduler\nT9 Call Trace:\n" + frames("T9", "quokka_fill"),
			[]string{"BUG: KASAN: out-of-bounds in quokka_fill"}},
		{"an init that an oops kills", fault("quokka_write", "vfs_write") + "T9 Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009\n",
			[]string{"BUG: unable to handle page fault in quokka_write"}},
		{"an init that a signal kills after a warning",
			"T9 ------------[ cut here ]------------\nT9 WARNING: CPU: 0 PID: 9 at fs/quokka.c:16 quokka_check+0x18d/0x1d0\nT9 RIP: 0010:quokka_check+0x18d/0x1d0\nT9 Call Trace:\n" + frames("T9", "quokka_walk") + end +
				"T1 Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n",
			[]string{"WARNING at fs/quokka.c in quokka_check", "Kernel panic - not syncing: Attempted to kill init! exitcode"}},
		{"an oops of which nothing is left but its end",
			"T9 ------------[ cut here ]------------\nT9 WARNING: CPU: 0 PID: 9 at fs/quokka.c:16 quokka_check+0x18d/0x1d0\nT9 RIP: 0010:quokka_check+0x18d/0x1d0\nT9 Call Trace:\n" + frames("T9", "quokka_walk") + end +
				"T8 Kernel panic - not syncing: Fatal exception in interrupt\n",
			[]string{"WARNING at fs/quokka.c in quokka_check", "Kernel panic - not syncing: Fatal exception in interrupt"}},
		{"a stack found overwritten", fault("quokka_write", "vfs_write") + "T8 Kernel panic - not syncing: corrupted stack end detected inside scheduler\n",
			[]string{"BUG: unable to handle page fault in quokka_write", "Kernel panic - not syncing: corrupted stack end detected inside scheduler"}},
		{"the same of another processor, cut off",
			"C0 BUG: TASK stack guard page was hit at ffffc900054afff8 (stack is ffffc900054b0000..ffffc900054b8000)\nC0 RIP: 0010:quokka_set+0x1/0x2\nC0 Call Trace:\n" +
				frames("C0", "quokka_set") + "C1 BUG: TASK stack guard page was hit at ffffc900054cfff8 (stack is ffffc900054d0000..ffffc900054d8000)\n",
			[]string{"BUG: stack guard page was hit in quokka_set"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			// A machine that has crashed may boot and crash again.
			for times, log := range []string{tc.log, strings.Repeat(tc.log, 2), strings.Repeat(tc.log, 3)} {
				w := &Watcher{}
				for i, line := range strings.Split(strings.TrimSuffix(log, "\n"), "\n") {
					caller, text, _ := strings.Cut(line, " ")
					w.Line(fmt.Sprintf("[   12.%06d][%6s] %s", 1000*i, caller, text))
				}
				if diff := cmp.Diff(tc.want, titles(w)); diff != "" {
					t.Errorf("titles of the log %d times (-want +got):\n%s", times+1, diff)
				}
			}
		})
	}
}
