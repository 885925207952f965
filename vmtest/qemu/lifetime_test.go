package qemu

import (
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestStarvedGuestHasHadLess checks that a process which shares a processor with many
// has had little of the time that passed, and one that wants no processor all of it. The
// latter is said to be idle.
func TestStarvedGuestHasHadLess(t *testing.T) {
	begin := func(words ...string) *lifetime {
		cmd := exec.Command(words[0], words[1:]...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		return &lifetime{pid: cmd.Process.Pid}
	}
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if allowed.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	spin := func() *lifetime {
		l := begin("sh", "-c", "while :; do :; done")
		if err := unix.SchedSetaffinity(l.pid, &one); err != nil {
			t.Fatal(err)
		}
		return l
	}
	if _, ok := spentBy("/proc/self/schedstat"); !ok {
		t.Skip("the kernel of this host has no schedstat")
	}
	starved := spin()
	for range 9 {
		spin()
	}
	idle := begin("sleep", "60")
	guests := map[string]*lifetime{"starved": starved, "idle": idle}
	had := map[string]time.Duration{}
	said := map[string]bool{}
	for name, l := range guests {
		l.idle = func(idle bool) { said[name] = idle }
		l.begin()
	}
	first := bootTime()
	for bootTime()-first < window+window/2 {
		time.Sleep(tick)
		for name, l := range guests {
			had[name] += l.passed()
		}
	}
	all := bootTime() - first
	if had["starved"] > all/2 {
		t.Errorf("of %v, one of ten on a processor had %v; want about a tenth", all, had["starved"])
	}
	if had["idle"] < all*9/10 {
		t.Errorf("of %v, a process that sleeps had %v; want all", all, had["idle"])
	}
	if diff := cmp.Diff(map[string]bool{"starved": false, "idle": true}, said); diff != "" {
		t.Errorf("idle (-want +said):\n%s", diff)
	}
	for name, l := range guests {
		if sum := had[name] + l.starved + l.still; sum < all*9/10 || sum > all*11/10 {
			t.Errorf("%s: %v had and %v starved; want together %v", name, had[name], l.starved, all)
		}
	}
}
