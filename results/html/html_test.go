package html

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"patchproof/guest/event"
	"patchproof/patches/subjects"
	"patchproof/results"
)

// fixture is a run made by make vmtest, trimmed, beside one of make bench BENCH=nop.
func fixture(t *testing.T) *results.Run {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	run, err := results.Read(filepath.Join(dir, "20261125-041420.758"))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// nasty is what a guest could print to be more than text.
const nasty = "</pre></script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[2J\x00\xff\u202egnp"

// hostile is a run whose every string is nasty.
func hostile(t *testing.T) *results.Run {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	log := nasty + "\n" + strings.Repeat("A", 1<<20) + "\n" + strings.Repeat("filler\n", 40_000) + "the last line " + nasty
	if err := os.WriteFile(filepath.Join(dir, "cell.log"), []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	check := results.Check{Check: event.Check{Name: nasty, Verdict: event.Fail, Detail: nasty}, KnownIssue: nasty}
	return &results.Run{
		Dir: dir, ID: nasty, Status: results.Finished, Started: time.Unix(0, 0), Finished: time.Unix(9, 0), QEMU: nasty,
		Command: []string{nasty}, Selection: map[string]string{nasty: nasty}, Host: results.Host{OS: nasty, CPU: nasty},
		Kernels: []results.Kernel{{Name: nasty, Pin: nasty, Variant: nasty, Series: []string{nasty}, PatchIDs: []string{nasty}, Commit: nasty,
			Quarantine: []results.Quarantine{{Program: nasty, Check: nasty, Reason: nasty, Until: nasty}}}},
		Cells: []results.Cell{{Kernel: nasty, Variant: nasty, Program: nasty, Iteration: 1, Verdict: event.Fail, Reason: nasty, StartS: 1, WallS: 2, BootS: 1,
			Checks: []results.Check{check}, Console: "cell.log", Command: nasty, Metrics: []event.Metric{
				{Name: "nr_avail", Value: 1, Unit: nasty, Labels: map[string]string{"during": nasty, "step": "0", "cpu": nasty}},
				{Name: "nr_avail", Value: 7, Unit: nasty, Labels: map[string]string{"during": nasty, "step": "1", "cpu": nasty}},
				{Name: "nr_avail", Value: 7, Labels: map[string]string{"during": "x", "step": "NaN"}},
				{Name: "insns", Value: 7, Unit: "insns/op", Labels: map[string]string{"bench": "Nop/batch=Inf"}},
				{Name: "objects", Value: 1e300, Labels: map[string]string{"round": "1e300", "irq": "0"}},
				{Name: "objects", Value: -1e300, Labels: map[string]string{"round": "-5", "irq": "0"}},
			}}},
	}
}

// ours are the figures that the first subject asks for.
func ours(t *testing.T) []subjects.Figure {
	t.Helper()
	s, err := subjects.Read("../../patches/io_kiocb-alloc-cache")
	if err != nil {
		t.Fatal(err)
	}
	return s.Figures
}

func write(t *testing.T, run *results.Run) (path, page string) {
	t.Helper()
	path, err := Write(run, ours(t))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, string(text)
}

func TestPageSaysWhatMatters(t *testing.T) {
	run := fixture(t)
	_, page := write(t, run)
	for what, want := range map[string]string{
		"the answer":              results.Answer(run),
		"the pin":                 "v5.10.13",
		"a patch":                 "io_uring: add a shrinker for the per-CPU request cache",
		"a patch id":              run.Kernels[1].PatchIDs[0],
		"the accelerator":         run.Accel.Reason,
		"a known issue":           "never counts nr_free down",
		"a place of the source":   "[changed by patch 4/6 io_uring: add a shrinker for the per-CPU request cache]</b>",
		"a command":               "qemu-system-x86_64",
		"counters over time":      "The cache through reclaim, shrinker on posted",
		"a CPU going and coming":  "going and coming back, round 1, cpuoffline on posted",
		"memory":                  "Memory held: requests in the slab",
		"when cells ran":          "Boot and step times",
		"instructions per NOP":    "Instructions per NOP against batch size",
		"a link to the whole log": `href="posted-plain-race-hotplug-shrink.log"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s: %q", what, want)
		}
	}
	if at := regexp.MustCompile(`(?:src|href)="(?:[a-z]+:|//)|style="|url\(`).FindString(page); at != "" {
		t.Errorf("the page refers to something outside, or has inline style: %q", at)
	}
}

func TestHostileRunIsText(t *testing.T) {
	path, page := write(t, hostile(t))
	for _, wrong := range []string{"<script>document", "<img", "\x1b", "\x00", "\xff", "\u202e"} {
		if strings.Contains(page, wrong) {
			t.Errorf("%s has %q", filepath.Base(path), wrong)
		}
	}
	for _, want := range []string{`\x1b[2J`, `\xff\u202egnp`, "the last line", "left out here", "more on this line"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if limit := 1 << 20; len(page) > limit {
		t.Errorf("the page has %d bytes; want at most %d for a console of %d", len(page), limit, 1<<20)
	}
}

func TestConsoleOutsideTheFolder(t *testing.T) {
	run := hostile(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("top secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(run.Dir, "link.log")); err != nil {
		t.Fatal(err)
	}
	run.Cells[0].Console = "link.log"
	if _, page := write(t, run); strings.Contains(page, "top secret") || !strings.Contains(page, "cannot be read") {
		t.Error("a console log that is a link out of the folder was followed, or not told of")
	}
}

func TestEmptyRun(t *testing.T) {
	run := &results.Run{Dir: t.TempDir(), ID: "1", Status: results.Running}
	if _, page := write(t, run); !strings.Contains(page, "No program ran") || !strings.Contains(page, "Not all could be judged") {
		t.Error("the page of an empty run does not say that nothing is known")
	}
}

func TestBisectPath(t *testing.T) {
	run := hostile(t)
	const record = `{"trials": [
		{"title": "base, \"Linux\"", "role": "good end", "mark": "good", "wall_s": 7.2},
		{"title": "patch 10 of 10, \"x\"", "role": "bad end", "mark": "bad", "why": "hang of nvme-polled/register", "wall_s": 30.3},
		{"title": "patch 5 of 10, \"y\"", "role": "step", "mark": "good", "wall_s": 7.4},
		{"title": "the bad end without it", "role": "revert", "mark": "good", "wall_s": 11}],
		"answer": {"outcome": "found", "text": "patch 7 of 10 is the first bad commit."}}`
	if err := os.WriteFile(filepath.Join(run.Dir, "bisect.json"), []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
	_, page := write(t, run)
	for _, want := range []string{"patch 7 of 10 is the first bad commit.", "The way of the search", "good end: good", "step: good", "hang of nvme-polled/register", "the bad end without it"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// TestMetricSearch is the page of a search for a size, which runs no kernel.
func TestMetricSearch(t *testing.T) {
	run := &results.Run{Dir: t.TempDir(), ID: "1", Status: results.Finished, Kernels: []results.Kernel{{Name: "1 good end: good", Commit: "9e74", Objects: 1}}}
	const record = `{"trials": [
		{"title": "9e74 \"start\"", "role": "good end", "mark": "good", "figure": 68},
		{"title": "43ac \"end\"", "role": "bad end", "mark": "bad", "figure": 4200},
		{"title": "aaaa \"broken\"", "role": "step", "mark": "skip", "why": "it does not build"},
		{"title": "f86b \"b\"", "role": "step", "mark": "good", "why": "68 bytes", "figure": 68}],
		"answer": {"outcome": "not proven", "text": "it came bit by bit"}, "told": "it came bit by bit, and more"}`
	if err := os.WriteFile(filepath.Join(run.Dir, "bisect.json"), []byte(record), 0o644); err != nil {
		t.Fatal(err)
	}
	_, page := write(t, run)
	for _, want := range []string{"it came bit by bit, and more", "The figure of each kernel", "<svg", "it does not build", "1 object built"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, empty := range []string{`id="matrix" aria`, `href="#matrix"`, `id="cells" aria`, `href="#cells"`} {
		if strings.Contains(page, empty) {
			t.Errorf("the page shows %s, where nothing was run", empty)
		}
	}
}

func TestTrend(t *testing.T) {
	run := fixture(t)
	if _, page := write(t, run); strings.Contains(page, "Trend:") {
		t.Error("two runs make a trend; want three at least")
	}
	root := filepath.Dir(run.Dir)
	store := func(name, pin string) {
		record, err := os.ReadFile("testdata/20261125-041420.758/run.json")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
		record = bytes.ReplaceAll(record, []byte("20261125-041420.758"), []byte(name))
		record = bytes.ReplaceAll(record, []byte(`"pin": "v5.10.13"`), []byte(`"pin": "`+pin+`"`))
		if err := os.WriteFile(filepath.Join(root, name, "run.json"), record, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	store("20261125-041420.001", "v5.10.46")
	store("20261125-041420.002", "v5.10.46")
	if _, page := write(t, run); strings.Contains(page, "Trend:") {
		t.Error("runs of another pin are in the trend")
	}
	store("20261125-041420.003", "v5.10.13")
	store("20261125-041420.004", "v5.10.13")
	if _, page := write(t, run); !strings.Contains(page, "Trend: seconds to boot") {
		t.Error("the page has no trend of three runs")
	}
}

// The page lists what is in quarantine.
func TestPageListsQuarantines(t *testing.T) {
	run := fixture(t)
	run.Kernels[0].Quarantine = []results.Quarantine{{Program: "nop", Check: "a <b>", Verdict: event.Fail, Reason: "nobody knows", Until: "2026-02-01", Expired: true}}
	_, page := write(t, run)
	if want := "nobody knows"; !strings.Contains(page, "<h3>In quarantine</h3>") || !strings.Contains(page, want) || strings.Contains(page, "<b>:") {
		t.Errorf("the page has not the quarantine with its reason, %q, as text", want)
	}
}

// The page says how often a check failed in the stored runs.
func TestPageSaysWhatComesAndGoes(t *testing.T) {
	root := t.TempDir()
	var run *results.Run
	for n, verdict := range []event.Verdict{event.Fail, event.Pass, event.Pass} {
		stored := results.Run{
			Schema: results.Schema, ID: fmt.Sprintf("20260301-00000%d.000", n), Status: results.Finished, Started: time.Unix(int64(n), 0).UTC(),
			Accel: results.Accel{Name: "tcg"}, Kernels: []results.Kernel{{Name: "base", Variant: "plain"}},
			Cells: []results.Cell{{
				Kernel: "base", Variant: "plain", Program: "nop", Iteration: 1, Version: "v", Verdict: verdict, Expected: true, WallS: float64(n + 1),
				Checks: []results.Check{{Check: event.Check{Name: "cqe", Verdict: verdict}, Expected: true}},
			}},
		}
		text, err := json.Marshal(stored)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(root, stored.ID)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "run.json"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		if run, err = results.Read(dir); err != nil {
			t.Fatal(err)
		}
	}
	_, page := write(t, run)
	for _, want := range []string{"What comes and goes", `<th scope="row">nop/cqe</th>`, `<td class="number">1 of 3</td>`, "20260301-000000.000"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has not %q", want)
		}
	}
}

func TestTyped(t *testing.T) {
	for _, tt := range []struct {
		command   []string
		selection map[string]string
		want      string
	}{
		{nil, map[string]string{"COUNT": "2"}, ""},
		{[]string{"bin/patchproof", "vmtest"}, nil, "bin/patchproof vmtest"},
		{[]string{"bin/patchproof", "vmtest"}, map[string]string{"PROGRAMS": "quick", "KERNELS": "base posted"},
			"KERNELS='base posted' PROGRAMS=quick bin/patchproof vmtest"},
		{[]string{"p", "vmtest", "--kernel-src=/a b", "--count", "2"}, map[string]string{"KERNEL_SRC": "/a b", "COUNT": "2", "JOBS": "1"},
			"JOBS=1 p vmtest '--kernel-src=/a b' --count 2"},
	} {
		if got := typed(&results.Run{Command: tt.command, Selection: tt.selection}); got != tt.want {
			t.Errorf("typed(%v with %v) = %s; want %s", tt.command, tt.selection, got, tt.want)
		}
	}
}
