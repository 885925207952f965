package console

import "regexp"

// machinery are functions that a complaint names and nobody would blame: they find
// the fault, print it, or do to their caller's data what the caller asked for. The
// first function on the stack that is none of them is meant. Each line has its reason.
var machinery = regexp.MustCompile(`^(?:` +
	// print and check for the fault: lib/dump_stack.c, kernel/panic.c, lib/bug.c
	`(?:__)?dump_stack\w*|show_stack\w*|show_regs|dump_backtrace\w*|unwind_\w+|arch_stack_walk\w*|__warn\w*|warn_\w+|report_bug|report_\w*bug\w*|handle_bug|panic|vpanic|nmi_panic|check_panic_on_warn|oops_\w+|__die\w*|die\w*|print_\w*(?:report|bug|trailer|address_description)\w*|printk\w*|_printk|vprintk\w*|end_report|` +
	// sanitizers and what the compiler calls for them
	`\w*kasan\w*|\w*kmsan\w*|\w*kcsan\w*|\w*kfence\w*|__asan_\w+|__tsan_\w+|__msan_\w+|__hwasan\w*|hwasan\w*|__sanitizer_\w+|\w*ubsan\w*|check_memory_region\w*|val_to_string|object_err|slab_err|slab_fix|slab_bug|check_object|check_slab|check_bytes_and_report|on_freelist|free_debug_processing|alloc_debug_processing|slab_pad_check|` +
	// string, bit and copying helpers work on their caller's memory
	`_*mem(?:cpy|set|move|cmp|chr|scan|dup)\w*|str(?:n?len|n?cmp|n?cpy|l?cpy|scpy|n?cat|r?chr|n?str|n?dup|sep|spn)\w*|sized_strscpy|__?copy_\w*user\w*|copy_\w*user\w*|raw_copy_\w+|rep_movs\w*|__arch_copy_\w+|_*(?:get|put)_user\w*|clear_user\w*|__clear_user|usercopy_\w+|__check_\w*object\w*|check_heap_object|_*copy_(?:to|from)_iter\w*|copy_(?:page|folio)_(?:to|from)_iter\w*|fortify_panic|__fortify_\w+|(?:_?find_(?:first|next)_\w*bit\w*)|(?:test|set|clear|change)_bit\w*|(?:raw_)?(?:atomic|arch_atomic)\w*|instrument_\w+|read_word_at_a_time|` +
	// list, tree and count helpers: the caller gave them a bad entry
	`_*list_(?:add|del|move|splice|replace|empty|first|next|entry)\w*|_*hlist\w*|refcount_\w+|__refcount_\w+|kref_\w+|rb_(?:erase|insert|next|first)\w*|__rb_\w+|skb_(?:over_|under_)?panic|skb_put|skb_push|__skb_\w*put|skb_pull|assfail|assertfail|btrfs_assertfail|ida_destroy|` +
	// objects' debugging: the one who frees or starts the object is meant
	`debug_(?:print|check|object)_\w+|debug_check_no_obj_freed|__debug_\w+|debug_object\w*|\w+_debug_hint|` +
	// allocation and freeing of memory
	`_*k[mzvc]?v?alloc\w*|k?v?[mzc]alloc\w*|kvfree\w*|kfree\w*|__kfree\w*|krealloc\w*|k(?:mem)?dup\w*|kmem_cache_\w+|_*slab_\w+|___slab_alloc|new_slab|allocate_slab|get_partial\w*|__slab_\w+|do_slab_free|free_to_partial_list|_*alloc_(?:pages?|frozen_pages|contig)\w*|__alloc_\w*pages?\w*|get_page_from_freelist|post_alloc_hook|prep_new_page|free_(?:unref|the)_\w+|__?free_(?:one_)?pages?\w*|free_pcp\w*|free_pages?\w*|free_(?:tail_)?page\w*|__folio_put\w*|folio_put\w*|put_page|bad_page|check_(?:new|free)_page\w*|vmalloc\w*|__vmalloc\w*|vzalloc\w*|should_fail\w*|__should_failslab|fail_dump|warn_alloc|qlist_\w+|kmemleak_\w+|` +
	// locks: what is wrong is the lock that the caller takes
	`lock_(?:acquire|release|is_held|downgrade|contended|acquired)\w*|_*lock_(?:acquire|release)|register_lock_class|assign_lock_key|mark_lock\w*|mark_held_locks|mark_usage|validate_chain|check_(?:prev|prevs|noncircular|irq_usage|deadlock|wait_context|flags|prev_add|prevs_add)\w*|lockdep_\w+|debug_lockdep\w*|trace_hardirqs\w*|rcu_lockdep\w*|look_up_lock_class|print_(?:usage|circular|deadlock|unlock|irq)\w*|_*(?:raw_)?(?:spin|read|write)_(?:lock|unlock|trylock|lock_\w+|unlock_\w+|trylock\w*)|_*raw_(?:spin|read|write)_\w+|do_raw_\w+|(?:spin|rwlock)_(?:bug|dump)\w*|queued_\w*lock\w*|native_queued_\w+|pv_queued\w*|__pv_queued\w+|__raw_callee_save\w*|_*(?:rt_)?mutex_\w+|__ww_mutex\w*|ww_mutex\w*|rwsem_\w+|_*(?:down|up)(?:_(?:read|write|killable|interruptible|trylock|timeout)\w*)?|percpu_(?:down|up)_\w+|__percpu_(?:down|up)_\w+|osq_\w+|rt_spin_\w+|mutex_\w+|might_lock\w*|seqprop_\w+|do_write_seqcount\w*|arch_spin\w*|_atomic_dec_and_\w*lock\w*|ww_\w+|local_lock\w*|queued_fetch\w*|virt_spin\w*|` +
	// checks of the context: what called them is in the wrong one
	`_*might_(?:sleep|fault|resched|alloc)\w*|__cant_\w+|check_preemption_disabled|debug_smp_processor_id|__this_cpu_preempt_check|preempt_count_\w+|` +
	// the scheduler, and waits that serve anybody
	`_*schedule\w*|schedule_\w+|preempt_schedule\w*|__sched_\w+|_*cond_resched\w*|context_switch|__switch_to\w*|msleep\w*|usleep_range\w*|io_schedule\w*|_*wait_for_co\w*|__?wait_for_common\w*|do_wait_for_common|bit_wait\w*|_*wait_on_bit\w*|out_of_line_wait_\w+|_*folio_wait_\w+|wait_on_page_\w+|folio_wait_bit\w*|__folio_lock\w*|_*lock_page\w*|synchronize_\w+|_*synchronize_(?:rcu|srcu)\w*|wait_rcu_gp\w*|__wait_rcu_gp|rcu_barrier\w*|_*flush_(?:work|workqueue|delayed_work)\w*|drain_workqueue|_*cancel_(?:delayed_)?work\w*|kthread_stop|_*wake_up\w*|try_to_wake_up|do_wait_intr\w*|_*delay\w*|__const_udelay|__udelay|__ndelay|delay_\w+|cpu_relax|rep_nop|` +
	// RCU, timers, interrupts and tracing as they find a stall
	`rcu_\w+|__rcu_\w+|call_rcu\w*|__call_rcu\w*|srcu_\w+|__srcu_\w+|\w*nmi_\w*backtrace\w*|nmi_\w+|\w*_nmi|trigger_\w*backtrace\w*|watchdog_\w+|\w*hrtimer\w*|tick_\w+|update_process_times|\w*apic_timer\w*|\w*sysvec_\w+|do_IRQ|common_interrupt|asm_\w+|exc_\w+|irq_(?:enter|exit)\w*|__irq_exit\w*|irqentry_\w+|invoke_softirq|do_softirq\w*|_*do_softirq\w*|handle_softirqs|run_ksoftirqd|smpboot_thread_fn|call_timer_fn|expire_timers|__run_timers?|run_timer_\w+|_*run_timer\w*|__local_bh_\w+|_*local_bh_\w+|handle_irq\w*|__handle_irq\w*|generic_handle_\w+|trace_\w+|__traceiter\w+|perf_trace\w*|ftrace_\w+|` +
	`__report_bad_irq|note_interrupt|` +
	// structures and sums that work on what they are given: lib/, crypto/
	`hex_\w+|crc\w+|xas_\w+|radix_tree_\w+|rhashtable_\w+|rht_\w+|aes_\w+|timer_is_static_object|work_is_static_object|lock_timer_base|ref_tracker\w*|__phys_addr\w*|__virt_to_phys\w*|virt_to_\w+|__raw_(?:read|write)\w|stack_trace_\w+|stack_depot_\w+|hlock_class|__printk_safe\w*|write_comp_data|complete\w*|__folio_unlock|folio_unlock|unlock_page|klist_\w+|__reset_page_owner|__set_page_owner|deactivate_slab|put_cpu_partial|free_large_kmalloc|task_blocks_on_rt_mutex|rt_mutex\w*|kthread_should_stop|panic_bad_stack|` +
	// smp calls
	`smp_call_function\w*|csd_lock\w*|on_each_cpu\w*|generic_exec_single|__flush_smp\w*|flush_smp_\w+|generic_smp_call\w*|` +
	// entries of a fault or a system call, and the ends of stacks
	`(?:asm_)?exc_\w+|(?:do_)?(?:page_fault|error_trap|invalid_op|general_protection|trap|int3|divide_error)|do_error_trap|do_trap\w*|do_user_addr_fault|do_kern_addr_fault|handle_page_fault|bad_area\w*|__bad_area\w*|no_context|kernelmode_fixup\w*|page_fault_oops|show_fault_oops|fixup_\w+|error_entry|invalid_op|page_fault|general_protection|async_page_fault|ret_from_\w+|do_syscall\w*|do_fast_syscall\w*|__do_fast\w*|entry_\w+|ret_\w*syscall|syscall_(?:enter|exit|return)\w*|invoke_syscall|el[01]\w*|do_el0_svc\w*|el0_svc\w*|do_mem_abort|do_sea|do_translation_fault|do_(?:alignment|bad|tag)_\w*fault|do_page_fault|__do_kernel_fault|bug_handler|brk_handler|do_debug_exception|call_break_hook|do_undefinstr|call_on_\w*stack|do_interrupt_handler|gic_\w+|kthread|worker_thread|process_one_work|process_scheduled_works|secondary_startup\w*|start_secondary|cpu_startup_entry|do_idle|default_idle\w*|arch_cpu_idle|native_safe_halt|acpi_\w*idle\w*|cpuidle_\w+|` +
	// sysfs and kobject register what their caller asks for: fs/sysfs, lib/kobject.c
	`add_uevent_var|sysfs_\w+|kobject_\w+|device_add\w*|device_register|kset_\w+|` +
	// do_exit finds the locks, and no more than that
	`(?:make_)?task_dead|do_task_dead|rewind_stack\w*|debug_check_no_locks_held|` +
	`0x[0-9a-f]+` +
	`)$`)

var (
	// suffixes are what compilers append to the functions they split or clone.
	suffixes = regexp.MustCompile(`(?:\.(?:cold|isra|constprop|part|llvm|lto_priv|\d+))+$`)
	// wrapped are the faces of a system call, of which a compiler keeps one or another.
	wrapped = regexp.MustCompile(`^__(?:x64|ia32|arm64|se|do)_(?:compat_)?(sys_\w+)$`)
)

// plainName is the function's name in the source.
func plainName(name string) string {
	name = suffixes.ReplaceAllString(name, "")
	return wrapped.ReplaceAllString(name, "$1")
}
