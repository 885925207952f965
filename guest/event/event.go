// Package event is the language between a guest program and the harness:
// a program's run is one start, then checks, metrics and log lines, then one
// end, numbered without gaps. The host reads them with a Collector; the guest
// writes them with package report.
//
// On the wire each event is one line of JSON inside hugelgupf/vmtest's
// envelope (its package qemu/qevent reads it), over a virtio-serial port.
package event

import "slices"

// Port is the name of the virtio-serial port that carries the events.
const Port = "patchproof.events"

// Verdict is what a check, or a whole cell, came out as.
type Verdict string

// The verdicts. Error is the harness's own trouble and never the kernel's;
// Skip means that the kernel lacks the feature under test.
const (
	Pass  Verdict = "pass"
	Fail  Verdict = "fail"
	Crash Verdict = "crash"
	Hang  Verdict = "hang"
	Skip  Verdict = "skip"
	Error Verdict = "error"
)

// gravity lists the verdicts, mildest first. Skip is milder than Pass so that
// a cell is a skip only when nothing in it ran.
var gravity = []Verdict{Skip, Pass, Fail, Hang, Crash, Error}

// Known reports whether v is one of the verdicts above.
func (v Verdict) Known() bool { return slices.Contains(gravity, v) }

// Worst returns the gravest of the verdicts: error, crash, hang, fail, pass,
// skip. An unknown verdict counts as Error, and so does an empty list, because
// a program that checked nothing has shown nothing.
func Worst(verdicts ...Verdict) Verdict {
	worst := -1
	for _, v := range verdicts {
		i := slices.Index(gravity, v)
		if i < 0 {
			return Error
		}
		worst = max(worst, i)
	}
	if worst < 0 {
		return Error
	}
	return gravity[worst]
}

// Check is one named assertion inside a program.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Detail says what was seen, for people; it may have several lines.
	Detail string `json:"detail,omitempty"`
}

// Metric is one measured figure.
type Metric struct {
	Name   string            `json:"name"`
	Value  float64           `json:"value"`
	Unit   string            `json:"unit"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Kind says which part of an Event is filled in.
type Kind string

// The kinds of event. KindStart comes first and KindEnd last.
const (
	KindStart  Kind = "start"
	KindCheck  Kind = "check"
	KindMetric Kind = "metric"
	KindLog    Kind = "log"
	KindFile   Kind = "file"
	// KindTested says that a user's test has ended, before its files are sent: a power-off
	// after that is not the test's.
	KindTested Kind = "tested"
	KindEnd    Kind = "end"
)

// Event is one report of a guest program.
type Event struct {
	// Seq counts from 0 without gaps: a gap is a lost event.
	Seq  int  `json:"seq"`
	Kind Kind `json:"kind"`
	// Program is set on start and end.
	Program string `json:"program,omitempty"`
	// UptimeS is the guest's CLOCK_BOOTTIME in seconds.
	UptimeS float64   `json:"uptime_s"`
	Check   *Check    `json:"check,omitempty"`
	Metric  *Metric   `json:"metric,omitempty"`
	File    *FilePart `json:"file,omitempty"`
	// Text is the line of a log event.
	Text string `json:"text,omitempty"`
	// Count, on end, is the number of events before it.
	Count int `json:"count,omitempty"`
}
