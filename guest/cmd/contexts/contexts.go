//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// limit is when a check counts as a hang.
const limit = 2 * time.Second

// entries is the size of every ring: more than any check has in flight.
const entries = 128

// The checks run on one CPU; what must happen elsewhere happens on the other.
// (CPU 0 gets the machine's own work.)
const (
	home = 1
	away = 0
)

// context is one way for requests to complete.
type context struct {
	name  string
	cases []check
}

// check is one check in a context.
type check struct {
	name string
	// params are those of its ring.
	params uring.Params
	// peaks says how many of its requests are in flight at the same time.
	peaks map[int]peak
	run   func(*env) error
}

// env is what a check works with, on a thread that is bound to CPU home.
type env struct {
	*flight
	*account
	disk int
	// opened are closed when the check has passed.
	opened []int
}

// at is the usual peak: requests that were submitted on CPU home.
func at(irq0, irq1 int) map[int]peak { return map[int]peak{home: {irq0, irq1}} }

func run(t *report.T) {
	const setup = "setup"
	if cpus, err := machine.OnlineCPUs(); err != nil || !slices.Equal(cpus, []int{0, 1}) {
		t.Error(setup, fmt.Errorf("CPUs %v are online (error %v); want 0 and 1", cpus, err))
		return
	}
	if err := machine.NVMePolls(); err != nil {
		t.Error(setup, err)
		return
	}
	// A partition, because the rings that are to go have others.
	partition, err := machine.AddPartition(1)
	if err != nil {
		t.Error(setup, err)
		return
	}
	disk, err := machine.OpenDisk(partition)
	if err != nil {
		t.Error(setup, err)
		return
	}
	if err := fillDisk(disk); err != nil {
		t.Error(setup, err)
		return
	}
	if err := mountTmpfs(); err != nil {
		t.Error(setup, err)
		return
	}
	watch, err := uring.New(1, uring.Params{})
	if !t.Check(setup, err) {
		return
	}
	s := &suite{T: t, disk: disk, caches: &caches{watch}}
	if !s.section() {
		return
	}
	for _, c := range contexts {
		s.context(c)
	}
	s.exits()
}

// suite runs the checks.
type suite struct {
	*report.T
	disk   int
	caches *caches
}

// section checks that the counters are there exactly when they should be.
func (s *suite) section() bool {
	has, known := s.Feature(alloccache.Feature)
	_, err := s.caches.read()
	switch {
	case errors.Is(err, alloccache.ErrAbsent) && !has:
		s.caches = nil
		return s.Check("section", nil)
	case err == nil && known && !has:
		err = errors.New("the kernel is declared to be without the patch, but has the section")
	}
	return s.Check("section", err)
}

// context makes the checks of a context and one of their accounts.
func (s *suite) context(c context) {
	var accounts []error
	for _, k := range c.cases {
		passed := s.Within(limit, c.name+"/"+k.name, func() error {
			return machine.OnCPU(home, func() error {
				return uring.With(entries, k.params, func(r *uring.Ring) error {
					e := &env{flight: newFlight(r), account: s.caches.open(), disk: s.disk}
					if err := k.run(e); err != nil {
						return err
					}
					if err := e.account.close(k.peaks); err != nil {
						accounts = append(accounts, fmt.Errorf("%s: %w", k.name, err))
					}
					for _, fd := range e.opened {
						unix.Close(fd)
					}
					// A second completion may come with the freeing.
					return e.none()
				})
			})
		})
		if !passed {
			accounts = append(accounts, fmt.Errorf("%s: not known, as the check did not pass", k.name))
		}
	}
	s.accounting(c.name, errors.Join(accounts...))
}

// accounting reports whether every request was where it belongs.
func (s *suite) accounting(context string, err error) {
	name := context + "/accounting"
	if s.caches == nil {
		s.Skip(name, alloccache.Feature, "the kernel has no AllocCache section")
		return
	}
	s.Check(name, err)
}

// tmpfsDir is where the checks have their files.
const tmpfsDir = "/tmp/contexts"

func mountTmpfs() error {
	if err := os.MkdirAll(tmpfsDir, 0o755); err != nil {
		return err
	}
	return unix.Mount("tmpfs", tmpfsDir, "tmpfs", 0, "")
}

// block is the size of most reads and writes in bytes.
const block = 4096

// blocks is the number of blocks in a file, and in the part of the disk that is
// read.
const blocks = 64

// fillDisk writes the pattern to the blocks that the checks read.
func fillDisk(disk int) error {
	b, err := machine.Buffer(blocks * block)
	if err != nil {
		return err
	}
	for n := range blocks {
		machine.Pattern(b[n*block:][:block], n)
	}
	if n, err := unix.Pwrite(disk, b, 0); err != nil || n != len(b) {
		return fmt.Errorf("fill the disk: %d bytes written (error %v)", n, err)
	}
	return nil
}
