package results

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

// killedRoot, when set, makes the test binary a run that writes until killed.
const killedRoot = "PATCHPROOF_TEST_KILLED_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(killedRoot); root != "" {
		if err := runUntilKilled(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func runUntilKilled(root string) error {
	w, err := Create(root, sampleRun())
	if err != nil {
		return err
	}
	if err := w.AddKernel(Kernel{Name: "base"}); err != nil {
		return err
	}
	for i := 1; ; i++ {
		if err := w.Add(Cell{Kernel: "base", Program: "nop", Iteration: i, Verdict: event.Pass, Expected: true}); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// A clock that was set back during a run makes no run that ended before it began.
func TestFinishBehindAClockSetBack(t *testing.T) {
	w, err := Create(t.TempDir(), sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	w.run.Started = w.run.Started.Add(time.Hour)
	if err := w.Finish(Finished); err != nil {
		t.Fatal(err)
	}
	run, err := Read(w.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if took := run.Finished.Sub(run.Started); took < 0 || took > time.Hour/2 {
		t.Errorf("the run took %v; want what it took by a clock that nobody sets", took)
	}
}

func sampleRun() Run {
	return Run{
		Command:   []string{"patchproof", "run"},
		Selection: map[string]string{"COUNT": "2"},
		Host:      Host{OS: "Debian 12", Kernel: "6.1.0", CPU: "a CPU", CPUs: 2},
		Accel:     Accel{Name: "tcg", Reason: "KVM opens, but no guest prints through it"},
		QEMU:      "7.2.17",
		Kernels: []Kernel{
			{Name: "base", Pin: "v5.10.13", Variant: "plain", Vmlinux: "/store/a/vmlinux", Objects: 790, BuildS: 61.5},
			{Name: "posted", Pin: "v5.10.13", Variant: "plain", Series: []string{"io_uring: cache"}, PatchIDs: []string{"c0ffee"}, Features: []string{"alloc-cache"}},
		},
	}
}

func TestWriterRoundTrip(t *testing.T) {
	root := t.TempDir()
	w, err := Create(root, sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	cell := Cell{
		Kernel: "posted", Variant: "plain", Program: "nop", Iteration: 1, Verdict: event.Fail, Expected: true, WallS: 2.5, BootS: 1.25,
		Checks:  []Check{{Check: event.Check{Name: "order", Verdict: event.Fail, Detail: "a\x1b[31m\nb"}, Expected: true, KnownIssue: "late"}},
		Metrics: []event.Metric{{Name: "instructions", Value: 812, Unit: "1/op", Labels: map[string]string{"batch": "1"}}},
		Console: "posted-plain-nop.log", Command: "qemu-system-x86_64 -M q35",
	}
	if err := w.Add(cell); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(Finished); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{w.Dir(), filepath.Join(w.Dir(), "run.json"), filepath.Join(root, "latest")} {
		got, err := Read(path)
		if err != nil {
			t.Fatalf("Read(%s): %v", path, err)
		}
		want := w.run
		want.Dir = w.Dir()
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("Read(%s) (-written +read):\n%s", path, diff)
		}
	}
	if link, err := os.Readlink(filepath.Join(root, "latest")); err != nil || link != filepath.Base(w.Dir()) {
		t.Errorf("latest points at %q, %v; want the relative %q", link, err, filepath.Base(w.Dir()))
	}
}

// TestContract holds run.json to the names that docs/run-json.md promises to readers
// in other languages.
func TestContract(t *testing.T) {
	w, err := Create(t.TempDir(), Run{Kernels: []Kernel{{Name: "base"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(Cell{Kernel: "base", Program: "nop", Verdict: event.Pass}); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(w.Dir(), "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	var run struct {
		Schema  int
		Kernels []map[string]any
		Cells   []map[string]any
	}
	if err := json.Unmarshal(doc, &run); err != nil {
		t.Fatal(err)
	}
	if run.Schema != Schema {
		t.Errorf("schema = %d; want %d", run.Schema, Schema)
	}
	for _, name := range []string{"name", "pin", "variant", "series", "patch_ids", "config_hash", "compiler", "vmlinux", "objects", "build_s"} {
		if _, ok := run.Kernels[0][name]; !ok {
			t.Errorf("a kernel in run.json lacks %q", name)
		}
	}
	for _, name := range []string{"kernel", "variant", "program", "verdict", "expected", "wall_s", "boot_s"} {
		if _, ok := run.Cells[0][name]; !ok {
			t.Errorf("a cell in run.json lacks %q", name)
		}
	}
	for _, name := range []string{"checks", "metrics"} {
		if _, ok := run.Cells[0][name].([]any); !ok {
			t.Errorf("cell %q = %v; want a list, even when empty", name, run.Cells[0][name])
		}
	}
}

func TestWriterConcurrent(t *testing.T) {
	w, err := Create(t.TempDir(), sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AddKernel(Kernel{Name: "base"}); err != nil {
		t.Fatal(err)
	}
	const cells = 40
	var wg sync.WaitGroup
	for i := range cells {
		wg.Go(func() {
			if err := w.Add(Cell{Kernel: "base", Program: "nop", Iteration: i, Verdict: event.Pass}); err != nil {
				t.Error(err)
			}
			if _, err := Read(w.Dir()); err != nil {
				t.Errorf("Read beside a writer: %v", err)
			}
		})
	}
	wg.Wait()
	r, err := Read(w.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != cells {
		t.Errorf("%d cells are recorded; want %d", len(r.Cells), cells)
	}
}

func TestSimultaneousRuns(t *testing.T) {
	root := t.TempDir()
	started := time.Date(2026, 3, 1, 23, 59, 59, 123e6, time.FixedZone("", 3600))
	const runs = 8
	ids := make([]string, runs)
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			w, err := Create(root, Run{Started: started})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = filepath.Base(w.Dir())
		})
	}
	wg.Wait()
	later, err := Create(root, Run{Started: started.Add(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	if got := len(slices.Compact(ids)); got != runs {
		t.Errorf("%d runs at once got %d ids", runs, got)
	}
	if ids[0] != "20260301-225959.123" {
		t.Errorf("the first id = %s; want the start in UTC", ids[0])
	}
	if last := ids[runs-1]; filepath.Base(later.Dir()) < last {
		t.Errorf("the later run %s sorts before %s", filepath.Base(later.Dir()), last)
	}
	if r, err := Read(filepath.Join(root, "latest")); err != nil || r.ID != filepath.Base(later.Dir()) {
		t.Errorf("Read(latest) = %v, %v; want the later run", r, err)
	}
}

func TestKilledRunIsReadable(t *testing.T) {
	root := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedRoot+"="+root)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	added := 0
	for added < 10 && lines.Scan() {
		added++
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		added++
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the run ended by itself")
	}
	r, err := Read(filepath.Join(root, "latest"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != Running || len(r.Cells) < added {
		t.Errorf("status %s with %d cells; want %s with at least the %d that were reported", r.Status, len(r.Cells), Running, added)
	}
	if got := r.ExitCode(); got != 2 {
		t.Errorf("ExitCode() = %d; want 2", got)
	}
}

func TestAddRefusesWhatJSONCannotHold(t *testing.T) {
	w, err := Create(t.TempDir(), sampleRun())
	if err != nil {
		t.Fatal(err)
	}
	bad := Cell{Kernel: "base", Program: "nop", Verdict: event.Pass, Metrics: []event.Metric{{Name: "x", Value: math.NaN()}}}
	if err := w.Add(bad); err == nil || !strings.Contains(err.Error(), "nop on base") {
		t.Errorf("Add(NaN) = %v; want an error that names the cell", err)
	}
	if err := w.Finish(Finished); err != nil {
		t.Errorf("Finish after a refused cell: %v", err)
	}
}

func TestCreateLeavesNothingWhenItFails(t *testing.T) {
	root := t.TempDir()
	// A folder where the link belongs can't be replaced by a link.
	if err := os.MkdirAll(filepath.Join(root, "latest", "mine"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(root, sampleRun()); err == nil || !strings.Contains(err.Error(), "latest") {
		t.Errorf("Create = %v; want an error that names latest", err)
	}
	left, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 {
		t.Errorf("Create left %v; want only what was there", left)
	}
}

// TestDamagedRecord changes one verdict in a run's record: what it says is refused, by
// name and with what to do.
func TestDamagedRecord(t *testing.T) {
	w, err := Create(t.TempDir(), Run{Kernels: []Kernel{{Name: "base"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(Cell{Kernel: "base", Program: "nop", Verdict: event.Hang}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.Dir(), "run.json")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(doc), `"hang"`, `"pass"`, 1)
	for _, damaged := range []string{changed, string(doc[:len(doc)/2])} {
		if err := os.WriteFile(path, []byte(damaged), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Read(w.Dir())
		for _, want := range []string{path, "not as it was written", "make the run again"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Read = %v; want an error with %q", err, want)
			}
		}
	}
	// Without its seal it is what somebody says that it is.
	lines := strings.SplitAfterN(changed, "\n", 3)
	if err := os.WriteFile(path, []byte(lines[0]+lines[2]), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, err := Read(w.Dir()); err != nil || r.Cells[0].Verdict != event.Pass {
		t.Errorf("Read without the seal = %v, %v; want the record", r, err)
	}
}
