package patches

import (
	"crypto/sha1"
	"encoding/hex"
	"strings"
)

// ID identifies the change alone: message, author, line numbers, blob ids and
// white space do not matter, nor does the order of the files. It is the first
// field that `git patch-id --stable` prints in a SHA-1 repository
// (builtin/patch-id.c); a diff without "diff --git" lines, for which git prints
// nothing, gets the id of the same change as git would write it.
func (p Patch) ID() string {
	var sum [sha1.Size]byte
	hash := sha1.New()
	flush := func() {
		// The files' hashes are added as little-endian numbers.
		carry := 0
		for i, b := range hash.Sum(nil) {
			carry += int(sum[i]) + int(b)
			sum[i] = byte(carry)
			carry >>= 8
		}
		hash.Reset()
	}
	write := func(line string) {
		// By bytes, as git does: old sources hold lines that are not UTF-8. To git a form
		// feed is no white space.
		for i := range len(line) {
			if strings.IndexByte(" \t\n\r", line[i]) < 0 {
				hash.Write([]byte{line[i]})
			}
		}
	}
	for i, f := range p.Files {
		// git closes a file's hash at the next file's header, but only after hunks:
		// a change of mode alone is hashed together with the file after it.
		if i > 0 && len(p.Files[i-1].Hunks) > 0 {
			flush()
		}
		for _, line := range f.header {
			// Of a binary file the index line alone tells one change from another.
			if f.Binary || !strings.HasPrefix(line, "index ") {
				write(line)
			}
		}
		for _, h := range f.Hunks {
			for _, line := range h.Lines {
				write(line.String())
			}
		}
	}
	flush()
	return hex.EncodeToString(sum[:])
}
