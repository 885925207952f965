//go:build linux

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"patchproof/guest/event"
	"patchproof/guest/machine"
)

// noDisk is opened by a program that wants a disk and is not declared to.
const noDisk = "/dev/no-disk-was-named"

// runProgram runs a program as a child and returns what came of it. What the kernel
// logged meanwhile is judged by the importer, which knows a complaint when it
// sees one.
func runProgram(p event.BundledProgram, o options, k event.BundledKernel) event.Ran {
	c := event.NewCollector(p.Command)
	start, steal := time.Now(), machine.Steal()
	var trouble error
	late, began := false, false
	log, logErr := machine.LogDuring(func() error {
		began = true
		late, trouble = child(p, o, k, c)
		return nil
	})
	if !began { // who is not root may not read the log, maybe
		late, trouble = child(p, o, k, c)
	}
	ran := event.Ran{
		Program: p.Name, Checks: c.Checks, Metrics: c.Metrics, Log: clipped(log),
		Started: start.UTC(), WallS: time.Since(start).Seconds(), StealS: machine.Steal() - steal, KHz: machine.KHz(),
	}
	if logErr != nil {
		ran.Log = []string{}
		ran.LogTrouble = logErr.Error()
	}
	var verdicts []event.Verdict
	if late {
		ran.Reason = fmt.Sprintf("it had not ended after %v", deadline(p, o))
		ran.Checks = append(ran.Checks, event.Check{Name: "deadline", Verdict: event.Hang, Detail: ran.Reason + "\n" + machine.StuckTasks()})
	}
	for _, check := range ran.Checks {
		verdicts = append(verdicts, check.Verdict)
	}
	ran.Verdict = event.Worst(verdicts...)
	if !late && trouble != nil {
		ran.Verdict, ran.Reason = event.Worst(append(verdicts, event.Error)...), trouble.Error()
	}
	return ran
}

// logLines is how much of the kernel's log is kept, from its beginning.
const logLines = 1000

func clipped(log []string) []string {
	return append([]string{}, log[:min(len(log), logLines)]...)
}

func deadline(p event.BundledProgram, o options) time.Duration {
	return time.Duration(p.DeadlineS * o.scale * float64(time.Second))
}

// child starts the program and takes its events until it ends, or its deadline has
// passed and it is killed. It may then stay behind in the kernel.
func child(p event.BundledProgram, o options, k event.BundledKernel, c *event.Collector) (late bool, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer r.Close()
	features := "auto"
	if k.Features != nil {
		features = strings.Join(k.Features, ",")
	}
	words := append([]string{"patchproof.features=" + features, fmt.Sprintf("%s=%g", machine.ScaleKey, o.scale)}, p.Options...)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = p.Command // by which busybox knows it
	cmd.Env = append(os.Environ(),
		event.FDEnv+"=3",
		event.OptionsEnv+"="+strings.Join(words, " "),
		event.DiskEnv+"="+cmp.Or(o.scratch, noDisk))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() {
		readErr := readEvents(bufio.NewReader(r), c)
		ended <- errors.Join(readErr, cmd.Wait())
	}()
	select {
	case err := <-ended:
		return false, errors.Join(err, c.Finish())
	case <-time.After(deadline(p, o)):
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		select {
		case <-ended:
		case <-time.After(time.Second):
			// It does not even die. The reader may still run: closing the pipe ends it.
			r.Close()
			<-time.After(time.Second)
		}
		return true, nil
	}
}

// readEvents takes events until the program closes its end.
func readEvents(r *bufio.Reader, c *event.Collector) error {
	var first error
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return first
		}
		var envelope struct{ Actual *event.Event }
		if err := json.Unmarshal(line, &envelope); err != nil {
			first = cmp.Or(first, fmt.Errorf("an event cannot be read: %w", err))
			continue
		}
		if envelope.Actual != nil && first == nil {
			first = c.Add(*envelope.Actual)
		}
	}
}
