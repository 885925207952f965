package initramfs

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// What cannot be removed is not waited for: no run gets any further by that.
func TestClearUpDoesNotWaitForWhatStays(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "1.tmp")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", left, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("nothing can be mounted: %v", err)
	}
	defer unix.Unmount(left, 0)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		clearUp(dir)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("it waited %v", waited)
		}
	})
	if _, err := os.Stat(left); err != nil {
		t.Errorf("what was to stay: %v", err)
	}
}
