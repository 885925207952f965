package regular

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, link} {
		if text, err := ReadFile(name); string(text) != "text" || err != nil {
			t.Errorf("ReadFile(%s) = %q, %v; want text", name, text, err)
		}
	}
	for _, name := range []string{pipe, dir, "/dev/zero"} {
		if _, err := ReadFile(name); err == nil || !strings.HasSuffix(err.Error(), name+": not a regular file") {
			t.Errorf("ReadFile(%s) = %v; want that it is no regular file", name, err)
		}
	}
	if _, err := ReadFile(filepath.Join(dir, "nothing")); !os.IsNotExist(err) {
		t.Errorf("ReadFile of nothing = %v", err)
	}
}
