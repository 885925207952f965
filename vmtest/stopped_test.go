package vmtest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/results"
	"patchproof/vmtest/qemu"
)

// A late guest that spins in the kernel (the processor's line), one that waits for
// something unusual (the task's), and a healthy one.
const (
	spinning = "[    9.342079] NMI backtrace for cpu 0\n[    9.342325] CPU: 0 PID: 0 Comm: swapper/0 Not tainted 5.10.13+ #2\n[    9.342688] Call Trace:\n[    9.343738]  dump_stack+0x57/0x6a\n[    9.344429]  __handle_sysrq.cold+0x3f/0x110\n[    9.345313]  asm_common_interrupt+0x1b/0x40\n[    9.345313] RIP: 0010:io_nop+0x21/0x50\n[    9.345313] Code: 00\n[    9.345313]  io_issue_sqe+0x1f/0x27\n[    9.345313]  __io_queue_sqe+0x74/0xd0\n[    9.345313]  __x64_sys_io_uring_enter+0x74/0xd0\n"
	waiting  = "[   10.470278] task:kworker/u4:1    state:S stack:    0 pid:   29 ppid:     2 flags:0x00000000\n[   10.470877]  __schedule+0x1b4/0x4d0\n[   10.470963]  schedule+0x46/0xb0\n[   10.471041]  ? wake+0x1/0x2\n[   10.471041]  io_sqe_files_unregister+0x1a2/0x1d0\n[   10.471119]  io_ring_exit_work+0x89/0x110\n[   10.471200]  process_one_work+0xc0/0xc0\n"
	healthy  = "[    9.366458] NMI backtrace for cpu 1\n[    9.366479] RIP: 0010:amd_e400_idle+0x21/0x50\n[    9.366522] Call Trace:\n[    9.366523]  default_idle_call+0x1f/0x27\n[   10.470278] task:init            state:S stack:    0 pid:    1 ppid:     0 flags:0x00000000\n[   10.470877]  __schedule+0x1b4/0x4d0\n[   10.471041]  do_wait+0x1a2/0x1d0\n[   10.471119]  kernel_wait4+0x89/0x110\n"
)

func TestStoppedAt(t *testing.T) {
	started := func(checks ...string) *event.Collector {
		c := event.NewCollector("nop")
		c.Started = &event.Event{}
		for _, name := range checks {
			c.Checks = append(c.Checks, event.Check{Name: name})
		}
		return c
	}
	ended := started("batch-1")
	ended.Ended = &event.Event{}
	lost := errors.New("no end")
	for _, test := range []struct {
		name   string
		out    qemu.Outcome
		report *event.Collector
		want   *results.Stopped
	}{
		{"to the end", qemu.Outcome{Printed: true}, ended, nil},
		{"nothing printed", qemu.Outcome{Ending: qemu.Silent, ReportErr: lost}, nil, &results.Stopped{Phase: results.StoppedSilent}},
		{"died in silence", qemu.Outcome{ReportErr: lost}, nil, &results.Stopped{Phase: results.StoppedSilent}},
		{"no console", qemu.Outcome{}, ended, &results.Stopped{Phase: results.StoppedSilent}},
		{"in an initcall", qemu.Outcome{Ending: qemu.BootStuck, ReportErr: lost, Printed: true, LastLine: "[    1.5] tsc: 2100.012 MHz", Dump: spinning + healthy}, nil,
			&results.Stopped{Phase: results.StoppedBoot, Last: "[ N] tsc: N MHz", Where: []string{"io_nop", "io_issue_sqe"}}},
		{"in init", qemu.Outcome{ReportErr: lost, Printed: true, InitBegan: true, InitExited: true, LastLine: "2026/11/28 20:01:02 exec: permission denied"}, nil,
			&results.Stopped{Phase: results.StoppedInit, Last: "N/N/N N:N:N exec: permission denied"}},
		{"in the program", qemu.Outcome{Ending: qemu.Stuck, ReportErr: lost, Printed: true, InitBegan: true, Dump: healthy + waiting}, started("batch-1", "batch-2"),
			&results.Stopped{Phase: results.StoppedProgram, Last: "batch-2", Where: []string{"io_sqe_files_unregister", "io_ring_exit_work"}}},
		{"at its start", qemu.Outcome{Ending: qemu.Stuck, ReportErr: lost, Printed: true, Dump: healthy}, started(), &results.Stopped{Phase: results.StoppedProgram, Last: "its start"}},
		{"on the way down", qemu.Outcome{Ending: qemu.Stuck, Printed: true, LastLine: "[    1.500000] reboot: Restarting system"}, ended,
			&results.Stopped{Phase: results.StoppedShutdown, Last: "reboot: Restarting system"}},
		{"QEMU failed", qemu.Outcome{QEMUErr: lost, ReportErr: lost}, nil, nil},
		{"the host failed", qemu.Outcome{HostFailed: true, ReportErr: lost, Printed: true}, started(), nil},
		{"the log failed", qemu.Outcome{LogErr: lost, ReportErr: lost, Printed: true}, started(), nil},
		{"interrupted", qemu.Outcome{Ending: qemu.Cancelled, ReportErr: lost, Printed: true}, started(), nil},
	} {
		out := test.out
		if out.Report = test.report; out.Report == nil {
			out.Report = event.NewCollector("nop")
		}
		if diff := cmp.Diff(test.want, stoppedAt(&out)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}
