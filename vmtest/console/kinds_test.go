package console

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The forms are those of the kernels' own sources, 5.7 to 7.1.
func TestReadKnowsTheKindsOfComplaints(t *testing.T) {
	const (
		oops  = "Oops: invalid opcode: 0000 [#1] SMP NOPTI\n"
		ran   = "CPU: 1 UID: 0 PID: 812 Comm: Web Content Not tainted 7.1.13 #1 PREEMPT(full)\nHardware name: QEMU Standard PC\n"
		end   = "---[ end trace 0000000000000000 ]---\n"
		fatal = "Kernel panic - not syncing: Fatal exception\n"
	)
	rip := func(f string) string { return "RIP: 0010:" + f + "+0x12/0x40\nCode: 0f 0b\n" }
	stack := func(functions ...string) string {
		var s strings.Builder
		s.WriteString("Call Trace:\n <TASK>\n")
		for _, f := range append(functions, "do_syscall_64", "entry_SYSCALL_64_after_hwframe") {
			s.WriteString(" " + f + "+0x12/0x40\n")
		}
		return s.String() + "RIP: 0033:0x7f0000001234\n </TASK>\n"
	}
	plainStack := func(functions ...string) string {
		return strings.TrimPrefix(stack(functions...), "Call Trace:\n <TASK>\n")
	}
	arm := func(functions ...string) string {
		var s strings.Builder
		s.WriteString("Call trace:\n")
		for _, f := range append(functions, "invoke_syscall", "el0_svc", "el0t_64_sync") {
			s.WriteString(" " + f + "+0x12/0x40 (P)\n")
		}
		return s.String()
	}
	tests := []struct {
		name, log string
		want      []string
	}{
		{"a race of which one side is not known", "==================================================================\nBUG: KCSAN: data-race in quokka_count+0x3c/0x80\n\n" +
			"race at unknown origin, with read to 0xffff888104a1e028 of 4 bytes by task 812 on cpu 1:\n" + plainStack("quokka_count", "quokka_poll") + "\nvalue changed: 0x00000001 -> 0x00000002\n",
			[]string{"BUG: KCSAN: data-race in quokka_count"}},
		{"an assertion of KCSAN", "BUG: KCSAN: assert: race in quokka_set / wombat_set\n\nwrite to 0xffff888104a1e028 of 4 bytes by interrupt on cpu 1:\n" + plainStack("quokka_set"),
			[]string{"BUG: KCSAN: assert: race in quokka_set / wombat_set"}},
		{"KFENCE finds a redzone broken", "BUG: KFENCE: memory corruption in quokka_free+0x3c/0x80\n\nCorrupted memory at 0xffff888104a1e028 [ 0xac . . . ] (in kfence-#17):\n" + plainStack("quokka_free", "quokka_close") +
			"\nkfence-#17: 0xffff888104a1e000-0xffff888104a1e027, size=40, cache=kmalloc-64\n\nallocated by task 9 on cpu 1 at 12.345678s (0.1s ago):\n wombat_alloc+0x1/0x2\n\n" + ran,
			[]string{"BUG: KFENCE: memory corruption in quokka_free"}},
		{"KFENCE in a helper, and the panic that it is told to end in", "BUG: KFENCE: use-after-free read in __list_del_entry_valid_or_report+0x3c/0x80\n\nUse-after-free read at 0xffff888104a1e028 (in kfence-#17):\n" +
			plainStack("__list_del_entry_valid_or_report", "quokka_unlink") + "\nCPU: 1 UID: 0\nKernel panic - not syncing: kfence.fault=panic set ...\n",
			[]string{"BUG: KFENCE: use-after-free read in quokka_unlink"}},
		{"KMSAN in a copy", "BUG: KMSAN: kernel-infoleak in _copy_to_user+0xcc/0x120\n" + plainStack("_copy_to_user", "quokka_ioctl") + "\nUninit was created at:\n wombat_alloc+0x12/0x40\n\nKernel panic - not syncing: kmsan.panic set ...\n",
			[]string{"BUG: KMSAN: kernel-infoleak in quokka_ioctl"}},
		{"KASAN told to end in a panic", "BUG: KASAN: slab-use-after-free in quokka_poll+0x12/0x40\nRead of size 8 at addr ffff888104a1e028 by task Web Content/812\n\n" + ran + stack("dump_stack_lvl", "print_report", "kasan_report", "quokka_poll") +
			"\nAllocated by task 8:\n wombat_alloc+0x12/0x40\n\nMemory state around the buggy address:\n==================================================================\nKernel panic - not syncing: kasan.fault=panic_on_write set ...\n",
			[]string{"BUG: KASAN: slab-use-after-free in quokka_poll"}},
		{"UBSAN, with a panic", "------------[ cut here ]------------\nUBSAN: array-index-out-of-bounds in drivers/quokka/core.c:77:12\nindex 9 is out of range for type 'u8 [8]'\n" + ran +
			stack("dump_stack_lvl", "ubsan_epilogue", "__ubsan_handle_out_of_bounds", "quokka_probe") + "---[ end trace ]---\nKernel panic - not syncing: UBSAN: panic_on_warn set ...\n",
			[]string{"UBSAN: array-index-out-of-bounds in drivers/quokka/core.c in quokka_probe"}},
		{"UBSAN by a trap", "UBSAN: array index out of bounds at quokka_probe+0x12/0x40\n" + oops + ran + rip("quokka_probe") + stack("quokka_open") + end,
			[]string{"UBSAN: array index out of bounds in quokka_probe"}},
		{"UBSAN by a trap of arm64", "Internal error: UBSAN: array index out of bounds: 00000000f2005512 [#1]  SMP\n" + ran + "pc : quokka_probe+0x12/0x40\nlr : wombat+0x1/0x2\n" + arm("quokka_probe", "quokka_open") + end,
			[]string{"Internal error: UBSAN: array index out of bounds in quokka_probe"}},
		{"a soft lockup of a comm with blanks, with a panic", "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [Web Content:812]\nCPU#1 Utilization every 4000ms during lockup:\n\t#1: 100% system,\t  0% softirq,\t  1% hardirq,\t  0% idle\nModules linked in:\n" +
			ran + rip("quokka_spin") + stack("quokka_ioctl") + "Kernel panic - not syncing: softlockup: hung tasks\n" + ran + "Call Trace:\n <IRQ>\n vpanic+0x1/0x2\n panic+0x1/0x2\n watchdog_timer_fn+0x1/0x2\n </IRQ>\n <TASK>\n" + rip("quokka_spin") + " quokka_ioctl+0x12/0x40\n",
			[]string{"BUG: soft lockup in quokka_spin"}},
		{"a hard lockup as 7.1 says it", "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1\nModules linked in:\n" + ran + rip("quokka_spin") + stack("quokka_ioctl") + "Kernel panic - not syncing: Hard LOCKUP\n",
			[]string{"hard LOCKUP in quokka_spin"}},
		{"a stall of which nothing more is told", "rcu: INFO: rcu_preempt detected stall, but suppressed full report due to a stuck CSD-lock.\n", []string{"rcu: stall of rcu_preempt"}},
		{"a processor that does not answer, and a stall of which nothing more is told", "smp: csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 5000000002 ns for CPU#01 wombat_ipi+0x0/0x40(0x0).\nsmp: \tcsd: CSD lock (#1) unresponsive.\n" +
			"Sending NMI from CPU 0 to CPUs 1:\nNMI backtrace for cpu 1\n" + ran + rip("quokka_spin") + stack("quokka_ioctl") + "rcu: INFO: rcu_preempt detected stall, but suppressed full report due to a stuck CSD-lock.\n",
			[]string{"csd: non-responsive CSD lock in quokka_spin"}},
		{"a task that stalls an expedited grace period", "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { P812 } 21002 jiffies s: 1205 root: 0x0/T\nrcu: blocking rcu_node structures (internal RCU debug):\n" +
			"task:quokkad         state:R  running task     stack:0     pid:812   tgid:812   ppid:1      task_flags:0x400100 flags:0x00080000\nCall Trace:\n <TASK>\n __schedule+0x12/0x40\n preempt_schedule_irq+0x12/0x40\n irqentry_exit+0x12/0x40\n asm_sysvec_apic_timer_interrupt+0x1a/0x20\n" +
			rip("quokka_reader") + " quokka_ioctl+0x12/0x40\n do_syscall_64+0x12/0x40\n </TASK>\n",
			[]string{"rcu: expedited stall of rcu_preempt in quokka_reader"}},
		{"scheduling while atomic, a comm with blanks", "BUG: scheduling while atomic: Web Content/812/0x00000002\n1 lock held by Web Content/812:\n #0: ffff888104a1e028 (&q->lock){+.+.}-{3:3}, at: wombat_take+0x12/0x40\nModules linked in:\nPreemption disabled at:\n[<ffffffff81234567>] wombat_take+0x12/0x40\n" +
			"Kernel panic - not syncing: scheduling while atomic: panic_on_warn set ...\n" + ran + stack("dump_stack_lvl", "vpanic", "panic", "__schedule_bug", "__schedule", "schedule", "quokka_wait"),
			[]string{"BUG: scheduling while atomic in quokka_wait"}},
		{"scheduling in a non-blocking section", "BUG: scheduling in a non-blocking section: Web Content/812/1\n" + ran + stack("dump_stack_lvl", "schedule_debug", "__schedule", "schedule", "quokka_invalidate"),
			[]string{"BUG: scheduling in a non-blocking section in quokka_invalidate"}},
		{"atomic context assumed", "BUG: assuming atomic context at net/quokka/run.c:12\nin_atomic(): 0, irqs_disabled(): 0, pid: 812, name: Web Content\nno locks held by Web Content/812.\n" + ran + stack("dump_stack_lvl", "__cant_sleep", "quokka_run"),
			[]string{"BUG: assuming atomic context at net/quokka/run.c in quokka_run"}},
		{"a bad page", "BUG: Bad page state in process Web Content  pfn:12345\npage: refcount:0 mapcount:1 mapping:0000000000000000 index:0x0 pfn:0x12345\nflags: 0x100000000000000(node=0|zone=1)\nraw: 0100000000000000 dead000000000122\npage dumped because: nonzero mapcount\nModules linked in:\n" + ran +
			stack("dump_stack_lvl", "bad_page", "free_page_is_bad_report", "__free_frozen_pages", "quokka_put") + "BUG: Bad page state: 5 messages suppressed\n",
			[]string{"BUG: Bad page state in quokka_put"}},
		{"the check of page tables", "------------[ cut here ]------------\nkernel BUG at mm/page_table_check.c:84!\n" + oops + ran + rip("page_table_check_clear.part.0") + stack("__page_table_check_ptes_set", "set_ptes.isra.0", "quokka_map") + end,
			[]string{"kernel BUG at mm/page_table_check.c in quokka_map"}},
		{"memory that is freed and poisoned is written", "pagealloc: memory corruption\n00000000a1b2c3d4: 00 01 02 03                                      ....\n" + ran + stack("dump_stack_lvl", "__kernel_unpoison_pages", "post_alloc_hook", "get_page_from_freelist", "__alloc_frozen_pages_noprof", "quokka_grow") +
			"page: refcount:1 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x12345\npage dumped because: pagealloc: corrupted page details\n",
			[]string{"pagealloc: memory corruption"}},
		{"a folio that is freed twice", "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x12345\nflags: 0x100000000000000(node=0|zone=1)\npage dumped because: VM_BUG_ON_FOLIO(folio_ref_count(folio) == 0)\n------------[ cut here ]------------\nkernel BUG at ./include/linux/mm.h:1135!\n" + oops + ran + rip("quokka_put") + stack("quokka_close") + end,
			[]string{"kernel BUG at include/linux/mm.h in quokka_put"}},
		{"KASAN on arm64", "BUG: KASAN: slab-use-after-free in _raw_spin_lock_irqsave+0x12/0x40\nWrite of size 4 at addr ffff0000c495a9d8 by task quokkad/9\n\n" + ran + arm("show_stack", "dump_stack_lvl", "print_report", "kasan_report", "_raw_spin_lock_irqsave", "quokka_wake") + "\nAllocated by task 8:\n wombat+0x12/0x40\n",
			[]string{"BUG: KASAN: slab-use-after-free in quokka_wake"}},
		{"an error that arrives late on arm64", "SError Interrupt on CPU1, code 0x00000000be000011 -- SError\n" + ran + "pc : quokka_write+0x12/0x40\nlr : quokka_probe+0x1/0x2\nKernel panic - not syncing: Asynchronous SError Interrupt\n" + ran + arm("show_stack", "vpanic", "nmi_panic", "arm64_serror_panic", "do_serror", "el1h_64_error", "quokka_write"),
			[]string{"Kernel panic - not syncing: Asynchronous SError Interrupt"}},
		{"an access that the bus refuses on arm64", "Internal error: synchronous external abort: 0000000096000210 [#1]  SMP\nModules linked in:\n" + ran + "pstate: 60000005 (nZCv daif -PAN)\npc : quokka_read+0x12/0x40\nlr : quokka_probe+0x1/0x2\n" + arm("quokka_read", "quokka_probe") + end,
			[]string{"Internal error: synchronous external abort in quokka_read"}},
		{"a call without ENDBR", "Missing ENDBR: quokka_cb+0x0/0x40\n------------[ cut here ]------------\nkernel BUG at arch/x86/kernel/cet.c:133!\n" + oops + ran + rip("exc_control_protection") + stack("asm_exc_control_protection", "wombat_call") + end,
			[]string{"Missing ENDBR in quokka_cb"}},
		{"a control protection fault", "Oops: control protection fault: 0003 [#1] SMP NOPTI\n" + ran + rip("quokka_ret") + stack("quokka_open") + end + fatal, []string{"control protection fault in quokka_ret"}},
		{"a split lock", "Oops: Split lock detected\n: 0000 [#1] SMP NOPTI\n" + ran + rip("quokka_atomic") + stack("quokka_open") + end + fatal, []string{"Split lock detected in quokka_atomic"}},
		{"an event that FRED does not know", "BUG: invalid or fatal FRED event; event type 3 vector 14 error 0x0 aux 0x0 at 0010:ffffffff81234567\nOops: Invalid or fatal FRED event: 0000 [#1] SMP NOPTI\n" + ran + rip("quokka_odd") + stack("quokka_open") + end + fatal,
			[]string{"BUG: invalid or fatal FRED event in quokka_odd"}},
		{"the same, in the kernel's own words for the end", "PANIC: invalid or fatal FRED event; event type 3 vector 14 error 0x0 aux 0x0 at 0010:ffffffff81234567\nOops: invalid or fatal FRED event: 0000 [#1] SMP NOPTI\n" + ran + rip("quokka_odd") + stack("quokka_open") + end + "Kernel panic - not syncing: invalid or fatal FRED event\n",
			[]string{"invalid or fatal FRED event in quokka_odd"}},
		{"a double fault, whose machine is halted", "traps: PANIC: double fault, error_code: 0x0\nOops: double fault: 0000 [#1] SMP NOPTI\n" + ran + rip("quokka_deep") + stack("quokka_open") + end + "Kernel panic - not syncing: Machine halted.\n",
			[]string{"double fault in quokka_deep"}},
		{"a page table that is not one", "quokkad: Corrupted page table at address 7f0000001000\nPGD 12345067 P4D 12345067\nOops: Bad pagetable: 000f [#1] SMP NOPTI\n" + ran + rip("quokka_read") + stack("quokka_open") + end + fatal,
			[]string{"Bad pagetable in quokka_read"}},
		{"too many warnings", "------------[ cut here ]------------\nWARNING: fs/quokka/inode.c:9 at quokka_evict+0x12/0x40, CPU#1: Web Content/812\nModules linked in:\n" + ran + rip("quokka_evict") + stack("quokka_close") + "Kernel panic - not syncing: kernel: system warned too often (kernel.warn_limit is 1)\n",
			[]string{"WARNING at fs/quokka/inode.c in quokka_evict"}},
		{"too many oopses", "BUG: kernel NULL pointer dereference, address: 0000000000000010\n#PF: supervisor read access in kernel mode\nOops: 0000 [#1] SMP NOPTI\n" + ran + rip("quokka_read") + stack("quokka_open") + end + "Kernel panic - not syncing: Oopsed too often (kernel.oops_limit is 1)\n" + ran + stack("vpanic", "panic", "make_task_dead"),
			[]string{"BUG: kernel NULL pointer dereference in quokka_read"}},
		{"an init that a signal kills", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n" + ran + stack("dump_stack_lvl", "vpanic", "panic", "do_exit"), []string{"Kernel panic - not syncing: Attempted to kill init! exitcode"}},
		{"no root", "VFS: Cannot open root device \"/dev/vda\" or unknown-block(0,0): error -6\nPlease append a correct \"root=\" boot option; here are the available partitions:\nKernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n",
			[]string{"Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(N,N)"}},
		{"a disk that is broken", "EXT4-fs error (device vda): ext4_lookup:1855: inode #2: comm Web Content: iget: bogus i_mode (0)\nXFS (vdb): Corruption detected. Unmount and run xfs_repair\nBTRFS error (device vdc): bad tree block start\nI/O error, dev vda, sector 9 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2\n", nil},
		{"a disk that is broken, with a panic", "EXT4-fs error (device vda): ext4_lookup:1855: inode #2: comm Web Content: iget: bogus i_mode (0)\nKernel panic - not syncing: EXT4-fs (device vda): panic forced after error\n" + ran + stack("vpanic", "panic", "ext4_handle_error"),
			[]string{"Kernel panic - not syncing: EXT4-fs (device vda): panic forced after error"}},
		{"a lock that goes to user space", "================================================\nWARNING: lock held when returning to user space!\n7.1.13 #1 Not tainted\n------------------------------------------------\nWeb Content/812 is leaving the kernel with locks still held!\n1 lock held by Web Content/812:\n #0: ffff888104a1e028 (&q->lock){+.+.}-{4:4}, at: quokka_open+0x12/0x40\n",
			[]string{"WARNING: lock held when returning to user space: &q->lock in quokka_open"}},
		{"a key that lockdep does not know", "BUG: key ffff888104a1e028 has not been registered!\n------------[ cut here ]------------\nDEBUG_LOCKS_WARN_ON(1)\nWARNING: kernel/locking/lockdep.c:4977 at lockdep_init_map_type+0x12/0x40, CPU#1: Web Content/812\nModules linked in:\n" + ran + rip("lockdep_init_map_type") + stack("quokka_init") + end,
			[]string{"BUG: key ADDR has not been registered in quokka_init"}},
		{"DMA by the wrong function", "------------[ cut here ]------------\nDMA-API: quokka 0000:00:03.0: device driver frees DMA memory with wrong function [device address=0x0000000012345000] [size=4096 bytes] [mapped as single] [unmapped as page]\nWARNING: CPU: 1 PID: 812 at kernel/dma/debug.c:1028 check_unmap+0x12/0x40\nModules linked in:\n" + ran + rip("check_unmap") +
			stack("debug_dma_unmap_phys", "dma_unmap_phys", "dma_unmap_page_attrs", "quokka_done") + end,
			[]string{"DMA-API: quokka N: device driver frees DMA memory with wrong function [device address] [size bytes] [mapped as single] [unmapped as page] in quokka_done"}},
		{"a name given twice", "sysfs: cannot create duplicate filename '/devices/quokka0'\n" + ran + stack("dump_stack_lvl", "sysfs_warn_dup", "sysfs_create_dir_ns", "kobject_add_internal", "kobject_add", "device_add", "quokka_add") + "kobject: kobject_add_internal failed for quokka0 with -EEXIST, don't try to register things with the same name in the same directory.\n",
			[]string{"sysfs: cannot create duplicate filename in quokka_add"}},
		{"an object of SLUB, whose report ends in a warning", "[Right Redzone overwritten] 0xffff888104a1e028-0xffff888104a1e02f @offset=40. First byte 0x0 instead of 0xcc\n=============================================================================\n" +
			"BUG kmalloc-64 (Not tainted): Object corrupt\n-----------------------------------------------------------------------------\n\nAllocated in wombat_alloc+0x12/0x40 age=7 cpu=1 pid=812\n wombat_alloc+0x12/0x40\n quokka_open+0x12/0x40\nSlab 0xffffea0004128780 objects=16 used=1 fp=0xffff888104a1e400 flags=0x200(workingset)\n" +
			"Object 0xffff888104a1e000 @offset=0 fp=0x0000000000000000\n\nObject   ffff888104a1e000: 6b 6b 6b 6b  kkkk\n------------[ cut here ]------------\nWARNING: mm/slub.c:1227 at object_err+0x12/0x40, CPU#1: Web Content/812\nModules linked in:\n" + ran + rip("object_err") +
			stack("check_bytes_and_report", "check_object", "free_to_partial_list", "kfree", "quokka_free") + end + "FIX kmalloc-64: Restoring Right Redzone 0xffff888104a1e028-0xffff888104a1e02f=0xcc\n",
			[]string{"BUG kmalloc-64: Object corrupt"}},
		{"what is left in a cache of 7.1", "BUG quokka_cache (Not tainted): Objects remaining on __kmem_cache_shutdown()\n-----------------------------------------------------------------------------\n\nObject 0xffff888104a1e000 @offset=0\nSlab 0xffffea0004128780 objects=16 used=1 fp=0xffff888104a1e400 flags=0x200(workingset)\n" +
			"------------[ cut here ]------------\nWARNING: mm/slub.c:1240 at __slab_err+0x12/0x40, CPU#1: Web Content/812\nModules linked in:\n" + ran + rip("__slab_err") + stack("free_partial.cold", "__kmem_cache_shutdown", "kmem_cache_destroy", "quokka_exit") + end +
			"------------[ cut here ]------------\nkmem_cache_destroy quokka_cache: Slab cache still has objects when called from quokka_exit+0x12/0x40\nWARNING: mm/slab_common.c:537 at kmem_cache_destroy+0x12/0x40, CPU#1: Web Content/812\nModules linked in:\n" + ran + rip("kmem_cache_destroy") + stack("quokka_exit") + end,
			[]string{"BUG quokka_cache: Objects remaining on __kmem_cache_shutdown()"}},
		{"a buffer that fortified strings find too small", "------------[ cut here ]------------\nstrcpy: detected buffer overflow: 9 byte write of buffer size 8\nWARNING: lib/string_helpers.c:1036 at __fortify_report+0x12/0x40, CPU#1: Web Content/812\nModules linked in:\n" + ran + rip("__fortify_report") + stack("__fortify_panic", "quokka_copy", "quokka_open") + end +
			"------------[ cut here ]------------\nkernel BUG at lib/string_helpers.c:1044!\n" + oops + ran + rip("__fortify_panic") + stack("quokka_copy", "quokka_open") + end,
			[]string{"detected buffer overflow in quokka_copy"}},
		{"a field that is written beyond", "------------[ cut here ]------------\nmemcpy: detected field-spanning write (size 16) of single field \"&q->name\" at drivers/quokka/core.c:9 (size 8)\nWARNING: drivers/quokka/core.c:9 at quokka_set+0x12/0x40, CPU#1: Web Content/812\nModules linked in:\n" + ran + rip("quokka_set") + stack("quokka_open") + end,
			[]string{"memcpy: detected field-spanning write (size N) of single field \"&q->name\" at drivers/quokka/core.c (size N) in quokka_set"}},
		{"a pointer to a function of another type", "CFI failure at quokka_call+0x12/0x40 (target: wombat_cb+0x0/0x10; expected type: 0x12345678)\n" + oops + ran + rip("quokka_call") + stack("quokka_open") + end + fatal, []string{"CFI failure in quokka_call"}},
		{"BUG() on arm64", "------------[ cut here ]------------\nkernel BUG at fs/quokka/dir.c:9!\nInternal error: Oops - BUG: 00000000f2000800 [#1]  SMP\nModules linked in:\n" + ran + "pc : quokka_lookup+0x12/0x40\nlr : quokka_open+0x1/0x2\n" + arm("quokka_lookup", "quokka_open") + end + "Kernel panic - not syncing: Oops - BUG: Fatal exception\n",
			[]string{"kernel BUG at fs/quokka/dir.c in quokka_lookup"}},
		{"a page fault on arm64", "Unable to handle kernel paging request at virtual address dead000000000108\nMem abort info:\n  ESR = 0x0000000096000004\n  EC = 0x25: DABT (current EL), IL = 32 bits\n[dead000000000108] address between user and kernel address ranges\nInternal error: Oops: 0000000096000004 [#1]  SMP\nModules linked in:\n" + ran + "pc : __list_del_entry_valid_or_report+0x12/0x40\nlr : quokka_unlink+0x1/0x2\n" +
			arm("__list_del_entry_valid_or_report", "quokka_unlink", "quokka_open") + end + "Kernel panic - not syncing: Oops: Fatal exception\n",
			[]string{"Unable to handle kernel paging request in quokka_unlink"}},
		{"a lock in the wrong kind of context", "=============================\n[ BUG: Invalid wait context ]\n7.1.13 #1 Not tainted\n-----------------------------\nWeb Content/812 is trying to lock:\nffff888104a1e028 (&q->lock){....}-{3:3}, at: quokka_irq+0x12/0x40\nother info that might help us debug this:\ncontext-{2:2}\nno locks held by Web Content/812.\nstack backtrace:\n" + ran +
			"Call Trace:\n <IRQ>\n dump_stack_lvl+0x12/0x40\n __lock_acquire+0x12/0x40\n lock_acquire+0x12/0x40\n _raw_spin_lock+0x12/0x40\n quokka_irq+0x12/0x40\n </IRQ>\n",
			[]string{"[ BUG: Invalid wait context ]: &q->lock in quokka_irq"}},
		{"a pool that is locked up, as 7.1 tells it", "BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 36s!\nShowing busy workqueues and worker pools:\nworkqueue events: flags=0x0\n  pwq 6: cpus=1 node=0 flags=0x0 nice=0 active=1 refcnt=2\n    in-flight: 70:wombat_work for 36s\npool 6: cpus=1 node=0 flags=0x0 nice=0 hung=36s workers=3 idle: 44\n" +
			"Showing backtraces of busy workers in stalled worker pools:\npool 6:\ntask:kworker/1:1     state:R  running task     stack:0     pid:70    tgid:70    ppid:2      task_flags:0x4208060 flags:0x00080000\nWorkqueue: events wombat_work\nCall Trace:\n <TASK>\n wombat_work+0x12/0x40\n process_one_work+0x12/0x40\n </TASK>\nKernel panic - not syncing: workqueue: stall lasted 36s, exceeding threshold 30s\n",
			[]string{"BUG: workqueue lockup"}},
		{"a task that waits for a semaphore of another", "INFO: task quokkad:70 blocked for more than 143 seconds.\n      Not tainted 7.1.13 #1\n\"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.\ntask:quokkad         state:D stack:0     pid:70    tgid:70    ppid:1      task_flags:0x400100 flags:0x00080000\nCall Trace:\n <TASK>\n __schedule+0x12/0x40\n schedule+0x12/0x40\n quokka_join+0x12/0x40\n do_syscall_64+0x12/0x40\n </TASK>\n" +
			"INFO: task Web Content:812 blocked for more than 143 seconds.\ntask:Web Content     state:D stack:0     pid:812   tgid:812   ppid:1      task_flags:0x400100 flags:0x00080000\nCall Trace:\n <TASK>\n __schedule+0x12/0x40\n schedule_timeout+0x12/0x40\n __down_common+0x12/0x40\n down+0x12/0x40\n wombat_open+0x12/0x40\n do_syscall_64+0x12/0x40\n </TASK>\n" +
			"INFO: task Web Content:812 blocked on a semaphore likely last held by task quokkad:70\nKernel panic - not syncing: hung_task: blocked tasks\n",
			[]string{"INFO: task hung: quokkad in quokka_join"}},
		{"programs that fault, and advice", "traps: quokkad[812] general protection fault ip:401000 sp:7ffc00000000 error:0 in quokkad[401000+1000]\nquokkad[812]: segfault at 0 ip 0000000000401000 sp 00007ffc00000000 error 4 in quokkad[401000+1000] likely on CPU 1 (core 1, socket 0)\ntraps: quokkad[812] trap invalid opcode ip:401000 sp:7ffc00000000 error:0\n" +
			"x86/split lock detection: #AC: quokkad/812 took a split_lock trap at address: 0x401000\nworkqueue: wombat_work hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND\nperf: interrupt took too long (2503 > 2500), lowering kernel.perf_event_max_sample_rate to 79000\nsched: RT throttling activated\n" +
			"INFO: NMI handler (perf_event_nmi_handler) took too long to run: 7.137 msecs\nclocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because the skew is too large:\n[Firmware Bug]: TSC doesn't count with P0 frequency!\nmce: [Hardware Error]: Machine check events logged\nhrtimer: interrupt took 12345678 ns\n" +
			"TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.\nMemory cgroup out of memory: Killed process 812 (Web Content) total-vm:1kB\nINFO: lockdep is turned off.\n", nil},
		{"a test of KUnit that fails", "    # quokka_test: EXPECTATION FAILED at lib/quokka_test.c:9\n    Expected 1 == 2, but\n    not ok 1 quokka_test\n# quokka: pass:0 fail:1 skip:0 total:1\n", nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			for _, caller := range []string{"[  T812]", ""} {
				var log strings.Builder
				for line := range strings.Lines(tc.log) {
					log.WriteString("[   12.000001]" + caller + " " + line)
				}
				w, err := Read(strings.NewReader(log.String()))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, titles(w)); diff != "" {
					t.Errorf("titles, caller %q (-want +got):\n%s", caller, diff)
				}
			}
		})
	}
}
