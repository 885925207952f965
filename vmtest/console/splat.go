package console

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"patchproof/guest/event"
)

// Splat is one complaint of the kernel on its console.
type Splat struct {
	// Verdict is event.Crash or event.Hang.
	Verdict event.Verdict
	// Title names the complaint and the function that a maintainer would blame,
	// without what differs from run to run (addresses, processors, tasks, times), from
	// one compiler to another, or from one version of the source to the next.
	Title string
	// place is the line of the source that the kernel itself names. Two warnings
	// of one function have one title and differ by their place.
	place string
	// Text is the whole complaint as printed, the first time.
	Text string
	// Times counts the complaints with this title.
	Times int
	// During is the test of a suite that ran then, the first time.
	During string
}

const (
	// splatLines and splatBytes bound the text of one complaint, maxSplats their
	// number: a kernel that complains without end complains enough.
	splatLines, splatBytes = 300, 64 << 10
	// maxStack bounds the functions of a stack that are known, maxRecursion the lines of
	// one that ran over.
	maxStack, maxRecursion = 1000, 3000
	maxSplats              = 20
	// mostWords is how many lines at most are between a text that may be a complaint and its
	// stack: what comes later is somebody else's.
	mostWords = 12
	// mostStrange is how many lines of others there may be between two of a stack, where it is not
	// told who prints.
	mostStrange = 5
	// atOnce is how long it takes, in seconds, to print the lines of one check.
	atOnce = 0.01
	// maxPreface bounds the lines between "cut here" and what it is about.
	maxPreface = 8
	// maxCallers bounds the tasks and CPUs whose complaints are read at once.
	maxCallers = 8
	// mostWork bounds what is looked at closely, in lines; the first of a complaint
	// counts firstLine. Then only panics are heard. A guest may print what it likes.
	mostWork, firstLine = 100_000, 20
	// maxDump bounds the answer of a stuck guest that is kept, and maxDigest
	// what of it comes into the result, in bytes.
	maxDump, maxDigest = 512 << 10, 32 << 10
)

const cutHere = "------------[ cut here ]------------"

var (
	// inTrace are the lines that belong to a complaint after its stack began.
	inTrace = regexp.MustCompile(`^(?: |\t|$|R[A-Z0-9]{1,2}:|E[A-Z]{2}:|[CDEFGS][SR]\d?:|ORIG_RAX|CR\d|DR\d|Code:|Call [Tt]race|Modules linked in|CPU: |Hardware name|Workqueue|Kernel Offset|irq event|hardirqs|softirqs|PKRU|Stack:|Rebooting|---|===|-----|Dumping ftrace|Disabling |Allocated by|Freed by|The buggy|addr |this frame|Memory state|page:|page dumped|flags:|raw:|Last potentially|Dead code|>|\(stack is|NMI backtrace|Sending NMI|task:|rcu:|Showing|Mem-Info|INFO: lockdep|#\d|\d+ locks? held|no locks held|Object|Redzone|Padding|FIX |pc :|lr :|sp :|x\d+ ?:|pstate:|handlers:|\(?\[<|\[[0-9a-f]{8,16}(?:\+ *\d+)?\] ?(?:\[|[A-Za-z_.][\w.]*\+0x)|</?(?:IRQ|TASK|NMI|SOFTIRQ)>|(?:\? )?[A-Za-z_][\w.]*\+0x[0-9a-f]+/0x|NIP|LR |GPR|CFAR|MSR:|REGS:|EIP|Last Breaking|(?:\? )?[A-Za-z_][\w.]* \(\S+:[\d?]+|Uninit was|SMP:|Exception stack|[0-9a-f]{4}: [ 0-9a-f]+$)`)
	onStack = regexp.MustCompile(`^ +(?:\? )?[A-Za-z_\[<][\w.]*(?:\+0x|>\] |>$)|^ </`)
	// stoppedCPU are the scheduler's complaints about a CPU that is marked offline
	// without having been taken offline. At a power-off all but one are stopped so
	// (arch/x86/kernel/reboot.c, native_machine_shutdown), and one that is still
	// running and balances its load then moves a task to one that is not.
	stoppedCPU = regexp.MustCompile(`^(?:WARNING at kernel/sched/core\.c in set_task_cpu$|sched: Unexpected reschedule of offline CPU)`)
	sourceLine = regexp.MustCompile(`[\w./-]+\.[chS]:\d+`)
	// behind is a complaint with something in front of it that ends in no word, as what a
	// vendor's kernel or another tool puts there does.
	behind = regexp.MustCompile(`^.{0,60}[^\w\s"'` + "`" + `[(<=]\s*(?:-+\[ cut here \]-+$|Kernel panic - not syncing: |Internal error: .*\[#\d+\]|Unable to handle kernel |BUG: (?:KASAN|unable to handle|kernel NULL) |kernel BUG at \S+:\d+!|WARNING: CPU: \d+ PID: |Oops: .*\[#\d+\])`)
)

// reader is what is known of one caller of printk, a task or a CPU.
type reader struct {
	caller string
	now    *complaint
	// preface holds the lines from a "cut here" to the line that says what it
	// is, and said their texts: WARN() prints its message there.
	preface, said []string
	// others counts further ones in a preface that has no text yet: other processors' warnings,
	// whose texts come in turn where it is not told who prints.
	others int
	// within was being told when the preface began.
	within *complaint
}

// switchedOff are the kernel's last words when it was told to end (kernel/reboot.c,
// drivers/tty/sysrq.c).
var switchedOff = map[string]string{
	"reboot: Power down":        "powered off",
	"reboot: Restarting system": "restarted",
	"sysrq: Resetting":          "restarted",
	"reboot: System halted":     "halted",
}

// Watcher reads a console line by line and keeps the kernel's complaints.
type Watcher struct {
	// Raw says that lines without a timestamp are the kernel's as well, as in a log
	// that no program writes to.
	Raw bool
	// Kernels is set once a line was seen that a kernel wrote, as far as that can be told.
	Kernels bool
	// Unread is the first line of a log that has a complaint of the kernel's behind something
	// that is not known, so that it could not be read as one.
	Unread string
	// InitExited is set when initExit was seen, Died at any other panic,
	// PoweredOff when the guest switched itself off, and DroppedLines when printk
	// could not print all.
	InitExited, Died, PoweredOff, DroppedLines bool
	// lastOfInit is the caller that told initLast; what it tells from then on belongs to that.
	lastOfInit *string
	// RunnerGone is set when what runs a user's test ended before it (event.RunnerGone), and
	// not by a fault of its own.
	RunnerGone bool
	// SwitchedOff says how the guest was told to end, if it was: powered off, restarted, halted.
	SwitchedOff string
	// InitBegan is set when the kernel said that it runs init, and UnpackedInPart when it said
	// before that what it boots into does not fit into its memory. It goes on without the rest.
	InitBegan, UnpackedInPart bool
	// running is the test of a suite that runs (event.Running).
	running string
	recent  recent
	// printed are the lines before this one, whoever printed them.
	printed recent
	// Last is the last line before Ask, and before a panic, with something in it.
	Last string

	found []*complaint
	// last is the latest complaint, and kept the one in found that it is counted with.
	last, kept *complaint
	// lasts are the latest complaints of the last callers.
	lasts []*complaint
	begun int
	// faulted is a fault of which nothing more was told when another processor told of its own: the
	// line of die() comes for each in turn.
	faulted *complaint
	// ownFault says that a program of ours ended by a fault of its own.
	ownFault bool
	hung     hungTasks
	// readers are those that have something open, the latest at the end.
	readers []*reader
	work    int

	// asked is set while a stuck guest is asked where it is.
	asked  atomic.Bool
	answer strings.Builder
	// asking is what a log tells of that.
	asking asking
}

// Line takes the next line of the console.
func (w *Watcher) Line(line string) {
	w.ownFault = w.ownFault || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "panic: ")
	if _, name, ok := strings.Cut(line, event.Running); ok {
		w.running = strings.TrimSpace(name)
	}
	w.RunnerGone = w.RunnerGone || strings.Contains(line, event.RunnerGone) && !w.ownFault
	if w.asked.Load() {
		w.closeAll()
		if _, _, _, ok := stamped(line); ok && w.answer.Len() < maxDump {
			// What programs print is no answer, however much it is.
			w.answer.WriteString(line + "\n")
		}
		return
	}
	// What a kernel says when it panics, and after that, is not what it was doing.
	if strings.TrimSpace(line) != "" && !w.Died && !w.InitExited && !strings.Contains(line, "] Kernel panic - ") {
		w.Last = line
	}
	if len(line) > longestLine {
		line = line[:longestLine]
	}
	defer w.printed.add(line)
	start, caller, text, ok := stamped(line)
	if ok && start > 0 && w.recent.retold(line, start) {
		return
	}
	if ok || strings.Contains(line, byUser) {
		w.recent.add(line)
	}
	if !ok {
		if w.Raw {
			text := line
			caller, n := callerID(line)
			if n > 0 {
				text = strings.TrimPrefix(line[n:], " ")
			}
			w.record(caller, text, line)
		}
		return
	}
	w.Kernels = true
	// A line that was not ended has the next one behind it.
	for ok {
		var start int
		var next, behind string
		if start, next, behind, ok = stamped(text); ok {
			w.record(caller, text[:start], line)
			caller, text = next, behind
		}
	}
	w.record(caller, text, line)
}

// TooLittle is what a kernel says whose memory is too small (init/initramfs.c).
const TooLittle = "Initramfs unpacking failed: write error"

// record takes what printk wrote at once.
func (w *Watcher) record(caller, text, line string) {
	text = strings.TrimRight(text, " \t\r")
	w.noteMachine(text)
	w.asking.read(text, line)
	if said := w.tornPanic(caller, text); said != "" {
		w.record(caller, said, strings.TrimSuffix(line, text)+said)
		w.record(caller, "Call Trace:", strings.TrimSuffix(line, text)+"Call Trace:")
	}
	if w.unheeded(caller, text) {
		return
	}
	r := w.reader(caller)
	if r != nil {
		w.work++
	}
	if (strings.HasSuffix(text, " [inline]") || strings.Contains(text, " [inline], CPU#")) && !strings.HasPrefix(text, " ") {
		// syzkaller writes each function that was inlined as if it were another report.
		if r != nil && r.now != nil {
			r.now.add(line)
		}
		return
	}
	// Two consoles that go to one log print each line twice.
	twice := line == w.printed.last()
	if text == cutHere {
		if !twice {
			w.cut(caller, line)
		}
		return
	}
	w.hung.read(text)
	unread := strings.HasSuffix(text, cutHere)
	if mayBegin(text) {
		unread = true
		w.work += firstLine
		if s, m := begins(text); s != nil {
			if !twice {
				w.begin(caller, s, m, text, line)
			}
			return
		}
	}
	if unread && w.asking.log && w.Unread == "" && behind.MatchString(text) {
		w.Unread = line
	}
	w.goOn(r, caller, text, line)
}

// noteMachine takes from a line what it says of the machine, whatever is wrong with it.
func (w *Watcher) noteMachine(text string) {
	if how := switchedOff[text]; how != "" {
		w.SwitchedOff = how
	}
	switch {
	case text == "reboot: Power down":
		w.PoweredOff = true
	case strings.HasPrefix(text, "Run ") && runsInit.MatchString(text):
		w.InitBegan = true
	case text == TooLittle:
		w.UnpackedInPart = w.UnpackedInPart || !w.InitBegan
	case strings.HasPrefix(text, "** ") && strings.Contains(text, "printk messages dropped"):
		w.DroppedLines = true
	case strings.HasPrefix(text, "sysrq: "):
		// What is shown now is none of what was being told.
		w.closeAll()
	}
}

// cut takes the line that the kernel puts before a report, and what it told then is closed.
func (w *Watcher) cut(caller, line string) {
	r := w.open(caller)
	if caller == "" && r.preface != nil && len(r.said) == 0 {
		r.others++
		return
	}
	if r.now != nil && r.now.sign.role == says && !r.now.traced && r.now.leadsTo(line) {
		// What others printed between is not its own.
		r.now.lines = append(r.now.lines[:1], line)
		return
	}
	r.within = r.now
	w.closeNow(r)
	r.preface, r.said, r.others = []string{line}, nil, 0
}

// goOn takes a line that begins nothing: it belongs to what is being told, or to nothing.
func (w *Watcher) goOn(r *reader, caller, text, line string) {
	switch {
	case r == nil:
		if strings.HasPrefix(text, "NMI backtrace for cpu") {
			w.lend(caller, text, line)
		}
	case r.now != nil && r.now.traced && strings.HasPrefix(text, "NMI backtrace for cpu") && w.awaited(r.now):
		w.close(r)
		w.lend(caller, text, line)
	case r.preface != nil:
		r.said = append(r.said, text)
		if r.preface = append(r.preface, line); len(r.preface) > maxPreface {
			w.close(r)
		}
	case r.now != nil:
		w.read(r, text, line)
	}
}

// reader finds the caller's; nil is that it has nothing open.
func (w *Watcher) reader(caller string) *reader {
	for _, r := range w.readers {
		if r.caller == caller {
			return r
		}
	}
	return nil
}

// open is the caller's reader, which may be new.
func (w *Watcher) open(caller string) *reader {
	if r := w.reader(caller); r != nil {
		return r
	}
	if len(w.readers) >= maxCallers {
		w.close(w.readers[0])
	}
	r := &reader{caller: caller}
	w.readers = append(w.readers, r)
	return r
}

// words is the message of the WARN() whose line is warning. Where it is not told who prints, a
// line of another task may be in its place, or in front.
func (r *reader) words(warning string) string {
	for _, said := range r.said {
		if r.caller != "" || !chatter(said, warning) {
			return said
		}
	}
	return ""
}

// lend lets another CPU that was asked where it is add to the complaint about a hang.
func (w *Watcher) lend(caller, text, line string) {
	for _, r := range slices.Backward(w.readers) {
		if r.now != nil && r.now.Verdict == event.Hang {
			own := w.open(caller)
			own.now = r.now
			w.read(own, text, line)
			return
		}
	}
}

// awaited says that a complaint which began after c waits for where another CPU is.
func (w *Watcher) awaited(c *complaint) bool {
	return slices.ContainsFunc(w.readers, func(r *reader) bool {
		return r.now != nil && r.now.order > c.order && r.now.Verdict == event.Hang && !r.now.traced
	})
}

// begin takes a line with a sign, which is a part or a consequence of the complaint
// before it or begins another one.
func (w *Watcher) begin(caller string, s *sign, m []int, text, line string) {
	if s.role == panics && w.ended(s, text, line) {
		return
	}
	r := w.open(caller)
	if now := r.now; now != nil && goesOn(now, s) {
		if s.role == warns || s.role == bugs {
			now.place = sourceLine.FindString(text)
		}
		if now.at == "" {
			now.at = group(s, m, text, "f")
		}
		if now.sign.role == says && s.role == warns {
			// What it says was told in front.
			now.worded = true
		}
		if now.sign.role == warns {
			now.title, now.worded = firstTitle(s, m, text), true
		}
		if now.panicked = s.role == panics; !now.panicked {
			now.sign = &sign{verdict: now.sign.verdict, blame: now.sign.blame, role: s.role}
		}
		now.add(line)
		return
	}
	said, lines, unended, within := r.words(text), append(r.preface, line), "", r.within
	if i := slices.Index(r.said, said); i >= 0 && r.others > 0 && s.role == warns {
		r.said = r.said[i+1:]
		r.others--
	} else {
		r.said, r.others = nil, 0
	}
	r.preface, r.within = nil, nil
	if r.now != nil {
		within = r.now
	}
	if r.now != nil && r.now.traced {
		unended = r.now.function()
	}
	w.closeNow(r)
	c := &complaint{sign: s, unended: unended, poweredOff: w.PoweredOff, caller: caller, since: seconds(line), order: w.begun, within: within, panicked: s.role == panics}
	w.begun++
	c.Verdict, c.Times, c.During, c.place = s.verdict, 1, w.running, sourceLine.FindString(text)
	c.title = firstTitle(s, m, text)
	if f := w.faulted; f != nil && s.role == dies && caller == "" && near(c, f) {
		c.title = f.title
		w.faulted = nil
		if f.as != nil && f.as.Times > 1 {
			f.as.Times--
		}
	}
	if s.role == warns && said != "" {
		c.title, c.worded = steady(said), true
	}
	c.at = group(s, m, text, "f")
	c.pid = group(s, m, text, "pid")
	w.hung.any = w.hung.any || c.pid != ""
	c.fromText = c.at != ""
	c.begunBy(text)
	for _, l := range lines {
		c.add(l)
	}
	r.now = c
}

// ended adds a panic to the complaint that it ends: the one being read, or the last.
func (w *Watcher) ended(s *sign, text, line string) bool {
	last := func(c *complaint) bool {
		if c == nil || s.verdict == event.Hang && c.Verdict != event.Hang || onlyOops.MatchString(text) && !(c.oopsed() && math.Abs(seconds(line)-c.since) < oopsTakes) {
			return false
		}
		c.panicked = true
		c.add(line)
		// Before 6.2 panic_on_warn comes before the warning's registers and stack.
		c.done = c.traced
		return true
	}
	if corrupted.MatchString(text) {
		// Who corrupts memory is just being told.
		for _, r := range w.readers {
			if r.now != nil && strings.HasPrefix(r.now.title, "BUG: KASAN: ") {
				return last(r.now)
			}
		}
		return false
	}
	if overrun.MatchString(text) {
		for _, r := range w.readers {
			if r.now != nil && r.now.sign.blame == byRecursion {
				return last(r.now)
			}
		}
		return false
	}
	if s.verdict != event.Hang && !afterOops.MatchString(text) {
		return false
	}
	for _, r := range slices.Backward(w.readers) {
		if last(r.now) {
			return true
		}
	}
	return last(w.kept)
}

// read takes a line after the first, which ends the complaint when it does not
// belong to it.
func (w *Watcher) read(r *reader, text, line string) {
	c := r.now
	if c.closed {
		w.close(r)
		return
	}
	strange := c.traced && (!inTrace.MatchString(text) || c.strange > 0 && strings.HasPrefix(text, " ") && !onStack.MatchString(text))
	if strange && r.caller == "" && !c.done && c.strange < mostStrange {
		// Who prints is not told, and the rest of the stack may come.
		c.strange++
		return
	}
	if strange || c.mayEnd() && (c.told > mostWords || anotherStack.MatchString(text)) {
		w.close(r)
		return
	}
	c.strange = 0
	c.add(line)
	if c.place == "" && !c.traced {
		c.place = sourceLine.FindString(text)
	}
	c.read(text)
	if strings.HasPrefix(text, "---[ end ") && !c.ends() || c.told >= c.most() {
		w.close(r)
	}
}

func (w *Watcher) closeAll() {
	for len(w.readers) > 0 {
		w.close(w.readers[0])
	}
}

// close ends what the caller has open.
func (w *Watcher) close(r *reader) {
	w.closeNow(r)
	r.preface, r.said = nil, nil
	w.readers = slices.DeleteFunc(w.readers, func(other *reader) bool { return other == r })
}

// closeNow ends the complaint that is being read, which is left out when the
// power-off brings it about or it is a part of another. One that is there already is only
// counted, and so is one of which nothing but its kind was printed when the kernel had
// complained of that before.
func (w *Watcher) closeNow(r *reader) {
	c := r.now
	r.now = nil
	if c == nil || c.closed {
		return
	}
	c.closed = true
	function := c.function()
	c.blamed = function
	c.Title = c.whole(function)
	if w.asking.brought(c) {
		return
	}
	if c.sign.role == perhaps && !c.traced || c.poweredOff && stoppedCPU.MatchString(c.Title) {
		return
	}
	c.remember()
	w.hung.add(c)
	c.as = w.partOf(c, function)
	// What it was within is kept no longer than it takes to know that.
	c.within = nil
	if c.as != nil {
		c.as.died = c.as.died || c.deadly()
		for _, line := range c.lines {
			c.as.add(line)
		}
		return
	}
	c.cut = function == "" && !c.traced
	w.keep(c)
	if c.cut && c.caller == "" && c.sign.role == faults {
		w.faulted = c
	}
}

// keep takes a complaint that is no part of another.
func (w *Watcher) keep(c *complaint) {
	for _, old := range w.found {
		same := old.Title == c.Title && old.place == c.place
		if same || c.cut && strings.HasPrefix(old.Title, c.Title+" in ") {
			w.told(c, old)
			old.Times++
			old.again(c)
			return
		}
		if old.cut && strings.HasPrefix(c.Title, old.Title+" in ") {
			c.Times, c.order = old.Times+1, old.order
			c.again(old)
			*old = *c
			w.told(old, old)
			c.as = old
			return
		}
	}
	if len(w.found) < maxSplats {
		w.found = append(w.found, c)
		w.told(c, c)
	}
}

// Splats returns the complaints in their order. The console must have ended.
func (w *Watcher) Splats() []Splat {
	w.closeAll()
	slices.SortStableFunc(w.found, func(a, b *complaint) int { return a.order - b.order })
	var all []Splat
	for _, c := range toldOnce(w.hung.withoutVictims(w.found)) {
		c.Text = strings.Join(c.lines, "\n")
		all = append(all, c.Splat)
	}
	return all
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
