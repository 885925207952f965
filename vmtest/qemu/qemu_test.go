package qemu

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	tests := []struct{ out, want, err string }{
		{"QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright", "7.2.22", ""},
		{"QEMU emulator version 10.0.0-rc1\n", "10.0.0-rc1", ""},
		{"QEMU emulator version 4.1.0\n", "", "too old"},
		{"QEMU emulator version 2.11.1\n", "", "apt-get install"},
		{"hello", "", "no version"},
	}
	for _, tc := range tests {
		got, err := parseVersion(tc.out)
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("parseVersion(%q) = %q, %v; want %q, %q", tc.out, got, err, tc.want, tc.err)
		}
	}
}

// A wrapper may leave a process behind that keeps its output open.
func TestFindDoesNotWaitForOthers(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nsleep 20 &\necho $! >" + filepath.Join(dir, "pid") + "\necho QEMU emulator version 9.1.2\n"
	if err := os.WriteFile(filepath.Join(dir, Binary), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pid, err := os.ReadFile(filepath.Join(dir, "pid")); err == nil {
			exec.Command("kill", strings.TrimSpace(string(pid))).Run()
		}
	})
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if got, err := Find(t.Context()); err != nil || got != "9.1.2" {
		t.Errorf("Find() = %q, %v; want the version", got, err)
	}
}

func TestDeviceFormat(t *testing.T) {
	for _, tt := range []struct {
		bad  []int64
		want string
	}{
		{nil, "format=raw,file"},
		{[]int64{7, 4096}, "driver=blkdebug" +
			",inject-error.0.event=none,inject-error.0.sector=7,inject-error.0.once=off" +
			",inject-error.1.event=none,inject-error.1.sector=4096,inject-error.1.once=off" +
			",image.driver=raw,image.file.filename"},
	} {
		if got := (Device{Kind: NVMe, BadSectors: tt.bad}).format(); got != tt.want {
			t.Errorf("format with bad sectors %v = %s; want %s", tt.bad, got, tt.want)
		}
	}
}

func TestCPUTimes(t *testing.T) {
	const stat = "cpu  1000 20 300 9000 50 6 7 80 90 0\ncpu0 100 2 30 900 5 0 1 8 9 0\ncpu10 1 0 0 0 0 0 0 0 0 0\n"
	for name, want := range map[string]cpuTime{"cpu": {14.13, 0.8}, "cpu0": {1.41, 0.08}, "cpu10": {0.01, 0}} {
		if got, err := cpuTimes(stat, name); err != nil || got != want {
			t.Errorf("cpuTimes(%s) = %+v, %v; want %+v", name, got, err, want)
		}
	}
	if got, err := cpuTimes(stat, "cpu1"); err == nil {
		t.Errorf("cpuTimes(cpu1) = %+v; want an error", got)
	}
}

// TestCommandLineIsForAShell checks that a path with what a shell takes for its own comes
// out of the printed command as it went in.
func TestCommandLineIsForAShell(t *testing.T) {
	for _, kernel := range []string{"/a/`id`/\\#[x]~!/vmlinux", "/a b/$HOME/it's/vmlinux"} {
		line := VM{Machine: Machine{Accel: TCG, CPUs: 1, MemoryMiB: 128}, Boot: Boot{Kernel: kernel}}.Command(false)
		out, err := exec.Command("bash", "-c", "set -- "+line+"; printf '%s\n' \"$@\"").Output()
		if err != nil {
			t.Fatalf("a shell does not read %s: %v", line, err)
		}
		if !slices.Contains(strings.Split(string(out), "\n"), kernel) {
			t.Errorf("the shell got\n%s\nwant %s as a word of it", out, kernel)
		}
	}
}
