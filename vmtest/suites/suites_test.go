package suites

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchproof/kernel"
)

// source is a repository with a kernel source of these files.
func source(t *testing.T, files map[string]string) (kernel.Content, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-Af"}, {"-c", "user.name=u", "-c", "user.email=u@localhost", "commit", "-qm", "all"}} {
		if out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	return kernel.ContentAt(dir, "HEAD"), dir
}

func suite(name string) string {
	return "static struct kunit_suite a_suite = {\n\t.name = " + name + ",\n\t.test_cases = cases,\n};\nkunit_test_suite(a_suite);\n"
}

// Each way in which makefiles say what builds a suite.
var sourceFiles = map[string]string{
	"lib/Makefile":             "obj-$(CONFIG_LIST_KUNIT_TEST) += list-test.o\nobj-y += tests/\nobj-$(CONFIG_DEEP_TEST) += deep/one.o\n",
	"lib/list-test.c":          suite(`"list-kunit-test"`),
	"lib/deep/one.c":           suite(`"deep"`),
	"lib/deep/test-helper.c":   "/* struct kunit_suite is spoken of */\n",
	"lib/tests/Makefile":       "obj-${CONFIG_BRACES_TEST} += braces_kunit.o # why\nobj-$(CONFIG_LONG_TEST) += \\\n\tlong_test.o\nobj-$(CONFIG_TWO_TEST) += two.o\ntwo-y := two_test.o two_more_test.o\n",
	"lib/tests/braces_kunit.c": suite(`"braces"`),
	"lib/tests/long_test.c":    "#define NAME \"long\"\n" + suite("NAME"),
	"lib/tests/two_test.c":     suite(`"two"`),
	"fs/Makefile":              "obj-$(CONFIG_BINFMT) += binfmt.o\nobj-$(CONFIG_FAT) += fat/\n",
	"fs/binfmt.c":              "#ifdef CONFIG_BINFMT_KUNIT_TEST\n#include \"tests/binfmt_kunit.c\"\n#endif\n",
	"fs/tests/binfmt_kunit.c":  suite(`"binfmt"`),
	"fs/fat/Makefile":          "obj-$(CONFIG_FAT_KUNIT_TEST) += fat_test.o\n",
	"fs/fat/fat_test.c":        suite(`"fat_test"`),
	"fs/fat/.kunitconfig":      "CONFIG_KUNIT=y\n# CONFIG_OTHER is not set\nCONFIG_FAT=m\nCONFIG_FAT_KUNIT_TEST=y\n",
	"mm/Makefile":              "obj-$(CONFIG_MM) += core.o\n",
	"mm/core.c":                suite(`"unusual"`),
	"mm/orphan_test.c":         suite(`"orphan"`),
}

func TestKUnitSuites(t *testing.T) {
	c, _ := source(t, sourceFiles)
	all, err := kunitSuites(t.Context(), c, true)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range all {
		got[s.Name] = s.Option
	}
	want := map[string]string{
		"list-kunit-test": "LIST_KUNIT_TEST", "deep": "DEEP_TEST", "braces": "BRACES_TEST", "long": "LONG_TEST", "two": "TWO_TEST",
		"binfmt": "BINFMT_KUNIT_TEST", "fat_test": "FAT_KUNIT_TEST", "unusual": "MM", "orphan": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("suites and their options (-want +got):\n%s", diff)
	}
}

func TestChooseKUnit(t *testing.T) {
	base, _ := source(t, sourceFiles)
	patched, _ := source(t, map[string]string{"lib/Makefile": "obj-$(CONFIG_NEW_TEST) += new_test.o\n", "lib/new_test.c": suite(`"new"`)})
	for _, test := range []struct {
		name  string
		asked Asked
		// has and lacks are lines of the config.
		has, lacks []string
		suites     []string
		// wishes are lines that a kernel may do without.
		wishes string
	}{
		{"glob", Asked{Globs: []string{"l*"}}, []string{"CONFIG_KUNIT=y"}, []string{"CONFIG_LIST_KUNIT_TEST=y", "CONFIG_TWO_TEST=y", "CONFIG_KUNIT_ALL_TESTS=y"}, []string{"l*"}, "CONFIG_LIST_KUNIT_TEST=y\nCONFIG_LONG_TEST=y\n"},
		{"glob of one", Asked{Globs: []string{"tw*"}}, []string{"CONFIG_TWO_TEST=y"}, nil, []string{"tw*"}, "\n"},
		{"near a patch", Asked{Auto: true, Globs: []string{"two"}}, nil, []string{"CONFIG_TWO_TEST=y"}, []string{"two"}, "CONFIG_TWO_TEST=y\n"},
		{"all", Asked{All: true}, []string{"CONFIG_KUNIT_ALL_TESTS=y"}, []string{"CONFIG_LIST_KUNIT_TEST=y"}, nil, "\n"},
		{"folder", Asked{Folders: []string{"fs/fat"}}, []string{"CONFIG_FAT=y", "CONFIG_FAT_KUNIT_TEST=y", "# CONFIG_OTHER is not set"}, []string{"CONFIG_FAT=m"}, nil, "\n"},
		{"of the patch", Asked{Globs: []string{"new"}}, []string{"CONFIG_NEW_TEST=y"}, nil, []string{"new"}, "\n"},
		{"in no usual place", Asked{Globs: []string{"unusual"}}, []string{"CONFIG_MM=y"}, nil, []string{"unusual"}, "\n"},
	} {
		got, err := ChooseKUnit(t.Context(), test.asked, []kernel.Content{base, patched})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		lines := "\n" + got.Fragment.Text
		for _, line := range test.has {
			if !strings.Contains(lines, "\n"+line+"\n") {
				t.Errorf("%s: the config lacks %s:%s", test.name, line, lines)
			}
		}
		for _, line := range test.lacks {
			if strings.Contains(lines, "\n"+line+"\n") {
				t.Errorf("%s: the config has %s:%s", test.name, line, lines)
			}
		}
		if got.Wishes.Text != test.wishes || !got.Wishes.Wish || (test.wishes != "\n") != (len(got.Wished) > 0) {
			t.Errorf("%s: the kernel may do without %q, as %v; want %q", test.name, got.Wishes.Text, got.Wished, test.wishes)
		}
		if diff := cmp.Diff(test.suites, got.Suites); diff != "" {
			t.Errorf("%s: suites (-want +got):\n%s", test.name, diff)
		}
	}
	for _, test := range []struct {
		asked Asked
		want  string
	}{
		{Asked{Globs: []string{"lst*"}}, "TEST=kunit:lst*: none of this kernel's 10 KUnit suites is called so; most like it: list-kunit-test"},
		{Asked{Globs: []string{"orphan"}}, "which option builds mm/orphan_test.c is not known"},
		{Asked{Folders: []string{"fs/fatt"}}, "has no fs/fatt/.kunitconfig; most like it: fs/fat"},
	} {
		if _, err := ChooseKUnit(t.Context(), test.asked, []kernel.Content{base, patched}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v; want %q", test.asked, err, test.want)
		}
	}
}

func TestSplit(t *testing.T) {
	_, dir := source(t, sourceFiles)
	own := t.TempDir()
	if err := os.WriteFile(filepath.Join(own, configFile), []byte("CONFIG_KUNIT=y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		test, tree string
		want       Asked
		brought    string
	}{
		{"kunit", "", Asked{All: true}, ""},
		{"kunit:*", "", Asked{All: true}, ""},
		{"kunit:list*,bits; ./mine.sh -x", "", Asked{Globs: []string{"list*", "bits"}}, "./mine.sh -x"},
		{"kunit:fs/fat/", "", Asked{Folders: []string{"fs/fat"}}, ""},
		{"fs/fat", dir, Asked{Folders: []string{"fs/fat"}}, ""},
		{"fs/fat", "", Asked{}, "fs/fat"},
		{dir + "/fs/fat", dir, Asked{Folders: []string{"fs/fat"}}, ""},
		{own, dir, Asked{Configs: []string{own}}, ""},
		{"kselftest:futex,net/lib; kunit", "", Asked{All: true, Targets: []string{"futex", "net/lib"}}, ""},
		{"./kunit", "", Asked{}, "./kunit"},
		{"kunit -x", "", Asked{}, "kunit -x"},
	} {
		got, brought, err := Split(test.test, test.tree)
		if err != nil || brought != test.brought {
			t.Errorf("Split(%q, %q) leaves %q, %v; want %q", test.test, test.tree, brought, err, test.brought)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Split(%q, %q) (-want +got):\n%s", test.test, test.tree, diff)
		}
	}
	for _, bad := range []string{"kunit:", "kunit:../x/y", "kunit:a[", "kunit:/etc/x", "kselftest", "kselftest:", "kselftest:../x", "kselftest:$(d)"} {
		if got, _, err := Split(bad, ""); err == nil {
			t.Errorf("Split(%q) = %+v; want an error", bad, got)
		}
	}
}

func TestChooseTargets(t *testing.T) {
	c, _ := source(t, map[string]string{
		"tools/testing/selftests/Makefile":        "TARGETS += futex\nTARGETS += net/forwarding\nTARGETS_HOTPLUG = cpu-hotplug\nTARGETS = timers\n",
		"tools/testing/selftests/futex/Makefile":  "all:\n",
		"tools/testing/selftests/futex/config":    "CONFIG_FUTEX=y\nCONFIG_MOD=m\nWANTED\n",
		"tools/testing/selftests/timers/Makefile": "all:\n",
		"tools/testing/selftests/timers/settings": "# long\ntimeout=300\n",
		"tools/testing/selftests/rtc/Makefile":    "all:\n",
		"tools/testing/selftests/kcmp/Makefile":   "all:\n",
		"tools/testing/selftests/net/Makefile":    "all:\n",
		"tools/testing/selftests/rtc/settings":    "timeout=0\n",
		"tools/testing/selftests/fpu/Makefile":    "all:\n",
		"tools/testing/selftests/gpio/Makefile":   "all:\n",
		"tools/testing/selftests/gpio/config":     "CONFIG_GPIO_SIM=m\n# CONFIG_GPIO_SYSFS is not set\n",
	})
	got, fragment, err := ChooseTargets(t.Context(), []string{"futex", "timers", "rtc", "futex"}, []kernel.Content{c})
	if err != nil {
		t.Fatal(err)
	}
	want := []Target{{"futex", targetTimeout}, {"timers", 300 * time.Second}, {"rtc", 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	if want := takenForGranted + "CONFIG_FUTEX=y\nCONFIG_MOD=m\n"; fragment.Text != want || !fragment.Wish {
		t.Errorf("the config is %q, a wish: %v; want %q", fragment.Text, fragment.Wish, want)
	}
	// What a config leaves out is added, but what it says itself counts.
	_, fragment, err = ChooseTargets(t.Context(), []string{"fpu", "gpio"}, []kernel.Content{c})
	if want := takenForGranted + "CONFIG_TEST_FPU=m\nCONFIG_GPIO_CDEV_V1=y\nCONFIG_GPIO_SIM=m\n# CONFIG_GPIO_SYSFS is not set\n"; err != nil || fragment.Text != want {
		t.Errorf("the config is %q, %v; want %q", fragment.Text, err, want)
	}
	for name, lines := range omitted() {
		if len(lines) == 0 {
			t.Errorf("%s: no options", name)
		}
		for _, line := range lines {
			if !configLine.MatchString("CONFIG_" + line) {
				t.Errorf("%s: %q sets no option", name, line)
			}
		}
	}
	_, _, err = ChooseTargets(t.Context(), []string{"futx"}, []kernel.Content{c})
	if want := "TEST=kselftest:futx: this kernel's source has no such target among its 4; most like it: futex"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("a target that is not there: %v; want %q", err, want)
	}
}

func TestNearest(t *testing.T) {
	files := map[string]string{
		"MAINTAINERS": "FUTEX\nF:\tkernel/futex/*\nF:\ttools/testing/selftests/futex/\nF:\ttools/testing/selftests/gone/\nF:\tlib/plist*\n\n" +
			"TIMERS\nF:\tkernel/time/\nN:\t[^a-z]timer_\nF:\tkernel/clock\nF:\ttools/testing/selftests/timers/\n\nNET\nF:\tnet/\nX:\tnet/can/\nF:\ttools/testing/selftests/net/*/*eth*.sh\n\n" +
			"KCMP\nF:\tkernel/kcmp.c\nF:\ttools/testing/selftests/kcmp/kcmp_test.c\nF:\ttools/testing/selftests/kselftest_harness.h\n\n" +
			"THE REST\nF:\t*\nF:\t*/\nF:\ttools/testing/selftests/rtc/\n",
		"tools/testing/selftests/futex/Makefile":            "all:\n",
		"tools/testing/selftests/timers/Makefile":           "all:\n",
		"tools/testing/selftests/rtc/Makefile":              "all:\n",
		"tools/testing/selftests/kcmp/Makefile":             "all:\n",
		"tools/testing/selftests/net/Makefile":              "all:\n",
		"tools/testing/selftests/Makefile":                  "TARGETS += futex\nTARGETS += kcmp\nTARGETS += net\nTARGETS += net/lib\nTARGETS += rtc\nTARGETS += acct\nTARGETS += filesystems/nsfs\n",
		"tools/testing/selftests/filesystems/nsfs/Makefile": "all:\n",
	}
	for name, text := range sourceFiles {
		files[name] = text
	}
	c, _ := source(t, files)
	for _, test := range []struct {
		file string
		want Asked
		note string
	}{
		{"kernel/futex/core.c", Asked{Targets: []string{"futex"}}, "kselftest futex, by MAINTAINERS"},
		{"kernel/time/deep/x.c", Asked{Targets: []string{"timers"}}, "kselftest timers"},
		{"arch/x86/timer_x.c", Asked{Targets: []string{"timers"}}, "kselftest timers"},
		{"kernel/clock/x.c", Asked{Targets: []string{"timers"}}, "kselftest timers"},
		{"kernel/kcmp.c", Asked{Targets: []string{"kcmp"}}, "kselftest kcmp, by MAINTAINERS"},
		{"kernel/rtc.c", Asked{Targets: []string{"rtc"}}, "auto: kselftest rtc, by its name, for kernel/rtc.c"},
		{"fs/nsfs.c", Asked{Globs: []string{"binfmt"}, Targets: []string{"filesystems/nsfs"}}, "kselftest filesystems/nsfs, by its name"},
		{"kernel/acct.c", Asked{}, "neither a KUnit suite nor a kselftest target was found"},
		{"drivers/rtc/rtc.c", Asked{}, "neither a KUnit suite nor a kselftest target was found"},
		{"net/core/dev.c", Asked{Targets: []string{"net"}}, "kselftest net, by MAINTAINERS"},
		{"net/can/raw.c", Asked{}, "neither a KUnit suite nor a kselftest target was found"},
		{"lib/two.c", Asked{Globs: []string{"two"}}, "KUnit two, by its name, for lib/two.c"},
		{"fs/exec.c", Asked{Globs: []string{"binfmt"}}, "KUnit binfmt, in the same folder, for fs/exec.c"},
		{"lib/tests/long_test.c", Asked{Globs: []string{"long"}}, "KUnit long"},
		{"fs/fat/dir.c", Asked{Folders: []string{"fs/fat"}}, "fs/fat/.kunitconfig"},
		{"tools/testing/selftests/kcmp/kcmp_test.c", Asked{Targets: []string{"kcmp"}}, "auto: kselftest kcmp, which it is part of, for "},
		{"tools/testing/selftests/net/lib/x.sh", Asked{Targets: []string{"net/lib"}}, "kselftest net/lib, which it is part of"},
		{"tools/testing/selftests/futex/functional/x.c", Asked{Targets: []string{"futex"}}, "kselftest futex, which it is part of"},
		{"tools/testing/selftests/lib.mk", Asked{}, "neither a KUnit suite nor a kselftest target was found for tools/testing/selftests/lib.mk"},
		{"sound/core.c", Asked{}, "neither a KUnit suite nor a kselftest target was found for sound/core.c"},
	} {
		got, notes, err := Nearest(t.Context(), []string{test.file}, []kernel.Content{c})
		if err != nil || !strings.Contains(strings.Join(notes, "\n"), test.note) {
			t.Errorf("%s: %q, %v; want %q", test.file, notes, err, test.note)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.file, diff)
		}
	}
}
