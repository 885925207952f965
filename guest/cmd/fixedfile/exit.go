//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
	"patchproof/guest/uring"
)

// exitLimit is how long a ring may take to go.
const exitLimit = time.Second

// exitWork is the kernel's function that tears a ring down, in a kworker
// (fs/io_uring.c, queued by io_ring_ctx_wait_and_kill).
const exitWork = "io_ring_exit_work"

// The ways a ring goes, each with requests in flight.
const (
	byClose = "close"
	byExit  = "exit"
	byKill  = "kill"
)

// What a child says.
const (
	saysReady  = "ready"
	saysClosed = "closed"
)

// child is the process whose ring is to go; it does not return. It ends when
// its standard input does, at the latest.
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
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(saysReady)
	if way == byExit {
		os.Exit(0)
	}
	if way == byClose {
		if err := r.Close(); err != nil {
			fmt.Printf("close: %v\n", err)
			os.Exit(1)
		}
		fmt.Println(saysClosed)
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
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
	if err := d.p.leave(way, d.deadline); errors.Is(err, errLate) {
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
	released := await(d.deadline, d.p.loan.released)
	s.gone(d.name, d.deadline)
	s.reportGone(d.name+"files-released", released)
}

// gone reports whether no ring is on its way out any more.
func (s *suite) gone(name string, deadline time.Time) {
	err := await(deadline, s.quiet)
	s.reportGone(name+"ring-gone", err)
	if err != nil {
		s.stuck = machine.KernelTasksIn(exitWork)
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
// ring. It looks twice, as a thread that happens to run shows no stack.
func (s *suite) quiet() error {
	for range 2 {
		var list strings.Builder
		for _, task := range machine.KernelTasksIn(exitWork) {
			known := slices.ContainsFunc(s.stuck, func(k machine.Task) bool { return k.TID == task.TID })
			if !known {
				list.WriteString(task.String())
			}
		}
		if list.Len() > 0 {
			return fmt.Errorf("%s is still running:\n%s", exitWork, list.String())
		}
	}
	return nil
}

// await tries until there is no error or the deadline has passed.
func await(deadline time.Time, try func() error) error {
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// errLate means that the child did not answer in time.
var errLate = errors.New("no answer")

// process is a running child.
type process struct {
	loan  loan
	cmd   *exec.Cmd
	stdin io.Closer
	// said are the lines that the child prints.
	said chan string
}

// start runs a child until its requests are in flight.
func start(k kind, way string) (*process, error) {
	loan, err := k.lend()
	if err != nil {
		return nil, err
	}
	p := &process{loan: loan, said: make(chan string, 4)}
	p.cmd = exec.Command("/proc/self/exe", "child", k.name, way, loan.path)
	p.cmd.Args[0] = "fixedfile" // by which busybox knows the program
	p.cmd.Stderr = os.Stderr
	for _, fd := range loan.inherited {
		f := os.NewFile(uintptr(fd), "inherited")
		defer f.Close()
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, f)
	}
	p.stdin, err = p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		loan.end()
		return nil, fmt.Errorf("start a child: %w", err)
	}
	go func() {
		defer close(p.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.said <- lines.Text()
		}
	}()
	if err := p.hear(saysReady, time.Now().Add(machine.Patience(exitLimit))); err != nil {
		p.end()
		return nil, fmt.Errorf("the child could not put requests in flight: %w", err)
	}
	return p, nil
}

// hear waits for the child to print the line.
func (p *process) hear(want string, deadline time.Time) error {
	select {
	case got, ok := <-p.said:
		if !ok {
			return fmt.Errorf("it ended before it said %q", want)
		}
		if got != want {
			return errors.New(got)
		}
		return nil
	case <-time.After(time.Until(deadline)):
		return fmt.Errorf("%w: waiting for %q", errLate, want)
	}
}

// leave makes the ring go and waits until the child has done its part.
func (p *process) leave(way string, deadline time.Time) error {
	if way == byClose {
		return p.hear(saysClosed, deadline)
	}
	if way == byKill {
		if err := p.cmd.Process.Kill(); err != nil {
			return err
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if way == byExit {
			return err
		}
		return nil
	case <-time.After(time.Until(deadline)):
		return fmt.Errorf("%w: waiting for process %d to end", errLate, p.cmd.Process.Pid)
	}
}

// end gives back what the child had. A child that cannot be killed is left
// behind; the machine is for this run only.
func (p *process) end() {
	p.stdin.Close()
	p.cmd.Process.Kill()
	go p.cmd.Wait()
	p.loan.end()
}
