//go:build linux

package machine

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseCPUList(t *testing.T) {
	for _, tt := range []struct {
		list string
		want []int
	}{
		{"0", []int{0}},
		{"0-2", []int{0, 1, 2}},
		{"0,2-3,7", []int{0, 2, 3, 7}},
	} {
		got, err := parseCPUList(tt.list)
		if err != nil {
			t.Errorf("parseCPUList(%q) = %v", tt.list, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("parseCPUList(%q) (-want +got):\n%s", tt.list, diff)
		}
	}
	for _, list := range []string{"", "x", "1-", "-1", "1,,2"} {
		if got, err := parseCPUList(list); err == nil {
			t.Errorf("parseCPUList(%q) = %v; want an error", list, got)
		}
	}
}

func TestOnCPU(t *testing.T) {
	cpus, err := OnlineCPUs()
	if err != nil {
		t.Skip(err)
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	for _, cpu := range cpus {
		if !allowed.IsSet(cpu) {
			continue
		}
		var bound unix.CPUSet
		if err := OnCPU(cpu, func() error { return unix.SchedGetaffinity(0, &bound) }); err != nil {
			t.Errorf("OnCPU(%d) = %v", cpu, err)
		}
		if bound.Count() != 1 || !bound.IsSet(cpu) {
			t.Errorf("OnCPU(%d) ran on any of %d CPUs; want that one", cpu, bound.Count())
		}
	}
	if err := OnCPU(cpus[0], func() error { panic("ouch") }); err == nil || !strings.Contains(err.Error(), "ouch") {
		t.Errorf("OnCPU(panics) = %v; want an error with the panic", err)
	}
}

func TestTasksKnowThisProcess(t *testing.T) {
	name, state := nameAndState("/proc/thread-self/stat")
	if comm, err := os.ReadFile("/proc/thread-self/comm"); err != nil || name+"\n" != string(comm) {
		t.Errorf("name = %q; want %q (error %v)", name, comm, err)
	}
	if state != "R" {
		t.Errorf("state = %q; want R", state)
	}
	tasks := Tasks()
	if len(tasks) == 0 {
		t.Skip("this machine does not show kernel stacks")
	}
	for _, task := range tasks {
		if task.TID == strconv.Itoa(os.Getpid()) {
			return
		}
	}
	t.Errorf("none of %d tasks is this process", len(tasks))
}
