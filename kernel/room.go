package kernel

import (
	"context"
	"fmt"
	"os"

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
	need := pin.Archive.Size * unpacked
	if need > diskFloor {
		// A kernel, not a fixture: its build leaves that much free.
		need += diskFloor
	}
	return host.Room(b.Cache, "CACHE", need, "the source of "+pin.Name+" with a build of it takes about")
}
