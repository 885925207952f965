package vmtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/suites"
)

// Results come from a console with timestamps, other lines of the kernel among them, in
// the words of v5.10 and of v6.12, and also when the kernel dies in the middle.
func TestKUnitChecks(t *testing.T) {
	for _, test := range []struct {
		name, console string
		globs, want   []string
	}{
		{"v5.10", `
[    0.500000][    T1] TAP version 14
[    0.500001][    T1] 1..2
[    0.500002][    T1]     # Subtest: list-kunit-test
[    0.500003][    T1]     1..2
[    0.500004][   T20]     ok 1 - list_test_list_init
[    0.500005][    C0] hello from an interrupt
[    0.500006][    T1]     ok 2 - list_test_list_add
[    0.500007][    T1] ok 1 - list-kunit-test
[    0.500008][    T1]     # Subtest: bits-test
[    0.500009][    T1]     1..1
[    0.500010][    T1]     # genmask_test: EXPECTATION FAILED at lib/test_bits.c:1
[    0.500011][    T1]     not ok 1 - genmask_test
[    0.500012][    T1] not ok 2 - bits-test
ok 3 what a program prints
`, nil, []string{"pass list-kunit-test/list_test_list_init", "pass list-kunit-test/list_test_list_add", "fail bits-test/genmask_test"}},
		{"v6.12", `
[    0.500000] KTAP version 1
[    0.500001] 1..2
[    0.500002]     KTAP version 1
[    0.500003]     # Subtest: hash
[    0.500004]     # module: hash_test
[    0.500005]     1..2
[    0.500006]         KTAP version 1
[    0.500007]         # Subtest: sizes
[    0.500008]         ok 1 one
[    0.500009]         not ok 2 two
[    0.500010]     # sizes: pass:1 fail:1 skip:0 total:2
[    0.500011]     not ok 1 sizes
[    0.500012]     ok 2 later # SKIP no such thing
[    0.500013] # hash: pass:0 fail:1 skip:1 total:2
[    0.500014] not ok 1 hash
[    0.500015]     KTAP version 1
[    0.500016]     # Subtest: other
[    0.500017]     1..1
[    0.500018]     ok 1 a
[    0.500019] ok 2 other
`, []string{"h*sh"}, []string{"pass hash/sizes/one", "fail hash/sizes/two", "skip hash/later"}},
		{"a suite that cannot begin", `
[    0.500000] KTAP version 1
[    0.500001] 1..1
[    0.500002]     KTAP version 1
[    0.500003]     # Subtest: hash
[    0.500004]     1..1
[    0.500005]     ok 1 a # SKIP not run
[    0.500006] not ok 1 hash
`, nil, []string{"skip hash/a", "fail hash"}},
		{"it dies", `
[    0.500000] KTAP version 1
[    0.500001] 1..1
[    0.500002]     KTAP version 1
[    0.500003]     # Subtest: hash
[    0.500004]     1..2
[    0.500005]     ok 1 a
[    0.500006] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    0.500007] Kernel panic - not syncing: Fatal exception
`, []string{"hash"}, []string{"pass hash/a", "fail hash/end", "fail hash/plan"}},
		{"nothing", "[    0.500000] Run /init as init process\n", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "console.log")
			if err := os.WriteFile(log, []byte(test.console), 0o644); err != nil {
				t.Fatal(err)
			}
			checks, err := kunitChecks(log, test.globs)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range checks {
				got = append(got, string(c.Verdict)+" "+c.Name)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("checks (-want +got):\n%s", diff)
			}
		})
	}
}

// Suites that need not be there are skips where they are not, which base may not have either.
func TestKUnitWished(t *testing.T) {
	log := filepath.Join(t.TempDir(), "console.log")
	if err := os.WriteFile(log, []byte("[    0.500000] KTAP version 1\n[    0.500000] 1..1\n[    0.500000]     # Subtest: hash\n[    0.500000]     1..1\n[    0.500000]     ok 1 a\n[    0.500000] ok 1 hash\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := qemu.Outcome{Report: &event.Collector{Ended: &event.Event{}}}
	if err := addKUnit(&out, CellSpec{Console: log, Program: Program{KUnit: true, Globs: []string{"h*"}, Wished: []suites.Suite{{Name: "hash", Option: "HASH_TEST"}, {Name: "heap", Option: "HEAP_TEST"}}}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range out.Report.Checks {
		got = append(got, string(c.Verdict)+" "+c.Name)
	}
	if diff := cmp.Diff([]string{"pass hash/a", "skip heap"}, got); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	} else if why := out.Report.Checks[1].Detail; !strings.Contains(why, "CONFIG_HEAP_TEST") || !strings.Contains(why, "TEST=kunit:heap") {
		t.Errorf("the skip says %q", why)
	}
}
