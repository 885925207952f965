package results

import (
	"fmt"
	"slices"

	"patchproof/guest/event"
)

// Stopped is how far a guest came that did not come to its end: it was late, it
// died, or its report is not whole. Two that stopped in other phases, or after
// something else, did not fail in the same way.
type Stopped struct {
	Phase StopPhase `json:"phase"`
	// Last is the last thing that came: a line of the console without what differs
	// from run to run, or in the program's phase a check.
	Last string `json:"last,omitempty"`
	// Where are the functions in which the guest's tasks and processors were, as
	// far as it could be asked; those that wait for work are left out.
	Where []string `json:"where,omitempty"`
}

// StopPhase is a part of a guest's life.
type StopPhase string

// The phases in their order: nothing was printed, the kernel was booting, its
// init was at work, the program had begun, the program had ended.
const (
	StoppedSilent   StopPhase = "silent"
	StoppedBoot     StopPhase = "boot"
	StoppedInit     StopPhase = "init"
	StoppedProgram  StopPhase = "program"
	StoppedShutdown StopPhase = "shutdown"
)

func (s Stopped) String() string {
	text := map[StopPhase]string{
		StoppedSilent: "before a word", StoppedBoot: "in the boot", StoppedInit: "in init",
		StoppedProgram: "in the program", StoppedShutdown: "on the way down",
	}[s.Phase]
	if s.Last != "" {
		text += fmt.Sprintf(", after %q", s.Last)
	}
	return text
}

// Like says whether two guests stopped in the same place: in the same phase, with
// their tasks in a function that both name; where one could not be asked, and in
// the program's phase in any case, also after the same thing.
func (s Stopped) Like(other Stopped) bool {
	if s.Phase != other.Phase {
		return false
	}
	asked := len(s.Where) > 0 && len(other.Where) > 0
	if (!asked || s.Phase == StoppedProgram) && s.Last != other.Last {
		return false
	}
	return !asked || slices.ContainsFunc(s.Where, func(f string) bool { return slices.Contains(other.Where, f) })
}

// Blame makes a verdict about the kernel of a cell that stopped and was given to
// the harness as its trouble. Only who knows that the same harness gets a whole
// report of the program from another kernel, and repeatedly none from this one,
// may say so; how tells that.
func (c *Cell) Blame(how string) {
	detail := fmt.Sprintf("the guest stopped %s: %s; %s", c.Stopped, c.Reason, how)
	c.Checks = append(c.Checks, Check{Check: event.Check{Name: ReportCheck, Verdict: event.Fail, Detail: detail}})
	var verdicts []event.Verdict
	for _, check := range c.Checks {
		if check.Verdict != event.Error {
			verdicts = append(verdicts, check.Verdict)
		}
	}
	c.Verdict, c.Expected, c.Reason = event.Worst(verdicts...), false, detail
}
