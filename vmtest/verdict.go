package vmtest

import (
	"errors"
	"fmt"

	"patchproof/guest/event"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/qemu"
)

// judge decides a cell's verdict and gathers its checks:
//
//  1. a complaint of the kernel is a crash or a hang, whatever the program said;
//  2. so is a guest that did not come to its end before its deadline;
//  3. a report that is not whole is an error, because the harness knows nothing;
//  4. otherwise the worst check decides.
//
// An error of the harness comes before all of them.
func judge(out *qemu.Outcome, err error, s CellSpec) finding {
	if err != nil {
		return finding{verdict: event.Error, reason: err.Error()}
	}
	f := finding{}
	for _, c := range out.Report.Checks {
		c.Name, c.Detail = event.Printable(c.Name), event.PrintableLines(c.Detail)
		f.checks = append(f.checks, results.Check{Check: c})
	}
	if out.Ending == qemu.Cancelled {
		f.verdict, f.reason = event.Error, "interrupted"
		return f
	}
	if out.QEMUErr != nil {
		f.verdict, f.reason = event.Error, out.QEMUErr.Error()
		return f
	}
	f.consoleChecks(out)
	if why := cutShort(out, s); why != "" {
		f.checks = append(f.checks, results.Check{Check: event.Check{Name: "exit", Verdict: event.Fail, Detail: why}})
		out.ReportErr, out.Reset, out.Ending = nil, false, qemu.Exited
	}
	f.deadlineCheck(out, s)
	if out.Reset {
		f.checks = append(f.checks, results.Check{Check: event.Check{Name: results.ResetCheck, Verdict: event.Crash,
			Detail: "the guest reset itself without a word, as a processor does after a triple fault"}})
	}
	var verdicts []event.Verdict
	for _, c := range f.checks {
		verdicts = append(verdicts, c.Verdict)
	}
	f.ended = out.Report.Ended != nil && !kernelStopped(out)
	f.verdict = event.Worst(verdicts...)
	if trouble := errors.Join(out.ReportErr, out.LogErr); trouble != nil && !kernelStopped(out) {
		f.reason = trouble.Error()
		if note := lastWords(out); note != "" {
			f.reason += "; " + note
		}
		f.verdict = event.Worst(f.verdict, event.Error)
	} else if !out.Printed && trouble == nil && f.ended {
		f.reason = "the kernel printed nothing, so that no complaint of it could be seen"
		f.verdict = event.Worst(f.verdict, event.Error)
	} else if out.Ending == qemu.Enough {
		f.reason = "ended where a check had told all that was asked"
	} else if len(verdicts) == 0 {
		f.reason = "the program reported no check"
	}
	return f
}

// cutShort says how a user's test took away what runs it, if it did: neither the kernel nor
// the harness is to blame then. The program that runs a test powers off behind its last event.
func cutShort(out *qemu.Outcome, s CellSpec) string {
	if !s.Program.brought() || out.Report.Started == nil || out.Report.Ended != nil || out.Report.Tested || out.Died {
		return ""
	}
	switch {
	case out.RunnerGone && out.SwitchedOff != "":
		return "what runs the test was killed while it ran, before it had ended; does it send a signal to all processes?"
	case out.InitExited && out.Ending == qemu.Exited:
		return "init was killed while the test ran, before it had ended"
	case out.SwitchedOff == "halted" || out.SwitchedOff != "" && out.Ending == qemu.Exited:
		return "the machine was " + out.SwitchedOff + " while the test ran, before it had ended"
	}
	return ""
}

// kernelStopped says that the kernel itself is the reason why the report is
// not whole. A complaint alone is not: after a WARNING it goes on.
func kernelStopped(out *qemu.Outcome) bool {
	return out.Died || out.Reset || out.Ending.Late()
}

// consoleChecks adds a check for each of the kernel's complaints.
func (f *finding) consoleChecks(out *qemu.Outcome) {
	for i, s := range out.Splats {
		name := subjects.ConsoleCheck
		if i > 0 {
			name = fmt.Sprintf("%s %d", name, i+1)
		}
		times := ""
		if s.Times > 1 {
			times = fmt.Sprintf("\n(%d times, here the first)", s.Times)
		}
		if s.During != "" {
			times += "\n(while " + event.Printable(s.During) + " ran)"
		}
		f.checks = append(f.checks, results.Check{Check: event.Check{
			Name: name, Verdict: s.Verdict, Detail: s.Title + times + "\n\n" + s.Text,
		}})
	}
}

// deadlineCheck adds a check for a guest that had to be killed.
func (f *finding) deadlineCheck(out *qemu.Outcome, s CellSpec) {
	var what string
	v := s.vm()
	switch out.Ending {
	case qemu.Silent:
		what = fmt.Sprintf("the kernel printed nothing within %v", v.BootDeadline)
	case qemu.BootStuck:
		what = fmt.Sprintf("%s had not begun %v after QEMU's start; the console's last line was %q", s.Program.Name, v.BootDeadline, out.LastLine)
	case qemu.Stuck:
		what = fmt.Sprintf("%s had not ended %v after its first event", s.Program.Name, v.Deadline)
		if v.Renewed {
			what = fmt.Sprintf("nothing more came of %s for %v", s.Program.Name, v.Deadline)
		}
	default:
		return
	}
	if out.Places != "" {
		what += "; then " + out.Places
	}
	detail := what
	switch {
	case out.Dump != "":
		detail += "\n\nAsked where it is, the guest said:\n" + out.Dump
	case out.DumpErr != nil:
		detail += fmt.Sprintf("\n\nIt could not be asked where it is: %v", out.DumpErr)
	default:
		detail += "\n\nAsked where it is, through sysrq and an NMI, the guest said nothing."
	}
	f.reason = what
	f.checks = append(f.checks, results.Check{Check: event.Check{Name: results.DeadlineCheck, Verdict: event.Hang, Detail: detail}})
}

// lastWords tells where a guest with an incomplete report was last seen.
func lastWords(out *qemu.Outcome) string {
	switch {
	case !out.Printed:
		return "the kernel printed nothing; is it an image for this machine?"
	case out.InitExited:
		return "it ended without powering the guest off; the console log has its last words"
	case out.Report.Started == nil:
		return "the console log says how far the boot came"
	}
	return ""
}

// printableMetrics makes what a guest calls its figures safe to show.
func printableMetrics(metrics []event.Metric) []event.Metric {
	for i, m := range metrics {
		m.Name, m.Unit = event.Printable(m.Name), event.Printable(m.Unit)
		if m.Labels != nil {
			labels := make(map[string]string, len(m.Labels))
			for name, value := range m.Labels {
				labels[event.Printable(name)] = event.Printable(value)
			}
			m.Labels = labels
		}
		metrics[i] = m
	}
	return metrics
}
