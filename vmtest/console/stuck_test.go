package console

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What several detectors say of one hang is told once, and two hangs are told as two.
func TestWatchTellsOneHangOnce(t *testing.T) {
	ran := func(caller, cpu, pid, at string, stack ...string) string {
		return caller + " CPU: " + cpu + " UID: 0 PID: " + pid + " Comm: quokkad Not tainted 6.18.15 #1\n" + caller + " RIP: 0010:" + at + "+0x12/0x40\n" +
			caller + " Call Trace:\n" + caller + "  <TASK>\n" + frames(caller, append(stack, "do_syscall_64")...) + caller + "  </TASK>\n"
	}
	soft := func(cpu, pid, at string) string {
		return "C" + cpu + " watchdog: BUG: soft lockup - CPU#" + cpu + " stuck for 26s! [quokkad:" + pid + "]\nC" + cpu + " Modules linked in:\n" + ran("C"+cpu, cpu, pid, at, "quokka_poll")
	}
	hard := func(cpu, pid, at string) string {
		return "C0 watchdog: Watchdog detected hard LOCKUP on cpu " + cpu + "\nC0 Modules linked in:\n" + ran("C0", cpu, pid, at, "quokka_poll")
	}
	stall := func(by, cpu, pid, at string) string {
		return "C" + by + " rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\nC" + by + " rcu: \t" + cpu + "-....: (20999 ticks this GP) idle=9e1c/1/0x4000000000000000 softirq=55/55 fqs=5250\n" +
			"C" + by + " rcu: \t(detected by " + by + ", t=21002 jiffies, g=-1155, q=12 ncpus=2)\nC" + by + " Sending NMI from CPU " + by + " to CPUs " + cpu + ":\n" +
			"C" + cpu + " NMI backtrace for cpu " + cpu + "\n" + ran("C"+cpu, cpu, pid, at, "quokka_poll")
	}
	pool := func(cpus, work string) string {
		return "C0 BUG: workqueue lockup - pool cpus=" + cpus + " node=0 flags=0x0 nice=0 stuck for 36s!\nC0 Showing busy workqueues and worker pools:\n" +
			"C0 workqueue events: flags=0x0\nC0   pwq 6: cpus=" + cpus + " node=0 flags=0x0 nice=0 active=2/256 refcnt=3\nC0     " + work + "\n"
	}
	const free = "pending: wombat_work, vmstat_shepherd"
	hungWork := hungAt("kworker/0:1", "70", "__schedule", "schedule", "wombat_work", "process_one_work")
	tests := []struct {
		name, log string
		want      []string
	}{
		{"a soft lockup and a stall of one processor", soft("1", "9", "quokka_spin") + stall("0", "1", "9", "quokka_spin"), []string{"BUG: soft lockup in quokka_spin"}},
		{"the stall first", stall("0", "1", "9", "quokka_spin") + soft("1", "9", "quokka_spin"), []string{"BUG: soft lockup in quokka_spin"}},
		{"a soft lockup and a stall of two processors", soft("1", "9", "quokka_spin") + stall("1", "0", "8", "wombat_spin"),
			[]string{"BUG: soft lockup in quokka_spin", "rcu: stall of rcu_preempt in quokka_poll"}},
		{"all of them", pool("1", free) + stall("0", "1", "9", "quokka_spin") + hard("1", "9", "quokka_spin") + soft("1", "9", "quokka_spin"), []string{"hard LOCKUP in quokka_spin"}},
		{"a locked-up pool of another processor", pool("0", free) + soft("1", "9", "quokka_spin"), []string{"BUG: workqueue lockup", "BUG: soft lockup in quokka_spin"}},
		{"two pools, one of another processor", pool("1", free) + pool("0", free) + soft("1", "9", "quokka_spin"), []string{"BUG: workqueue lockup", "BUG: soft lockup in quokka_spin"}},
		{"two pools of two stuck processors", pool("1", free) + pool("0", free) + soft("1", "9", "quokka_spin") + soft("0", "8", "quokka_spin"), []string{"BUG: soft lockup in quokka_spin"}},
		{"an unbound pool and the task that has its work", pool("0-1", "in-flight: 70:wombat_work for 141s") + hungWork, []string{"INFO: task hung: kworker in wombat_work"}},
		{"an unbound pool and another hung task", pool("0-1", "in-flight: 71:wombat_work") + hungWork, []string{"BUG: workqueue lockup", "INFO: task hung: kworker in wombat_work"}},
		{"a pool that has the work of another pool", pool("1", free) + "C0   pwq 2: cpus=0 node=0 flags=0x0 nice=0 active=1/256\nC0     in-flight: 70:wombat_work\n" + hungWork,
			[]string{"BUG: workqueue lockup", "INFO: task hung: kworker in wombat_work"}},
		{"a task that waits for the stalled grace period", stall("0", "1", "9", "quokka_spin") + hungAt("wombatd", "71", "__schedule", "wait_for_completion", "__wait_rcu_gp", "synchronize_rcu_normal", "wombat_close"),
			[]string{"rcu: stall of rcu_preempt in quokka_spin"}},
		{"a task that waits for a grace period, and no stall", hungAt("wombatd", "71", "__schedule", "wait_for_completion", "__wait_rcu_gp", "wombat_close"),
			[]string{"INFO: task hung: wombatd in wombat_close"}},
		{"a hung task beside a stall", stall("0", "1", "9", "quokka_spin") + hungAt("wombatd", "71", "__schedule", "wombat_join"),
			[]string{"rcu: stall of rcu_preempt in quokka_spin", "INFO: task hung: wombatd in wombat_join"}},
		{"tasks that wait for each other beside a stall",
			stall("0", "1", "9", "quokka_spin") + hungAt("quokkad", "70", "__schedule", "__mutex_lock", "quokka_b") + hungAt("wombatd", "71", "__schedule", "__mutex_lock", "wombat_a") +
				"T31 INFO: task quokkad:70 is blocked on a mutex likely owned by task wombatd:71.\nT31 INFO: task wombatd:71 is blocked on a mutex likely owned by task quokkad:70.\n",
			[]string{"rcu: stall of rcu_preempt in quokka_spin", "INFO: task hung: quokkad in quokka_b"}},
		{"a task that waits for the lock of a stuck one", soft("1", "9", "quokka_spin") + hungAt("wombatd", "71", "__schedule", "__mutex_lock", "wombat_open") +
			"T31 INFO: task wombatd:71 is blocked on a mutex likely owned by task quokkad:9.\n", []string{"BUG: soft lockup in quokka_spin"}},
		{"a reader that waits for a stuck writer", soft("1", "9", "quokka_spin") + hungAt("wombatd", "71", "__schedule", "rwsem_down_read_slowpath", "wombat_open") +
			"T31 INFO: task wombatd:71 <reader> blocked on an rw-semaphore likely owned by task quokkad:9 <writer>\n", []string{"BUG: soft lockup in quokka_spin"}},
		{"two idle processors", soft("1", "0", "quokka_irq") + stall("1", "0", "0", "quokka_irq"), []string{"BUG: soft lockup in quokka_irq", "rcu: stall of rcu_preempt in quokka_irq"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w, err := Read(strings.NewReader(stampedBy(tc.log)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, titles(w)); diff != "" {
				t.Errorf("titles (-want +got):\n%s", diff)
			}
		})
	}
}
