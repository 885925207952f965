package vmtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/hugelgupf/vmtest/qemu/qevent"

	"patchproof/guest/event"
	"patchproof/vmtest/qemu"
)

// FuzzReport gives the reader of the port whatever a guest may write to it. Only a
// report that is whole may come to be a pass, and what is kept of it is safe to show.
func FuzzReport(f *testing.F) {
	line := func(actual string) string {
		return `{"hugelgupf_vmtest_guest_action":"guestevent","Actual":{` + actual + "}}\n"
	}
	const done = `{"hugelgupf_vmtest_guest_action":"done"}` + "\n"
	start := line(`"seq":0,"kind":"start","program":"nop","uptime_s":0.9`)
	check := line(`"seq":1,"kind":"check","check":{"name":"order","verdict":"pass","detail":"\u001b[2J\u0000\ufffe\nsecond"}`)
	metric := line(`"seq":2,"kind":"metric","metric":{"name":"cost","value":1e308,"unit":"insns/op","labels":{"a":"b"}}`)
	end := line(`"seq":3,"kind":"end","program":"nop","count":3`)
	for _, seed := range []string{
		start + check + metric + end + done,
		start + check + metric + end,
		start + line(`"seq":1,"kind":"check","check":{"name":"\u001b]0;x\u0007\nb","verdict":"fail"}`) +
			line(`"seq":2,"kind":"metric","metric":{"name":"\u001b[2J","value":1,"unit":"\u0000","labels":{"\u001b":"\u0007"}}`) + end + done,
		start + check + end + done,
		start + line(`"seq":1,"kind":"check","check":null`) + done,
		start + line(`"seq":1,"kind":"end","program":"nop","count":1`) + done + done,
		"\x1b[2J\x00\xff",
		strings.Repeat("A", 1<<17),
		"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, written []byte) {
		file := filepath.Join(t.TempDir(), "events")
		if err := os.WriteFile(file, written, 0o600); err != nil {
			t.Fatal(err)
		}
		events, readErr := qevent.ReadFile[event.Event](file)
		out := &qemu.Outcome{Ending: qemu.Exited, Printed: true, Report: event.NewCollector("nop")}
		for _, e := range events {
			if out.ReportErr = out.Report.Add(e); out.ReportErr != nil {
				break
			}
		}
		if out.ReportErr == nil {
			out.ReportErr = out.Report.Finish()
		}
		if out.ReportErr == nil {
			out.ReportErr = readErr
		}
		s := CellSpec{Program: Program{Name: "nop"}}
		finding := judge(out, nil, s)
		expect(&finding, s)
		if finding.verdict == event.Pass && (readErr != nil || out.Report.Ended == nil || out.Report.Ended.Count != len(events)-1) {
			t.Errorf("a pass, though the report is not whole: %v, %+v", readErr, out.Report)
		}
		if finding.verdict != event.Pass && finding.verdict != event.Skip && finding.expected {
			t.Errorf("%s is expected", finding.verdict)
		}
		for _, c := range finding.checks {
			safe(t, c.Name+c.Detail)
		}
		for _, m := range printableMetrics(out.Report.Metrics) {
			safe(t, m.Name+m.Unit)
			for name, value := range m.Labels {
				safe(t, name+value)
			}
		}
		safe(t, event.Printable(finding.reason))
	})
}

// safe says what a terminal would obey.
func safe(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("not UTF-8: %.200q", text)
	}
	for _, r := range text {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			t.Fatalf("%q is kept in %.200q", r, text)
		}
	}
}
