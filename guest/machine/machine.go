//go:build linux

// Package machine is what guest programs know about the machine they run on:
// its boot options, its CPUs, its devices and what its tasks are doing. It is
// the one door to /proc and /sys.
package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// BootOption returns the value of key=value on the kernel command line, or
// before that in what a bundle's collector gives its programs.
func BootOption(key string) (value string, ok bool) {
	// Without a command line the options may still have it.
	line, _ := os.ReadFile("/proc/cmdline")
	for _, word := range strings.Fields(os.Getenv(event.OptionsEnv) + " " + string(line)) {
		if value, ok := strings.CutPrefix(word, key+"="); ok {
			return value, true
		}
	}
	return "", false
}

// ScaleKey is the boot option of Patience, which all VMs of the harness have.
const ScaleKey = "patchproof.scale"

// The boot options that tell what the machine has: CPUs, MiB of memory and scratch disks.
const (
	CPUsKey   = "patchproof.cpus"
	MemoryKey = "patchproof.memory"
	DisksKey  = "patchproof.disks"
)

// Patience is a limit scaled to the machine: the host says by how much
// everything takes longer than under KVM and with a plain kernel.
func Patience(limit time.Duration) time.Duration { return times(limit, ScaleKey) }

// BusyKey is the boot option for how many times slower a busy host made this guest when it was
// booted before, where that is why it is booted again.
const BusyKey = "patchproof.busy"

// WaitPatience is a limit for what only waits: longer where the host keeps the guest waiting.
func WaitPatience(limit time.Duration) time.Duration { return times(limit, BusyKey) }

// times is a limit as many times longer as a boot option says.
func times(limit time.Duration, key string) time.Duration {
	value, _ := BootOption(key)
	scale, err := strconv.ParseFloat(value, 64)
	if err != nil || scale < 1 {
		return limit
	}
	return time.Duration(float64(limit) * scale)
}

// Uptime is the time since the kernel started (CLOCK_BOOTTIME).
func Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Idle is how long each processor that is there has had nothing to do since the kernel
// started, by its name in /proc/stat.
func Idle() map[string]time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil
	}
	idle := map[string]time.Duration{}
	for line := range strings.Lines(string(text)) {
		// user nice system idle (proc_stat(5)), in ticks of USER_HZ.
		words := strings.Fields(line)
		if len(words) < 5 || words[0] == "cpu" || !strings.HasPrefix(words[0], "cpu") {
			continue
		}
		if ticks, err := strconv.ParseInt(words[4], 10, 64); err == nil {
			idle[words[0]] = time.Duration(ticks) * time.Second / 100
		}
	}
	return idle
}

// debugFS returns the path of a name in debugfs, which it mounts if nobody has.
func debugFS(name string) (string, error) {
	const dir = "/sys/kernel/debug"
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		if err := unix.Mount("debugfs", dir, "debugfs", 0, ""); err != nil && err != unix.EBUSY {
			return "", fmt.Errorf("mount debugfs: %w", err)
		}
	}
	return path, nil
}
