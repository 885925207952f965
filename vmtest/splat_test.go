package vmtest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

var update = flag.Bool("update", false, "write the golden files in testdata anew")

// The corpus in testdata/console is what kernels of ours printed that were
// broken on purpose. Next to each log stands what the watch must find in it.
func TestWatchFindsSplats(t *testing.T) {
	logs, err := filepath.Glob("testdata/console/*.log")
	if err != nil || len(logs) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, path := range logs {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".log"), func(t *testing.T) {
			log, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			w := &watcher{}
			for line := range strings.Lines(string(log)) {
				w.line(strings.TrimRight(line, "\r\n"))
			}
			var found strings.Builder
			for _, s := range w.splats() {
				lines := strings.Split(s.Text, "\n")
				fmt.Fprintf(&found, "%s: %s\n  times: %d\n  lines: %d\n  first: %s\n  last:  %s\n", s.Verdict, s.Title, s.Times, len(lines), lines[0], lines[len(lines)-1])
			}
			golden := strings.TrimSuffix(path, ".log") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(found.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), found.String()); diff != "" {
				t.Errorf("splats in %s (-want +got); if right, run with -update:\n%s", path, diff)
			}
		})
	}
}

func TestWatchIgnores(t *testing.T) {
	for _, line := range []string{
		"BUG: unable to handle page fault for address: 0",
		"panic: WARNING: CPU: 0 PID: 1",
		"[    0.1] BUG: not a timestamp",
		"[    1.234567] u-root init: error creating mount",
		"[    1.234567] random: crng init done",
		"[    1.234567] nvme nvme0: 2/0/0 default/read/poll queues",
		"[    1.234567] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200",
	} {
		w := &watcher{}
		w.line(line)
		if got := w.splats(); len(got) > 0 {
			t.Errorf("watch of %q = %+v; want nothing", line, got)
		}
	}
}

func TestWatchFindsKernelLineBehindProgramsText(t *testing.T) {
	w := &watcher{}
	w.line("fixedfile: reading [    1.234567] Kernel panic - not syncing: out of luck")
	got := w.splats()
	if len(got) != 1 || got[0].Verdict != event.Crash || got[0].Title != "Kernel panic - not syncing: out of luck" {
		t.Errorf("watch = %+v; want the panic", got)
	}
}
