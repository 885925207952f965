package kernel

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"
)

// entry is a file of a kernel source: path relative to the top, slash-separated.
type entry struct {
	path string
	mode string // git's: 100644, 100755 or 120000
	size int64
	data io.Reader // valid until the next entry; a symlink's target
}

// importSource makes a git repository at dir of entries, as one commit with a
// fixed date and identity that baseRef points at, and checks it out. It fails
// unless the commit's tree is wantTree, where that is known.
func importSource(ctx context.Context, dir, wantTree, message string, date time.Time, entries iter.Seq2[entry, error]) error {
	if err := initRepo(ctx, dir); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := gitCommand(dir, "fast-import", "--quiet", "--done", "--depth=0", "--date-format=raw")
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- sandbox.Run(ctx, cmd) }()
	feedErr := feedFastImport(in, message, date, entries)
	if feedErr != nil && !errors.Is(feedErr, errPipe) {
		cancel(feedErr)
	}
	in.Close()
	if err := <-done; err != nil {
		return sandbox.CommandError(cmd, err, []byte(errs.String()))
	}
	tree, err := git(ctx, dir, "rev-parse", "--verify", baseRef+"^{tree}")
	if err != nil {
		return err
	}
	if wantTree != "" && tree != wantTree {
		return fmt.Errorf("the source's git tree is %s, the pin wants %s: something was added, changed or left out", tree, wantTree)
	}
	return checkoutCommit(ctx, dir, baseRef)
}

// errPipe means that git fast-import went away; its own message says why.
var errPipe = errors.New("git fast-import ended early")

// feedFastImport writes the stream of git-fast-import(1).
func feedFastImport(in io.Writer, message string, date time.Time, entries iter.Seq2[entry, error]) error {
	w := bufio.NewWriterSize(in, 1<<20)
	fmt.Fprintf(w, "commit %s\ncommitter %s <%s> %s\ndata %d\n%s\n", baseRef, identityName, identityEmail, rawDate(date), len(message), message)
	for e, err := range entries {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "M %s inline %s\ndata %d\n", e.mode, quotePath(e.path), e.size)
		if n, err := io.Copy(w, e.data); err != nil || n != e.size {
			if err == nil {
				err = fmt.Errorf("%d of %d bytes: %w", n, e.size, io.ErrUnexpectedEOF)
			}
			return fmt.Errorf("%s: %w", e.path, err)
		}
		w.WriteByte('\n')
	}
	w.WriteString("done\n")
	if err := w.Flush(); err != nil {
		return errPipe
	}
	return nil
}

// quotePath quotes as git-fast-import(1) wants it for any path.
func quotePath(p string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(p) + `"`
}

// tarEntries yields the files of a source tarball without its top folder. It
// refuses whatever could leave the folder that it is unpacked into.
func tarEntries(r io.Reader) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		archive := tar.NewReader(r)
		top := ""
		links := map[string]bool{}
		for {
			header, err := archive.Next()
			if err == io.EOF {
				if top == "" {
					yield(entry{}, errors.New("the archive is empty"))
				}
				return
			}
			if err != nil {
				yield(entry{}, fmt.Errorf("reading the archive: %w", err))
				return
			}
			if header.Typeflag == tar.TypeXGlobalHeader {
				continue
			}
			e, err := tarEntry(header, archive, &top, links)
			if err != nil {
				yield(entry{}, fmt.Errorf("archive entry %q: %w", header.Name, err))
				return
			}
			if e.path != "" && !yield(e, nil) {
				return
			}
		}
	}
}

// tarEntry checks one header; top and links remember what came before. A folder
// gives an entry without a path: git knows files only.
func tarEntry(header *tar.Header, data io.Reader, top *string, links map[string]bool) (entry, error) {
	name := strings.TrimSuffix(header.Name, "/")
	if !filepath.IsLocal(name) || path.Clean(name) != name {
		return entry{}, errors.New("leads outside the archive's folder")
	}
	first, rest, _ := strings.Cut(name, "/")
	if !strings.HasPrefix(first, "linux-") || *top != "" && first != *top {
		return entry{}, errors.New("not below one folder linux-<version>")
	}
	*top = first
	for part := range strings.SplitSeq(rest, "/") {
		if strings.EqualFold(part, ".git") {
			return entry{}, errors.New("a source has no git folder of its own")
		}
	}
	for dir := path.Dir(rest); dir != "."; dir = path.Dir(dir) {
		if links[dir] {
			return entry{}, fmt.Errorf("lies below the symbolic link %s", dir)
		}
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return entry{}, nil
	case tar.TypeReg:
		mode := "100644"
		if header.Mode&0o100 != 0 {
			mode = "100755"
		}
		return entry{path: rest, mode: mode, size: header.Size, data: data}, nil
	case tar.TypeSymlink:
		return linkEntry(rest, header.Linkname, links)
	}
	return entry{}, fmt.Errorf("type %q: a source has files, folders and symbolic links only", header.Typeflag)
}

func linkEntry(name, target string, links map[string]bool) (entry, error) {
	if path.IsAbs(target) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
		return entry{}, fmt.Errorf("symbolic link to %q leads outside the source", target)
	}
	links[name] = true
	return entry{path: name, mode: "120000", size: int64(len(target)), data: strings.NewReader(target)}, nil
}

// dirEntries yields the files of an unpacked source; a git folder at its top is not part of it.
func dirEntries(root string) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		links := map[string]bool{}
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			if rel == ".git" {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
			if d.IsDir() {
				return nil
			}
			e, file, err := dirEntry(name, rel, d, links)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if file != nil {
				defer file.Close()
			}
			if !yield(e, nil) {
				return filepath.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(entry{}, err)
		}
	}
}

func dirEntry(name, rel string, d fs.DirEntry, links map[string]bool) (entry, *os.File, error) {
	if d.Type() == fs.ModeSymlink {
		target, err := os.Readlink(name)
		if err != nil {
			return entry{}, nil, err
		}
		e, err := linkEntry(filepath.ToSlash(rel), target, links)
		return e, nil, err
	}
	if !d.Type().IsRegular() {
		return entry{}, nil, errors.New("a source has files, folders and symbolic links only")
	}
	info, err := d.Info()
	if err != nil {
		return entry{}, nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return entry{}, nil, err
	}
	mode := "100644"
	if info.Mode()&0o100 != 0 {
		mode = "100755"
	}
	return entry{path: filepath.ToSlash(rel), mode: mode, size: info.Size(), data: file}, file, nil
}

// archiveEntries yields the files of a .tar.xz; report is told how many bytes of
// it were read. xz reads the blocks of a file on several CPUs.
func archiveEntries(ctx context.Context, file string, report func(read int64)) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		f, err := regular.Open(file)
		if err != nil {
			yield(entry{}, err)
			return
		}
		defer f.Close()
		r, w, err := os.Pipe()
		if err != nil {
			yield(entry{}, err)
			return
		}
		cmd := exec.Command("xz", "--decompress", "--stdout", "--threads=0")
		cmd.Env = sandbox.Env()
		var errs strings.Builder
		cmd.Stdin, cmd.Stdout, cmd.Stderr = &countingReader{Reader: f, report: report}, w, &errs
		done := make(chan error, 1)
		go func() {
			err := sandbox.Run(ctx, cmd)
			w.Close()
			done <- err
		}()
		finish := func() error {
			r.Close()
			if err := <-done; err != nil {
				return fmt.Errorf("unpacking %s: %w", file, sandbox.CommandError(cmd, err, []byte(errs.String())))
			}
			return nil
		}
		for e, err := range tarEntries(bufio.NewReaderSize(r, 1<<20)) {
			if err != nil {
				// A truncated stream is xz's to explain.
				if xzErr := finish(); xzErr != nil && errors.Is(err, io.ErrUnexpectedEOF) {
					err = xzErr
				}
				yield(entry{}, err)
				return
			}
			if !yield(e, nil) {
				finish()
				return
			}
		}
		// xz checks its sums at the very end, behind the last file.
		_, err = io.Copy(io.Discard, r)
		if xzErr := finish(); xzErr != nil {
			err = xzErr
		}
		if err != nil {
			yield(entry{}, err)
		}
	}
}
