package console

import (
	"regexp"
	"strings"
	"sync/atomic"

	"patchproof/guest/event"
)

// Splat is one complaint of the kernel on its console.
type Splat struct {
	// Verdict is event.Crash or event.Hang.
	Verdict event.Verdict
	// Title names the complaint without what differs from run to run
	// (addresses, processors, process ids, times) or from one version of the
	// source to the next (line numbers).
	Title string
	// place is the line of the source that the kernel itself names. Two warnings
	// of one function have one title and differ by their place.
	place string
	// Text is the whole complaint as printed, the first time.
	Text string
	// Times counts the complaints with this title.
	Times int
	// poweredOff says that the guest had switched itself off before.
	poweredOff bool
}

// signs are the beginnings of the kernel's complaints, as matched against a
// kernel line without its timestamp. The first that matches decides.
var signs = []struct {
	verdict event.Verdict
	// literal is in every line that pattern matches. Looking for it first makes
	// the watch cheap: it runs while the guest does, on the same processors.
	literal string
	pattern *regexp.Regexp
}{
	// kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h,
	// kernel/workqueue.c
	{event.Hang, "blocked for more than", regexp.MustCompile(`^INFO: task \S+ blocked for more than`)},
	{event.Hang, "soft lockup - CPU#", regexp.MustCompile(`(?:BUG: )?soft lockup - CPU#`)},
	{event.Hang, "hard LOCKUP on cpu", regexp.MustCompile(`hard LOCKUP on cpu`)},
	{event.Hang, "NMI watchdog: Watchdog", regexp.MustCompile(`^NMI watchdog: Watchdog detected`)},
	{event.Hang, "rcu: INFO: ", regexp.MustCompile(`^rcu: INFO: \S+ (?:self-)?detected (?:expedited )?stalls?`)},
	{event.Hang, "workqueue lockup", regexp.MustCompile(`^BUG: workqueue lockup`)},
	{event.Hang, "expedited stalls", regexp.MustCompile(`INFO: \S+ detected expedited stalls`)},

	// Faults of the processor: arch/x86/mm/fault.c, arch/x86/kernel/traps.c,
	// dumpstack.c
	{event.Crash, "BUG: unable to handle ", regexp.MustCompile(`^BUG: unable to handle `)},
	{event.Crash, "BUG: kernel NULL", regexp.MustCompile(`^BUG: kernel NULL pointer dereference`)},
	{event.Crash, "BUG: stack guard", regexp.MustCompile(`^BUG: stack guard page was hit`)},
	{event.Crash, "general protection", regexp.MustCompile(`^general protection fault`)},
	{event.Crash, "double fault", regexp.MustCompile(`^double fault|^PANIC: double fault`)},
	{event.Crash, ": 0000 [#", regexp.MustCompile(`^(?:invalid opcode|divide error|stack segment|int3|bounds|alignment check|segment not present): `)},
	{event.Crash, "kernel BUG at ", regexp.MustCompile(`^kernel BUG at `)},
	{event.Crash, "Oops", regexp.MustCompile(`^Oops`)},
	{event.Crash, "traps: PANIC", regexp.MustCompile(`^traps: PANIC`)},

	// Sanitizers and memory debugging: mm/kasan/report.c, mm/kfence/report.c,
	// lib/ubsan.c, mm/slub.c, lib/list_debug.c, lib/refcount.c, lib/debugobjects.c,
	// mm/kmemleak.c, mm/page_alloc.c, mm/oom_kill.c
	{event.Crash, "SAN: ", regexp.MustCompile(`^(?:BUG: K[A-Z]*SAN|UBSAN): `)},
	{event.Crash, "BUG ", regexp.MustCompile(`^BUG \S+ \([^)]*\): `)},
	{event.Crash, "list_", regexp.MustCompile(`^list_(?:add|del) (?:corruption|double add)`)},
	{event.Crash, "refcount_t: ", regexp.MustCompile(`^refcount_t: `)},
	{event.Crash, "ODEBUG: ", regexp.MustCompile(`^ODEBUG: `)},
	{event.Crash, "kmemleak: ", regexp.MustCompile(`^kmemleak: \d+ new suspected memory leaks`)},
	{event.Crash, "kmem_cache_destroy ", regexp.MustCompile(`^kmem_cache_destroy \S+: `)},
	{event.Crash, "page allocation failure", regexp.MustCompile(`page allocation failure: order:`)},
	{event.Crash, "ut of memory: ", regexp.MustCompile(`^(?:Out of memory|Memory cgroup out of memory): Killed process`)},

	// lockdep and friends: kernel/locking/lockdep.c, kernel/rcu/update.c
	{event.Crash, "INFO: ", regexp.MustCompile(`^INFO: (?:trying to register non-static key|possible |inconsistent |suspicious )`)},
	{event.Crash, "DEBUG_LOCKS_WARN_ON", regexp.MustCompile(`^DEBUG_LOCKS_WARN_ON`)},

	// The rest of WARN() and BUG(), in lockdep's reports with a bracket in
	// front (print_lock_invalid_wait_context): kernel/panic.c.
	{event.Crash, "WARNING: ", regexp.MustCompile(`^(?:\[ )?WARNING: `)},
	{event.Crash, "BUG: ", regexp.MustCompile(`^(?:\[ )?BUG: `)},
	{event.Crash, "unregister_netdevice", regexp.MustCompile(`^unregister_netdevice: waiting for`)},
	{event.Crash, "Kernel panic", regexp.MustCompile(`^Kernel panic - not syncing: `)},
}

var (
	// kernelLine takes a line that printk wrote: its timestamp, with the
	// caller's id where the kernel prints one, and the text. What a program
	// prints has no timestamp and is never a complaint, whatever it says; it
	// may come before the kernel's text on one line.
	kernelLine = regexp.MustCompile(`\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? (.*)$`)

	cutHere = "------------[ cut here ]------------"
	// blockEnd is the last line of a complaint.
	blockEnd = regexp.MustCompile(`^---\[ end `)
	// inTrace are the lines that belong to a complaint after its stack began.
	inTrace = regexp.MustCompile(`^(?: |\t|$|R[A-Z0-9]{1,2}:|E[A-Z]{2}:|[CDEFGS][SR]\d?:|ORIG_RAX|CR\d|DR\d|Code:|Call Trace|Modules linked in|CPU: |Hardware name|Workqueue|Kernel Offset|irq event|hardirqs|softirqs|PKRU|Stack:|Rebooting|Kernel panic|---|===|-----|Dumping ftrace|Disabling lock|Allocated by|Freed by|The buggy|addr |this frame|Memory state|page:|page dumped|flags:|raw:|Last potentially|Dead code|>|\(stack is|NMI backtrace|Sending NMI|task:|rcu:|Showing|Mem-Info|INFO: lockdep|#\d|\d+ locks? held|no locks held|Object|Redzone|Padding|FIX )`)
)

const (
	// splatLines bounds the text of one complaint, maxSplats their number:
	// a kernel that complains without end complains enough.
	splatLines = 300
	maxSplats  = 20
	// maxPreface bounds the lines between "cut here" and what it is about.
	maxPreface = 5
	// maxDump bounds the answer of a stuck guest that is kept, and maxDigest
	// what of it comes into the result, in bytes.
	maxDump, maxDigest = 512 << 10, 32 << 10
)

// initExit is the panic that follows when init ends by itself, with whatever
// status, and not by a signal: u-root's init does when its program has ended
// without powering the machine off. That is no fault of the kernel.
var initExit = regexp.MustCompile(`^Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000[0-9a-f]{2}00`)

// Watcher reads a console line by line and keeps the kernel's complaints.
type Watcher struct {
	found []Splat
	// InitExited is set when initExit was seen, Died at any other panic,
	// PoweredOff when the guest switched itself off, and DroppedLines when printk
	// could not print all.
	InitExited, Died, PoweredOff, DroppedLines bool
	// InitBegan is set when the kernel said that it runs init.
	InitBegan bool

	// now is the complaint that is being read, nil between two.
	now *Splat
	// lines are its lines so far; traced says that its stack has begun.
	lines  []string
	traced bool
	// begun is the line that began it, without its timestamp, and naming says
	// that a following line may still add to the title what it is about.
	begun  string
	naming bool
	// preface holds the lines from a "cut here" to the line that says what it
	// is, and said the text of the first one: WARN() prints its message there.
	preface []string
	said    string
	// unended is the function of the complaint in whose end this one began, and
	// repeated the same once that end has come: see ends.
	unended, repeated string

	// asked is set while a stuck guest is asked where it is.
	asked  atomic.Bool
	answer strings.Builder
	// Last is the last line before that, and before a panic, with something in it.
	Last string
}

// Line takes the next line of the console.
func (w *Watcher) Line(line string) {
	if w.asked.Load() {
		w.close()
		if w.answer.Len() < maxDump {
			w.answer.WriteString(line + "\n")
		}
		return
	}
	// What a kernel says when it panics, and after that, is not what it was doing.
	if strings.TrimSpace(line) != "" && !w.Died && !w.InitExited && !strings.Contains(line, "] Kernel panic - ") {
		w.Last = line
	}
	m := kernelLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	text := m[1]
	verdict, begins := sign(text)
	panics := begins && strings.HasPrefix(text, "Kernel panic")
	switch {
	case panics && initExit.MatchString(text):
		w.InitExited = true
		w.close()
		return
	case panics:
		w.Died = true
	case text == "reboot: Power down":
		w.PoweredOff = true
	case runsInit.MatchString(text):
		w.InitBegan = true
	case strings.HasPrefix(text, "** ") && strings.Contains(text, "printk messages dropped"):
		w.DroppedLines = true
	}
	switch {
	case text == cutHere:
		w.close()
		w.preface = []string{line}
	case begins && w.continues(text):
		w.begun = text
		w.add(text, line)
	case begins:
		w.begin(verdict, text, line)
	case w.preface != nil:
		if w.said == "" {
			w.said = text
		}
		w.preface = append(w.preface, line)
		if len(w.preface) > maxPreface {
			w.preface, w.said = nil, ""
		}
	case w.now != nil:
		w.add(text, line)
	}
}

func sign(text string) (event.Verdict, bool) {
	for _, s := range signs {
		if strings.Contains(text, s.literal) && s.pattern.MatchString(text) {
			return s.verdict, true
		}
	}
	return "", false
}

// continues says that a line which looks like a complaint is a part or a
// consequence of the one before it.
func (w *Watcher) continues(text string) bool {
	if afterOops.MatchString(text) {
		if w.now == nil && len(w.found) > 0 {
			// The panic that oops=panic and the like make of it.
			last := len(w.found) - 1
			w.now, w.lines, w.traced = &w.found[last], []string{w.found[last].Text}, true
			w.found = w.found[:last]
		}
		return w.now != nil
	}
	if w.now == nil || w.traced {
		return false
	}
	for _, pair := range sameFault {
		if pair.first.MatchString(w.begun) && pair.next.MatchString(text) {
			return true
		}
	}
	return false
}

// sameFault are the lines of which one fault prints two, each of which could
// begin a complaint: kernel/panic.c, __warn, after the text of WARN();
// arch/x86/mm/fault.c, show_fault_oops, and arch/x86/kernel/dumpstack.c,
// __die_header; arch/x86/kernel/traps.c, handle_bug and do_error_trap.
var sameFault = []struct{ first, next *regexp.Regexp }{
	{regexp.MustCompile(`^(?:refcount_t: |ODEBUG: |DEBUG_LOCKS_WARN_ON|list_(?:add|del) |kmem_cache_destroy )`), regexp.MustCompile(`^WARNING: CPU: `)},
	{regexp.MustCompile(`^BUG: (?:unable to handle |kernel NULL |stack guard )`), regexp.MustCompile(`^Oops`)},
	{regexp.MustCompile(`^kernel BUG at `), regexp.MustCompile(`^invalid opcode: `)},
	{regexp.MustCompile(`^traps: PANIC|^PANIC: double fault`), regexp.MustCompile(`^double fault`)},
	// The panic that a check of the kernel ends in, and its report.
	{regexp.MustCompile(`^(?:general protection|Oops|invalid opcode|double fault)`), regexp.MustCompile(`^Kernel panic`)},
}

// afterOops is a panic that only ends what was complained about before.
var afterOops = regexp.MustCompile(`^Kernel panic - not syncing: (?:Fatal exception|panic_on_warn|hung_task: blocked tasks|softlockup: hung tasks)`)

func (w *Watcher) begin(verdict event.Verdict, text, line string) {
	said, lines := w.said, append(w.preface, line)
	unended := ""
	if w.now != nil && w.traced {
		unended = subject(w.now.Title)
	}
	w.close()
	w.unended = unended
	if said == "" {
		said = text
	}
	w.now, w.lines, w.begun, w.naming = &Splat{Verdict: verdict, Title: title(said), Times: 1, place: place(text), poweredOff: w.PoweredOff}, lines, text, true
}

// add takes a line after the beginning, which ends the complaint when it does
// not belong to it.
func (w *Watcher) add(text, line string) {
	if w.traced && !inTrace.MatchString(text) {
		w.close()
		return
	}
	w.lines = append(w.lines, line)
	if w.now.place == "" && !w.traced {
		w.now.place = place(text)
	}
	w.name(text)
	if strings.HasPrefix(text, "Call Trace:") {
		w.traced = true
	}
	if blockEnd.MatchString(text) && !w.ends() || len(w.lines) >= splatLines {
		w.close()
	}
}

// ends says that the end of a complaint is not that of the one being read. A
// processor that is done with an oops lets the next one begin before it prints its
// end and, once more, where it was (arch/x86/kernel/dumpstack.c, oops_end).
func (w *Watcher) ends() bool {
	if w.traced || w.unended == "" {
		return false
	}
	w.unended, w.repeated = "", w.unended
	return true
}

// name adds to the title what only a later line tells: the lock, the place, the
// function. The registers before the trace are those of the fault; in a trace
// they are of what an interrupt or a system call left, which differs from run to
// run, and only a complaint about a processor that is stuck is about that.
func (w *Watcher) name(text string) {
	if !w.naming {
		return
	}
	for _, subject := range subjects {
		if m := subject.FindStringSubmatch(text); m != nil {
			w.now.Title += ": " + title(strings.Join(m[1:], " in "))
			w.naming = false
			return
		}
	}
	where := ""
	if rip, ok := strings.CutPrefix(text, "RIP: 0010:"); ok && (!w.traced || w.now.Verdict == event.Hang) {
		where = function(rip)
		if where == w.repeated {
			w.repeated = ""
			return
		}
	} else if m := traceLine.FindStringSubmatch(text); m != nil && w.traced && (inMessenger(w.now.Title) || sleeps.MatchString(w.now.Title)) {
		where = m[1]
	}
	switch {
	case where == "":
	case messengers.MatchString(where):
		// Its caller is meant, which the trace has.
		if !inMessenger(w.now.Title) {
			w.now.Title += " in " + where
		}
	default:
		w.now.Title, w.naming = titleIn(w.now.Title, where), false
	}
}

// subjects are lines that say what a complaint is about: the lock of lockdep's
// reports (print_lock), the line of RCU's, the caller of check_preemption_disabled.
var subjects = []*regexp.Regexp{
	regexp.MustCompile(`^[0-9a-f]{16} \((.+)\)\{.{4,}?\}-\{\d+:\d+\}, at: ([\w.]+)`),
	regexp.MustCompile(`^(\S+:\d+ suspicious \S+ usage)!`),
	regexp.MustCompile(`^caller is ([\w.]+)`),
}

var (
	// traceLine is a function of a stack that was certainly called.
	traceLine = regexp.MustCompile(`^ ([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+`)
	// messengers are functions that complain about what their callers did.
	messengers = regexp.MustCompile(`^(?:_*list_(?:add|del|move|splice)\w*|refcount_warn_saturate|debug_print_object|_*mem(?:cpy|set|move|cmp)\w*|\w*kasan\w*|__asan_\w+|check_memory_region|print_address_description|kfree|kmem_cache_free\w*|slab_\w+|dump_stack|show_stack|_*might_(?:sleep|fault)|_*copy_(?:to|from)_user|msleep|k[mz]alloc\w*|__kmalloc\w*|kmem_cache_alloc\w*|_*schedule\w*|mutex_lock\w*|down_\w+|wait_for_completion\w*|__warn|warn_slowpath_\w+|report_bug|handle_bug|exc_\w+|asm_exc_\w+)(?:\.\w+)*$`)
	// sleeps are complaints about a call that may sleep: the caller is at fault.
	sleeps = regexp.MustCompile(`^BUG: (?:sleeping function|scheduling while atomic)`)
	// endsIn is the function at the end of a title.
	endsIn = regexp.MustCompile(` (?:in )?([\w.]+)$`)
)

// subject is the function that a title names.
func subject(title string) string {
	if m := endsIn.FindStringSubmatch(title); m != nil {
		return m[1]
	}
	return ""
}

// inMessenger says that a title names a messenger.
func inMessenger(title string) bool { return messengers.MatchString(subject(title)) }

// titleIn names the function in a title, in the place of a messenger, and once.
func titleIn(title, function string) string {
	if m := endsIn.FindStringSubmatch(title); m != nil {
		if m[1] == function {
			return title
		}
		if messengers.MatchString(m[1]) {
			title = strings.TrimSuffix(title, m[0])
		}
	}
	return title + " in " + function
}

// place is the file and line in a line of a complaint, if it has them.
func place(text string) string { return sourceLine.FindString(text) }

var sourceLine = regexp.MustCompile(`[\w./-]+\.[chS]:\d+`)

// stoppedCPU are the scheduler's complaints about a CPU that is marked offline
// without having been taken offline. At a power-off all but one are stopped so
// (arch/x86/kernel/reboot.c, native_machine_shutdown), and one that is still
// running and balances its load then moves a task to one that is not.
var stoppedCPU = regexp.MustCompile(`^(?:WARNING: at kernel/sched/core\.c set_task_cpu$|sched: Unexpected reschedule of offline CPU!)`)

// close ends the complaint that is being read, which is left out when the
// power-off brings it about. One that is there already is only counted, and so is
// one of which nothing but its kind was printed when a kernel that had complained
// of that before went down.
func (w *Watcher) close() {
	now, cut := w.now, w.naming && !w.traced
	text := strings.Join(w.lines, "\n")
	w.now, w.lines, w.traced, w.preface, w.said = nil, nil, false, nil, ""
	w.unended, w.repeated = "", ""
	if now == nil || now.poweredOff && stoppedCPU.MatchString(now.Title) {
		return
	}
	for i := range w.found {
		same := w.found[i].Title == now.Title && w.found[i].place == now.place
		if same || cut && w.Died && strings.HasPrefix(w.found[i].Title, now.Title+" in ") {
			w.found[i].Times++
			return
		}
	}
	if len(w.found) < maxSplats {
		now.Text = text
		w.found = append(w.found, *now)
	}
}

// Splats returns the complaints in their order. The console must have ended.
func (w *Watcher) Splats() []Splat {
	w.close()
	return w.found
}

// Ask is called before a stuck guest is asked where it is: what it prints from
// then on is an answer and no complaint.
func (w *Watcher) Ask() { w.asked.Store(true) }

// Dump returns what the guest answered after Ask, shortened, and in
// short where its tasks are.
func (w *Watcher) Dump() (text, places string) {
	text, places = digest(strings.TrimSpace(w.answer.String()))
	if len(text) > maxDigest {
		text = text[:maxDigest] + "\n(the console log has the rest)"
	}
	return text, places
}

// volatile are the parts of a first line that differ between two runs of the
// same fault.
var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(` \[[0-9a-f]{8}\] code: \S+`), " code"},
	{regexp.MustCompile(`/\d+/0x[0-9a-f]+`), ""},
	{regexp.MustCompile(`CPU: \d+ PID: \d+ `), ""},
	{regexp.MustCompile(`\.([chS]):\d+(?::\d+)?`), ".$1"},
	{regexp.MustCompile(`CPU#\d+`), "CPU"},
	{regexp.MustCompile(`\bcpu \d+`), "cpu"},
	{regexp.MustCompile(`\b\d+s\b`), "Ns"},
	{regexp.MustCompile(`for more than \d+ seconds`), "too long"},
	{regexp.MustCompile(`(\[?[A-Za-z][\w./-]*?)(?:/u?\d+:\d+\S*?)?:\d+(\]| blocked)`), "$1$2"},
	{regexp.MustCompile(`\+0x[0-9a-f]+/0x[0-9a-f]+`), ""},
	{regexp.MustCompile(`(?: for|,)? address: (?:0x)?[0-9a-f]+`), ""},
	{regexp.MustCompile(`\b(?:0x)?[0-9a-f]{8,16}\b`), "ADDR"},
	{regexp.MustCompile(`by task \S+`), "by task"},
	{regexp.MustCompile(`: [0-9a-f]{4} \[#\d+\].*`), ""},
	{regexp.MustCompile(`\s+`), " "},
}

// title makes a first line comparable between runs.
func title(text string) string {
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return strings.TrimSpace(text)
}

// function is the name in func+0x12/0x34.
func function(text string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(text), "+")
	return name
}
