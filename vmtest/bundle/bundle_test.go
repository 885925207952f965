package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPacked: the archive holds what was put in, and nothing of when and where it
// was made.
func TestPacked(t *testing.T) {
	files := map[string][]byte{"bb": []byte("program"), "README": []byte("text"), "a": bytes.Repeat([]byte("x"), 1<<20)}
	first, err := packed("folder", files)
	if err != nil {
		t.Fatal(err)
	}
	again, err := packed("folder", files)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("two archives of the same files differ (%v)", err)
	}
	unzip, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	modes := map[string]int64{}
	for r := tar.NewReader(unzip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s has the time %v and the owner %d %q; want none", h.Name, h.ModTime, h.Uid, h.Uname)
		}
		if got[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		modes[h.Name] = h.Mode
	}
	want := map[string][]byte{"folder/bb": files["bb"], "folder/README": files["README"], "folder/a": files["a"]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the archive (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"folder/bb": 0o755, "folder/README": 0o644, "folder/a": 0o644}, modes); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}
