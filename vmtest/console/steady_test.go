package console

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// changed are things that must not matter to a title: the same fault on another day, on
// another machine, of another build.
var changed = []struct {
	name string
	log  func(log string) string
}{
	{"other pids", func(log string) string {
		return each(log, `((?:PID|pid|ppid|tgid): *|\[ *T|/|[\w\]]:)([1-9]\d{0,4})( Comm| +tgid| +ppid| +flags| +state|\]|:$| is | blocked)`, "${1}7${2}${3}")
	}},
	{"a comm with blanks", func(log string) string { return each(log, `Comm: \S+`, "Comm: Web Con tent #1") }},
	{"other offsets", func(log string) string { return each(log, `\+0x([0-9a-f]+)/0x([0-9a-f]+)`, "+0x1$1/0x1$2") }},
	{"other addresses", func(log string) string {
		return each(log, `\b(ffff[0-9a-f]{4})([0-9a-f])([0-9a-f])([0-9a-f]{6})\b`, "$1$3$2$4")
	}},
	{"other processors", func(log string) string { return each(log, `\b(CPU: |CPU#|cpu |CPU |CPUs |C)([01])\b`, "${1}1$2") }},
	{"a tainted kernel", func(log string) string { return each(log, `Not tainted`, "Tainted: G    B D W  OE     ") }},
	{"taints explained", func(log string) string {
		return each(log, `(?m)^(.*\] )(CPU: \d+ .*)$`, "$1$2\n${1}Tainted: [D]=DIE, [W]=WARN, [O]=OOT_MODULE")
	}},
	{"another version", func(log string) string {
		return each(log, `(ainted(?:: [A-Z ]+)?) \d\.\d\S* #\S+.*`, "$1 7.2.0-rc3-00123-gabcdef012345-dirty #77 PREEMPT(full)")
	}},
	{"a machine with a name", func(log string) string {
		return each(log, `(?m)^(.*\] )(CPU: \d+ .*)$`, "$1$2\n${1}Hardware name: Quokka Inc. BUG: 9000/0Wombat, BIOS 1.2.3 04/01/2014")
	}},
	{"modules", func(log string) string {
		return each(log, `Modules linked in:.*`, "Modules linked in: quokka(OE) wombat [last unloaded: bug]")
	}},
	{"frames of a module", func(log string) string { return each(log, `(?m)^(.*\]  (?:\? )?\w\S*\+0x\w+/0x\w+)$`, "$1 [quokka]") }},
	{"frames of a module with its build ID", func(log string) string {
		return each(log, `(?m)^(.*\]  (?:\? )?\w\S*\+0x\w+/0x\w+)$`, "$1 [quokka 0123456789abcdef0123456789abcdef01234567]")
	}},
	{"left-overs on the stack", func(log string) string {
		return each(log, `(?m)^(.*\] ) (\w\S*\+0x\w+/0x\w+)$`, "$1 ? wombat_left+0x1/0x2\n$1 $2\n$1 ? wombat_over+0x1/0x2")
	}},
	{"no code", func(log string) string { return each(log, `(?m)^.*\] Code: .*\n`, "") }},
	{"no ends of traces", func(log string) string {
		if strings.Contains(log, "[#2]") {
			// They tell two oopses apart that are told at once.
			return log
		}
		return each(log, `(?m)^.*\] ---\[ end trace .*\n`, "")
	}},
	{"no general registers", func(log string) string { return each(log, `(?m)^.*\] R[A-Z0-9]{2}: [0-9a-f]{16} .*\n`, "") }},
	{"levels", func(log string) string { return each(log, `(?m)^(\[ *\d+\.\d{6}\])`, "<4>$1") }},
	{"levels of syslog", func(log string) string { return each(log, `(?m)^(\[ *\d+\.\d{6}\])`, "<12>$1") }},
	{"a serial terminal's line ends", func(log string) string { return strings.ReplaceAll(log, "\n", "\r\n") }},
	{"blanks at the ends of lines", func(log string) string { return strings.ReplaceAll(log, "\n", " \n") }},
	{"the log twice", func(log string) string { return log + log }},
	{"another boot before", func(log string) string {
		return "[    0.000000] Linux version 6.9.0\n[    3.000000] reboot: Restarting system\n" + log
	}},
	{"the log of a longer day", func(log string) string { return each(log, `(?m)^\[ *(\d+)\.`, "[12345$1.") }},
	{"lines of another task between", func(log string) string {
		return each(log, `(?m)^(\[ *\d+\.\d{6}\])(\[ *[TC]\d+\] .*)$`, "$1$2\n$1[ T4242] usb 1-1: new high-speed USB device number 2 using xhci_hcd")
	}},
	{"lines of another task between, and nobody told", func(log string) string {
		if strings.Contains(log, "[#2]") {
			// Two that are told at once, and nothing to sort them by.
			return log
		}
		return each(log, `(?m)^(\[ *\d+\.\d{6}\])(?:\[ *[TC]\d+\])?( .*)$`, "$1$2\n$1 usb 1-1: new high-speed USB device number 2 using xhci_hcd\n$1 eth0: entered promiscuous mode")
	}},
	{"lines of programs between", func(log string) string { return strings.ReplaceAll(log, "\n", "\nquokkad: ready, BUG: none\n") }},
	{"the panic that warnings end in", func(log string) string {
		if strings.Contains(log, "reboot: Power down") {
			// A warning of no weight does not end in one.
			return log
		}
		return each(log, `(?m)^(\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? )(---\[ end trace .*)$`, "$1$2\n${1}Kernel panic - not syncing: kernel: panic_on_warn set ...")
	}},
	{"a journal", func(log string) string {
		return each(log, `(?m)^(\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])?) `, "$1 box kernel: ")
	}},
	{"dropped lines told of", func(log string) string {
		return each(log, `(?m)^(\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? )(---\[ end trace .*)$`, "$1$2\n** 12 printk messages dropped **")
	}},
	{"no timestamps", func(log string) string {
		if regexp.MustCompile(`(?m)^[^\[]`).MatchString(log) {
			return log
		}
		return each(log, `(?m)^\[ *\d+\.\d{6}\](?:(\[ *[TC]\d+\] )| )`, "$1")
	}},
	{"the time of a clock", func(log string) string {
		return each(log, `(?m)^\[ *\d+\.\d{6}\](\[ *[TC]\d+\])? `, "Nov 28 21:30:00 box kernel: $0")
	}},
	{"colours", func(log string) string { return each(log, `(?m)^\[ *\d+\.\d{6}\]`, "\x1b[32m$0\x1b[0m") }},
	{"a stack in front of which its task is named", func(log string) string { return each(log, `(?m)^(.*\] )Call Trace:$`, "${1}Call Trace:\n$1 <TASK>") }},
}

func each(log, pattern, with string) string {
	return regexp.MustCompile(pattern).ReplaceAllString(log, with)
}

// A title, and how many there are, does not depend on what differs from run to run.
func TestTitlesStay(t *testing.T) {
	logs := map[string]string{}
	dirs := []string{"testdata/corpus/kinds", "testdata/corpus"}
	if testing.Short() {
		dirs = dirs[:1]
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			log, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			logs[filepath.Base(file)] = string(log)
		}
	}
	if len(logs) == 0 {
		t.Fatal("no logs")
	}
	read := func(log string) []string {
		w, err := Read(strings.NewReader(log))
		if err != nil {
			t.Fatal(err)
		}
		return titles(w)
	}
	prev, prevName := "", ""
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		log := logs[name]
		if prev != "" {
			both := read(prev)
			for _, title := range read(log) {
				if !slices.Contains(both, title) {
					both = append(both, title)
				}
			}
			// Two of one title differ by their places.
			if diff := cmp.Diff(slices.Compact(both), slices.Compact(read(prev+log))); diff != "" {
				t.Errorf("%s behind %s (-want +got):\n%s", name, prevName, diff)
			}
		}
		prev, prevName = log, name
		want := read(log)
		for _, c := range changed {
			if diff := cmp.Diff(want, read(c.log(log))); diff != "" {
				t.Errorf("%s with %s (-want +got):\n%s", name, c.name, diff)
			}
		}
	}
}
