// Package host looks for what on this machine would stop a run, before minutes go into it.
// Each check tries the thing itself, in milliseconds, and only what the run will need: a run
// that would work is never stopped.
package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Need is what a run is going to do, and where.
type Need struct {
	// Cache is the folder of the store. Build says that something is compiled in it.
	Cache string
	Build bool
	// Temp says that temporary files are made, Guests that programs are run in guests. Disk
	// is how many bytes the disks of one of them take, at the most.
	Temp, Guests bool
	Disk         int64
	// Results is where the run's record goes; empty where there will be none.
	Results string
}

// check is something that may be wrong with the machine.
type check struct {
	name string
	// needed says whether the run needs it.
	needed func(Need) bool
	// try fails with what is wrong, and the cure.
	try func(Need) error
}

// checks are all of them, in the order in which they are made.
var checks = []check{
	{"the cache can be written", always, func(n Need) error {
		return Writable(n.Cache, "CACHE")
	}},
	{"the cache renames files", always, func(n Need) error {
		return n.inCache(func(dir, file string) error { return os.Rename(file, file+".new") }, "files cannot be renamed")
	}},
	{"the cache locks files", always, func(n Need) error {
		return n.inCache(func(dir, file string) error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		}, "files cannot be locked, as on some network file systems")
	}},
	{"the cache has links", builds, func(n Need) error {
		return n.inCache(func(dir, file string) error { return os.Symlink(filepath.Base(file), file+".link") },
			"there are no symbolic links, which the kernel's source has")
	}},
	{"the cache runs programs", builds, func(n Need) error {
		return n.inCache(func(dir, file string) error {
			return errors.Join(os.Chmod(file, 0o755), unix.Access(file, unix.X_OK))
		}, "programs cannot be run, as on a file system mounted noexec, and a kernel's build runs some that it makes")
	}},
	{"TMPDIR can be written", temp, func(Need) error {
		return Writable(os.TempDir(), "TMPDIR")
	}},
	{"TMPDIR has room for a guest's disks", guests, func(n Need) error {
		return Room(os.TempDir(), "TMPDIR", n.Disk, "the disks of a guest take")
	}},
	{"there are pseudo-terminals", guests, func(Need) error {
		master, slave, err := pty.Open()
		if err != nil {
			return fmt.Errorf("no pseudo-terminal can be had, and QEMU runs on one: %w. In a container, mount devpts on /dev/pts, with /dev/ptmx", err)
		}
		return errors.Join(master.Close(), slave.Close())
	}},
	{"results can be written", func(n Need) bool { return n.Results != "" }, func(n Need) error {
		if err := Writable(n.Results, ""); err != nil {
			return err
		}
		return Room(n.Results, "", recordSize, "the record of a run takes at least")
	}},
}

// recordSize is less than what the record, the console logs and the report of the smallest
// run take.
const recordSize = 256 << 10

func always(Need) bool   { return true }
func builds(n Need) bool { return n.Build }
func temp(n Need) bool   { return n.Temp }
func guests(n Need) bool { return n.Guests }

// Check makes the checks that a run needs, and returns all that is wrong.
func Check(n Need) error {
	var wrong []error
	for _, c := range checks {
		if c.needed(n) {
			wrong = append(wrong, c.try(n))
		}
	}
	return errors.Join(wrong...)
}

// inCache tries something with a file in a new folder of the cache.
func (n Need) inCache(try func(dir, file string) error, trouble string) error {
	// The store sweeps up what a killed run left of that name.
	dir, err := os.MkdirTemp(n.Cache, "check-*.tmp")
	if err != nil {
		return nil // it cannot be written, which is said already
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "file")
	if os.WriteFile(file, nil, 0o644) != nil {
		return nil
	}
	// Another run that has just begun, or ended, may sweep up these too.
	if err := try(dir, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("CACHE=%s: %s: %w; set CACHE to a folder of a local disk", n.Cache, trouble, bare(err))
	}
	return nil
}

// bare is an error without the names of files that are gone again.
func bare(err error) error {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return path.Err
	}
	if link := (*os.LinkError)(nil); errors.As(err, &link) {
		return link.Err
	}
	return err
}

// Writable makes a folder, which a variable names if variable is not "", and writes a little there.
func Writable(dir, variable string) error {
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, "check-*.tmp"); err == nil {
			// An empty file fits on a full disk.
			_, err = f.Write(make([]byte, 4096))
			err = errors.Join(err, f.Close())
			os.Remove(f.Name())
		}
	}
	if err == nil {
		return nil
	}
	return Unwritable(err, dir, variable)
}

// Unwritable says that a folder, which a variable names if variable is not "", could not be
// written, and what to do about it.
func Unwritable(err error, dir, variable string) error {
	cure := "make it a folder that can be written"
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		cure = "free some space"
	case errors.Is(err, fs.ErrPermission):
		cure = "let this user write there"
	case errors.Is(err, unix.EROFS):
		cure = "mount its disk for writing"
	}
	if variable != "" {
		dir, cure = variable+"="+dir, cure+", or set "+variable+" to another folder"
	}
	return fmt.Errorf("%s cannot be written: %w; %s", dir, bare(err), cure)
}

// Room fails where the disk of a folder, which a variable names, has less than need bytes for
// what takes them. The folder is there; of a disk that does not tell its size the writes will.
func Room(dir, variable string, need int64, takes string) error {
	var disk unix.Statfs_t
	if need == 0 || unix.Statfs(dir, &disk) != nil || disk.Blocks == 0 {
		return nil // the writes themselves will tell
	}
	free := int64(disk.Bavail) * disk.Bsize
	if free >= need {
		return nil
	}
	cure := "free some space"
	if variable != "" {
		dir, cure = variable+"="+dir, cure+", or set "+variable+" to a folder of another disk"
	}
	size := func(bytes int64) string {
		if bytes < 64<<20 {
			return fmt.Sprintf("%d KiB", bytes>>10)
		}
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Errorf("%s has %s free, and %s %s: %s", dir, size(free), takes, size(need), cure)
}
