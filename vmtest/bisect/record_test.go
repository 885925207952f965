package bisect

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFindDamaged flips a verdict in the record of a search, and puts what is no file in its
// place: the search is made again.
func TestFindDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := &Record{Schema: Schema, Question: "whose", Trials: []*Trial{{Key: "a", Mark: "bad"}}, path: filepath.Join(dir, "bisect.json")}
	if err := r.save(); err != nil {
		t.Fatal(err)
	}
	if found, err := find(r.path, "whose"); err != nil || found == nil {
		t.Fatalf("find = %v, %v; want the record", found, err)
	}
	doc, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.path, bytes.Replace(doc, []byte(`"bad"`), []byte(`"good"`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if found, err := find(r.path, "whose"); err != nil || found != nil {
		t.Errorf("find of a changed record = %v, %v; want none", found, err)
	}
	for what, make := range map[string]func() error{
		"pipe":   func() error { return unix.Mkfifo(r.path, 0o644) },
		"folder": func() error { return os.Mkdir(r.path, 0o755) },
	} {
		if err := errors.Join(os.Remove(r.path), make()); err != nil {
			t.Fatal(err)
		}
		if found, err := find(r.path, "whose"); err != nil || found != nil {
			t.Errorf("find of a %s = %v, %v; want none", what, found, err)
		}
	}
}

// A pipe in the place of a search's lock is not waited at for ever.
func TestLockThatIsAPipe(t *testing.T) {
	t.Parallel()
	r := &Record{path: filepath.Join(t.TempDir(), "bisect.json")}
	if err := unix.Mkfifo(filepath.Join(r.dir(), "lock"), 0o644); err != nil {
		t.Fatal(err)
	}
	unlock, err := r.lock()
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// A clock that was set back during a search makes none that ended before it began.
func TestNoSearchEndsBeforeItBegan(t *testing.T) {
	t.Parallel()
	began := time.Now().Add(time.Hour)
	l := &trials{record: &Record{Schema: Schema, Started: began, path: filepath.Join(t.TempDir(), "bisect.json")}}
	if r, err := l.close(&Answer{}, nil); err != nil || r.Finished.Before(began) {
		t.Errorf("it ended %v before it began, %v", began.Sub(r.Finished), err)
	}
}
