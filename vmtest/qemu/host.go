package qemu

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"patchproof/results"
)

// Host describes the machine that the guests run on.
func Host() results.Host {
	h := results.Host{OS: runtime.GOOS, CPUs: runtime.NumCPU()}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		if name, ok := field(string(text), "PRETTY_NAME="); ok {
			h.OS = strings.Trim(name, `"`)
		}
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if name, ok := field(string(text), "model name"); ok {
			h.CPU = strings.TrimLeft(name, "\t :")
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return h
}

// field is the rest of the first line that starts with key.
func field(text, key string) (string, bool) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}
