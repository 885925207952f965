package console

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConsoleLogKeepsHeadAndTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	lines := 0
	c, err := Create(path, func(string) { lines++ })
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("the first line\r\n"))
	chunk := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), 10_000)
	for range 3 * (logHead + logTail) / len(chunk) {
		c.Write(chunk)
	}
	c.Write([]byte("the last line"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got, []byte("the first line\n")) || !bytes.HasSuffix(got, []byte("the last line\n")) || !bytes.Contains(got, []byte("bytes of console output left out here")) {
		t.Errorf("the log keeps not head, tail and a note between: %.60q ... %q", got, got[len(got)-60:])
	}
	if most := logHead + logTail + 100; len(got) > most {
		t.Errorf("the log has %d bytes; want at most %d", len(got), most)
	}
	if want := 2 + 3*(logHead+logTail)/len(chunk)*10_000; lines != want {
		t.Errorf("%d lines were watched; want %d", lines, want)
	}
}

func TestConsoleLogBreaksLongLines(t *testing.T) {
	var lengths []int
	c, err := Create(filepath.Join(t.TempDir(), "log"), func(line string) { lengths = append(lengths, len(line)) })
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte(strings.Repeat("x", 2*longestLine+5) + "\nnext\n"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{longestLine, longestLine, 5, 4}, lengths); diff != "" {
		t.Errorf("lengths of the lines (-want +got):\n%s", diff)
	}
}

// However a log was taken, its lines are the kernel's.
func TestReadTakesWhatPutsSomethingInFront(t *testing.T) {
	for name, prefix := range map[string]string{
		"nothing": "", "dmesg --raw": "<4>", "serial console": "[   12.345678] ", "with the caller": "[   12.345678][  T9] ",
		"no time, but the caller": "[    T9] ", "dmesg --ctime": "[Tue Nov 28 12:00:01 2026] ", "dmesg --reltime": "[  +0.000003] ",
		"dmesg --time-format=iso": "2026-11-28T12:00:01,123456+00:00 ", "dmesg --color": "\x1b[32m[   12.345678] \x1b[0m\x1b[31m",
		"syslog": "Nov 28 12:00:01 host kernel: ", "journalctl": "2026-11-28T12:00:01+0000 host kernel: ",
		"journalctl -o short-full": "Tue 2026-11-28 12:00:01 UTC host kernel: ", "journalctl -o short-monotonic": "[   12.345678] host kernel: ",
		"/dev/kmsg": "4,512,12345678,-;", "/dev/kmsg with the caller": "4,512,12345678,-,caller=T9;",
		"/dev/kmsg with a fragment and the caller": "4,512,12345678,c,caller=T9,ncfrag=0/88;",
		"syslog with the time":                     "Nov 28 12:00:01 host kernel: [   12.345678] ",
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			for _, line := range []string{"BUG: kernel NULL pointer dereference, address: 0000000000000010", "Oops: 0000 [#1] SMP", "RIP: 0010:memcpy+0x1f/0x40", "Call Trace:", " quokka_read+0x1f/0x40"} {
				log.WriteString(prefix + line + "\n")
			}
			w, err := Read(strings.NewReader(log.String()))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range w.Splats() {
				got = append(got, s.Title)
			}
			if diff := cmp.Diff([]string{"BUG: kernel NULL pointer dereference in quokka_read"}, got); diff != "" {
				t.Errorf("titles (-want +got):\n%s", diff)
			}
		})
	}
}
