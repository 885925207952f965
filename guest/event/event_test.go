package event

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWorst(t *testing.T) {
	for _, tt := range []struct {
		verdicts []Verdict
		want     Verdict
	}{
		{nil, Error},
		{[]Verdict{Pass}, Pass},
		{[]Verdict{Skip}, Skip},
		{[]Verdict{Skip, Skip}, Skip},
		{[]Verdict{Skip, Pass}, Pass},
		{[]Verdict{Fail, Pass, Skip}, Fail},
		{[]Verdict{Fail, Hang}, Hang},
		{[]Verdict{Hang, Crash, Fail}, Crash},
		{[]Verdict{Crash, Error, Pass}, Error},
		{[]Verdict{Pass, "fine"}, Error},
		{[]Verdict{Pass, ""}, Error},
	} {
		if got := Worst(tt.verdicts...); got != tt.want {
			t.Errorf("Worst(%q) = %q; want %q", tt.verdicts, got, tt.want)
		}
	}
}

// whole is a complete report of the program "nop".
func whole() []Event {
	return []Event{
		{Seq: 0, Kind: KindStart, Program: "nop", UptimeS: 0.9},
		{Seq: 1, Kind: KindCheck, Check: &Check{Name: "batch-1", Verdict: Pass}},
		{Seq: 2, Kind: KindMetric, Metric: &Metric{Name: "time", Value: 2, Unit: "s"}},
		{Seq: 3, Kind: KindLog, Text: "hello"},
		{Seq: 4, Kind: KindCheck, Check: &Check{Name: "batch-2", Verdict: Fail, Detail: "result 1; want 0"}},
		{Seq: 5, Kind: KindEnd, Program: "nop", Count: 5},
	}
}

func TestCollectorWhole(t *testing.T) {
	c := NewCollector("nop")
	for _, e := range whole() {
		if err := c.Add(e); err != nil {
			t.Fatalf("Add(%+v) = %v", e, err)
		}
	}
	if err := c.Finish(); err != nil {
		t.Errorf("Finish() = %v", err)
	}
	wantChecks := []Check{{Name: "batch-1", Verdict: Pass}, {Name: "batch-2", Verdict: Fail, Detail: "result 1; want 0"}}
	if diff := cmp.Diff(wantChecks, c.Checks); diff != "" {
		t.Errorf("Checks (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Metric{{Name: "time", Value: 2, Unit: "s"}}, c.Metrics); diff != "" {
		t.Errorf("Metrics (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"hello"}, c.Logs); diff != "" {
		t.Errorf("Logs (-want +got):\n%s", diff)
	}
	if c.Started == nil || c.Started.UptimeS != 0.9 || c.Ended == nil {
		t.Errorf("Started, Ended = %+v, %+v; want both, the first at 0.9 s", c.Started, c.Ended)
	}
}

func TestCollectorRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func([]Event) []Event
		want  string // part of the first error
	}{
		{"a lost event", func(e []Event) []Event { return append(e[:2], e[3:]...) }, "lost"},
		{"a lost start", func(e []Event) []Event { return e[1:] }, "lost"},
		{"a repeated event", func(e []Event) []Event { return append(e[:3], e[2:]...) }, "twice"},
		{"swapped events", func(e []Event) []Event { e[2], e[3] = e[3], e[2]; return e }, "lost"},
		{"no start", func(e []Event) []Event { e[0].Kind = KindLog; return e }, "before the start"},
		{"two starts", func(e []Event) []Event { e[1] = e[0]; e[1].Seq = 1; return e }, "started twice"},
		{"an event after the end", func(e []Event) []Event { return append(e, Event{Seq: 6, Kind: KindLog}) }, "after the end"},
		{"another program", func(e []Event) []Event { e[0].Program = "fdinfo"; return e }, "fdinfo"},
		{"another program's end", func(e []Event) []Event { e[5].Program = "fdinfo"; return e }, "fdinfo"},
		{"a wrong count", func(e []Event) []Event { e[5].Count = 4; return e }, "counts 4"},
		{"an unknown kind", func(e []Event) []Event { e[3].Kind = "shout"; return e }, "shout"},
		{"an unknown verdict", func(e []Event) []Event { e[1].Check.Verdict = "okay"; return e }, "okay"},
		{"no verdict", func(e []Event) []Event { e[1].Check.Verdict = ""; return e }, "verdict"},
		{"a check without content", func(e []Event) []Event { e[1].Check = nil; return e }, "without a name"},
		{"a check without a name", func(e []Event) []Event { e[1].Check.Name = ""; return e }, "without a name"},
		{"a metric without content", func(e []Event) []Event { e[2].Metric = nil; return e }, "without a name"},
		{"one check twice", func(e []Event) []Event { e[4].Check.Name = "batch-1"; return e }, "twice"},
		{"a negative number", func(e []Event) []Event { e[0].Seq = -1; return e }, "out of order"},
	} {
		c := NewCollector("nop")
		var err error
		for _, e := range tt.spoil(whole()) {
			if err = c.Add(e); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Add = %v; want an error with %q", tt.name, err, tt.want)
		}
	}
}

func TestCollectorUnfinished(t *testing.T) {
	for n, want := range map[int]string{0: "start", 1: "end", 5: "end"} {
		c := NewCollector("nop")
		for _, e := range whole()[:n] {
			if err := c.Add(e); err != nil {
				t.Fatalf("Add(%+v) = %v", e, err)
			}
		}
		if err := c.Finish(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Finish() after %d events = %v; want an error about the %s", n, err, want)
		}
	}
}

// TestWire fixes the names that the guest and the host must agree on.
func TestWire(t *testing.T) {
	got, err := json.Marshal(whole()[4])
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"seq":4,"kind":"check","uptime_s":0,"check":{"name":"batch-2","verdict":"fail","detail":"result 1; want 0"}}`
	if string(got) != want {
		t.Errorf("Marshal(check) = %s; want %s", got, want)
	}
}

func TestCollectorIsBounded(t *testing.T) {
	c := NewCollector("nop")
	if err := c.Add(Event{Kind: KindStart, Program: "nop"}); err != nil {
		t.Fatal(err)
	}
	for seq := 1; ; seq++ {
		err := c.Add(Event{Seq: seq, Kind: KindMetric, Metric: &Metric{Name: "flood"}})
		if seq < maxEvents && err != nil {
			t.Fatalf("Add of event %d = %v", seq, err)
		}
		if seq == maxEvents {
			if err == nil || !strings.Contains(err.Error(), "gone wild") {
				t.Errorf("Add of event %d = %v; want that there are too many", seq, err)
			}
			return
		}
	}
}

func TestBuildID(t *testing.T) {
	note := func(name string, kind byte, desc string) string {
		pad := func(s string) string { return s + strings.Repeat("\x00", -len(s)&3) }
		name += "\x00"
		return string([]byte{byte(len(name)), 0, 0, 0, byte(len(desc)), 0, 0, 0, kind, 0, 0, 0}) + pad(name) + pad(desc)
	}
	for _, tt := range []struct{ name, notes, want string }{
		{"behind others", note("Xen", 18, "12345678") + note("Linux", 3, "abc") + note("GNU", 3, "\x01\xff"), "01ff"},
		{"none", note("Xen", 18, "12345678"), ""},
		{"cut", note("GNU", 3, "\x01\xff\x02\x03")[:18], ""},
		{"nothing", "", ""},
	} {
		if got := BuildID([]byte(tt.notes)); got != tt.want {
			t.Errorf("%s: BuildID = %q; want %q", tt.name, got, tt.want)
		}
	}
}
