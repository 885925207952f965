package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"patchproof/kernel/host"
	"patchproof/patches/regular"
)

// Store is the cache folder. Kernels in it are found by their key, see Builder.Build.
type Store struct{ Dir string }

// DefaultCache is where the store lies unless the user says otherwise: patchproof
// in the XDG cache folder.
func DefaultCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder; set CACHE=folder: %w", err)
	}
	return filepath.Join(dir, "patchproof"), nil
}

// Folders of the store. A name ending in tmpSuffix is unfinished.
const (
	kernelsDir  = "kernels"
	requestsDir = "requests"
	sourcesDir  = "sources"
	treesDir    = "trees"
	logsDir     = "logs"
	branchesDir = "branches"
	tmpSuffix   = ".tmp"
	// lockFile is in each cache that has been used.
	lockFile = "lock"

	selftestsDir = "selftests"
)

// storeFolders and storeFiles are what lies right in the cache's folder.
var (
	storeFolders = []string{kernelsDir, requestsDir, sourcesDir, treesDir, logsDir, branchesDir, selftestsDir, checksDir, "initramfs", "counter", "mutants", "ccache"}
	storeFiles   = []string{lockFile, "initramfs.lock", "kvm.json", releasesFile}
)

// builtFile describes a kernel in its folder; its time stamp is the kernel's last use.
const builtFile = "built.json"

// record is what built.json holds: Built without what is specific to this run.
type record struct {
	Kernel, Variant string
	Image           string // file name of the boot image
	Size            int64  // of the boot image, bytes
	Commit, Tree    string
	ConfigHash      string
	Compiler        string
	Objects         int
	BuildS          float64
	// SHA256 are the hashes of the files beside it, and Sum that of the record
	// without it. Records of old have neither and get them on their first use.
	SHA256 map[string]string `json:",omitempty"`
	Sum    string            `json:",omitempty"`
}

// sum is what Sum must be.
func (r record) sum() string {
	r.Sum = ""
	text, err := json.Marshal(r)
	if err != nil {
		// It is made of strings and figures.
		panic(err)
	}
	return hashOf(string(text))
}

// write writes the record into a kernel's folder.
func (r record) write(dir string) error {
	r.Sum = r.sum()
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(filepath.Join(dir, builtFile), string(text)+"\n")
}

// keptFiles are hashed. The log is one of them: what the link of base warned of is in it, and what
// is cut off there would be new in a patched kernel.
var keptFiles = []string{"vmlinux", "bzImage", "config", "System.map", touchedFile, modulesFile, debugModulesFile, logFile}

// hashes returns the hashes of a kernel's files.
func hashes(dir string) (map[string]string, error) {
	sums := map[string]string{}
	for _, name := range keptFiles {
		sum, err := fileSum(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sums[name] = sum
	}
	return sums, nil
}

// hashes are those of a kernel's files as far as the record goes: one of old has none of the log.
func (r record) hashes(dir string) (map[string]string, error) {
	sums, err := hashes(dir)
	if r.SHA256 != nil && r.SHA256[logFile] == "" {
		delete(sums, logFile)
	}
	return sums, err
}

// intact remembers the kernels that this process has found to be what was stored.
var intact sync.Map

func (s Store) kernelDir(key string) string { return filepath.Join(s.Dir, kernelsDir, key) }

// lookup returns the kernel with that key, if each bit of it is what was stored, and
// marks it as used.
func (s Store) lookup(key string) (record, bool) {
	var r record
	if !hexSHA256.MatchString(key) {
		return record{}, false
	}
	dir := s.kernelDir(key)
	file := filepath.Join(dir, builtFile)
	text, err := regular.ReadFile(file)
	if err != nil || json.Unmarshal(text, &r) != nil {
		return record{}, false
	}
	info, err := os.Stat(filepath.Join(dir, r.Image))
	if err != nil || info.Size() != r.Size {
		return record{}, false
	}
	// Damage within a run is not looked for: each look takes as long as a read.
	state := hashOf(string(text), info.ModTime().String())
	if seen, ok := intact.Load(dir); !ok || seen != state {
		sums, err := r.hashes(dir)
		switch {
		case err != nil:
			return record{}, false
		case r.SHA256 == nil && r.Sum == "":
			r.SHA256 = sums
			// A store that cannot be written still serves.
			_ = r.write(dir)
		case r.Sum != r.sum() || !maps.Equal(sums, r.SHA256):
			return record{}, false
		}
		intact.Store(dir, state)
	}
	now := time.Now()
	_ = os.Chtimes(file, now, now)
	return r, true
}

// find is lookup for a kernel that is to be used: two whole ones may have changed places.
func (s Store) find(key string) (record, bool) {
	r, ok := s.lookup(key)
	if !ok {
		return record{}, false
	}
	config, err := regular.ReadFile(filepath.Join(s.kernelDir(key), "config"))
	return r, err == nil && r.fits(key, string(config))
}

// add puts a kernel into the store: files are copied under their new names, then
// the folder appears as a whole.
func (s Store) add(key string, r record, files map[string]string) (err error) {
	parent := filepath.Join(s.Dir, kernelsDir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, "*"+tmpSuffix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	for name, from := range files {
		size, err := copyFile(filepath.Join(tmp, name), from)
		if err != nil {
			return err
		}
		if name == r.Image {
			r.Size = size
		}
	}
	if r.SHA256, err = hashes(tmp); err != nil {
		return err
	}
	if err := r.write(tmp); err != nil {
		return err
	}
	// What is there now was not whole.
	if err := os.RemoveAll(s.kernelDir(key)); err != nil {
		return err
	}
	return os.Rename(tmp, s.kernelDir(key))
}

func copyFile(to, from string) (int64, error) {
	in, err := regular.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	return n, errors.Join(err, out.Close())
}

// writeAtomic writes a small file so that readers see all of it or none.
func writeAtomic(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "*"+tmpSuffix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	// Another user of the cache reads it, too, as far as its folders let him.
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// remembered returns the key that a request led to, if the record is that request's own:
// another's names another kernel. Records of old do not say whose they are.
func (s Store) remembered(request string) (key string, ok bool) {
	text, err := regular.ReadFile(filepath.Join(s.Dir, requestsDir, request))
	words := strings.Fields(string(text))
	if err != nil || len(words) == 0 || len(words) > 1 && words[1] != hashOf(request, words[0]) {
		return "", false
	}
	return words[0], true
}

// remember keeps the key that a request led to.
func (s Store) remember(request, key string) error {
	return writeAtomic(filepath.Join(s.Dir, requestsDir, request), key+"\n"+hashOf(request, key)+"\n")
}

// writable fails early and clearly when the store cannot be used.
func (s Store) writable() error {
	if err := s.own(); err != nil {
		return err
	}
	if err := s.settle(); err != nil {
		return err
	}
	return host.Writable(s.Dir, "CACHE")
}

// own refuses a folder in which something lies that is nobody's cache, such as a home: what
// is in the way there is removed, and so is what was not used for long.
func (s Store) own() error {
	entries, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("CACHE=%s cannot be read; set CACHE to another folder: %w", s.Dir, err)
	}
	other := ""
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name == lockFile:
			return nil // it has been a cache
		// A CI job may have brought a part of one. A new file system has lost+found.
		case slices.Contains(storeFolders, name), slices.Contains(storeFiles, name), isReleases(name), strings.HasSuffix(name, tmpSuffix), name == "lost+found":
		default:
			other = name
		}
	}
	if other != "" {
		return fmt.Errorf("CACHE=%s holds %s, and is no cache: name a folder of its own, which need not be there yet", s.Dir, other)
	}
	return nil
}

// settle removes what lies in the place of a file of the store: a folder cannot be
// replaced by a file, and a pipe would be waited for. What has one of the names right
// in the cache's folder may be somebody's own.
func (s Store) settle() error {
	for _, name := range slices.Concat(storeFolders, storeFiles) {
		path := filepath.Join(s.Dir, name)
		info, err := followed(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		want, fits := "a folder", err == nil && info.IsDir()
		if slices.Contains(storeFiles, name) {
			want, fits = "a file", err == nil && info.Mode().IsRegular()
		}
		if !fits {
			return fmt.Errorf("%s is not %s, as the cache needs it; remove it, or set CACHE to another folder", path, want)
		}
	}
	for _, pattern := range []string{requestsDir + "/*", treesDir + "/*.lock", treesDir + "/*.holder", selftestsDir + "/*.lock", checksDir + "/*", "mutants/*", logsDir + "/*"} {
		files, _ := filepath.Glob(filepath.Join(s.Dir, pattern))
		for _, file := range files {
			// What another run has just taken away may be back by now.
			if info, err := followed(file); err != nil || info.Mode().IsRegular() {
				continue
			}
			if err := os.RemoveAll(file); err != nil {
				return fmt.Errorf("%s is not a file, as the cache needs it: %w", file, err)
			}
		}
	}
	return nil
}

// followed is what a path leads to; a link that leads nowhere is itself what is there.
func followed(path string) (fs.FileInfo, error) {
	if info, err := os.Stat(path); err == nil {
		return info, nil
	}
	return os.Lstat(path)
}

// lockRetry is how often a lock that somebody holds is tried again.
const lockRetry = 100 * time.Millisecond

// lock takes the lock file of a tree, waiting for another run to end; waiting is
// told once what the holder wrote about itself. The returned function releases it.
func (s Store) lock(ctx context.Context, file, about string, waiting func(holder string)) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	lock := regular.Lock(file)
	ok, err := lock.TryLock()
	if err == nil && !ok {
		holder, _ := regular.ReadFile(file + ".holder")
		waiting(strings.TrimSpace(string(holder)))
		_, err = lock.TryLockContext(ctx, lockRetry)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", file, err)
	}
	if err := writeAtomic(file+".holder", fmt.Sprintf("process %d, %s\n", os.Getpid(), about)); err != nil {
		lock.Unlock()
		return nil, err
	}
	return func() {
		os.Remove(file + ".holder")
		lock.Unlock()
	}, nil
}

// Use takes the store's own lock, shared, as long as something in the store is
// needed: GC then removes nothing and says so.
func (s Store) Use(ctx context.Context) (release func(), err error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	lock := regular.Lock(filepath.Join(s.Dir, lockFile))
	// Nobody else is here, so what is unfinished stays so.
	if alone, err := lock.TryLock(); err == nil && alone {
		s.sweep()
		lock.Unlock()
	}
	if _, err := lock.TryRLockContext(ctx, lockRetry); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("locking %s: %w", s.Dir, err)
	}
	return func() { lock.Unlock() }, nil
}

// sweep removes what runs that were killed left unfinished.
func (s Store) sweep() {
	for _, pattern := range []string{"*" + tmpSuffix, "kernels/*" + tmpSuffix, "requests/*" + tmpSuffix, checksDir + "/*" + tmpSuffix, selftestsDir + "/*" + tmpSuffix, "trees/*" + tmpSuffix, "trees/*/*" + tmpSuffix} {
		left, _ := filepath.Glob(filepath.Join(s.Dir, pattern))
		for _, path := range left {
			// What cannot be removed takes space, no more.
			_ = os.RemoveAll(path)
		}
	}
}

// Item is something in the store that can be removed; all of it can be made again.
type Item struct {
	Kind string // kernel, tree, source, initramfs, ccache, request, branch, selftests, log, leftover
	Name string
	Path string
	Size int64 // bytes
	Used time.Time
}

// itemKinds are the folders of the store in the order that List shows them.
var itemKinds = []struct{ dir, kind string }{
	{kernelsDir, "kernel"}, {treesDir, "tree"}, {sourcesDir, "source"}, {"initramfs", "initramfs"},
	{"ccache", "ccache"}, {requestsDir, "request"}, {branchesDir, "branch"}, {checksDir, "checks"}, {selftestsDir, "selftests"}, {logsDir, "log"},
}

// List returns what is in the store.
func (s Store) List() ([]Item, error) {
	var items []Item
	for _, k := range itemKinds {
		dir := filepath.Join(s.Dir, k.dir)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if k.kind == "ccache" {
			// One item: ccache prunes its inside itself.
			entries = nil
			item, err := newItem(k.kind, k.kind, dir)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".lock") || strings.HasSuffix(e.Name(), ".holder") {
				continue
			}
			item, err := newItem(k.kind, e.Name(), filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
	}
	return items, nil
}

func newItem(kind, name, path string) (Item, error) {
	item := Item{Kind: kind, Name: name, Path: path}
	if strings.HasSuffix(name, tmpSuffix) {
		item.Kind = "leftover"
	}
	if kind == "kernel" {
		if text, err := regular.ReadFile(filepath.Join(path, builtFile)); err == nil {
			var r record
			if json.Unmarshal(text, &r) == nil {
				item.Name = fmt.Sprintf("%s/%s %.12s", r.Kernel, r.Variant, name)
			}
		}
	}
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			item.Size += info.Size()
		}
		// A tree's own folder is touched on use; its files have the times of checkouts.
		if info.ModTime().After(item.Used) && (kind != "tree" || file == path) {
			item.Used = info.ModTime()
		}
		return nil
	})
	return item, err
}

// errInUse means that the store cannot be pruned while another run uses it.
var errInUse = errors.New("another run is using the cache; try again when it has ended")

// GC removes what was not used for keep, and the leftovers of runs that died, and
// returns what it removed. A tree costs about 15 s to make again, a kernel minutes.
func (s Store) GC(keep time.Duration) ([]Item, error) {
	if _, err := os.Stat(s.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err := s.own(); err != nil {
		return nil, err
	}
	lock := regular.Lock(filepath.Join(s.Dir, lockFile))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", s.Dir, err)
	}
	if !ok {
		return nil, errInUse
	}
	defer lock.Unlock()
	items, err := s.List()
	if err != nil {
		return nil, err
	}
	oldest := time.Now().Add(-keep)
	var removed []Item
	for _, item := range items {
		if item.Kind != "leftover" && item.Used.After(oldest) {
			continue
		}
		if err := os.RemoveAll(item.Path); err != nil {
			return removed, err
		}
		removed = append(removed, item)
	}
	return removed, nil
}
