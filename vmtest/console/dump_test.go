package console

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDigest(t *testing.T) {
	dump, err := os.ReadFile("testdata/dump.txt")
	if err != nil {
		t.Fatal(err)
	}
	text, places := digest(string(dump))
	got := text + "\n"
	if *update {
		if err := os.WriteFile("testdata/dump.golden", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/dump.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("digest (-want +got); if right, run with -update:\n%s", diff)
	}
	// Each is a Go program with threads of its own; dd reads a terminal.
	const where = "init in do_epoll_wait, do_wait, futex_wait_queue_me (2); dd in futex_wait_queue_me (4), n_tty_read"
	if diff := cmp.Diff(where, places); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}

// A worker that has another one made is in its own loop; one whose work has a thread made is not.
func TestIdleWorker(t *testing.T) {
	made := []string{"__schedule", "schedule", "schedule_timeout", "wait_for_completion_killable", "__kthread_create_on_node", "kthread_create_on_node"}
	for _, c := range []struct {
		loop []string
		want bool
	}{
		{[]string{"create_worker", "worker_thread", "kthread", "ret_from_fork"}, true},
		{[]string{"quokka_work", "process_one_work", "worker_thread", "kthread", "ret_from_fork"}, false},
		{[]string{"quokka_work", "process_scheduled_works", "worker_thread", "kthread", "ret_from_fork"}, false},
		{[]string{"quokka_probe", "kthread", "ret_from_fork"}, false},
	} {
		if got := idle(slices.Concat(made, c.loop)); got != c.want {
			t.Errorf("idle of a thread in %v = %v, want %v", c.loop, got, c.want)
		}
	}
}
