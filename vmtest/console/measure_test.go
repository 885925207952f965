package console

import (
	"bufio"
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var corpus = flag.String("corpus", "", "a folder of logs to measure, each after a head of TITLE:, ALT: and TYPE: lines")

var (
	titledIn = regexp.MustCompile(`(?: in|code:) ([\w.]+)$`)
	release  = regexp.MustCompile(`(?:Not tainted|Tainted: [A-Z ]+?) +(\d+)\.(\d+)`)
	// otherArch are processors other than x86-64 and arm64.
	otherArch = regexp.MustCompile(`(?m)\[<[0-9a-f]{8}>\] \(|epc ?: |PC is at|\bGPR\d|ARM-Versatile|riscv`)
	stampedAt = regexp.MustCompile(`(?m)^(?:.*\] )?\[ *\d+\.\d{6}\]`)
)

// argued are the kinds of complaints for which another function is named than some corpus
// expects, each with the reason why that is better. Both patterns must match: our title, and
// the function that is expected.
var argued = []struct{ ours, theirs, reason string }{
	{`^INFO: task hung: .* in `, `^synchronize_\w+$`, "a hung task is told by who waits: all of RCU's callers hang alike"},
	{`fs_reclaim in `, `^fs_reclaim_acquire$`, "who allocates there: all allocations end in that function"},
	{`stack guard page was hit|kernel stack overflow`, `.`, "the function that recurs, and not the system call that it began with"},
	{`HARDIRQ-safe -> HARDIRQ-unsafe lock order`, `.`, "who takes the lock that closes the circle, as in all of lockdep's reports, and not who holds another"},
	{`\((?:wq|work)_completion\).* in `, `.`, "the one that flushes or runs the work, on whose stack that is seen"},
	{`^BUG: Bad page state`, `.`, "who gives the page back or takes it: with and without page_owner, which alone tells who had it before"},
	{`^ida_free called for id`, `.`, "the text is of ida_free, which is all that a short report has"},
	{`^BUG: KFENCE: .* in test_`, `^kunit_try_run_case$`, "the test case, and not its runner"},
	{`in preemptible code: `, `^(?:radix_tree|idr|xa)_\w+$`, "whose tree it is: a library's node is allocated for its caller"},
	{`^rcu: stall|soft lockup`, `^(?:lock_is_held|rcu_|kasan_)\w*$`, "a check was interrupted by chance"},
	{`^rcu: stall .* in do_\w+$`, `^sys_\w+$|^__x64_sys_`, "what the system call does: the subject's work is often below one call only"},
	{`^sysfs: cannot create duplicate`, `.`, "the log begins with another complaint, of which the later one is not certainly a part"},
}

// better is the reason why the title is better than the functions that are expected.
func better(title string, guilty []string) string {
	for _, a := range argued {
		if ok, _ := regexp.MatchString(a.ours, title); !ok {
			continue
		}
		for _, f := range guilty {
			if ok, _ := regexp.MatchString(a.theirs, f); ok {
				return a.reason
			}
		}
	}
	return ""
}

// TestCorpus measures what other people's logs, with the titles that they expect, are
// read as. It never fails: what it prints is for a person.
func TestCorpus(t *testing.T) {
	if *corpus == "" {
		t.Skip("no -corpus")
	}
	logs, err := filepath.Glob(filepath.Join(*corpus, "*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no logs in %s: %v", *corpus, err)
	}
	var read, missed, alarms, split, graded, named, argue, others, othersNamed int
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		titles, log := expected(text)
		m := release.FindSubmatch(log)
		if m == nil || len(m[1]) == 1 && (m[1][0] < '5' || m[1][0] == '5' && len(m[2]) == 1 && m[2][0] < '4') || !stampedAt.Match(log) {
			continue
		}
		read++
		found := watched(string(log))
		name := filepath.Base(path)
		switch {
		case len(titles) == 0 && len(found) > 0:
			alarms++
			t.Logf("%s: false alarm: %s", name, found[0].Title)
			continue
		case len(titles) == 0:
			continue
		case len(found) == 0:
			missed++
			t.Logf("%s: missed: %s", name, titles[0])
			continue
		case len(found) > 1:
			split++
			t.Logf("%s: %d complaints: %s; %s", name, len(found), found[0].Title, found[1].Title)
		}
		var guilty []string
		for _, title := range titles {
			// What is no function in the log ("corrupted", "unmount") can't be named.
			if m := titledIn.FindStringSubmatch(title); m != nil && functionIn(log, bare(m[1])) {
				guilty = append(guilty, m[1])
			}
		}
		if len(guilty) == 0 {
			continue
		}
		ok := false
		for _, f := range guilty {
			ok = ok || bare(f) == bare(titledFunction(found[0].Title))
		}
		if otherArch.Match(log) {
			others++
			if ok {
				othersNamed++
			}
			continue
		}
		graded++
		if ok {
			named++
			continue
		}
		reason := better(found[0].Title, guilty)
		if reason != "" {
			argue++
			reason = " (" + reason + ")"
		}
		t.Logf("%s: %q, not %s%s", name, found[0].Title, strings.Join(guilty, ", "), reason)
	}
	t.Logf("%d logs: %d missed, %d false alarms, %d told as several", read, missed, alarms, split)
	t.Logf("x86-64 and arm64: %d of %d name the function (%d %%), %d more another one for a reason that is given; of other processors %d of %d",
		named, graded, 100*named/max(graded, 1), argue, othersNamed, others)
}

// functionIn says that the log has an address in the function, or a line of it.
func functionIn(log []byte, function string) bool {
	ok, _ := regexp.Match(`(?:\b|_)`+regexp.QuoteMeta(function)+`(?:[.\w]*\+0x|[.\w]* .*\[inline\]|\) from)`, log)
	return ok
}

// bare is a function's name without the underscores in front.
func bare(function string) string { return strings.TrimLeft(plainName(function), "_") }

// expected splits a log into the titles in its head and the log itself.
func expected(text []byte) (titles []string, log []byte) {
	lines := bufio.NewReader(bytes.NewReader(text))
	for {
		line, err := lines.ReadString('\n')
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if err != nil || !ok || strings.ToUpper(key) != key || strings.ContainsAny(key, "[ ") {
			break
		}
		if key == "TITLE" || key == "ALT" || key == "FRAME" {
			titles = append(titles, value)
		}
	}
	return titles, text
}

func titledFunction(title string) string {
	if m := titledIn.FindStringSubmatch(title); m != nil {
		return m[1]
	}
	return ""
}

// BenchmarkFlood reads what a hostile guest may print; the bytes a second say how
// long 50 MB take.
func BenchmarkFlood(b *testing.B) {
	for _, flood := range []struct{ name, line string }{
		{"panics", "[   12.345851] Kernel panic - not syncing: Fatal exception\n"},
		{"other panics", "[   12.345851] Kernel panic - not syncing: out of luck\n"},
		{"warnings", "[   12.345851] WARNING: CPU: 1 PID: 512 at net/quokka/sock.c:90 quokka_bind+0x5f/0x80\n"},
		{"cut", "[   12.345851] ------------[ cut here ]------------\n"},
		{"frames", "[   12.345851]  quokka_bind+0x5f/0x80\n"},
		{"hung tasks", "[   12.345851] INFO: task quokka:512 blocked for more than 143 seconds.\n[   12.345851] Call Trace:\n[   12.345851]  __mutex_lock+0x5f/0x80\n[   12.345851]  quokka_bind+0x5f/0x80\n"},
		{"locks", "[   12.345851] INFO: task quokka:512 blocked for more than 143 seconds.\n[   12.345851] 1 lock held by quokka/512:\n[   12.345851]  #0: ffff888004a1e028 (&q->lock){+.+.}-{4:4}, at: f+0x1f/0x80\n"},
		{"registers", "[   12.345851] Oops: 0000 [#1]\n" + strings.Repeat("[   12.345851] Call Trace:\n[   12.345851]  memcpy+0x5f/0x80\n[   12.345851] RIP: 0010:memcpy+0x5f/0x80\n", 100)},
		{"recursion", "[   12.345851] BUG: stack guard page was hit at 0\n[   12.345851] Call Trace:\n" + strings.Repeat("[   12.345851]  memcpy+0x5f/0x80\n", 2000)},
		{"oopses", "[   12.345851][    T9] BUG: KASAN: null-ptr-deref in f+0x1/0x2\n[   12.345851][    T9] Oops: 0000 [#1]\n[   12.345851][    T9] RIP: 0010:f+0x5f/0x80\n"},
		{"short", "[    1.000000] B\n"},
		{"stamps", "[    1.000000] [    1.000000] [    1.000000] [    1.000000] [    1.000000] BUG: x\n"},
		{"brackets", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n"},
	} {
		b.Run(flood.name, func(b *testing.B) {
			lines := strings.Split(strings.Repeat(flood.line, 50_000_000/len(flood.line)), "\n")
			b.SetBytes(50_000_000)
			for b.Loop() {
				w := &Watcher{}
				for _, line := range lines {
					w.Line(line)
				}
				w.Splats()
			}
		})
	}
}
