package console

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
)

var (
	// reporters print a report, or look for what it has to say: a fault on top of one is
	// the report's own trouble.
	reporters = regexp.MustCompile(`^(?:kasan_report\w*|kmsan_report|kmsan_print_\w+|kcsan_report\w*|kfence_report\w*|print_report|print_\w*(?:bug|stall)\w*|print_lock\w*|lockdep_print_\w+|lockdep_rcu_suspicious|debug_show_\w+|rcu_dump_cpu_stacks|rcu_check_gp\w*|rcu_stall_\w+|check_cpu_stall|check_hung_\w+|watchdog_timer_fn|show_state_filter|sched_show_task)$`)
	// dying is on the stack of a task that an oops has killed and that ends in a bad way.
	dying = regexp.MustCompile(`^(?:make_task_dead|rewind_stack\w*)$`)
	// noObject are KASAN's words for an address that the access itself faults at, too.
	noObject = regexp.MustCompile(`^BUG: KASAN: (?:null-ptr-deref|wild-memory-access|user-memory-access|probably user-memory-access)`)
	// locking are the functions in which a task waits for a lock.
	locking = regexp.MustCompile(`^_*(?:rt_|ww_)?(?:mutex_\w*lock\w*|rwsem_down_\w+|rwbase_\w+lock\w*|rtlock_\w+|down(?:_\w+)?|percpu_(?:down|rwsem)_\w+)$`)

	heldBy    = regexp.MustCompile(`^\d+ locks? held by .*/(\d+):$`)
	heldHere  = regexp.MustCompile(`^ #\d+: ([0-9a-f]{8,16}) \(`)
	blockedOn = regexp.MustCompile(`^INFO: task .*:(\d+) (?:is |<\w+> )?blocked on an? .* by task .*:(\d+)`)
)

const (
	// reportTakes bounds how long the printing of one report takes, in seconds, on a slow console.
	reportTakes = 2
	// mostTasks and mostLocks bound the tasks whose locks are kept, and the locks of one.
	mostTasks, mostLocks = 256, 64
	// sameCalls is how many callers must be the same for two complaints to be of one call.
	sameCalls = 3
)

// partOf is the complaint that has been told already and of the same fault as c.
func (w *Watcher) partOf(c *complaint, function string) *complaint {
	if c.Verdict != event.Crash || w.last == nil {
		return nil
	}
	breaks := c.sign.role == faults || c.sign.role == dies || c.sign.role == bugs || c.sign.role == warns
	if up := c.within; up != nil && breaks && up.as != nil && near(c, up) {
		// The report that was being printed has no stack yet, or is on the stack.
		if c.caller != "" && !up.traced && up.sign.role == plain && up.sign.blame != byNobody || slices.ContainsFunc(c.stack, func(f string) bool { return reporters.MatchString(nameOf(f)) }) {
			up.as.learn(c)
			up.as = w.rejoin(up.as)
			return up.as
		}
	}
	if slices.ContainsFunc(c.stack, func(f string) bool { return dying.MatchString(nameOf(f)) }) {
		for _, old := range slices.Backward(w.found) {
			if old.caller == c.caller && (old.died || old.deadly()) {
				return old
			}
		}
	}
	if w.Died && !w.InitExited && !c.panicked && slices.ContainsFunc(c.stack, goesDown) {
		return w.kept
	}
	last := w.last
	if cache, ok := strings.CutPrefix(c.title, "kmem_cache_destroy "); ok {
		// What is left in a cache is told of first.
		if name, _, _ := strings.Cut(cache, ":"); strings.HasPrefix(last.title, "BUG "+name+": Objects remaining") {
			return w.kept
		}
	}
	if last = w.lastOf(c.caller); last == nil || !near(c, last) {
		return nil
	}
	if at := nameOf(c.at); c.sign.role == warns && (at == "object_err" || at == "__slab_err") && strings.HasPrefix(last.title, "BUG ") {
		// SLUB ends its report in a warning (since 6.15).
		return last.as
	}
	if strings.HasPrefix(c.title, "BUG: Bad page map") && strings.HasSuffix(last.title, " swap file entry") {
		// The entry of the page table that swap does not know.
		return last.as
	}
	if function == "" || function != last.blamed {
		return nil
	}
	if (c.sign.role == faults || c.sign.role == dies) && noObject.MatchString(last.title) {
		return last.as
	}
	if calls := c.calls(); len(calls) > 0 && slices.Equal(calls, last.calls()) {
		return last.as
	}
	return nil
}

// deadly says that the complaint is of a fault which kills its task.
func (c *complaint) deadly() bool {
	return c.sign.role == faults || c.sign.role == bugs || c.sign.role == dies
}

// lastOf is the latest complaint that the caller told, if it is still known.
func (w *Watcher) lastOf(caller string) *complaint {
	i := slices.IndexFunc(w.lasts, func(c *complaint) bool { return c.caller == caller })
	if i < 0 {
		return nil
	}
	return w.lasts[i]
}

// told remembers c as the latest complaint of its caller, and that it is kept as old.
func (w *Watcher) told(c, old *complaint) {
	w.last, w.kept, c.as = c, old, old
	w.lasts = slices.DeleteFunc(w.lasts, func(other *complaint) bool { return other.caller == c.caller })
	if len(w.lasts) >= maxCallers {
		w.lasts = slices.Delete(w.lasts, 0, 1)
	}
	w.lasts = append(w.lasts, c)
}

// goesDown is on the stack of what goes wrong while the kernel ends in a panic.
func goesDown(site string) bool {
	name := nameOf(site)
	return name == "panic" || name == "vpanic"
}

// near says that one report may still be that of the other; behind another boot the clock
// begins anew.
func near(a, b *complaint) bool { return math.Abs(a.since-b.since) < reportTakes }

// learn takes from what broke the report what the report could not tell any more.
func (c *complaint) learn(broke *complaint) {
	if c.blamed != "" && blamed(c.blamed) {
		return
	}
	for _, line := range broke.lines {
		if _, _, text, ok := stamped(line); ok {
			c.read(text)
		}
	}
	c.blamed = c.function()
	c.Title = c.whole(c.blamed)
	c.cut = c.cut && c.blamed == ""
}

// rejoin counts a complaint that has got another title with the one that has it already.
func (w *Watcher) rejoin(c *complaint) *complaint {
	own := slices.Index(w.found, c)
	i := slices.IndexFunc(w.found, func(old *complaint) bool { return old != c && old.Title == c.Title && old.place == c.place })
	if own < 0 || i < 0 {
		return c
	}
	old := w.found[i]
	old.Times += c.Times
	old.again(c)
	c.as, w.kept = old, old
	w.found = slices.Delete(w.found, own, own+1)
	return old
}

// calls are the places of the calls that led to the machinery which complains, from the
// function to blame outwards; none when that function itself is at fault.
func (c *complaint) calls() []string {
	if at := nameOf(c.at); at != "" && blamed(at) {
		return nil
	}
	from := slices.IndexFunc(c.stack, blamed)
	if from < 0 || !strings.Contains(c.stack[from], "+0x") {
		return nil
	}
	return c.stack[from:min(from+sameCalls, len(c.stack))]
}

// hungTasks knows which of the hung tasks wait for a lock that another of them has.
type hungTasks struct {
	// any is set once there was one.
	any   bool
	tasks []hungTask
	// locks are those that a task has or waits for, by its pid, with the last one it asked
	// for at the end. They are being told of the task with the pid of.
	locks map[string][]string
	of    string
	// holders are who has the lock that a task waits for, pids both.
	holders map[string]string
}

// hungTask is a task that was complained of.
type hungTask struct {
	pid, title string
	// locked says that it waits for a lock, graced for a grace period of RCU.
	locked, graced bool
	since          float64
}

// add takes a hung task, or one that a processor is stuck in and that may have a lock.
func (h *hungTasks) add(c *complaint) {
	in := func(what *regexp.Regexp) bool {
		return slices.ContainsFunc(c.stack, func(f string) bool { return what.MatchString(nameOf(f)) })
	}
	switch {
	case len(h.tasks) >= mostTasks:
	case c.pid != "":
		h.tasks = append(h.tasks, hungTask{c.pid, c.Title, in(locking), in(waitsGP), c.since})
	case c.stuckAt.pid != "":
		h.tasks = append(h.tasks, hungTask{pid: c.stuckAt.pid, title: c.Title})
	}
}

// read takes a line that may tell who has which lock.
func (h *hungTasks) read(text string) {
	switch {
	case !h.any:
	case strings.HasPrefix(text, " #"):
		if m := heldHere.FindStringSubmatch(text); m != nil && h.of != "" && len(h.locks[h.of]) < mostLocks {
			h.locks[h.of] = append(h.locks[h.of], m[1])
		}
	case strings.HasPrefix(text, "INFO: task "):
		if m := blockedOn.FindStringSubmatch(text); m != nil && len(h.holders) < mostTasks {
			if h.holders == nil {
				h.holders = map[string]string{}
			}
			h.holders[m[1]] = m[2]
		}
	case strings.Contains(text, " held by "):
		if m := heldBy.FindStringSubmatch(text); m != nil && len(h.locks) < mostTasks {
			if h.locks == nil {
				h.locks = map[string][]string{}
			}
			h.of = m[1]
			delete(h.locks, h.of)
		}
	}
}

// waitsFor is the hung task that has the lock which the task waits for, -1 for none.
func (h *hungTasks) waitsFor(t hungTask) int {
	wanted := ""
	if own := h.locks[t.pid]; len(own) > 0 {
		wanted = own[len(own)-1]
	}
	if !t.locked {
		return -1
	}
	return slices.IndexFunc(h.tasks, func(other hungTask) bool {
		if other.pid == t.pid {
			return false
		}
		has := h.locks[other.pid]
		i := slices.Index(has, wanted)
		return h.holders[t.pid] == other.pid || wanted != "" && i >= 0 && (i < len(has)-1 || !other.locked)
	})
}

// withoutVictims leaves out the complaints of which all tasks wait for other hung tasks, or for
// a grace period that stalls. Of those that wait for each other the first remains.
func (h *hungTasks) withoutVictims(found []*complaint) []*complaint {
	next := make([]int, len(h.tasks))
	for i, t := range h.tasks {
		next[i] = h.waitsFor(t)
	}
	guilty := map[string]bool{}
	for i, t := range h.tasks {
		stalled := t.graced && slices.ContainsFunc(found, func(c *complaint) bool {
			return stallOfGP.MatchString(c.title) && slices.ContainsFunc(c.places, func(p stuck) bool { return math.Abs(p.since-t.since) < sameHang })
		})
		if !stalled && (next[i] < 0 || firstOfCircle(next, i)) {
			guilty[t.title] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(found), func(c *complaint) bool { return c.pid != "" && !guilty[c.Title] })
}

// firstOfCircle says that who waits for the next, and so on, comes back to i, and no
// smaller number is on the way.
func firstOfCircle(next []int, i int) bool {
	at := next[i]
	for range next {
		if at <= i {
			return at == i
		}
		at = next[at]
	}
	return false
}
