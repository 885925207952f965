package results

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchproof/patches/regular"
)

// lockFile, in a run's folder, is locked as long as the process of the run lives.
const lockFile = "lock"

// runID is what NewFolder calls a run's folder.
var runID = regexp.MustCompile(`^\d{8}-\d{6}\.\d{3}(-\d+)?$`)

// Find reads a run by its folder, its run.json, or its name below root, where
// latest is one.
func Find(root, name string) (*Run, error) {
	if _, err := os.Stat(name); err == nil || name != filepath.Base(name) {
		return Read(name)
	}
	run, err := Read(filepath.Join(root, name))
	if name == latestLink && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no run in %s yet; make vmtest makes one", root)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no run %s: it is neither a path nor in %s (see results ls)", name, root)
	}
	return run, err
}

// FindSide reads what is compared: a run as Find does, or, after a colon, one of
// its kernels: latest:patched, latest:patched/debug. Without a kernel, kernel is nil.
func FindSide(root, name string) (run *Run, kernel *Kernel, err error) {
	run, err = Find(root, name)
	cut := strings.LastIndex(name, ":")
	if err == nil || cut < 0 {
		return run, nil, err
	}
	if run, err = Find(root, name[:cut]); err != nil {
		return nil, nil, err
	}
	var names []string
	for _, k := range run.Kernels {
		if name[cut+1:] == k.Name || name[cut+1:] == k.Name+"/"+k.Variant {
			return run, &k, nil
		}
		names = append(names, Line(k.Name+"/"+k.Variant))
	}
	return nil, nil, fmt.Errorf("%s: run %s has no such kernel; it has %s", name, Line(run.ID), strings.Join(names, ", "))
}

// Item is a run's folder below results/out.
type Item struct {
	// ID is the folder's name, which sorts by time, and Dir its path.
	ID, Dir string
	// Run is nil where Err says why it cannot be read.
	Run *Run
	Err error
	// Other says whose the folder is where a command with a record of its own wrote no
	// run.json.
	Other string
	// Size is in bytes. Used is when something was written last.
	Size int64
	Used time.Time
	// Live says that the run's process is still at work.
	Live bool
	// Latest says that latest points here.
	Latest bool
}

// others are records that are none of a run.
var others = map[string]string{"bisect*.json": "a search", "patchcheck.json": "a check of patches"}

// List returns the runs below root, the newest first.
func List(root string) ([]Item, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	latest, _ := os.Readlink(filepath.Join(root, latestLink))
	var items []Item
	for _, e := range slices.Backward(entries) {
		if !e.IsDir() || !runID.MatchString(e.Name()) {
			continue
		}
		i := Item{ID: e.Name(), Dir: filepath.Join(root, e.Name()), Latest: filepath.Base(latest) == e.Name()}
		i.Run, i.Err = Read(i.Dir)
		if errors.Is(i.Err, fs.ErrNotExist) {
			for record, what := range others {
				if found, _ := filepath.Glob(filepath.Join(i.Dir, record)); len(found) > 0 {
					i.Other = what
				}
			}
		}
		if err := i.measure(); err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	return items, nil
}

// measure finds size and age, and whether somebody is at work in the folder.
func (i *Item) measure() error {
	err := filepath.WalkDir(i.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			i.Size += info.Size()
		}
		if info.ModTime().After(i.Used) && path != i.Dir {
			i.Used = info.ModTime()
		}
		return nil
	})
	// A run writes while it is listed.
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	// What never had a lock is none to take, and looking changes nothing.
	if _, err := os.Stat(filepath.Join(i.Dir, lockFile)); err != nil {
		return nil
	}
	unlock, err := lockRun(i.Dir)
	i.Live = errors.Is(err, errLocked)
	if err == nil {
		unlock()
	}
	return nil
}

// errLocked means that another process has the run's lock.
var errLocked = errors.New("locked by another process")

// lockRun takes the lock of a run's folder; nobody is waited for.
func lockRun(dir string) (unlock func(), err error) {
	lock := regular.Lock(filepath.Join(dir, lockFile))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", dir, errLocked)
	}
	return func() { lock.Unlock() }, nil
}

// GC removes runs below root and returns them: all but the keep newest, and of
// those only what nothing was written to for unused. It leaves the run that latest
// points at, runs at work and every folder that is none of a run.
func GC(root string, keep int, unused time.Duration) ([]Item, error) {
	items, err := List(root)
	if err != nil {
		return nil, err
	}
	oldest := time.Now().Add(-unused)
	var removed []Item
	for n, i := range items {
		if n < keep || i.Latest || i.Live || i.Used.After(oldest) {
			continue
		}
		if err := os.RemoveAll(i.Dir); err != nil {
			return removed, fmt.Errorf("removing a run: %w", err)
		}
		removed = append(removed, i)
	}
	return removed, nil
}

// Short says in a few words how the run came out.
func (i Item) Short() string {
	switch {
	case i.Other != "":
		return i.Other
	case i.Err != nil:
		return "unreadable: " + Line(i.Err.Error())
	case i.Live && i.Run.Status == Running:
		return "running"
	}
	surprising := 0
	for _, c := range i.Run.Cells {
		if c.blamesKernel() {
			surprising++
		}
	}
	var parts []string
	for _, k := range i.Run.Kernels {
		if k.BuildError != "" {
			parts = append(parts, Line(k.Name)+" DOES NOT BUILD")
		}
	}
	if surprising > 0 {
		parts = append(parts, fmt.Sprintf("%d UNEXPECTED", surprising))
	}
	switch {
	case i.Run.Status == Running:
		parts = append(parts, "killed")
	case i.Run.Status != Finished:
		parts = append(parts, string(i.Run.Status))
	case i.Run.ExitCode() == 2:
		parts = append(parts, "not judged in full")
	case len(parts) == 0:
		parts = append(parts, "as expected")
	}
	return strings.Join(parts, ", ")
}
