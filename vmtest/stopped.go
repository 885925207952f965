package vmtest

import (
	"patchproof/guest/event"
	"patchproof/results"
	"patchproof/vmtest/console"
	"patchproof/vmtest/qemu"
)

// stoppedAt says how far a guest came that did not come to its end, nil for one
// that did and for one that the host itself kept from it.
func stoppedAt(out *qemu.Outcome) *results.Stopped {
	unseen := !out.Printed && out.Report.Ended != nil
	if out.QEMUErr != nil || out.LogErr != nil || out.HostFailed || out.Ending == qemu.Cancelled ||
		out.ReportErr == nil && !kernelStopped(out) && !unseen {
		return nil
	}
	s := &results.Stopped{Last: console.Comparable(out.LastLine), Where: console.Where(out.Dump)}
	switch {
	case !out.Printed:
		s.Phase = results.StoppedSilent
	case out.Report.Ended != nil:
		s.Phase = results.StoppedShutdown
	case out.Report.Started != nil:
		s.Phase, s.Last = results.StoppedProgram, "its start"
		if n := len(out.Report.Checks); n > 0 {
			s.Last = event.Printable(out.Report.Checks[n-1].Name)
		}
	case out.InitBegan:
		s.Phase = results.StoppedInit
	default:
		s.Phase = results.StoppedBoot
	}
	return s
}
