//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
)

// census counts the objects that the kernel has for no process that can be seen, by
// their slab cache. As long as nothing is lost none of the counts grows.
type census map[string]int

// caches are those counted, with what in /proc has one object each. Threads of the kernel
// share the files and the root of the first one and have no memory of their own, so that
// nothing that comes and goes by itself has those. newName is what a cache is called since
// a kernel took the structure's name for it.
var caches = []struct{ name, newName, owners string }{
	{"filp", "", ""},
	{"task_struct", "", "/proc/[0-9]*/task/[0-9]*"},
	{"signal_cache", "", "/proc/[0-9]*"},
	{"cred_jar", "cred", "/proc/[0-9]*"},
	{"files_cache", "", ""},
	{"fs_cache", "", ""},
	{"mm_struct", "", ""},
	{"uid_cache", "", ""},
}

// looking is how many files a look itself may have open, or waiting for RCU; a process
// that keeps any keeps more.
const looking = 8

// membarrierGlobal waits until RCU has seen all that was freed before (membarrier(2),
// MEMBARRIER_CMD_GLOBAL).
const membarrierGlobal = 1

// errMoving means that processes came or went during a census.
var errMoving = errors.New("processes come and go")

func takeCensus(cpus []int) (census, error) {
	if err := visit(cpus); err != nil {
		return nil, err
	}
	before, err := owners()
	if err != nil {
		return nil, err
	}
	c := census{}
	// RCU frees most of them late, also the files of /proc that owners has just read.
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		return nil, fmt.Errorf("membarrier(2): %w", errno)
	}
	time.Sleep(10 * time.Millisecond)
	for _, cache := range caches {
		n, err := machine.SlabObjects(cache.name)
		if errors.Is(err, fs.ErrNotExist) && cache.newName != "" {
			n, err = machine.SlabObjects(cache.newName)
		}
		if err != nil {
			return nil, err
		}
		c[cache.name] = n - before[cache.owners]
	}
	after, err := owners()
	if err != nil {
		return nil, err
	}
	for pattern, n := range before {
		if after[pattern] != n {
			return nil, errMoving
		}
	}
	return c, nil
}

// visit runs on each CPU for a moment: one that idles may still run on the memory of a
// process that has ended. The thread is this one, as a new one would have to go, too.
func visit(cpus []int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	for _, cpu := range cpus {
		if err := machine.Bind(cpu); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return unix.SchedSetaffinity(0, &all)
}

// owners counts what matches the patterns of caches.
func owners() (map[string]int, error) {
	n := map[string]int{"": 0}
	for _, cache := range caches {
		found, err := filepath.Glob(cache.owners)
		if err != nil {
			return nil, err
		}
		n[cache.owners] = len(found)
	}
	return n, nil
}

// more describes what c has more of than base, "" if there is nothing.
func (c census) more(base census) string {
	var parts []string
	for _, cache := range caches {
		n := c[cache.name] - base[cache.name]
		if n > 0 && (cache.name != "filp" || n > looking) {
			parts = append(parts, fmt.Sprintf("%d of %s", n, cache.name))
		}
	}
	return strings.Join(parts, ", ")
}

// least is the smaller of two counts of each cache: what is on its way out is no part of
// what there is.
func (c census) least(other census) census {
	all := census{}
	for name, n := range c {
		all[name] = min(n, other[name])
	}
	return all
}
