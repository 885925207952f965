//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/guest/event/report"
)

const (
	// maxResultFiles is how many files may come back: each is an event at least.
	maxResultFiles = 5_000
	// maxLeft is how many files that stay in the guest are named.
	maxLeft = 20
)

// resultFiles are the files that a test left, on their way to the host.
type resultFiles struct {
	*report.T
	// room is how many bytes may still be sent.
	room int
	// sent counts files, and names are those that they have on the host.
	sent  int
	names map[string]bool
	// left counts those that stay in the guest.
	left int
}

// sendResults sends the files that the test left, as far as they fit beside what was
// sent already. What does not is said in a file of its own, and on the console.
func sendResults(t *report.T, sent int) {
	r := resultFiles{T: t, room: event.MaxFiles - sent - maxTail, names: map[string]bool{event.OutputFile: true}}
	// The test may have done anything to that folder: no error there is the harness's.
	filepath.WalkDir(event.ResultsDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			r.leave(path, err)
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		name, err := filepath.Rel(event.ResultsDir, path)
		if err != nil {
			r.leave(path, err)
			return nil
		}
		if err := r.send(path, name, d); err != nil {
			r.leave(name, err)
		}
		return nil
	})
	if r.left > maxLeft {
		t.File(event.LeftFile, fmt.Appendf(nil, "and %d more\n", r.left-maxLeft))
	}
}

// send sends one file, or says why it cannot come along.
func (r *resultFiles) send(path, name string, d fs.DirEntry) error {
	// It need not be a name on the host: no line end, no other encoding, none of ours.
	at := event.Printable(name)
	if first, _, _ := strings.Cut(at, "/"); first == event.OutputFile || first == event.LeftFile {
		at = "results/" + at
	}
	switch {
	case len(at) > event.MaxFileName:
		return fmt.Errorf("its name has more than %d bytes", event.MaxFileName)
	case r.names[at]:
		return errors.New("there is another of this name")
	case r.sent == maxResultFiles:
		return fmt.Errorf("no more than %d files come back", maxResultFiles)
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	if info.Size() > int64(r.room) {
		return fmt.Errorf("it has %d bytes, and all files together may have %d MiB", info.Size(), event.MaxFiles>>20)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r.room -= len(data)
	r.sent++
	r.names[at] = true
	for part := range slices.Chunk(data, report.FilePart) {
		r.File(at, part)
	}
	if len(data) == 0 {
		r.File(at, nil)
	}
	return nil
}

// leave says why a file stays in the guest.
func (r *resultFiles) leave(name string, why error) {
	if r.left++; r.left > maxLeft {
		return
	}
	line := fmt.Sprintf("%s is left in the guest: %v\n", event.Printable(name), why)
	fmt.Print("exec: " + line)
	r.File(event.LeftFile, []byte(line))
}
