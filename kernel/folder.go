package kernel

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// buildingFile in a build folder says that a build is under way. One that is
	// found there was killed, maybe while an object was half written with a new time
	// stamp: such a folder cannot be trusted.
	buildingFile = ".patchproof-building"
	// folderFile says what the folder holds: the commits that its objects may be of,
	// and the hash of each file.
	folderFile = ".patchproof-folder"
	// toolsDir is where a kernel builds what it needs on the host beside kbuild's own programs.
	toolsDir = "tools"
	// scratchDir is TMPDIR of the commands that run in the folder.
	scratchDir = ".patchproof-tmp"
)

// folder is a build folder (O=). Make trusts what it finds in one by its dates.
// So before it runs, what is there must be what a build left there, and whatever
// differs in the source from that must be newer.
type folder struct {
	dir string
	// commits are those that an object in it may have been compiled from, fresh says that
	// there was none before this build.
	commits []string
	fresh   bool
	// kept is where the folder's content waits while something that is not trusted
	// works on a copy.
	kept string
}

// openFolder returns the build folder for a build, empty if it is new, damaged or
// was left by a build that was killed; the note says why it had to be emptied.
func openFolder(dir string) (f *folder, note string, err error) {
	f = &folder{dir: dir, kept: dir + ".kept"}
	if exists(f.kept) {
		// Whoever worked on the copy was killed.
		if err := f.restore(); err != nil {
			return nil, "", err
		}
	}
	if exists(dir) {
		switch f.commits, err = f.check(); {
		case exists(filepath.Join(dir, buildingFile)):
			note = "its last build was killed"
		case err != nil:
			note = err.Error()
		}
		if note != "" {
			if err := f.empty(); err != nil {
				return nil, "", err
			}
		}
	}
	f.fresh = len(f.commits) == 0
	return f, note, f.begin()
}

func (f *folder) begin() error {
	if err := os.MkdirAll(filepath.Join(f.dir, scratchDir), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.dir, buildingFile), nil, 0o644)
}

// empty forgets what is in the folder.
func (f *folder) empty() error {
	f.commits = nil
	return os.RemoveAll(f.dir)
}

// borrow puts a copy in the place of the folder, until it is closed.
func (f *folder) borrow(ctx context.Context) error {
	// Nothing works on what is kept.
	if err := os.Remove(filepath.Join(f.dir, buildingFile)); err != nil {
		return err
	}
	if err := os.Rename(f.dir, f.kept); err != nil {
		return err
	}
	return copyFolder(ctx, f.kept, f.dir)
}

func copyFolder(ctx context.Context, from, to string) error {
	cmd := exec.Command("cp", "--archive", "--reflink=auto", from, to)
	cmd.Env = sandbox.Env()
	_, err := sandbox.Output(ctx, cmd)
	return err
}

// seed makes a build folder that is not there yet a copy of another one, in which a
// build then compiles only what its options change.
func seed(ctx context.Context, dir, from string) error {
	if exists(dir) || exists(dir+".kept") || exists(from+".kept") || !exists(filepath.Join(from, folderFile)) || exists(filepath.Join(from, buildingFile)) {
		return nil
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := copyFolder(ctx, from, tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return os.Rename(tmp, dir)
}

func (f *folder) restore() error {
	if err := os.RemoveAll(f.dir); err != nil {
		return err
	}
	return os.Rename(f.kept, f.dir)
}

// close records what the folder holds after a build that came to its end.
func (f *folder) close() error {
	if exists(f.kept) {
		return f.restore()
	}
	if err := os.RemoveAll(filepath.Join(f.dir, scratchDir)); err != nil {
		return err
	}
	sums, err := f.sums()
	if err != nil {
		return err
	}
	lines := append([]string{strings.Join(f.commits, " ")}, sums...)
	if err := writeAtomic(filepath.Join(f.dir, folderFile), strings.Join(lines, "\n")+"\n"); err != nil {
		return err
	}
	return os.Remove(filepath.Join(f.dir, buildingFile))
}

// check compares the folder with what was recorded of it.
func (f *folder) check() (commits []string, err error) {
	text, err := regular.ReadFile(filepath.Join(f.dir, folderFile))
	if err != nil {
		return nil, errors.New("nothing is recorded about it")
	}
	first, rest, _ := strings.Cut(string(text), "\n")
	if err := os.RemoveAll(filepath.Join(f.dir, scratchDir)); err != nil {
		return nil, err
	}
	sums, err := f.sums()
	if err != nil {
		return nil, err
	}
	recorded := strings.Split(strings.TrimSuffix(rest, "\n"), "\n")
	for i, sum := range sums {
		if i >= len(recorded) || sum != recorded[i] {
			_, name, _ := strings.Cut(sum, " ")
			return nil, fmt.Errorf("%s in it is not what was written there", name)
		}
	}
	if len(sums) != len(recorded) {
		return nil, errors.New("a file is missing in it")
	}
	return strings.Fields(first), nil
}

// sums returns "hash path" for each file of the folder, in order.
func (f *folder) sums() ([]string, error) {
	var names []string
	err := filepath.WalkDir(f.dir, func(name string, d fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(name, f.dir+"/")
		if err == nil && !d.IsDir() && rel != folderFile && rel != buildingFile {
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	sums := make([]string, len(names))
	var group errgroup.Group
	group.SetLimit(4)
	for i, name := range names {
		group.Go(func() error {
			sum, err := fileSum(filepath.Join(f.dir, name))
			sums[i] = fmt.Sprintf("%s %q", sum, name)
			return err
		})
	}
	return sums, group.Wait()
}

// fileSum is the sha256 of a file, of a symbolic link's target, or nothing for
// what has no content.
func fileSum(name string) (string, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(name)
		if err != nil {
			return "", err
		}
		io.WriteString(sum, target)
	case info.Mode().IsRegular():
		file, err := regular.Open(name)
		if err != nil {
			return "", err
		}
		defer file.Close()
		if _, err := io.Copy(sum, bufio.NewReader(file)); err != nil {
			return "", err
		}
	default:
		return "-", nil
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// date makes the files of src that differ between the folder's commits and commit
// newer than everything in the folder, whatever the clock did in between.
func (f *folder) date(ctx context.Context, src, commit string) error {
	var changed []string
	for _, built := range f.commits {
		// Folders of old have more of them, with a hash behind a colon.
		old, _, _ := strings.Cut(built, ":")
		names, err := changedFiles(ctx, src, old, commit)
		if err != nil {
			// It is gone, as after a rebase of the user's tree.
			return f.renew(commit)
		}
		changed = append(changed, names...)
	}
	// What is in it of the others is older now than what they differ in, for good.
	f.commits = []string{commit}
	if len(changed) == 0 {
		return nil
	}
	// Kernels stamp files with the time of their last tick.
	now := time.Now().Add(-20 * time.Millisecond)
	if err := predate(f.dir, now); err != nil {
		return err
	}
	for _, name := range changed {
		full := filepath.Join(src, name)
		if !inside(src, name) {
			continue
		}
		if err := setTime(full, now); errors.Is(err, fs.ErrNotExist) {
			// What the build of tools notes of the files that it has read, unlike kbuild's
			// notes, ends make if one is gone (tools/build/Build.include).
			if top, _, _ := strings.Cut(name, "/"); top == toolsDir {
				if err := os.RemoveAll(filepath.Join(f.dir, toolsDir)); err != nil {
					return err
				}
			}
			continue
		} else if err != nil {
			return err
		}
		if info, err := os.Lstat(full); err != nil || info.ModTime().Before(now.Truncate(time.Microsecond)) {
			// A file system with coarse dates cannot tell old from new.
			return errors.Join(err, f.renew(commit))
		}
	}
	return nil
}

// renew empties the folder before a build of commit.
func (f *folder) renew(commit string) error {
	if err := f.empty(); err != nil {
		return err
	}
	f.commits, f.fresh = []string{commit}, true
	return f.begin()
}

// predate makes what lies below dir older than a time, and nothing in it older than what
// it was newer than.
func predate(dir string, than time.Time) error {
	latest := than.Add(-time.Millisecond)
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.ModTime().After(latest) {
			return err
		}
		return setTime(name, latest)
	})
}

// setTime sets the date of a file, not of what a link points at.
func setTime(name string, t time.Time) error {
	stamp, err := unix.TimeToTimespec(t)
	if err != nil {
		return err
	}
	err = unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &fs.PathError{Op: "utimes", Path: name, Err: err}
	}
	return nil
}

// inside says that no folder on the way to a file of root is a link.
func inside(root, name string) bool {
	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		if info, err := os.Lstat(filepath.Join(root, dir)); err == nil && !info.IsDir() {
			return false
		}
	}
	return filepath.IsLocal(name)
}

// changedFiles are the paths that differ between two commits.
func changedFiles(ctx context.Context, src, old, commit string) ([]string, error) {
	out, err := git(ctx, src, "diff", "--name-only", "--no-renames", "-z", old, commit, "--")
	if err != nil || out == "" {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00"), nil
}
