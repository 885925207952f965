// Package patches reads what a kernel developer hands over: a mail, a mailbox with
// a whole thread, a maildir, a plain diff, a quilt folder, the output of git log. It
// turns it into an ordered [Series] of [Patch]es, says what git am should be given
// for each, and explains against the content of a tree why a patch does not apply.
//
// The way of a patch: [Read] in input.go tells the kinds of input apart and unpacks
// them; mbox.go cuts a mailbox into mails, message.go takes each out of its wrapping
// (MIME, charset, a forwarded mail's headers), tag.go reads its [PATCH v2 1/3],
// and thread.go picks the series that is meant. plain.go reads what is no mail.
// normalise.go and diff.go parse the diff and refuse one that lies about itself,
// id.go and mail.go give it back in canonical form, mismatch.go and format.go compare
// it with a tree. The package writes nothing and runs nothing.
package patches

import (
	"bytes"
	"patchproof/patches/subjects"
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
	// Version is the 2 of [PATCH v2]; 0 when the mails name none.
	Version int
	// Notes say what was taken of the input, and what was done to it, a line each;
	// Left what was left out of it.
	Notes, Left []string
	// Trailers are the Reviewed-by and the like that answers gave. They change no patch.
	Trailers []string
	// Base is the commit that base-commit: names, Prerequisites the ids (git patch-id)
	// of the patches that must be there before.
	Base          string
	Prerequisites []string
	// Known holds the issues declared in the folder's known-issues.toml; only a
	// quilt folder has them.
	Known []subjects.KnownIssue
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
	// Prefix is what stood in the brackets before Subject but for the number, as git
	// format-patch --subject-prefix takes it: "PATCH net-next v3". It is empty where
	// there are none, or none of that form.
	Prefix string
	// Body is the message below the subject, up to the "---" line.
	Body      string
	MessageID string
	Files     []File
	// Diff is the diff alone, headers and hunks, without prose around or between.
	Diff []byte
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
	// Binary is a change without hunks, which only git can apply.
	Binary bool

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

// lineAt gives the number, from 1, of the line that holds data[offset].
func lineAt(data []byte, offset int) int {
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}
