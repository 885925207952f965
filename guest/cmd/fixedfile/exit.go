//go:build linux

package main

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// exitLimit is how long a ring may take to go.
const exitLimit = time.Second

// child is the process whose ring is to go; it does not return.
func child(kindName, way, path string) {
	// One thread only, as another one that had submitted would keep the ring
	// open (see report.Within).
	runtime.LockOSThread()
	k := blockedPipe
	if i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == kindName }); i >= 0 {
		k = kinds[i]
	}
	r, err := uring.New(2*inFlight, uring.Params{Flags: k.setup()})
	if err == nil {
		err = k.hold(r, path)
	}
	machine.ActAsChild(way, err, func() error { return r.Close() })
}

// suite runs the checks.
type suite struct {
	*report.T
	// stuck are the kernel threads that an earlier check has reported for not
	// getting done with its ring.
	stuck []machine.Task
}

// departure is a ring on its way out.
type departure struct {
	name     string // of its checks, with a slash at the end
	p        *process
	deadline time.Time
}

// depart starts a child and makes its ring go. It reports the checks that
// requests were in flight, and that close returned or the process ended.
func (s *suite) depart(k kind, way string) *departure {
	d := &departure{name: fmt.Sprintf("%s/exit-by-%s/", k.name, way)}
	var err error
	d.p, err = start(k, way)
	if !s.Check(d.name+"in-flight", err) {
		for _, check := range []string{"exits", "ring-gone", "files-released"} {
			s.Check(d.name+check, errors.New("not reached, see in-flight"))
		}
		return nil
	}
	d.deadline = time.Now().Add(machine.Patience(exitLimit))
	if err := d.p.Leave(way, d.deadline); errors.Is(err, machine.ErrLate) {
		s.Hang(d.name+"exits", fmt.Sprintf("after %v: %v\n%s", machine.Patience(exitLimit), err, machine.StuckTasks()))
	} else {
		s.Check(d.name+"exits", err)
	}
	return d
}

// judge reports, in two independent ways, whether the ring is gone in time.
func (s *suite) judge(d *departure) {
	if d == nil {
		return
	}
	defer d.p.end()
	// The files go last: before that, the kworker may not even have started.
	released := machine.AwaitUntil(d.deadline, d.p.loan.released)
	s.gone(d.name, d.deadline)
	s.reportGone(d.name+"files-released", released)
}

// gone reports whether no ring is on its way out any more.
func (s *suite) gone(name string, deadline time.Time) {
	err := machine.AwaitUntil(deadline, s.quiet)
	s.reportGone(name+"ring-gone", err)
	if err != nil {
		s.stuck = uring.ExitingRings()
	}
}

// reportGone reports a hang when the ring has left something behind.
func (s *suite) reportGone(name string, err error) {
	if err != nil {
		s.Hang(name, fmt.Sprintf("after %v: %v\n%s", machine.Patience(exitLimit), err, machine.StuckTasks()))
		return
	}
	s.Check(name, nil)
}

// quiet returns nil when no kernel thread but the stuck ones is tearing down a
// ring.
func (s *suite) quiet() error {
	for _, task := range uring.ExitingRings() {
		if !slices.ContainsFunc(s.stuck, func(k machine.Task) bool { return k.TID == task.TID }) {
			return fmt.Errorf("a ring is still being torn down:\n%s", task)
		}
	}
	return nil
}

// process is a running child and what it was lent.
type process struct {
	*machine.Child
	loan loan
}

// start runs a child until its requests are in flight.
func start(k kind, way string) (*process, error) {
	loan, err := k.lend()
	if err != nil {
		return nil, err
	}
	c, err := machine.StartChild("fixedfile", loan.inherited, "child", k.name, way, loan.path)
	if err != nil {
		loan.end()
		return nil, err
	}
	p := &process{c, loan}
	if err := p.Hear(machine.SaysReady, time.Now().Add(machine.Patience(exitLimit))); err != nil {
		p.end()
		return nil, fmt.Errorf("the child could not put requests in flight: %w", err)
	}
	return p, nil
}

// end gives back what the child had.
func (p *process) end() {
	p.End()
	p.loan.end()
}
