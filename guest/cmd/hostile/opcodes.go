//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// everyFlag submits every opcode with junk flags, all else being as good as zero,
// one at a time, as chains would mix their results. Each entry completes once, with
// no success but of what has nothing to do.
func everyFlag() error {
	k, err := uring.Probe()
	if err != nil {
		return err
	}
	err = uring.With(1, uring.Params{}, func(r *uring.Ring) error {
		for opcode := range 256 {
			if notifies(opcode) && opcode < k.Opcodes {
				continue
			}
			for flags := range 256 {
				// Opcodes that nobody knows are refused before anybody looks at flags.
				junk := uint8(flags)&^k.SQEFlags() != 0 || opcode >= k.Opcodes
				if junk && flags&(flags-1) != 0 && flags != 0xff {
					continue
				}
				// A ring that has seen this flag refuses the next that drains.
				if !junk && flags&uring.SQECQESkip != 0 {
					continue
				}
				if err := bare(r, k, uint8(opcode), uint8(flags)); err != nil {
					return fmt.Errorf("opcode %d, flags %#x: %w", opcode, flags, err)
				}
			}
		}
		return nil
	})
	if err != nil || k.SQEFlags()&uring.SQECQESkip == 0 {
		return err
	}
	err = uring.With(1, uring.Params{}, func(r *uring.Ring) error {
		for opcode := range k.Opcodes {
			for flags := range uring.SQECQESkip {
				if !notifies(opcode) || flags&uring.SQEDrain != 0 {
					continue
				}
				if err := bare(r, k, uint8(opcode), uint8(flags)); err != nil {
					return fmt.Errorf("opcode %d, flags %#x: %w", opcode, flags, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return uring.With(2, uring.Params{}, func(r *uring.Ring) error {
		for opcode := range k.Opcodes {
			if err := skipped(r, k, uint8(opcode)); err != nil {
				return fmt.Errorf("opcode %d, flags %#x: %w", opcode, uring.SQECQESkip, err)
			}
		}
		return nil
	})
}

// notifies says whether the opcode completes once more, when its buffers are free again.
// The kernel counts that as a request, or as a completion, of its own, so that on v6.12.107
// and v7.1.13 what drains waits for ever behind one that failed, and itself when it is one.
// So these have a ring to themselves and do not drain.
func notifies(opcode int) bool { return opcode == uring.OpSendZC || opcode == uring.OpSendMsgZC }

// skipped submits a bare entry whose success is not to be told (IOSQE_CQE_SKIP_SUCCESS),
// and a NOP to know when it has none.
func skipped(r *uring.Ring, k uring.Kernel, opcode uint8) error {
	const id, last = 1, 2
	*r.Next() = uring.SQE{Opcode: opcode, Flags: uring.SQECQESkip, FD: -1, UserData: id}
	*r.Next() = uring.SQE{Opcode: uring.OpNop, UserData: last}
	if err := submitAll(r); err != nil {
		return err
	}
	results := bareResults(k, opcode, uring.SQECQESkip)
	quiet := slices.Contains(results, 0)
	n := uint32(2)
	if quiet {
		n = 1
	}
	if err := r.Wait(n); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	for range r.Ready() {
		cqe, _ := r.Take()
		good := cqe.UserData == last && cqe.Res == 0
		if cqe.UserData == id {
			good = cqe.Res < 0 && slices.Contains(results, cqe.Res)
		}
		if !good {
			return fmt.Errorf("completion %+v; want one of user data %d with a failure of %v, and one of user data %d with result 0", cqe, id, results, last)
		}
	}
	return nil
}

// bare submits an entry of descriptor -1 and else zero.
func bare(r *uring.Ring, k uring.Kernel, opcode, flags uint8) error {
	id := uint64(opcode)<<8 | uint64(flags)
	*r.Next() = uring.SQE{Opcode: opcode, Flags: flags, FD: -1, UserData: id}
	if _, err := r.Submit(); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	if err := r.Wait(1); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	cqe, _ := r.Take()
	if notifies(int(opcode)) {
		if err := notified(r, &cqe); err != nil {
			return err
		}
	}
	if want := bareResults(k, opcode, flags); cqe.UserData != id || !slices.Contains(want, cqe.Res) {
		return fmt.Errorf("completion %+v; want user data %#x and a result of %v", cqe, id, want)
	}
	if cqe, ok := r.Take(); ok {
		return fmt.Errorf("a completion too many: %+v", cqe)
	}
	return nil
}

// notified takes the completion that tells that a send has let go of its buffers, where
// the first one says that it comes, and takes that word out of it.
func notified(r *uring.Ring, first *uring.CQE) error {
	if first.Flags&uring.CQEMore == 0 {
		return nil
	}
	first.Flags &^= uring.CQEMore
	if err := r.Wait(1); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	cqe, _ := r.Take()
	if want := (uring.CQE{UserData: first.UserData, Flags: uring.CQENotif}); cqe != want {
		return fmt.Errorf("second completion %+v; want %+v", cqe, want)
	}
	return nil
}

// bareResults are those that such an entry may have.
func bareResults(k uring.Kernel, opcode, flags uint8) []int32 {
	if int(opcode) >= k.Opcodes || flags&^k.SQEFlags() != 0 {
		return []int32{-int32(unix.EINVAL)}
	}
	results := []int32{-int32(unix.EINVAL), -int32(unix.EBADF), -int32(unix.EFAULT), -int32(unix.ENOENT),
		-int32(unix.EOPNOTSUPP), -int32(unix.E2BIG), -int32(unix.ENXIO)}
	if flags&(uring.SQELink|uring.SQEHardLink) != 0 {
		// The head of a chain that is refused when it is prepared.
		results = append(results, -int32(unix.ECANCELED))
	}
	if opcode == uring.OpSocket {
		results = append(results, -int32(unix.EAFNOSUPPORT))
	}
	if opcode == uring.OpNop || opcode == uring.OpMadvise {
		return append(results, 0)
	}
	return results
}

// submitAll gives the kernel all entries: it stops at each that it refuses, and at
// each that is none.
func submitAll(r *uring.Ring) error {
	for r.Publish() > 0 {
		if _, err := r.Submit(); err != nil {
			return fmt.Errorf("submit: %w", err)
		}
	}
	return nil
}

// dropped has indices beyond the ring among good ones: they are counted and do
// nothing else.
func dropped() error {
	const entries = 64
	return uring.With(entries, uring.Params{}, func(r *uring.Ring) error {
		want := uint32(0)
		for round := range uint32(32) {
			good := uint32(0)
			for i := range uint32(entries) {
				sqe := r.Next()
				sqe.UserData = uint64(i)
				r.Array[i] = i
				if (i+round)%3 == 0 {
					r.Array[i] = entries + i*0x3ffffff
					want++
					continue
				}
				good++
			}
			if err := submitAll(r); err != nil {
				return err
			}
			if err := r.Wait(good); err != nil {
				return fmt.Errorf("wait: %w", err)
			}
			last := -1
			for range good {
				cqe, _ := r.Take()
				if int(cqe.UserData) <= last || (uint32(cqe.UserData)+round)%3 == 0 || cqe.Res != 0 {
					return fmt.Errorf("round %d: completion %+v after that of entry %d; want the next good entry's, with result 0", round, cqe, last)
				}
				last = int(cqe.UserData)
			}
			if cqe, ok := r.Take(); ok {
				return fmt.Errorf("round %d: a completion too many: %+v", round, cqe)
			}
			if got := r.Dropped(); got != want {
				return fmt.Errorf("round %d: the kernel dropped %d submissions; want %d, those with an index beyond the ring", round, got, want)
			}
		}
		return nil
	})
}

// closedInFlight closes rings while all sorts of requests wait on them, and with
// completions that nobody took, more than the ring has room for.
func closedInFlight() error {
	const rings = 24
	hour, err := machine.Buffer(16)
	if err != nil {
		return err
	}
	*(*unix.Timespec)(uring.Pointer(hour)) = unix.NsecToTimespec(int64(time.Hour))
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sockets[0])
	defer unix.Close(sockets[1])
	page, err := machine.Buffer(machine.Sector)
	if err != nil {
		return err
	}
	for n := range rings {
		err := uring.With(32, uring.Params{}, func(r *uring.Ring) error {
			for i := range 8 {
				*r.Next() = uring.SQE{Opcode: uring.OpPollAdd, FD: int32(sockets[0]), OpFlags: unix.POLLIN}
				*r.Next() = uring.SQE{Opcode: uring.OpRecv, FD: int32(sockets[0]), Addr: uring.Address(page), Len: machine.Sector}
				*r.Next() = uring.SQE{Opcode: uring.OpTimeout, FD: -1, Addr: uring.Address(hour), Len: 1, Off: uint64(i * 1000)}
				*r.Next() = uring.SQE{}
			}
			if _, err := r.Submit(); err != nil {
				return fmt.Errorf("submit: %w", err)
			}
			// With these the completion ring, which has twice as many, overflows.
			for range 3 {
				for sqe := r.Next(); sqe != nil; sqe = r.Next() {
				}
				// v5.10 takes no more when it has completions to keep.
				if _, err := r.Submit(); err != nil && !errors.Is(err, unix.EBUSY) {
					return fmt.Errorf("submit: %w", err)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("ring %d: %w", n, err)
		}
	}
	// Closing the sockets would wake what waits for them.
	return alloccache.AllAccounted(limit / 2)
}
