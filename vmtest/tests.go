package vmtest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchproof/guest/event"
	"patchproof/vmtest/initramfs"
	"patchproof/vmtest/lab"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/userland"
)

// Limits are what a user's tests get of a machine.
type Limits struct {
	// Timeout is how long a test may run under KVM and with a plain kernel.
	Timeout         time.Duration
	CPUs, MemoryMiB int
	Devices         []qemu.Device
	// Append are words for the kernel command line.
	Append []string
	userland.Guest
}

// limitVariables are those of Limits.
var limitVariables = []string{"TIMEOUT", "MEMORY", "CPUS", "DISK", "APPEND", "ROOT", "NET"}

// The defaults of a test's machine. The time is kselftest's own, rounded up.
const (
	testTimeout = time.Minute
	testCPUs    = 2
	testMemory  = 512
)

// The bounds of what may be asked for.
const (
	maxTimeout = 24 * time.Hour
	maxCPUs    = 64
	maxMemory  = 256 << 10
	maxDisk    = 1 << 20
)

// limits reads the variables of a test's machine.
func limits(set map[string]string) (Limits, error) {
	if set["TEST"] == "" {
		for _, name := range limitVariables {
			if set[name] != "" {
				return Limits{}, fmt.Errorf("%s=%s is for a test of yours: it needs TEST=", name, set[name])
			}
		}
		return Limits{}, nil
	}
	l := Limits{Timeout: testTimeout, CPUs: testCPUs, MemoryMiB: testMemory}
	var err error
	if value := set["TIMEOUT"]; value != "" {
		if seconds, err := strconv.Atoi(value); err == nil {
			value = fmt.Sprintf("%ds", seconds)
		}
		if l.Timeout, err = time.ParseDuration(value); err != nil || l.Timeout < time.Second || l.Timeout > maxTimeout {
			return l, fmt.Errorf("TIMEOUT=%s: want seconds, or a time such as 90s or 5m, up to %v", set["TIMEOUT"], maxTimeout)
		}
	}
	if l.CPUs, err = number("CPUS", set["CPUS"], l.CPUs, maxCPUs); err != nil {
		return l, err
	}
	if value := set["MEMORY"]; value != "" {
		if l.MemoryMiB, err = mebibytes(value); err != nil || l.MemoryMiB < 128 || l.MemoryMiB > maxMemory {
			return l, fmt.Errorf("MEMORY=%s: want a size such as 512M or 2G, from 128M to %dG", value, maxMemory>>10)
		}
	}
	for _, disk := range strings.Fields(set["DISK"]) {
		size, kind, _ := strings.Cut(disk, ",")
		d := qemu.Device{Kind: qemu.VirtioBlk}
		switch kind {
		case "nvme":
			d.Kind = qemu.NVMe
		case "", "virtio":
		default:
			return l, fmt.Errorf("DISK=%s: %q is no kind of disk; known: virtio, nvme", disk, kind)
		}
		if d.SizeMiB, err = mebibytes(size); err != nil || d.SizeMiB < 1 || d.SizeMiB > maxDisk {
			return l, fmt.Errorf("DISK=%s: want a size such as 64M or 2G, and behind a comma nvme or virtio", disk)
		}
		l.Devices = append(l.Devices, d)
	}
	l.Append = strings.Fields(set["APPEND"])
	switch set["ROOT"] {
	case "":
	case "host":
		l.HostRoot = true
	default:
		return l, fmt.Errorf("ROOT=%s: want host, for a test that sees this machine's root", set["ROOT"])
	}
	switch set["NET"] {
	case "":
	case "user":
		l.Net = true
	default:
		return l, fmt.Errorf("NET=%s: want user, for a test that has QEMU's user network", set["NET"])
	}
	return l, nil
}

// mebibytes reads a size as QEMU does: a number of MiB, or one with M or G.
func mebibytes(value string) (int, error) {
	number, scale := value, 1
	switch {
	case strings.HasSuffix(value, "G"):
		number, scale = strings.TrimSuffix(value, "G"), 1<<10
	case strings.HasSuffix(value, "M"):
		number = strings.TrimSuffix(value, "M")
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > 1<<30 {
		return 0, fmt.Errorf("%q is no size", value)
	}
	return n * scale, nil
}

// testSlack is what the program that runs a test may take beside it: to end what the
// test left behind, and to send its files.
const testSlack = 10 * time.Second

// brought says that the program is a test of the user's.
func (p Program) brought() bool { return p.Command == testCommand }

// testCommand is the guest's command that runs a user's test.
const testCommand = "exec"

// testPrograms are the rows of the user's tests.
func testPrograms(tests []userland.Test, l Limits) []Program {
	var programs []Program
	for _, t := range tests {
		programs = append(programs, Program{
			Name: t.Name, Command: testCommand, CPUs: l.CPUs, MemoryMiB: l.MemoryMiB, Deadline: l.Timeout + testSlack,
			Devices: l.Devices, Append: append([]string{event.TestKey + "=" + t.Name}, l.Append...),
			Guest: l.Guest,
		})
	}
	return programs
}

// scripts are the tests behind the programs that a subject has as scripts.
func scripts(programs []Program) ([]userland.Test, error) {
	var tests []userland.Test
	for _, p := range programs {
		if p.Script == "" {
			continue
		}
		found, err := userland.Find(p.Script, userland.Guest{})
		if err != nil {
			return nil, fmt.Errorf("program %s: %w", p.Name, err)
		}
		for _, t := range found {
			t.Name, t.Timeout = p.Name, p.Deadline-testSlack
			tests = append(tests, t)
		}
	}
	return tests, nil
}

// Furnish furnishes a laboratory for the programs of a subject.
func Furnish(ctx context.Context, l *lab.Lab, programs []Program) error {
	tests, err := scripts(programs)
	if err != nil {
		return err
	}
	return furnish(ctx, l, tests, testTimeout, slices.ContainsFunc(programs, func(p Program) bool { return p.Counted }))
}

// furnish furnishes a laboratory, and packs tests behind its initramfs.
func furnish(ctx context.Context, l *lab.Lab, tests []userland.Test, timeout time.Duration, counted bool) error {
	err := l.Furnish(ctx, counted)
	if err == nil && len(tests) > 0 {
		l.Initramfs, err = initramfs.With(l.Builder.Cache, l.Initramfs, func() ([]byte, error) { return userland.Archive(tests, timeout) })
	}
	return err
}

// keepFiles writes what a guest sent back into a folder beside the console log, and
// returns the paths as they are inside the run's folder.
func keepFiles(log string, files map[string][]byte) ([]string, error) {
	if len(files) == 0 {
		return nil, nil
	}
	dir := strings.TrimSuffix(log, ".log") + ".files"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("the test's files cannot be kept: %w", err)
	}
	// What the guest called them leads nowhere else.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("the test's files cannot be kept: %w", err)
	}
	defer root.Close()
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, fmt.Errorf("the test's file %q cannot be kept: %w", name, err)
		}
		if err := root.WriteFile(name, files[name], 0o644); err != nil {
			return nil, fmt.Errorf("the test's file %q cannot be kept: %w", name, err)
		}
		paths = append(paths, filepath.Join(filepath.Base(dir), name))
	}
	return paths, nil
}
