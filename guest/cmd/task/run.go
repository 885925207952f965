//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// The arguments of the program as a child: childArg, a kind, lockedKind or otherKind, and how
// it goes; afterExec instead of a kind is what it becomes by execve(2).
const (
	childArg   = "child"
	lockedKind = "locked"
	otherKind  = "other"
	afterExec  = "after-exec"
	byExec     = "exec"
)

// limit is when a process that goes counts as stuck, or what it had as lost.
const limit = 5 * time.Second

// user is one of whom nobody else is, and lockable what may be locked for him, in bytes:
// enough for two rings with a buffer each, on kernels where rings count as well.
const (
	user     = 4711
	lockable = 128 << 10
)

func run(t *report.T) {
	if err := machine.NVMePolls(); err != nil {
		t.Error("disk", err)
		return
	}
	cpus, err := machine.OnlineCPUs()
	if err != nil {
		t.Error("cpus", err)
		return
	}
	// The first of each kind leaves what stays for good, such as threads of the kernel.
	for _, k := range kinds {
		if err := goes(k.name, machine.ByExit); err != nil {
			t.Error("first/"+k.name, err)
			return
		}
	}
	base, err := baseline(cpus)
	if err != nil {
		t.Error("census", err)
		return
	}
	all := []string{}
	for _, k := range kinds {
		all = append(all, k.name)
	}
	for _, kind := range append(all, lockedKind) {
		for _, way := range []string{machine.ByExit, machine.ByKill, byExec} {
			base = leave(t, kind, way, cpus, base)
		}
	}
	gone(t, lockedKind+"/given-back", givenBack)
}

// baseline is the least that the kernel has, of several looks at it.
func baseline(cpus []int) (base census, err error) {
	err = machine.Await(limit, func() error {
		for range 10 {
			c, err := takeCensus(cpus)
			if err != nil {
				return err
			}
			if base == nil {
				base = c
			}
			base = base.least(c)
			time.Sleep(50 * time.Millisecond)
		}
		return nil
	})
	return base, err
}

// leave has processes of a kind leave in one way, and checks that the kernel keeps nothing of
// theirs. It returns what the kernel has then.
func leave(t *report.T, kind, way string, cpus []int, base census) census {
	name := kind + "/" + way
	n := 1
	if kind == lockedKind {
		n = 4 // of which all but two need what those before have given back
	}
	left := gone(t, name, func() error {
		for range n {
			if err := goes(kind, way); err != nil {
				return err
			}
		}
		return nil
	})
	if !left {
		return base
	}
	var now census
	t.Check(name+"/nothing-kept", machine.Await(limit, func() (err error) {
		if now, err = takeCensus(cpus); err != nil {
			return err
		}
		if more := now.more(base); more != "" {
			return fmt.Errorf("the processes are gone, and the kernel has more than before: %s", more)
		}
		return nil
	}))
	if now == nil {
		return base
	}
	return now
}

// givenBack has processes lock most of what their user may, while another process of his
// stays: with a user's last process goes the count of what he has locked.
func givenBack() error {
	other, err := machine.StartChild("task", nil, childArg, otherKind, machine.ByKill)
	if err != nil {
		return err
	}
	defer other.End()
	if err := other.Hear(machine.SaysReady, time.Now().Add(machine.Patience(limit))); err != nil {
		return err
	}
	// A ring of 64 has two pages that count or more, where any do: what the 32 pages have
	// beyond one process's need is used up by ten.
	for range 15 {
		if err := goes(lockedKind, machine.ByExit); err != nil {
			return err
		}
	}
	return nil
}

// gone reports a check that may have been late.
func gone(t *report.T, name string, f func() error) bool {
	err := f()
	if errors.Is(err, machine.ErrLate) {
		t.Hang(name, fmt.Sprintf("after %v: %v\n%s", machine.Patience(limit), err, machine.StuckTasks()))
		return false
	}
	return t.Check(name, err)
}

// goes starts a process of a kind and lets it go.
func goes(kind, way string) error {
	c, err := machine.StartChild("task", nil, childArg, kind, way)
	if err != nil {
		return err
	}
	defer c.End()
	deadline := time.Now().Add(machine.Patience(limit))
	if err := c.Hear(machine.SaysReady, deadline); err != nil {
		return err
	}
	if way == byExec {
		// Requests in flight are waited for, those of a count that is wrong for ever.
		if err := c.Hear(machine.SaysClosed, deadline); err != nil {
			return err
		}
		way = machine.ByExit
	}
	return c.Leave(way, deadline)
}

// child is the process that goes; it does not return.
func child(kind, way string) {
	if kind == afterExec {
		fmt.Println(machine.SaysClosed)
		os.Exit(0)
	}
	// A ring belongs to the thread that used it.
	runtime.LockOSThread()
	if err := prepare(kind); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(machine.SaysReady)
	switch way {
	case machine.ByExit:
		os.Exit(0)
	case byExec:
		err := syscall.Exec("/proc/self/exe", []string{"task", childArg, afterExec, way}, os.Environ())
		fmt.Println(err)
		os.Exit(1)
	}
	// Until it is killed.
	io.Copy(io.Discard, bufio.NewReader(os.Stdin))
	os.Exit(1)
}

func prepare(kind string) error {
	switch kind {
	case lockedKind:
		return locked()
	case otherKind:
		return syscall.Setuid(user)
	}
	for _, k := range kinds {
		if k.name == kind {
			return k.do()
		}
	}
	return fmt.Errorf("no kind is called %s", kind)
}

// locked becomes somebody who may lock little, and locks most of it.
func locked() error {
	most := unix.Rlimit{Cur: lockable, Max: lockable}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &most); err != nil {
		return err
	}
	if err := syscall.Setuid(user); err != nil {
		return err
	}
	return machine.Await(limit/2, func() error {
		r, err := uring.New(64, uring.Params{})
		if err != nil {
			return fmt.Errorf("what the user's processes had locked is not given back: %w", err)
		}
		if err := lock(r, 12); err != nil {
			return fmt.Errorf("what the user's processes had locked is not given back: %w", errors.Join(err, r.Close()))
		}
		return nil
	})
}
