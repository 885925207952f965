package patchcheck

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/kernel"
	"patchproof/patches"
)

// What the source had already is not the patch's, wherever the patch moved it.
func TestCompare(t *testing.T) {
	unused := func(line int) kernel.Warning {
		return kernel.Warning{File: "fs/a.c", Line: line, Message: "unused variable 'n' [-Wunused-variable]"}
	}
	doc := kernel.Warning{File: "fs/a.c", Line: 9, Message: "Function parameter or member 'x' not described in 'f'"}
	broken := &kernel.Warning{File: "fs/a.c", Line: 3, Message: "error: 'x' undeclared"}
	imbalance := kernel.Warning{File: "fs/a.c", Line: 7, Message: "context imbalance in 'f' - wrong count at exit"}
	for name, test := range map[string]struct {
		before, after kernel.Examined
		want          []Finding
		unchecked     int
	}{
		"moved":             {before: kernel.Examined{Warnings: []kernel.Warning{unused(3)}}, after: kernel.Examined{Warnings: []kernel.Warning{unused(30)}}},
		"one more":          {before: kernel.Examined{Warnings: []kernel.Warning{unused(3)}}, after: kernel.Examined{Warnings: []kernel.Warning{unused(3), unused(8)}}, want: []Finding{{Tool: ToolCompiler, Level: Warning, File: "fs/a.c", Line: 8, Message: unused(0).Message}}},
		"gone":              {before: kernel.Examined{Warnings: []kernel.Warning{unused(3)}}},
		"new file":          {before: kernel.Examined{Absent: true}, after: kernel.Examined{Warnings: []kernel.Warning{doc}}, want: []Finding{{Tool: ToolKernelDoc, Level: Warning, File: "fs/a.c", Line: 9, Message: doc.Message}}},
		"file taken away":   {before: kernel.Examined{Warnings: []kernel.Warning{doc}}, after: kernel.Examined{Absent: true}},
		"sparse":            {after: kernel.Examined{Sparse: []kernel.Warning{imbalance}}, want: []Finding{{Tool: ToolSparse, Level: Warning, File: "fs/a.c", Line: 7, Message: imbalance.Message}}},
		"breaks":            {after: kernel.Examined{Error: broken}, want: []Finding{{Tool: ToolCompiler, Level: Error, File: "fs/a.c", Line: 3, Message: "'x' undeclared"}}},
		"broken before":     {before: kernel.Examined{Error: broken}, after: kernel.Examined{Error: broken}, unchecked: 1},
		"mends":             {before: kernel.Examined{Error: broken}, after: kernel.Examined{Warnings: []kernel.Warning{doc}}, unchecked: 1},
		"not in the config": {before: kernel.Examined{Unbuilt: true}, after: kernel.Examined{Unbuilt: true}, unchecked: 1},
	} {
		var got Checked
		compare(&got, "fs/a.c", test.before, test.after, nil)
		if diff := cmp.Diff(test.want, got.Findings); diff != "" || len(got.Unchecked) != test.unchecked {
			t.Errorf("%s: findings (-want +got), %q unchecked, want %d:\n%s", name, got.Unchecked, test.unchecked, diff)
		}
	}
}

// Of warnings that say the same, the one on the line that the patch wrote is the new one.
func TestCompareNamesTheLineOfThePatch(t *testing.T) {
	series := func(diff string) []patches.Patch {
		t.Helper()
		name := filepath.Join(t.TempDir(), "a.patch")
		if err := os.WriteFile(name, []byte(diff), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := patches.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		return s.Patches
	}
	const added = "--- a/fs/a.c\n+++ b/fs/a.c\n@@ -10,2 +10,4 @@\n ten\n+new\n+new\n eleven\n"
	const renamed = "diff --git a/fs/a.c b/fs/b.c\nrename from fs/a.c\nrename to fs/b.c\n" +
		"--- a/fs/a.c\n+++ b/fs/b.c\n@@ -10,1 +10,2 @@\n+new\n ten\n@@ -30,2 +31,1 @@\n thirty\n-thirty-one\n"
	for name, test := range map[string]struct {
		series        []patches.Patch
		file          string
		before, after []int
		want          []int
	}{
		"the first of two":     {series(added), "fs/a.c", []int{50}, []int{11, 52}, []int{11}},
		"the last of two":      {series(added), "fs/a.c", []int{5}, []int{5, 12}, []int{12}},
		"between two":          {series(added), "fs/a.c", []int{10, 11}, []int{10, 11, 13}, []int{11}},
		"in a file renamed":    {series(renamed), "fs/b.c", []int{20, 31}, []int{10, 21, 40}, []int{40}},
		"moved, with one more": {nil, "fs/a.c", []int{5}, []int{7, 9}, []int{9}},
		"moved":                {series(added), "fs/a.c", []int{5}, []int{11}, nil},
	} {
		warnings := func(file string, lines []int) (all []kernel.Warning) {
			for _, line := range lines {
				all = append(all, kernel.Warning{File: file, Line: line, Message: "incorrect type"})
			}
			return all
		}
		var c Checked
		compare(&c, test.file, kernel.Examined{Sparse: warnings("fs/a.c", test.before)}, kernel.Examined{Sparse: warnings(test.file, test.after)}, test.series)
		var got []int
		for _, f := range c.Findings {
			got = append(got, f.Line)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: lines named (-want +got):\n%s", name, diff)
		}
	}
}

func TestChanges(t *testing.T) {
	got := changes(map[string]int{"same": 8, "less": 90, "gone": 16}, map[string]int{"same": 8, "less": 10, "new": 24})
	want := []Change{{"less", 90, 10}, {"new", 0, 24}, {"gone", 16, 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func report() *Report {
	return &Report{Patches: []Checked{
		{Number: 1, Subject: "a: good", Builds: true, Findings: []Finding{{Tool: ToolCheckpatch, Level: Remark, Rule: "LONG_LINE", File: "fs/a.c", Line: 4, Message: "line length of 117 exceeds 100 columns"}}},
		{Number: 2, Subject: "a: bad", Findings: []Finding{
			{Tool: ToolCompiler, Level: Warning, File: "fs/a.c", Line: 8, Message: "unused variable 'n' [-Wunused-variable]"},
			{Tool: ToolBuild, Level: Error, Message: "the kernel does not build: undefined reference to `f'"},
		}, Sizes: []Change{{"f", 10, 4}, {"g", 0, 8}}, Stack: []Change{{"f", 16, 64}}},
		{Number: 3, Subject: "a: clean", Builds: true, Unchecked: []string{"fs/b.c: the config leaves it out, it was not compiled"}},
	}}
}

func TestText(t *testing.T) {
	r := report()
	want := `  compiler warning: fs/a.c:8: unused variable 'n' [-Wunused-variable]
  build error: the kernel does not build: undefined reference to ` + "`f'" + `
  size +2 bytes: g 0 -> 8, f 10 -> 4
  stack bytes: f 16 -> 64
  DOES NOT PASS
`
	r.Patches[1].Sizes = changes(map[string]int{"f": 10}, map[string]int{"f": 4, "g": 8})
	if diff := cmp.Diff(want, r.Patches[1].Text()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	for i := range 7 {
		r.Patches[2].Findings = append(r.Patches[2].Findings, Finding{Tool: ToolBoot, Level: Error, Message: fmt.Sprintf("nop/c%d, pass on patch 2 3 of 3, fails with the patch 3 of 3", i)})
	}
	if got := r.Patches[2].Text(); strings.Count(got, "boot error: nop/c") != 5 || !strings.Contains(got, "\n  boot: 2 more such checks, all in patchcheck.json\n") {
		t.Errorf("of seven checks:\n%s", got)
	}
	r = report()
	if got, want := r.Answer(), "2 of 3 patches pass; not so: 2. The kernel stops building at patch 2 (a: bad), so the series cannot be bisected."; got != want || r.Passes() {
		t.Errorf("answer = %q, passes %v; want %q, false", got, r.Passes(), want)
	}
}

// The document is valid by the schema of SARIF 2.1.0, also with no result at all.
func TestSARIF(t *testing.T) {
	for _, r := range []*Report{report(), {Patches: []Checked{{Number: 1, Subject: "a: good", Builds: true}}}} {
		doc := r.sarif()
		if err := doc.Validate(); err != nil {
			t.Errorf("of %d patches: %v", len(r.Patches), err)
		}
	}
	results := report().sarif().Runs[0].Results
	if len(results) != 3 || *results[1].Locations[0].PhysicalLocation.Region.StartLine != 8 || len(results[2].Locations) != 0 {
		t.Errorf("results = %+v; want three, the second at line 8, the third without a place", results)
	}
	broken := report().sarif()
	broken.Runs[0].Results[0].Level = "catastrophic"
	if broken.Validate() == nil {
		t.Errorf("a level that there is not is valid; want the schema to refuse it")
	}
}

func TestB4(t *testing.T) {
	r := report()
	var got [][]string
	for _, c := range r.Patches {
		for _, check := range c.b4() {
			got = append(got, []string{check.Tool, check.Status, check.Summary, check.Details})
		}
	}
	want := [][]string{
		{"patchproof-checkpatch", "warn", "1 new", `[{"status":"warn","description":"checkpatch remark: fs/a.c:4: line length of 117 exceeds 100 columns [LONG_LINE]"}]`},
		{"patchproof-compiler", "warn", "1 new", `[{"status":"warn","description":"compiler warning: fs/a.c:8: unused variable 'n' [-Wunused-variable]"}]`},
		{"patchproof-build", "fail", "1 new", "[{\"status\":\"fail\",\"description\":\"build error: the kernel does not build: undefined reference to `f'\"}]"},
		{"patchproof", "warn", "passes", "fs/b.c: the config leaves it out, it was not compiled"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("b4's checks (-want +got):\n%s", diff)
	}
}
