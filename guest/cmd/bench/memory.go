//go:build linux

package main

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// memoryGroup is the group that measures memory instead of instructions.
const memoryGroup = "memory"

// inFlight is how many requests are in flight at the peak, on each CPU.
const inFlight = 1024

// memory reports what the slab of requests holds: before any ring, then CPU by CPU
// with many requests in flight and after they have completed, at last after
// everything was shrunk.
func memory(t *report.T) {
	online, err := machine.OnlineCPUs()
	if err != nil {
		t.Error("memory", err)
		return
	}
	if !t.Check("fresh", slab(t, "fresh", "all")) {
		return
	}
	for _, cpu := range online {
		name := strconv.Itoa(cpu)
		if !t.Check("cpu"+name, machine.OnCPU(cpu, func() error { return use(t, name) })) {
			return
		}
	}
	t.Check("shrunk", shrunk(t))
}

// use has requests in flight on the CPU that the thread is bound to, and lets them
// complete there.
func use(t *report.T, cpu string) error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = uring.With(inFlight, uring.Params{}, func(r *uring.Ring) error {
		for range inFlight {
			sqe := r.Next()
			sqe.Opcode, sqe.FD, sqe.OpFlags = uring.OpPollAdd, int32(fd), unix.POLLIN
		}
		if n, err := r.Submit(); err != nil || n != inFlight {
			return fmt.Errorf("the kernel took %d of %d entries (%v)", n, inFlight, err)
		}
		if err := slab(t, "peak", cpu); err != nil {
			return err
		}
		if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			return err
		}
		return r.Wait(inFlight)
	})
	if err != nil {
		return err
	}
	return slab(t, "rest", cpu)
}

// shrunk has everything freed that the kernel can free: by its shrinkers, then also
// the slab's own empty pages.
func shrunk(t *report.T) error {
	if err := machine.DropSlab(); err != nil {
		return err
	}
	if err := slab(t, "dropped", "all"); err != nil {
		return err
	}
	if _, err := machine.SlabObjects(alloccache.Slab); err != nil {
		return err
	}
	return slab(t, "shrunk", "all")
}

// slab reports what the slab holds now.
func slab(t *report.T, state, cpu string) error {
	s, err := machine.SlabInfo(alloccache.Slab)
	if err != nil {
		return err
	}
	labels := map[string]string{"bench": fmt.Sprintf("Memory/at=%s/cpu=%s", state, cpu)}
	t.Metric("slab-objects", float64(s.Active), "objects", labels)
	t.Metric("slab-bytes", float64(s.Bytes), "B", labels)
	return nil
}
