//go:build linux

package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// fullTable runs f where the process may open no more descriptors.
func fullTable(f func() error) error {
	next, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Close(next); err != nil {
		return err
	}
	var old unix.Rlimit
	// As the lowest number that is free is taken, the limit is hit by whoever comes.
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next), Max: 1 << 20}, &old); err != nil {
		return err
	}
	return errors.Join(f(), unix.Prlimit(0, unix.RLIMIT_NOFILE, &old, nil))
}

// noDescriptors asks for descriptors when there are none left: for rings, and by
// requests that open.
func noDescriptors() error {
	const opOpenat, opAccept = 18, 13
	path, err := machine.Buffer(machine.Sector)
	if err != nil {
		return err
	}
	// A worker thread of v5.7 has a /proc/self of its own.
	copy(path, "/dev/null")
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(listener)
	// An abstract name.
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrUnix{Name: "@hostile"}), unix.Listen(listener, 8)); err != nil {
		return err
	}
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(client)
	if err := unix.Connect(client, &unix.SockaddrUnix{Name: "@hostile"}); err != nil {
		return err
	}
	return uring.With(4, uring.Params{}, func(r *uring.Ring) error {
		open := func(sqe *uring.SQE) {
			sqe.Opcode, sqe.FD, sqe.Addr = opOpenat, unix.AT_FDCWD, uring.Address(path)
		}
		accept := func(sqe *uring.SQE) { sqe.Opcode, sqe.FD = opAccept, int32(listener) }
		err := fullTable(func() error {
			for range 100 {
				fd, err := uring.Setup(4, &uring.Params{})
				if err == nil {
					return errors.Join(unix.Close(fd), errors.New("a ring was set up without a descriptor left"))
				}
				if !errors.Is(err, unix.EMFILE) {
					return fmt.Errorf("set up a ring: %w; want %w", err, unix.EMFILE)
				}
				if err := r.Run(1, 0, open, -int32(unix.EMFILE)); err != nil {
					return fmt.Errorf("OPENAT: %w", err)
				}
				if err := r.Run(1, 0, accept, -int32(unix.EMFILE)); err != nil {
					return fmt.Errorf("ACCEPT: %w", err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		// There are descriptors again.
		sqe := r.Next()
		open(sqe)
		if _, err := r.Submit(); err != nil {
			return fmt.Errorf("submit: %w", err)
		}
		if err := r.Wait(1); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		cqe, _ := r.Take()
		if cqe.Res < 0 {
			return fmt.Errorf("OPENAT afterwards: result %d; want a descriptor", cqe.Res)
		}
		return unix.Close(int(cqe.Res))
	})
}

// lockedMemory sets up rings as one who may lock only so much memory: v5.10 counts
// that of the rings per user, refuses what is above the limit, and must give it back
// when a ring is gone, a moment after its close. A kernel that does not count it
// (uring.RingsByMemcg) must set up as many rings all the same.
func lockedMemory() error {
	const entries, limit = 4096, 1 << 20 // two rings, not three
	k, err := uring.Probe()
	if err != nil {
		return err
	}
	const many = 8
	least, most := many, many
	switch {
	case k.Has(uring.RingsByMemcg) == uring.Before || k.Has(uring.RingsLocked) == uring.After:
		least, most = 1, 2
	case k.Has(uring.RingsLocked) == uring.Either:
		least = 1
	}
	return unprivileged(limit, func() error {
		var rings []int
		for len(rings) < many {
			fd, err := uring.Setup(entries, &uring.Params{})
			if errors.Is(err, unix.ENOMEM) {
				break
			}
			if err != nil {
				return fmt.Errorf("set up ring %d: %w", len(rings)+1, err)
			}
			rings = append(rings, fd)
		}
		if n := len(rings); n < least || n > most {
			return fmt.Errorf("there are %d rings of %d entries, with %d bytes of memory to lock; want %d to %d", n, entries, limit, least, most)
		}
		for _, fd := range rings {
			if err := unix.Close(fd); err != nil {
				return err
			}
		}
		for n := range 20 {
			err := machine.Await(time.Second, func() error {
				fd, err := uring.Setup(entries, &uring.Params{})
				if err != nil {
					return err
				}
				return unix.Close(fd)
			})
			if err != nil {
				return fmt.Errorf("set up ring %d after others: %w", n+1, err)
			}
		}
		return nil
	})
}

// unprivileged runs f on a thread that has no right to lock memory beyond the limit.
func unprivileged(limit uint64, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, so that the thread ends
		done <- func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var caps [2]unix.CapUserData
			if err := unix.Capget(&header, &caps[0]); err != nil {
				return err
			}
			caps[0].Effective &^= 1 << unix.CAP_IPC_LOCK
			if err := unix.Capset(&header, &caps[0]); err != nil {
				return err
			}
			var old unix.Rlimit
			if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}, &old); err != nil {
				return err
			}
			return errors.Join(f(), unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &old, nil))
		}()
	}()
	return <-done
}
