package console

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A program that writes what a kernel would say is not the kernel.
func TestWhoWroteIt(t *testing.T) {
	const bug = "BUG: kernel NULL pointer dereference, address: 0000000000000000"
	for _, tt := range []struct {
		name, console, log string
		complaints         int
	}{
		{"the kernel", "<6>[    0.1] x\n<4>[    1.000001][   T40] " + bug + "\n", "<6>[    0.1] x\n[    1.000001][   T40] " + bug + "\n", 1},
		{"/dev/kmsg", "<12>[    1.000001][   T40] " + bug + "\n", "[    1.000001 user][   T40] " + bug + "\n", 0},
		{"/dev/kmsg with a level", "<8>[    1.000001] " + bug + "\n", "[    1.000001 user] " + bug + "\n", 0},
		{"the console, after the kernel", "<6>[    0.100000] x\n[    1.000001] " + bug + "\n", "[    0.100000] x\n[    1.000001 user] " + bug + "\n", 0},
		{"behind what a program printed", "<6>[    0.100000] x\nhello <1>[    1.000001] " + bug + "\n", "[    0.100000] x\nhello [    1.000001] " + bug + "\n", 1},
		{"without priorities", "[    1.000001] " + bug + "\n", "[    1.000001] " + bug + "\n", 1},
	} {
		w := &Watcher{}
		file := filepath.Join(t.TempDir(), "log")
		log, err := Create(file, w.Line)
		if err != nil {
			t.Fatal(err)
		}
		log.Write([]byte(tt.console))
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.Split(tt.log, "\n"), strings.Split(string(got), "\n")); diff != "" {
			t.Errorf("%s: the log (-want +got):\n%s", tt.name, diff)
		}
		if n := len(w.Splats()); n != tt.complaints {
			t.Errorf("%s: %d complaints of the kernel; want %d", tt.name, n, tt.complaints)
		}
	}
}
