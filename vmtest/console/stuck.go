package console

import (
	"math"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
)

// A processor or a task that is stuck is told of by each detector that waits for it, and
// by the tasks that wait in turn. What follows knows when they all mean the same.

var (
	stuckOn   = regexp.MustCompile(`soft lockup - CPU#(\d+) stuck for .*\[.*:(\d+)\]|hard LOCKUP on cpu (\d+)|CSD lock .*\bfor CPU#0*(\d+)|workqueue lockup - pool cpus=(\S+)`)
	ranOn     = regexp.MustCompile(`^CPU: (\d+) (?:UID: \d+ )?PID: (\d+) `)
	poolOf    = regexp.MustCompile(`^  pwq \d+: cpus=(\S+)`)
	inFlight  = regexp.MustCompile(`\b(\d+)(?:\(RESCUER\))?:[A-Za-z_]`)
	waitsGP   = regexp.MustCompile(`^(?:__wait_rcu_gp|wait_rcu_gp|synchronize_rcu(?:_normal|_expedited)?|synchronize_net|rcu_barrier)$`)
	stallOfGP = regexp.MustCompile(`^rcu: (?:expedited )?stall of rcu_(?:preempt|sched)\b`)
)

const (
	// mostStuck bounds what is kept of the places of one complaint.
	mostStuck = 32
	// sameHang is how far apart two detectors may be that tell of the same, in seconds,
	// when they saw the processor in different functions: a stall is told again after
	// three times its patience of 21 s, a hung task after twice that of 120 s.
	sameHang = 240
)

// detectors are in the order in which their titles are preferred: the one that says most
// about the processor, or task, first.
var detectors = []string{"hard LOCKUP", "BUG: soft lockup", "rcu: stall", "rcu: expedited stall", "INFO: rcu", "csd: ", "INFO: task hung", "BUG: workqueue lockup"}

// stuck is what one report of a detector tells of who is stuck.
type stuck struct {
	cpu, pid string
	// workers are the tasks that have the work of a locked-up pool.
	workers []string
	since   float64
}

// begunBy takes the processor and the task that the first line names.
func (c *complaint) begunBy(text string) {
	if m := stuckOn.FindStringSubmatch(text); m != nil {
		c.stuckAt.cpu, c.stuckAt.pid = m[1]+m[3]+m[4]+m[5], m[2]
	}
}

// ranBy takes them from the line in front of a stack.
func (c *complaint) ranBy(text string) {
	if c.Verdict != event.Hang || c.sign.blame != byStuck || c.stuckAt.pid != "" {
		return
	}
	if m := ranOn.FindStringSubmatch(text); m != nil && (c.stuckAt.cpu == "" || c.stuckAt.cpu == m[1]) {
		c.stuckAt.cpu, c.stuckAt.pid = m[1], m[2]
	} else if m := taskHead.FindStringSubmatch(text); m != nil {
		c.stuckAt.pid = m[3]
	}
}

// remember keeps who is stuck once the complaint is read.
func (c *complaint) remember() {
	if c.Verdict != event.Hang {
		return
	}
	s := c.stuckAt
	s.since = c.since
	if c.pid != "" {
		s.pid = c.pid
	}
	if strings.HasPrefix(c.title, "BUG: workqueue lockup") {
		pool := ""
		for _, line := range c.lines {
			_, _, text, ok := stamped(line)
			if !ok {
				text = line
			}
			if m := poolOf.FindStringSubmatch(text); m != nil {
				pool = m[1]
			}
			if _, works, ok := strings.Cut(text, "in-flight: "); ok && pool == s.cpu && len(s.workers) < mostStuck {
				for _, m := range inFlight.FindAllStringSubmatch(works, mostStuck) {
					s.workers = append(s.workers, m[1])
				}
			}
		}
	}
	c.places = []stuck{s}
}

// again adds the places of another complaint with the same title.
func (c *complaint) again(other *complaint) {
	if len(c.places) < mostStuck {
		c.places = append(c.places, other.places...)
	} else {
		c.more = true
	}
}

// same says that both are of the same processor, or task.
func (s stuck) same(other stuck, function bool) bool {
	if !function && math.Abs(s.since-other.since) > sameHang {
		return false
	}
	switch {
	case len(s.workers) > 0 && slices.Contains(s.workers, other.pid):
		return true
	case s.pid == "" || other.pid == "":
		return s.cpu != "" && s.cpu == other.cpu
	}
	return s.pid == other.pid && (s.pid != "0" || s.cpu == other.cpu)
}

// toldBy says that the complaint tells of nothing but what the other tells better.
func (c *complaint) toldBy(others []*complaint) bool {
	rank := c.rank()
	if strings.Contains(c.lines[0], "due to a stuck CSD-lock") {
		return slices.ContainsFunc(others, func(o *complaint) bool { return strings.HasPrefix(o.title, "csd: ") })
	}
	if rank < 0 || c.more || len(c.places) == 0 || strings.HasPrefix(c.title, "INFO: task hung") {
		return false
	}
	for _, place := range c.places {
		told := slices.ContainsFunc(others, func(o *complaint) bool {
			r := o.rank()
			if o == c || r < 0 || (o.blamed == "") != (c.blamed == "") && o.blamed == "" || (o.blamed == "") == (c.blamed == "") && r >= rank {
				return false
			}
			function := c.blamed != "" && c.blamed == o.blamed
			return slices.ContainsFunc(o.places, func(p stuck) bool { return place.same(p, function) })
		})
		if !told {
			return false
		}
	}
	return true
}

// rank is the place of the complaint's detector, -1 for others.
func (c *complaint) rank() int {
	return slices.IndexFunc(detectors, func(d string) bool { return strings.HasPrefix(c.title, d) })
}

// toldOnce leaves out the complaints of detectors that tell of what another tells better.
func toldOnce(found []*complaint) []*complaint {
	return slices.DeleteFunc(slices.Clone(found), func(c *complaint) bool { return c.toldBy(found) })
}
