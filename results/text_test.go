package results

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// check is an expected check; its detail holds figures that differ each time.
func check(name string, v event.Verdict, detail string) Check {
	return Check{Check: event.Check{Name: name, Verdict: v, Detail: detail}, Expected: true}
}

func knownIssue(c Check, reason string) Check {
	c.KnownIssue = reason
	return c
}

func unexpected(c Check) Check {
	c.Expected = false
	return c
}

// cellOf derives the cell's verdict from its checks, as the runner does.
func cellOf(kernel, program string, checks ...Check) Cell {
	c := Cell{
		Kernel: kernel, Variant: "plain", Program: program, Iteration: 1, Expected: true, Checks: checks,
		Console: fmt.Sprintf("%s-plain-%s.log", kernel, program),
		Command: "qemu-system-x86_64 -M q35 -kernel /store/" + kernel + "/vmlinux",
	}
	var verdicts []event.Verdict
	for _, check := range checks {
		verdicts = append(verdicts, check.Verdict)
		c.Expected = c.Expected && check.Expected
	}
	c.Verdict = event.Worst(verdicts...)
	return c
}

func kernels(names ...string) []Kernel {
	var ks []Kernel
	for _, name := range names {
		k := Kernel{Name: name, Variant: "plain"}
		if name != "base" {
			k.Series = []string{"io_uring: per-CPU cache of io_kiocb"}
			k.Features = []string{"alloc-cache"}
		}
		ks = append(ks, k)
	}
	return ks
}

func repeat(n int, c Cell) []Cell {
	var cells []Cell
	for i := range n {
		c.Iteration = i + 1
		cells = append(cells, c)
	}
	return cells
}

func asIs() *Run {
	r := &Run{Status: Finished, Kernels: kernels("base", "posted")}
	for _, k := range []string{"base", "posted"} {
		for _, p := range []string{"nop", "cpuoffline", "fixedfile"} {
			r.Cells = append(r.Cells, cellOf(k, p, check("cqe", event.Pass, "")))
		}
	}
	return r
}

func knownIssues() *Run {
	r := asIs()
	r.Cells = append(r.Cells,
		cellOf("base", "fdinfo", check("cqe", event.Pass, ""), check("alloc-cache", event.Skip, "")),
		cellOf("posted", "fdinfo", check("cqe", event.Pass, ""), check("alloc-cache", event.Pass, ""),
			knownIssue(check("bounds", event.Fail, "\n\ncpu1 irq=1: nr_avail=257\nsecond line"), "the threshold is tested before the add"),
			knownIssue(check("counters", event.Fail, ""), "nr_free is not taken down by the shrinker")))
	return r
}

func everything() *Run {
	r := &Run{Status: Finished, Kernels: kernels("base", "posted", "fixed", "fixed-next")}
	add := func(cells ...Cell) { r.Cells = append(r.Cells, cells...) }
	hostile := "\x1b[2J\x1b]0;owned\x07\u202egnp\x00 " + strings.Repeat("A", 1000)
	for _, k := range []string{"base", "posted", "fixed", "fixed-next"} {
		add(repeat(20, cellOf(k, "nop", check("cqe", event.Pass, "")))...)
	}
	add(repeat(17, cellOf("posted", "fixedfile", check("exit", event.Pass, "")))...)
	add(repeat(2, cellOf("posted", "fixedfile", unexpected(check("exit", event.Hang, hostile)),
		knownIssue(check("bounds", event.Fail, "nr_avail=257"), "the threshold is tested before the add")))...)
	add(cellOf("posted", "fixedfile", unexpected(check("console", event.Crash, "list_del corruption. prev->next should be ffff8880\n..."))))
	add(cellOf("fixed", "fixedfile", unexpected(knownIssue(check("bounds", event.Pass, ""), "the threshold is tested before the add"))))
	trouble := cellOf("fixed", "cpuoffline", unexpected(check("program", event.Error, "")))
	trouble.Reason = "events 4 to 6 were lost"
	add(trouble)
	late := cellOf("fixed-next", "cpuoffline")
	late.Verdict, late.Expected, late.Reason = event.Hang, false, "past its deadline of 60 s"
	add(late)
	return r
}

func TestGolden(t *testing.T) {
	interrupted := asIs()
	interrupted.Status, interrupted.Cells = Interrupted, interrupted.Cells[:4]
	variants := asIs()
	variants.Kernels[1].Variant = "debug"
	for i := range variants.Cells[3:] {
		variants.Cells[3+i].Variant = "debug"
	}
	for i := range variants.Cells[:3] {
		c := variants.Cells[i]
		c.Variant = "debug"
		variants.Cells = append(variants.Cells, c)
	}
	variants.Kernels = append(variants.Kernels, Kernel{Name: "base", Variant: "debug"})
	baseOnly := &Run{Status: Finished, Kernels: kernels("base"), Cells: asIs().Cells[:3]}
	for _, tt := range []struct {
		name string
		run  *Run
	}{
		{"as-expected", asIs()},
		{"known-issues", knownIssues()},
		{"everything", everything()},
		{"interrupted", interrupted},
		{"variants", variants},
		{"base-only", baseOnly},
		{"nothing", &Run{Status: Finished, Kernels: kernels("base", "posted")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.run.Dir = "results/out/20260301-225959.123"
			var out strings.Builder
			if err := Report(&out, tt.run, View{}); err != nil {
				t.Fatal(err)
			}
			out.WriteString("\nAnd with all:\n\n")
			if err := Report(&out, tt.run, View{All: true}); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, out.String())
		})
	}
}

// A green run is told in at most 60 lines, however much is known about its kernels; nothing
// of it is lost with all.
func TestGreenRunIsShort(t *testing.T) {
	r := &Run{Status: Finished, Kernels: kernels("base", "posted"), Dir: "out/r"}
	for i := range 27 {
		program := fmt.Sprintf("program%02d", i)
		var base, posted []Check
		for j := range 8 {
			name := fmt.Sprintf("check%d", j)
			base = append(base, check(name, event.Skip, ""))
			posted = append(posted, check(name, event.Pass, ""))
		}
		base = append(base, check("list", event.Pass, ""), check("count", event.Skip, ""))
		posted = append(posted, knownIssue(check("list", event.Fail, "it is 3"), "a reason"), check("count", event.Fail, ""))
		r.Cells = append(r.Cells, cellOf("base", program, base...), cellOf("posted", program, posted...))
	}
	var short, all strings.Builder
	for out, v := range map[*strings.Builder]View{&short: {Since: strings.Repeat("  a line\n", mostChanges+2)}, &all: {All: true}} {
		if err := Report(out, r, v); err != nil {
			t.Fatal(err)
		}
	}
	// A hint and two paths follow, and an empty line goes before.
	if n := strings.Count(short.String(), "\n"); n > 56 {
		t.Errorf("%d lines; want at most 56:\n%s", n, short.String())
	}
	if want := "216 checks became applicable (skip -> pass), 81 as declared"; !strings.Contains(short.String(), want) {
		t.Errorf("nothing counts %q:\n%s", want, short.String())
	}
	for _, want := range []string{"program26/check7", "program26/list", "again:   qemu-system-x86_64", "a reason"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("with all there is no %s", want)
		}
	}
}

// A test that prints thousands of failures does not have the rest of the run scroll away.
func TestFloodIsShort(t *testing.T) {
	var checks []Check
	for i := range 3000 {
		checks = append(checks, unexpected(check(fmt.Sprintf("case %d", i), event.Fail, "")))
	}
	flood := cellOf("base", "mine", checks...)
	flood.Expected = false
	r := &Run{Status: Finished, Kernels: kernels("base"), Dir: "out/r", Cells: []Cell{flood}}
	var out strings.Builder
	if err := Report(&out, r, View{}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n > 40 || !strings.Contains(out.String(), "and 2995 more: case 5 (fail),") {
		t.Errorf("%d lines; want at most 40, that say how many more there are:\n%.2000s", n, out.String())
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", path, diff)
	}
}

// A suite of which half fails is told in few lines, and every name is among them.
func TestManyChecksAreShort(t *testing.T) {
	var checks []Check
	for i := range 25 {
		checks = append(checks, unexpected(check(fmt.Sprintf("test-%02d.t", i), event.Fail, "the test ended with 1\nmore\nof it")))
	}
	r := &Run{Status: Finished, Kernels: kernels("base"), Cells: []Cell{cellOf("base", "suite", checks...)}}
	for _, test := range []struct {
		all   bool
		lines int
	}{{false, 24}, {true, 60}} {
		var out strings.Builder
		if err := Report(&out, r, View{All: test.all}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(out.String(), "\n"); got > test.lines || test.all && got < 50 {
			t.Errorf("All=%v: %d lines; want %d at the most:\n%s", test.all, got, test.lines, out.String())
		}
		for _, c := range checks {
			if !strings.Contains(out.String(), c.Name) {
				t.Errorf("All=%v: %s is not told of", test.all, c.Name)
			}
		}
		for line := range strings.Lines(out.String()) {
			if width(line) > 100 {
				t.Errorf("All=%v: a line of %d characters: %s", test.all, width(line), line)
			}
		}
	}
}

// Why a program was skipped is told, and with all why each check was, a reason once.
func TestSkipsAreExplained(t *testing.T) {
	r := asIs()
	r.Cells = append(r.Cells,
		cellOf("base", "clone3", check("build", event.Skip, "no libcap\nand more")),
		cellOf("base", "kunit", check("list", event.Pass, ""), check("kasan", event.Skip, "no KASAN"), check("kasan2", event.Skip, "no KASAN")))
	for all, want := range map[bool]string{
		false: "Skipped on base:\n  clone3/build: no libcap\n\nbase: ",
		true:  "Skipped on base:\n  clone3/build: no libcap\n  kunit/kasan, kunit/kasan2: no KASAN\n\nbase: ",
	} {
		var out strings.Builder
		if err := Report(&out, r, View{All: all}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("with all %v the report has no %q:\n%s", all, want, out.String())
		}
	}
}

func TestMatrixWidth(t *testing.T) {
	r := &Run{Status: Finished, Kernels: kernels("base", "posted", "fixed", "known-bad-list", "known-bad-count", "next")}
	for _, k := range r.Kernels {
		c := cellOf(k.Name, "nop", unexpected(check("order", event.Crash, "")), knownIssue(check("drops", event.Fail, ""), "lost"))
		r.Cells = append(r.Cells, repeat(100, c)...)
	}
	var out strings.Builder
	if err := Report(&out, r, View{}); err != nil {
		t.Fatal(err)
	}
	titles := ""
	for line := range strings.Lines(out.String()) {
		isTitle := strings.HasPrefix(line, "program")
		if n := width(strings.TrimSuffix(line, "\n")); n > matrixWidth && (isTitle || strings.HasPrefix(line, "nop")) {
			t.Errorf("a line of the matrix has %d columns; want at most %d: %s", n, matrixWidth, line)
		}
		if isTitle {
			titles += line
		}
	}
	for _, k := range r.Kernels {
		if !strings.Contains(titles, " "+k.Name) {
			t.Errorf("the matrix has no column for %s", k.Name)
		}
	}
}

func TestMatrixColour(t *testing.T) {
	var bare, coloured strings.Builder
	if err := Report(&bare, everything(), View{}); err != nil {
		t.Fatal(err)
	}
	if err := Report(&coloured, everything(), View{Colour: true}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(bare.String(), "\x1b") {
		t.Error("the matrix has colours that nobody asked for")
	}
	if !strings.Contains(coloured.String(), "\x1b[31;1m! crash 1/20") {
		t.Errorf("no red crash in the coloured matrix:\n%s", coloured.String())
	}
}

func TestLine(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"\n \r\n first\nsecond", "first"},
		{"a\tb", "a b"},
		{"\x1b[31mred\x9b", `\x1b[31mred\x9b`},
		{"\u202eright to left\u200b", `\u202eright to left\u200b`},
		{"nul\x00\xff", `nul\x00\xff`},
		{strings.Repeat("é", 1<<20), strings.Repeat("é", lineLimit) + "…"},
	} {
		if got := Line(tt.in); got != tt.want {
			t.Errorf("Line(%.40q) = %q; want %q", tt.in, got, tt.want)
		}
	}
}

// threeKernels has a name as long as the subject's longest, and a failure that is declared
// on each kernel.
func threeKernels() *Run {
	r := &Run{Status: Finished, Kernels: kernels("base", "posted", "fixed")}
	for _, k := range r.Kernels {
		for _, p := range []string{"nop", "faults-interrupt-singlestep"} {
			r.Cells = append(r.Cells, cellOf(k.Name, p, check("cqe", event.Pass, "")))
		}
		r.Cells = append(r.Cells, cellOf(k.Name, "fixedfile", knownIssue(check("exit", event.Hang, ""), "the base hangs here")))
	}
	return r
}
