package results

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

func TestGCLeavesRunsAtWork(t *testing.T) {
	root := t.TempDir()
	var dirs []string
	var writers []*Writer
	for range 3 {
		w, err := Create(root, sampleRun())
		if err != nil {
			t.Fatal(err)
		}
		writers, dirs = append(writers, w), append(dirs, w.Dir())
	}
	gc := func(keep int, unused time.Duration) []string {
		t.Helper()
		items, err := GC(root, keep, unused)
		if err != nil {
			t.Fatal(err)
		}
		var removed []string
		for _, i := range items {
			removed = append(removed, i.Dir)
		}
		return removed
	}
	if got := gc(0, 0); got != nil {
		t.Errorf("GC removed %v, whose runs are at work", got)
	}
	for _, w := range writers {
		w.unlock()
	}
	if got := gc(0, time.Hour); got != nil {
		t.Errorf("GC removed %v, which are new", got)
	}
	if got := gc(3, 0); got != nil {
		t.Errorf("GC removed %v, of which none is to be removed", got)
	}
	if diff := cmp.Diff([]string{dirs[1], dirs[0]}, gc(0, 0)); diff != "" {
		t.Errorf("GC without the latest (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(root, "latest", "run.json")); err != nil {
		t.Errorf("the latest run is gone: %v", err)
	}
}

// A pipe in the place of a run's lock is not waited for.
func TestListPipes(t *testing.T) {
	root := t.TempDir()
	w, err := Create(root, sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(w.Dir(), lockFile)
	if err := errors.Join(os.Remove(lock), unix.Mkfifo(lock, 0o644)); err != nil {
		t.Fatal(err)
	}
	if items, err := List(root); err != nil || len(items) != 1 {
		t.Errorf("List = %v, %v; want the run", items, err)
	}
}

func TestFinishWritesForOtherTools(t *testing.T) {
	for _, status := range []Status{Finished, Interrupted} {
		w, err := Create(t.TempDir(), sampleRun())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(Cell{Kernel: "base", Program: "nop", Verdict: event.Pass, Expected: true}); err != nil {
			t.Fatal(err)
		}
		if err := w.Finish(status); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"junit.xml", "ktap.txt"} {
			if info, err := os.Stat(filepath.Join(w.Dir(), name)); err != nil || info.Size() == 0 {
				t.Errorf("after Finish(%s): %s: %v", status, name, err)
			}
		}
	}
}

// Commands with a record of their own keep it beside the runs.
func TestListOthers(t *testing.T) {
	root := t.TempDir()
	var want, got []string
	for n, test := range [][2]string{{"bisect-config.json", "a search"}, {"patchcheck.json", "a check of patches"}} {
		id, err := NewFolder(root, time.Unix(int64(n), 0))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, id, test[0]), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		want = append(want, test[1])
	}
	items, err := List(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range slices.Backward(items) {
		got = append(got, i.Short())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is listed (-want +got):\n%s", diff)
	}
}
