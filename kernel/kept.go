package kernel

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"patchproof/patches/regular"
)

// Kept returns a file that Keep put into a folder of the store under that name, and
// nothing if it is not there or no longer what it was. Then it is removed.
func Kept(dir, name, ext string) (path string) {
	files, _ := filepath.Glob(filepath.Join(dir, name+"-*"+ext))
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		state := info.ModTime().String()
		if seen, ok := intact.Load(file); ok && seen == state {
			return file
		}
		if sum, err := fileSum(file); err == nil && filepath.Base(file) == keptName(name, sum, ext) {
			intact.Store(file, state)
			return file
		}
		// What cannot be removed is found out again.
		_ = os.RemoveAll(file)
	}
	return ""
}

// Keep moves a file into a folder of the store, where its name holds its hash.
func Keep(from, dir, name, ext string) (path string, err error) {
	sum, err := fileSum(from)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, keptName(name, sum, ext))
	return path, os.Rename(from, path)
}

func keptName(name, sum, ext string) string { return fmt.Sprintf("%s-%.16s%s", name, sum, ext) }

// tempLock in a temporary folder is locked by the process that made it.
const tempLock = ".patchproof-lock"

// TempDir makes a folder for temporary files. One whose process is gone is removed by
// the next that makes one.
func TempDir(what string) (dir string, remove func(), err error) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), "patchproof-*", tempLock))
	for _, file := range left {
		// Anybody may have put a pipe into a folder that all can write to.
		lock := flock.New(file, flock.SetFlag(os.O_RDONLY|unix.O_NONBLOCK))
		if free, err := lock.TryLock(); err == nil && free {
			// What cannot be removed takes space, no more.
			_ = os.RemoveAll(filepath.Dir(file))
			lock.Unlock()
		}
	}
	// Somebody who cleans up may take a new one for an old one before it is locked.
	for range 10 {
		if dir, err = os.MkdirTemp("", "patchproof-"+what+"-"); err != nil {
			return "", nil, err
		}
		lock := regular.Lock(filepath.Join(dir, tempLock))
		var mine bool
		if mine, err = lock.TryLock(); err == nil && mine {
			// He may have let go of the lock by then, and have removed the folder.
			if _, err = os.Stat(lock.Path()); err != nil {
				lock.Unlock()
				continue
			}
			return dir, func() {
				os.RemoveAll(dir)
				lock.Unlock()
			}, nil
		}
		os.RemoveAll(dir)
	}
	return "", nil, fmt.Errorf("no temporary folder in %s: %w", os.TempDir(), err)
}
