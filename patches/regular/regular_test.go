package regular

import (
	"errors"
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

// A makefile makes a file of any size in no time.
func TestReadHugeFile(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	name := filepath.Join(root.Name(), "huge")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, most+1)); err != nil {
		t.Fatal(err)
	}
	_, err = ReadFile(name)
	_, errIn := ReadFileIn(root, "huge")
	for _, err := range []error{err, errIn} {
		if err == nil || !strings.HasSuffix(err.Error(), "has more than 1024 MiB") {
			t.Errorf("reading a huge file: %v; want it refused", err)
		}
	}
}

func TestReadFileIn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "outside"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, make := range map[string]func(name string) error{
		"link": func(name string) error { return root.Symlink(filepath.Join(dir, "outside"), name) },
		"pipe": func(name string) error { return unix.Mkfifo(filepath.Join(root.Name(), name), 0o600) },
		"dir":  func(name string) error { return root.Mkdir(name, 0o700) },
	} {
		if err := make(name); err != nil {
			t.Fatal(err)
		}
		if text, err := ReadFileIn(root, name); err == nil {
			t.Errorf("ReadFileIn of a %s = %q; want an error", name, text)
		}
	}
	if err := root.WriteFile("file", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := root.Symlink("file", "inner"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "inner"} {
		if text, err := ReadFileIn(root, name); string(text) != "text" || err != nil {
			t.Errorf("ReadFileIn(%s) = %q, %v; want text", name, text, err)
		}
	}
}
