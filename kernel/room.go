package kernel

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"patchproof/kernel/host"
)

// unpacked is how many times its size an archive takes in the cache as the archive, a
// repository and a work tree: 18 times for 5.10.13, 21 times for 6.12.107.
const unpacked = 22

// CheckHost finds what would stop a build of the spec on this machine, for a kernel that the
// store does not have. The room for its source is looked for where that is fetched.
func (b *Builder) CheckHost(ctx context.Context, spec Spec) error {
	err := host.Check(host.Need{Cache: b.Cache, Build: true})
	if err == nil {
		_, _, err = FindSandbox(ctx, spec.trusted())
	}
	if err != nil {
		return fmt.Errorf("kernel %s: %w", spec.Name, err)
	}
	return nil
}

// checkRoom fails where the disk has no room for a pin's source and a build of it, which
// would otherwise show minutes later.
func (b *Builder) checkRoom(pin Pin) error {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return err
	}
	var disk unix.Statfs_t
	if unix.Statfs(b.Cache, &disk) != nil {
		// The writes themselves will tell.
		return nil
	}
	need := uint64(pin.Archive.Size) * unpacked
	if need > diskFloor {
		// A kernel, not a fixture: its build leaves that much free.
		need += diskFloor
	}
	if free(disk) >= need {
		return nil
	}
	return fmt.Errorf("CACHE=%s has %d MiB free, and the source of %s with a build of it takes about %d: free some space, or set CACHE to a folder of another disk",
		b.Cache, free(disk)>>20, pin.Name, need>>20)
}
