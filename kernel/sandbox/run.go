// Package sandbox runs commands so that none outlives the harness: git and the compiler in the
// caller's environment made clean, and what comes with a source tree, or serves the host's root to a
// guest, in namespaces of its own.
package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// niceness is by how much all commands are nicer than the harness, see nice(1).
const niceness = 15

// killAfter is how long a process group gets to clean up after SIGTERM: gcc and
// make remove the files that they were writing.
const killAfter = 5 * time.Second

// Run executes cmd in a process group of its own and takes the whole group down
// when ctx ends, so that no compiler outlives Ctrl-C. It returns ctx's cause then.
func Run(ctx context.Context, cmd *exec.Cmd) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	// Pdeathsig takes it down too when this process is killed. It goes by the thread
	// that started the child, which therefore must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.WaitDelay = time.Minute
	if err := cmd.Start(); err != nil {
		return err
	}
	// Guests of kernels that are built already run beside a build, and their
	// time limits count seconds. Failing to be nice is no reason to stop. What runs in a
	// sandbox leaves the group: there nice(1) does it.
	// The system call returns 20 less the niceness (getpriority(2)).
	if own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err == nil && cmd.Args[0] != sandboxCommand {
		syscall.Setpriority(syscall.PRIO_PGRP, cmd.Process.Pid, 20-own+niceness)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	group := -cmd.Process.Pid
	count := time.NewTicker(2 * time.Second)
	defer count.Stop()
	ended := 0
	for ctx.Err() == nil {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
		case <-count.C:
			// A wrapper may have left a process behind that keeps the outputs open.
			if syscall.Kill(cmd.Process.Pid, 0) == syscall.ESRCH {
				if ended++; ended > 1 {
					syscall.Kill(group, syscall.SIGKILL)
				}
			}
			// Limits of a user's processes do not hold for root.
			if cmd.Args[0] == sandboxCommand && len(descendants(cmd.Process.Pid)) > MaxProcesses {
				syscall.Kill(group, syscall.SIGKILL)
				<-done
				return ErrTooMany
			}
		}
	}
	if cmd.Args[0] == sandboxCommand {
		// Its own death would kill all in it before they have cleaned up.
		for _, pid := range descendants(cmd.Process.Pid) {
			syscall.Kill(pid, syscall.SIGTERM)
		}
	} else {
		syscall.Kill(group, syscall.SIGTERM)
	}
	select {
	case <-done:
		// Whatever of the group did not listen.
		syscall.Kill(group, syscall.SIGKILL)
		return context.Cause(ctx)
	case <-time.After(killAfter):
		syscall.Kill(group, syscall.SIGKILL)
		return fmt.Errorf("%w (%w)", context.Cause(ctx), ErrKilled)
	}
}

// descendants are the processes below a sandbox, without those of the sandbox itself.
func descendants(pid int) []int {
	children := map[int][]int{}
	names := map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// pid (name) state parent ...; a name may hold anything.
		name, rest, _ := strings.Cut(string(text[:max(0, bytes.LastIndexByte(text, ')'))]), "(")
		id, _ := strconv.Atoi(strings.TrimSpace(name))
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], id)
		names[id] = rest
	}
	var all []int
	for next := children[pid]; len(next) > 0; {
		id := next[0]
		next = append(next[1:], children[id]...)
		if names[id] != sandboxCommand {
			all = append(all, id)
		}
	}
	return all
}

// MaxProcesses is how many there may be in a sandbox; a build has a few per job.
const MaxProcesses = 4096

// ErrTooMany means that a command in a sandbox was killed for having more processes than it may.
var ErrTooMany = fmt.Errorf("the build had more than %d processes at once", MaxProcesses)

// ErrKilled means that a command had to be killed: its output may be half written.
var ErrKilled = errors.New("killed, it did not stop by itself")

// Output runs a command and returns its standard output; on failure the error
// has the last lines of its standard error.
func Output(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := Run(ctx, cmd); err != nil {
		return nil, CommandError(cmd, err, errs.Bytes())
	}
	return out.Bytes(), nil
}

// FailedCommand is a command that ended badly.
type FailedCommand struct {
	Line string
	Said string // the last lines of its standard error
	err  error
}

func (e *FailedCommand) Error() string {
	if e.Said == "" {
		return fmt.Sprintf("%s: %v", e.Line, e.err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Line, e.err, e.Said)
}

func (e *FailedCommand) Unwrap() error { return e.err }

// CommandError is the error of a command that Run returned err for, with the end of its standard error.
func CommandError(cmd *exec.Cmd, err error, stderr []byte) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed (make deps): %w", cmd.Args[0], err)
	}
	lines := strings.Split(strings.TrimSpace(string(stderr)), "\n")
	said := strings.Join(lines[max(0, len(lines)-5):], "; ")
	return &FailedCommand{strings.Join(cmd.Args, " "), said, err}
}

// Env is the environment for git, make and the compiler: nothing of the
// caller's (MAKEFLAGS, ARCH, KCFLAGS, CROSS_COMPILE, GIT_DIR, ...) may change what comes out.
func Env(more ...string) []string {
	keep := []string{"PATH", "HOME", "TMPDIR"}
	// git fetches through the caller's proxy.
	for _, name := range []string{"http_proxy", "https_proxy", "all_proxy", "no_proxy"} {
		keep = append(keep, name, strings.ToUpper(name))
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(keep, name)
	})
	return append(append(env, "LC_ALL=C", "TZ=UTC"), more...)
}
