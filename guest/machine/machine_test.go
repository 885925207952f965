//go:build linux

package machine

import (
	"os"
	"slices"
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

func TestParseShrunk(t *testing.T) {
	const trace = `# tracer: nop
#
           uinit-1     [000] ....    12.1: mm_shrink_slab_start: io_uring_cache_scan+0x0/0x60 0000000012345678: nid: 0 objects to shrink 0 gfp_flags GFP_KERNEL cache items 257 delta 514 total_scan 514 priority 0
           uinit-1     [000] ....    12.2: mm_shrink_slab_end: io_uring_cache_scan+0x0/0x60 0000000012345678: nid: 0 unused scan count 0 new scan count 130 total_scan 130 last shrinker return val 257
           uinit-1     [000] ....    12.3: mm_shrink_slab_start: super_cache_scan+0x0/0x1b0 0000000087654321: nid: 0 objects to shrink 0 gfp_flags GFP_KERNEL cache items 9 delta 18 total_scan 18 priority 0
           uinit-1     [000] ....    12.4: mm_shrink_slab_end: super_cache_scan+0x0/0x1b0 0000000087654321: nid: 0 unused scan count 0 new scan count 0 total_scan 0 last shrinker return val 9
           uinit-1     [000] ....    12.5: mm_shrink_slab_start: io_uring_cache_scan+0x0/0x60 0000000012345678: nid: 0 objects to shrink 130 gfp_flags GFP_KERNEL cache items 257 delta 514 total_scan 514 priority 0
           uinit-1     [000] ....    12.6: mm_shrink_slab_end: io_uring_cache_scan+0x0/0x60 0000000012345678: nid: 0 unused scan count 130 new scan count 514 total_scan 514 last shrinker return val 0
`
	got, err := parseShrunk(trace, "io_uring")
	want := []Shrunk{{Counted: 257, Asked: 384, Freed: 257}, {Counted: 257}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("parseShrunk() = %+v, %v; want %+v", got, err, want)
	}
}
