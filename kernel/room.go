package kernel

import (
	"context"
	"fmt"
	"os"
	"strings"

	"patchproof/kernel/host"
	"patchproof/kernel/sandbox"
)

// unpacked is how many times its size an archive takes in the cache as the archive, a
// repository and a work tree: 18 times for 5.10.13, 21 times for 6.12.107.
const unpacked = 22

// CheckHost finds what would stop a build of the spec on this machine, for a kernel that the
// store does not have. The room for its source is looked for where that is fetched.
func (b *Builder) CheckHost(ctx context.Context, spec Spec) error {
	err := host.Check(host.Need{Cache: b.Cache, Build: true})
	if err == nil {
		_, _, err = sandbox.Find(ctx, spec.trusted())
	}
	if err != nil {
		return fmt.Errorf("kernel %s: %w", spec.Name, err)
	}
	return nil
}

// perFile is what a file of a local tree takes in the cache, in the work tree and a build of
// it: 21 KiB in 7.1.13, plain. Its objects stay where they are.
const perFile = 24 << 10

// checkRoomForTree is checkRoom for a commit of a local tree, before its first checkout. The
// commit's files are counted in our own repository: in a partial clone, git would fetch them.
func (b *Builder) checkRoomForTree(ctx context.Context, t tree, spec Spec, commit string) error {
	files, err := git(ctx, t.src(), "ls-tree", "-r", "--name-only", "-z", commit)
	if err != nil {
		return err
	}
	return b.checkRoom("TREE="+spec.Tree, int64(strings.Count(files, "\x00"))*perFile)
}

// checkRoom fails where the disk has no room for a source that takes about need bytes with a
// build of it, which would otherwise show minutes later.
func (b *Builder) checkRoom(source string, need int64) error {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return err
	}
	if need > diskFloor {
		// A kernel, not a fixture: its build leaves that much free.
		need += diskFloor
	}
	return host.Room(b.Cache, "CACHE", need, "the source of "+source+" with a build of it takes about")
}
