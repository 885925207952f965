package bisect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/lab"
)

// The fixture is a kernel in miniature that real make and gcc build into an ELF
// file; what it "does" in a guest is told by the words in it.
const (
	makefile = `
VERSION = 5
PATCHLEVEL = 10
O ?= .
tinyconfig:
	@: > $(O)/.config
olddefconfig:
	@awk -F= '{ if (/ is not set/) { split($$0, w, " "); n = w[2] } else n = $$1; v[n] = $$0 } END { if (v["CONFIG_B"] ~ /=y/ && v["CONFIG_A"] !~ /=y/) delete v["CONFIG_B"]; for (n in v) print v[n] }' $(O)/.config | sort > $(O)/.c && mv $(O)/.c $(O)/.config
vmlinux: main.c
	@echo '  CC      main.o'
	@gcc -nostdlib -static -o $(O)/vmlinux $(CURDIR)/main.c
	@cp $(O)/.config $(O)/System.map
main.o: main.c
	@gcc -c -o $(O)/main.o $(CURDIR)/main.c
`
	leak  = "const char *leaks = \"LEAK\";\n"
	other = "const char *panics = \"PANIC\";\n"
	wrong = "this is not C;\n"
	start = "void _start(void) {}\n"
)

// padding keeps changes apart, so that each applies and reverts by itself.
const padding = "/* 1 */\n/* 2 */\n/* 3 */\n/* 4 */\n"

// change is a commit of a fixture: what its main.c holds, besides the rest.
type change struct{ subject, text string }

// fixture makes a local tree with a commit for each change; a change's text
// stays in all later commits, unless a later one is to fix it, or to redo it in
// other words.
func fixture(t *testing.T, changes ...change) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "Makefile"), makefile)
	parts := make([]string, len(changes))
	for i := range changes {
		parts[i] = fmt.Sprintf("int v%d;\n", i)
	}
	commit := func(subject string) {
		write(t, filepath.Join(dir, "main.c"), start+padding+strings.Join(parts, padding)+padding)
		git(t, dir, "add", "-A")
		git(t, dir, "commit", "-q", "--allow-empty", "-m", subject)
	}
	git(t, dir, "init", "-q")
	commit("start")
	for i, c := range changes {
		if undone := slices.IndexFunc(changes[:i], func(o change) bool { return "fix "+o.subject == c.subject }); undone >= 0 {
			parts[undone] = fmt.Sprintf("int v%d;\n", undone)
		}
		if redone := slices.IndexFunc(changes[:i], func(o change) bool { return "redo "+o.subject == c.subject }); redone >= 0 {
			parts[redone], c.text = c.text, ""
		}
		parts[i] = c.text + fmt.Sprintf("int new%d = %d;\n", i, i+1)
		commit(c.subject)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=u", "-c", "user.email=u@localhost"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// rig is a lab whose guests are made up from the words in the kernel.
type rig struct {
	*trials
	said []string
	ran  []string
	// bug says what a config adds to the kernel.
	bug func(config string) string
}

// TestMain works in a checkout of its own. Each question is about a tree of its test's, or
// of its own, so that none is answered from another's record.
func TestMain(m *testing.M) { os.Exit(inCheckout(m)) }

// source is this package's folder, in which the real subjects are found.
var source string

func inCheckout(m *testing.M) int {
	var err error
	if source, err = os.Getwd(); err != nil {
		panic(err)
	}
	checkout, err := os.MkdirTemp("", "patchproof-checkout-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(checkout)
	for name, text := range map[string]string{"kernel/kernels.toml": "", "patches/made-up/subject.toml": `
title = "made up"
default = true
pin = "v5.10.13"
[[kernel]]
name = "made-up"
series = { "v5.10.13" = ["subject.toml"] }
[bisect]
program = "fixedfile"
[[program]]
name = "fixedfile"
cpus = 1
memory-mib = 64
deadline = "1s"
`} {
		path := filepath.Join(checkout, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			panic(err)
		}
	}
	if err := os.Chdir(checkout); err != nil {
		panic(err)
	}
	return m.Run()
}

// newBench has a store of its own.
func newBench(t *testing.T, count int) *rig {
	t.Helper()
	b := &rig{bug: func(string) string { return "" }}
	b.trials = &trials{
		count: count, program: vmtest.Program{Name: "fixedfile"},
		// A question holds its initramfs' name. Each test has one of its own: two whose histories
		// are the same, made in one second, would find each other's record.
		lab:  &lab.Lab{Builder: kernel.Builder{Cache: t.TempDir()}, Initramfs: strings.ReplaceAll(t.TempDir(), "/", "-")},
		tell: Teller{Say: func(format string, args ...any) { b.said = append(b.said, fmt.Sprintf(format, args...)) }},
	}
	b.cell = func(ctx context.Context, s vmtest.CellSpec) results.Cell {
		image, err := os.ReadFile(s.Image)
		if err != nil {
			t.Error(err)
		}
		b.ran = append(b.ran, s.Kernel)
		config, err := os.ReadFile(filepath.Join(filepath.Dir(s.Image), "config"))
		if err != nil {
			t.Error(err)
		}
		cell := made(string(image) + b.bug(string(config)))
		if s.Enough != nil {
			if i := slices.IndexFunc(cell.Checks, s.Enough); i >= 0 {
				cell.Checks = cell.Checks[:i+1]
			}
		}
		return cell
	}
	b.reset()
	return b
}

// reset forgets what a run left in the lab, as a new process has.
func (b *rig) reset() {
	b.record = &Record{Accel: results.Accel{Name: "tcg"}, Program: "fixedfile"}
	b.said, b.ran = nil, nil
}

const stack = "after 4s: io_ring_exit_work is still running:\nkworker/u4:2 (30) state S\n[<0>] io_sqe_files_unregister+0x96/0x1c0\n[<0>] io_ring_exit_work+0xc8/0x1d0\n[<0>] process_one_work+0x1b4/0x300\n"

// made is the cell of a kernel with these words in it.
func made(image string) results.Cell {
	c := results.Cell{Program: "fixedfile", Verdict: event.Pass}
	add := func(name string, v event.Verdict, detail string) {
		c.Checks = append(c.Checks, results.Check{Check: event.Check{Name: name, Verdict: v, Detail: detail}, Expected: v == event.Pass})
		c.Verdict = event.Worst(c.Verdict, v)
	}
	add("data", event.Pass, "")
	switch {
	case strings.Contains(image, "SILENT"), strings.Contains(image, "STUCK"), strings.Contains(image, "RESET"), strings.Contains(image, "NOEXEC"):
		return stopped(image)
	case strings.Contains(image, "PANIC"):
		add(subjects.ConsoleCheck, event.Crash, "kernel BUG at fs/io_uring.c\n\nstack")
	case strings.Contains(image, "LEAK"):
		add("ring-gone", event.Hang, stack)
	default:
		add("ring-gone", event.Pass, "")
	}
	if strings.Contains(image, "RARE") {
		add("rare", event.Hang, "it hangs now and then")
	} else {
		add("rare", event.Pass, "")
	}
	return c
}

// stopped is the cell of a kernel that does not come to its end.
func stopped(image string) results.Cell {
	c := results.Cell{Program: "fixedfile"}
	add := func(name string, v event.Verdict, s results.Stopped) {
		c.Verdict, c.Stopped = v, &s
		if name != "" {
			c.Checks = []results.Check{{Check: event.Check{Name: name, Verdict: v, Detail: "it stopped"}}}
		}
	}
	switch {
	case strings.Contains(image, "SILENT"):
		add("deadline", event.Hang, results.Stopped{Phase: results.StoppedSilent})
	case strings.Contains(image, "RESET-EARLY"):
		add("reset", event.Crash, results.Stopped{Phase: results.StoppedBoot, Last: "x86/fpu: enabled"})
	case strings.Contains(image, "RESET-LATE"):
		add("reset", event.Crash, results.Stopped{Phase: results.StoppedProgram, Last: "data"})
	case strings.Contains(image, "STUCK-EARLY"):
		add("deadline", event.Hang, results.Stopped{Phase: results.StoppedProgram, Last: "its start", Where: []string{"io_nop"}})
	case strings.Contains(image, "STUCK-LATE"):
		add("deadline", event.Hang, results.Stopped{Phase: results.StoppedProgram, Last: "data", Where: []string{"io_read"}})
	case strings.Contains(image, "NOEXEC"):
		add("", event.Error, results.Stopped{Phase: results.StoppedInit, Last: "exec: permission denied"})
		c.Reason = "program fixedfile never reported its start"
	}
	return c
}

// question asks about a local tree, without the config fragments that a real
// kernel needs.
func (b *rig) question(t *testing.T, dir, good string) (Question, *span) {
	t.Helper()
	q := Question{Program: "fixedfile", Good: good}
	q.Tree = dir
	s, err := q.resolve()
	if err != nil {
		t.Fatal(err)
	}
	s.variant = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1}
	return q, s
}

func (b *rig) mustSearch(t *testing.T, q Question, s *span) *Record {
	t.Helper()
	b.record.Check = q.Check
	r, err := b.search(t.Context(), q, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.Report())
	return r
}

var harmless = []change{{"one", ""}, {"two", ""}, {"three", ""}}

func numbered(n int, culprit int, text string) []change {
	var all []change
	for i := 1; i <= n; i++ {
		c := change{fmt.Sprintf("change %d", i), ""}
		if i == culprit {
			c.text = text
		}
		all = append(all, c)
	}
	return all
}

func TestSearchNamesTheCulprit(t *testing.T) {
	t.Parallel()
	dir := fixture(t, numbered(8, 5, leak+"const char *more = \"RARE\";\n")...)
	b := newBench(t, 1)
	q, s := b.question(t, dir, "HEAD~8")
	r := b.mustSearch(t, q, s)
	a := r.Answer
	if a.Outcome != Found || a.Culprit.Subject != "change 5" || a.Culprit.Author != "u <u@localhost>" {
		t.Fatalf("answer = %s, %+v; want change 5 found", a.Outcome, a.Culprit)
	}
	for _, want := range []string{"cured", "the bad end shows:", "hang of rare", "ring-gone", "io_ring_exit_work", "main.c", "change 4", "confidence"} {
		if !strings.Contains(r.Report(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	steps := 0
	for _, trial := range r.Trials {
		if trial.Role == roleStep {
			steps++
		}
		// What else the bad end shows is to be known; a step has told enough with the signature.
		want := 3
		if trial.Mark == kernel.Bad && trial.Role == roleStep {
			want = 2
		}
		if got := len(trial.Cells[0].Checks); got != want {
			t.Errorf("%s, %s: %d checks; want %d", trial.Role, trial.Title, got, want)
		}
	}
	if steps > 3 {
		t.Errorf("%d steps; want at most 3", steps)
	}
	if log, err := os.ReadFile(filepath.Join(r.dir(), "git-bisect.log")); err != nil || !strings.Contains(string(log), "# first bad commit: ["+a.Culprit.ID) {
		t.Errorf("git-bisect.log: %v\n%s", err, log)
	}
	// Asked again, it is answered from the log.
	b.reset()
	b.lab.Builder.Cache = filepath.Join(t.TempDir(), "empty")
	b.lab.Builder.Progress = func(p kernel.Progress) {
		if p.Step == kernel.StepCompile {
			t.Errorf("asked again, %s is built", p.Kernel)
		}
	}
	if again := b.mustSearch(t, q, s); again.Report() != r.Report() || again.Path() != r.Path() || len(b.ran) > 0 {
		t.Errorf("asked again: %d runs, %s:\n%s\nwant the same answer from %s", len(b.ran), again.Path(), again.Report(), r.Path())
	}
	b.reset()
	b.lab.Builder.Progress = nil
	q.Fresh = true
	if fresh := b.mustSearch(t, q, s); fresh.Path() == r.Path() || len(b.ran) == 0 {
		t.Errorf("with FRESH: %d runs, %s; want a search of its own", len(b.ran), fresh.Path())
	}
}

func TestInterruptedSearchGoesOn(t *testing.T) {
	t.Parallel()
	dir := fixture(t, numbered(6, 2, leak)...)
	b := newBench(t, 2)
	q, s := b.question(t, dir, "HEAD~6")
	run := b.cell
	total, interrupted := 0, 0
	var path string
	// Interrupted in the middle of every single run.
	for try := 1; ; try++ {
		if try > 40 {
			t.Fatal("the search does not come to an end")
		}
		b.reset()
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		b.cell = func(_ context.Context, c vmtest.CellSpec) results.Cell {
			if n++; n == 2 {
				cancel()
				return results.Cell{Verdict: event.Error, Reason: "interrupted"}
			}
			total++
			return run(ctx, c)
		}
		r, err := b.search(ctx, q, s)
		cancel()
		if path != "" && r.Path() != path {
			t.Fatalf("taken up in %s; want %s", r.Path(), path)
		}
		path = r.Path()
		if err == nil {
			if r.Answer.Outcome != Found || r.Answer.Culprit.Subject != "change 2" || r.Status != results.Finished {
				t.Errorf("%s, %+v; want change 2", r.Status, r.Answer)
			}
			cells := 0
			for _, trial := range r.Trials {
				cells += len(trial.Cells)
			}
			if cells != total {
				t.Errorf("%d runs made, %d recorded; want none twice", total, cells)
			}
			break
		}
		interrupted++
		if !errors.Is(err, context.Canceled) || r.Status != results.Interrupted {
			t.Fatalf("error %v, status %s; want an interruption", err, r.Status)
		}
	}
	if interrupted < 5 {
		t.Errorf("interrupted %d times; the test shows nothing", interrupted)
	}
}

func TestWhatIsNotTheSignatureIsSkipped(t *testing.T) {
	t.Parallel()
	// Two commits in the middle do not build, or fail in another way.
	changes := []change{{"a", ""}, {"breaks", wrong}, {"fix breaks", ""}, {"b", ""}, {"culprit", leak}, {"crashes", other}, {"fix crashes", ""}, {"c", ""}}
	dir := fixture(t, changes...)
	b := newBench(t, 1)
	q, s := b.question(t, dir, "HEAD~8")
	a := b.mustSearch(t, q, s).Answer
	if a.Outcome != Found || a.Culprit.Subject != "culprit" {
		t.Errorf("answer = %s %+v; want the culprit", a.Outcome, a.Culprit)
	}
	said := strings.Join(b.said, "\n")
	if strings.Contains(said, `"breaks"`) && !strings.Contains(said, "does not build") || strings.Contains(said, `"crashes"`) && !strings.Contains(said, "fails in another way") {
		t.Errorf("a skip is not explained:\n%s", said)
	}
}

func word(w string) string {
	return fmt.Sprintf("const char *%s = %q;\n", strings.ToLower(strings.ReplaceAll(w, "-", "_")), w)
}

// A guest that stopped somewhere else has another failure, which must not be taken
// for the bad end's.
func TestStopsElsewhereAreSkipped(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ early, end, want string }{
		{"STUCK-EARLY", "SILENT", "hang before a word"},
		{"SILENT", "STUCK-EARLY", "hang in the program"},
		{"STUCK-LATE", "STUCK-EARLY", "hang in the program"},
		{"RESET-LATE", "RESET-EARLY", "crash in the boot"},
		{"NOEXEC", "SILENT", "hang before a word"},
		{"STUCK-EARLY", "NOEXEC", "fail in init"},
	} {
		t.Run(test.early+" before "+test.end, func(t *testing.T) {
			t.Parallel()
			dir := fixture(t, change{"note", ""}, change{"other", word(test.early)}, change{"fix other", ""}, change{"culprit", word(test.end)})
			b := newBench(t, 1)
			q, s := b.question(t, dir, "HEAD~4")
			r := b.mustSearch(t, q, s)
			if a := r.Answer; a.Outcome != Found || a.Culprit.Subject != "culprit" || !strings.HasPrefix(a.Signature.String(), test.want) {
				t.Errorf("answer = %s, %+v, by %v; want the culprit by %q", a.Outcome, a.Culprit, a.Signature, test.want)
			}
		})
	}
}

// A kernel on which the program never begins is the harness's trouble only as long
// as no other kernel of the search gave a report.
func TestNoReportFromOneKernelIsBlamed(t *testing.T) {
	t.Parallel()
	dir := fixture(t, numbered(4, 3, word("NOEXEC"))...)
	b := newBench(t, 1)
	q, s := b.question(t, dir, "HEAD~4")
	r := b.mustSearch(t, q, s)
	if a := r.Answer; a.Outcome != Found || a.Culprit.Subject != "change 3" {
		t.Errorf("answer = %s, %+v; want change 3", a.Outcome, a.Culprit)
	}
	dir = fixture(t, change{"all", word("NOEXEC")}, change{"b", ""}, change{"c", ""})
	b = newBench(t, 1)
	q, s = b.question(t, dir, "HEAD~2")
	if a := b.mustSearch(t, q, s).Answer; a.Outcome != Untestable {
		t.Errorf("with no report from any kernel: %s; want %s", a.Outcome, Untestable)
	}
	// Once is no proof.
	dir = fixture(t, harmless...)
	b = newBench(t, 1)
	q, s = b.question(t, dir, "HEAD~3")
	bad, n, run := git(t, dir, "rev-parse", "HEAD")[:12], 0, b.cell
	b.cell = func(ctx context.Context, c vmtest.CellSpec) results.Cell {
		if c.Kernel == bad {
			if n++; n == 1 {
				return stopped("NOEXEC")
			}
		}
		return run(ctx, c)
	}
	if a := b.mustSearch(t, q, s).Answer; a.Outcome != BadIsGood {
		t.Errorf("with one report lost: %s; want %s", a.Outcome, BadIsGood)
	}
}

// The first of two commits that break the same is named by a search that halves,
// although it was undone: it is not what is wrong with the bad end.
func TestCulpritThatWasUndoneIsNotFound(t *testing.T) {
	t.Parallel()
	undone := []change{{"first", leak}, {"b", ""}, {"c", ""}, {"d", ""}, {"e", ""}, {"fix first", ""}}
	for _, test := range []struct {
		name    string
		changes []change
		want    Outcome
		text    string
	}{
		{"a later one breaks it again", append(slices.Clone(undone), change{"g", ""}, change{"again", strings.ReplaceAll(leak, "leaks", "more")}), Found, "again"},
		{"its line is rewritten and does the same", []change{{"first", leak}, {"b", ""}, {"redo first", strings.ReplaceAll(leak, "leaks", "more")}, {"d", ""}}, Found, "it shows still with 1 later commit that changed its lines"},
		{"a later commit changes the same lines", []change{{"first", "/* one */\n" + leak + "/* two */\n"}, {"b", ""}, {"redo first", "/* one */\n" + strings.ReplaceAll(leak, "leaks", "more") + "/* two */\n"}, {"d", ""}}, Found, "it shows still with 1 later commit that changed its lines"},
		{"its line is rewritten, does the same, and is cured", []change{{"first", leak}, {"b", ""}, {"redo first", strings.ReplaceAll(leak, "leaks", "more")}, {"d", ""}, {"fix first", ""}, {"f", ""}, {"again", leak}, {"h", ""}}, Found, "\"again\" is the first bad commit"},
		{"its line is rewritten twice and does the same", []change{{"first", leak}, {"b", ""}, {"redo first", strings.ReplaceAll(leak, "leaks", "more")}, {"redo first", strings.ReplaceAll(leak, "leaks", "most")}, {"e", ""}, {"f", ""}}, Found, "the bad end without it and 2 later commits that changed its lines, it is cured"},
		{"its line is rewritten, and taken out after another came", []change{{"first", leak}, {"redo first", strings.ReplaceAll(leak, "leaks", "more")}, {"c", ""}, {"another", strings.ReplaceAll(leak, "leaks", "most")}, {"redo first", "int calm;\n"}, {"f", ""}}, NotBelieved, "shows the same without it and 2 later commits"},
		{"its line is rewritten, and gone, and a later one breaks it elsewhere", []change{{"first", leak}, {"b", ""}, {"redo first", "int one;\n" + strings.ReplaceAll(leak, "leaks", "more")}, {"d", ""}, {"redo first", "int one;\n"}, {"f", ""}, {"again", leak}, {"h", ""}}, Found, "\"again\" is the first bad commit"},
		{"a later commit changes the same lines, another cures it but for one of them", []change{{"first", "int one;\n" + leak + "int two;\n"}, {"b", ""}, {"redo first", "int one;\n" + strings.ReplaceAll(leak, "leaks", "more") + "int two;\n"}, {"d", ""}, {"e", ""}, {"redo first", "int one;\nint three;\nint two;\n"}, {"g", ""}, {"again", leak}, {"i", ""}}, Found, "\"again\" is the first bad commit"},
		{"it is cured elsewhere, and its lines are changed by what breaks it again", []change{{"base", "#define ON\n"}, {"first", "#ifdef ON\n" + leak + "#endif\n"}, {"c", ""}, {"d", ""}, {"e", ""}, {"redo base", "int calm;\n"}, {"g", ""}, {"redo first", strings.ReplaceAll(leak, "leaks", "more")}, {"i", ""}}, Found, "\"redo first\" is the first bad commit"},
		{"a later commit changes the same lines and cures it", []change{{"first", "int one;\n" + leak + "int two;\n"}, {"b", ""}, {"redo first", "int one;\nint three;\nint two;\n"}, {"d", ""}, {"again", leak}, {"f", ""}}, Found, "\"again\" is the first bad commit"},
		{"it is undone but for what a later one needs that breaks it again", []change{{"base", "int one;\n"}, {"redo base", leak}, {"c", ""}, {"d", ""}, {"e", ""}, {"redo base", "int one;\nint new0 = 1;\n"}, {"g", ""}, {"again", strings.ReplaceAll(leak, "leaks", "more") + "int *needs = &new1;\n"}, {"i", ""}}, Found, "\"again\" is the first bad commit"},
		{"the undoing breaks it otherwise", append(slices.Clone(undone[:5]), change{"fix first", strings.ReplaceAll(leak, "leaks", "more")}, change{"h", ""}, change{"i", ""}), NotProven, "Try GOOD="},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			q, s := b.question(t, fixture(t, test.changes...), fmt.Sprintf("HEAD~%d", len(test.changes)))
			r := b.mustSearch(t, q, s)
			if a := r.Answer; a.Outcome != test.want || !strings.Contains(r.Report(), test.text) {
				t.Errorf("answer = %s, %q; want %s with %q", a.Outcome, a.Text, test.want, test.text)
			}
		})
	}
}

// A merged branch is searched only when its merge is the first bad commit of the main
// line, and a merge is to blame only when all that it joins is good.
func TestMerges(t *testing.T) {
	t.Parallel()
	// commit changes a file of its own, which is part of main.c by #include.
	commit := func(dir, name, text string) {
		write(t, filepath.Join(dir, name+".h"), text)
		git(t, dir, "add", "-A")
		git(t, dir, "commit", "-qm", name)
	}
	const needs = "#if __has_include(\"m2.h\") && __has_include(\"s2.h\")\nconst char *leaks = \"LEAK\";\n#endif\n"
	for _, test := range []struct {
		name           string
		culprit, text  string
		want           Outcome
		named          string
		most           int
		curedElsewhere bool
		// changedSince has the last commit change a line that the merge brought in, which
		// then does not revert.
		changedSince bool
	}{
		{name: "on the main line", culprit: "m2", text: leak, want: Found, named: "m2", most: 4},
		{name: "in the branch", culprit: "s3", text: leak, want: Found, named: "s3", most: 7},
		{name: "behind the merge", culprit: "m5", text: leak, want: Found, named: "m5", most: 4},
		{name: "the merge itself", culprit: "start", text: needs, want: Found, named: "merge", most: 7},
		{name: "the merge itself, one line changed since", culprit: "start", text: needs, want: Found, named: "merge", most: 7, changedSince: true},
		{name: "the branch began bad", culprit: "old", text: leak, want: NotBelieved, named: "s1", most: 8, curedElsewhere: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "Makefile"), strings.ReplaceAll(makefile, "$(CURDIR)/main.c", "-I $(CURDIR) $(addprefix -include ,$(filter-out $(CURDIR)/start.h,$(wildcard $(CURDIR)/*.h))) $(if $(wildcard $(CURDIR)/start.h),-include $(CURDIR)/start.h) $(CURDIR)/main.c"))
			write(t, filepath.Join(dir, "main.c"), start)
			git(t, dir, "init", "-q", "-b", "main")
			part := func(name string) {
				text := fmt.Sprintf("int %s;\n", name)
				if name == test.culprit {
					text += test.text
				}
				commit(dir, name, text)
			}
			part("old")
			git(t, dir, "branch", "side")
			if test.curedElsewhere {
				commit(dir, "old", "int old;\n")
			}
			part("start")
			for _, name := range []string{"m1", "m2", "m3", "m4"} {
				part(name)
			}
			git(t, dir, "switch", "-q", "side")
			for _, name := range []string{"s1", "s2", "s3", "s4", "s5", "s6"} {
				part(name)
			}
			git(t, dir, "switch", "-q", "main")
			git(t, dir, "merge", "-q", "--no-ff", "-m", "merge", "side")
			if test.curedElsewhere {
				git(t, dir, "checkout", "-q", "side", "--", "old.h")
				git(t, dir, "commit", "-q", "--amend", "-m", "merge")
			}
			for _, name := range []string{"m5", "m6", "m7"} {
				if test.changedSince && name == "m7" {
					write(t, filepath.Join(dir, "s6.h"), "int since;\n")
				}
				part(name)
			}
			b := newBench(t, 1)
			q, s := b.question(t, dir, "HEAD~7")
			r := b.mustSearch(t, q, s)
			if a := r.Answer; a.Outcome != test.want || a.Culprit.Subject != test.named {
				t.Errorf("answer = %s, %+v; want %s, %s", a.Outcome, a.Culprit, test.want, test.named)
			}
			steps := 0
			for _, trial := range r.Trials {
				if trial.Role == roleStep {
					steps++
				}
			}
			if steps > test.most {
				t.Errorf("%d steps; want at most %d", steps, test.most)
			}
		})
	}
}

// A merge that mends the culprit's lines and brings in what does the same is not what keeps
// the culprit's failure.
func TestMergeThatMendsAndBreaks(t *testing.T) {
	t.Parallel()
	dir := fixture(t, change{"base", "int one;\n"}, change{"a", ""}, change{"redo base", leak})
	first := git(t, dir, "rev-parse", "HEAD")
	git(t, dir, "switch", "-q", "-c", "side", "HEAD~1")
	main := filepath.Join(dir, "main.c")
	source, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	mended := strings.Replace(string(source), "int one;\n", "int two;\n", 1) + padding + strings.ReplaceAll(leak, "leaks", "more")
	write(t, main, mended)
	git(t, dir, "commit", "-qam", "breaks it elsewhere")
	git(t, dir, "switch", "-q", "-")
	git(t, dir, "merge", "-q", "-s", "ours", "--no-commit", "side")
	write(t, main, mended)
	git(t, dir, "commit", "-qam", "merge")
	b := newBench(t, 1)
	q, s := b.question(t, dir, first+"~1")
	if a := b.mustSearch(t, q, s).Answer; a.Outcome != NotProven || !strings.Contains(a.Text, "which merges") {
		t.Errorf("answer = %s, %q; want that nothing is proven since the merge", a.Outcome, a.Text)
	}
}

// A branch that began behind the culprit has it, too: what such a one did to its lines is
// followed in it, and only that is taken out.
func TestMergeOfWhatHasTheCulprit(t *testing.T) {
	t.Parallel()
	more := strings.ReplaceAll(leak, "leaks", "more")
	for _, test := range []struct {
		name     string
		branch   []string // what the culprit's line is in each of its commits
		brings   string
		want     Outcome
		contains string
	}{
		{"it rewrites the line", []string{more}, "", Found, "the bad end without its lines and what came in their place, it is cured"},
		{"it rewrites the line twice", []string{"int calls;\n" + more, more}, "", Found, "it shows still with 1 later commit that changed its lines"},
		{"it rewrites the line, and breaks it elsewhere", []string{more}, strings.ReplaceAll(leak, "leaks", "most"), NotBelieved, "the bad end shows the same without its lines"},
		{"it mends it, and breaks it again", []string{"int calm;\n", more}, "", NotProven, "in it passes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := fixture(t, change{"base", "int one;\n"}, change{"a", ""}, change{"redo base", leak})
			first := git(t, dir, "rev-parse", "HEAD")
			main := filepath.Join(dir, "main.c")
			source, err := os.ReadFile(main)
			if err != nil {
				t.Fatal(err)
			}
			git(t, dir, "switch", "-q", "-c", "side")
			for i, line := range test.branch {
				write(t, main, strings.Replace(string(source), leak, line, 1)+padding+test.brings)
				git(t, dir, "commit", "-qam", fmt.Sprint("side ", i))
			}
			git(t, dir, "switch", "-q", "-")
			write(t, filepath.Join(dir, "notes"), "main goes on")
			git(t, dir, "add", "-A")
			git(t, dir, "commit", "-qm", "main goes on")
			git(t, dir, "merge", "-q", "--no-edit", "side")
			b := newBench(t, 1)
			q, s := b.question(t, dir, first+"~1")
			r := b.mustSearch(t, q, s)
			if a := r.Answer; a.Outcome != test.want || a.Culprit.ID != first || !strings.Contains(r.Report(), test.contains) {
				t.Errorf("answer = %s, %q, %q; want %s of %q", a.Outcome, a.Text, a.Revert, test.want, test.contains)
			}
		})
	}
}

// A search that goes on behind a commit of a branch leaves out what is before it there.
func TestBranchThatBreaksMendsAndBreaks(t *testing.T) {
	t.Parallel()
	dir := fixture(t, change{"base", "int one;\n"})
	main := filepath.Join(dir, "main.c")
	source, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	git(t, dir, "switch", "-q", "-c", "side")
	for i, line := range []string{leak, leak, leak, leak, leak, "int calm;\n", strings.ReplaceAll(leak, "leaks", "more")} {
		write(t, main, strings.Replace(string(source), "int one;\n", line, 1)+padding+fmt.Sprintf("int side%d;\n", i))
		git(t, dir, "commit", "-qam", fmt.Sprint("side ", i))
	}
	git(t, dir, "switch", "-q", "-")
	git(t, dir, "merge", "-q", "--no-ff", "--no-edit", "side")
	b := newBench(t, 1)
	q, s := b.question(t, dir, "HEAD~1")
	r := b.mustSearch(t, q, s)
	if a := r.Answer; a.Outcome != Found || a.Culprit.Subject != "side 6" || !strings.Contains(strings.Join(b.said, "\n"), "The search goes on behind that") {
		t.Errorf("answer = %s, %q; want side 6, after side 0", a.Outcome, a.Text)
	}
}

func TestEverythingSkipped(t *testing.T) {
	t.Parallel()
	changes := []change{{"a", wrong}, {"b", ""}, {"c", ""}, {"fix a", leak}}
	dir := fixture(t, changes...)
	b := newBench(t, 1)
	q, s := b.question(t, dir, "HEAD~4")
	r := b.mustSearch(t, q, s)
	if a := r.Answer; a.Outcome != AllSkipped || len(a.Candidates) != 4 || !strings.Contains(r.Report(), "does not build") || !strings.Contains(a.Text, "FIXUP=") {
		t.Errorf("answer = %s, candidates %q; want four that were skipped", a.Outcome, a.Candidates)
	}
}

func TestEndsThatAreNot(t *testing.T) {
	t.Parallel()
	leaks := numbered(4, 2, leak)
	for _, test := range []struct {
		name    string
		changes []change
		good    string
		check   string
		want    Outcome
		text    string
	}{
		{"the bad end passes", harmless, "HEAD~3", "", BadIsGood, "passes"},
		{"the bad end fails otherwise", leaks, "HEAD~4", "data", OtherVerdict, "does not show CHECK=data, but hang of ring-gone"},
		{"the bad end does not build", append(slices.Clone(harmless), change{"wrong", wrong}), "HEAD~3", "data", Untestable, "does not build"},
		{"the good end fails otherwise", append([]change{{"crashes", other}}, change{"fix crashes", leak}), "HEAD~1", "", Inconclusive, "cannot serve as the good end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			q, s := b.question(t, fixture(t, test.changes...), test.good)
			q.Check = test.check
			if a := b.mustSearch(t, q, s).Answer; a.Outcome != test.want || !strings.Contains(a.Text, test.text) {
				t.Errorf("answer = %s, %q; want %s, %q", a.Outcome, a.Text, test.want, test.text)
			}
		})
	}
}

// A CHECK that nothing makes is told of after the good end's first run: neither is the bad
// end built for it nor the good end run again.
func TestUnknownCheck(t *testing.T) {
	t.Parallel()
	dir, cache := fixture(t, numbered(4, 2, leak)...), t.TempDir()
	for _, test := range []struct {
		check string
		want  Outcome
		texts []string
	}{
		{"ring-gon", Untestable, []string{`CHECK=ring-gon: the good end, `, ` made 3 checks in fixedfile, none of that name; most like it: ring-gone, `}},
		{"wrong/*", Untestable, []string{"none of that name"}},
		{"ring-*", Found, []string{"change 2"}},
		{"hang", Found, []string{"change 2"}},
		{"console", OtherVerdict, []string{"does not show CHECK=console"}},
		{"dead*", OtherVerdict, []string{"does not show CHECK=dead*"}},
	} {
		b := newBench(t, 3)
		b.lab.Builder.Cache = cache
		q, s := b.question(t, dir, "HEAD~4")
		q.Check = test.check
		a := b.mustSearch(t, q, s).Answer
		if a.Outcome != test.want {
			t.Errorf("CHECK=%s: %s; want %s", test.check, a.Outcome, test.want)
		}
		for _, text := range test.texts {
			if !strings.Contains(a.Text, text) {
				t.Errorf("CHECK=%s: %q lacks %q", test.check, a.Text, text)
			}
		}
		if test.want == Untestable && len(b.ran) != 1 {
			t.Errorf("CHECK=%s: %d runs; want the good end's first only", test.check, len(b.ran))
		}
	}
}

// The first error of the compiler is the signature; another error in between is not
// taken for it, and nothing is run to find out.
func TestBuildBreak(t *testing.T) {
	t.Parallel()
	const another = "int twice; char twice;\n"
	changes := []change{{"a", ""}, {"other", another}, {"fix other", ""}, {"b", ""}, {"culprit", wrong}, {"c", ""}, {"d", ""}}
	b := newBench(t, 1)
	q, s := b.question(t, fixture(t, changes...), "HEAD~7")
	r := b.mustSearch(t, q, s)
	if a := r.Answer; a.Outcome != Found || a.Culprit.Subject != "culprit" || !strings.Contains(a.Revert, "cured") {
		t.Errorf("answer = %s, %+v, %q; want the culprit, and a cure", a.Outcome, a.Culprit, a.Revert)
	}
	if len(b.ran) > 1 {
		t.Errorf("%d kernels were run; want the good end only", len(b.ran))
	}
	if !strings.Contains(r.Report(), "main.c:") || !strings.Contains(r.Report(), "error") {
		t.Errorf("the report lacks the compiler's error")
	}
}

// Another file that does not compile either hides the error that is searched for, and
// which of the two comes first is chance where make runs several jobs.
func TestBuildBreakBesideAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Makefile"), strings.Replace(makefile, "vmlinux: main.c", "vmlinux:", 1)+"zeta.o: zeta.c\n\t@gcc -c -o $(O)/zeta.o $(CURDIR)/zeta.c\n")
	makefile := filepath.Join(dir, "Makefile")
	text, err := os.ReadFile(makefile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, makefile, strings.Replace(string(text), "vmlinux $(CURDIR)/main.c", "vmlinux $(CURDIR)/main.c $(CURDIR)/zeta.c", 1))
	git(t, dir, "init", "-q")
	for _, c := range []struct{ subject, main, zeta string }{
		{"start", start, ""},
		{"break main", start + wrong, ""},
		{"culprit", start + wrong, "int z = ;\n"},
		{"a", start + wrong + "int a;\n", "int z = ;\n"},
		{"mend main", start + "int a;\n", "int z = ;\n"},
		{"b", start + "int a, b;\n", "int z = ;\n"},
	} {
		write(t, filepath.Join(dir, "main.c"), c.main)
		write(t, filepath.Join(dir, "zeta.c"), "int y;\n"+c.zeta)
		git(t, dir, "add", "-A")
		git(t, dir, "commit", "-q", "-m", c.subject)
	}
	b := newBench(t, 1)
	q, s := b.question(t, dir, "HEAD~5")
	q.Check, b.record.Check = buildCheck, buildCheck
	r := b.mustSearch(t, q, s)
	if a := r.Answer; a.Outcome != Found || a.Culprit.Subject != "culprit" || !strings.Contains(a.Revert, "cured") {
		t.Errorf("answer = %s, %+v, %q; want the culprit, and a cure\n%s", a.Outcome, a.Culprit, a.Revert, r.Report())
	}
	if len(b.ran) > 0 {
		t.Errorf("%d kernels were run; want none", len(b.ran))
	}
}

// Another error in the same file is told beside the one that is searched for, unless it
// is of a kind that others hide behind.
func TestBuildBreakWithAnotherInTheFile(t *testing.T) {
	t.Parallel()
	text := func(include, first, last, more string) string {
		return start + include + padding + "struct s { int id; };\nint f(struct s *s) { return s->" + first + "; }\n" + padding +
			"int l(struct s *s) { return s->" + last + "; }\n" + padding + more
	}
	type commit struct{ subject, text string }
	for name, test := range map[string]struct {
		commits []commit
		want    Outcome
	}{
		"it comes first": {[]commit{
			{"start", text("", "id", "id", "")},
			{"another", text("", "id", "other", "")},
			{"a", text("", "id", "other", "int a;\n")},
			{"culprit", text("", "none", "other", "int a;\n")},
			{"b", text("", "none", "other", "int a, b;\n")},
			{"c", text("", "none", "other", "int a, b, c;\n")},
		}, Found},
		"it comes last": {[]commit{
			{"start", text("", "id", "id", "")},
			{"another", text("", "other", "id", "")},
			{"culprit", text("", "other", "none", "")},
			{"a", text("", "other", "none", "int a;\n")},
			{"mend the other", text("", "id", "none", "int a;\n")},
			{"b", text("", "id", "none", "int a, b;\n")},
		}, Found},
		"it hides": {[]commit{
			{"start", text("", "id", "id", "")},
			{"another", text("#include \"none.h\"\n", "id", "id", "")},
			{"culprit", text("#include \"none.h\"\n", "none", "id", "")},
			{"a", text("#include \"none.h\"\n", "none", "id", "int a;\n")},
			{"mend the other", text("", "none", "id", "int a;\n")},
			{"b", text("", "none", "id", "int a, b;\n")},
		}, AllSkipped},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "Makefile"), makefile)
		git(t, dir, "init", "-q")
		for _, c := range test.commits {
			write(t, filepath.Join(dir, "main.c"), c.text)
			git(t, dir, "add", "-A")
			git(t, dir, "commit", "-q", "-m", c.subject)
		}
		b := newBench(t, 1)
		q, s := b.question(t, dir, "HEAD~5")
		q.Check, b.record.Check = buildCheck, buildCheck
		r := b.mustSearch(t, q, s)
		a := r.Answer
		if a.Outcome != test.want || test.want == Found && (a.Culprit.Subject != "culprit" || !strings.Contains(a.Revert, "cured")) {
			t.Errorf("%s: answer = %s, %+v, %q; want %s, the culprit, and a cure\n%s", name, a.Outcome, a.Culprit, a.Revert, test.want, r.Report())
		}
	}
}

func TestFindFix(t *testing.T) {
	t.Parallel()
	changes := []change{{"breaks", leak}, {"a", ""}, {"b", ""}, {"fix breaks", ""}, {"c", ""}, {"d", ""}}
	dir := fixture(t, changes...)
	changes[0].text = wrong
	unbuilt := fixture(t, changes...)
	for _, test := range []struct {
		dir, bad, good string
		want           Outcome
		text           string
	}{
		{dir, "HEAD~5", "HEAD", Found, "\"fix breaks\" is the first commit that passes again"},
		{unbuilt, "HEAD~5", "HEAD", Found, "\"fix breaks\" is the first commit that passes again"},
		{dir, "HEAD~5", "HEAD~3", GoodIsBad, "it is not cured"},
		{dir, "HEAD~1", "HEAD", BadIsGood, "passes"},
	} {
		b := newBench(t, 1)
		q := Question{Program: "fixedfile", Good: test.good, Bad: test.bad, Fix: true}
		q.Tree = test.dir
		s, err := q.resolve()
		if err != nil {
			t.Fatal(err)
		}
		s.variant = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1}
		r := b.mustSearch(t, q, s)
		if r.Answer.Outcome != test.want || !strings.Contains(r.Report(), test.text) {
			t.Errorf("from BAD=%s to GOOD=%s: %s, %q; want %s, %q", test.bad, test.good, r.Answer.Outcome, r.Answer.Text, test.want, test.text)
		}
		if test.want == Found && !strings.Contains(r.Answer.Revert, "it fails again") {
			t.Errorf("without the fix: %q; want that it fails again", r.Answer.Revert)
		}
	}
}

// What was merged may begin a history of its own, in which nothing comes before what breaks
// or what cures.
func TestBeginningOfAHistory(t *testing.T) {
	t.Parallel()
	for _, fix := range []bool{false, true} {
		own, first := leak, ""
		if fix {
			own, first = "", leak
		}
		dir := fixture(t, change{"a", first}, change{"b", ""})
		git(t, dir, "branch", "line")
		git(t, dir, "switch", "-q", "--orphan", "other")
		write(t, filepath.Join(dir, "Makefile"), makefile)
		write(t, filepath.Join(dir, "main.c"), start+own)
		git(t, dir, "add", "-A")
		git(t, dir, "commit", "-q", "-m", "beginning")
		git(t, dir, "switch", "-q", "line")
		git(t, dir, "merge", "-q", "--allow-unrelated-histories", "-X", "theirs", "-m", "merge", "other")
		git(t, dir, "checkout", "-q", "other", "--", "main.c")
		git(t, dir, "commit", "-q", "--amend", "-m", "merge")
		b := newBench(t, 1)
		q := Question{Program: "fixedfile", Good: "HEAD~1", Bad: "HEAD"}
		if fix {
			q = Question{Program: "fixedfile", Good: "HEAD", Bad: "HEAD~1", Fix: true}
		}
		q.Tree = dir
		s, err := q.resolve()
		if err != nil {
			t.Fatal(err)
		}
		s.variant = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1}
		if a := b.mustSearch(t, q, s).Answer; a.Outcome != NotProven || a.Culprit.Subject != "beginning" {
			t.Errorf("fix %v: %s, %q; want the beginning, not proven", fix, a.Outcome, a.Text)
		}
	}
}

func TestRangesThatAreNone(t *testing.T) {
	t.Parallel()
	dir := fixture(t, harmless...)
	git(t, dir, "branch", "side", "HEAD~2")
	git(t, dir, "switch", "-q", "side")
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "on the side")
	git(t, dir, "switch", "-q", "-")
	for _, test := range []struct{ good, bad, want string }{
		{"side", "HEAD", "is not an ancestor of BAD=HEAD"},
		{"HEAD", "HEAD~1", "comes after BAD=HEAD~1"},
		{"HEAD", "HEAD", "are the same commit"},
		{"nowhere", "HEAD", `has no commit "nowhere"`},
		{"HEAD~2", "nowhere", `has no commit "nowhere"`},
	} {
		b := newBench(t, 1)
		q := Question{Program: "fixedfile", Good: test.good, Bad: test.bad}
		q.Tree = dir
		s, err := q.resolve()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.search(t.Context(), q, s); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("GOOD=%s BAD=%s: %v; want %q", test.good, test.bad, err, test.want)
		}
	}
}

func TestBaseThatDoesItAlready(t *testing.T) {
	t.Parallel()
	// In a local tree the search goes on below the good end.
	dir := fixture(t, numbered(25, 4, leak)...)
	b := newBench(t, 1)
	q, s := b.question(t, dir, "HEAD~2")
	if a := b.mustSearch(t, q, s).Answer; a.Outcome != Found || a.Culprit.Subject != "change 4" {
		t.Errorf("answer = %s %+v; want change 4, found below the good end", a.Outcome, a.Culprit)
	}
	if said := strings.Join(b.said, "\n"); !strings.Contains(said, "the base already does this: hang of ring-gone on") {
		t.Errorf("it was not said that the base does it:\n%s", said)
	}
	// A tree that always did.
	dir = fixture(t, change{"culprit", leak}, change{"a", ""}, change{"b", ""})
	b = newBench(t, 1)
	git(t, dir, "checkout", "-q", "--orphan", "cut", "HEAD~1")
	git(t, dir, "commit", "-q", "-m", "all at once")
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "more")
	q, s = b.question(t, dir, "HEAD~1")
	if a := b.mustSearch(t, q, s).Answer; a.Outcome != BaseDoes || !strings.Contains(a.Text, "no older commit is known to be good") {
		t.Errorf("answer = %s %q; want that there is no good commit", a.Outcome, a.Text)
	}
}

func TestCulpritWithItsParentsCodeIsNotBelieved(t *testing.T) {
	t.Parallel()
	dir := fixture(t, change{"a", ""}, change{"b", ""}, change{"c", ""})
	for _, note := range []string{"nothing", "nothing more"} {
		write(t, filepath.Join(dir, "notes"), note)
		git(t, dir, "add", "notes")
		git(t, dir, "commit", "-qm", note)
	}
	b := newBench(t, 1)
	// A failure that comes and goes by itself: not on the ends' parents.
	bad := map[string]bool{}
	for _, rev := range []string{"HEAD", "HEAD~1"} {
		bad[git(t, dir, "rev-parse", rev)[:12]] = true
	}
	b.cell = func(_ context.Context, c vmtest.CellSpec) results.Cell {
		if bad[c.Kernel] {
			return made("LEAK")
		}
		return made("")
	}
	q, s := b.question(t, dir, "HEAD~4")
	if a := b.mustSearch(t, q, s).Answer; a.Outcome != NotProven {
		t.Errorf("answer = %s, %q; want that nothing is proven", a.Outcome, a.Text)
	}
}

// The commit before the one that git bisect names is the real one, and passed by luck.
func TestCulpritWhoseParentPassedByLuck(t *testing.T) {
	t.Parallel()
	dir := fixture(t, change{"a", ""}, change{"real", leak}, change{"named", ""}, change{"b", ""})
	b := newBench(t, 1)
	lucky := git(t, dir, "rev-parse", "HEAD~2")[:12]
	run, runs := b.cell, 0
	b.cell = func(ctx context.Context, c vmtest.CellSpec) results.Cell {
		if c.Kernel == lucky {
			if runs++; runs == 1 {
				return made("")
			}
		}
		return run(ctx, c)
	}
	q, s := b.question(t, dir, "HEAD~4")
	r := b.mustSearch(t, q, s)
	if a := r.Answer; a.Outcome != Found || a.Culprit.Subject != "real" || !a.Quorum {
		t.Errorf("answer = %s, %q; want the real one, found by quorum", a.Outcome, a.Text)
	}
	// Asked again, it is answered from the record.
	b.reset()
	b.count, b.confidence = 1, 0
	if again := b.mustSearch(t, q, s); again.Answer.Text != r.Answer.Text || len(b.ran) > 0 {
		t.Errorf("asked again, %d runs: %q; want the same from the record", len(b.ran), again.Answer.Text)
	}
}

// Where two commits break the same, the first is named, and the way to the other.
func TestFirstOfSeveral(t *testing.T) {
	t.Parallel()
	for _, text := range []string{leak, wrong} {
		dir := fixture(t, change{"a", ""}, change{"first", text}, change{"b", ""}, change{"second", strings.NewReplacer("leaks", "more", "this", "that").Replace(text)}, change{"c", ""})
		b := newBench(t, 1)
		q, s := b.question(t, dir, "HEAD~5")
		a := b.mustSearch(t, q, s).Answer
		if text == wrong {
			// The compiler has another first error without it.
			if a.Outcome != Found || a.Culprit.Subject != "first" {
				t.Errorf("answer = %s, %q; want the first", a.Outcome, a.Text)
			}
			continue
		}
		if a.Outcome != FirstOfSeveral || a.Culprit.Subject != "first" {
			t.Errorf("answer = %s, %q; want the first of several", a.Outcome, a.Text)
		}
		patch, good, _ := strings.Cut(a.Text, " with GOOD=")
		_, q.Patch, _ = strings.Cut(patch, "PATCH=")
		q.Good, _, _ = strings.Cut(good, " ")
		next, err := q.resolve()
		if err != nil {
			t.Fatal(err)
		}
		next.variant = s.variant
		b.reset()
		if a := b.mustSearch(t, q, next).Answer; a.Outcome != Found || a.Culprit.Subject != "second" {
			t.Errorf("with the first reverted: %s, %q; want the second", a.Outcome, a.Text)
		}
	}
}

// So it is where the kernel complains in one place or another: each run of the first one
// fails, if not always alike.
func TestFirstOfSeveralWithTwoFaces(t *testing.T) {
	t.Parallel()
	dir := fixture(t, change{"a", ""}, change{"first", other}, change{"b", ""}, change{"second", strings.Replace(other, "panics", "more", 1)}, change{"c", ""})
	b := newBench(t, 1)
	run, n := b.cell, 0
	b.cell = func(ctx context.Context, spec vmtest.CellSpec) results.Cell {
		c := run(ctx, spec)
		for i, k := range c.Checks {
			if k.Name == subjects.ConsoleCheck {
				if n++; n%4 == 0 {
					c.Checks[i].Detail = "general protection fault in io_submit\n\nstack"
				}
			}
		}
		return c
	}
	q, s := b.question(t, dir, "HEAD~5")
	if a := b.mustSearch(t, q, s).Answer; a.Outcome != FirstOfSeveral || a.Culprit.Subject != "first" || n < 4 {
		t.Errorf("answer = %s, %q after %d failures; want the first of several", a.Outcome, a.Text, n)
	}
}

// patchOf writes the last commits of a tree as a mailbox and takes them off it.
func patchOf(t *testing.T, dir string, commits int) string {
	t.Helper()
	mbox := filepath.Join(t.TempDir(), "series.mbox")
	write(t, mbox, git(t, dir, "format-patch", "--stdout", fmt.Sprintf("HEAD~%d", commits))+"\n")
	git(t, dir, "reset", "-q", "--hard", fmt.Sprintf("HEAD~%d", commits))
	return mbox
}

func TestSeriesOnATree(t *testing.T) {
	t.Parallel()
	dir := fixture(t, numbered(6, 5, leak)...)
	b := newBench(t, 1)
	q := Question{Program: "fixedfile"}
	q.Tree, q.Patch = dir, patchOf(t, dir, 4)
	s, err := q.resolve()
	if err != nil {
		t.Fatal(err)
	}
	s.variant = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1}
	a := b.mustSearch(t, q, s).Answer
	if a.Outcome != Found || !strings.HasPrefix(a.Title, `patch 3 of 4, "change 5"`) {
		t.Errorf("answer = %s, %q; want patch 3 of 4", a.Outcome, a.Title)
	}
	if head := git(t, dir, "log", "-1", "--format=%s"); head != "change 2" {
		t.Errorf("the user's tree is at %q now", head)
	}
}

// What the patched kernel shows beside what its base does must not be taken for
// the patch's: seen with the mail on v5.7.14, where a check that hangs now and
// then did so on the patched kernel only.
func TestBaseIsBlamedBeforeThePatch(t *testing.T) {
	t.Parallel()
	dir := fixture(t, append(numbered(6, 3, leak), change{"the patch", "const char *rare = \"RARE\";\n"})...)
	b := newBench(t, 1)
	q := Question{Program: "fixedfile"}
	q.Tree, q.Patch = dir, patchOf(t, dir, 1)
	search := func(check string) *Answer {
		q.Check = check
		s, err := q.resolve()
		if err != nil {
			t.Fatal(err)
		}
		s.variant = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1}
		b.reset()
		return b.mustSearch(t, q, s).Answer
	}
	if a := search(""); a.Outcome != Found || a.Culprit.Subject != "change 3" {
		t.Errorf("answer = %s, %+v; want change 3, below the base", a.Outcome, a.Culprit)
	}
	said := strings.Join(b.said, "\n")
	for _, want := range []string{"the base already does this: hang of ring-gone", "Only the bad end shows hang of rare; CHECK=rare searches for that"} {
		if !strings.Contains(said, want) {
			t.Errorf("it was not said: %q\n%s", want, said)
		}
	}
	if a := search("rare"); a.Outcome != Found || a.Culprit.Subject != "the patch" {
		t.Errorf("asked for the other check: %s, %+v; want the patch", a.Outcome, a.Culprit)
	}
}

func TestPatchOnTopOfEveryCommit(t *testing.T) {
	t.Parallel()
	dir := fixture(t, numbered(3, 0, "")...)
	edit := func(old, text, subject string) {
		file := filepath.Join(dir, "main.c")
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, strings.Replace(string(source), old, text, 1))
		git(t, dir, "commit", "-qam", subject)
	}
	// The patch does not apply where its line is not what it was.
	edit("int new0 = 1;", "int away = 1;", "moves away")
	edit("int new2 = 3;", "int new2 = 4;", "harmless")
	edit("int away = 1;", "int new0 = 1;", "moves back")
	edit("int new1 = 2;", leak+"int new1 = 2;", "culprit")
	edit("int new0 = 1;", "int new0 = 9;", "on top")
	b := newBench(t, 1)
	q := Question{Program: "fixedfile", Good: "HEAD~4"}
	q.Tree, q.Patch = dir, patchOf(t, dir, 1)
	s, err := q.resolve()
	if err != nil {
		t.Fatal(err)
	}
	s.variant = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1}
	r := b.mustSearch(t, q, s)
	if a := r.Answer; a.Outcome != Found || a.Culprit.Subject != "culprit" {
		t.Errorf("answer = %s, %+v; want the culprit", a.Outcome, a.Culprit)
	}
	for _, want := range []string{"without the patch: bad", `skipped: patch 1, "on top", does not apply`} {
		if !strings.Contains(r.Report(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
}

// Commits that need a fix-up to build are not skipped, and it changes no answer.
func TestFixup(t *testing.T) {
	t.Parallel()
	const broken = "int broken(void) { return missing; }\n"
	changes := []change{{"a", ""}, {"breaks", broken}, {"b", ""}, {"culprit", leak}, {"c", ""}, {"d", ""}, {"fix breaks", ""}, {"e", ""}}
	dir := fixture(t, changes...)
	fix := filepath.Join(t.TempDir(), "fix.patch")
	write(t, fix, git(t, dir, "diff", "HEAD~6", "HEAD~7")+"\n")
	for _, test := range []struct {
		name, fixup string
		want        Outcome
	}{
		{"none", "", AllSkipped},
		{"where it applies", fix, Found},
		{"by range", fix + " HEAD~7..HEAD~2", Found},
		{"by a range that leaves out what needs it", fix + " HEAD~7..HEAD~7", AllSkipped},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			q := Question{Program: "fixedfile", Good: "HEAD~8", Fixup: test.fixup}
			q.Tree = dir
			s, err := q.resolve()
			if err != nil {
				t.Fatal(err)
			}
			s.variant = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1}
			r := b.mustSearch(t, q, s)
			if a := r.Answer; a.Outcome != test.want || test.want == Found && a.Culprit.Subject != "culprit" {
				t.Errorf("answer = %s, %+v; want %s", a.Outcome, a.Culprit, test.want)
			}
			if said := strings.Contains(r.Report(), "with FIXUP fix"); said != (test.want == Found) {
				t.Errorf("the report says that there is a fix-up: %v", said)
			}
		})
	}
	for fixup, want := range map[string]string{"/no/such.patch": "FIXUP: ", fix + " ..HEAD": "want a range A..B", fix + " no..HEAD": `has no commit "no"`} {
		b := newBench(t, 1)
		q := Question{Program: "fixedfile", Good: "HEAD~8", Fixup: fixup}
		q.Tree = dir
		s, err := q.resolve()
		if err == nil {
			_, err = b.search(t.Context(), q, s)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("FIXUP=%s: %v; want %q", fixup, err, want)
		}
	}
}

// A pipe would be waited for.
func TestConfigEndThatIsNoFile(t *testing.T) {
	for _, file := range []string{"/dev/null", t.TempDir()} {
		if _, err := configEnd(&kernel.Lineup{}, kernel.Variant{}, "GOOD", file); err == nil || !strings.Contains(err.Error(), "GOOD="+file) || !strings.HasSuffix(err.Error(), "not a regular file") {
			t.Errorf("configEnd(%s) = %v; want it refused", file, err)
		}
	}
}

func TestConfigSearch(t *testing.T) {
	t.Parallel()
	const good, bad = "CONFIG_A=y\n# CONFIG_C is not set\nCONFIG_N=4\n", "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\nCONFIG_D=y\nCONFIG_E=y\nCONFIG_N=8\n"
	has := func(options ...string) func(string) bool {
		return func(config string) bool {
			for _, o := range options {
				if !strings.Contains(config, o) {
					return false
				}
			}
			return true
		}
	}
	for _, test := range []struct {
		name      string
		good, bad string
		fails     func(config string) bool
		want      Outcome
		options   []string
	}{
		{"one option", good, bad, has("CONFIG_C=y"), Found, []string{"CONFIG_C=y (good: # CONFIG_C is not set)"}},
		{"a number", good, bad, has("CONFIG_N=8"), Found, []string{"CONFIG_N=8 (good: CONFIG_N=4)"}},
		{"two together", good, bad, has("CONFIG_B=y", "CONFIG_E=y"), Found, []string{"CONFIG_E=y (good: # CONFIG_E is not set)", "CONFIG_B=y (good: # CONFIG_B is not set)"}},
		{"what it depends on", "CONFIG_N=4\n", bad, has("CONFIG_B=y"), Found, []string{"CONFIG_B=y (good: # CONFIG_B is not set)", "CONFIG_A=y (good: # CONFIG_A is not set)"}},
		{"either of two", good, bad, func(c string) bool { return has("CONFIG_C=y")(c) || has("CONFIG_E=y")(c) }, NotBelieved, []string{"CONFIG_C=y (good: # CONFIG_C is not set)"}},
		{"neither", good, bad, func(string) bool { return false }, BadIsGood, nil},
		{"both ends", good, bad, func(string) bool { return true }, GoodIsBad, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			b.bug = func(config string) string {
				if test.fails(config) {
					return "LEAK"
				}
				return ""
			}
			span := &configSpan{spec: kernel.Spec{Name: "base", Pin: kernel.Pin{Name: "tree"}, Tree: fixture(t), Rev: "HEAD"}}
			for text, v := range map[string]*kernel.Variant{test.good: &span.good, test.bad: &span.bad} {
				*v = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1, Over: []kernel.Fragment{{Name: "file", Text: text}}}
			}
			r, err := b.searchConfig(t.Context(), Question{Program: "fixedfile"}, span)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(r.Report())
			if r.Answer.Outcome != test.want || !slices.Equal(r.Answer.Options, test.options) {
				t.Errorf("answer = %s, %q; want %s, %q", r.Answer.Outcome, r.Answer.Options, test.want, test.options)
			}
			if len(b.ran) > 12 {
				t.Errorf("%d runs for 5 options", len(b.ran))
			}
		})
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	hang := func(name, detail string) results.Cell {
		return results.Cell{Verdict: event.Hang, Checks: []results.Check{
			{Check: event.Check{Name: "known", Verdict: event.Hang, Detail: "io_wqe_worker-0 (48) state S\n[<0>] pipe_read+0x355/0x3e0\n"}, Expected: true, KnownIssue: "as always"},
			{Check: event.Check{Name: name, Verdict: event.Hang, Detail: detail}},
		}}
	}
	good := results.Cell{Verdict: event.Hang, Checks: []results.Check{hang("", "").Checks[0], {Check: event.Check{Name: "ring-gone", Verdict: event.Pass}, Expected: true}}}
	bad := hang("ring-gone", stack+"io_wqe_worker-0 (48) state S\n[<0>] pipe_read+0x355/0x3e0\n")
	sig, ok := signatureOf([]results.Cell{good}, []results.Cell{bad}, "")
	if !ok || sig.Check != "ring-gone" || !slices.Equal(sig.Blocked, []string{"io_sqe_files_unregister", "io_ring_exit_work"}) {
		t.Fatalf("signature = %+v, %v; want ring-gone, blocked where only the bad end is", sig.Symptom, ok)
	}
	crash := made("PANIC")
	for _, test := range []struct {
		name string
		cell results.Cell
		want kernel.Mark
	}{
		{"the same", bad, kernel.Bad},
		{"the known issue only", good, kernel.Good},
		{"blocked elsewhere", hang("ring-gone", "kworker (3) state D\n[<0>] nvme_reset_work+0x1/0x2\n"), kernel.Skip},
		{"another check", hang("data", stack), kernel.Skip},
		{"a crash", crash, kernel.Skip},
		{"no such check", results.Cell{Verdict: event.Pass, Checks: []results.Check{{Check: event.Check{Name: "data", Verdict: event.Pass}}}}, kernel.Skip},
		{"the harness's trouble", results.Cell{Verdict: event.Error, Reason: "no report"}, kernel.Skip},
	} {
		if got, why := sig.judge([]results.Cell{test.cell}); got != test.want {
			t.Errorf("judge(%s) = %s, %s; want %s", test.name, got, why, test.want)
		}
	}
	// Asked for, a known issue is searched like any other.
	if _, ok := signatureOf([]results.Cell{made("")}, []results.Cell{good}, "known"); !ok {
		t.Error("a known issue that was asked for is no signature")
	}
	if sig, ok := signatureOf([]results.Cell{good}, []results.Cell{bad}, "known"); !ok || !sig.onGood {
		t.Error("that the good end shows it too is not seen")
	}
	// The gravest comes first.
	both := crash
	both.Checks = append(slices.Clone(bad.Checks), crash.Checks...)
	if sig, _ := signatureOf([]results.Cell{good}, []results.Cell{both}, ""); sig.Verdict != event.Crash || sig.Title != "kernel BUG at fs/io_uring.c" {
		t.Errorf("signature = %+v; want the crash", sig.Symptom)
	}
	if sig, _ := signatureOf([]results.Cell{good}, []results.Cell{both}, "hang"); sig.Check != "ring-gone" {
		t.Errorf("signature = %+v; want the hang that was asked for", sig.Symptom)
	}
}

func TestConfidence(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		odds odds
		want float64
	}{
		// One failure in one run: a bad kernel fails in 2 of 3, and 1 of 3 good
		// kernels passed by luck.
		{odds{failed: 1, runs: 1, passes: []int{1}}, 2. / 3},
		{odds{failed: 1, runs: 1, passes: []int{1, 1}}, 4. / 9},
		{odds{failed: 1, runs: 1, passes: []int{1, 1}, cured: 1}, 1 - 5./27},
		{odds{failed: 1, runs: 1, passes: []int{2}}, 8. / 9},
		// Half of the time.
		{odds{failed: 1, runs: 2, passes: []int{3}}, 7. / 8},
		{odds{failed: 8, runs: 8}, 1},
	} {
		if got := test.odds.confidence(); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("confidence of %+v = %v; want %v", test.odds, got, test.want)
		}
	}
}

// Runs of a kernel go side by side, and those that end before an interruption are kept as far as
// none before them is missing.
func TestRunsSideBySide(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// cut is the run at whose end the search is interrupted.
		cut, most int
	}{{"all", 0, 3}, {"the second interrupted", 2, 1}} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, 3)
			b.record.path = filepath.Join(t.TempDir(), "bisect.json")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var inside sync.WaitGroup
			inside.Add(3)
			b.cell = func(ctx context.Context, s vmtest.CellSpec) results.Cell {
				inside.Done()
				inside.Wait()
				return results.Cell{Iteration: s.Iteration, Verdict: event.Pass}
			}
			if test.cut > 0 {
				whole := b.cell
				b.cell = func(ctx context.Context, s vmtest.CellSpec) results.Cell {
					c := whole(ctx, s)
					if s.Iteration == test.cut {
						cancel()
					}
					if s.Iteration >= test.cut {
						<-ctx.Done()
					}
					return c
				}
			}
			trial := &Trial{Key: "k"}
			err := b.run(ctx, subject{key: "k"}, trial, &kernel.Built{Vmlinux: "vmlinux"}, question{}, 3)
			if (err != nil) != (test.cut > 0) {
				t.Errorf("run() = %v", err)
			}
			for i, c := range trial.Cells {
				if c.Iteration != i+1 {
					t.Errorf("run %d is listed as %d", c.Iteration, i+1)
				}
			}
			// Whether the first was done in time is a matter of luck.
			if n := len(trial.Cells); n > test.most || test.cut == 0 && n != test.most {
				t.Errorf("%d runs are kept; want %d", n, test.most)
			}
		})
	}
}
