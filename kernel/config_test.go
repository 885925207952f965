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
	requests := []option{
		{name: "PCI", value: "y", from: "a.config"},
		{name: "NVME", value: "y", from: "a.config"},
		{name: "HIDDEN", value: "y", from: "b.config"},
		{name: "TUNED", value: "n", from: "b.config"},
		{name: "NEWER", value: "y", from: "b.config"},
		{name: "ABSENT", value: "n", from: "b.config"},
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
		{Name: "NEWER", Want: "y", Fragment: "b.config", Got: "n"},
	}
	if diff := cmp.Diff(want, missing.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	for _, want := range []string{"CONFIG_NVME=y (a.config)", "PCI_MSI", "this tree has no such option", "only selected by another"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v; want one with %q", err, want)
		}
	}
}

func TestOptionsThatLanded(t *testing.T) {
	requests := []option{{name: "SMP", value: "y"}, {name: "NR_CPUS", value: "8"}, {name: "VT", value: "n"}, {name: "HID", value: "n"}}
	if err := checkLanded(plain, requests, "CONFIG_SMP=y\nCONFIG_NR_CPUS=8\n# CONFIG_VT is not set\n", t.TempDir()); err != nil {
		t.Errorf("checkLanded = %v; want nil", err)
	}
}

func TestParseConfig(t *testing.T) {
	got, err := parseConfig("# A reason.\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=y\"\n")
	want := []option{{name: "A", value: "y"}, {name: "B", value: "n"}, {name: "C", value: `"x=y"`}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(option{})); diff != "" || err != nil {
		t.Errorf("parseConfig: %v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"A=y", "CONFIG_A", "CONFIG_A=", "CONFIG_A y"} {
		if _, err := parseConfig(bad); err == nil {
			t.Errorf("parseConfig(%q) = nil error; want one", bad)
		}
	}
}
