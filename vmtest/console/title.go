package console

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
)

// subjects are lines that say what a complaint is about: the lock of lockdep's
// reports (print_lock), the line of RCU's, the work of a worker, the handler of an
// interrupt. The group f is a function.
var subjects = []struct {
	// of begins the titles of the complaints that have such a line.
	of      string
	pattern *regexp.Regexp
}{
	{"WARNING: suspicious ", regexp.MustCompile(`^(?:\.\.?/)*(?P<s>\S+\.[chS]:\d+ .+?)!*$`)},
	{"WARNING: bad ", regexp.MustCompile(`is trying to \w+ (?:lock )?\((?P<s>.+)\) at:`)},
	{"WARNING: still has locks", heldLock},
	{"WARNING: lock held when", heldLock},
	{"WARNING: ", regexp.MustCompile(`^(?:[0-9a-f]{8,16})? ?\((?P<s>.+)\)\{.{4,}?\}(?:-\{\d+:\d+\})?, at: (?:\[<[0-9a-f]+>\] )?(?P<f>[\w.]+)`)},
	{"[ BUG: ", regexp.MustCompile(`^[0-9a-f]{8,16} \((?P<s>.+)\)\{.{4,}?\}(?:-\{\d+:\d+\})?, at: (?P<f>[\w.]+)`)},
	{"BUG: workqueue leaked", regexp.MustCompile(`(?:workfn=|last function: )(?P<s>[\w.]+)`)},
	{"irq: nobody cared", handler},
	{"irq event: bogus", handler},
	{"BUG: using ", regexp.MustCompile(`^caller is (?P<f>[\w.]+)`)},
	{"WARNING: bad ", regexp.MustCompile(`^\[<[0-9a-f]+>\] (?P<f>[\w.]+)`)},
}

var handler = regexp.MustCompile(`^\[<[0-9a-f]+>\] (?P<s>[\w.]+)`)

var heldLock = regexp.MustCompile(`^ #0: [0-9a-f]{8,16} \((?P<s>.+)\)\{.{4,}?\}(?:-\{\d+:\d+\})?, at: (?P<f>[\w.]+)`)

// undefined tells the kind of what UBSAN called "Undefined behaviour" before 5.9.
var undefined = []struct{ says, kind string }{
	{"shift exponent", "shift-out-of-bounds"}, {"left shift of", "shift-out-of-bounds"},
	{"is out of range for type", "array-index-out-of-bounds"}, {"unsigned integer overflow", "unsigned-integer-overflow"},
	{"signed integer overflow", "signed-integer-overflow"}, {"division by zero", "division-overflow"},
	{"load of value", "invalid-load"}, {"with insufficient space", "object-size-mismatch"},
	{" misaligned address ", "misaligned-access"}, {" null pointer of type", "null-ptr-deref"},
}

// atInstruction is the register of the instruction: of x86-64, arm64, riscv and arm, then of
// 32-bit x86, powerpc, s390, mips and loongarch, which tell that of a program in the same way.
// Between them are alpha's, m68k's and parisc's.
var atInstruction = regexp.MustCompile(`^(?:(?:RIP: 0010:|pc : |epc : |E?[IP][CP] is at |pc is at |PC: | IAOQ\[0\]: )(?:\[<[0-9a-f]+>\] {1,2}){0,2}` + address +
	`|(?:RIP: |EIP: |NIP \[[0-9a-f]+\] \.?|Krnl PSW : [0-9a-f]{16} [0-9a-f]{16} \(|epc +: [0-9a-f]+ | *ERA: [0-9a-f]+ )(?P<named>[A-Za-z_][\w.]*)[+ ])`)

// instruction is the function of a line that tells where a processor is, empty for others.
func instruction(text string) string {
	if m := atInstruction.FindStringSubmatch(text); m != nil {
		return m[1] + m[2]
	}
	return ""
}

// read learns from a line after the first what the title still lacks.
func (c *complaint) read(text string) {
	if c.sign.blame == byStuck && c.at == "" {
		c.passWaiter(text)
	}
	if c.done && c.sign.blame == byNobody && c.subject == "" {
		// Who has the interrupt is told behind the stack.
		c.readSubject(text)
	}
	if c.done || c.waiter {
		return
	}
	if !c.traced {
		c.ranBy(text)
		c.readWords(text)
	}
	if at := instruction(text); at != "" {
		c.readInstruction(at)
		return
	}
	if c.subject == "" || !c.fromText && c.at == "" && c.sign.blame != byFault {
		c.readSubject(text)
	}
	c.readStack(text)
}

// passWaiter passes over the stack of RCU's own thread, which is shown before the processor
// that it waits for.
func (c *complaint) passWaiter(text string) {
	if strings.Contains(text, "kthread stack dump") {
		c.waiter = true
	} else if c.waiter && (strings.HasPrefix(text, "NMI backtrace") || strings.HasPrefix(text, "CPU: ") || strings.HasPrefix(text, "Sending NMI")) {
		c.waiter, c.traced, c.done = false, false, false
		c.forget()
	}
}

// readWords takes what comes before the stack and belongs into the title: the text of a WARN(),
// and the kind of what UBSAN found.
func (c *complaint) readWords(text string) {
	if c.sign.role == warns && !c.worded {
		// WARN() prints its text second where it is no exception (warn_slowpath_fmt).
		c.worded = true
		if text != "" && !strings.HasPrefix(text, "Modules linked in") && !strings.HasPrefix(text, "CPU: ") && !inTrace.MatchString(text) {
			c.title, c.unworded = steady(text), c.title
		}
	}
	if strings.HasPrefix(c.title, "UBSAN: Undefined behaviour") {
		for _, u := range undefined {
			if strings.Contains(text, u.says) {
				c.title = strings.Replace(c.title, "Undefined behaviour", u.kind, 1)
			}
		}
	}
}

// chatty is what drivers and programs print all the time, of their devices and connections.
var chatty = regexp.MustCompile(`^(?:usb|hub|usbcore|ata\d|sd|sr|scsi|nvme|mmc|input|hid|audit|systemd|random|IPv6|TCP|NET|Bluetooth|EXT4-fs|XFS|BTRFS info|FAT-fs|loop\d|docker|veth|br-|pci|ACPI|cfg80211|netlink|perf|clocksource|cgroup|overlayfs|iscsi|nf_conntrack|9p|virtio|psmouse|e1000|igb|ixgbe|r8169|serial|tty|i2c|platform)[^:]*: ` +
	`|^[\w.-]+(?: \S+)?: (?:link |renamed from|(?:entered|left) |associated|authenticate|carrier|port \d|NIC Link|Link is)`)

// chatter says that what was printed between "cut here" and the warning's own line has nothing to
// do with the place or the function that it names.
func chatter(said, warning string) bool {
	if !chatty.MatchString(said) {
		return false
	}
	head, _, _ := strings.Cut(strings.ToLower(said), ": ")
	warning = strings.ToLower(warning)
	return !slices.ContainsFunc(strings.FieldsFunc(head, func(c rune) bool { return c < 'a' || c > 'z' }), func(word string) bool {
		return len(word) > 2 && strings.Contains(warning, word)
	})
}

// readInstruction takes the function that a processor's registers show.
func (c *complaint) readInstruction(at string) {
	if !c.traced && c.unworded != "" {
		// It was one after all, and the line somebody else's.
		c.title, c.unworded = c.unworded, ""
	}
	switch {
	case c.sign.blame == byRecursion && c.traced:
	case c.traced && c.Verdict != event.Hang && (c.named || c.fromText && c.at != at):
		// The registers of what an interrupt or a system call left. Before a panic's
		// own stack has come to the fault, they are the fault's.
		c.done = true
	case at == c.repeated:
		c.repeated = ""
	case c.at == "" || strings.HasPrefix(c.at, "0x"):
		c.at = at
	case c.traced && c.sign.blame == byStuck:
		// What the interrupt interrupted is a part of the stack.
		c.push(at)
	}
}

// readStack takes a line of the stack, or one that ends it.
func (c *complaint) readStack(text string) {
	switch {
	case strings.HasPrefix(text, "Call Trace:") || strings.HasPrefix(text, "Call trace:") || strings.HasPrefix(text, "Backtrace:"):
		// A second stack is somebody else's.
		c.done = c.traced && len(c.stack) > 0
		c.traced = true
	case !c.traced && !headless.MatchString(c.title) && !ofArm.MatchString(text) && !(c.shortened() && bareStack.MatchString(text)) && !(c.at != "" && (c.sign.blame == byFault || c.sign.blame == byRecursion) && (strings.HasPrefix(text, "[<") || twice.MatchString(text) || from.MatchString(text))):
	case strings.HasSuffix(text, "</IRQ>") || strings.HasPrefix(text, " <EOI> ") || strings.HasSuffix(text, "</NMI>"):
		// What an interrupt found is not the fault of what it interrupted, unless that
		// is stuck.
		switch {
		case c.sign.blame == byNobody:
		case c.sign.blame != byStuck:
			c.done = len(c.stack) > 0
		case strings.HasSuffix(text, "</NMI>"):
			c.forget()
		case c.finding:
			c.forget()
			c.at = ""
		}
	case strings.HasPrefix(text, " ") || strings.HasPrefix(text, "[") || placed.MatchString(text) || bareFrame.MatchString(text):
		if f := frameOf(text); f != "" && len(c.stack) < maxStack {
			c.traced = true
			if interrupt.MatchString(nameOf(f)) {
				if c.sign.blame == byStuck && c.finding {
					c.forget()
					c.at = ""
					return
				}
				c.done = c.sign.blame != byStuck && c.sign.blame != byRecursion && c.Verdict != event.Hang && len(c.stack) > 0
			}
			c.push(f)
		}
	case len(c.stack) > 0 && (text == "" || endsStack.MatchString(text)):
		c.done = true
	}
}

var (
	// headless are the reports whose stacks have no heading. Neither has that behind riscv's
	// registers, but addresses in its lines.
	headless = regexp.MustCompile(`^BUG: (?:KFENCE|KMSAN|KCSAN): `)
	// interrupt are the entries of an interrupt: arm64 marks no end of it.
	interrupt = regexp.MustCompile(`^(?:el1h?_(?:64_)?irq|el1_interrupt|apic_timer_interrupt|asm_sysvec_\w+|asm_common_interrupt|common_interrupt|__irq_svc)$`)
	// finders look at what the processor does, in an interrupt.
	finders   = regexp.MustCompile(`^(?:nmi_cpu_backtrace|nmi_trigger_\w+|rcu_sched_clock_irq|update_process_times|tick_\w+|sched_tick|scheduler_tick|watchdog_timer_fn|hrtimer_interrupt)$`)
	endsStack = regexp.MustCompile(`^(?:RIP: 0033|---\[|--- interrupt: |Last Breaking|Allocated by|Freed by|Uninit was|Showing |NMI backtrace|Sending NMI|task:|Last potentially|The buggy|page (?:last|_owner)|page_owner)`)
	inlined   = regexp.MustCompile(`^ ([A-Za-z_][\w.]*) [\w./-]+:\d+ \[inline\]`)
	// placed is a line of a stack in which scripts/decode_stacktrace.sh has put the place of
	// the source for the offset, of which the last one is that of the function.
	placed = regexp.MustCompile(`^ {0,2}(\? )?([A-Za-z_][\w.]*) \((?:\S+:[\d?]+(?: \(discriminator \d+\))? ?)+\)`)
	// bareFrame is a line of a stack without the blank in front, as mailers and web pages leave
	// it.
	bareFrame = regexp.MustCompile(`^[A-Za-z_][\w.]*\+0x[0-9a-f]+/0x[0-9a-f]+(?: [\[(].*)?$`)
	// from is a line of a stack of 32-bit Arm's since 5.19.
	from = regexp.MustCompile(`^ ([A-Za-z_][\w.]*) from [A-Za-z_][\w.]*(?:\+0x| \()`)
	// bareStack is a line of a stack of which somebody has cut the heading.
	bareStack = regexp.MustCompile(`^ [A-Za-z_][\w.]*\+0x[0-9a-f]+/0x[0-9a-f]+(?: |$)`)
	// ofArm are the lines of 32-bit Arm's stacks, before 5.19 and since, which may have no heading.
	ofArm = regexp.MustCompile(`^(?:\[<[0-9a-f]+>\] \([A-Za-z_][\w.]*\) from \[<| [A-Za-z_][\w.]* from [A-Za-z_][\w.]*(?:\+0x| \())`)
	// twice is what powerpc puts in front, the frame's address and that of the code, of which
	// who mails it may leave one, and what Amlogic does, the frame with its size.
	twice = regexp.MustCompile(`^(?:(?:\[[0-9a-f]{8,16}\] ){1,2}\.?|\[[0-9a-f]{8,16}\+ *\d+\]\[<[0-9a-f]+>\] )`)
)

// shortened says that nothing but the first line of a complaint may be there before its stack, as
// in a mail that tells no more.
func (c *complaint) shortened() bool {
	return c.at == "" && (c.pid != "" || c.deadly())
}

// readSubject takes from the line what the complaint is about.
func (c *complaint) readSubject(text string) {
	for _, s := range subjects {
		if !strings.HasPrefix(c.title, s.of) || s.of == "WARNING: " && strings.HasPrefix(c.title, "WARNING: suspicious ") {
			// RCU's report has no lock that is asked for; one that is held may be alone in its line.
			continue
		}
		m := s.pattern.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		if i := s.pattern.SubexpIndex("s"); i > 0 && c.subject == "" {
			c.subject = steady(m[i])
		}
		if i := s.pattern.SubexpIndex("f"); i > 0 && c.at == "" {
			c.at = m[i]
		}
		return
	}
}

// frameOf is the function and the place in it of a line of a stack that was certainly
// called: one with a question mark in front may be a left-over.
func frameOf(text string) string {
	name := strings.TrimLeft(text, " ")
	if len(text)-len(name) > 2 {
		return ""
	}
	if strings.HasPrefix(name, "[<") {
		_, name, _ = strings.Cut(name, ">] ")
		// On 32-bit Arm: [<80de0078>] (dump_backtrace) from [<80de0574>] (show_stack+0x28/0x2c)
		if in, _, ok := strings.Cut(name, ") from "); ok {
			return strings.TrimPrefix(in, "(")
		}
	}
	if head := twice.FindString(name); head != "" {
		name = name[len(head):]
		if strings.HasSuffix(name, " (unreliable)") {
			return ""
		}
	}
	end := strings.Index(name, "+0x")
	if m := placed.FindStringSubmatch(text); end < 0 && m != nil {
		if m[1] != "" {
			return ""
		}
		_, place, _ := strings.Cut(text, " (")
		return m[2] + "+0x(" + place
	}
	if m := from.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	if end <= 0 {
		if m := inlined.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	for i := range end {
		if b := name[i]; !letter(b) && b != '_' && b != '.' && (b < '0' || b > '9') {
			return ""
		}
	}
	site, _, _ := strings.Cut(name, " ")
	return site
}

// nameOf is the function of f+0x12/0x34, by its name in the source.
func nameOf(site string) string {
	name, _, _ := strings.Cut(site, "+0x")
	return plainName(name)
}

// push takes the next function of the stack.
func (c *complaint) push(site string) {
	c.stack = append(c.stack, site)
	c.named = c.named || blamed(site)
	c.finding = c.finding || finders.MatchString(nameOf(site))
	c.shown = c.shown || nameOf(site) == "__handle_sysrq"
	c.nmi = c.nmi || nameOf(site) == "nmi_panic"
}

// forget drops the stack, which was somebody else's.
func (c *complaint) forget() {
	c.stack, c.named, c.finding = nil, false, false
}

// blamed says that the function is none of the machinery.
func blamed(site string) bool { return !machinery.has(nameOf(site)) }

// function is the one that a maintainer would blame, empty where nothing tells.
func (c *complaint) function() string {
	candidates := c.stack
	if c.at != "" {
		candidates = append([]string{c.at}, c.stack...)
	}
	switch c.sign.blame {
	case byNobody:
		return ""
	case byStuck:
		if f := stuckIn(candidates); f != "" {
			return f
		}
	case byRecursion:
		if f := recursion(candidates); f != "" {
			return f
		}
	}
	carried := strings.HasPrefix(c.title, "BUG: KMSAN: ")
	for i, f := range candidates {
		f = nameOf(f)
		if f == "kunit_try_run_case" && i > 0 {
			// What it calls is a test case, whose name may be that of the machinery that it tests.
			if test := nameOf(candidates[i-1]); !strings.HasPrefix(test, "0x") {
				return test
			}
		}
		if !machinery.has(f) && !(carried && carriers.has(f)) {
			return f
		}
	}
	// A helper is better than nothing: of a check its outermost caller, not the check itself.
	at := nameOf(c.at)
	if c.sign.blame == byCaller {
		for _, f := range slices.Backward(c.stack) {
			if f = nameOf(f); f == at || !bottom.has(f) {
				return f
			}
		}
	}
	if !strings.HasPrefix(at, "0x") {
		return at
	}
	return ""
}

// stuckIn is the function that somebody's work began with, the last one before a door: the
// innermost functions are a part of the work by chance, unless they are of the same family,
// and so tell more. A processor that waits for others is stuck in that, and one that waits for a
// lock where it asked for it.
func stuckIn(stack []string) string {
	first, last := "", ""
	waits := len(stack) > 0 && spins.MatchString(nameOf(stack[0]))
	for _, f := range stack {
		f = nameOf(f)
		switch {
		case strings.HasPrefix(f, "smp_call_function"):
			return "smp_call_function"
		case waits && !machinery.has(f):
			return f
		case doors.has(f) || strings.HasPrefix(f, "sys_") || strings.HasPrefix(f, "ksys_"):
			if first == "" && !machinery.has(f) {
				return f
			}
			if family(first) == family(last) {
				return first
			}
			return last
		case !machinery.has(f):
			if first == "" {
				first = f
			}
			last = f
		}
	}
	// Without a door it is not known where the work began.
	return ""
}

// spins are where a processor waits for a lock that another one has.
var spins = regexp.MustCompile(`^(?:(?:native_|__pv_)?queued_(?:spin|read|write)_lock_slowpath|_*raw_(?:spin|read|write)_lock\w*|do_raw_spin_lock|__pv_queued_spin_lock_slowpath|osq_lock)$`)

// family is the first word of a function's name, which those of one driver share.
func family(function string) string {
	name := strings.TrimLeft(function, "_")
	word, _, ok := strings.Cut(name, "_")
	if !ok {
		return name
	}
	return word
}

// recursion is the outermost function that the stack has again and again.
func recursion(stack []string) string {
	times := map[string]int{}
	for _, f := range stack {
		times[nameOf(f)]++
	}
	for _, f := range slices.Backward(stack) {
		if f = nameOf(f); times[f] > 2 && !machinery.has(f) {
			return f
		}
	}
	return ""
}

// whole is the title with its subject and the function.
func (c *complaint) whole(function string) string {
	title := strings.TrimRight(c.title, " .:!")
	if c.subject != "" {
		title += ": " + c.subject
	}
	switch {
	case function == "":
	case strings.HasSuffix(c.title, ":"):
		title += ": " + function
	default:
		title += " in " + function
	}
	return title
}

// firstTitle makes a title of the line that a complaint begins with.
func firstTitle(s *sign, m []int, text string) string {
	if s.title == "" {
		return steady(text)
	}
	title := string(s.pattern.ExpandString(nil, s.title, text, m))
	if i := s.pattern.SubexpIndex("t"); i > 0 {
		return strings.ReplaceAll(title, text[m[2*i]:m[2*i+1]], taskName(text[m[2*i]:m[2*i+1]]))
	}
	for _, v := range renamed {
		title = v.pattern.ReplaceAllString(title, v.with)
	}
	return inTree(strings.TrimSpace(title))
}

// group is what the pattern's group matched.
func group(s *sign, m []int, text, name string) string {
	if i := s.pattern.SubexpIndex(name); i > 0 && m[2*i] >= 0 {
		return text[m[2*i]:m[2*i+1]]
	}
	return ""
}

// taskName is a task's name without what is counted: kworker/0:1, iou-wrk-512.
func taskName(name string) string {
	if strings.HasPrefix(name, "kworker/") {
		return "kworker"
	}
	return numbered.ReplaceAllString(name, "")
}

var numbered = regexp.MustCompile(`(?:[-./:]\d+)+$`)

type replacement struct {
	pattern *regexp.Regexp
	with    string
}

// renamed are words that differ from boot to boot, or with the version of the source.
var renamed = []replacement{
	{regexp.MustCompile(`\bkmalloc-rnd-\d+-`), "kmalloc-"},
	{regexp.MustCompile(`double-free or invalid-free`), "double-free"},
	{regexp.MustCompile(`(\w)\.(?:cold|isra|constprop|part|llvm|lto_priv)(?:\.\d+)*\b`), "$1"},
	{regexp.MustCompile(`\b(?:0x[0-9a-f]+|[0-9a-f]{8,16})\b`), "ADDR"},
}

// volatile are the parts of a text that differ between two runs of the same fault.
var volatile = []replacement{
	// Advice, which is worded anew now and then, and what a newer kernel says besides.
	{regexp.MustCompile(`(No working init found)\..*`), "$1"},
	{regexp.MustCompile(`(Unable to mount root fs on )"[^"]*" or `), "$1"},
	{regexp.MustCompile(`/\d+/0x[0-9a-f]+`), ""},
	{regexp.MustCompile(`(?:\.\.?/)*([\w./-]+\.[chS]):\d+(?::\d+)?`), "$1"},
	{regexp.MustCompile(`\b(CPU)#?\d+|\b(v?cpu)[ #]?\d+`), "$1$2"},
	// An address of a network card's, or of IPv6, and a UUID.
	{regexp.MustCompile(`\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b|\b(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b|\b[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*::(?:[0-9a-f]{1,4}:)*[0-9a-f]{1,4}\b` +
		`|\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b`), "ADDR"},
	{regexp.MustCompile(`\+0x[0-9a-f]+/0x[0-9a-f]+`), ""},
	{regexp.MustCompile(`\[[\w./-]+(?:/u?\d+:\d+\S*?)?:\d+\]|\b[A-Za-z][\w.-]*(?:/u?\d+:\d+\S*?)?/\d+(?:\s|$)`), "task "},
	{regexp.MustCompile(`(\w)=(?:0x)?[0-9a-f]*\d[0-9a-f]*\b`), "$1"},
	{regexp.MustCompile(`\bprocess "[^"]*"`), "process"},
	{regexp.MustCompile(`(?:\b[0-9a-f]{2} ){3,}[0-9a-f]{2}\b`), "BYTES"},
	{regexp.MustCompile(`\b(?:0x ?[0-9a-f]+|[0-9a-f]{8,16}|(?:\d+[A-F]|[A-F]+\d)[0-9A-F]{3,})\b|\(____ptrval____\)`), "ADDR"},
	{regexp.MustCompile(`\bloop\d+\b`), "loop"},
	// A device on a bus is N, whatever its port.
	{regexp.MustCompile(`\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.\d\b`), "N"},
	{regexp.MustCompile(`(^|[\s(\[,])\d+-\d+(?:\.\d+)*(?::\d+\.\d+)?(\b)`), "${1}N$2"},
	{regexp.MustCompile(`by task \S+`), "by task"},
	{regexp.MustCompile(`\b(task) \d+\([^)]*\)`), "$1"},
	{regexp.MustCompile(`(^|[\s({\[,#/:<'"])-?\d+(?:\.\d+)*(?:s|ms|us|ns|sec|[kKMGT]i?B?|B|[kMG]?Hz)?(\b)`), "${1}N$2"},
	{regexp.MustCompile(`\s+`), " "},
}

var (
	// roundabout is a path of the source that goes up again, as KVM's of the architectures do,
	// or begins at the root of the machine that built the kernel.
	roundabout = regexp.MustCompile(`(?:/|\b[\w.-]+/)[\w./-]*\.[chSr]s?\b`)
	fromTop    = regexp.MustCompile(`/(?:kernel/)?((?:arch|block|certs|crypto|drivers|fs|include|init|io_\w+|ipc|kernel|lib|mm|net|rust|samples|security|sound|virt)/.*)`)
)

// inTree are the text's paths of the source as they are in the tree, wherever it was built.
func inTree(text string) string {
	if !strings.Contains(text, "/../") && !strings.Contains(text, " /") && !strings.HasPrefix(text, "/") {
		return text
	}
	return roundabout.ReplaceAllStringFunc(text, func(file string) string {
		file = path.Clean(file)
		if m := fromTop.FindStringSubmatch(file); m != nil && file[0] == '/' {
			return m[1]
		}
		return file
	})
}

// steady makes a text comparable between runs.
func steady(text string) string {
	text = inTree(text)
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return strings.TrimSpace(text)
}
