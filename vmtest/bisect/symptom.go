package bisect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
)

// Symptom is one way in which a kernel showed that something is wrong with it.
type Symptom struct {
	// Check is the check that came out so; the console watch's are all
	// subjects.ConsoleCheck.
	Check   string        `json:"check"`
	Verdict event.Verdict `json:"verdict"`
	// Title is a splat's, see vmtest.
	Title string `json:"title,omitempty"`
	// Blocked are the functions in which tasks were blocked, for a hang.
	Blocked []string `json:"blocked,omitempty"`
	// Stopped is how far the guest came, where that is what is wrong.
	Stopped *results.Stopped `json:"stopped,omitempty"`
	// Detail is what the check saw.
	Detail string `json:"detail,omitempty"`
}

func (s Symptom) String() string {
	if s.Stopped != nil {
		return fmt.Sprintf("%s %s", s.Verdict, s.Stopped)
	}
	if s.Title != "" {
		return fmt.Sprintf("%s, %s", s.Verdict, s.Title)
	}
	return fmt.Sprintf("%s of %s", s.Verdict, s.Check)
}

// like says whether two symptoms are the same but for where tasks are blocked. Two
// guests that stopped in different places did not fail alike.
func (s Symptom) like(other Symptom) bool {
	if s.Stopped != nil && other.Stopped != nil && !s.Stopped.Like(*other.Stopped) {
		return false
	}
	return s.Check == other.Check && s.Verdict == other.Verdict && results.TitleKey(s.Title) == results.TitleKey(other.Title)
}

// same says whether two symptoms are the same, as far as both tell where tasks
// are blocked.
func (s Symptom) same(other Symptom) bool {
	return s.like(other) && (len(s.Blocked) == 0 || len(other.Blocked) == 0 ||
		slices.ContainsFunc(s.Blocked, func(f string) bool { return slices.Contains(other.Blocked, f) }))
}

// asked is a user's CHECK: nothing, a check's name, which may end in a *, or a
// verdict.
type asked string

// checkAsked refuses a CHECK that no symptom can come out as.
func checkAsked(text string) error {
	const want = "want a check's name as runs print it, the beginning of some with a * behind it, or fail, hang or crash"
	name := strings.TrimSuffix(text, "*")
	verdicts := []event.Verdict{event.Pass, event.Skip, event.Error}
	switch i := strings.IndexAny(name, `[]{}?*^$|\`); {
	case i >= 0:
		return fmt.Errorf("CHECK=%s: %q stands for nothing here; %s", text, name[i:i+1], want)
	case text != "" && strings.TrimSpace(name) == "":
		return fmt.Errorf("CHECK=%s names nothing: leave it out for whatever only the bad end shows", text)
	case slices.Contains(verdicts, event.Verdict(text)):
		return fmt.Errorf("CHECK=%s: a search goes by what is wrong with a kernel; %s", text, want)
	}
	return nil
}

// wants says whether the symptom is what the user asked about.
func (a asked) wants(s Symptom) bool {
	return a == "" || string(s.Verdict) == string(a) || a.names(s)
}

// names says whether the user named the symptom's check.
func (a asked) names(s Symptom) bool {
	name, wild := strings.CutSuffix(string(a), "*")
	return s.Check == string(a) || wild && strings.HasPrefix(s.Check, name)
}

// symptoms lists what is wrong with a kernel after a run. What is declared for
// the source under it is not, unless it was named.
func symptoms(c results.Cell, check asked) []Symptom {
	var all []Symptom
	for _, k := range c.Checks {
		if k.Verdict != event.Fail && k.Verdict != event.Hang && k.Verdict != event.Crash {
			continue
		}
		s := Symptom{Check: k.Name, Verdict: k.Verdict, Detail: k.Detail}
		if subjects.IsConsole(k.Name) {
			s.Check = subjects.ConsoleCheck
			s.Title, _, _ = strings.Cut(k.Detail, "\n")
		}
		if k.KnownIssue != "" && k.Expected && !check.names(s) {
			continue
		}
		if byHarness(k.Name) {
			s.Stopped = c.Stopped
		} else if k.Verdict == event.Hang {
			s.Blocked = blocked(k.Detail)
		}
		all = append(all, s)
	}
	return all
}

var (
	// frame is a line of a stack, as /proc/<pid>/stack or the kernel's console has it.
	frame = regexp.MustCompile(`(?m)^(?:\[[^\]]*\])*\s*([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+`)
	// generic are the functions that tell nothing of why a task waits: the
	// scheduler, entries into the kernel and the loops of its threads.
	generic = regexp.MustCompile(`^(?:__)?(?:schedule.*|preempt_schedule.*|_cond_resched|io_schedule.*|wait_for_co.*|wait_for_common.*|do_wait_for_common|kthread|ret_from_fork.*|worker_thread|process_one_work|do_syscall_64|entry_SYSCALL.*|(?:__)?(?:x64|se|do)_sys_.*|ksys_.*|futex_.*|do_futex|io_wq_manager|io_wqe_worker|do_exit|do_group_exit|get_signal|exit_to_user_mode.*|arch_do_signal.*|hrtimer_nanosleep|do_nanosleep|ep_poll|do_epoll_wait|rcu_gp_kthread|smpboot_thread_fn|switch_to.*)$`)
)

// blocked lists the functions on the stacks in a detail that may tell why their
// tasks wait, the innermost of the first task first.
func blocked(detail string) []string {
	var all []string
	for _, found := range frame.FindAllStringSubmatch(detail, -1) {
		if name := found[1]; !generic.MatchString(name) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// signature is the symptom that a search goes by.
type signature struct {
	Symptom
	// alone are the symptoms that the bad end has and the good end has not.
	alone []Symptom
	// goods are the symptoms that the good end has, which say nothing of a step.
	goods []Symptom
	// build is the compiler's error that is searched for, where the bad end does not build,
	// under each name that its file had.
	build []string
	// warning is the compiler's that is searched for.
	warning string
	// metric is the figure that is searched for, in place of a symptom.
	metric *metric
	// onGood says that the good end has the signature as well.
	onGood bool
	check  asked
}

// gravity orders verdicts, the worst first.
var gravity = []event.Verdict{event.Crash, event.Hang, event.Fail}

// signatureOf picks the symptom to search for: of the bad end's that were asked
// for, one that shows in most runs, of these the gravest, of these the first. The
// good end has no say: what else the bad end shows must not distract from a
// failure that the base has already. ok is false when there is none.
func signatureOf(good, bad []results.Cell, check asked) (sig signature, ok bool) {
	sig.check = check
	var known []string
	for _, c := range good {
		sig.goods = append(sig.goods, symptoms(c, check)...)
		for _, k := range c.Checks {
			known = append(known, blocked(k.Detail)...)
		}
	}
	var found []Symptom
	times := map[int]int{}
	for _, c := range bad {
		for _, s := range symptoms(c, check) {
			i := slices.IndexFunc(found, s.like)
			if i < 0 {
				i = len(found)
				found = append(found, s)
			}
			times[i]++
		}
	}
	best := -1
	for i, s := range found {
		if !slices.ContainsFunc(sig.goods, s.same) {
			sig.alone = append(sig.alone, s)
		}
		if !check.wants(s) {
			continue
		}
		if best < 0 || times[i] > times[best] ||
			times[i] == times[best] && slices.Index(gravity, s.Verdict) < slices.Index(gravity, found[best].Verdict) {
			best = i
		}
	}
	if best < 0 {
		return sig, false
	}
	sig.Symptom = found[best]
	sig.onGood = slices.ContainsFunc(sig.goods, sig.same)
	if !sig.onGood {
		// Where tasks wait on a good kernel as well says nothing.
		sig.Blocked = slices.DeleteFunc(slices.Clone(sig.Blocked), func(f string) bool { return slices.Contains(known, f) })
	}
	return sig, true
}

// over is the signature with another good end, whose own symptoms say nothing.
func (sig signature) over(good []results.Cell) signature {
	sig.goods, sig.onGood = nil, false
	for _, c := range good {
		for _, s := range symptoms(c, sig.check) {
			if !s.like(sig.Symptom) {
				sig.goods = append(sig.goods, s)
			}
		}
	}
	return sig
}

// shows says whether the cell has the signature: the same check with the same
// verdict, the same splat, and tasks that are blocked in the same place.
func (sig signature) shows(c results.Cell) (Symptom, bool) {
	for _, s := range symptoms(c, sig.check) {
		if s.like(sig.Symptom) && (len(sig.Blocked) == 0 || slices.ContainsFunc(s.Blocked, sig.isBlocked)) {
			return s, true
		}
	}
	return Symptom{}, false
}

// isKin says whether a symptom may be another face of the signature, one that the good end
// does not show: what a race corrupts, the kernel complains of in this place or that.
func (sig signature) isKin(s Symptom) bool {
	return s.Check == sig.Check && s.Verdict == sig.Verdict && !slices.ContainsFunc(sig.goods, s.same)
}

func (sig signature) isBlocked(function string) bool {
	return slices.Contains(sig.Blocked, function)
}

// judge says what the runs of a kernel make of it, and why. One run with the
// signature is enough to be bad; to be good, all must have made the check and
// come out without trouble of another kind.
func (sig signature) judge(cells []results.Cell) (kernel.Mark, string) {
	for _, c := range cells {
		if s, ok := sig.shows(c); ok {
			return kernel.Bad, s.String()
		}
	}
	why := ""
	for _, c := range cells {
		mark, reason := sig.clear(c)
		if mark != kernel.Good {
			return mark, reason
		}
		if reason != "" {
			why = reason
		}
	}
	return kernel.Good, why
}

// clear says whether a cell without the signature shows that the kernel is good.
func (sig signature) clear(c results.Cell) (kernel.Mark, string) {
	if c.Verdict == event.Error {
		return kernel.Skip, "the harness could not judge it: " + results.Line(c.Reason)
	}
	var others []Symptom
	for _, s := range symptoms(c, sig.check) {
		if !slices.ContainsFunc(sig.goods, s.like) {
			others = append(others, s)
		}
	}
	ran := slices.ContainsFunc(c.Checks, func(k results.Check) bool { return k.Name == sig.Check && k.Verdict == event.Pass })
	if len(others) > 0 {
		text := "it fails in another way: " + others[0].String()
		if sig.check != "" && ran {
			return kernel.Good, "but " + text
		}
		if others[0].like(sig.Symptom) {
			text += ", blocked elsewhere: " + strings.Join(others[0].Blocked, ", ")
		}
		return kernel.Skip, text
	}
	if byProgram := !subjects.IsConsole(sig.Check) && !byHarness(sig.Check); byProgram && !ran {
		return kernel.Skip, fmt.Sprintf("it did not make the check %s", sig.Check)
	}
	if c.Verdict == event.Skip {
		return kernel.Skip, "it lacks what the program needs: " + results.Line(c.Reason)
	}
	return kernel.Good, ""
}

// byHarness says that a check is the harness's, for a guest that did not come to
// its end, and not one that a program makes.
func byHarness(check string) bool {
	return slices.Contains([]string{results.DeadlineCheck, results.ResetCheck, results.ReportCheck}, check)
}
