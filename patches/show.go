package patches

import (
	"fmt"
	"strings"
	"time"

	"patchproof/guest/event"
)

// Stat counts the lines that the patch adds to and takes from a file.
func (f File) Stat() (added, deleted int) {
	for _, h := range f.Hunks {
		for _, line := range h.Lines {
			switch {
			case line.Old() && !line.New():
				deleted++
			case line.New() && !line.Old():
				added++
			}
		}
	}
	return added, deleted
}

// Describe says what was read: the patches in their order, with authors, dates and
// files, and below them what was taken, what was left and why.
func (s Series) Describe() string {
	var b strings.Builder
	for i, p := range s.Patches {
		date := "no date"
		if !p.Date.IsZero() {
			date = p.Date.Format("2006-01-02 15:04:05 -0700")
		}
		who := "no author"
		if p.Author != "" {
			who = fmt.Sprintf("%s <%s>", p.Author, p.Email)
		}
		fmt.Fprintf(&b, "%d. %s\n   %s, %s\n", i+1, event.Printable(p.Subject), event.Printable(who), date)
		for _, f := range p.Files {
			fmt.Fprintf(&b, "   %s\n", f.describe())
		}
	}
	for _, part := range []struct {
		name  string
		lines []string
	}{{"taken", s.Notes}, {"left out", s.Left}, {"in replies", s.Trailers}} {
		for _, line := range part.lines {
			fmt.Fprintf(&b, "%s: %s\n", part.name, event.Printable(line))
		}
	}
	if s.Base != "" {
		fmt.Fprintf(&b, "base: %s\n", s.Base)
	}
	for _, id := range s.Prerequisites {
		fmt.Fprintf(&b, "needs: patch %s\n", id)
	}
	return b.String()
}

func (f File) describe() string {
	added, deleted := f.Stat()
	text := fmt.Sprintf("%s +%d -%d", event.Printable(f.Name()), added, deleted)
	switch {
	case f.IsNew:
		text += " (new)"
	case f.IsDelete:
		text += " (deleted)"
	case f.IsRename:
		text += fmt.Sprintf(" (renamed from %s)", event.Printable(f.Old))
	case f.IsCopy:
		text += fmt.Sprintf(" (copied from %s)", event.Printable(f.Old))
	}
	if f.Binary {
		text += " (binary)"
	}
	for _, line := range f.header {
		if mode, found := strings.CutPrefix(line, "new mode "); found {
			text += fmt.Sprintf(" (mode %s)", strings.TrimSpace(mode))
		}
	}
	return text
}

// Summary is a [Series] as JSON has it.
type Summary struct {
	Version       int            `json:"version,omitempty"`
	Patches       []PatchSummary `json:"patches"`
	Taken         []string       `json:"taken,omitempty"`
	Left          []string       `json:"left,omitempty"`
	Trailers      []string       `json:"trailers,omitempty"`
	Base          string         `json:"base,omitempty"`
	Prerequisites []string       `json:"prerequisites,omitempty"`
}

// PatchSummary is a [Patch] in a [Summary].
type PatchSummary struct {
	Subject   string        `json:"subject"`
	Author    string        `json:"author,omitempty"`
	Email     string        `json:"email,omitempty"`
	Date      *time.Time    `json:"date,omitempty"`
	MessageID string        `json:"message_id,omitempty"`
	Body      string        `json:"body,omitempty"`
	PatchID   string        `json:"patch_id"`
	Files     []FileSummary `json:"files"`
}

// FileSummary is a [File] in a [Summary].
type FileSummary struct {
	Name    string `json:"name"`
	Old     string `json:"old,omitempty"`
	Added   int    `json:"added"`
	Deleted int    `json:"deleted"`
	Binary  bool   `json:"binary,omitempty"`
}

// Summary is what [Series.Describe] says, for programs.
func (s Series) Summary() Summary {
	sum := Summary{Version: s.Version, Taken: s.Notes, Left: s.Left, Trailers: s.Trailers, Base: s.Base, Prerequisites: s.Prerequisites}
	for _, p := range s.Patches {
		one := PatchSummary{Subject: p.Subject, Author: p.Author, Email: p.Email, MessageID: p.MessageID, Body: p.Body, PatchID: p.ID()}
		if !p.Date.IsZero() {
			one.Date = &p.Date
		}
		for _, f := range p.Files {
			added, deleted := f.Stat()
			file := FileSummary{Name: f.Name(), Added: added, Deleted: deleted, Binary: f.Binary}
			if f.Old != f.Name() {
				file.Old = f.Old
			}
			one.Files = append(one.Files, file)
		}
		sum.Patches = append(sum.Patches, one)
	}
	return sum
}
