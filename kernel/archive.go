package kernel

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"

	"patchproof/kernel/host"
	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"
)

// archiveSuffix ends the name of a file with a kernel for the store of another machine.
const archiveSuffix = ".tar.zst"

// The members of an archive: a manifest, which comes first, the kernel's record, and its files.
const (
	manifestFile = "manifest.json"
	logFile      = "build.log"
)

// manifest says what an archive is.
type manifest struct {
	Key string `json:"key"`
	// Requests are what the store of origin was asked for and answered with this kernel, so that
	// a machine without the source knows what it has.
	Requests []string `json:"requests"`
}

// The most that an archive may unpack to: a kernel with debug info has 600 MB and is packed to
// a fifth of that, while a bomb is packed to a thousandth.
const (
	mostUnpacked   = 4 << 30
	mostTimes      = 60
	mostDescribed  = 1 << 20
	leastAllowance = 16 << 20
)

// Match returns the keys of the store that begin as one of the words does, all keys for none, sorted. A word
// that fits none, or more than one, is an error.
func (s Store) Match(words []string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.Dir, kernelsDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var all, keys []string
	for _, e := range entries {
		if hexSHA256.MatchString(e.Name()) {
			all = append(all, e.Name())
		}
	}
	if len(words) == 0 {
		return all, nil
	}
	for _, word := range words {
		fit := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return !strings.HasPrefix(key, word) })
		if len(fit) != 1 || word == "" {
			return nil, fmt.Errorf("%q is the key of %d kernels in %s; want the beginning of one (see cache ls)", word, len(fit), s.Dir)
		}
		keys = append(keys, fit[0])
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// ErrOtherKernel means that a kernel is not what its key says: that of another patchproof, which
// builds otherwise, or damaged.
var ErrOtherKernel = errors.New("its key does not fit what it was built from; another patchproof made it, or it was changed")

// fits says whether the key is the one that a kernel with that record and config has.
func (r record) fits(key, config string) bool {
	return r.ConfigHash == hashOf(config) &&
		key == kernelKey(r.Tree, config, r.Compiler, r.Image, r.SHA256[modulesFile] != "")
}

// Export writes a kernel of the store into a file of the folder to, which is named after its
// key, and returns its path. The same kernel gives the same bytes.
func (s Store) Export(ctx context.Context, key, to string) (path string, err error) {
	release, err := s.Use(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	r, ok := s.lookup(key)
	if !ok {
		return "", fmt.Errorf("kernel %.12s in %s is not whole: build it again", key, s.Dir)
	}
	dir := s.kernelDir(key)
	config, err := regular.ReadFile(filepath.Join(dir, "config"))
	if err != nil {
		return "", err
	}
	if !r.fits(key, string(config)) {
		return "", fmt.Errorf("kernel %.12s: %w", key, ErrOtherKernel)
	}
	requests, err := s.requestsOf(key)
	if err != nil {
		return "", err
	}
	first, err := json.MarshalIndent(manifest{key, requests}, "", "  ")
	if err != nil {
		return "", err
	}
	defer func() { err = unwritten(err, to, to, "") }()
	if err := os.MkdirAll(to, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(to, key+archiveSuffix)
	out, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return "", err
	}
	defer out.Cleanup()
	packed, err := zstd.NewWriter(out)
	if err != nil {
		return "", err
	}
	archive := tar.NewWriter(packed)
	add := func(name string, size int64, from io.Reader) error {
		if err := archive.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err := io.Copy(archive, from)
		return err
	}
	if err := add(manifestFile, int64(len(first)), bytes.NewReader(first)); err != nil {
		return "", err
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(r.SHA256)), func(name string) bool { return name == logFile })
	for _, name := range slices.Concat([]string{builtFile}, names, []string{logFile}) {
		err := addFile(filepath.Join(dir, name), func(size int64, from io.Reader) error { return add(name, size, from) })
		if name == logFile && r.SHA256[logFile] == "" && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
	}
	if err := errors.Join(archive.Close(), packed.Close()); err != nil {
		return "", err
	}
	return path, out.CloseAtomicallyReplace()
}

// unwritten says what to do about an error that is of a file below a folder, and leaves others
// as they are; dir and variable are host.Unwritable's.
func unwritten(err error, below, dir, variable string) error {
	var at *fs.PathError
	if errors.As(err, &at) && sandbox.Within(at.Path, below) {
		return host.Unwritable(err, dir, variable)
	}
	return err
}

func addFile(path string, add func(size int64, from io.Reader) error) error {
	f, err := regular.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return add(info.Size(), f)
}

// requestsOf are the requests that led to a kernel, sorted.
func (s Store) requestsOf(key string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.Dir, requestsDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	requests := []string{}
	for _, e := range entries {
		if led, ok := s.remembered(e.Name()); ok && led == key && hexSHA256.MatchString(e.Name()) {
			requests = append(requests, e.Name())
		}
	}
	return requests, nil
}

// Import puts the kernel of a file that Export wrote into the store and returns its key; had says
// that it was there. What is in the file may be anyone's: nothing of it comes into the store unless all
// of it is what its hashes and its key say.
func (s Store) Import(ctx context.Context, path string) (key string, had bool, err error) {
	release, err := s.Use(ctx)
	if err != nil {
		return "", false, err
	}
	defer release()
	parent := filepath.Join(s.Dir, kernelsDir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", false, err
	}
	tmp, err := os.MkdirTemp(parent, "*"+tmpSuffix)
	if err != nil {
		return "", false, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", false, err
	}
	m, err := unpack(path, tmp)
	if full := unwritten(err, tmp, s.Dir, "CACHE"); full != err {
		return "", false, full
	}
	if err == nil {
		err = checkImported(m, tmp)
	}
	if err != nil {
		return "", false, fmt.Errorf("%s is not taken: %w", path, err)
	}
	if _, had = s.lookup(m.Key); !had {
		// What is there is not whole.
		if err := os.RemoveAll(s.kernelDir(m.Key)); err != nil {
			return "", false, err
		}
		if err := os.Rename(tmp, s.kernelDir(m.Key)); err != nil {
			return "", false, err
		}
		now := time.Now()
		_ = os.Chtimes(filepath.Join(s.kernelDir(m.Key), builtFile), now, now)
	}
	for _, request := range m.Requests {
		// What this store found out by itself counts for more.
		if _, ok := s.remembered(request); ok {
			continue
		}
		if err := s.remember(request, m.Key); err != nil {
			return "", false, err
		}
	}
	return m.Key, had, nil
}

// unpack unpacks the members of an archive that one may have.
func unpack(path, dir string) (m manifest, err error) {
	f, err := regular.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return m, err
	}
	packed, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return m, err
	}
	defer packed.Close()
	room := &allowance{from: packed, left: min(mostUnpacked, max(leastAllowance, mostTimes*info.Size()))}
	archive := tar.NewReader(room)
	allowed := slices.Concat([]string{manifestFile, builtFile}, keptFiles)
	seen := map[string]bool{}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return m, fmt.Errorf("it is damaged, or no archive of a kernel: %w", err)
		}
		switch {
		case !slices.Contains(allowed, h.Name):
			return m, fmt.Errorf("it has %q, which no archive of a kernel has", h.Name)
		case h.Typeflag != tar.TypeReg:
			return m, fmt.Errorf("its %s is not a plain file", h.Name)
		case seen[h.Name]:
			return m, fmt.Errorf("it has %s twice", h.Name)
		case len(seen) == 0 && h.Name != manifestFile:
			return m, fmt.Errorf("it begins with %s, not with a %s", h.Name, manifestFile)
		}
		seen[h.Name] = true
		if h.Name == manifestFile {
			if err := json.NewDecoder(io.LimitReader(archive, mostDescribed)).Decode(&m); err != nil {
				return m, fmt.Errorf("its %s: %w", manifestFile, err)
			}
			continue
		}
		if err := unpackFile(filepath.Join(dir, h.Name), archive); err != nil {
			return m, fmt.Errorf("its %s: %w", h.Name, err)
		}
	}
	// Behind the end there are zeros, and the hash of what was packed.
	if _, err := io.Copy(io.Discard, room); err != nil {
		return m, fmt.Errorf("it is damaged: %w", err)
	}
	return m, nil
}

func unpackFile(path string, from io.Reader) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}

// allowance is a reader of which no more can be read than is left.
type allowance struct {
	from io.Reader
	left int64
}

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errors.New("it unpacks to far more than a kernel has")
	}
	n, err := a.from.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	return n, err
}

var (
	gitObject = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
	printable = regexp.MustCompile(`^[ -~]{1,500}$`)
)

// checkImported says what of an unpacked kernel is not as it should be.
func checkImported(m manifest, dir string) error {
	for _, request := range append([]string{m.Key}, m.Requests...) {
		if !hexSHA256.MatchString(request) {
			return fmt.Errorf("its %s has %q, which is no hash", manifestFile, request)
		}
	}
	text, err := regular.ReadFile(filepath.Join(dir, builtFile))
	if err != nil {
		return errors.New("it has no " + builtFile)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("its %s: %w", builtFile, err)
	}
	switch {
	case !plainName.MatchString(r.Kernel), !plainName.MatchString(r.Variant), !printable.MatchString(r.Compiler),
		!gitObject.MatchString(r.Commit), !gitObject.MatchString(r.Tree):
		return fmt.Errorf("its %s has names or hashes that none can be", builtFile)
	case r.Sum != r.sum():
		return fmt.Errorf("its %s was changed", builtFile)
	}
	sums, err := r.hashes(dir)
	if err != nil {
		return err
	}
	for _, name := range keptFiles {
		if sums[name] != r.SHA256[name] {
			return fmt.Errorf("its %s is not the one that was built", name)
		}
	}
	if !maps.Equal(sums, r.SHA256) || r.Image != "vmlinux" && r.Image != "bzImage" || sums[r.Image] == "" || sums["vmlinux"] == "" {
		return fmt.Errorf("its %s names other files than it has", builtFile)
	}
	if info, err := os.Stat(filepath.Join(dir, r.Image)); err != nil || info.Size() != r.Size {
		return fmt.Errorf("its %s does not have the size that it had", r.Image)
	}
	config, err := regular.ReadFile(filepath.Join(dir, "config"))
	if err != nil {
		return errors.New("it has no config")
	}
	if !r.fits(m.Key, string(config)) {
		return fmt.Errorf("kernel %.12s: %w", m.Key, ErrOtherKernel)
	}
	return nil
}
