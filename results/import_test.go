package results

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

// collected writes a collector's file.
func collected(t *testing.T, boots ...event.Boot) string {
	t.Helper()
	text, err := json.Marshal(event.Collection{Schema: event.CollectionSchema, Boots: boots})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// boot is a boot of a kernel of one bundle, n days after the first.
func boot(kernel string, n int, programs ...string) event.Boot {
	b := event.Boot{
		ID: kernel + string(rune('0'+n)), Bundle: "b", Started: time.Date(2026, 11, 1+n, 0, 0, 0, 0, time.UTC), Finished: true,
		Facts:  event.Facts{Machine: "m", CPU: "a CPU", CPUs: 8, Release: "5.10.13"},
		Kernel: event.BundledKernel{Name: kernel, Record: json.RawMessage(`{"name":"` + kernel + `","variant":"iron"}`)},
	}
	for _, p := range programs {
		b.Ran = append(b.Ran, event.Ran{Program: p, Verdict: event.Pass, Checks: []event.Check{{Name: "c", Verdict: event.Pass}}})
	}
	return b
}

func judged(c *Cell, _ []string, _ json.RawMessage) error {
	c.Expected = c.Verdict != event.Error
	return nil
}

// cells are a run's cells in short.
func cells(t *testing.T, dir string) []string {
	t.Helper()
	run, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if run.ID != filepath.Base(dir) {
		t.Errorf("the run in %s has the id %s", dir, run.ID)
	}
	var all []string
	for _, c := range run.Cells {
		all = append(all, c.Kernel+" "+c.Program+" "+string(rune('0'+c.Iteration))+" "+string(c.Verdict))
	}
	return all
}

// TestImport: boots of one machine become one run, whenever they are imported, and
// none twice.
func TestImport(t *testing.T) {
	root := t.TempDir()
	imported := func(files ...string) string {
		t.Helper()
		dirs, err := Import(root, files, judged)
		if err != nil {
			t.Fatal(err)
		}
		if len(dirs) != 1 {
			t.Fatalf("Import made %d runs; want 1", len(dirs))
		}
		return dirs[0]
	}
	first := imported(collected(t, boot("base", 0, "nop", "hostile")))
	again := imported(collected(t, boot("base", 0, "nop", "hostile")), collected(t, boot("posted", 1, "nop")))
	third := imported(collected(t, boot("base", 0, "nop", "hostile"), boot("base", 2, "nop")))
	if first != again || first != third {
		t.Errorf("Import made %s, %s and %s of one machine's boots; want one run", first, again, third)
	}
	want := []string{"base nop 1 pass", "base hostile 1 pass", "posted nop 1 pass", "base nop 2 pass"}
	if diff := cmp.Diff(want, cells(t, third)); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(third, junitFile)); err != nil {
		t.Errorf("the run is not there for other tools: %v", err)
	}
	run, err := Read(filepath.Join(root, "latest"))
	if err != nil {
		t.Fatal(err)
	}
	if run.Accel.Name != Hardware || run.Host.CPU != "a CPU" || run.Host.CPUs != 8 || run.ExitCode() != 0 {
		t.Errorf("the run has accelerator %q, CPU %q, %d CPUs and exit code %d", run.Accel.Name, run.Host.CPU, run.Host.CPUs, run.ExitCode())
	}
}

// TestImportTellsApart: a VM is no machine, another machine another run, and a kernel
// that is not the bundle's has no name of it.
func TestImportTellsApart(t *testing.T) {
	vm, other, own := boot("base", 0, "nop"), boot("base", 1, "nop"), boot("", 2, "nop")
	vm.Facts.Hypervisor = "QEMU"
	other.Facts.Machine = "another"
	own.Facts.Release = "6.1.0-9-amd64"
	dirs, err := Import(t.TempDir(), []string{collected(t, boot("base", 3, "nop"), vm, other, own)}, judged)
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) != 3 {
		t.Fatalf("Import made %d runs; want 3", len(dirs))
	}
	want := []string{"6.1.0-9-amd64 nop 1 pass", "base nop 1 pass"}
	if diff := cmp.Diff(want, cells(t, dirs[0])); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	run, err := Read(dirs[1])
	if err != nil || run.Accel.Name != Guest {
		t.Errorf("a VM's run: accelerator %q, %v; want %q", run.Accel.Name, err, Guest)
	}
}

// TestImportOfADeadMachine: what was in flight is no verdict about the kernel, and a
// fuller record of the same boot replaces it.
func TestImportOfADeadMachine(t *testing.T) {
	root := t.TempDir()
	dead := boot("posted", 0, "nop")
	dead.Finished, dead.Running = false, "hostile"
	dirs, err := Import(root, []string{collected(t, dead)}, judged)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"posted nop 1 pass", "posted hostile 1 error"}, cells(t, dirs[0])); diff != "" {
		t.Errorf("cells (-want +got):\n%s", diff)
	}
	if run, err := Read(dirs[0]); err != nil || run.ExitCode() != 2 || run.Status != Interrupted {
		t.Errorf("exit code %d, status %s, %v; want 2 and interrupted", run.ExitCode(), run.Status, err)
	}
	whole := boot("posted", 0, "nop", "hostile")
	for _, file := range []string{collected(t, whole), collected(t, dead)} {
		if _, err := Import(root, []string{file}, judged); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"posted nop 1 pass", "posted hostile 1 pass"}, cells(t, dirs[0])); diff != "" {
			t.Errorf("cells (-want +got):\n%s", diff)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	bad := boot("base", 0, "nop")
	bad.Ran[0].Verdict = "okay"
	nameless := boot("base", 0, "nop")
	nameless.ID = ""
	text := filepath.Join(t.TempDir(), "text")
	run := filepath.Join(t.TempDir(), "run.json")
	future := filepath.Join(t.TempDir(), "future")
	for file, content := range map[string]string{text: "no JSON", run: `{"schema":1}`, future: `{"collection":99}`} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, file, want string }{
		{"a file that is not there", future + ".none", "no such file"},
		{"a device", "/dev/null", "/dev/null: not a regular file"},
		{"text", text, "not a collector's file"},
		{"a run.json", run, "no boots"},
		{"a later format", future, "update patchproof"},
		{"an unknown verdict", collected(t, bad), `unknown verdict "okay"`},
		{"a boot without an id", collected(t, nameless), "no id"},
	} {
		root := t.TempDir()
		if _, err := Import(root, []string{collected(t, boot("base", 1, "nop")), tt.file}, judged); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Import = %v; want %q", tt.name, err, tt.want)
		}
		if left, _ := os.ReadDir(root); len(left) > 0 {
			t.Errorf("%s: Import left %v", tt.name, left)
		}
	}
}
