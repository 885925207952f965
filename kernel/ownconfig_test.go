package kernel

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func askedLines(t *testing.T, v Variant) []string {
	t.Helper()
	requests, err := readFragments(v)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range requests {
		var options []string
		for _, o := range r.options {
			options = append(options, o.String())
		}
		lines = append(lines, strings.Join(options, " | "))
	}
	return lines
}

// What a user's files cannot want is said with both lines, before anything is built.
func TestContradictions(t *testing.T) {
	lineup, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		files map[string]string // by name: a.config first
		want  string            // empty where there is no contradiction
	}{
		{"another file", map[string]string{"a.config": "CONFIG_NUMA=y\n", "b.config": "\n# CONFIG_NUMA is not set\n"},
			"b.config:2 wants # CONFIG_NUMA is not set, and a.config:1 wants CONFIG_NUMA=y: they contradict each other"},
		{"what the VM needs", map[string]string{"a.config": "# CONFIG_VIRTIO_CONSOLE is not set\n"}, "a.config:1 wants # CONFIG_VIRTIO_CONSOLE is not set, and machine.config:"},
		{"what verdicts need", map[string]string{"a.config": "# CONFIG_KALLSYMS is not set\n"}, "and diagnose.config:"},
		{"a module", map[string]string{"a.config": "CONFIG_MODULES=y\nCONFIG_BLK_DEV_LOOP=m\n"},
			""},
		{"a module without modules", map[string]string{"a.config": "# CONFIG_MODULES is not set\nCONFIG_BLK_DEV_LOOP=m\n"},
			"a.config:2 wants CONFIG_BLK_DEV_LOOP=m, and a.config:1 wants # CONFIG_MODULES is not set: they contradict each other"},
		{"a module of what the VM needs", map[string]string{"a.config": "CONFIG_VIRTIO_BLK=m\n"}, "a.config:1 wants CONFIG_VIRTIO_BLK=m, and machine.config:"},
		{"one of two alternatives", map[string]string{"a.config": "# CONFIG_EMBEDDED is not set\n"}, ""},
		{"a number", map[string]string{"a.config": "CONFIG_NR_CPUS=64\n"}, ""},
		{"what was trimmed", map[string]string{"a.config": "CONFIG_INPUT=y\nCONFIG_DEBUG_LIST=y\n"}, ""},
		{"the same twice", map[string]string{"a.config": "CONFIG_NUMA=y\n", "b.config": "CONFIG_NUMA=y\n"}, ""},
		{"a value of no option", map[string]string{"a.config": "CONFIG_NUMA=y\n\nCONFIG_EXT4_FS=yes\n"}, "a.config:3: CONFIG_EXT4_FS=yes: no option has such a value; want y, m, n,"},
		{"a string that does not end", map[string]string{"a.config": "CONFIG_LOCALVERSION=\"-mine\n"}, "a.config:1: CONFIG_LOCALVERSION=\"-mine: no option has such a value"},
		{"strings and numbers", map[string]string{"a.config": "CONFIG_A=\"b | \\\"c\\\"\"\nCONFIG_B=0x10\nCONFIG_C=-1\nCONFIG_D=\"\"\n"}, ""},
		{"no options", map[string]string{"a.config": "# nothing\n"}, "a.config has no options"},
		{"two whole ones", map[string]string{"a.config": "# Linux/x86 5.10.13 Kernel Configuration\nCONFIG_A=y\n", "b.config": "# Linux/x86 5.10.13 Kernel Configuration\nCONFIG_A=y\n"},
			"whole .configs both"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			var files []string
			for _, name := range []string{"a.config", "b.config"} {
				if text, ok := test.files[name]; ok {
					writeFile(t, filepath.Join(dir, name), text)
					files = append(files, filepath.Join(dir, name))
				}
			}
			_, err := lineup.Variants[0].With(strings.Join(files, ","))
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), dir+"/", "")
			}
			if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("With = %q; want %q", got, test.want)
			}
		})
	}
}

// A pipe would be waited for, and is empty when it is read again.
func TestConfigThatIsAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{pipe, "/dev/zero"} {
		if _, err := plain.With(file); err == nil || !strings.Contains(err.Error(), file+": not a regular file") {
			t.Errorf("With(%s) = %v; want an error that says what it is", file, err)
		}
	}
}

// A whole .config takes the place of what yields, and what a VM needs is over it.
func TestWholeConfig(t *testing.T) {
	v := Variant{
		Fragments: []string{"machine.config", "trim.config"}, Required: []string{"machine.config"}, Yielding: []string{"trim.config"},
		Config: []Fragment{
			{Name: "more", Text: "CONFIG_NUMA=y\n"},
			{Name: "whole", Text: "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 6.1.0 Kernel Configuration\n#\nCONFIG_INPUT=y\nCONFIG_BLK_DEV_NVME=m\nCONFIG_LOST=y\n"},
		},
	}
	got := askedLines(t, v)
	if diff := cmp.Diff([]string{"CONFIG_INPUT=y", "CONFIG_LOST=y"}, got[:2]); diff != "" {
		t.Errorf("of the whole config (-want +got):\n%s", diff)
	}
	all := strings.Join(got, "\n")
	if !strings.Contains(all, "CONFIG_BLK_DEV_NVME=y") || strings.Contains(all, "# CONFIG_INPUT") || !strings.HasSuffix(all, "CONFIG_NUMA=y") {
		t.Errorf("asked for:\n%s\nwant NVMe built in, nothing of trim.config and the fragment last", all)
	}
	requests, err := readFragments(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkLanded(plain, requests[:2], "CONFIG_INPUT=y\n", t.TempDir()); err != nil {
		t.Errorf("checkLanded = %v; an option of a whole .config need not land", err)
	}
	text, err := displaced(requests, "CONFIG_INPUT=y\n")
	if want := "1 option came out otherwise: CONFIG_LOST=y (whole:7) came out as n"; text != want || err != nil {
		t.Errorf("displaced = %q, %v; want %q", text, err, want)
	}
}

// A test that wishes for an option gets it with what that selects, though it is left out to be small:
// INPUT, and with it keyboards and SERIO.
func TestWishesDisplace(t *testing.T) {
	v := Variant{Fragments: []string{"trim.config"}, Yielding: []string{"trim.config"}, Over: []Fragment{{Name: "wish", Text: "CONFIG_INPUT=y\n", Wish: true}}}
	for _, wish := range []bool{true, false} {
		v.Over[0].Wish = wish
		requests, err := readFragments(v)
		if err != nil {
			t.Fatal(err)
		}
		_, open, err := unmet(requests, "CONFIG_INPUT=y\nCONFIG_SERIO=y\nCONFIG_PARTITION_ADVANCED=y\nCONFIG_PROCESSOR_SELECT=y\n")
		if unmet := slices.ContainsFunc(open, func(r request) bool { return r.options[0].name == "SERIO" }); unmet == wish || err != nil {
			t.Errorf("SERIO, a wish: %v: it must be off: %v, %v", wish, unmet, err)
		}
	}
}

// Who asks for a module need not know what modules need, nor is it asked of others.
func TestModulesComeWithTheirNeeds(t *testing.T) {
	v := Variant{Config: []Fragment{{Name: "a", Text: "CONFIG_BLK_DEV_LOOP=m\n"}}}
	if diff := cmp.Diff([]string{"CONFIG_BLK_DEV_LOOP=m", "CONFIG_MODULES=y", "CONFIG_MODULE_UNLOAD=y"}, askedLines(t, v)); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	v.Config[0].Text = "CONFIG_MODULES=y\nCONFIG_BLK_DEV_LOOP=m\n"
	if diff := cmp.Diff([]string{"CONFIG_MODULES=y", "CONFIG_BLK_DEV_LOOP=m", "CONFIG_MODULE_UNLOAD=y"}, askedLines(t, v)); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	v.Config[0].Text = "# CONFIG_MODULE_UNLOAD is not set\nCONFIG_BLK_DEV_LOOP=m\n"
	if diff := cmp.Diff([]string{"# CONFIG_MODULE_UNLOAD is not set", "CONFIG_BLK_DEV_LOOP=m", "CONFIG_MODULES=y"}, askedLines(t, v)); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	v.Config[0].Text = "CONFIG_NUMA=y\n"
	if diff := cmp.Diff([]string{"CONFIG_NUMA=y"}, askedLines(t, v)); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
}

// What a test wishes for as a module takes nothing from who needs it built in, and does not
// bring the modules of a distribution's .config along.
func TestModulesThatAreWishedFor(t *testing.T) {
	wish := Fragment{Name: "wish", Text: "CONFIG_BLK_DEV_NVME=m\nCONFIG_ZRAM=m\n", Wish: true}
	needs := []string{"CONFIG_MODULES=y", "CONFIG_MODULE_UNLOAD=y"}
	for name, test := range map[string]struct {
		before, user string
		want         []string
	}{
		"alone":                {"", "", append([]string{"CONFIG_BLK_DEV_NVME=m", "CONFIG_ZRAM=m"}, needs...)},
		"built in before":      {"CONFIG_BLK_DEV_NVME=y\n", "", append([]string{"CONFIG_BLK_DEV_NVME=y", "CONFIG_ZRAM=m"}, needs...)},
		"off before":           {"# CONFIG_ZRAM is not set\n", "", append([]string{"CONFIG_BLK_DEV_NVME=m", "CONFIG_ZRAM=m"}, needs...)},
		"built in by the user": {"", "CONFIG_ZRAM=y\n", append([]string{"CONFIG_BLK_DEV_NVME=m", "CONFIG_ZRAM=y"}, needs...)},
		"no modules":           {"", "# CONFIG_MODULES is not set\n", []string{"CONFIG_BLK_DEV_NVME=m", "CONFIG_ZRAM=m", "# CONFIG_MODULES is not set"}},
		"a whole config": {"", "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 6.1.0 Kernel Configuration\n#\nCONFIG_DRM=m\n",
			[]string{"CONFIG_DRM=m", "CONFIG_BLK_DEV_NVME=y", "CONFIG_ZRAM=y"}},
	} {
		v := Variant{Over: []Fragment{{Name: "before", Text: test.before}, wish}}
		if test.user != "" {
			v.Config = []Fragment{{Name: "user", Text: test.user}}
		}
		if diff := cmp.Diff(test.want, askedLines(t, v)); diff != "" {
			t.Errorf("%s: asked for (-want +got):\n%s", name, diff)
		}
	}
}

// Why a module came out as something else is said.
func TestModulesThatDidNotLand(t *testing.T) {
	src := t.TempDir()
	writeFile(t, filepath.Join(src, "Kconfig"), "config LOOP\n\ttristate \"Loop\"\n\nconfig FLAG\n\tbool \"Flag\"\n\nconfig USER\n\ttristate \"User\"\n\tselect LOOP\n\tselect NOWHERE\n")
	requests := []request{
		{options: []option{{"LOOP", "m"}}, from: "a.config", line: 1},
		{options: []option{{"FLAG", "m"}}, from: "a.config", line: 2},
		{options: []option{{"NOWHERE", "y"}}, from: "a.config", line: 3},
	}
	err := checkLanded(plain, requests, "CONFIG_USER=y\nCONFIG_LOOP=y\nCONFIG_FLAG=y\n", src)
	want := `variant plain: 3 requested options did not land:
  CONFIG_LOOP=m (a.config:1): came out as y; selected by USER
  CONFIG_FLAG=m (a.config:2): came out as y; it is y or n, there is no module of it
  CONFIG_NOWHERE=y (a.config:3): came out as n; this tree has no such option`
	if err == nil || err.Error() != want {
		t.Errorf("checkLanded = %v; want %s", err, want)
	}
}
