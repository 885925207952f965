//go:build linux

package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// ErrLate means that something did not happen in time.
var ErrLate = errors.New("no answer")

// The ways in which a child's rings go, as it is told by an argument: it closes
// them and says SaysClosed, ends by itself, or is killed.
const (
	ByClose = "close"
	ByExit  = "exit"
	ByKill  = "kill"
)

// What a child says: that its requests are in flight, and that its rings are closed.
const (
	SaysReady  = "ready"
	SaysClosed = "closed"
)

// ActAsChild is what a child does once it has put its requests in flight, or failed to with an
// error: it says so, and its rings go in one of the ways. It does not return, and ends when its
// standard input does, at the latest.
func ActAsChild(way string, err error, closeRings func() error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(SaysReady)
	switch way {
	case ByExit:
		os.Exit(0)
	case ByClose:
		if err := closeRings(); err != nil {
			fmt.Printf("close: %v\n", err)
			os.Exit(1)
		}
		fmt.Println(SaysClosed)
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// Child is the program itself, running as another process: what ends with a
// process can be tried in it. It talks by lines on its standard output, and
// should end when its standard input does, at the latest.
type Child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	said  chan string
}

// StartChild runs the program again with these arguments. The inherited
// descriptors become the child's from 3 on and are closed here.
func StartChild(program string, inherited []int, args ...string) (*Child, error) {
	c := &Child{said: make(chan string, 4)}
	c.cmd = exec.Command("/proc/self/exe", args...)
	c.cmd.Args[0] = program // by which busybox knows it
	c.cmd.Stderr = os.Stderr
	for _, fd := range inherited {
		f := os.NewFile(uintptr(fd), "inherited")
		defer f.Close()
		c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, f)
	}
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a child: %w", err)
	}
	go func() {
		defer close(c.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.said <- lines.Text()
		}
	}()
	return c, nil
}

// Hear waits for the child to print the line; it fails with ErrLate when the
// deadline has passed.
func (c *Child) Hear(want string, deadline time.Time) error {
	select {
	case got, ok := <-c.said:
		if !ok {
			return fmt.Errorf("the child ended before it said %q", want)
		}
		if got != want {
			return errors.New(got)
		}
		return nil
	case <-time.After(time.Until(deadline)):
		return fmt.Errorf("%w: waiting for %q", ErrLate, want)
	}
}

// Leave makes the child's rings go in one of the ways and waits until it has done
// its part; it fails with ErrLate when the deadline has passed.
func (c *Child) Leave(way string, deadline time.Time) error {
	if way == ByClose {
		return c.Hear(SaysClosed, deadline)
	}
	if way == ByKill {
		if err := c.cmd.Process.Kill(); err != nil {
			return err
		}
	}
	err := c.wait(deadline)
	if way == ByKill && !errors.Is(err, ErrLate) {
		return nil // killed, as it should be
	}
	return err
}

// wait waits for the child to end and returns how it did; it fails with
// ErrLate when the deadline has passed.
func (c *Child) wait(deadline time.Time) error {
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Until(deadline)):
		return fmt.Errorf("%w: waiting for process %d to end", ErrLate, c.cmd.Process.Pid)
	}
}

// End ends the child if it has not ended. A child that cannot be killed is left
// behind; the machine is for this run only.
func (c *Child) End() {
	c.stdin.Close()
	c.cmd.Process.Kill()
	go c.cmd.Wait()
}
