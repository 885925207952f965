package vmtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/console"
	"patchproof/vmtest/qemu"
)

func TestFromEnv(t *testing.T) {
	env := map[string]string{"KERNELS": "base posted", "PROGRAMS": "nop,fdinfo", "JOBS": "3", "SEED": "7", "CACHE": "/c", "PIN": "v1"}
	got, err := FromEnv(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	want := Selection{
		Selection: kernel.Selection{Kernels: []string{"base", "posted"}, Pin: "v1"},
		Programs:  []string{"nop", "fdinfo"},
		Jobs:      3, Count: 1, Seed: 7, Cache: "/c", Set: env,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("FromEnv (-want +got):\n%s", diff)
	}
	for _, name := range []string{"JOBS", "COUNT", "SEED"} {
		for _, bad := range []string{"0", "-1", "two", "1000000000000", "99999999999999999999"} {
			if _, err := FromEnv(func(n string) string { return map[string]string{name: bad}[n] }); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("FromEnv with %s=%s: %v; want an error that names it", name, bad, err)
			}
		}
	}
}

// The seed reaches the programs that take one, and no others.
func TestSeeded(t *testing.T) {
	programs := []Program{{Name: "nop", Append: []string{"a"}}, {Name: "mixer", Append: []string{"a"}, Seeded: true}}
	for seed, want := range map[int][][]string{0: {{"a"}, {"a"}}, 7: {{"a"}, {"a", "patchproof.seed=7"}}} {
		var got [][]string
		for _, p := range seeded(programs, seed) {
			got = append(got, p.Append)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with seed %d (-want +got):\n%s", seed, diff)
		}
	}
}

func TestCheckNamesWhatIsKnown(t *testing.T) {
	tests := []struct {
		sel  Selection
		want string
	}{
		{Selection{Programs: []string{"nope"}}, `unknown PROGRAMS "nope"; most like it: nop, `},
		{Selection{Accel: "hvf"}, `unknown ACCEL "hvf"; known: auto, kvm, tcg`},
		{Selection{Selection: kernel.Selection{Kernels: []string{"nope"}}}, `unknown KERNELS "nope"`},
		{Selection{Selection: kernel.Selection{Pin: "nope"}}, `unknown PIN "nope"`},
	}
	for _, tc := range tests {
		if err := Check(tc.sel); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Check(%+v) = %v; want %s", tc.sel, err, tc.want)
		}
	}
}

// wholeReport makes a collector that holds a whole report of these checks.
func wholeReport(t *testing.T, checks ...event.Check) *event.Collector {
	t.Helper()
	c := event.NewCollector("nop")
	add := func(e event.Event) {
		if err := c.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	add(event.Event{Kind: event.KindStart, Program: "nop"})
	for i := range checks {
		add(event.Event{Seq: i + 1, Kind: event.KindCheck, Check: &checks[i]})
	}
	add(event.Event{Seq: len(checks) + 1, Kind: event.KindEnd, Program: "nop", Count: len(checks) + 1})
	return c
}

func TestVerdictAndKnownIssues(t *testing.T) {
	pass := event.Check{Name: "a", Verdict: event.Pass}
	fail := event.Check{Name: "b", Verdict: event.Fail}
	panicked := console.Splat{Verdict: event.Crash, Title: "Kernel panic - not syncing: x", Times: 1}
	failB := subjects.KnownIssue{Kernels: []string{"posted"}, Program: "nop", Check: "b", Verdict: "fail", Reason: "r"}
	mayFailB := failB
	mayFailB.MayFail = true
	crash := subjects.KnownIssue{Kernels: []string{"posted"}, Program: "nop", Check: "console", Match: "^Kernel panic", Verdict: "crash", Reason: "r"}
	mayHangB := mayFailB
	mayHangB.Verdict = "hang"
	anyPanic := crash
	anyPanic.Match, anyPanic.MayFail = "panic", true
	other := failB
	other.Kernels = []string{"base"}
	hang, skip := event.Check{Name: "b", Verdict: event.Hang}, event.Check{Name: "b", Verdict: event.Skip}

	tests := []struct {
		name     string
		checks   []event.Check
		out      qemu.Outcome
		err      error
		known    []subjects.KnownIssue
		want     event.Verdict
		expected bool
		reason   string
		silent   bool
		suite    []string
	}{
		{name: "pass", checks: []event.Check{pass}, want: event.Pass, expected: true},
		{name: "fail", checks: []event.Check{pass, fail}, want: event.Fail},
		{name: "declared", checks: []event.Check{pass, fail}, known: []subjects.KnownIssue{failB}, want: event.Fail, expected: true},
		{name: "declared for another kernel", checks: []event.Check{pass, fail}, known: []subjects.KnownIssue{other}, want: event.Fail},
		{name: "declared, passed", checks: []event.Check{pass, {Name: "b", Verdict: event.Pass}}, known: []subjects.KnownIssue{failB}, want: event.Pass, reason: "known issue passed: b"},
		{name: "declared, missing", checks: []event.Check{pass}, known: []subjects.KnownIssue{failB}, want: event.Pass, reason: "known issue passed: b"},
		{name: "may fail, passed", checks: []event.Check{pass, {Name: "b", Verdict: event.Pass}}, known: []subjects.KnownIssue{mayFailB}, want: event.Pass, expected: true},
		{name: "may fail, skipped", checks: []event.Check{pass, skip}, known: []subjects.KnownIssue{mayFailB}, want: event.Pass, expected: true},
		{name: "declared, skipped", checks: []event.Check{pass, skip}, known: []subjects.KnownIssue{failB}, want: event.Pass, reason: "known issue was skipped: b"},
		{name: "may fail or hang, hangs", checks: []event.Check{hang}, known: []subjects.KnownIssue{mayFailB, mayHangB}, want: event.Hang, expected: true},
		{name: "may hang or fail, hangs", checks: []event.Check{hang}, known: []subjects.KnownIssue{mayHangB, mayFailB}, want: event.Hang, expected: true},
		{name: "may hang and always fails else, passes", checks: []event.Check{{Name: "b", Verdict: event.Pass}}, known: []subjects.KnownIssue{mayHangB, failB}, want: event.Pass, reason: "known issue passed: b"},
		{name: "declared twice", out: qemu.Outcome{Splats: []console.Splat{panicked}}, known: []subjects.KnownIssue{anyPanic, crash}, want: event.Crash, expected: true},
		{name: "declared of a test that ran in another guest", checks: []event.Check{pass}, known: []subjects.KnownIssue{failB}, suite: []string{"a", "b"}, want: event.Pass, expected: true},
		{name: "declared with another verdict", checks: []event.Check{{Name: "b", Verdict: event.Hang}}, known: []subjects.KnownIssue{failB}, want: event.Hang},
		{name: "splat beats pass", checks: []event.Check{pass}, out: qemu.Outcome{Splats: []console.Splat{panicked}}, want: event.Crash},
		{name: "declared splat, events lost", out: qemu.Outcome{Splats: []console.Splat{panicked}, ReportErr: errors.New("lost"), Printed: true}, known: []subjects.KnownIssue{crash}, want: event.Error, reason: "lost"},
		{name: "splat beats the program's trouble", checks: []event.Check{pass, {Name: "disk", Verdict: event.Error}}, out: qemu.Outcome{Splats: []console.Splat{panicked}}, want: event.Crash},
		{name: "program's trouble beside a declared failure", checks: []event.Check{{Name: "b", Verdict: event.Fail}, {Name: "disk", Verdict: event.Error}}, known: []subjects.KnownIssue{failB}, want: event.Error},
		{name: "reset without a word", out: qemu.Outcome{Reset: true, Printed: true, ReportErr: errors.New("no end")}, want: event.Crash},
		{name: "declared panic, checks missing", out: qemu.Outcome{Died: true, Splats: []console.Splat{panicked}, ReportErr: errors.New("no end")}, known: []subjects.KnownIssue{crash, failB}, want: event.Crash, expected: true},
		{name: "other splat", out: qemu.Outcome{Splats: []console.Splat{{Verdict: event.Crash, Title: "WARNING: at x"}}}, known: []subjects.KnownIssue{crash}, want: event.Crash},
		{name: "declared splat did not come", checks: []event.Check{pass}, known: []subjects.KnownIssue{crash}, want: event.Pass, reason: "console did not show"},
		{name: "no end", checks: []event.Check{pass}, out: qemu.Outcome{ReportErr: errors.New("lost"), Printed: true}, want: event.Error, reason: "lost"},
		{name: "QEMU failed", checks: []event.Check{pass}, out: qemu.Outcome{QEMUErr: errors.New("QEMU failed: bad"), ReportErr: errors.New("lost")}, want: event.Error, reason: "QEMU failed"},
		{name: "did not start", err: errors.New("no disk"), want: event.Error, reason: "no disk"},
		{name: "past its deadline", checks: []event.Check{pass}, out: qemu.Outcome{Ending: qemu.Stuck, ReportErr: errors.New("no end")}, want: event.Hang, reason: "had not ended"},
		{name: "skip", checks: []event.Check{{Name: "a", Verdict: event.Skip}}, want: event.Skip, expected: true},
		{name: "nothing printed", checks: []event.Check{pass}, silent: true, want: event.Error, reason: "printed nothing"},
		{name: "no check", want: event.Error, reason: "reported no check"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := CellSpec{Kernel: "posted", Variant: "plain", Program: Program{Name: "nop", Deadline: time.Second, Suite: tc.suite}, Scale: 1, Known: tc.known}
			out := &tc.out
			out.Report = wholeReport(t, tc.checks...)
			out.Printed = !tc.silent
			if tc.err != nil {
				out = nil
			}
			got := judge(out, tc.err, s)
			expect(&got, s)
			if got.verdict != tc.want || got.expected != tc.expected || !strings.Contains(got.reason, tc.reason) {
				t.Errorf("cell = %s, expected %v, %q; want %s, %v, %q", got.verdict, got.expected, got.reason, tc.want, tc.expected, tc.reason)
			}
		})
	}
}

func TestSkippedCheckOfUndeclaredFeatureIsExpected(t *testing.T) {
	s := CellSpec{Kernel: "base", Program: Program{Name: "nop"}, Scale: 1}
	f := judge(&qemu.Outcome{Report: wholeReport(t, event.Check{Name: "a", Verdict: event.Skip})}, nil, s)
	expect(&f, s)
	want := []results.Check{{Check: event.Check{Name: "a", Verdict: event.Skip}, Expected: true}}
	if diff := cmp.Diff(want, f.checks); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
}

func TestTurns(t *testing.T) {
	tests := []struct {
		kernels, count int
		timed          bool
		want           string
	}{
		{2, 4, true, "A1 B1 B2 A2 A3 B3 B4 A4"},
		{2, 3, true, "A1 B1 B2 A2 A3 B3"},
		{3, 2, true, "A1 B1 C1 C2 B2 A2"},
		{1, 2, true, "A1 A2"},
		{2, 2, false, "A1 A2 B1 B2"},
	}
	for _, tc := range tests {
		var got []string
		for _, turn := range turns(tc.kernels, tc.count, tc.timed) {
			got = append(got, string(rune('A'+turn.kernel))+string(rune('0'+turn.iteration)))
		}
		if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("turns(%d, %d, %v) (-want +got):\n%s", tc.kernels, tc.count, tc.timed, diff)
		}
	}
}

// A version is that of what the guest runs and how, wherever that lies.
func TestVersion(t *testing.T) {
	spec := CellSpec{
		Initramfs: "/here/0a1b-77.cpio", Scale: 1, Features: []string{"f"},
		Program: Program{Name: "p", Script: "/here/p.sh", CPUs: 2, Append: []string{"seed=1"}},
	}
	for name, tt := range map[string]struct {
		change func(*CellSpec)
		same   bool
	}{
		"another checkout":   {func(s *CellSpec) { s.Program.Script = "/there/p.sh" }, true},
		"another cache":      {func(s *CellSpec) { s.Initramfs = "/there/0a1b-78.cpio" }, true},
		"another kernel":     {func(s *CellSpec) { s.Kernel, s.Image = "patched", "/there/vmlinux" }, true},
		"again":              {func(s *CellSpec) { s.Iteration = 2 }, true},
		"another initramfs":  {func(s *CellSpec) { s.Initramfs = "/here/0a1c-77.cpio" }, false},
		"other arguments":    {func(s *CellSpec) { s.Program.Append = []string{"seed=2"} }, false},
		"another machine":    {func(s *CellSpec) { s.Program.CPUs = 1 }, false},
		"more time":          {func(s *CellSpec) { s.Scale = 2 }, false},
		"what is not judged": {func(s *CellSpec) { s.Features = nil }, false},
	} {
		changed := spec
		tt.change(&changed)
		if got := changed.version() == spec.version(); got != tt.same {
			t.Errorf("%s: the version is the same: %v; want %v", name, got, tt.same)
		}
	}
}

// A source is looked at several times before its kernel is built, and says so once.
func TestOnce(t *testing.T) {
	var got []string
	tell := once(func(p kernel.Progress) { got = append(got, strings.TrimSpace(p.Kernel+" "+p.Step)) })
	for _, p := range []kernel.Progress{
		{Kernel: "patched", Step: kernel.StepApply, Total: 1}, {Step: "note: merged"}, {Step: "note: chosen"},
		{Kernel: "patched", Step: kernel.StepApply, Total: 1}, {Step: "note: merged"},
		{Kernel: "base", Step: kernel.StepCompile}, {Kernel: "patched", Step: kernel.StepCompile}, {Kernel: "base", Step: kernel.StepCompile},
	} {
		tell(p)
	}
	want := []string{"patched apply", "note: merged", "note: chosen", "base compile", "patched compile", "base compile"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// A guest has room for what it boots into.
func TestMemory(t *testing.T) {
	for _, test := range []struct{ packed, memory, want int }{{8, 128, 128}, {27, 512, 512}, {218, 512, 782}, {218, 1024, 1024}} {
		initramfs := filepath.Join(t.TempDir(), "x.cpio")
		if err := errors.Join(os.WriteFile(initramfs, nil, 0o644), os.Truncate(initramfs, int64(test.packed)<<20)); err != nil {
			t.Fatal(err)
		}
		if got := (CellSpec{Initramfs: initramfs, Program: Program{MemoryMiB: test.memory}}).memory(); got != test.want {
			t.Errorf("a guest of %d MiB that boots into %d MiB gets %d; want %d", test.memory, test.packed, got, test.want)
		}
	}
}
