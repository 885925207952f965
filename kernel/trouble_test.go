package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

func TestAboutPatch(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"it does not apply", fmt.Errorf("base: %w", &ApplyError{Kernel: Patched, Git: "error: a.c: does not exist"}), true},
		{"no patch", &UnfitError{errors.New("there is no diff in it")}, true},
		{"its file is not there", &UnfitError{fmt.Errorf("no patch to read: %w", &fs.PathError{Op: "stat", Path: "a", Err: syscall.ENOENT})}, false},
		{"its file cannot be read", &UnfitError{fmt.Errorf("a: %w", syscall.EIO)}, false},
		{"no room to apply it", &ApplyError{Git: "error: unable to write file a.c: No space left on device"}, false},
		{"anything else", errors.New("no KVM"), false},
		{"nothing", nil, false},
	} {
		if got := AboutPatch(tt.err); got != tt.want {
			t.Errorf("AboutPatch(%s) = %v; want %v", tt.name, got, tt.want)
		}
	}
}
