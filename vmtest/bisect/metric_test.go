package bisect

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"patchproof/guest/event"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/counter"
)

// big is data that a kernel grows by.
func big(name string, bytes int) string { return fmt.Sprintf("char %s[%d] = {1};\n", name, bytes) }

func TestSizeMetric(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		changes []change
		metric  string
		want    Outcome
		text    string
	}{
		{"one commit among small ones", []change{{"a", big("a", 32)}, {"b", big("b", 16)}, {"grows", big("c", 4000)}, {"d", big("d", 24)}, {"shrinks", ""}}, "size .data", Found, `"grows" is the first commit with the larger size of .data: +4`},
		{"the whole", []change{{"a", ""}, {"grows", big("c", 4000)}, {"d", ""}}, "size vmlinux", Found, `"grows" is the first`},
		{"code", []change{{"a", ""}, {"grows", "int sum(int a) { return a * a + 1; }\n"}, {"d", ""}}, "size .text", Found, `"grows" is the first`},
		{"bit by bit", []change{{"a", big("a", 640)}, {"b", big("b", 640)}, {"c", big("c", 640)}, {"d", big("d", 640)}, {"e", big("e", 640)}, {"f", big("f", 640)}}, "size .data", NotProven, "bit by bit"},
		{"nothing", harmless, "size .text", BadIsGood, "the ends do not differ in the size of .text"},
		{"no such section", harmless, "size .none", Untestable, "is 0 at both ends"},
		{"one that does not build", []change{{"a", ""}, {"breaks", wrong}, {"fix breaks", ""}, {"grows", big("c", 4000)}}, "size .data", Found, `"grows" is the first`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			q, s := b.question(t, fixture(t, test.changes...), fmt.Sprintf("HEAD~%d", len(test.changes)))
			q.Metric = test.metric
			var err error
			if b.metric, err = metricOf(q.Metric); err != nil {
				t.Fatal(err)
			}
			r := b.mustSearch(t, q, s)
			if a := r.Answer; a.Outcome != test.want || !strings.Contains(a.Text, test.text) {
				t.Errorf("answer = %s, %q; want %s, %q", a.Outcome, a.Text, test.want, test.text)
			}
			if len(b.ran) > 0 {
				t.Errorf("%d kernels were run for a size", len(b.ran))
			}
		})
	}
}

// cost is a word by which a kernel says how many instructions it needs more.
var cost = regexp.MustCompile(`COST([0-9]+)`)

func TestInsnsMetric(t *testing.T) {
	t.Parallel()
	word := func(n int) string { return fmt.Sprintf("const char *cost%d = \"COST%d\";\n", n, n) }
	for _, test := range []struct {
		name    string
		changes []change
		noise   float64
		want    Outcome
		text    string
	}{
		{"exact", []change{{"a", ""}, {"b", word(1)}, {"slower", word(60)}, {"d", word(2)}, {"e", ""}}, 0, Found, `"slower" is the first commit with the larger instructions of Nop/batch=32: +60.00 insns/op`},
		{"beside noise", []change{{"a", ""}, {"b", word(1)}, {"slower", word(60)}, {"d", word(2)}, {"e", ""}}, 4, Found, `"slower" is the first`},
		{"less than the noise", []change{{"a", ""}, {"b", word(3)}, {"c", ""}, {"d", ""}}, 4, BadIsGood, "runs of one kernel differ by"},
		{"in two halves", []change{{"a", ""}, {"first", word(50)}, {"b", ""}, {"second", word(51)}}, 4, AllSkipped, "one of 3 commits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1)
			random := rand.New(rand.NewPCG(1, 2))
			b.cell = func(_ context.Context, s vmtest.CellSpec) results.Cell {
				image, err := os.ReadFile(s.Image)
				if err != nil {
					t.Error(err)
				}
				v := 600 + test.noise*random.Float64()
				for _, found := range cost.FindAllSubmatch(image, -1) {
					n, _ := strconv.Atoi(string(found[1]))
					v += float64(n)
				}
				labels := map[string]string{counter.LabelBench: "Nop/batch=32"}
				return results.Cell{Verdict: event.Pass, Metrics: []event.Metric{
					{Name: counter.MetricOps, Value: 1000, Labels: labels}, {Name: counter.MetricInsns, Value: v, Unit: "insns/op", Labels: labels}}}
			}
			q, s := b.question(t, fixture(t, test.changes...), fmt.Sprintf("HEAD~%d", len(test.changes)))
			q.Metric = "insns bench=Nop/batch=32"
			b.metric, _ = metricOf(q.Metric)
			if a := b.mustSearch(t, q, s).Answer; a.Outcome != test.want || !strings.Contains(a.Text, test.text) {
				t.Errorf("answer = %s, %q; want %s, %q", a.Outcome, a.Text, test.want, test.text)
			}
		})
	}
}

// A file that was renamed in the range is the same file, for warnings and for errors: who
// renamed it is not to blame.
func TestRenamedFile(t *testing.T) {
	t.Parallel()
	build := strings.Replace(makefile, "vmlinux: main.c", "vmlinux:", 1)
	build = strings.ReplaceAll(build, "$(CURDIR)/main.c", "$(firstword $(wildcard $(CURDIR)/m*.c))")
	build = strings.Replace(build, "main.o: main.c", "moved.o: moved.c\n\t@gcc -c -o $(O)/moved.o $(CURDIR)/moved.c\nmain.o: main.c", 1)
	for _, test := range []struct {
		name, culprit string
		checks        []string
	}{
		{"warning", "#warning \"beware\"\n", []string{"moved.c", "main.c"}},
		{"error", wrong, []string{""}},
	} {
		dir := t.TempDir()
		git(t, dir, "init", "-q")
		write(t, filepath.Join(dir, "Makefile"), build)
		write(t, filepath.Join(dir, "main.c"), start+padding)
		commit := func(subject string) {
			git(t, dir, "add", "-A")
			git(t, dir, "commit", "-q", "--allow-empty", "-m", subject)
		}
		commit("start")
		commit("a")
		write(t, filepath.Join(dir, "main.c"), start+padding+test.culprit)
		commit("culprit")
		commit("b")
		git(t, dir, "mv", "main.c", "moved.c")
		commit("renames")
		commit("c")
		for _, check := range test.checks {
			t.Run(test.name+" "+check, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, 1)
				q, s := b.question(t, dir, "HEAD~5")
				q.Check, q.Warning = check, test.name == "warning"
				if q.Warning {
					var err error
					if b.warned, err = warnedOf(q.Check); err != nil {
						t.Fatal(err)
					}
				}
				a := b.mustSearch(t, q, s).Answer
				if a.Outcome != Found || a.Culprit.Subject != "culprit" || !strings.Contains(a.Revert, "cured") {
					t.Errorf("answer = %s, %q, %q; want the culprit, and a cure", a.Outcome, a.Text, a.Revert)
				}
			})
		}
	}
}

// A warning of the compiler is found without a kernel, whatever else it warns of.
func TestFindWarning(t *testing.T) {
	t.Parallel()
	const warns, another = "#warning \"beware\"\n", "#warning \"of old\"\n"
	for _, test := range []struct {
		name, check string
		changes     []change
		want        Outcome
		text        string
	}{
		{"a new one", "main.c", []change{{"a", another}, {"b", ""}, {"warns", warns}, {"c", ""}, {"d", ""}}, Found, `"warns" is the first bad commit`},
		{"by its words", "main.c: of old", []change{{"b", ""}, {"warns", warns}, {"old", another}, {"c", ""}}, Found, `"old" is the first bad commit`},
		{"none", "main.c", harmless, BadIsGood, "is compiled without a warning of main.c"},
		{"no such file", "other.c", harmless, Untestable, "has no such file; most like it: main.c"},
		{"beside one that does not build", "main.c", []change{{"a", ""}, {"breaks", wrong}, {"fix breaks", ""}, {"warns", warns}}, Found, `"warns" is the first`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := fixture(t, test.changes...)
			b := newBench(t, 1)
			good := fmt.Sprintf("HEAD~%d", len(test.changes))
			if test.check == "main.c" && test.want == Found && test.changes[0].text == another {
				good = fmt.Sprintf("HEAD~%d", len(test.changes)-1)
			}
			q, s := b.question(t, dir, good)
			q.Warning, q.Check = true, test.check
			var err error
			if b.warned, err = warnedOf(q.Check); err != nil {
				t.Fatal(err)
			}
			r := b.mustSearch(t, q, s)
			if a := r.Answer; a.Outcome != test.want || !strings.Contains(a.Text, test.text) {
				t.Errorf("answer = %s, %q; want %s, %q", a.Outcome, a.Text, test.want, test.text)
			}
			if test.want == Found && !strings.Contains(r.Answer.Revert, "cured") && test.changes[len(test.changes)-1].subject != "warns" {
				t.Errorf("without it: %q; want that it is cured", r.Answer.Revert)
			}
			if len(b.ran) > 0 {
				t.Errorf("%d kernels were run for a warning", len(b.ran))
			}
		})
	}
	for _, check := range []string{"", "main.h", "/etc/main.c", "../main.c"} {
		if _, err := warnedOf(check); err == nil {
			t.Errorf("CHECK=%s is taken", check)
		}
	}
}

// What can stop a search is said before a kernel is built.
func TestWhatCannotBeSearched(t *testing.T) {
	t.Chdir(source)
	for _, test := range []struct {
		vars map[string]string
		want string // "" is that it can be
	}{
		{map[string]string{"METRIC": "insns bench=Nop/batch=32"}, ""},
		{map[string]string{"METRIC": "insns bench=Nop/batch=3x"}, "no such workload; known: Nop/batch=1, Nop/batch=2, "},
		{map[string]string{"METRIC": "insns bench=nop/batch=32"}, "no such workload"},
		{map[string]string{"METRIC": "insns bench=Nop/batch=32", "PROGRAM": "bench-nop"}, ""},
		{map[string]string{"METRIC": "insns bench=Nop/batch=32", "PROGRAM": "nop"}, `unknown PROGRAM "nop"; known: bench-nop, bench-file`},
		{map[string]string{"METRIC": "insns bench=Nop/batch=32", "PROGRAM": "bench-file"}, "PROGRAM=bench-file does not run it; bench-nop does"},
		{map[string]string{"METRIC": "insns bench=Nop/cpus=2/batch=32"}, "want PROGRAM, one of bench-cpus-1, bench-cpus-2"},
		{map[string]string{"METRIC": "insns bench=Nop/cpus=2/batch=32", "PROGRAM": "bench-cpus-2"}, ""},
		{map[string]string{"CHECK": "nvme-polled/*"}, ""},
		{map[string]string{"CHECK": "hang"}, ""},
		{map[string]string{"CHECK": "["}, `CHECK=[: "[" stands for nothing here; want a check's name`},
		{map[string]string{"CHECK": "nvme-*/exits"}, `"*" stands for nothing here`},
		{map[string]string{"CHECK": "*"}, "names nothing"},
		{map[string]string{"CHECK": "pass"}, "CHECK=pass: a search goes by what is wrong"},
		{map[string]string{"FIND": "fixx"}, "FIND=fixx: want break, fix"},
		{map[string]string{"FIXUP": "/nosuch.patch"}, "FIXUP"},
		{map[string]string{"PROGRAM": "nopp"}, `unknown PROGRAM "nopp"; known: `},
	} {
		q, err := FromEnv(func(name string) string { return test.vars[name] })
		if err == nil {
			err = Check(q)
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: error %v; want %q", test.vars, err, test.want)
		}
	}
}

func TestMetricsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"size", "size text", "insns", "insns Nop", "time bench=Nop", "insns bench="} {
		if _, err := metricOf(text); err == nil || !strings.Contains(err.Error(), "METRIC="+text+": want") {
			t.Errorf("METRIC=%s: %v; want what it can be", text, err)
		}
	}
}
