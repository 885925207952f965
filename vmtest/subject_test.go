package vmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/results"
)

// secondSubject goes into a checkout with the real subjects and one more, which is data
// alone (testdata/subject).
func secondSubject(t *testing.T) {
	t.Helper()
	checkout := t.TempDir()
	for from, to := range map[string]string{"../patches": "patches", "testdata/subject": "patches", "../kernel/configs": "kernel/configs"} {
		if err := os.CopyFS(filepath.Join(checkout, to), os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	// What makes a folder a checkout.
	if err := os.WriteFile(filepath.Join(checkout, "kernel", "kernels.toml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(checkout)
}

// planned is a selection's plan, as lines of kernel, program and command.
func planned(t *testing.T, vars map[string]string) []string {
	t.Helper()
	sel, err := FromEnv(func(name string) string { return vars[name] })
	if err != nil {
		t.Fatal(err)
	}
	plan, err := resolve(sel)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range plan.specs {
		for _, p := range plan.programs {
			lines = append(lines, fmt.Sprintf("%s/%s/%s: %d patches, %s", s.Name, plan.variant.Name, p.Name, len(s.Patches()), p.command()))
		}
	}
	return lines
}

func TestSubjectIsData(t *testing.T) {
	secondSubject(t)
	patch, err := filepath.Abs("patches/proc-cmdline/v5.10.13/0001-proc-terse.patch")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		vars map[string]string
		want []string
	}{
		{"the second one", map[string]string{"SUBJECT": "proc-cmdline"},
			[]string{"base/plain/cmdline: 0 patches, exec", "terse/plain/cmdline: 1 patches, exec"}},
		{"its quick programs", map[string]string{"SUBJECT": "proc-cmdline", "PROGRAMS": "quick", "KERNELS": "terse"},
			[]string{"terse/plain/cmdline: 1 patches, exec"}},
		{"with a patch of the user's", map[string]string{"SUBJECT": "proc-cmdline", "PATCH": patch, "KERNELS": "base,patched"},
			[]string{"base/plain/cmdline: 0 patches, exec", "patched/plain/cmdline: 1 patches, exec"}},
		{"the default one is another", map[string]string{"PROGRAMS": "quick", "KERNELS": "posted"}, []string{
			"posted/plain/cpuoffline: 6 patches, cpuoffline", "posted/plain/fixedfile: 6 patches, fixedfile",
			"posted/plain/fdinfo: 6 patches, fdinfo", "posted/plain/nop: 6 patches, nop"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, planned(t, tt.vars)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// Neither the series nor the known issues of a subject come with a user's own tree or
// patch; the pin's own issues do.
func TestNoSubjectUnlessAsked(t *testing.T) {
	secondSubject(t)
	lineup, err := kernel.Load()
	if err != nil {
		t.Fatal(err)
	}
	patch, err := filepath.Abs("patches/proc-cmdline/v5.10.13/0001-proc-terse.patch")
	if err != nil {
		t.Fatal(err)
	}
	for _, sel := range []kernel.Selection{{Tree: "."}, {Patch: patch}, {Tree: ".", Patch: patch}} {
		specs, _, err := lineup.Resolve(sel)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range specs {
			if len(s.Features) > 0 || s.Name != kernel.Base && s.Name != kernel.Patched {
				t.Errorf("%+v: kernel %s with features %v; want base and patched, without any", sel, s.Name, s.Features)
			}
			for _, k := range s.Known {
				if slices.Contains(k.Kernels, "posted") || slices.Contains(k.Kernels, "terse") {
					t.Errorf("%+v: kernel %s has the known issue %q of a subject", sel, s.Name, k.Reason)
				}
			}
			if sel.Tree == "" && len(s.Known) == 0 {
				t.Errorf("%+v: kernel %s has none of the pin's known issues", sel, s.Name)
			}
		}
	}
}

// The second subject's own issue makes its failure expected, on its kernel alone.
func TestSubjectsKnownIssue(t *testing.T) {
	secondSubject(t)
	lineup, err := kernel.Load()
	if err != nil {
		t.Fatal(err)
	}
	specs, _, err := lineup.Resolve(kernel.Selection{Subject: "proc-cmdline"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		f := finding{verdict: event.Fail, ended: true, checks: []results.Check{{Check: event.Check{Name: "ends with a line end", Verdict: event.Fail}}}}
		expect(&f, CellSpec{Kernel: s.Name, Variant: "plain", Program: Program{Name: "cmdline"}, Known: s.Known})
		if want := s.Name == "terse"; f.expected != want {
			t.Errorf("on %s the failure is expected: %v; want %v", s.Name, f.expected, want)
		}
	}
}

// A program whose kernel lacks what it needs is not run.
func TestProgramNeedsConfig(t *testing.T) {
	b := &kernel.Built{Config: filepath.Join(t.TempDir(), "config")}
	if err := os.WriteFile(b.Config, []byte("# a config\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for option, want := range map[string]string{"A": "", "B": "B", "C": "C", "AA": "AA"} {
		if got, err := b.Lacks([]string{"A", option}); got != want || err != nil {
			t.Errorf("Lacks(A, %s) = %q, %v; want %q", option, got, err, want)
		}
	}
	for _, tt := range []struct {
		features []string
		verdict  event.Verdict
		expected bool
	}{{nil, event.Skip, true}, {[]string{}, event.Error, false}} {
		cell := CellSpec{Features: tt.features, lacks: "B"}.notRun()
		if cell.Verdict != tt.verdict || cell.Expected != tt.expected || !strings.Contains(cell.Reason, "CONFIG_B") {
			t.Errorf("with features %v: %s, expected %v, %q; want %s, %v, and the option", tt.features, cell.Verdict, cell.Expected, cell.Reason, tt.verdict, tt.expected)
		}
	}
}
