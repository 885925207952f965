package console

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	partOfLog   = regexp.MustCompile(`\{(\w+)(?::([^|}]*))?(?:\|([^}]*))?\}\n`)
	printedBy   = regexp.MustCompile(`^([TC]\d+)\| ?`)
	withCallers = "| with callers"
)

// written is what a kernel prints where the text of a case names it only.
func written(part string) string {
	m := partOfLog.FindStringSubmatch(part)
	frames := func(functions, behind string) string {
		return " " + strings.ReplaceAll(functions, ",", "+0x12/0x40"+behind+"\n ") + "+0x12/0x40" + behind + "\n"
	}
	switch m[1] {
	case "cut":
		return cutHere + "\n"
	case "fatal":
		return "Kernel panic - not syncing: Fatal exception\n"
	case "ran":
		return "CPU: 1 UID: 0 PID: 812 Comm: Web Content Not tainted 6.12.4 #1 PREEMPT(full)\nHardware name: QEMU Standard PC (Q35 + ICH9, 2009)\n"
	case "end":
		return "---[ end trace 0000000000000000 ]---\n"
	case "rip":
		return "RIP: 0010:" + m[2] + "+0x12/0x40\nCode: 0f 0b 66 2e\nRSP: 0018:ffffc90000197c30 EFLAGS: 00010246\nRAX: 0000000000000000 RBX: ffff888104a1e000 RCX: 0000000000000000\n"
	case "stack":
		return "Call Trace:\n <TASK>\n" + frames(m[2]+",do_syscall_64,entry_SYSCALL_64_after_hwframe", "") + "RIP: 0033:0x7f0000001234\n </TASK>\n"
	case "irq":
		return "Call Trace:\n <IRQ>\n" + frames(m[2], "") + " </IRQ>\n <TASK>\n" + frames(m[3], "") + " </TASK>\n"
	case "arm":
		return "Call trace:\n" + frames(m[2]+",invoke_syscall,el0_svc,el0t_64_sync", " (P)")
	}
	return part
}

// asPrinted gives the lines of a case their timestamps, and their callers where they are told.
func asPrinted(log string, callers bool) string {
	var s strings.Builder
	i := 0
	for line := range strings.Lines(log) {
		if said, ok := strings.CutPrefix(line, "RAW|"); ok {
			s.WriteString(said)
			continue
		}
		who := ""
		if callers {
			who = "[  T812]"
		}
		if m := printedBy.FindStringSubmatch(line); m != nil {
			line = line[len(m[0]):]
			if callers {
				who = fmt.Sprintf("[%6s]", m[1])
			}
		}
		fmt.Fprintf(&s, "[   12.%06d]%s %s", 345851+173*i, who, line)
		i++
	}
	return s.String()
}

func TestReadTellsTheKinds(t *testing.T) {
	text, err := os.ReadFile("testdata/kinds.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(text), "\n## ")[1:]
	if len(cases) < 100 {
		t.Fatalf("%d cases in testdata/kinds.txt; want those that are kept there", len(cases))
	}
	for _, c := range cases {
		name, c, _ := strings.Cut(c, "\n")
		var want []string
		for strings.HasPrefix(c, "> ") {
			var title string
			title, c, _ = strings.Cut(c[2:], "\n")
			want = append(want, title)
		}
		log := partOfLog.ReplaceAllStringFunc(c+"\n", written)
		t.Run(name, func(t *testing.T) {
			for _, callers := range []bool{true, false} {
				if !callers && strings.HasSuffix(name, withCallers) {
					continue
				}
				w, err := Read(strings.NewReader(asPrinted(log, callers)))
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, s := range w.Splats() {
					got = append(got, fmt.Sprintf("%s: %s", s.Verdict, s.Title))
				}
				if len(got) == 0 {
					got = []string{"none"}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("with callers %v (-want +got):\n%s", callers, diff)
				}
			}
		})
	}
}
