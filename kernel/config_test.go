package kernel

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOptionsThatDidNotLand(t *testing.T) {
	src := t.TempDir()
	writeFile(t, filepath.Join(src, "Kconfig"), `
mainmenu "Kernel"

source "arch/$(SRCARCH)/Kconfig"
menu "Drivers"
	depends on HAS_IOMEM || TESTING
source "drivers/Kconfig"
endmenu
`)
	writeFile(t, filepath.Join(src, "arch/x86/Kconfig"), "config HAS_IOMEM\n\tdef_bool y\n\nconfig PCI\n\tbool \"PCI\"\n\nconfig EXPERT\n\tbool \"Expert\"\n\nconfig TESTING\n\tbool \"Test\"\n")
	writeFile(t, filepath.Join(src, "drivers/Kconfig"), `
comment "Needs EXPERT"
	depends on !EXPERT
if PCI && \
   EXPERT
config NVME
	tristate "NVMe"
	depends on PCI_MSI # interrupts
	select HIDDEN
	help
	  Says Y or N, and

	  depends on nothing here.

config HIDDEN
	bool
endif

config PCI_MSI
	bool "MSI"
config TUNED
	bool "Tuned" if EXPERT
	default y
`)
	requests := []request{
		{options: []option{{"PCI", "y"}}, from: "a.config"},
		{options: []option{{"NVME", "y"}}, from: "a.config"},
		{options: []option{{"HIDDEN", "y"}}, from: "b.config"},
		{options: []option{{"TUNED", "n"}}, from: "b.config"},
		{options: []option{{"NEWER", "y"}, {"NEWEST", "y"}}, from: "b.config"},
		{options: []option{{"ABSENT", "n"}}, from: "b.config"},
		{options: []option{{"RENAMED", "y"}, {"EXPERT", "y"}}, from: "b.config"},
		{options: []option{{"PCI", "y"}, {"OLD_PCI", "y"}}, from: "b.config"},
		{options: []option{{"GONE", "y"}}, optional: "some trees have none", from: "b.config"},
		{options: []option{{"HIDDEN", "y"}}, optional: "some trees choose for themselves", from: "b.config"},
		{options: []option{{"TESTING", "y"}}, optional: "not where it can be set", from: "b.config"},
	}
	err := checkLanded(plain, requests, "CONFIG_HAS_IOMEM=y\nCONFIG_PCI=y\nCONFIG_TUNED=y\n# CONFIG_EXPERT is not set\n", src)
	var missing *ConfigError
	if !errors.As(err, &missing) {
		t.Fatalf("error = %v; want *ConfigError", err)
	}
	const iomem = "(HAS_IOMEM || TESTING)"
	want := []Missing{
		{Name: "NVME", Want: "y", Fragment: "a.config", Got: "n", Declared: true, Prompt: true,
			Depends: []string{iomem + " && PCI && EXPERT && PCI_MSI"}, Off: []string{"EXPERT", "PCI_MSI", "TESTING"}},
		{Name: "HIDDEN", Want: "y", Fragment: "b.config", Got: "n", Declared: true,
			Depends: []string{iomem + " && PCI && EXPERT"}, Off: []string{"EXPERT", "TESTING"}},
		{Name: "TUNED", Want: "n", Fragment: "b.config", Got: "y", Declared: true, Prompt: true,
			Depends: []string{iomem + " && EXPERT"}, Off: []string{"EXPERT", "TESTING"}},
		{Name: "NEWER", Want: "y", Fragment: "b.config", Got: "n", Or: []string{"CONFIG_NEWEST=y"}},
		{Name: "EXPERT", Want: "y", Fragment: "b.config", Got: "n", Or: []string{"CONFIG_RENAMED=y"}, Declared: true, Prompt: true},
		{Name: "TESTING", Want: "y", Fragment: "b.config", Got: "n", Declared: true, Prompt: true},
	}
	if diff := cmp.Diff(want, missing.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	for _, want := range []string{"CONFIG_NVME=y (a.config)", "CONFIG_NEWER=y, or CONFIG_NEWEST=y (b.config)", "PCI_MSI", "this tree has no such option", "only selected by another"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v; want one with %q", err, want)
		}
	}
}

func TestOptionsThatLanded(t *testing.T) {
	requests := []request{
		{options: []option{{"SMP", "y"}}}, {options: []option{{"NR_CPUS", "8"}}},
		{options: []option{{"VT", "n"}}}, {options: []option{{"HID", "n"}}},
		{options: []option{{"EXPERT", "y"}, {"SMP", "y"}}}, {options: []option{{"SLUB", "y"}}, optional: "no other allocator"},
	}
	if err := checkLanded(plain, requests, "CONFIG_SMP=y\nCONFIG_NR_CPUS=8\n# CONFIG_VT is not set\n", t.TempDir()); err != nil {
		t.Errorf("checkLanded = %v; want nil", err)
	}
}

func TestParseConfig(t *testing.T) {
	got, err := parseConfig("# A reason.\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n")
	want := []option{{"A", "y"}, {"B", "n"}, {"C", `"x=y"`}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(option{})); diff != "" || err != nil {
		t.Errorf("parseConfig: %v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"A=y", "CONFIG_A", "CONFIG_A=", "CONFIG_A y"} {
		if _, err := parseConfig(bad); err == nil {
			t.Errorf("parseConfig(%q) = nil error; want one", bad)
		}
	}
}

func TestParseFragment(t *testing.T) {
	got, err := parseFragment(`# Menus that hide | or open others.
CONFIG_EXPERT=y | CONFIG_EMBEDDED=y
# optional: it cannot be left out since v6.6.

# CONFIG_MICROCODE is not set
CONFIG_CMDLINE="a | b"
CONFIG_SMP=y
CONFIG_SMP=y
`)
	want := []request{
		{options: []option{{"EXPERT", "y"}, {"EMBEDDED", "y"}}, line: 2},
		{options: []option{{"MICROCODE", "n"}}, optional: "it cannot be left out since v6.6.", line: 5},
		{options: []option{{"CMDLINE", `"a | b"`}}, line: 6},
		{options: []option{{"SMP", "y"}}, line: 8},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(request{}, option{})); diff != "" || err != nil {
		t.Errorf("parseFragment: %v (-want +got):\n%s", err, diff)
	}
	for bad, want := range map[string]string{
		"CONFIG_A=y\n\n# CONFIG_A is not set\n": "line 3 wants # CONFIG_A is not set, and line 1 CONFIG_A=y: it contradicts itself",
		"CONFIG_A=y | B=y":                      `line 1: "B=y" is not an option: want CONFIG_NAME=value or # CONFIG_NAME is not set`,
		"CONFIG_A = y":                          `line 1: "CONFIG_A = y" is not an option: want CONFIG_NAME=value or # CONFIG_NAME is not set`,
		"#CONFIG_A is not set":                  `line 1: "#CONFIG_A is not set" lacks a space after the #`,
	} {
		if _, err := parseFragment(bad); err == nil || err.Error() != want {
			t.Errorf("parseFragment(%q) = %v; want %s", bad, err, want)
		}
	}
}

// A later fragment has its way with an option, and leaves the other alternatives. Where it asks
// for one of them, the others are still no more than that.
func TestLaterFragmentsWin(t *testing.T) {
	v := Variant{Over: []Fragment{
		{Name: "a", Text: "CONFIG_EXPERT=y | CONFIG_EMBEDDED=y\nCONFIG_SLUB_TINY=n | CONFIG_SLUB=y\nCONFIG_SMP=y\n"},
		{Name: "b", Text: "# CONFIG_EMBEDDED is not set\n# CONFIG_SMP is not set\nCONFIG_SLUB=y\n"},
	}}
	got, err := readFragments(v)
	want := []request{
		{options: []option{{"EXPERT", "y"}}, from: "a", line: 1},
		{options: []option{{"SLUB_TINY", "n"}, {"SLUB", "y"}}, from: "a", line: 2},
		{options: []option{{"EMBEDDED", "n"}}, from: "b", line: 1},
		{options: []option{{"SMP", "n"}}, from: "b", line: 2},
		{options: []option{{"SLUB", "y"}}, from: "b", line: 3},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(request{}, option{})); diff != "" || err != nil {
		t.Errorf("readFragments: %v (-want +got):\n%s", err, diff)
	}
}
