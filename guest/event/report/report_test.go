//go:build linux

package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
	"patchproof/guest/machine"
)

// collect runs a program and gives its events to a collector, as the host
// would.
func collect(t *testing.T, features []string, run func(*T)) *event.Collector {
	t.Helper()
	c := event.NewCollector("prog")
	p := &T{program: "prog", features: func() []string { return features }, send: func(e event.Event) {
		if err := c.Add(e); err != nil {
			t.Errorf("Add(%+v) = %v", e, err)
		}
	}}
	p.run(run)
	if err := c.Finish(); err != nil {
		t.Errorf("Finish() = %v", err)
	}
	return c
}

func TestVerdicts(t *testing.T) {
	c := collect(t, []string{"wings"}, func(p *T) {
		p.Check("good", nil)
		p.Check("bad", errors.New("result 1; want 0"))
		p.Hang("stuck", "somewhere")
		p.Error("no-disk", errors.New("there is none"))
		p.Skip("no-fins", "fins", "it has no fins")
		p.Skip("no-wings", "wings", "it has no wings")
		p.Within(time.Minute, "in-time", func() error { return nil })
		p.Within(time.Minute, "panics", func() error { panic("ouch") })
		p.Within(time.Minute, "panics-on-a-cpu", func() error { return machine.OnCPU(0, func() error { panic("ouch") }) })
		p.Within(time.Minute, "machine", func() error {
			return fmt.Errorf("round 1: %w", errors.Join(errors.New("bad"), machine.Trouble{Err: errors.New("CPU 1 did not answer")}))
		})
		p.Check("after-trouble", errors.New("CPU 1: invalid argument"))
		p.Check("good-after-trouble", nil)
		p.Within(0, "too-late", func() error { select {} })
		p.Logf("%d", 1)
		p.Metric("m", 1, "s", nil)
	})
	want := map[string]event.Verdict{
		"good": event.Pass, "bad": event.Fail, "stuck": event.Hang, "no-disk": event.Error,
		"no-fins": event.Skip, "no-wings": event.Fail, "in-time": event.Pass, "panics": event.Error,
		"panics-on-a-cpu": event.Error, "machine": event.Error,
		"after-trouble": event.Error, "good-after-trouble": event.Pass, "too-late": event.Hang,
	}
	for _, check := range c.Checks {
		if check.Verdict != want[check.Name] {
			t.Errorf("check %s is %s (%s); want %s", check.Name, check.Verdict, check.Detail, want[check.Name])
		}
	}
	if len(c.Checks) != len(want) {
		t.Errorf("%d checks came; want %d", len(c.Checks), len(want))
	}
}

func TestPanicEndsInAnError(t *testing.T) {
	c := collect(t, nil, func(p *T) {
		p.Check("first", nil)
		panic("ouch")
	})
	last := c.Checks[len(c.Checks)-1]
	if last.Name != "program" || last.Verdict != event.Error || !strings.Contains(last.Detail, "ouch") {
		t.Errorf("the last check is %+v; want an error named program that says ouch", last)
	}
}

func TestFeature(t *testing.T) {
	for _, tt := range []struct {
		features   []string
		has, known bool
	}{
		{nil, false, false},
		{[]string{"none"}, false, true},
		{[]string{"fins", "wings"}, true, true},
	} {
		p := &T{features: func() []string { return tt.features }}
		if has, known := p.Feature("wings"); has != tt.has || known != tt.known {
			t.Errorf("with features %q, Feature(wings) = %v, %v; want %v, %v", tt.features, has, known, tt.has, tt.known)
		}
	}
}

// TestLinesFitTheHost sends the longest and worst texts through a port and
// reads them back the way hugelgupf/vmtest does.
func TestLinesFitTheHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "port")
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	out := &port{fd: fd}
	p := &T{program: "prog", send: func(e event.Event) {
		if err := out.emit(e); err != nil {
			t.Errorf("emit: %v", err)
		}
	}}
	p.run(func(p *T) {
		p.Logf("%s", strings.Repeat("x", 1<<20))
		p.Check("control", errors.New(strings.Repeat("\x01", 1<<20)))
		p.Check("bytes", errors.New(strings.Repeat("\xff", 1<<20)))
		p.Check("newlines", errors.New(strings.Repeat("\n", 1<<20)))
		p.Check("wide", errors.New(strings.Repeat("é", 1<<20)))
	})
	if err := out.close(); err != nil {
		t.Errorf("close() = %v", err)
	}

	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := event.NewCollector("prog")
	var last string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line struct {
			Action string `json:"hugelgupf_vmtest_guest_action"`
			Actual event.Event
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("line %.100q: %v", lines.Text(), err)
		}
		last = line.Action
		if last != "guestevent" {
			continue
		}
		if err := c.Add(line.Actual); err != nil {
			t.Errorf("Add = %v", err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the host cannot read the lines: %v", err)
	}
	if last != "done" {
		t.Errorf("the last line's action is %q; want done", last)
	}
	if err := c.Finish(); err != nil {
		t.Errorf("Finish() = %v", err)
	}
}

// The first event is written without the JSON encoder and must not differ.
func TestStartLine(t *testing.T) {
	for _, uptime := range []float64{0, 0.5, 12.345678901, 1e7} {
		e := event.Event{Kind: event.KindStart, Program: "nop", UptimeS: uptime}
		want, err := encoded(envelope{Action: "guestevent", Actual: &e})
		if err != nil {
			t.Fatal(err)
		}
		if got := startLine(e); string(got) != string(want) {
			t.Errorf("startLine(%v) = %s; want %s", uptime, got, want)
		}
	}
}
