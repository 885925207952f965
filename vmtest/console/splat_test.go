package console

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

var update = flag.Bool("update", false, "write the golden files in testdata anew")

// The corpus in testdata/corpus is what kernels of ours printed that were
// broken on purpose, the debug*.log by ../testdata/splats.patch; in kinds are small
// consoles of other kernels, one for each kind of mistake that was made here. Next to each log stands what the watch must find in it.
func TestWatchFindsSplats(t *testing.T) {
	logs, err := filepath.Glob("testdata/corpus/*.log")
	kinds, _ := filepath.Glob("testdata/corpus/kinds/*.log")
	logs = append(logs, kinds...)
	if err != nil || len(logs) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, path := range logs {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".log"), func(t *testing.T) {
			log, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var found strings.Builder
			for _, s := range watched(string(log)) {
				lines := strings.Split(s.Text, "\n")
				fmt.Fprintf(&found, "%s: %s\n  times: %d\n  lines: %d\n  first: %s\n  last:  %s\n", s.Verdict, s.Title, s.Times, len(lines), lines[0], lines[len(lines)-1])
			}
			golden := strings.TrimSuffix(path, ".log") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(found.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), found.String()); diff != "" {
				t.Errorf("splats in %s (-want +got); if right, run with -update:\n%s", path, diff)
			}
		})
	}
}

// watched are the complaints on a console.
func watched(console string) []Splat {
	w := &Watcher{}
	for line := range strings.Lines(console) {
		w.Line(strings.TrimRight(line, "\r\n"))
	}
	return w.Splats()
}

func TestWatchIgnores(t *testing.T) {
	for _, line := range []string{
		"BUG: unable to handle page fault for address: 0",
		"panic: WARNING: CPU: 0 PID: 1",
		"[    0.1] BUG: not a timestamp",
		"[    9.000001] quokka: ready\n# got: [    1.234567] BUG: kernel NULL pointer dereference, address: 0",
		"[    9.000001] quokka: ready\nquokka_test.sh: line 7: got [    1.234567] general protection fault: 0000 [#1] SMP",
		"[    9.000001 user] kernel BUG at fs/quokka.c:77!\n# the log has [    9.000001] kernel BUG at fs/quokka.c:77!",
		`not ok 7 - want no "[    1.234567] BUG: kernel NULL pointer dereference, address: 0"`,
		"[    1.234567] u-root init: error creating mount",
		"[    1.234567] random: crng init done",
		"[    1.234567] nvme nvme0: 2/0/0 default/read/poll queues",
		"[    1.234567] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200",
	} {
		w := &Watcher{}
		for l := range strings.SplitSeq(line, "\n") {
			w.Line(l)
		}
		if got := w.Splats(); len(got) > 0 {
			t.Errorf("watch of %q = %+v; want nothing", line, got)
		}
	}
}

// The thread of init that goes last, on a kernel without CONFIG_PID_NS, may tell its BUG() before the
// panic of init's end, in the middle of it, or keep it from being told. What others tell stays.
func TestInitGoesLast(t *testing.T) {
	const (
		panics = "[    2.035468][   T31] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200\n"
		traced = "[    2.036213][   T31] CPU: 1 PID: 31 Comm: init Not tainted 5.10.13 #1\n[    2.037680][   T31] Call Trace:\n[    2.043214][   T31]  panic+0xe7/0x273\n"
		last   = "[    2.039651][   T29] ------------[ cut here ]------------\n[    2.039950][   T29] kernel BUG at include/linux/pid_namespace.h:78!\n" +
			"[    2.040696][   T29] invalid opcode: 0000 [#1] SMP NOPTI\n[    2.041259][   T29] RIP: 0010:do_exit+0x8a7/0x8b0\n" +
			"[    2.043214][   T29] Call Trace:\n[    2.043214][   T29]  do_group_exit+0x2e/0x90\n[    2.059769][   T29] ---[ end trace e3dffc35cb88ad2a ]---\n"
		fatal = "[    2.059770][   T29] Kernel panic - not syncing: Fatal exception\n"
		other = "[    2.039952][   T40] BUG: kernel NULL pointer dereference, address: 0000000000000008\n[    2.039953][   T40] RIP: 0010:quokka_read+0x1/0x2\n"
	)
	for name, c := range map[string]struct {
		log  string
		want []string
	}{
		"after it": {panics + traced + last, nil}, "before it": {last + panics + traced, nil}, "in its place": {last + fatal, nil},
		"beside another": {last + other + panics, []string{"BUG: kernel NULL pointer dereference in quokka_read"}},
	} {
		for _, log := range []string{c.log, regexp.MustCompile(`\[ +T\d+\]`).ReplaceAllString(c.log, "")} {
			if name == "beside another" && log != c.log {
				continue // nobody can tell who prints
			}
			w := &Watcher{}
			for l := range strings.Lines(log) {
				w.Line(strings.TrimSuffix(l, "\n"))
			}
			var got []string
			for _, s := range w.Splats() {
				got = append(got, s.Title)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || !w.InitExited || w.Died {
				t.Errorf("%s: init exited: %v, the kernel died: %v, titles (-want +got):\n%s", name, w.InitExited, w.Died, diff)
			}
		}
	}
}

// A panic that bytes of a program's stand in the middle of is told, as far as it can be read.
func TestTornPanic(t *testing.T) {
	const trace = "\n[    2.036213][   T31] CPU: 1 PID: 31 Comm: init Not tainted 5.10.13 #1\n[    2.037680][   T31] Call Trace:\n" +
		"[    2.043214][   T31]  dump_stack+0x57/0x6a\n[    2.043214][   T31]  panic+0xe7/0x273\n[    2.043214][   T31]  quokka_burrow+0x1/0x2\n" +
		"[    2.043214][   T31] Kernel Offset: disabled"
	for _, c := range []struct {
		said, title string // none is that init exited
	}{
		{"<0>[    1.70857e974ec00 sp=50][   T31] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200", ""},
		{"[    1.487396][   T31] Kernel panic -8 99f970\nrsp   not syncing: Attempted to kill init! exitcode=0x00000200", ""},
		{"[    1.487396][   T31] Kernel panic - not s0x33\nAttempted to kill init! exitcode=0x00000200", ""},
		{"[    1.487396][   T31] Kernel panic - not s0x33\nAttempted to kill init! exitcode=0x0000000b", panicHead + "Attempted to kill init! exitcode"},
		{"[    2.03program51][   T31] Kernel panic - not syncing: quokkas", panicHead + "quokkas"},
		{"[    2.035151][   T31] Kernel paprogram\nnnot syncing: quokkas", panicHead + "quokkas"},
		{"[    2.035151][   T31] Kernel panic - not syprogram\nncing: quokkas", panicHead + "its line cannot be read"},
		{"[    2.035151][   T31] Kernel panic - not syncing: quokkas", panicHead + "quokkas"},
	} {
		w := &Watcher{}
		for line := range strings.SplitSeq(c.said+trace, "\n") {
			w.Line(line)
		}
		var titles, want []string
		for _, s := range w.Splats() {
			titles = append(titles, s.Title)
			if !strings.Contains(s.Text, "quokka_burrow") {
				t.Errorf("%q: its stack is not in %q", c.said, s.Text)
			}
		}
		if c.title != "" {
			want = []string{c.title}
		}
		if diff := cmp.Diff(want, titles); diff != "" || w.InitExited != (c.title == "") {
			t.Errorf("%q: init exited: %v, titles (-want +got):\n%s", c.said, w.InitExited, diff)
		}
	}
}

// What the power-off brings about is a complaint when nothing was switched off.
func TestWatchHearsOfStoppedCPUs(t *testing.T) {
	log, err := os.ReadFile("testdata/corpus/poweroff.log")
	if err != nil {
		t.Fatal(err)
	}
	_, after, off := strings.Cut(string(log), "reboot: Power down\n")
	if !off {
		t.Fatal("the console has no power-off")
	}
	var titles []string
	for _, s := range watched(after) {
		titles = append(titles, s.Title)
	}
	want := []string{"WARNING at kernel/sched/core.c in set_task_cpu", "sched: Unexpected reschedule of offline CPU in native_smp_send_reschedule"}
	if diff := cmp.Diff(want, titles); diff != "" {
		t.Errorf("complaints without a power-off (-want +got):\n%s", diff)
	}
}

func TestWatchFindsKernelLineBehindProgramsText(t *testing.T) {
	for _, said := range []string{"fixedfile: reading ", "# got: ", "# wanted it, got "} {
		w := &Watcher{}
		w.Line("[    1.234001] quokka: ready")
		w.Line(said + "[    1.234567] Kernel panic - not syncing: out of luck")
		got := w.Splats()
		if len(got) != 1 || got[0].Verdict != event.Crash || got[0].Title != "Kernel panic - not syncing: out of luck" {
			t.Errorf("watch of a panic behind %q = %+v; want the panic", said, got)
		}
	}
}

// Two complaints are one only when they are of one place, and a place keeps its
// title when lines above it move.
func TestWatchTellsComplaintsApart(t *testing.T) {
	warning := func(line string) []string {
		return []string{
			"------------[ cut here ]------------",
			"WARNING: CPU: 0 PID: 1 at fs/io_uring.c:" + line + " io_free_req+0x12/0x34",
			"RIP: 0010:io_free_req+0x12/0x34", "Call Trace:", " io_submit+0x1/0x2", "---[ end trace 0 ]---",
		}
	}
	const warned = "WARNING at fs/io_uring.c in io_free_req"
	tests := []struct {
		name  string
		lines []string
		want  []string
	}{
		{name: "two warnings of one function", lines: append(warning("10"), warning("20")...), want: []string{warned, warned}},
		{name: "the same warning twice", lines: append(warning("10"), warning("10")...), want: []string{warned}},
		{name: "a second kind close to the first",
			lines: []string{
				"BUG: sleeping function called from invalid context at mm/slab.h:5", "in_atomic(): 1",
				"BUG: KASAN: use-after-free in io_free_req+0x1/0x2", "Call Trace:", " io_free_req+0x1/0x2",
			},
			want: []string{"BUG: sleeping function called from invalid context at mm/slab.h", "BUG: KASAN: use-after-free in io_free_req"}},
		{name: "a fault and its oops",
			lines: []string{"BUG: kernel NULL pointer dereference, address: 0", "#PF: supervisor read access", "Oops: 0000 [#1]", "RIP: 0010:io_free_req+0x1/0x2", "Call Trace:", " f+0x1/0x2", "Kernel panic - not syncing: Fatal exception"},
			want:  []string{"BUG: kernel NULL pointer dereference in io_free_req"}},
		{name: "what an interrupt found is not at fault",
			lines: []string{"WARNING: inconsistent lock state", "swapper/0/0 [HC1[1]:SC0[0]:HE0:SE1] takes:",
				"ffff88801aa343c0 (&ce->free_lock){?.+.}-{2:2}, at: io_req_cache_reclaim+0x1c6/0x3d0", "Call Trace:", " lock_acquire+0x1/0x2", "RIP: 0010:default_idle+0x1/0x2"},
			want: []string{"WARNING: inconsistent lock state: &ce->free_lock in io_req_cache_reclaim"}},
		{name: "the caller of a per-CPU access",
			lines: []string{"BUG: using smp_processor_id() in preemptible [00000000] code: init/1", "caller is io_free_req+0x1/0x2", "CPU: 0 PID: 1 Comm: init", "Call Trace:", " check_preemption_disabled+0x1/0x2"},
			want:  []string{"BUG: using smp_processor_id() in preemptible code: io_free_req"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := &Watcher{}
			for _, line := range tc.lines {
				w.Line("[    1.234567] " + line)
			}
			var got []string
			for _, s := range w.Splats() {
				got = append(got, s.Title)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("titles (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnpackedInPart(t *testing.T) {
	for text, want := range map[string]bool{
		"[    0.500000] Unpacking initramfs...\n[    0.800000] Initramfs unpacking failed: write error\n[    1.100000] Run /init as init process\n": true,
		"[    1.100000] Run /init as init process\n[    2.800000] Initramfs unpacking failed: write error\n":                                        false,
		"[    0.800000] Initramfs unpacking failed: junk in compressed archive\n":                                                                   false,
	} {
		w := &Watcher{}
		for line := range strings.SplitSeq(text, "\n") {
			w.Line(line)
		}
		if got := w.UnpackedInPart; got != want {
			t.Errorf("UnpackedInPart is %v for\n%s", got, text)
		}
	}
}
