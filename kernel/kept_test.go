package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestKeptIsWhatWasKept(t *testing.T) {
	dir := t.TempDir()
	for name, spoil := range map[string]func(path string) error{
		"bit": func(path string) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text[2] ^= 1
			return os.WriteFile(path, text, 0o644)
		},
		"cut":   func(path string) error { return os.Truncate(path, 2) },
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"gone":  os.Remove,
	} {
		from := filepath.Join(t.TempDir(), "new")
		writeFile(t, from, "content of "+name)
		path, err := Keep(from, dir, name, ".x")
		if err != nil {
			t.Fatal(err)
		}
		if got := Kept(dir, name, ".x"); got != path {
			t.Errorf("%s: Kept = %q; want %q", name, got, path)
		}
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		if got := Kept(dir, name, ".x"); got != "" {
			t.Errorf("%s: Kept of a damaged file = %q; want none", name, got)
		}
	}
	if left := list(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestTempDirRemovesThatOfTheDead(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dead := filepath.Join(os.TempDir(), "patchproof-vm-1")
	writeFile(t, filepath.Join(dead, tempLock), "")
	writeFile(t, filepath.Join(dead, "disk0.img"), "data")
	// Opening a pipe would wait for somebody who never comes.
	pipe := filepath.Join(os.TempDir(), "patchproof-vm-2", tempLock)
	if err := errors.Join(os.Mkdir(filepath.Dir(pipe), 0o755), unix.Mkfifo(pipe, 0o644)); err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(os.TempDir(), "patchproof-notes", "file")
	writeFile(t, stranger, "mine")
	alive, remove, err := TempDir("vm")
	if err != nil {
		t.Fatal(err)
	}
	other, removeOther, err := TempDir("vm")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dead: false, pipe: false, stranger: true, alive: true, other: true} {
		if exists(path) != want {
			t.Errorf("%s is there: %v; want %v", path, !want, want)
		}
	}
	remove()
	removeOther()
	if left := list(t, os.TempDir()); len(left) != 2 {
		t.Errorf("left: %v; want the stranger's only", left)
	}
}

// Many who make temporary folders at once, and clean up, leave each other's alone.
func TestTempDirsAtOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var makers sync.WaitGroup
	for range 8 {
		makers.Go(func() {
			for range 200 {
				dir, remove, err := TempDir("test")
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(dir); err != nil {
					t.Error(err)
				}
				remove()
			}
		})
	}
	makers.Wait()
}
