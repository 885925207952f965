package console

import (
	"regexp"
	"slices"
	"strings"
)

// machinery are functions that a complaint names and nobody would blame: they find
// the fault, print it, or do to their caller's data what the caller asked for. The
// first function on the stack that is none of them is meant. Each row has its reason.
// Names are without the underscores in front; * is any part of a name.
var machinery = functions([]row{
	{"find a fault and print it: lib/dump_stack.c, lib/bug.c, kernel/panic.c",
		`dump_stack* show_stack* show_regs dump_backtrace* walk_stackframe unwind_next_frame unwind_get_* unwind_backtrace return_address arch_stack_walk* stack_trace_* stack_depot_*
		warn warn_* WARN_trap report_bug report_*bug* handle_bug fixup_bug panic vpanic *_panic panic_bad_stack handle_bad_stack bad_stack
		check_panic_on_warn oops_* die die_* print_*report* print_*bug* print_trailer print_address_description* printk* vprintk*
		printk_safe* end_report rust_helper_* *rust_begin_unwind *9panicking* report_bad_irq note_interrupt assfail assertfail *_assertfail print_unlock* print_usage* print_circular* print_bad_*
		print_deadlock* print_irq* print_collision check_no_collision schedule_bug dequeue_task_idle resched_latency_warn get_taint print_tainted* Ldiv0*`},
	{"sanitizers, and what a compiler calls for them",
		`*kasan* *kmsan* *kcsan* *kfence* *ubsan* asan_* tsan_* msan_* hwasan* sanitizer_* check_memory_region* val_to_string
		handle_overflow handle_null_ptr_deref handle_misaligned_access handle_object_size_mismatch
		write_comp_data read_word_at_a_time read_once_word_nocheck instrument_* fortify_* cfi_check* cfi_slowpath* qlist_* qlink_* quarantine_*`},
	{"checks of SLUB, of the page allocator and of kmemleak, which look at what somebody else has broken",
		`object_err slab_err slab_fix slab_bug check_object check_slab check_bytes_and_report on_freelist free_debug_processing
		alloc_debug_processing slab_pad_check bad_page poison_error check_element remove_element check_new_page* check_free_page* check_*object* usercopy_* kmemleak_* link_object create_object
		page_table_check_* debug_print_* debug_check_* debug_object* debug_obj_* *_debug_hint timer_is_static_object work_is_static_object ref_tracker*`},
	{"strings, memory and bits belong to the caller",
		`memcpy* memset* memmove* memcmp* memchr* memscan* memdup* strlen* strnlen* strcmp* strncmp* strcpy* strncpy* strlcpy* strscpy*
		strcat* strncat* strlcat* strim strreplace skip_spaces kstrto* parse_integer* simple_strto* *sscanf match_token sort sort_r list_sort bsearch
		simple_read_from_buffer simple_write_to_buffer strchr* strnchr* strrchr* strstr* strnstr* strdup* strndup* strsep* strspn* sized_strscpy copy_*user*
		raw_copy_* rep_movs* arch_copy_* get_user* put_user* clear_user* copyin* copyout* copy_to_iter* copy_from_iter* copy_page_*iter*
		copy_folio_*iter* simple_copy_to_iter* find_first_*bit* find_next_*bit* test_bit* set_bit* clear_bit* change_bit* test_and_*_bit*
		atomic_inc* atomic_dec* atomic_add* atomic_sub* atomic_read* atomic_set* atomic_xchg* atomic_cmpxchg* atomic_fetch*
		atomic_try* atomic_or* atomic_and* atomic_long_* atomic64_* raw_atomic* arch_atomic* hex_* crc* jhash* siphash* aes_*`},
	{"printing takes what the caller hands over: lib/vsprintf.c",
		`pointer string string_nocheck hex_string *snprintf *scnprintf *sprintf *asprintf* va_format* print_hex_dump* dev_printk*
		dev_vprintk* dev_info* dev_warn* dev_err* dev_notice*`},
	{"lists, trees and counts: the caller gave them a bad entry",
		`list_add* list_del* list_move* list_splice* list_replace* list_empty* list_first* list_next* list_entry* hlist* klist_* llist_* plist_*
		refcount_* kref_* rb_erase* rb_insert* rb_next* rb_prev* rb_first* rb_last* xas_* xa_* radix_tree_* idr_* ida_destroy rhashtable_*
		rht_* lockref_* skb_put skb_push skb_pull skb_*put`},
	{"the last reference to a thing is dropped, or one to a dead thing taken, by whoever had it",
		`iput iput_final ihold dput fast_dput fput put_device get_device kfree_skb* consume_skb* drop_nlink inc_nlink set_nlink clear_nlink`},
	{"the page cache and buffers work on the mapping that they are given",
		`find_lock_entries find_get_entries filemap_get_folio* filemap_alloc_folio* find_or_create_page pagecache_get_page
		truncate_inode_pages* read_cache_page* read_cache_folio* do_read_cache_* mark_buffer_dirty* extract_*_to_sg`},
	{"memory is allocated and freed for the caller",
		`kalloc* kmalloc* kzalloc* kcalloc* kvmalloc* kvzalloc* kvcalloc* kvalloc* malloc* zalloc* calloc* kfree* kvfree* kzfree krealloc* kvrealloc*
		do_kmalloc* kmemdup* kstrdup* kdup* kmem_cache_* do_kmem_cache_* slab_* new_slab allocate_slab cache_from_obj get_partial* do_slab_free free_to_partial_list
		deactivate_slab put_cpu_partial pcs_* free_to_pcs* alloc_from_pcs* refill_sheaf sheaf_* refill_objects
		get_from_any_partial alloc_slab_page free_slab discard_slab memcg_slab_* set_track_prepare cache_free* per_cpu_remove_cache free_large_kmalloc alloc_page* alloc_frozen_pages* alloc_contig* alloc_*pages* get_page_from_freelist
		post_alloc_hook prep_new_page free_unref_* free_the_page free_one_page free_page* free_pcp* free_tail_page* free_frozen_page*
		free_pages* folio_put* folios_put* put_page vmalloc* vzalloc* vfree* vunmap* should_fail* fail_dump warn_alloc reset_page_owner
		set_page_owner fs_reclaim_* folio_alloc* vma_alloc_folio* pcpu_alloc* alloc_percpu* mempool_* kmem_alloc* kmem_zalloc*`},
	{"what is wrong is the lock that the caller takes",
		`lock_acquire* lock_release* lock_is_held* lock_downgrade* lock_contended* lock_acquired* register_lock_class assign_lock_key mark_lock*
		mark_held_locks mark_usage mark_irqflags reacquire_held_locks validate_chain check_prev* check_noncircular check_irq_usage check_deadlock
		check_wait_context check_flags lockdep_* debug_lockdep* trace_hardirqs* trace_softirqs* look_up_lock_class hlock_class
		spin_lock* spin_unlock* spin_trylock* read_lock* read_unlock* read_trylock* write_lock* write_unlock* write_trylock*
		raw_spin_* raw_read_lock* raw_read_unlock* raw_write_lock* raw_write_unlock* do_raw_* spin_bug spin_dump rwlock_bug rwlock_dump
		queued_*lock* queued_fetch* native_queued_* pv_queued* raw_callee_save* virt_spin* arch_spin* mutex_* rt_mutex* ww_* rwsem_*
		down down_read* down_write* down_killable* down_interruptible* down_trylock* down_timeout* down_common up up_read* up_write*
		percpu_down_* percpu_up_* ldsem_* osq_* owner_on_cpu rt_spin_* rt_read_* rt_write_* might_lock* seqprop_* seqcount_* do_write_seqcount*
		rtlock_slowlock* rwbase_*lock* percpu_rwsem_wait* *_read_lock_killable *_write_lock_killable local_lock* task_blocks_on_rt_mutex lock_sock* release_sock *_read_lock *_write_lock folio_lock* lock_page* folio_unlock unlock_page`},
	{"checks of the context: what called them is in the wrong one",
		`might_sleep* might_fault* might_resched* might_alloc* cant_* check_preemption_disabled debug_smp_processor_id
		this_cpu_preempt_check preempt_count_*`},
	{"the scheduler, and waits that serve anybody",
		`schedule schedule_* preempt_schedule* cond_resched* context_switch switch_to* finish_task_switch* msleep* usleep_range* io_schedule*
		wait_for_co* wait_on_buffer do_wait_for_common bit_wait* wait_on_bit* out_of_line_wait_* folio_wait_* wait_on_page_* add_wait_queue* remove_wait_queue* finish_wait prepare_to_wait*
		synchronize_* wait_rcu_gp* flush_work* flush_workqueue* flush_delayed_work drain_workqueue destroy_workqueue check_flush_dependency cancel_work* cancel_delayed_work*
		try_to_grab_pending queue_work* queue_delayed_work* insert_work kthread_stop* kthread_should_stop wake_up* try_to_wake_up
		do_wait_intr* wait_woken kthread_park* complete complete_* delay* const_udelay udelay ndelay cpu_relax rep_nop`},
	{"RCU, timers, interrupts and tracing carry out what somebody asked for, or find that it takes too long",
		`rcu_* call_rcu* srcu_* cleanup_srcu_struct *nmi_*backtrace* nmi_* *_nmi trigger_*backtrace* arch_trigger_*backtrace* watchdog_*
		*hrtimer* tick_* update_process_times *apic_timer* *sysvec_* do_IRQ common_interrupt irq_enter* irq_exit* irqentry_* raw_irqentry_* invoke_softirq
		do_softirq* handle_softirqs stext run_ksoftirqd smpboot_thread_fn call_timer_fn expire_timers run_timer* local_bh_* handle_irq* handle_*_irq
		generic_handle_* trace_* traceiter* perf_trace* ftrace_* del_timer* timer_delete* timer_shutdown* try_to_del_timer* mod_timer*
		add_timer* init_timer_key lock_timer_base sk_stop_timer* sk_reset_timer *notifier_call_chain*`},
	{"entries of page tables are written for who maps, and looked at for who unmaps",
		`set_pte* set_ptes* set_pmd* set_pud* ptep_* pmdp_* vm_normal_page* vm_normal_folio*`},
	{"interrupts and mappings are those of the driver that asks for them", `free_irq* devm_free_irq* request_irq* request_threaded_irq request_any_context_irq
		devm_request_*irq setup_irq enable_irq disable_irq* iounmap kmalloc_fix_flags vmalloc_fix_flags`},
	{"the DMA API maps what its driver says, and checks that", `debug_dma_* check_unmap check_sync check_sg_segment add_dma_entry dma_map_* dma_unmap_* dma_sync_* dma_free_*`},
	{"another processor is asked to do something",
		`smp_call_function* csd_lock* on_each_cpu* generic_exec_single flush_smp_* generic_smp_call*`},
	{"addresses and ports are the caller's",
		`phys_addr* virt_to_* raw_readb raw_readw raw_readl raw_readq raw_writeb raw_writew raw_writel raw_writeq readb readw readl
		readq writeb writew writel writeq logic_in* logic_out*`},
	{"the driver core, sysfs and procfs register and remove what their caller asks for",
		`add_uevent_var sysfs_* create_files internal_create_group* kobject_* kset_* device_add* device_register device_del device_unregister device_destroy device_create*
		device_release* device_remove_file* devres_release_all get_device_parent proc_register proc_create* proc_mkdir* remove_proc_*`},
	{"USB requests are what the driver makes of them",
		`usb_submit_urb usb_hcd_submit_urb usb_start_wait_urb usb_bulk_msg usb_control_msg* usb_interrupt_msg usb_kill_urb
		usb_kill_anchored_urbs`},
	{"handlers of a fault, below which it happened",
		`segv segv_handler sig_handler* hard_handler bad_area* no_context kernelmode_fixup* page_fault_oops show_fault_oops fixup_* do_kernel_fault bug_handler brk_handler
		call_break_hook bug_brk_handler do_el1_* early_brk64`},
	{"a task that ends finds what it still holds, and no more than that",
		`make_task_dead task_dead do_task_dead rewind_stack* debug_check_no_locks_held`},
}, bottomOfStack)

// bottom are the ends of all stacks: they called whoever is to blame.
var bottom = functions(bottomOfStack)

var bottomOfStack = []row{
	{"entries of a fault",
		`asm_* exc_* sysvec_* do_page_fault do_error_trap do_invalid_op do_general_protection do_trap* do_int3 do_divide_error page_fault
		error_trap error_entry invalid_op general_protection trap int3 divide_error async_page_fault do_user_addr_fault do_kern_addr_fault
		handle_page_fault do_mem_abort do_sea do_translation_fault do_alignment_*fault do_bad_*fault do_tag_*fault do_debug_exception do_undefinstr`},
	{"entries of a system call and of an interrupt",
		`do_syscall* do_fast* entry_* ret_* retint_* system_call* start_kernel_thread interrupt_return* interrupt_exit* handle_syscall syscall_enter* syscall_exit* syscall_return* invoke_syscall el0* el1* do_el0_svc* call_on_*stack
		do_interrupt_handler gic_* irq_svc dabt_svc pabt_svc und_svc`},
	{"loops of threads and of idle processors",
		`kthread worker_thread process_one_work process_scheduled_works secondary_startup* start_secondary cpu_startup_entry do_idle
		default_idle* arch_cpu_idle native_safe_halt acpi_*idle* cpuidle_*`},
}

// carriers work on data that may not be initialised, which is no fault of theirs.
var carriers = functions([]row{{"ciphers and hashes", `*_encrypt *_decrypt crypto_*`}})

// doors call somebody's function through a pointer. The work of which a stall is part is what
// was called there, whatever it was doing when it was looked at.
var doors = functions([]row{
	{"system calls", `do_syscall* do_fast* invoke_syscall entry_* el0* ret_fast_syscall tracesys*`},
	{"file operations",
		`vfs_read vfs_write vfs_readv vfs_writev vfs_iter_read vfs_iter_write vfs_ioctl new_sync_read new_sync_write do_iter_read do_iter_write
		do_iter_readv_writev call_read_iter call_write_iter compat_*ioctl blkdev_ioctl blkdev_driver_ioctl call_mmap mmap_region do_mmap
		do_dentry_open vfs_open fput full_proxy_* task_work_run exit_to_user* seq_read* proc_reg_*`},
	{"file systems",
		`evict vfs_fsync* vfs_create vfs_unlink vfs_rmdir vfs_mkdir vfs_rename vfs_link vfs_symlink vfs_fallocate vfs_statfs vfs_getattr*
		vfs_get_tree vfs_*xattr iterate_dir notify_change lookup_open lookup_slow do_writepages deactivate_locked_super generic_shutdown_super sync_filesystem`},
	{"a task that ends or begins a program, and what goes with its memory", `do_exit do_group_exit mmput exit_mmap search_binary_handler exec_binprm`},
	{"drivers", `really_probe driver_probe_device call_driver_probe device_remove device_release_driver* dpm_run_callback`},
	{"protocols",
		`sock_sendmsg* sock_recvmsg* sock_release sock_ioctl sock_do_ioctl compat_sock_ioctl sock_mmap sock_common_setsockopt do_sock_setsockopt
		kernel_setsockopt kernel_listen kernel_accept sk_common_release nfnetlink_rcv_msg rtnetlink_rcv_msg genl_rcv_msg genl_family_rcv_msg*
		netlink_dump netif_receive_skb* napi_poll*`},
	{"work, threads and what runs at boot",
		`process_one_work process_scheduled_works worker_thread kthread ret_from_fork* smpboot_thread_fn run_ksoftirqd do_one_initcall
		kernel_init kernel_init_freeable start_secondary cpu_startup_entry do_idle`},
	{"softirqs, timers and interrupts",
		`do_softirq* handle_softirqs call_timer_fn expire_timers run_timers run_timer_* hrtimer_run* tasklet_action* tasklet_hi_action*
		rcu_do_batch rcu_core* handle_irq_event*`},
	{"fault handlers of a mapping", `do_fault page_fault do_page_fault`},
})

// row is a group of functions with the reason why they are in a table.
type row struct{ reason, names string }

// table holds the functions of some rows. It is asked for each function of each stack.
type table struct {
	// exact are whole names, and prefixes what is before a * at the end.
	exact, prefixes map[string]bool
	// globs are the other names, cut at each *.
	globs [][]string
}

// functions makes one table of many rows.
func functions(rows ...[]row) table {
	t := table{map[string]bool{}, map[string]bool{}, nil}
	for _, r := range slices.Concat(rows...) {
		for name := range strings.FieldsSeq(r.names) {
			switch parts := strings.Split(name, "*"); {
			case len(parts) == 1:
				t.exact[name] = true
			case len(parts) == 2 && parts[1] == "":
				t.prefixes[parts[0]] = true
			default:
				t.globs = append(t.globs, parts)
			}
		}
	}
	return t
}

// has says that the function is in the table, or no function but a bare address.
func (t table) has(function string) bool {
	name := strings.TrimLeft(function, "_")
	if t.exact[name] || strings.HasPrefix(name, "0x") {
		return true
	}
	for i := range len(name) {
		if t.prefixes[name[:i+1]] {
			return true
		}
	}
	return slices.ContainsFunc(t.globs, func(parts []string) bool { return glob(parts, name) })
}

// glob says whether the name is made of the parts, with anything between them.
func glob(parts []string, name string) bool {
	name, ok := strings.CutPrefix(name, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		if _, name, ok = strings.Cut(name, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(name, parts[last])
}

var (
	// suffixes are what compilers append to the functions they split or clone.
	suffixes = regexp.MustCompile(`(?:\.(?:cold|isra|constprop|part|llvm|lto_priv|\d+))+$`)
	// wrapped are the faces of a system call, of which a compiler keeps one or another.
	wrapped = regexp.MustCompile(`^__(?:x64|ia32|arm64|se|do)_(?:compat_)?(sys_\w+)$`)
)

// plainName is the function's name in the source.
func plainName(name string) string {
	if strings.IndexByte(name, '.') >= 0 {
		name = suffixes.ReplaceAllString(name, "")
	}
	if strings.HasPrefix(name, "__") {
		// arm64's functions that run at any address.
		name = strings.TrimPrefix(name, "__pi_")
		name = wrapped.ReplaceAllString(name, "$1")
	}
	return name
}
