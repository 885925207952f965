//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// limit is when a check counts as a hang.
const limit = 2 * time.Second

func run(t *report.T) {
	possible, err := machine.PossibleCPUs()
	if err != nil {
		t.Error("section", err)
		return
	}
	// The kernel was started with one CPU (maxcpus=1): the others are possible, and
	// come only now.
	if !t.Check("late-cpus", comeOnline(possible)) {
		return
	}
	watch, err := uring.New(1, uring.Params{})
	if !t.Check("setup", err) {
		return
	}
	disk, err := machine.OpenDisk(machine.NVMe)
	if err != nil {
		t.Error("section", err)
		return
	}
	c := &caches{ring: watch.FD, disk: int32(disk), possible: possible}

	has, known := t.Feature(alloccache.Feature)
	rows, err := c.read()
	switch {
	case errors.Is(err, alloccache.ErrAbsent) && !has:
		t.Check("section", nil)
		for _, check := range c.checks() {
			t.Skip(check.name, alloccache.Feature, "the kernel has no AllocCache section")
		}
		return
	case err != nil:
		t.Check("section", err)
		return
	case known && !has:
		t.Check("section", fmt.Errorf("the kernel is declared to be without the patch, but prints\n%s", alloccache.Format(rows)))
		return
	}
	t.Check("section", nil)
	for _, check := range c.checks() {
		t.Within(limit, check.name, check.run)
	}
}

type check struct {
	name string
	run  func() error
}

// checks lists the checks in the order in which they must run: the shrinker's
// leave a state that the others do not expect, and the bound looks back at
// everything that was read.
func (c *caches) checks() []check {
	list := []check{{"rows", c.rows}}
	for _, cpu := range c.possible {
		list = append(list,
			check{fmt.Sprintf("cpu%d/nop-batch", cpu), func() error { return c.nopBatch(cpu) }},
			check{fmt.Sprintf("cpu%d/nop-chain", cpu), func() error { return c.nopChain(cpu) }},
			check{fmt.Sprintf("cpu%d/nvme-read", cpu), func() error { return c.nvmeReads(cpu, 1) }},
			check{fmt.Sprintf("cpu%d/nvme-chain", cpu), func() error { return c.nvmeReads(cpu, reads) }},
		)
	}
	return append(list,
		check{"shrink/nr_free-falls", c.shrinkCounts},
		check{"shrink/works-after", func() error { return c.nopBatch(c.possible[0]) }},
		check{"busy-ring", c.busy},
		check{"nr_avail-bound", c.bound},
	)
}

// chain is a number of requests in flight at once that makes a list of
// available requests overflow (alloccache.Max) and leaves some over.
const chain = 300

// reads is how many reads are in flight at once. Whichever CPU frees them, no list
// overflows: where that happens, in a task or in the disk's interrupt, is a matter
// of time, and so would be what lockdep says of it on the RFC. Program accounting
// makes it happen in the interrupt.
const reads = 100

// caches reads the section through a ring that is otherwise idle: the caches
// belong to the kernel, every ring shows the same ones.
type caches struct {
	ring     int
	disk     int32
	possible []int
	// seen is every row that was read while nothing was in flight.
	seen []alloccache.Row
}

func (c *caches) read() ([]alloccache.Row, error) {
	rows, err := alloccache.Read(c.ring)
	c.seen = append(c.seen, rows...)
	return rows, err
}

// rows checks that there are two rows per possible CPU, in order.
func (c *caches) rows() error {
	got, err := c.read()
	if err != nil {
		return err
	}
	for i, cpu := range c.possible {
		for irq := range alloccache.Classes {
			at := i*alloccache.Classes + irq
			if at >= len(got) || got[at].CPU != cpu || got[at].IRQ != irq {
				return fmt.Errorf("row %d should be cpu%d irq=%d; the section is\n%s", at+1, cpu, irq, alloccache.Format(got))
			}
		}
	}
	if want := len(c.possible) * alloccache.Classes; len(got) != want {
		return fmt.Errorf("%d rows; want %d\n%s", len(got), want, alloccache.Format(got))
	}
	return nil
}

// index is where the row of a CPU and a class stands.
func (c *caches) index(rows []alloccache.Row, cpu, irq int) (int, error) {
	for i, r := range rows {
		if r.CPU == cpu && r.IRQ == irq {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no row for cpu%d irq=%d in\n%s", cpu, irq, alloccache.Format(rows))
}

// othersKept checks that only the row at index may differ; index -1 allows none.
func othersKept(before, after []alloccache.Row, index int) error {
	if len(before) != len(after) {
		return fmt.Errorf("the number of rows changed:\n%safter:\n%s", alloccache.Format(before), alloccache.Format(after))
	}
	for i := range before {
		if i != index && before[i] != after[i] {
			return fmt.Errorf("row %d moved on its own:\n%safter:\n%s", i+1, alloccache.Format(before), alloccache.Format(after))
		}
	}
	return nil
}

// nopBatch runs a small batch of NOPs on the CPU twice. The first may allocate
// up to as many requests as it submits and leaves them available, at least
// one; the second finds them there and so changes nothing. No other row moves.
func (c *caches) nopBatch(cpu int) error {
	const n = 8
	before, err := c.read()
	if err != nil {
		return err
	}
	i, err := c.index(before, cpu, 0)
	if err != nil {
		return err
	}
	first, err := c.nops(cpu, n, 0)
	if err != nil {
		return err
	}
	second, err := c.nops(cpu, n, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(othersKept(before, first, i), othersKept(first, second, -1)); err != nil {
		return err
	}
	// Requests of one batch may be completed and reused before the next one
	// is taken, so the peak is anything from 1 to n.
	low, high := max(1, before[i].Avail), max(n, before[i].Avail)
	if a := first[i].Avail; a < low || a > high || first[i].Free != before[i].Free {
		return fmt.Errorf("after %d NOPs on CPU %d:\n%swant nr_avail in [%d,%d] and nr_free %d; before:\n%s",
			n, cpu, first[i], low, high, before[i].Free, before[i])
	}
	return nil
}

// nopChain keeps NOPs in flight at once on the CPU (a chain is allocated whole
// before its head runs): as many as may be available, one more, and more again.
// Each time it expects exactly what the patch's rules give.
func (c *caches) nopChain(cpu int) error {
	for _, n := range []int{alloccache.Max, alloccache.Max + 1, chain} {
		before, err := c.read()
		if err != nil {
			return err
		}
		i, err := c.index(before, cpu, 0)
		if err != nil {
			return err
		}
		after, err := c.nops(cpu, uint32(n), uring.SQELink)
		if err != nil {
			return err
		}
		if err := othersKept(before, after, i); err != nil {
			return err
		}
		if want := before[i].After(n); after[i] != want {
			return fmt.Errorf("after %d NOPs in flight at once on CPU %d:\n%s\nwant:\n%s\nbefore:\n%s", n, cpu, after[i], want, before[i])
		}
	}
	return nil
}

// nops runs n NOPs on the CPU and reads the section there.
func (c *caches) nops(cpu int, n uint32, flags uint8) ([]alloccache.Row, error) {
	err := machine.OnCPU(cpu, func() error {
		return uring.With(n, uring.Params{}, func(r *uring.Ring) error {
			return r.Run(n, flags, uring.Nop, 0)
		})
	})
	if err != nil {
		return nil, err
	}
	return c.read()
}

// nvmeReads keeps n O_DIRECT reads in flight at once, submitted on the CPU and
// completed by interrupt on whichever CPU has the queue's. Every request taken
// beyond those available on the CPU is a new one and ends up in some irq=1
// cache: the sum over all CPUs is exact. No irq=0 row moves.
func (c *caches) nvmeReads(cpu int, n uint32) error {
	buf, err := machine.Buffer(machine.Sector)
	if err != nil {
		return err
	}
	before, err := c.read()
	if err != nil {
		return err
	}
	i, err := c.index(before, cpu, 1)
	if err != nil {
		return err
	}
	raised, err := machine.NVMeInterrupts()
	if err != nil {
		return err
	}
	err = machine.OnCPU(cpu, func() error {
		return uring.With(n, uring.Params{}, func(r *uring.Ring) error {
			return r.Run(n, uring.SQELink, func(sqe *uring.SQE) {
				sqe.Opcode, sqe.FD = uring.OpRead, c.disk
				sqe.Addr, sqe.Len = uring.Address(buf), machine.Sector
			}, machine.Sector)
		})
	})
	if err != nil {
		return err
	}
	now, err := machine.NVMeInterrupts()
	if err != nil {
		return err
	}
	if now == raised {
		return fmt.Errorf("the disk raised no interrupt for %d reads", n)
	}
	want := alloccache.Total(before, 1) + max(0, int(n)-before[i].Avail)
	return c.settle(func(after []alloccache.Row) error {
		for j := range after {
			if after[j].IRQ == 0 && after[j] != before[j] {
				return fmt.Errorf("an irq=0 row moved:\n%safter:\n%s", alloccache.Format(before), alloccache.Format(after))
			}
		}
		if got := alloccache.Total(after, 1); got != want {
			return fmt.Errorf("after %d reads in flight at once on CPU %d the irq=1 caches hold %d requests; want %d; before:\n%safter:\n%s",
				n, cpu, got, want, alloccache.Format(before), alloccache.Format(after))
		}
		return nil
	})
}

// settle reads the section until ok accepts it: a completion is visible to the
// program a moment before its request is freed.
func (c *caches) settle(ok func([]alloccache.Row) error) error {
	patience := machine.Patience(300 * time.Millisecond)
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		rows, err := c.read()
		if err != nil {
			return err
		}
		if err = ok(rows); err == nil || time.Since(start) > patience {
			return err
		}
	}
}

// shrinkCounts asks the kernel's shrinkers to free all they can: that empties
// the free lists, so nr_free must say 0; what is available stays.
func (c *caches) shrinkCounts() error {
	before, err := c.read()
	if err != nil {
		return err
	}
	if free := before[0].Free; free == 0 {
		return fmt.Errorf("nothing is on a free list, so nothing can be shrunk:\n%s", alloccache.Format(before))
	}
	if err := machine.DropSlab(); err != nil {
		return err
	}
	after, err := c.read()
	if err != nil {
		return err
	}
	for i, r := range after {
		if r.Free != 0 || r.Avail != before[i].Avail {
			return fmt.Errorf("%s after the shrinkers ran; want nr_free=0 and nr_avail as before\nbefore:\n%safter:\n%s",
				strings.TrimSpace(r.String()), alloccache.Format(before), alloccache.Format(after))
		}
	}
	return nil
}

// comeOnline takes the CPUs online that are not.
func comeOnline(possible []int) error {
	online, err := machine.OnlineCPUs()
	if err != nil {
		return err
	}
	for _, cpu := range possible {
		if slices.Contains(online, cpu) {
			continue
		}
		if err := machine.SetOnline(cpu, true); err != nil {
			return fmt.Errorf("CPU %d does not come online: %w", cpu, err)
		}
	}
	return nil
}

// busy reads the section of a ring that another thread is submitting to. fdinfo
// does not wait for it, and leaves out what the ring's lock protects, as the list of
// registered files; the caches are not the ring's.
func (c *caches) busy() error {
	return uring.With(4096, uring.Params{}, func(r *uring.Ring) error {
		if _, err := uring.Register(r.FD, uring.RegisterFiles, unsafe.Pointer(&c.disk), 1); err != nil {
			return fmt.Errorf("register a file: %w", err)
		}
		quit := make(chan struct{})
		submitted := make(chan error, 1)
		go func() {
			submitted <- machine.OnCPU(c.possible[0], func() error {
				for {
					select {
					case <-quit:
						return nil
					default:
					}
					if err := r.Run(4096, 0, uring.Nop, 0); err != nil {
						return err
					}
				}
			})
		}()
		err := machine.Await(limit/2, func() error {
			text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", r.FD))
			if err != nil {
				return err
			}
			if strings.Contains(string(text), "nvme0n1") {
				return errors.New("whenever fdinfo was read, the ring was idle")
			}
			rows, err := alloccache.Parse(string(text))
			if want := len(c.possible) * alloccache.Classes; err == nil && len(rows) != want {
				err = fmt.Errorf("%d rows; want %d", len(rows), want)
			}
			if err != nil {
				return fmt.Errorf("fdinfo of a ring that is being submitted to: %w\n%s", err, text)
			}
			return nil
		})
		close(quit)
		return errors.Join(err, <-submitted)
	})
}

// bound checks every row that was read: no counter below 0, never more than
// alloccache.Max available.
func (c *caches) bound() error {
	for _, r := range c.seen {
		if r.Avail < 0 || r.Avail > alloccache.Max || r.Free < 0 {
			return fmt.Errorf("%s: nr_avail must be in [0,%d], nr_free not below 0", r, alloccache.Max)
		}
	}
	if len(c.seen) == 0 {
		return errors.New("no row was ever read")
	}
	return nil
}
