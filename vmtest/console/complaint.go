package console

import (
	"math"
	"slices"
	"strings"
)

// complaint is a splat that is being read.
type complaint struct {
	Splat
	sign  *sign
	lines []string
	bytes int
	// told counts the lines, kept or not.
	told int
	// title is the splat's so far, which may lack a subject and a function, and blamed the
	// function once all is read.
	title, subject, blamed string
	// at is the function that the first line, or the registers, or a line on the
	// subject names; fromText that it was the first line.
	at       string
	fromText bool
	// stack are the functions of the first stack, the innermost first, up to the end of
	// the interrupt that found it, each as printed: f+0x12/0x34. traced says that it has
	// begun, done that it has ended.
	stack        []string
	traced, done bool
	// named says that the stack has a function to blame, finding that it is that of the
	// interrupt which finds a stall.
	named, finding bool
	// shown says that it was found while a sysrq key was answered, nmi while the kernel
	// went down for an NMI.
	shown, nmi bool
	// caller is whose lines it is made of, and since is when it began, in seconds. Those
	// that began earlier have a smaller order.
	caller string
	since  float64
	order  int
	// within is the complaint that the same caller was telling when this one began, and as
	// the one that is told for this one: itself, or another of the same fault.
	within, as *complaint
	// panicked says that the kernel panicked of it, died that a part of it killed the task.
	panicked, died bool
	// pid is that of a hung task.
	pid string
	// stuckAt is who is stuck, as far as it is known, and places all who were with this
	// title; more says that there were too many to keep.
	stuckAt stuck
	places  []stuck
	more    bool
	// waiter is set in the stack of RCU's own thread, worded once WARN()'s text is known,
	// and unworded the title without one that was taken from the next line.
	waiter, worded bool
	unworded       string
	// unended is the function of the complaint in whose end this one began, and
	// repeated the same once that end has come: see ends.
	unended, repeated string
	poweredOff        bool
	// strange counts the lines of others since its last one.
	strange int
	// closed says that it is told, cut that nothing but its kind was.
	closed, cut bool
}

// leadsTo says that a check's words are followed by that line at once, or by no more than a few
// lines of others where it is not told who prints.
func (c *complaint) leadsTo(line string) bool {
	return len(c.lines) == 1 || c.caller == "" && len(c.lines) <= mostStrange && math.Abs(seconds(line)-c.since) < atOnce
}

// oopsed says that a task was killed of it.
func (c *complaint) oopsed() bool {
	return slices.ContainsFunc(c.lines, func(line string) bool { return strings.Contains(line, " [#") })
}

// goesOn says that the sign belongs to the fault that is being told.
func goesOn(c *complaint, s *sign) bool {
	if c.traced {
		return false
	}
	switch c.sign.role {
	case says:
		// A check's own words, and then those of the WARN() that it ends in.
		behind := s.role == says && len(c.lines) == 2 && strings.Contains(c.lines[1], cutHere)
		return behind || s.role == warns || s.role == bugs || s.role == dies
	case warns:
		return s.role == says && !c.worded
	case bugs, faults:
		return s.role == dies || s.role == panics
	case perhaps:
		return s.role == dies && c.sign.blame == byFault
	case dies:
		return s.role == panics
	}
	return false
}

// mayEnd says that nothing but its text is known of a complaint that is any text.
func (c *complaint) mayEnd() bool {
	return !c.traced && (c.sign.role == perhaps || c.sign.role == says && c.sign.title == "")
}

// most is how many lines a complaint may have.
func (c *complaint) most() int {
	if c.sign.blame == byRecursion {
		return maxRecursion
	}
	return splatLines
}

func (c *complaint) add(line string) {
	c.told++
	if len(c.lines) < splatLines && c.bytes < splatBytes {
		c.lines = append(c.lines, line)
		c.bytes += len(line)
	}
}

// ends says that the end of a complaint is not that of the one being read. A
// processor that is done with an oops lets the next one begin before it prints its
// end and, once more, where it was (arch/x86/kernel/dumpstack.c, oops_end).
func (c *complaint) ends() bool {
	if c.traced || c.unended == "" {
		return false
	}
	c.unended, c.repeated = "", c.unended
	return true
}
