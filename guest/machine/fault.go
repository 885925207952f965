//go:build linux

package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Faults are the kernel's injected allocation failures of one kind
// (Documentation/fault-injection/fault-injection.rst). They hit the threads that
// want them and no other.
type Faults struct{ dir string }

// SlabFaults makes allocations from one slab cache fail (failslab). The cache must
// have been chosen at boot with slub_debug=A,<cache>.
func SlabFaults(cache string) (*Faults, error) {
	path := "/sys/kernel/slab/" + cache + "/failslab"
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if got := strings.TrimSpace(string(b)); got != "1" {
		return nil, fmt.Errorf("%s is %s; want 1 (boot with slub_debug=A,%s)", path, got, cache)
	}
	f, err := openFaults("failslab")
	if err != nil {
		return nil, err
	}
	return f, f.set("cache-filter", "Y")
}

// PageFaults makes allocations of pages fail (fail_page_alloc), except those that
// become a program's memory.
func PageFaults() (*Faults, error) {
	f, err := openFaults("fail_page_alloc")
	if err != nil {
		return nil, err
	}
	return f, f.set("min-order", "0")
}

func openFaults(kind string) (*Faults, error) {
	dir, err := debugFS(kind)
	if err != nil {
		return nil, err
	}
	f := &Faults{dir: dir}
	return f, errors.Join(
		f.set("task-filter", "Y"),
		f.set("interval", "1"),
		// No limit; v5.10 does not take -1 (DEFINE_SIMPLE_ATTRIBUTE reads an unsigned).
		f.set("times", "1000000000"),
		f.set("verbose", "0"))
}

func (f *Faults) set(name, value string) error {
	return os.WriteFile(filepath.Join(f.dir, name), []byte(value), 0)
}

// During runs do while every allocation of this kind fails that the calling
// thread makes. The goroutine must be locked to it, as within OnCPU. With
// PageFaults do must not make the program or its page tables grow.
func (f *Faults) During(do func() error) error { return f.during("N", do) }

// DuringAtomic is During for those allocations that may not wait for memory.
func (f *Faults) DuringAtomic(do func() error) error { return f.during("Y", do) }

func (f *Faults) during(atomicOnly string, do func() error) error {
	if err := f.set("ignore-gfp-wait", atomicOnly); err != nil {
		return err
	}
	fd, err := unix.Open("/proc/thread-self/make-it-fail", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := f.set("probability", "100"); err != nil {
		return err
	}
	if _, err := unix.Pwrite(fd, []byte("1"), 0); err != nil {
		return err
	}
	err = do()
	_, off := unix.Pwrite(fd, []byte("0"), 0)
	return errors.Join(err, off, f.set("probability", "0"))
}
