// Package seal puts a hash into a JSON record, so that a flipped bit, a lost end or a
// changed verdict is found before anything is concluded from it. It is no signature:
// who wants to deceive can seal as well.
package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/renameio/v2"

	"patchproof/patches/regular"
)

// ErrBroken means that a record is not as it was written.
var ErrBroken = errors.New(`damaged, cut short, or changed by hand: its SHA-256 is not the one in its line "sum"`)

// Records begin with start and the hash of what they are without this line.
const (
	start = "{\n  \"sum\": \""
	end   = "\",\n"
	width = 2 * sha256.Size
)

// Write writes a struct to a file, as sealed JSON, and replaces the file in one step.
func Write(file string, record any) error {
	doc, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	doc = append(doc, '\n')
	sealed := append([]byte(start+sum(doc)+end), bytes.TrimPrefix(doc, []byte("{\n"))...)
	if err := renameio.WriteFile(file, sealed, 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

// Read reads a sealed file. What has no seal is returned as it is, with sealed false:
// a record of an older version, or one whose seal somebody took off to change it.
// The error is that of reading the file, or ErrBroken.
func Read(file string) (doc []byte, sealed bool, err error) {
	if doc, err = regular.ReadFile(file); err != nil {
		return nil, false, err
	}
	rest, ok := bytes.CutPrefix(doc, []byte(start))
	if !ok {
		return doc, false, nil
	}
	if len(rest) < width+len(end) || string(rest[width:width+len(end)]) != end {
		return nil, true, ErrBroken
	}
	content := append([]byte("{\n"), rest[width+len(end):]...)
	if sum(content) != string(rest[:width]) {
		return nil, true, ErrBroken
	}
	return content, true, nil
}

func sum(doc []byte) string {
	hash := sha256.Sum256(doc)
	return hex.EncodeToString(hash[:])
}
