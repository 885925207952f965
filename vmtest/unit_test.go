package vmtest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/vmtest/console"
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
		for _, bad := range []string{"0", "-1", "two"} {
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
		{Selection{Programs: []string{"nope"}}, `unknown PROGRAMS "nope"; known: `},
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

func TestParseQEMUVersion(t *testing.T) {
	tests := []struct{ out, want, err string }{
		{"QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright", "7.2.22", ""},
		{"QEMU emulator version 10.0.0-rc1\n", "10.0.0-rc1", ""},
		{"QEMU emulator version 4.1.0\n", "", "too old"},
		{"QEMU emulator version 2.11.1\n", "", "apt-get install"},
		{"hello", "", "no version"},
	}
	for _, tc := range tests {
		got, err := parseQEMUVersion(tc.out)
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("parseQEMUVersion(%q) = %q, %v; want %q, %q", tc.out, got, err, tc.want, tc.err)
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
	failB := patches.KnownIssue{Kernels: []string{"posted"}, Program: "nop", Check: "b", Verdict: "fail", Reason: "r"}
	mayFailB := failB
	mayFailB.MayFail = true
	crash := patches.KnownIssue{Kernels: []string{"posted"}, Program: "nop", Check: "console", Match: "^Kernel panic", Verdict: "crash", Reason: "r"}
	other := failB
	other.Kernels = []string{"base"}

	tests := []struct {
		name     string
		checks   []event.Check
		out      outcome
		err      error
		known    []patches.KnownIssue
		want     event.Verdict
		expected bool
		reason   string
	}{
		{name: "pass", checks: []event.Check{pass}, want: event.Pass, expected: true},
		{name: "fail", checks: []event.Check{pass, fail}, want: event.Fail},
		{name: "declared", checks: []event.Check{pass, fail}, known: []patches.KnownIssue{failB}, want: event.Fail, expected: true},
		{name: "declared for another kernel", checks: []event.Check{pass, fail}, known: []patches.KnownIssue{other}, want: event.Fail},
		{name: "declared, passed", checks: []event.Check{pass, {Name: "b", Verdict: event.Pass}}, known: []patches.KnownIssue{failB}, want: event.Pass, reason: "known issue passed: b"},
		{name: "declared, missing", checks: []event.Check{pass}, known: []patches.KnownIssue{failB}, want: event.Pass, reason: "known issue passed: b"},
		{name: "may fail, passed", checks: []event.Check{pass, {Name: "b", Verdict: event.Pass}}, known: []patches.KnownIssue{mayFailB}, want: event.Pass, expected: true},
		{name: "declared with another verdict", checks: []event.Check{{Name: "b", Verdict: event.Hang}}, known: []patches.KnownIssue{failB}, want: event.Hang},
		{name: "splat beats pass", checks: []event.Check{pass}, out: outcome{Splats: []console.Splat{panicked}}, want: event.Crash},
		{name: "declared splat, events lost", out: outcome{Splats: []console.Splat{panicked}, ReportErr: errors.New("lost"), Printed: true}, known: []patches.KnownIssue{crash}, want: event.Error, reason: "lost"},
		{name: "splat beats the program's trouble", checks: []event.Check{pass, {Name: "disk", Verdict: event.Error}}, out: outcome{Splats: []console.Splat{panicked}}, want: event.Crash},
		{name: "program's trouble beside a declared failure", checks: []event.Check{{Name: "b", Verdict: event.Fail}, {Name: "disk", Verdict: event.Error}}, known: []patches.KnownIssue{failB}, want: event.Error},
		{name: "reset without a word", out: outcome{Reset: true, Printed: true, ReportErr: errors.New("no end")}, want: event.Crash},
		{name: "declared panic, checks missing", out: outcome{Died: true, Splats: []console.Splat{panicked}, ReportErr: errors.New("no end")}, known: []patches.KnownIssue{crash, failB}, want: event.Crash, expected: true},
		{name: "other splat", out: outcome{Splats: []console.Splat{{Verdict: event.Crash, Title: "WARNING: at x"}}}, known: []patches.KnownIssue{crash}, want: event.Crash},
		{name: "declared splat did not come", checks: []event.Check{pass}, known: []patches.KnownIssue{crash}, want: event.Pass, reason: "console did not show"},
		{name: "no end", checks: []event.Check{pass}, out: outcome{ReportErr: errors.New("lost"), Printed: true}, want: event.Error, reason: "lost"},
		{name: "QEMU failed", checks: []event.Check{pass}, out: outcome{QEMUErr: errors.New("QEMU failed: bad"), ReportErr: errors.New("lost")}, want: event.Error, reason: "QEMU failed"},
		{name: "did not start", err: errors.New("no disk"), want: event.Error, reason: "no disk"},
		{name: "past its deadline", checks: []event.Check{pass}, out: outcome{Ending: stuck, ReportErr: errors.New("no end")}, want: event.Hang, reason: "had not ended"},
		{name: "skip", checks: []event.Check{{Name: "a", Verdict: event.Skip}}, want: event.Skip, expected: true},
		{name: "no check", want: event.Error, reason: "reported no check"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := CellSpec{Kernel: "posted", Variant: "plain", Program: Program{Name: "nop", Deadline: time.Second}, Scale: 1, Known: tc.known}
			out := &tc.out
			out.Report = wholeReport(t, tc.checks...)
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
	f := judge(&outcome{Report: wholeReport(t, event.Check{Name: "a", Verdict: event.Skip})}, nil, s)
	expect(&f, s)
	want := []results.Check{{Check: event.Check{Name: "a", Verdict: event.Skip}, Expected: true}}
	if diff := cmp.Diff(want, f.checks); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
}

func TestDeviceFormat(t *testing.T) {
	for _, tt := range []struct {
		bad  []int64
		want string
	}{
		{nil, "format=raw,file"},
		{[]int64{7, 4096}, "driver=blkdebug" +
			",inject-error.0.event=none,inject-error.0.sector=7,inject-error.0.once=off" +
			",inject-error.1.event=none,inject-error.1.sector=4096,inject-error.1.once=off" +
			",image.driver=raw,image.file.filename"},
	} {
		if got := (Device{Kind: NVMe, BadSectors: tt.bad}).format(); got != tt.want {
			t.Errorf("format with bad sectors %v = %s; want %s", tt.bad, got, tt.want)
		}
	}
}
