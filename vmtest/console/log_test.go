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
