package console

import (
	"regexp"
	"strings"

	"patchproof/guest/event"
)

// blame says where a complaint tells which function is at fault.
type blame int

const (
	// byFault: the first line or the registers name it, or, when that is
	// machinery, its callers on the stack do.
	byFault blame = iota
	// byCaller: the stack is that of the check, so its first function that is no
	// machinery is meant.
	byCaller
	// byStuck: the registers of the processor that is stuck, then what is on its
	// stack below the interrupt that found it.
	byStuck
	// byRecursion: the function that called itself until the stack was full.
	byRecursion
	// byNobody: the stack is of whoever happened to notice.
	byNobody
)

// role says how a sign goes together with others of one fault.
type role int

const (
	plain role = iota
	// says: the text of a WARN() or in front of a BUG().
	says
	// warns is the line of WARN() itself, bugs that of BUG().
	warns
	bugs
	// faults is what a fault handler says, dies the line of die() after it.
	faults
	dies
	panics
	// perhaps: a complaint only when a stack follows; anybody writes "WARNING: ".
	perhaps
)

// sign is the beginning of a complaint, matched against a kernel line without
// its timestamp.
type sign struct {
	verdict event.Verdict
	// literal is in every line that pattern matches, at its start if anchored: what
	// looks for it is cheap, as it runs while the guest does, on the same processors.
	literal string
	pattern *regexp.Regexp
	// title may use the pattern's groups; empty, it is the line itself. The group f
	// is a function.
	title string
	blame blame
	role  role
}

func crash(literal, pattern, title string, by blame, r role) sign {
	return sign{event.Crash, literal, regexp.MustCompile(pattern), title, by, r}
}

func hang(literal, pattern, title string, by blame) sign {
	return sign{event.Hang, literal, regexp.MustCompile(pattern), title, by, plain}
}

// address is how an instruction is named, or the bare number of one in no function.
const address = `(?P<f>[A-Za-z_][\w.]*|0x[0-9a-f]+)(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?`

// lockdep is how its reports begin, and those of RCU's checks.
const lockdep = `^(?:\[ )?(?:WARNING|INFO|BUG): (possible (?:circular|recursive|irq lock|unsafe).*?|circular locking deadlock detected|inconsistent lock state|[\w-]+-safe -> [\w-]+-unsafe.*?|bad (?:unlock balance|contention) detected|held lock freed|lock held when returning.*?|[Nn]ested lock was not taken|chain_key collision|suspicious (?:RCU|rcu_\w+\(\)) usage|stack recursion .*?)!?\.?(?: \])?$`

// signs are the beginnings of the kernel's complaints. The first that matches decides.
var signs = []sign{
	// kernel/hung_task.c; 7.1 tells waits for a disk apart. A name may have blanks.
	hang("blocked ", `^(?:INFO: task )?(?P<t>.*):(?P<pid>\d+) blocked (?:in I/O wait )?for more than \d+ seconds`, "INFO: task hung: $t", byCaller),
	hang("can't die for more", `^INFO: task (?P<t>.*):\d+ can't die for more than`, "INFO: task can't die: $t", byCaller),
	// kernel/watchdog.c, watchdog_perf.c, watchdog_buddy.c
	hang("soft lockup - CPU#", `^(?:(?:NMI )?watchdog: )?BUG: soft lockup - CPU#`, "BUG: soft lockup", byStuck),
	hang("hard LOCKUP on cpu", `^(?:NMI )?watchdog: (?:CPU\d+: )?(?:Watchdog detected )?hard LOCKUP on cpu`, "hard LOCKUP", byStuck),
	// arch/powerpc/kernel/watchdog.c
	hang("hard LOCKUP @ ", `^watchdog: CPU \d+ self-detected hard LOCKUP @ `+address, "hard LOCKUP", byStuck),
	hang("Hard LOCKUP", `^watchdog: CPU \d+ Hard LOCKUP$`, "hard LOCKUP", byStuck),
	hang("hard LOCKUP on other", `^watchdog: CPU \d+ detected hard LOCKUP on other CPUs `, "hard LOCKUP", byStuck),
	// kernel/rcu/tree_stall.h, tree_exp.h, tasks.h. Which CPU notices a stall first is
	// chance, so that self-detected ones are no others.
	hang("expedited stalls", `^(?:rcu: )?INFO: (\S+) detected expedited stalls`, "rcu: expedited stall of $1", byStuck),
	hang(" detected stalls on tasks", `^(?:rcu: )?INFO: (\S+) detected stalls on tasks`, "INFO: $1 detected stalls on tasks", byStuck),
	hang("stall", `^(?:rcu: )?INFO: (\S+) (?:self-)?detected stalls?(?: on|, but suppressed)`, "rcu: stall of $1", byStuck),
	hang("BUG: workqueue lockup", `^BUG: workqueue lockup`, "BUG: workqueue lockup", byNobody),
	hang("BUG: spinlock lockup", `^BUG: spinlock lockup suspected`, "BUG: spinlock lockup suspected", byCaller),
	// kernel/sched/debug.c: sysctl_resched_latency_warn_ms
	hang("need_resched set", `^sched: CPU \d+ need_resched set for > `, "sched: need_resched set without schedule", byStuck),
	// kernel/power/process.c: what the machine can't be put to sleep for.
	hang("Freezing ", `^Freezing (?:of tasks|user space processes|remaining freezable tasks) failed after `, "tasks refuse to freeze", byCaller),
	// kernel/smp.c
	hang("non-responsive CSD lock", `csd: \w+ non-responsive CSD lock`, "csd: non-responsive CSD lock", byStuck),

	// Faults of the processor: arch/x86/mm/fault.c, arch/x86/kernel/traps.c and
	// dumpstack.c; since 6.10 with "Oops: " in front. arch/arm64/mm/fault.c and
	// kernel/traps.c.
	crash("BUG: kernel NULL", `^BUG: kernel NULL pointer dereference`, "BUG: kernel NULL pointer dereference", byFault, faults),
	crash("BUG: Kernel NULL", `^BUG: Kernel NULL pointer dereference`, "BUG: kernel NULL pointer dereference", byFault, faults),
	crash("BUG: Unable to handle ", `^BUG: Unable to handle (.*?)(?: at 0x[0-9a-f]+)?$`, "BUG: unable to handle $1", byFault, faults),
	crash("BUG: unable to handle ", `^BUG: unable to handle kernel NULL pointer`, "BUG: kernel NULL pointer dereference", byFault, faults),
	crash("BUG: unable to handle ", `^BUG: unable to handle (?:page fault for|kernel paging request at)`, "BUG: unable to handle page fault", byFault, faults),
	crash("BUG: unable to handle ", `^BUG: unable to handle `, "", byFault, faults),
	crash("stack guard page was hit", `^BUG: (?:TASK )?((?:\S+ )?stack guard page was hit)`, "BUG: $1", byRecursion, faults),
	crash("Unable to handle kernel", `^(?:CPU \d+ )?Unable to handle kernel (.*?)(?: at(?: virtual.*)?| with .*)?$`, "Unable to handle kernel $1", byFault, faults),
	// arch/powerpc/kernel/traps.c, arch/s390/kernel/traps.c
	crash("Kernel stack overflow", `^Kernel stack overflow(?: in process .*)?\.?$`, "kernel stack overflow", byRecursion, faults),
	// arch/arm/mm/fault.c, of programs, too, without the line of die() behind it, and
	// arch/arm64/kernel/traps.c.
	crash("Unhandled ", `^(Unhandled (?:fault|prefetch abort): .*?) \(0x[0-9a-f]+\) at 0x`, "$1", byFault, perhaps),
	crash("Unhandled ", `^(Unhandled \d\d-bit \w+ \w+ exception) on CPU`, "$1", byFault, faults),
	// arch/arm/lib/lib1funcs.S, where the processor itself does not find it
	crash("Division by zero", `^(Division by zero in kernel)\.$`, "$1", byCaller, plain),
	// arch/parisc/kernel/traps.c
	crash("Kernel Fault: ", `^(Kernel Fault: Code=\d+ \(.*?\))`, "$1", byFault, faults),
	crash("Insufficient stack space", `^Insufficient stack space to handle exception`, "kernel stack overflow", byRecursion, faults),
	crash("PANIC: double fault", `^(?:traps: )?PANIC: double fault`, "double fault", byFault, faults),
	crash("PANIC: early exception", `^PANIC: early exception (0x[0-9a-f]{2})`, "early exception", byFault, faults),
	crash("traps: PANIC", `^traps: PANIC`, "", byFault, faults),
	crash("Missing ENDBR", `^(?:traps: )?Missing ENDBR: `+address, "Missing ENDBR", byFault, says),
	crash("CFI failure", `^CFI failure (?:at `+address+`)?`, "CFI failure", byFault, says),
	crash("kernel BUG at ", `^kernel BUG at (?:\.\.?/)*([\w./-]+?):\d+`, "kernel BUG at $1", byFault, bugs),
	crash("kernel BUG at ", `^kernel BUG at `+address, "kernel BUG", byFault, bugs),
	crash("general protection", `^(?:Oops: )?(segment-related )?general protection fault`, "${1}general protection fault", byFault, dies),
	crash("stack segment: ", `^(?:Oops: )?stack segment: [0-9a-f]+ \[#\d+\]`, "stack segment fault", byFault, dies),
	crash("divide", `^(?:Oops: )?divide[_ ]error: [0-9a-f]+ \[#\d+\]`, "divide error", byFault, dies),
	// die() takes it with the line's end in its name.
	crash("Split lock detected", `^(?:Oops: )?Split lock detected$`, "Split lock detected", byFault, dies),
	crash("FRED event", `^BUG: (invalid or fatal FRED event)`, "BUG: $1", byFault, says),
	crash(" [#", `^Internal error: (?:Oops - )?(.*?)(?:: [0-9a-f]+)? \[#\d+\]`, "Internal error: $1", byFault, dies),
	// riscv
	crash("[#", `^(Oops - [a-z][\w ()/-]*?) \[#\d+\]`, "$1", byFault, dies),
	crash("[#", `^Oops(?:: [0-9a-f]+(?: ilc:\d)?| -.*?)? ?\[#\d+\]`, "Oops", byFault, dies),
	// mips and sparc
	crash("[#", `^(?:\S+\(\d+\): )?([\w !/]*?\b(?:[Kk]ernel|[Tt]rap|[Ee]xception|[Ii]nstruction|check)\b[\w !/]*?|Oops) ?\[#\d+\]:?$`, "$1", byFault, dies),
	// powerpc, and what s390 says of an exception of the program's.
	crash(" [#", `^Oops: (.*?), sig: \d+ \[#\d+\]`, "Oops: $1", byFault, dies),
	crash(" [#", `^([a-z][\w -]+): [0-9a-f]{4} ilc:\d \[#\d+\]`, "$1", byFault, dies),
	crash(" [#", `^(?:Oops: )?([A-Za-z#][^:\[]{1,60}?(?: \([^)]*\))?): [0-9a-f]{4,16} \[#\d+\]`, "$1", byFault, dies),

	// Sanitizers: mm/kasan, mm/kmsan, kernel/kcsan, mm/kfence, lib/ubsan.c
	// A race has two functions, in the order of the alphabet.
	crash("KCSAN: ", `^BUG: (KCSAN: \S+ .*?)(?:\+0x.*)?$`, "BUG: $1", byNobody, plain),
	// Found when the kernel is next entered, and not where it was: mm/kasan/report.c,
	// kasan_report_async.
	crash("KASAN: invalid-access", `^BUG: KASAN: invalid-access$`, "BUG: KASAN: invalid-access", byNobody, plain),
	crash("SAN: ", `^BUG: (K[A-Z]*SAN: .*?)(?: in(?: `+address+`.*)?)?$`, "BUG: $1", byFault, plain),
	crash("KFENCE: ", `^BUG: (KFENCE: .*?)(?: in(?: `+address+`.*)?)?$`, "BUG: $1", byFault, plain),
	crash("UBSAN: ", `^UBSAN: (.*?) in (?:\.\.?/)*([\w./-]+?):\d+`, "UBSAN: $1 in $2", byCaller, plain),
	crash("UBSAN: ", `^UBSAN: (.*?) at `+address+`$`, "UBSAN: $1", byFault, says),
	crash("UBSAN: ", `^UBSAN: `, "", byCaller, plain),

	// Checks of data: mm/slub.c and slab_common.c, lib/list_debug.c, refcount.c,
	// debugobjects.c (not its self-test, nor its want of memory), mm/usercopy.c,
	// lib/string_helpers.c.
	// mm/slab.c, until 6.7: who finds what somebody has written to a freed object is nobody to
	// blame.
	crash("slab error in ", `^slab error in (\w+)\(\): cache .(\S+?)': (.*)$`, "slab error in $1(): cache $2: $3", byCaller, plain),
	crash("Slab corruption", `^Slab corruption \([^)]*\): (\S+) start=`, "Slab corruption: $1", byNobody, plain),
	// Before 3.9 without the taint.
	crash("BUG ", `^BUG ([\w.-]+): (Objects remaining|Poison overwritten|Redzone overwritten|Invalid object pointer)`, "BUG $1: $2", byNobody, plain),
	crash("BUG ", `^BUG (\S+) \([^)]*\): (.*)$`, "BUG $1: $2", byNobody, plain),
	crash("list_", `^(list_(?:add|del) (?:corruption|double add))`, "$1", byFault, says),
	crash("refcount_t: ", `^(refcount_t: .*)$`, "$1", byFault, says),
	crash("ODEBUG: ", `^ODEBUG: (\w+ (?:active|not available|destroyed|initialized|not initialized)).* object type: (\S+)`, "ODEBUG: $1 $2", byFault, says),
	crash("ODEBUG: object ", `^ODEBUG: object .*(is (?:NOT )?on stack)`, "ODEBUG: object $1", byFault, says),
	crash("kernel memory ", `^(usercopy: [Kk]ernel memory .*? attempt detected)`, "$1", byFault, says),
	crash("Kernel memory ", `^(usercopy: [Kk]ernel memory .*? attempt detected)`, "$1", byFault, says),
	crash("detected buffer overflow", `^(?:\w+: )?(detected buffer overflow)`, "$1", byFault, says),
	crash("kmem_cache_destroy ", `^kmem_cache_destroy (\S+): (.*?)(?: when called from `+address+`)?$`, "kmem_cache_destroy $1: $2", byFault, says),
	crash("kmemleak: ", `^kmemleak: \d+ new suspected memory leaks`, "kmemleak: new suspected memory leaks", byNobody, plain),
	// mm/kmemleak.c: its own books are wrong when somebody tells it of an object twice, or
	// of none.
	crash("kmemleak: ", `^kmemleak: (Cannot insert) 0x[0-9a-f]+ (into the object search tree)`, "kmemleak: $1 $2", byCaller, plain),
	crash("kmemleak: ", `^kmemleak: (Found object by alias|Scan area larger than object|[A-Z][\w ]+ unknown object)`, "kmemleak: $1", byCaller, plain),
	crash("Double-freed CB", `Double-freed CB \S+->`+address, "Double-freed CB", byFault, plain),
	// lib/maple_tree.c in a test of its own
	crash("BUG at ", `^BUG at (?:\.\.?/)*([\w./-]+?):\d+ \(`, "BUG at $1", byCaller, plain),
	crash("VFS: Busy inodes", `^VFS: Busy inodes after unmount`, "VFS: Busy inodes after unmount", byFault, says),
	// A name that is given twice is the caller's mistake, and the kernel prints a stack for it.
	crash("sysfs: cannot create", `^sysfs: cannot create duplicate filename`, "sysfs: cannot create duplicate filename", byCaller, plain),
	crash("kobject ", `^kobject .*: (tried to init an initialized object|tried to add an uninitialized object|must have a ktype to be initialized properly)`, "kobject: $1", byCaller, plain),
	// kernel/module: what a module's init returns is no error and no success.
	crash("suspiciously returned", `^do_init_module: ('[^']*'->init suspiciously returned)`, "$1", byNobody, plain),
	// Memory: mm/page_alloc.c, vmalloc.c. That a task is killed for want of memory is what
	// the kernel is for; when the kernel goes down for it, it is a panic.
	crash("page allocation failure", `page allocation failure: (order:\d+)`, "page allocation failure: $1", byCaller, plain),
	crash("vmalloc", `: (vmalloc(?: error)?: .*?), (?:failed|mode:0x)`, "$1", byCaller, plain),
	// The rest of a flood, of which the first were told with their stacks.
	crash("percpu: ", `^percpu: allocation failed, size=`, "percpu: allocation failed", byCaller, plain),
	crash("failed with error", `^(?:__)?kmem_cache_create\w*\((\S+)\) failed with error`, "kmem_cache_create of $1 failed", byCaller, perhaps),
	crash("Unexpected gfp", `^Unexpected gfp: `, "Unexpected gfp", byCaller, says),
	crash("iounmap: ", `^iounmap: bad address`, "iounmap: bad address", byCaller, plain),
	crash("messages suppressed", `^BUG: (Bad page \w+): \d+ messages suppressed`, "BUG: $1", byNobody, plain),
	crash("BUG: Bad ", `^BUG: (Bad (?:page state|page map|page cache|rss-counter state))`, "BUG: $1", byCaller, plain),
	// Entries of page tables that are none: mm/pgtable-generic.c, mm/swapfile.c.
	crash(": bad p", `^(?:\.\.?/)*[\w./-]+\.[ch]:\d+: (bad p[g4um]d) [0-9a-f]+\(`, "$1", byNobody, plain),
	crash(" swap ", `^\w+: ((?:Bad|Unused) swap (?:file|offset) entry) [0-9a-f]+$`, "$1", byNobody, plain),
	// mm/page_poison.c: what wrote to the page is gone.
	crash("pagealloc: ", `^pagealloc: (memory corruption|single bit error)`, "pagealloc: $1", byNobody, plain),
	// kernel/irq/spurious.c: an interrupt that its drivers do not know is switched
	// off, and what hangs on it stops.
	crash(": nobody cared", `^irq \d+: nobody cared`, "irq: nobody cared", byNobody, plain),
	crash("bogus return value", `^irq event \d+: bogus return value`, "irq event: bogus return value", byNobody, plain),
	// With CONFIG_DEBUG_SHIRQ the kernel prints who asks for an interrupt that another has.
	crash("Flags mismatch irq", `^genirq: Flags mismatch irq`, "genirq: Flags mismatch irq", byCaller, perhaps),
	// No sign is "unchecked MSR access error" (arch/x86/mm/extable.c): the kernel skips the access
	// and goes on, and whether the processor has the MSR is a matter of the machine, in our
	// case QEMU's or a hypervisor's below it. A good kernel says it there, too.
	// net/sched/sch_generic.c: since 6.6 without a warning. net/core
	crash("NETDEV WATCHDOG", `(?:^|: )NETDEV WATCHDOG: .*transmit queue \d+ timed out`, "NETDEV WATCHDOG: transmit queue timed out", byNobody, says),
	crash("hw csum failure", `: hw csum failure$`, "hw csum failure", byNobody, plain),
	// include/linux/rtnetlink.h: no WARN() before 5.7.
	crash("RTNL: assertion", `^RTNL: assertion failed at (?:\.\.?/)*([\w./-]+) \(\d+\)`, "RTNL: assertion failed at $1 (N)", byCaller, says),
	crash("NEIGH: BUG", `^NEIGH: BUG, double timer add`, "NEIGH: BUG, double timer add", byCaller, plain),
	crash("Destroying alive", `^neighbour: Destroying alive neighbour`, "neighbour: Destroying alive neighbour", byCaller, plain),
	crash("network todo ", `^network todo '[^']*' but state \d+$`, "network todo in a wrong state", byCaller, plain),
	crash("unregister_netdevice", `^unregister_netdevice: waiting for`, "unregister_netdevice: waiting for a device to become free", byNobody, plain),

	// Contexts: kernel/sched/core.c, lib/smp_processor_id.c, kernel/workqueue.c,
	// kernel/locking/spinlock_debug.c
	crash("BUG: sleeping function", `^(BUG: sleeping function called from invalid context at) (?:\.\.?/)*([\w./-]+?):\d+`, "$1 $2", byCaller, plain),
	crash("BUG: scheduling while", `^BUG: scheduling while atomic`, "BUG: scheduling while atomic", byCaller, plain),
	crash("BUG: scheduling in", `^BUG: scheduling in a non-blocking section`, "BUG: scheduling in a non-blocking section", byCaller, plain),
	crash("bad: scheduling", `^bad: scheduling from the idle thread`, "bad: scheduling from the idle thread", byCaller, plain),
	crash("wrong timeout", `^schedule_timeout: wrong timeout value`, "schedule_timeout: wrong timeout value", byCaller, plain),
	// kernel/softirq.c
	crash("huh, entered softirq", `huh, entered softirq \d+ (\w+) \S+ with preempt_count [0-9a-f]+, exited with `, "softirq: $1 leaks its preempt count", byNobody, plain),
	crash("BUG: using ", `^BUG: using (\w+)\(?\)? in preemptible`, "BUG: using $1() in preemptible code:", byCaller, plain),
	crash("BUG: workqueue leaked", `^BUG: workqueue leaked`, "BUG: workqueue leaked atomic, lock or RCU", byNobody, plain),
	crash("BUG: ", `^BUG: ((?:spin|rw)lock (?:[\w ]+?)) on CPU#`, "BUG: $1", byCaller, plain),

	// kernel/locking/lockdep.c, kernel/rcu/update.c
	crash("INFO: trying to", `^INFO: trying to register non-static key`, "INFO: trying to register non-static key", byCaller, plain),
	crash("DEBUG_LOCKS_WARN_ON", `^DEBUG_LOCKS_WARN_ON`, "", byFault, says),
	// Its numbers and "list empty" are of the moment.
	crash("DEBUG_RWSEMS_WARN_ON", `^(DEBUG_RWSEMS_WARN_ON\(.*\)): count = `, "$1", byFault, says),
	crash("still has locks", `^WARNING: .* still has locks held!`, "WARNING: still has locks held", byFault, plain),
	// arch/x86/kernel/unwind_frame.c
	crash("WARNING: kernel stack ", `^WARNING: (kernel stack (?:regs|frame pointer)) at .* has bad ('bp' )?value`, "WARNING: $1 has bad ${2}value", byNobody, plain),
	// Before 4.11 INFO or BUG.
	crash("WARNING: ", lockdep, "WARNING: $1", byCaller, plain),
	crash("WARNING: ", `^(?:\[ )?WARNING: ([Ii]nvalid wait context)(?: \])?$`, "WARNING: $1", byCaller, plain),
	crash("INFO: ", lockdep, "WARNING: $1", byCaller, plain),
	crash("[ BUG: ", lockdep, "WARNING: $1", byCaller, plain),

	// kernel/panic.c: __warn, in its form since 6.18 and before, and what else is in use. With
	// DEBUG_BUGVERBOSE_DETAILED the condition is in front of the file.
	crash("WARNING: ", `^WARNING: (?:CPU: \d+ PID: \d+ )?at (?:\.\.?/)*(?P<file>[\w./-]+\.[chSr]s?):\d+(?: `+address+`)?`, "WARNING at $file", byFault, warns),
	crash("WARNING: ", `^WARNING: (?:\[.*\] )?(?:\.\.?/)*(?P<file>[\w./-]+\.[chSr]s?):\d+ at `+address, "WARNING at $file", byFault, warns),
	crash("WARNING: ", `^WARNING: (?:CPU: \d+ PID: \d+ )?at `+address, "WARNING", byFault, warns),
	crash("WARNING: ", `^(?:\[ )?WARNING: `, "", byCaller, perhaps),
	// fs/dcache.c
	crash("BUG: Dentry ", `^BUG: Dentry .*still in use .*\[unmount of (\S+)`, "BUG: Dentry still in use [unmount of $1]", byFault, says),
	// kernel/locking/lockdep.c: all locks held, up to 48, come before the stack.
	crash("BUG: MAX_", `^BUG: (MAX_\w+ too (?:low|small))`, "BUG: $1", byCaller, plain),
	// What is printed in front of a WARN_ON() is its text.
	crash("BUG: ", `^(?:\[ )?BUG: `, "", byCaller, says),
	// The panics that a watchdog is told to make of a hang.
	{event.Hang, "Kernel panic", hangPanic, "", byNobody, panics},
	// arch/um/kernel/trap.c: a fault is a panic there.
	crash("Kernel panic", `^(Kernel panic - not syncing: (?:Segfault with no mm|Kernel mode (?:fault|signal)|Kernel tried to access user memory))`, "$1", byCaller, panics),
	crash("Kernel panic", `^Kernel panic - not syncing: `, "", byNobody, panics),
}

// hangPanic is a panic that a stall is told to end in, corrupted one that finds a stack
// overwritten, overrun one for which a stack was too small, and afterOops one that only ends
// what was complained about before.
var (
	hangPanic = regexp.MustCompile(`^Kernel panic - not syncing: (?:RCU Stall|Hard LOCKUP|softlockup: hung tasks|hung_task: blocked tasks|workqueue: .*stall|CSD)`)
	corrupted = regexp.MustCompile(`^Kernel panic - not syncing: (?:corrupted stack end|stack-protector: )`)
	overrun   = regexp.MustCompile(`^Kernel panic - not syncing: (?:[Kk]ernel stack overflow|Corrupt kernel stack)`)
	afterOops = regexp.MustCompile(`^Kernel panic - not syncing: (?:.*Fatal exception|Kernel Fault$|Oops - |Oopsed too often|Oops failed to kill thread|(?:\w+: )?panic_on_\w+ set|(?:\w+: )?system warned too often|(?:kasan|kfence|kmsan)\.\S+ set|` +
		`scheduling while atomic|Aiee, killing interrupt|Machine halted|invalid or fatal FRED event|[\w ]*stack guard hit|cannot return from double fault|bad mode$|can't return from __builtin_unreachable|Attempted to kill (?:init! exitcode=0x0000000[9b]|the idle task))`)
	onlyOops = regexp.MustCompile(`^Kernel panic - not syncing: (?:.*Fatal exception|bad mode$|Attempted to kill init)`)
)

// anotherStack are lines that come with a stack and are no complaint: the want of memory, or
// of an allocation that is made to fail, a disk that is broken, an MSR that is not there.
var anotherStack = regexp.MustCompile(`^FAULT_INJECTION: |^XFS \(\S+\): |^GUP no longer grows the stack|^NMI backtrace for cpu|^unchecked MSR access error| invoked oom-killer: `)

// oopsTakes is how long, in seconds, the telling of an oops takes at most.
const oopsTakes = 60

// begins finds the sign in a line, with what its pattern matched.
func begins(text string) (*sign, []int) {
	for i := range signs {
		if s := &signs[i]; strings.Contains(text, s.literal) {
			if m := s.pattern.FindStringSubmatchIndex(text); m != nil {
				return s, m
			}
		}
	}
	return nil, nil
}

// any of these words is in every line that a sign matches; most lines have none.
func mayBegin(text string) bool {
	for i := 0; i < len(text); i++ {
		if hints[text[i]] && (i == 0 || text[i] == '[' || !letter(text[i-1])) {
			rest := text[i:]
			for _, word := range hintWords[text[i]] {
				if strings.HasPrefix(rest, word) {
					return true
				}
			}
		}
	}
	return false
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

var hints, hintWords = hintTable()

// hintTable holds, by their first letters, the words that signs' literals begin with.
func hintTable() (first [256]bool, words [256][]string) {
	for _, s := range signs {
		word := strings.TrimLeft(s.literal, ": ")
		first[word[0]] = true
		words[word[0]] = append(words[word[0]], word)
	}
	for _, word := range []string{"KASAN: ", "KMSAN: ", "KCSAN: ", "UBSAN: ", "stalls", "stall on", "list_"} {
		first[word[0]] = true
		words[word[0]] = append(words[word[0]], word)
	}
	return first, words
}
