//go:build linux

package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// hypervisor says what the machine runs on, and is empty when it is no VM. Only
// the processor is believed, which sets a flag for every guest (CPUID 1, ECX bit
// 31): the names in DMI are the same on a cloud's VMs and on its bare machines.
// Xen's first domain has the flag and the hardware.
func hypervisor() string {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	flags := lineOf(string(cpuinfo), "flags")
	if !strings.Contains(" "+flags+" ", " hypervisor ") {
		return ""
	}
	if strings.Contains(firstLine("/proc/xen/capabilities"), "control_d") {
		return ""
	}
	if kind := firstLine("/sys/hypervisor/type"); kind != "" {
		return kind
	}
	if vendor := firstLine("/sys/class/dmi/id/sys_vendor"); vendor != "" {
		return vendor
	}
	return "a hypervisor that does not say its name"
}

// Facts describes the machine and the kernel that runs. What the kernel does not
// tell is empty.
func Facts() event.Facts {
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	cpu := lineOf(string(cpuinfo), "model name")
	microcode := lineOf(string(cpuinfo), "microcode")
	memory, _ := numberIn("/proc/meminfo", "MemTotal:")
	notes, _ := os.ReadFile("/sys/kernel/notes")
	var u unix.Utsname
	unix.Uname(&u)
	f := event.Facts{
		Product:     strings.TrimSpace(firstLine("/sys/class/dmi/id/sys_vendor") + " " + firstLine("/sys/class/dmi/id/product_name")),
		Hypervisor:  hypervisor(),
		CPU:         cpu,
		CPUs:        runtime.NumCPU(),
		MemoryKiB:   memory,
		Release:     unix.ByteSliceToString(u.Release[:]),
		Version:     unix.ByteSliceToString(u.Version[:]),
		BuildID:     event.BuildID(notes),
		Cmdline:     firstLine("/proc/cmdline"),
		Driver:      firstLine(cpuDir + "/cpu0/cpufreq/scaling_driver"),
		Governor:    firstLine(cpuDir + "/cpu0/cpufreq/scaling_governor"),
		Microcode:   microcode,
		Clock:       firstLine("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
		Mitigations: map[string]string{},
	}
	lines, _ := filepath.Glob(cpuDir + "/vulnerabilities/*")
	for _, path := range lines {
		f.Mitigations[filepath.Base(path)] = firstLine(path)
	}
	// The board's own number, which root may read, tells two of a kind apart.
	sum := sha256.Sum256([]byte(firstLine("/sys/class/dmi/id/product_uuid") + "\n" + f.Product + "\n" + f.CPU))
	f.Machine = hex.EncodeToString(sum[:6])
	return f
}

// KHz is the frequency of CPU 0 in kHz, 0 when the kernel does not say.
func KHz() int {
	khz, _ := strconv.Atoi(firstLine(cpuDir + "/cpu0/cpufreq/scaling_cur_freq"))
	return khz
}

// Steal is the time in seconds that a hypervisor has taken from all CPUs since
// boot. A kernel without CONFIG_PARAVIRT_TIME_ACCOUNTING does not see it.
func Steal() float64 {
	words := strings.Fields(firstLine("/proc/stat"))
	// "cpu", then user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).
	const steal, ticks = 8, 100
	if len(words) <= steal {
		return 0
	}
	n, _ := strconv.ParseFloat(words[steal], 64)
	return n / ticks
}

// firstLine is a file's first line, empty when it cannot be read.
func firstLine(path string) string {
	text, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// lineOf returns the value of "key : value", empty where there is none.
func lineOf(text, key string) string {
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
