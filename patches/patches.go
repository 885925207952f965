// Package patches reads what a kernel developer hands over: a mailbox with one
// mail or a whole thread, a plain diff, or a quilt folder. It turns it into an
// ordered [Series] of [Patch]es, says what git am should be given for each, and
// explains against the content of a tree why a patch does not apply.
//
// The way of a patch: [Read] tells the three kinds of input apart; mbox.go takes
// a mail out of its wrapping (headers, MIME, charset), diff.go parses the diff and
// refuses one that lies about itself, id.go and mail.go give it back in canonical
// form, mismatch.go and format.go compare it with a tree. The package writes
// nothing and runs nothing.
package patches

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// maxSize bounds an input file, in bytes. The largest mails on the kernel's
// lists are below 1 MiB; a gigabyte of something else must not fill the memory.
const maxSize = 64 << 20

// Series is an ordered list of patches for one tree.
type Series struct {
	// Name is the last element of Path, without its extension for a file.
	Name string
	// Path is what Read was given.
	Path    string
	Patches []Patch
	// Known holds the issues declared in the folder's known-issues.toml; only a
	// quilt folder has them.
	Known []KnownIssue
}

// Patch is one change with its message.
type Patch struct {
	// Path is the file that the patch was read from.
	Path string
	// Message is the number of the mail in Path, from 1; 0 for a plain diff.
	Message int
	// Author and Email are empty when the input does not say; [Patch.MailMessage]
	// then fills in a fixed identity. The same holds for a zero Date.
	Author, Email string
	Date          time.Time
	// Subject is the subject as git am would commit it: without "Re:" and
	// bracketed prefixes. A plain diff's subject is its file name.
	Subject string
	// Body is the message below the subject, up to the "---" line.
	Body      string
	MessageID string
	Files     []File
	// Diff is the diff alone, headers and hunks, without prose around or between.
	Diff []byte
	// Raw is the input as it was: the mail with its headers, still encoded.
	Raw []byte
}

// File is what a patch does to one file.
type File struct {
	// Old and New are slash-separated names inside the tree. Old is empty for a
	// new file, New for a deleted one; they differ in a rename or copy.
	Old, New string
	// PreImage and PostImage are the blob ids of the index line, abbreviated as
	// the patch has them; empty when it has none.
	PreImage, PostImage               string
	Hunks                             []Hunk
	IsNew, IsDelete, IsRename, IsCopy bool

	// header holds the lines between "diff --git" and the first hunk, for ID.
	header []string
}

// Name is the file's name in the patched tree, or its old name if it is deleted.
func (f File) Name() string {
	if f.New != "" {
		return f.New
	}
	return f.Old
}

// Hunk is one contiguous change.
type Hunk struct {
	// Header is the @@ line as the patch has it.
	Header                                 string
	OldStart, OldLines, NewStart, NewLines int
	// Lines keep their line ends; a line without one ends its file.
	Lines []gitdiff.Line
	// Line is the header's line number in Patch.Path, or 0 when the mail was
	// encoded and the number would be of no use.
	Line int
}

// Read reads the patches at path: a quilt folder (one that holds a file named
// series), a mailbox, a single mail, or a plain diff. It refuses anything that
// git am could misread, and its errors name the file, the message and the line.
func Read(path string) (Series, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Series{}, fmt.Errorf("no patch to read: %w", err)
	}
	if info.IsDir() {
		return readQuilt(path)
	}
	data, err := readFile(path)
	if err != nil {
		return Series{}, err
	}
	list, err := parse(path, data)
	if err != nil {
		return Series{}, err
	}
	s := Series{Name: stem(path), Path: path, Patches: list}
	known := strings.TrimSuffix(path, filepath.Ext(path)) + "." + knownIssuesFile
	if s.Known, err = ReadKnownIssues(known); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Series{}, err
	}
	return s, nil
}

// stem is a file's name without folder and extension.
func stem(path string) string {
	base := filepath.Base(path)
	if name := strings.TrimSuffix(base, filepath.Ext(base)); name != "" {
		return name
	}
	return base
}

// readFile reads a regular text file of a sane size.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	// Opening a pipe or a terminal would wait for ever.
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s: larger than %d MiB, which no patch is", path, maxSize>>20)
	}
	if err := checkText(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

func checkText(data []byte) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("the file is empty")
	}
	for _, packed := range []struct{ magic, name string }{
		{"\x1f\x8b", "gzip"}, {"\xfd7zXZ", "xz"}, {"BZh", "bzip2"}, {"\x28\xb5\x2f\xfd", "zstd"},
	} {
		if bytes.HasPrefix(data, []byte(packed.magic)) {
			return fmt.Errorf("the file is compressed with %s; unpack it first", packed.name)
		}
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return fmt.Errorf("line %d: a zero byte; this is binary data, not a patch", lineAt(data, i))
	}
	return nil
}

// lineAt gives the number, from 1, of the line that holds data[offset].
func lineAt(data []byte, offset int) int {
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}
