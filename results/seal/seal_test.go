package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

type record struct {
	Name     string   `json:"name"`
	Verdicts []string `json:"verdicts"`
}

// TestEveryBit flips each bit of a record and cuts it at each byte: what is read
// after that is what was written, or nothing.
func TestEveryBit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	if err := Write(file, record{"nop", []string{"pass", "hang"}}); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	read := func(content []byte) (*record, error) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
		doc, _, err := Read(file)
		if err != nil {
			return nil, err
		}
		var r record
		return &r, json.Unmarshal(doc, &r)
	}
	good := func(r *record) bool {
		return r.Name == "nop" && len(r.Verdicts) == 2 && r.Verdicts[0] == "pass" && r.Verdicts[1] == "hang"
	}
	if r, err := read(written); err != nil || !good(r) {
		t.Fatalf("Read = %v, %v; want what was written", r, err)
	}
	for i := range written {
		for bit := range 8 {
			flipped := bytes.Clone(written)
			flipped[i] ^= 1 << bit
			if r, err := read(flipped); err == nil && !good(r) {
				t.Errorf("with bit %d of byte %d flipped, Read = %+v; want an error", bit, i, *r)
			}
		}
		if r, err := read(written[:i]); err == nil {
			t.Errorf("cut after %d bytes, Read = %+v; want an error", i, *r)
		}
	}
}

func TestChangedByHand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	if err := Write(file, record{Name: "nop", Verdicts: []string{"hang"}}); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(doc, []byte("hang"), []byte("pass"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, sealed, err := Read(file); !sealed || !errors.Is(err, ErrBroken) {
		t.Errorf("Read = sealed %v, %v; want that it is broken", sealed, err)
	}
}

// TestPipe reads what nobody writes to: it must not wait.
func TestPipe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	if err := syscall.Mkfifo(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if doc, _, err := Read(file); err == nil {
		t.Errorf("Read = %q; want that it is no file", doc)
	}
}

func TestUnsealed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	old := []byte("{\n  \"name\": \"nop\"\n}\n")
	if err := os.WriteFile(file, old, 0o644); err != nil {
		t.Fatal(err)
	}
	if doc, sealed, err := Read(file); sealed || err != nil || !bytes.Equal(doc, old) {
		t.Errorf("Read = %q, sealed %v, %v; want it as it is", doc, sealed, err)
	}
}
