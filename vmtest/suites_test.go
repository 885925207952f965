package vmtest

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/vmtest/lab"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/suites"
	"patchproof/vmtest/userland"
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

// selftestsMakefile installs those targets of TARGETS whose makefiles build, as the kernel's does.
const selftestsMakefile = `
install:
	@mkdir -p $(KSFT_INSTALL_PATH); rm -f $(KSFT_INSTALL_PATH)/kselftest-list.txt
	@ret=1; for t in $(TARGETS); do $(MAKE) -C $$t to=$(KSFT_INSTALL_PATH)/$$t; ret=$$((ret * $$?)); \
	[ ! -d $(KSFT_INSTALL_PATH)/$$t ] || sed -n "s/^# test: /$$t:/p" $$t/Makefile >>$(KSFT_INSTALL_PATH)/kselftest-list.txt; done; exit $$ret
`

// A target that does not build is told by its row, as long as there is anything else to run. One
// that base builds is the patch's to answer for, unless a tool is missing here.
func TestSelftestsUnbuilt(t *testing.T) {
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skip(err)
	}
	const (
		good    = "# test: run\nall:\n\t@mkdir -p $(to) && printf '\\043!/bin/sh\\n' >$(to)/run && chmod +x $(to)/run\n"
		broken  = "all:\n\t@echo 'a.c:1:2: error: no such thing'; exit 1\n"
		noTool  = "all:\n\t@echo 'sh: 1: no-such-tool: not found'; exit 127\n"
		library = "all:\n\t@echo '/usr/bin/ld: cannot find -lcap: No such file or directory'; echo 'collect2: error: ld returned 1 exit status'; exit 1\n"
		header  = "all:\n\t@echo 'c.c:5:10: fatal error: sys/capability.h: No such file or directory'; exit 1\n"
		writes  = "all:\n\t@echo 'ld: cannot open output file x: Read-only file system'; exit 1\n"
		more    = "# test: other\n" + good + "\tcp $(to)/run $(to)/other\n"
		partly  = "# test: other\n" + good + "all: other\nother:\n\t@echo 'b.c:3:4: error: no such thing'; exit 1\n"
		lacking = "# test: other\n" + good + "all: other\nother:\n\t@echo 'sh: 1: no-such-tool: not found'; exit 127\n"
		fullNow = "all:\n\t@echo 'a.o: No space left on device'; exit 1\n"
	)
	for _, test := range []struct {
		name string
		// base are the makefiles of targets, patched those that the patch changes.
		base, patched map[string]string
		// others says that there is something else to run.
		others bool
		// want is what is told in the place of their tests.
		want []string
		err  string
	}{
		{"some do", map[string]string{"fine": good, "bad": broken, "tool": noTool, "spoilt": good, "mended": broken},
			map[string]string{"spoilt": broken, "mended": good, "brought": good}, false, []string{
				"skip kselftest bad of base does not build here: a.c:1: error: no such thing; log: ",
				"skip kselftest brought of base does not build here: this source has no such target; log: ",
				"skip kselftest mended of base does not build here: a.c:1: error: no such thing; log: ",
				"skip kselftest tool of base does not build here: this machine lacks a tool (sh: 1: no-such-tool: not found); see make deps; log: ",
				"skip kselftest bad of patched does not build here: a.c:1: error: no such thing; log: ",
				"fail kselftest spoilt of patched does not build here, where that of base does: a.c:1: error: no such thing; log: ",
				"skip kselftest tool of patched does not build here: this machine lacks a tool (sh: 1: no-such-tool: not found); see make deps; log: ",
			}, ""},
		{"none does", map[string]string{"bad": broken, "tool": noTool}, nil, false, nil, "kselftest bad of base does not build here: a.c:1: error: no such thing; log: "},
		{"none does, beside others", map[string]string{"bad": writes}, nil, true, []string{
			"skip kselftest bad of base does not build here: its makefile writes into the source", "skip kselftest bad of patched does not"}, ""},
		{"the patch mends it", map[string]string{"mended": broken}, map[string]string{"mended": good}, false, []string{"skip kselftest mended of base does not"}, ""},
		{"a tool is missing for the patch", map[string]string{"tool": good}, map[string]string{"tool": noTool}, false, nil, "kselftest tool of patched does not build here: this machine lacks a tool"},
		{"a part does", map[string]string{"part": partly, "mended": lacking, "bad": broken}, map[string]string{"mended": more}, false, []string{
			"skip kselftest bad of base does not build here: a.c:1: ",
			"skip kselftest mended of base does not build as a whole here: this machine lacks a tool (sh: 1: no-such-tool: not found)",
			"skip kselftest part of base does not build as a whole here: b.c:3: error: no such thing; log: ",
			"skip kselftest bad of patched does not build here: a.c:1: ",
			"skip kselftest part of patched does not build as a whole here: b.c:3: error: no such thing; log: ",
		}, ""},
		{"the patch spoils the rest", map[string]string{"part": partly}, map[string]string{"part": broken}, false, []string{
			"skip kselftest part of base does not build as a whole here: ", "fail kselftest part of patched does not build here, where that of base does: a.c:1: "}, ""},
		{"the patch spoils a part", map[string]string{"part": more}, map[string]string{"part": partly}, false, []string{
			"fail kselftest part of patched does not build as a whole here, where that of base does: b.c:3: error: no such thing; log: "}, ""},
		{"a tool is missing for a part of the patch", map[string]string{"part": more}, map[string]string{"part": lacking}, false, nil,
			"kselftest part of patched does not build as a whole here: this machine lacks a tool"},
		{"a library is missing for the patch", map[string]string{"lib": good}, map[string]string{"lib": library}, false, nil, "cannot find -lcap: No such file or directory (Debian and Ubuntu: apt-get install libcap-dev)"},
		{"a library's header is missing for the patch", map[string]string{"lib": good}, map[string]string{"lib": header}, false, nil,
			"kselftest lib of patched does not build here: c.c:5: fatal error: sys/capability.h: No such file or directory (Debian and Ubuntu: apt-get install libcap-dev)"},
		{"the disk is full", map[string]string{"full": fullNow}, nil, true, nil, "which says nothing about its source: the disk is full"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			commit := func(files map[string]string) string {
				t.Helper()
				for name, text := range files {
					path := filepath.Join(dir, name)
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				cmd := exec.Command("sh", "-c", "git init -q && git add -A && git -c user.name=u -c user.email=u@localhost commit -qm all --allow-empty && git rev-parse HEAD")
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				return strings.TrimSpace(string(out))
			}
			makefiles := func(targets map[string]string) map[string]string {
				files := map[string]string{"Makefile": "headers:\n\t@mkdir -p $(O)/usr/include\n", "tools/testing/selftests/Makefile": selftestsMakefile}
				for name, text := range targets {
					files["tools/testing/selftests/"+name+"/Makefile"] = text
				}
				return files
			}
			s := selected{specs: []kernel.Spec{
				{Name: kernel.Base, Tree: dir, Rev: commit(makefiles(test.base))}, {Name: kernel.Patched, Tree: dir, Rev: commit(makefiles(test.patched))},
			}}
			all := maps.Clone(test.base)
			maps.Copy(all, test.patched)
			for _, name := range slices.Sorted(maps.Keys(all)) {
				s.targets = append(s.targets, suites.Target{Name: name})
				s.programs = append(s.programs, targetRow(suites.Target{Name: name}, Limits{}))
			}
			if test.others {
				s.programs = append(s.programs, Program{Name: "boot"})
			}
			l := &lab.Lab{Builder: kernel.Builder{Cache: t.TempDir(), Progress: func(kernel.Progress) {}}}
			var got []string
			var base kernel.Selftests
			var err error
			for i := range s.specs {
				var rows []userland.Suite
				var built kernel.Selftests
				if rows, built, err = selftests(t.Context(), l, s, i, base, Limits{}); err != nil {
					break
				}
				if i == 0 {
					base = built
				}
				for _, row := range rows {
					verdict := "skip "
					if row.Broken {
						verdict = "fail "
					}
					if row.Unbuilt != "" {
						got = append(got, verdict+row.Unbuilt)
					}
				}
			}
			if err != nil != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("building them: %v; want %q", err, test.err)
			}
			if err == nil && len(got) != len(test.want) {
				t.Fatalf("not built: %q; want %q", got, test.want)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("not built: %q; want %q", got[i], want)
				}
			}
		})
	}
}
