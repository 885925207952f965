package console

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"patchproof/guest/event"
)

// FuzzConsole gives the watch over the console whatever a guest may print.
func FuzzConsole(f *testing.F) {
	logs, err := filepath.Glob(filepath.Join("testdata", "corpus", "*.log"))
	kinds, _ := filepath.Glob(filepath.Join("testdata", "corpus", "kinds", "*.log"))
	logs = append(logs, kinds...)
	if err != nil || len(logs) == 0 {
		f.Fatal("no console logs: ", err)
	}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("\x1b]0;x\x07\x00\xff\u202e\r\n" + strings.Repeat("A", 3*longestLine)))
	f.Fuzz(func(t *testing.T, printed []byte) {
		w := &Watcher{}
		path := filepath.Join(t.TempDir(), "console.log")
		log, err := Create(path, w.Line)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(printed)
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		safe(t, string(text))
		for _, s := range w.Splats() {
			if s.Title == "" || s.Verdict != event.Crash && s.Verdict != event.Hang {
				t.Errorf("a complaint %q with the verdict %q", s.Title, s.Verdict)
			}
			safe(t, s.Title+s.Text)
		}
	})
}

// FuzzRead gives the reader of logs whatever somebody may keep in a file.
func FuzzRead(f *testing.F) {
	for _, log := range []string{
		"[   12.345678][    T9] BUG: x\n", "<4>BUG: x\n", "kern  :warn  : [Sun Nov 29 06:00:00 2026] BUG: x\n", "4,1,12345678,-,caller=T9;BUG: x\n",
		`{"dmesg": [{"pri": 4, "time": 12.345678, "msg": "BUG: x"},{`, `{"MESSAGE":[66,85,71],"_TRANSPORT":"kernel"}`,
	} {
		f.Add([]byte(log))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		w, err := Read(bytes.NewReader(log))
		if err != nil {
			return
		}
		w.Asked()
		for _, s := range w.Splats() {
			if s.Title == "" {
				t.Errorf("a complaint without a title: %q", s.Text)
			}
		}
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
