package results

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	gmhtml "github.com/yuin/goldmark/renderer/html"

	"patchproof/guest/event"
)

// told fills in what a reply says of a run's kernels and host.
func told(r *Run) *Run {
	r.ID, r.QEMU = "20260301-225959.123", "7.2.22"
	r.Started = time.Date(2026, 3, 1, 22, 59, 59, 0, time.UTC)
	r.Finished = r.Started.Add(90 * time.Second)
	r.Accel = Accel{Name: "tcg", Reason: "no KVM"}
	r.Host = Host{OS: "Debian 12", Kernel: "6.1.0", CPU: "a CPU", CPUs: 2}
	for i := range r.Kernels {
		k := &r.Kernels[i]
		k.Pin, k.Compiler = "v5.10.13", "gcc (Debian 12.2.0-14) 12.2.0"
		k.ConfigHash = strings.Repeat("c0ffee", 10)
		k.Commit, k.Tree = fmt.Sprintf("%d1111111111111", i), fmt.Sprintf("%d2222222222222", i)
	}
	return r
}

// counted adds figures, two boots of each kernel.
func counted(r *Run) *Run {
	return countedFor(r, "Nop/batch=1", "Nop/batch=32", "ReadTmpfs/file=plain/batch=32/and/more")
}

func countedFor(r *Run, workloads ...string) *Run {
	for i, k := range r.Kernels {
		for boot := range 2 {
			c := cellOf(k.Name, "bench-nop", check("ran", event.Pass, ""))
			for n, name := range workloads {
				c.Metrics = append(c.Metrics, event.Metric{Name: benchMetric, Value: float64(600 - 10*i*n + boot*(1-n/2)), Unit: unitInsns, Labels: map[string]string{benchLabel: name}})
			}
			r.Cells = append(r.Cells, c)
		}
	}
	return r
}

// A workload beside another task says that its median counts.
func TestInsnsMedian(t *testing.T) {
	c := cellOf("base", "bench-nop", check("ran", event.Pass, ""))
	for _, name := range []string{"Nop", "Nop/beside=shrink"} {
		ops := event.Metric{Name: benchOps, Value: 32, Labels: map[string]string{benchLabel: name}}
		if name != "Nop" {
			ops.Labels[figureLabel] = figureMedian
		}
		labels := map[string]string{benchLabel: name}
		c.Metrics = append(c.Metrics, ops,
			event.Metric{Name: benchMetric, Value: 500, Unit: unitInsns, Labels: labels},
			event.Metric{Name: benchMetric + medianOf, Value: 600, Unit: unitInsns, Labels: labels})
	}
	rows, _ := (&Run{Kernels: kernels("base"), Cells: []Cell{c}}).insns()
	got := map[string]float64{}
	for _, r := range rows {
		got[r.name] = r.least[0]
	}
	if diff := cmp.Diff(map[string]float64{"Nop": 500, "Nop/beside=shrink": 600}, got); diff != "" {
		t.Errorf("insns (-want +got):\n%s", diff)
	}
}

// hostileRun has what a guest, or a patch of anyone's, could put into a record.
func hostileRun() *Run {
	r := told(everything())
	evil := "\x1b[31m</pre><script>alert(1)</script> `` ``` | ![x](http://example.org) @torvalds \u202e\x00 " + strings.Repeat("x", 3000)
	r.Kernels[1].Series = []string{evil, strings.Repeat("averylongword/", 40), "ʻ世界" + strings.Repeat("世", 90)}
	r.Kernels[1].BuildError = evil + "\n" + evil
	r.Kernels[2].Name, r.Kernels[2].Pin, r.Kernels[2].Compiler = strings.Repeat("long-kernel-", 12), evil, evil
	bad := cellOf("posted", strings.Repeat("program", 30), unexpected(check(evil, event.Crash, strings.Repeat(evil+"\n", 100))),
		knownIssue(check(strings.Repeat("name/", 60), event.Fail, evil), evil))
	bad.Checks[0].Where = []Frame{{Function: evil, File: evil, Line: 7, Patch: 1, Inlined: true}}
	bad.Reason, bad.Command = evil, evil
	r.Cells = append(r.Cells, bad)
	r.QEMU, r.Accel.Name, r.Accel.Reason, r.Host.CPU = evil, evil, evil, evil
	return r
}

func TestReplyGolden(t *testing.T) {
	const tester = "A Person <person@example.org>"
	splat := told(knownIssues())
	crash := knownIssue(check("console", event.Crash, "BUG: KASAN: use-after-free in io_req_cache_free\n\n[ 1.0] BUG: ..."), strings.Repeat("a long reason that is folded ", 9))
	crash.Where = []Frame{{Function: "spin_lock", File: "include/linux/spinlock.h", Line: 354, Inlined: true}, {Function: "io_req_cache_free", File: "fs/io_uring.c", Line: 1911, Patch: 1}, {Function: "do_syscall_64"}}
	splat.Cells = append(splat.Cells, cellOf("posted", "race", crash), cellOf("base", "race", check("runs", event.Pass, "")))
	for _, tt := range []struct {
		name, note string
		run, bench *Run
	}{
		{"reply-clean", "", told(asIs()), nil},
		{"reply-known-issues", "no Tested-by: posted has a known issue in fdinfo that its base has not", splat, counted(told(asIs()))},
		{"reply-three-kernels", "", told(threeKernels()), countedFor(told(threeKernels()), "Nop/batch=32", "ReadTmpfs/file=plain/batch=128")},
		{"reply-everything", "no Tested-by: hang of fixedfile on posted was not expected", told(everything()), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.bench != nil {
				tt.bench.ID = "20260228-101112.131"
			}
			text, note := Reply(tt.run, tt.bench, tester)
			golden(t, tt.name, text)
			if note != tt.note {
				t.Errorf("note %q; want %q", note, tt.note)
			}
		})
	}
}

func TestReplyWidth(t *testing.T) {
	for name, r := range map[string]*Run{"clean": counted(told(asIs())), "three": counted(told(threeKernels())), "hostile": counted(hostileRun()), "nothing": {}} {
		text, _ := Reply(r, r, "A Person <person@example.org>")
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if n := ansi.StringWidth(line); n > 72 {
				t.Errorf("%s: a line has %d columns; want at most 72: %s", name, n, line)
			}
			if strings.TrimSpace(line) != Line(line) || strings.TrimRight(line, " ") != line {
				t.Errorf("%s: a line is not fit to paste: %q", name, line)
			}
		}
	}
}

// A Tested-by says that the patches are good, so it takes a run that shows it.
func TestTestedBy(t *testing.T) {
	change := func(how func(r *Run)) *Run {
		r := told(asIs())
		how(r)
		return r
	}
	pins := knownIssue(check("exit", event.Hang, ""), "the base hangs here")
	for _, tt := range []struct {
		name string
		run  *Run
		want string
	}{
		{"clean", told(asIs()), ""},
		{"the base's own known issue", change(func(r *Run) {
			r.Cells = append(r.Cells, cellOf("base", "exit", pins), cellOf("posted", "exit", pins))
		}), ""},
		{"a known issue of the patches", change(func(r *Run) { r.Cells = append(r.Cells, cellOf("posted", "exit", pins)) }), "known issue"},
		{"unexpected", change(func(r *Run) { r.Cells = append(r.Cells, cellOf("posted", "x", unexpected(check("x", event.Fail, "")))) }), "not expected"},
		{"unexpected on base only", change(func(r *Run) { r.Cells = append(r.Cells, cellOf("base", "x", unexpected(check("x", event.Fail, "")))) }), ""},
		{"not judged", change(func(r *Run) {
			r.Cells = append(r.Cells, cellOf("posted", "x", unexpected(check("x", event.Error, ""))))
		}), "not expected"},
		{"not finished", change(func(r *Run) { r.Status = Interrupted }), "did not finish"},
		{"does not build", change(func(r *Run) { r.Kernels[1].BuildError = "error: ..." }), "does not build"},
		{"no patch", change(func(r *Run) { r.Kernels = r.Kernels[:1] }), "no patch"},
		{"nothing ran on it", change(func(r *Run) { r.Cells = r.Cells[:3] }), "no program passed"},
		{"only skips", change(func(r *Run) {
			r.Cells = append(r.Cells[:3:3], cellOf("posted", "nop", check("cache", event.Skip, "")))
		}), "no program passed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, note := Reply(tt.run, nil, "A Person <person@example.org>")
			if has := strings.HasSuffix(text, "\nTested-by: A Person <person@example.org>\n"); has != (tt.want == "") {
				t.Errorf("Tested-by is %v:\n%s", has, text)
			}
			if !strings.Contains(note, tt.want) || (note == "") != (tt.want == "") {
				t.Errorf("note %q; want one with %q", note, tt.want)
			}
		})
	}
	far := strings.Repeat("Long Name ", 10) + "<" + strings.Repeat("mail.", 20) + "@example.org>"
	if text, _ := Reply(told(asIs()), nil, far); !strings.HasSuffix(text, "\nTested-by: "+far+"\n") {
		t.Errorf("a long address is not on one line with its trailer:\n%s", text)
	}
	if text, note := Reply(told(asIs()), nil, ""); strings.Contains(text, "Tested-by") || !strings.Contains(note, "user.email") {
		t.Errorf("without a tester: note %q\n%s", note, text)
	}
}

func TestSummaryGolden(t *testing.T) {
	for name, r := range map[string]*Run{"summary-clean": told(asIs()), "summary-known-issues": told(knownIssues()), "summary-everything": told(everything())} {
		t.Run(name, func(t *testing.T) { golden(t, name, Summary(r)) })
	}
}

// TestSummaryIsSafe renders the summary as GitHub does, with HTML let through, and
// looks for what a guest or a patch could have brought in.
func TestSummaryIsSafe(t *testing.T) {
	var out strings.Builder
	text := Summary(hostileRun())
	if err := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(gmhtml.WithUnsafe())).Convert([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	ours := regexp.MustCompile(`^</?(h2|p|strong|b|table|thead|tbody|tr|th|td|details|summary|pre|ul|ol|li)( open)?>$`)
	for _, tag := range regexp.MustCompile(`<[^>]*>`).FindAllString(out.String(), -1) {
		if !ours.MatchString(tag) {
			t.Errorf("the summary has the tag %q", tag)
		}
	}
	for _, bad := range []string{"\x1b", "\x00", "\u202e", "@torvalds", "```"} {
		if strings.Contains(text, bad) {
			t.Errorf("the summary has %q", bad)
		}
	}
	if n, want := strings.Count(out.String(), "<tr>"), len(hostileRun().table().programs)+1; n != want {
		t.Errorf("the matrix has %d rows; want %d", n, want)
	}
}
