//go:build linux

package machine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const cpuDir = "/sys/devices/system/cpu"

// PossibleCPUs are the CPUs the kernel made room for, online or not, in order.
func PossibleCPUs() ([]int, error) { return readCPUList(cpuDir + "/possible") }

// OnlineCPUs are the CPUs that run tasks now, in order.
func OnlineCPUs() ([]int, error) { return readCPUList(cpuDir + "/online") }

func readCPUList(path string) ([]int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cpus, err := parseCPUList(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cpus, nil
}

// parseCPUList reads the kernel's list format: "0-2,5".
func parseCPUList(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", list, err)
		}
		last, err := strconv.Atoi(to)
		if err != nil {
			return nil, fmt.Errorf("CPU list %q: %w", list, err)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// CanGoOffline reports whether the kernel lets the CPU go; it keeps the first
// one on x86.
func CanGoOffline(cpu int) bool {
	_, err := os.Stat(fmt.Sprintf("%s/cpu%d/online", cpuDir, cpu))
	return err == nil
}

// SetOnline takes a CPU online or offline and returns when the kernel has
// done so. A CPU that does not answer is Trouble: the kernel waits ten seconds for
// its first instructions (arch/x86/kernel/smpboot.c, do_boot_cpu), and the emulated
// one of a busy host can be later. It cannot be brought online after that.
func SetOnline(cpu int, online bool) error {
	value := "0"
	if online {
		value = "1"
	}
	err := os.WriteFile(fmt.Sprintf("%s/cpu%d/online", cpuDir, cpu), []byte(value), 0)
	if online && errors.Is(err, unix.EIO) {
		return Trouble{fmt.Errorf("CPU %d did not answer the kernel within ten seconds, as on a host that is too busy: %w", cpu, err)}
	}
	return err
}

// OnCPU runs f on a thread that is bound to the CPU. The thread ends with f,
// so that the binding cannot leak into other goroutines.
func OnCPU(cpu int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime then ends the thread with the goroutine.
		runtime.LockOSThread()
		done <- Recovered(func() error {
			if err := Bind(cpu); err != nil {
				return err
			}
			return f()
		})
	}()
	return <-done
}

// Bind moves the calling thread to the CPU. The goroutine must be locked to it,
// as it is within OnCPU.
func Bind(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to CPU %d: %w", cpu, err)
	}
	return nil
}
