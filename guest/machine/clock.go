//go:build linux

package machine

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is CLOCK_MONOTONIC_RAW, which nobody adjusts. Only differences mean
// something.
func Clock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// MHz is a CPU's frequency as /proc/cpuinfo has it: measured on hardware that can
// (arch/x86/kernel/cpu/aperfmperf.c), with and without cpufreq, and what it was at
// boot elsewhere, as in a VM. It is 0 when there is none.
func MHz(cpu int) float64 {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0
	}
	for block := range strings.SplitSeq(string(text), "\n\n") {
		if lineOf(block, "processor") == strconv.Itoa(cpu) {
			mhz, _ := strconv.ParseFloat(lineOf(block, "cpu MHz"), 64)
			return mhz
		}
	}
	return 0
}
