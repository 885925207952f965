package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"
)

// stallAfter is how long a server may send nothing before the next source's turn.
const stallAfter = 60 * time.Second

// hashError is an archive whose content is not the pin's.
type hashError struct{ from, got, want string }

func (e *hashError) Error() string {
	return fmt.Sprintf("%s has sha256 %s, the pin wants %s", e.from, e.got, e.want)
}

// verifyFile checks a local file against the pin.
func (a Archive) verifyFile(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() != a.Size {
		return fmt.Errorf("%s has %d bytes, the pin wants %d: truncated, or another file", file, info.Size(), a.Size)
	}
	f, err := regular.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	return a.verifySum(file, sum.Sum(nil))
}

func (a Archive) verifySum(from string, sum []byte) error {
	if got := hex.EncodeToString(sum); got != a.SHA256 {
		return &hashError{from, got, a.SHA256}
	}
	return nil
}

// fetch downloads the archive into dir, unless it is there, from the first of
// urls that has the right bytes, and returns its path. What a broken transfer
// left in a .part file is continued, by the next call too; nothing of a file with
// a wrong hash stays. report gets the bytes so far.
func (a Archive) fetch(ctx context.Context, dir string, urls []string, report func(done int64)) (string, error) {
	file := filepath.Join(dir, a.Name)
	// It may have been damaged since it was fetched.
	if a.verifyFile(file) == nil {
		return file, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var tries []error
	for _, u := range urls {
		err := a.fetchFrom(ctx, file+".part", u, report)
		if err == nil {
			return file, os.Rename(file+".part", file)
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if isLocalTrouble(err) {
			return "", err
		}
		var wrong *hashError
		if !errors.As(err, &wrong) { // That names it.
			err = fmt.Errorf("%s: %w", u, err)
		}
		tries = append(tries, err)
	}
	// A folder without a part file says nothing.
	os.Remove(dir)
	return "", &sourcesError{a.Name, tries}
}

// sourcesError lists why each source failed.
type sourcesError struct {
	what  string
	tries []error
}

func (e *sourcesError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no source has %s; give a local copy with KERNEL_SRC=file. Tried:", e.what)
	for _, err := range e.tries {
		fmt.Fprintf(&b, "\n  %v", err)
	}
	return b.String()
}

func (e *sourcesError) Unwrap() []error { return e.tries }

// transfers is how often one source is asked again after it broke off.
const transfers = 3

// fetchFrom continues part from u until it is complete and right.
func (a Archive) fetchFrom(ctx context.Context, part, u string, report func(int64)) error {
	var err error
	for range transfers {
		var resumed bool
		resumed, err = a.transfer(ctx, part, u, report)
		var wrong *hashError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &wrong):
			os.Remove(part)
			if !resumed {
				return err
			}
			// The old part may have been at fault: once more from the start.
		case !errors.Is(err, io.ErrUnexpectedEOF):
			return err
		}
	}
	return err
}

// transfer makes one request; resumed says that part had a beginning already.
func (a Archive) transfer(ctx context.Context, part, u string, report func(int64)) (resumed bool, err error) {
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sum := sha256.New()
	have, err := io.Copy(sum, f)
	if err != nil {
		return false, err
	}
	if have == a.Size && a.verifySum(part, sum.Sum(nil)) == nil {
		return true, nil
	}
	if have >= a.Size {
		have = 0
	}
	body, offset, err := open(ctx, u, have)
	if err != nil {
		return have > 0, err
	}
	defer body.Close()
	if have = offset; have == 0 {
		sum.Reset()
	}
	resumed = have > 0
	if err := f.Truncate(have); err != nil {
		return resumed, err
	}
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return resumed, err
	}
	in := &countingReader{Reader: io.LimitReader(body, a.Size-have+1), n: have, report: report}
	_, err = io.Copy(io.MultiWriter(f, sum), in)
	switch {
	case ctx.Err() != nil:
		return resumed, context.Cause(ctx)
	case isLocalTrouble(err):
		return resumed, err
	case in.n < a.Size && err == nil:
		return resumed, fmt.Errorf("it ended after %d of %d bytes: %w", in.n, a.Size, io.ErrUnexpectedEOF)
	case in.n < a.Size:
		return resumed, fmt.Errorf("it broke off after %d of %d bytes: %w (%w)", in.n, a.Size, err, io.ErrUnexpectedEOF)
	case in.n > a.Size:
		f.Close()
		os.Remove(part)
		return resumed, fmt.Errorf("it has more than the pin's %d bytes", a.Size)
	}
	if err := a.verifySum(u, sum.Sum(nil)); err != nil {
		return resumed, err
	}
	if err := f.Sync(); err != nil {
		return resumed, err
	}
	return resumed, f.Close()
}

// open starts reading u at offset, or at its start when the server cannot do
// that; it returns where.
func open(ctx context.Context, u string, offset int64) (io.ReadCloser, int64, error) {
	parsed, err := url.Parse(u)
	if err != nil {
		return nil, 0, err
	}
	if parsed.Scheme == "file" || parsed.Scheme == "copy" {
		f, err := regular.Open(parsed.Path)
		return f, 0, err
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" {
		return nil, 0, fmt.Errorf("addresses with %s: cannot be read; want https, http or file", parsed.Scheme)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		cancel(nil)
		return nil, 0, err
	}
	if offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	body := &stallGuard{cancel: cancel, timer: time.AfterFunc(stallAfter, func() {
		cancel(fmt.Errorf("nothing came for %v", stallAfter))
	})}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		body.Close()
		var inner *url.Error
		if errors.As(err, &inner) {
			// Its text would repeat the address.
			err = inner.Err
		}
		return nil, 0, err
	}
	body.ReadCloser = response.Body
	switch response.StatusCode {
	case http.StatusPartialContent:
		want := fmt.Sprintf("bytes %d-", offset)
		if !strings.HasPrefix(response.Header.Get("Content-Range"), want) {
			body.Close()
			return nil, 0, fmt.Errorf("it sent %q when asked for %q", response.Header.Get("Content-Range"), want)
		}
		return body, offset, nil
	case http.StatusOK:
		return body, 0, nil
	}
	body.Close()
	return nil, 0, errors.New(response.Status)
}

// stallGuard is a response body that ends the request when nothing comes for stallAfter.
type stallGuard struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (s *stallGuard) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.timer.Reset(stallAfter)
	return n, err
}

func (s *stallGuard) Close() error {
	s.timer.Stop()
	s.cancel(nil)
	if s.ReadCloser == nil {
		return nil
	}
	return s.ReadCloser.Close()
}

// aptRepositories are the base addresses that the host's apt is configured with,
// in its order (apt-get(8), indextargets).
func aptRepositories(ctx context.Context) ([]string, error) {
	cmd := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
	cmd.Env = sandbox.Env()
	out, err := sandbox.Output(ctx, cmd)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("this host has no apt")
	}
	if err != nil {
		return nil, err
	}
	var repositories []string
	for line := range bytes.Lines(out) {
		uri := strings.TrimSpace(string(line))
		if uri != "" && !slices.Contains(repositories, uri) {
			repositories = append(repositories, uri)
		}
	}
	if len(repositories) == 0 {
		return nil, errors.New("apt on this host has no repository")
	}
	return repositories, nil
}

// source returns the files of an archive pin and where they come from: the
// user's own copy, else the store's, else the first source that has it.
func (b *Builder) source(ctx context.Context, spec Spec) (iter.Seq2[entry, error], string, error) {
	archive := spec.Pin.Archive
	unpack := func(read int64) {
		b.report(Progress{Kernel: spec.Name, Step: StepUnpack, Done: read, Total: archive.Size})
	}
	if b.Source != "" {
		info, err := os.Stat(b.Source)
		if err != nil {
			return nil, "", fmt.Errorf("KERNEL_SRC: %w", err)
		}
		if info.IsDir() {
			return dirEntries(b.Source), b.Source, nil
		}
		if err := archive.verifyFile(b.Source); err != nil {
			return nil, "", fmt.Errorf("KERNEL_SRC: %w", err)
		}
		return archiveEntries(ctx, b.Source, unpack), b.Source, nil
	}
	file, err := b.download(ctx, spec)
	if err != nil {
		return nil, "", err
	}
	return archiveEntries(ctx, file, unpack), file, nil
}

// download returns the pin's archive in the store.
func (b *Builder) download(ctx context.Context, spec Spec) (string, error) {
	archive := spec.Pin.Archive
	var tries []error
	var urls []string
	for _, s := range spec.Pin.Sources {
		if s.URL != "" {
			urls = append(urls, s.URL)
			continue
		}
		repositories, err := aptRepositories(ctx)
		if err != nil {
			tries = append(tries, fmt.Errorf("%s: %w", s.Debian, err))
			continue
		}
		for _, r := range repositories {
			urls = append(urls, strings.TrimSuffix(r, "/")+"/"+s.Debian)
		}
	}
	file, err := archive.fetch(ctx, filepath.Join(b.Cache, sourcesDir, archive.SHA256), urls, func(done int64) {
		b.report(Progress{Kernel: spec.Name, Step: StepFetch, Done: done, Total: archive.Size})
	})
	var failed *sourcesError
	if errors.As(err, &failed) {
		failed.tries = append(tries, failed.tries...)
	}
	return file, err
}

// countingReader reports how many bytes went through it.
type countingReader struct {
	io.Reader
	n      int64
	report func(n int64)
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	c.report(c.n)
	return n, err
}
