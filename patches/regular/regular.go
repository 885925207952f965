// Package regular opens and locks files that a person named, or that others can put something else
// in the place of.
package regular

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// Open opens a file for reading. Anything but a regular file, or a link to one, is refused: opening
// a pipe or a terminal may wait for ever, and a device may have no end.
func Open(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	return os.Open(name)
}

// OpenIn is Open for a file below a folder in which somebody else may put things, such as the
// makefiles of a patch: a link that leads out of the folder is refused, too.
func OpenIn(root *os.Root, name string) (*os.File, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", filepath.Join(root.Name(), name))
	}
	return root.Open(name)
}

// ReadFileIn reads all of a file that OpenIn takes.
func ReadFileIn(root *os.Root, name string) ([]byte, error) {
	f, err := OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

// most is what a file may have that is read as a whole. A sparse one, which takes no room on the
// disk, would otherwise take all of the machine's memory.
const most = 1 << 30

func readAll(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s: has more than %d MiB", f.Name(), most>>20)
	}
	return io.ReadAll(f)
}

// Lock is the lock of a file, which it makes if need be. To open a pipe in its place is not waited for.
func Lock(name string) *flock.Flock {
	return flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDONLY|unix.O_NONBLOCK))
}

// ReadFile reads all of a file that Open takes.
func ReadFile(name string) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}
