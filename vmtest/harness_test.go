package vmtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/mkuimage/uimage/initramfs"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/console"
	"patchproof/vmtest/qemu"
)

// prepared is the selection's plan, which these tests take a kernel and an
// accelerator from.
var prepared = sync.OnceValues(func() (*Plan, error) {
	sel, err := FromEnv(os.Getenv)
	if err != nil {
		return nil, err
	}
	plan, err := Prepare(interrupted, sel, nil)
	if err != nil {
		return nil, err
	}
	_, err = plan.Kernels()
	return plan, err
})

// base returns a spec that boots the first kernel of the selection.
func base(t testing.TB) CellSpec {
	t.Helper()
	if testing.Short() {
		t.Skip("it boots a kernel")
	}
	plan, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	return plan.Cells[0].In(plan.lab, plan.ready[0])
}

// hostileInitramfs holds nothing but testdata/hostile as its init.
func hostileInitramfs(t testing.TB) string {
	t.Helper()
	return initramfsOf(t, staticGo(t, "./testdata/hostile"))
}

// staticGo builds a static Go program.
func staticGo(t testing.TB, pkg string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// initramfsOf holds nothing but an init.
func initramfsOf(t testing.TB, init string) string {
	t.Helper()
	dir := t.TempDir()
	archive, err := cpio.ArchiveFromRecords([]cpio.Record{
		cpio.Directory("dev", 0o755), cpio.Directory("proc", 0o555), cpio.Directory("sys", 0o555),
		cpio.CharDev("dev/console", 0o600, 5, 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "initramfs.cpio")
	err = uimage.Create(nil,
		uimage.WithTempDir(dir), uimage.WithBaseArchive(archive), uimage.WithSkipLDD(),
		uimage.WithFiles(init+":init"), uimage.WithOutput(&initramfs.CPIOFile{Path: file}))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// spec returns a cell whose guest does as it is told by the words on its
// kernel command line.
func spec(t *testing.T, base CellSpec, initramfs string, words ...string) CellSpec {
	return CellSpec{
		Kernel: "base", Variant: "plain", Iteration: 1,
		Program:   Program{Name: "nop", CPUs: 2, MemoryMiB: 256, Deadline: 2 * time.Second, Append: words},
		Image:     base.Image,
		Initramfs: initramfs,
		Accel:     base.Accel,
		Scale:     1,
		Console:   filepath.Join(t.TempDir(), "console.log"),
	}
}

func TestVerdictOfMisbehavingGuests(t *testing.T) {
	t.Parallel()
	kernel, guest := base(t), hostileInitramfs(t)
	tests := []struct {
		how     string
		want    event.Verdict
		reason  string
		console string
	}{
		{how: "well", want: event.Pass},
		{how: "line", want: event.Error, reason: "never reported its start", console: "HOSTILE-INIT"},
		{how: "lost", want: event.Error, reason: "were lost"},
		{how: "twice", want: event.Error, reason: "came twice"},
		{how: "after-end", want: event.Error, reason: "after the end"},
		{how: "done-twice", want: event.Error, reason: "went on after its end"},
		{how: "event-after-done", want: event.Error, reason: "went on after its end"},
		{how: "no-end", want: event.Error, reason: "never reported its end"},
		{how: "no-done", want: event.Error, reason: "never reported its end"},
		{how: "garbage", want: event.Error, reason: "JSON error"},
		{how: "long-line", want: event.Error, reason: "token too long"},
		{how: "escapes", want: event.Pass, console: `\x1b]0;title\x07\x1b[2J`},
		{how: "exit", want: event.Error, reason: "ended without powering the guest off"},
		{how: "sysrq-crash", want: event.Crash, console: "sysrq triggered crash"},
		{how: "hang", want: event.Hang, reason: "then init in __do_sys_pause", console: "sysrq: Show State"},
		{how: "hang-lost", want: event.Error, reason: "were lost"},
		{how: "hang-garbage", want: event.Error, reason: "broke off while the guest went on: JSON error"},
	}
	for _, tc := range tests {
		t.Run(tc.how, func(t *testing.T) {
			t.Parallel()
			s := spec(t, kernel, guest, "hostile="+tc.how)
			cell := RunCell(interrupted, s)
			log, err := os.ReadFile(s.Console)
			if err != nil {
				t.Fatal(err)
			}
			if cell.Verdict != tc.want || !strings.Contains(cell.Reason, tc.reason) {
				t.Errorf("verdict of %s = %s, %q; want %s, %q\n%s", tc.how, cell.Verdict, cell.Reason, tc.want, tc.reason, log)
			}
			if strings.ContainsAny(cell.Reason, "\x00\x1b") {
				t.Errorf("the reason has control characters: %q", cell.Reason)
			}
			if !strings.Contains(string(log), tc.console) {
				t.Errorf("the console log lacks %q:\n%s", tc.console, log)
			}
			if bytes.ContainsAny(log, "\x00\x1b") || !utf8.Valid(log) {
				t.Error("the console log has control characters")
			}
		})
	}
}

func TestStepsOfACell(t *testing.T) {
	t.Parallel()
	kernel, guest := base(t), hostileInitramfs(t)
	for how, want := range map[string]event.Verdict{"well": event.Pass, "hang": event.Hang} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := spec(t, kernel, guest, "hostile="+how)
			var mu sync.Mutex
			var phases []qemu.Phase
			var checks []string
			s.Watch = func(step Step) {
				mu.Lock()
				defer mu.Unlock()
				if step.Kernel != "base" || step.Program != "nop" || step.Iteration != 1 {
					t.Errorf("a step of another cell: %+v", step)
				}
				if step.Check != "" {
					checks = append(checks, step.Check)
				}
				phases = append(phases, step.Phase)
			}
			cell := RunCell(t.Context(), s)
			if cell.Verdict != want {
				t.Fatalf("verdict %s (%s); want %s", cell.Verdict, cell.Reason, want)
			}
			if diff := cmp.Diff([]qemu.Phase{qemu.PhaseBooting, qemu.PhaseRunning, qemu.PhaseEnding, qemu.PhaseEnded}, slices.Compact(phases)); diff != "" {
				t.Errorf("phases (-want +got):\n%s", diff)
			}
			var want []string
			for _, c := range cell.Checks {
				if c.Name != results.DeadlineCheck {
					want = append(want, c.Name)
				}
			}
			if diff := cmp.Diff(want, checks); diff != "" {
				t.Errorf("checks (-want +got):\n%s", diff)
			}
		})
	}
}

// A guest that never begins says how far it came, and where it is.
func TestHangBeforeTheStart(t *testing.T) {
	t.Parallel()
	s := spec(t, base(t), hostileInitramfs(t), "hostile=mute")
	// A quarter of the scale is enough for a boot.
	s.Scale = 0.25
	cell := RunCell(interrupted, s)
	for _, want := range []string{"had not begun", `the console's last line was "HOSTILE-INIT"; then init in __do_sys_pause`} {
		if cell.Verdict != event.Hang || !strings.Contains(cell.Reason, want) {
			t.Errorf("cell = %s %q, want a hang that says %q", cell.Verdict, cell.Reason, want)
		}
	}
}

// A guest ends at the check that tells all, which is held against what is declared.
func TestEndsAtACheck(t *testing.T) {
	t.Parallel()
	s := spec(t, base(t), hostileInitramfs(t), "hostile=hang")
	s.Known = []subjects.KnownIssue{{Program: "nop", Check: "a", Verdict: "fail", Reason: "it is to fail"}}
	s.Enough = func(c results.Check) bool { return c.Name == "a" && !c.Expected }
	cell := RunCell(interrupted, s)
	if cell.Verdict != event.Pass || cell.Expected || len(cell.Checks) != 1 || cell.Stopped != nil {
		t.Errorf("cell = %s, expected %v, %+v, stopped %v; want no more than the check that passed", cell.Verdict, cell.Expected, cell.Checks, cell.Stopped)
	}
}

// A guest that hangs says where.
func TestHangSaysWhere(t *testing.T) {
	t.Parallel()
	s := spec(t, base(t), hostileInitramfs(t), "hostile=hang")
	cell := RunCell(interrupted, s)
	var detail string
	for _, c := range cell.Checks {
		if c.Name == results.DeadlineCheck {
			detail = c.Detail
		}
	}
	for _, want := range []string{"task:init", "sys_pause"} {
		if !strings.Contains(detail, want) {
			t.Errorf("the detail of a hang lacks %q:\n%s", want, detail)
		}
	}
}

func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	s := spec(t, base(t), hostileInitramfs(t), "hostile=flood")
	s.Program.Deadline = 3 * time.Second
	cell := RunCell(interrupted, s)
	// It says where it is, for all that it prints besides.
	if cell.Verdict != event.Hang || !strings.Contains(cell.Reason, "then init in ") {
		t.Errorf("cell = %s %q; want a hang that says where init is", cell.Verdict, cell.Reason)
	}
	info, err := os.Stat(s.Console)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("console log: %d bytes", info.Size())
	if most := int64(console.MostKept); info.Size() > most {
		t.Errorf("console log has %d bytes, want at most %d", info.Size(), most)
	}
}

func TestPanicBeforeInit(t *testing.T) {
	s := spec(t, base(t), hostileInitramfs(t), "rdinit=/nonexistent")
	cell := RunCell(interrupted, s)
	if cell.Verdict != event.Crash || len(cell.Checks) != 1 || !strings.Contains(cell.Checks[0].Detail, "Kernel panic - not syncing") {
		t.Errorf("cell = %s %+v, want a crash with the panic", cell.Verdict, cell.Checks)
	}
}

func TestKernelThatNeverPrints(t *testing.T) {
	t.Parallel()
	s := spec(t, base(t), hostileInitramfs(t))
	s.Image = writeELF(t, 0x100000, []byte{0xfa, 0xf4, 0xeb, 0xfd}, pvhNote(0x100000)) // cli; hlt; jmp to the hlt
	// A quarter of the scale: there is nothing to wait for.
	s.Scale = 0.05
	cell := RunCell(interrupted, s)
	if cell.Verdict != event.Hang || !strings.Contains(cell.Reason, "the kernel printed nothing within") {
		t.Errorf("cell = %s %q, want a hang that says that nothing was printed", cell.Verdict, cell.Reason)
	}
}

func TestQEMUThatFails(t *testing.T) {
	s := spec(t, base(t), hostileInitramfs(t))
	s.Image = filepath.Join(t.TempDir(), "missing")
	cell := RunCell(interrupted, s)
	if cell.Verdict != event.Error || cell.Expected || !strings.Contains(cell.Reason, "missing") {
		t.Errorf("cell = %s %q, want an error that names the image", cell.Verdict, cell.Reason)
	}
}

// What a build leaves as vmlinux may be anything.
func TestImageThatIsNoKernel(t *testing.T) {
	t.Parallel()
	kernel, guest := base(t), hostileInitramfs(t)
	if why := qemu.Unloadable(kernel.Image); why != "" {
		t.Errorf("Unloadable(a kernel) = %q", why)
	}
	whole, err := os.ReadFile(kernel.Image)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		text []byte
		want string
	}{
		"text":    {[]byte("int not_a_kernel;\n"), "neither an ELF file nor a bzImage"},
		"empty":   {nil, "neither an ELF file nor a bzImage"},
		"cut":     {whole[:len(whole)/3], "not a whole ELF file"},
		"program": {nil, "without a PVH note"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(t, kernel, guest)
			s.Image = filepath.Join(t.TempDir(), "vmlinux")
			if err := os.WriteFile(s.Image, tc.text, 0o644); err != nil {
				t.Fatal(err)
			}
			if name == "program" {
				s.Image = self
			}
			cell := RunCell(interrupted, s)
			if cell.Verdict != event.Error || !strings.Contains(cell.Reason, tc.want) || !strings.Contains(cell.Reason, filepath.Dir(s.Image)) {
				t.Errorf("cell = %s %q; want an error that names %s: %s", cell.Verdict, cell.Reason, filepath.Dir(s.Image), tc.want)
			}
		})
	}
}

// qemus lists the processes with this text on their command line.
func qemus(t *testing.T, text string) []string {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, line := range lines {
		cmd, err := os.ReadFile(line)
		if err == nil && strings.HasPrefix(string(cmd), qemu.Binary) && strings.Contains(string(cmd), text) {
			found = append(found, strings.ReplaceAll(string(cmd), "\x00", " "))
		}
	}
	return found
}

func TestCancelLeavesNothing(t *testing.T) {
	s := spec(t, base(t), hostileInitramfs(t), "hostile=hang")
	s.Program.Devices = []qemu.Device{{Kind: qemu.NVMe, SizeMiB: 64}}
	s.Program.Deadline = time.Hour
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(interrupted)
	defer cancel()
	done := make(chan event.Verdict)
	go func() { done <- RunCell(ctx, s).Verdict }()
	for len(qemus(t, s.Initramfs)) == 0 {
		select {
		case v := <-done:
			t.Fatalf("the cell ended by itself: %s", v)
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	if v := <-done; v != event.Error {
		t.Errorf("verdict of a cancelled cell = %s, want %s", v, event.Error)
	}
	if left := qemus(t, s.Initramfs); len(left) > 0 {
		t.Errorf("still running: %q", left)
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(0, len(left)); diff != "" {
		t.Errorf("left in the temporary folder: %v", left)
	}
}

// A wrapper around QEMU may stay its parent, and may leave a process behind that keeps
// QEMU's outputs. Neither outlives the guest.
func TestQEMUBehindAWrapper(t *testing.T) {
	kernel, guest := base(t), hostileInitramfs(t)
	real, err := exec.LookPath(qemu.Binary)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\ncase \"$*\" in *-kernel*) sleep 1000 & echo $! >>" + dir + "/left;; esac\n" + real + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, qemu.Binary), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for how, want := range map[string]event.Verdict{"well": event.Pass, "hang": event.Hang} {
		s := spec(t, kernel, guest, "hostile="+how)
		if cell := RunCell(interrupted, s); cell.Verdict != want {
			t.Errorf("verdict of %s = %s, %q; want %s", how, cell.Verdict, cell.Reason, want)
		}
		if left := qemus(t, s.Initramfs); len(left) > 0 {
			t.Errorf("still running: %q", left)
		}
	}
	left, err := os.ReadFile(filepath.Join(dir, "left"))
	if err != nil || len(strings.Fields(string(left))) != 2 {
		t.Fatalf("the wrapper left %q, %v; want two processes", left, err)
	}
	for _, pid := range strings.Fields(string(left)) {
		// One that was killed is a zombie until the host's init looks at it.
		if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
			t.Errorf("the wrapper's process %s still runs", pid)
			exec.Command("kill", pid).Run()
		}
	}
}

// Each option of the debug variant makes the kernel say what testdata/splats.patch
// does wrong, and the harness says where that is.
func TestDebugKernelComplains(t *testing.T) {
	if testing.Short() || os.Getenv("VARIANT") != "debug" {
		t.Skip("it builds a debug kernel: VARIANT=debug asks for it")
	}
	sel, err := FromEnv(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	sel.Programs, sel.Kernels, sel.Patch = []string{"nop"}, []string{kernel.Patched}, "testdata/splats.patch"
	plan, err := Prepare(interrupted, sel, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plan.End(interrupted) })
	built, err := plan.Kernels()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		words string
		want  []string
	}{
		// Lockdep speaks once and is off then.
		{words: "splat=irqlock", want: []string{"WARNING: inconsistent lock state: splat_lock in splat_in_irq"}},
		{words: "splat=circle", want: []string{"WARNING: possible circular locking dependency detected: splat_a in splat_circle"}},
		{words: "splat=freed,list,atomic,percpu,warn", want: []string{
			"BUG: KASAN: use-after-free in splat_freed",
			"list_add double add in splat_list",
			"BUG: sleeping function called from invalid context at mm/slab.h in splat_atomic",
			"BUG: using smp_processor_id() in preemptible code: splat_init",
			"WARNING at fs/io_uring.c in splat_warn",
			"WARNING at fs/io_uring.c in splat_warn",
		}},
		// What is not cleared holds where the next free object of its slab lies, which kmemleak takes
		// for a use of that one.
		{words: "splat=leak kmemleak=on init_on_alloc=1", want: []string{"unreferenced object of splat_leak"}},
	}
	for _, tc := range tests {
		t.Run(tc.words, func(t *testing.T) {
			s := plan.Cells[0].In(plan.lab, built[0])
			s.Series, s.Symbols = built[0].Subjects, built[0].Symbols
			s.Program.Append = strings.Fields(tc.words)
			s.Console = filepath.Join(t.TempDir(), "console.log")
			var got []string
			cell := RunCell(interrupted, s)
			for _, c := range cell.Checks {
				title, _, _ := strings.Cut(c.Detail, "\n")
				switch {
				case c.Name == "leaks" && strings.Contains(c.Detail, "] splat_leak+"):
					got = append(got, "unreferenced object of splat_leak")
				case subjects.IsConsole(c.Name):
					got = append(got, title)
					ours := func(f results.Frame) bool { return f.File == "fs/io_uring.c" && f.Patch == len(s.Series) }
					if !slices.ContainsFunc(c.Where, ours) {
						t.Errorf("places of %q = %+v; want one of the patch in fs/io_uring.c", title, c.Where)
					}
				case c.Verdict != event.Pass:
					got = append(got, c.Name+": "+title)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s %s, with these checks: %+v; complaints (-want +got):\n%s", cell.Verdict, cell.Reason, cell.Checks, diff)
			}
		})
	}
}
