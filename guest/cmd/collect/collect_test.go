//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

var manifest = event.Manifest{
	Kernels: []event.BundledKernel{{Name: "base", BuildID: "aa"}, {Name: "posted", BuildID: "bb"}},
	Programs: []event.BundledProgram{
		{Name: "nop", CPUs: 2},
		{Name: "offline", CPUs: 2, Harm: "takes CPUs offline"},
		{Name: "disk", CPUs: 2, Disk: true},
		{Name: "both", CPUs: 2, Disk: true, Harm: "takes CPUs offline"},
		{Name: "large", CPUs: 4},
		{Name: "booted", CPUs: 2, Boot: []string{"slab_nomerge"}},
	},
}

// TestAlone: what others left behind in the kernel is never counted as a program's own.
func TestAlone(t *testing.T) {
	m := event.Manifest{Programs: []event.BundledProgram{{Name: "nop"}, {Name: "books", Alone: true}}}
	one := options{programs: []string{"books"}}
	for _, tt := range []struct {
		o      options
		before string
		want   string // the error or refusal
	}{
		{one, "", ""},
		{one, "nop", "books is not run: it needs a boot of its own, and in this one nop was run"},
		{options{programs: []string{"nop", "books"}}, "", "books is not run: it needs a boot of its own: collect books"},
		{options{}, "", "it needs a boot of its own: collect books"},
	} {
		_, refused, err := choose(m, tt.o, event.Facts{}, tt.before)
		got := ""
		if err != nil {
			got = err.Error()
		}
		for _, r := range refused {
			got += r.Why
		}
		if got != tt.want {
			t.Errorf("choose(%v) after %q says %q; want %q", tt.o.programs, tt.before, got, tt.want)
		}
	}
}

// TestChoose: nothing that a machine in use would mind is run unasked, and on no
// machine a disk that was not named.
func TestChoose(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("what is harmful needs root")
	}
	iron := event.Facts{CPUs: 2}
	vm := event.Facts{CPUs: 2, Hypervisor: "QEMU"}
	for _, tt := range []struct {
		name  string
		facts event.Facts
		o     options
		want  string
	}{
		{"a machine", iron, options{}, "nop"},
		{"a machine, a disk", iron, options{scratch: "/dev/nvme0n1"}, "nop disk"},
		{"a machine, told so", iron, options{destructive: true}, "nop offline"},
		{"a machine, told so, a disk", iron, options{destructive: true, scratch: "/dev/nvme0n1"}, "nop offline disk both"},
		{"a VM", vm, options{}, "nop offline"},
		{"a VM, a disk", vm, options{scratch: "/dev/nvme0n1"}, "nop offline disk both"},
		{"a large machine", event.Facts{CPUs: 4}, options{}, "nop large"},
		{"booted so", event.Facts{CPUs: 2, Cmdline: "quiet slab_nomerge"}, options{}, "nop booted"},
		{"named", iron, options{programs: []string{"nop"}}, "nop"},
	} {
		wanted, refused, err := choose(manifest, tt.o, tt.facts, "")
		if err != nil {
			t.Errorf("%s: choose = %v", tt.name, err)
		}
		var names []string
		for _, p := range wanted {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%s: choose runs %q; want %q", tt.name, got, tt.want)
		}
		if len(tt.o.programs) == 0 && len(wanted)+len(refused) != len(manifest.Programs) {
			t.Errorf("%s: %d run, %d refused of %d programs; each must be said", tt.name, len(wanted), len(refused), len(manifest.Programs))
		}
	}
	for name, want := range map[string]string{
		"offline": "offline is not run: it takes CPUs offline, and this machine is no VM; -destructive allows it",
		"disk":    "disk is not run: it writes to a disk; -scratch=/dev/nvme1n1 names one whose content may be lost",
		"large":   "large is not run: it needs 4 CPUs",
		"booted":  "booted is not run: the kernel must be booted with slab_nomerge",
		"other":   `unknown program "other"; known: nop, offline, disk, both, large, booted`,
	} {
		if _, _, err := choose(manifest, options{programs: []string{name}}, iron, ""); err == nil || err.Error() != want {
			t.Errorf("choose(%s) = %v; want %s", name, err, want)
		}
	}
}

func TestOptions(t *testing.T) {
	for args, want := range map[string]string{
		"-scratch=/dev/sda":                             "want a whole NVMe disk",
		"-scratch=/dev/nvme0n1p1":                       "want a whole NVMe disk",
		"-scratch=/dev/nvme0n1 -save=/dev/nvme0n1p3":    "whose content will be lost",
		"-scale=0.5":                                    "want a number from 1",
		"-reboot":                                       "wants to be shut down first",
		"-scratch=/dev/nvme0n1 -save=/dev/sdb1 nop":     "",
		"-destructive -out=/tmp/x nop race-lock fdinfo": "",
	} {
		_, err := parse(strings.Fields(args), &strings.Builder{})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("collect %s: %v; want %q", args, err, want)
		}
	}
}

// TestFile: at any moment the file holds what was finished and what is in flight, and
// the boots before.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	read := func() []event.Boot {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var c event.Collection
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		return c.Boots
	}
	first, err := open(path, event.Boot{ID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	nop := event.Ran{Program: "nop", Verdict: event.Pass, Checks: []event.Check{}, Metrics: []event.Metric{}}
	for _, step := range []func() error{
		func() error { return first.begin("nop") },
		func() error { return first.end(event.Ran{Program: "nop", Verdict: event.Pass}) },
		func() error { return first.begin("hostile") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	// The machine dies here.
	dead := event.Boot{ID: "1", Ran: []event.Ran{nop}, Running: "hostile"}
	if diff := cmp.Diff([]event.Boot{dead}, read()); diff != "" {
		t.Errorf("after a death (-want +got):\n%s", diff)
	}
	second, err := open(path, event.Boot{ID: "2"})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.finish(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]event.Boot{dead, {ID: "2", Finished: true}}, read()); diff != "" {
		t.Errorf("after the next boot (-want +got):\n%s", diff)
	}
	other := filepath.Join(t.TempDir(), "letter")
	if err := os.WriteFile(other, []byte("Dear reader"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := open(other, event.Boot{ID: "3"}); err == nil || !strings.Contains(err.Error(), "left as it is") {
		t.Errorf("open of another file = %v; want that it is left as it is", err)
	}
	if text, _ := os.ReadFile(other); string(text) != "Dear reader" {
		t.Errorf("the other file is now %q", text)
	}
}
