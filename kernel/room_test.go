package kernel

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRoomIsLookedForBeforeTheSource(t *testing.T) {
	t.Parallel()
	b := &Builder{Cache: t.TempDir()}
	pin := releasePin(release{Version: "7.1.8", File: orig("7.1.8"), SHA256: strings.Repeat("a", 64), Size: 1 << 50}, trustIndex)
	_, err := b.Apply(t.Context(), Spec{Name: Base, Pin: pin})
	if err == nil || !strings.Contains(err.Error(), "MiB free, and the source of v7.1.8") || exists(b.Cache+"/"+sourcesDir) {
		t.Errorf("Apply: %v; want it to find the disk too small before it fetches anything", err)
	}
}

func TestRoomIsLookedForBeforeATree(t *testing.T) {
	t.Parallel()
	dir, small := branchRepo(t), t.TempDir()
	for i := range 40 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("file%d", i)), "text")
	}
	userGit(t, dir, "add", ".")
	userGit(t, dir, "commit", "-qm", "files")
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=900k"); err != nil {
		t.Skip("a small disk can't be mounted: ", err)
	}
	defer syscall.Unmount(small, syscall.MNT_DETACH)
	b := &Builder{Cache: small}
	_, err := b.Apply(t.Context(), Spec{Name: Base, Tree: dir, Rev: "HEAD"})
	if err == nil || !strings.Contains(err.Error(), "iB free, and the source of TREE="+dir) {
		t.Errorf("Apply: %v; want it to find the disk too small before anything is checked out", err)
	}
}
