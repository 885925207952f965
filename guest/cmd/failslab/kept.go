//go:build linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"patchproof/guest/alloccache"
	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// withoutFallback are the checks of kernels whose rings have no request to fall back on
// (uring.NoFallbackRequest): without memory, one that keeps no freed request takes nothing.
func (p *program) withoutFallback(t *report.T) {
	for _, k := range p.kinds() {
		t.Within(limit, "refused/"+k.name, func() error { return p.refused(k, 1, 0) })
	}
	nop := p.kinds()[0]
	t.Within(limit, "refused/batch", func() error { return p.refused(nop, 8, 0) })
	t.Within(limit, "refused/chain", func() error { return p.refused(nop, 8, uring.SQELink) })
	t.Within(limit, "kept/batch", func() error { return p.kept(0) })
	t.Within(limit, "kept/chain", func() error { return p.kept(uring.SQELink) })
	t.Within(limit, "setup", p.setupWithout)
	t.Within(limit, "exit", p.exitWithout)
}

// refused submits n entries of the kind to a new ring while there is no memory for a
// request. None is lost: with memory the same entries are taken.
func (p *program) refused(k kind, n int, flags uint8) error {
	return machine.OnCPU(cpu, func() error {
		return uring.With(2*alloccache.Max, k.params, func(r *uring.Ring) error {
			var want []uring.CQE
			for i := range n {
				sqe := r.Next()
				k.fill(sqe)
				if sqe.UserData = uint64(i); i < n-1 {
					sqe.Flags |= flags
				}
				want = append(want, uring.CQE{UserData: sqe.UserData, Res: k.want})
			}
			err := p.faults.During(func() error {
				for range 3 {
					if err := submit(r, 0); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			if got := r.Ready(); got != 0 {
				return fmt.Errorf("%d completions of entries that the kernel did not take", got)
			}
			if err := submit(r, n); err != nil {
				return fmt.Errorf("with memory again: %w", err)
			}
			return completes(r, want...)
		})
	})
}

// kept submits more NOPs than the ring can have kept requests. It takes what it has
// requests for, and the others when there is memory.
func (p *program) kept(flags uint8) error {
	const n = 2 * alloccache.Max
	return machine.OnCPU(cpu, func() error {
		return uring.With(n, uring.Params{}, func(r *uring.Ring) error {
			if err := r.Run(8, 0, uring.Nop, 0); err != nil {
				return err
			}
			nops(r, n, flags)
			took := 0
			err := p.faults.During(func() error {
				for took < n {
					m, err := r.Submit()
					switch {
					case err == unix.EAGAIN:
						return nil
					case err != nil:
						return fmt.Errorf("submit: %w; want EAGAIN where there is no request", err)
					case m == 0:
						return fmt.Errorf("the kernel took none of %d entries, and gave no error", n-took)
					case m == n:
						return fmt.Errorf("the kernel had requests for all %d entries, after a batch of 8", n)
					}
					took += m
				}
				return nil
			})
			if err != nil {
				return err
			}
			if took < n {
				if err := submit(r, n-took); err != nil {
					return fmt.Errorf("with memory again: %w", err)
				}
			}
			want := make([]uring.CQE, n)
			for i := range want {
				want[i].UserData = uint64(i)
			}
			return completes(r, want...)
		})
	})
}

// setupWithout expects that a ring needs no request to be made.
func (p *program) setupWithout() error {
	return machine.OnCPU(cpu, func() error {
		return p.faults.During(func() error {
			return uring.With(1, uring.Params{}, func(*uring.Ring) error { return nil })
		})
	})
}

// exitWithout closes a ring that has a request in flight, while there is no memory for
// another one. Both go.
func (p *program) exitWithout() error {
	err := machine.OnCPU(cpu, func() error {
		r, err := uring.New(1, uring.Params{})
		if err != nil {
			return err
		}
		if err := p.hold(r); err != nil {
			return err
		}
		return p.faults.During(r.Close)
	})
	if err != nil {
		return err
	}
	return p.balanced()
}
