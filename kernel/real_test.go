package kernel

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// realBuilder is a Builder on the store of the suite (CACHE, KERNEL_SRC): these
// tests build what the suite builds anyway, or reuse it.
func realBuilder(t *testing.T) *Builder {
	t.Helper()
	if testing.Short() {
		t.Skip("builds real kernels")
	}
	if !strings.HasPrefix(t.Name(), "TestReal") {
		t.Fatal("make suite runs the tests of this package that are called TestReal...")
	}
	cache := os.Getenv("CACHE")
	if cache == "" {
		var err error
		if cache, err = DefaultCache(); err != nil {
			t.Fatal(err)
		}
	}
	last := ""
	return &Builder{Cache: cache, Source: os.Getenv("KERNEL_SRC"), Progress: func(p Progress) {
		if step := p.Kernel + " " + p.Step; step != last {
			t.Log(step, p.Note)
			last = step
		}
	}}
}

// realLineup builds the default line-up.
func realLineup(t *testing.T, b *Builder) []*Built {
	t.Helper()
	lineup, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	specs, variant, err := lineup.Resolve(Selection{})
	if err != nil {
		t.Fatal(err)
	}
	var all []*Built
	for _, spec := range specs {
		built, err := b.Build(t.Context(), spec, variant)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d objects in %.1f s, reused: %v", spec.Name, built.Objects, built.BuildS, built.Reused)
		all = append(all, built)
	}
	return all
}

func TestRealLineup(t *testing.T) {
	b := realBuilder(t)
	built := realLineup(t, b)
	for i, k := range built {
		if k.Objects < 1 || k.Objects > 1000 {
			t.Errorf("%s: %d objects; want 1 to 1000", k.Spec.Name, k.Objects)
		}
		image, err := elf.Open(k.Vmlinux)
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
		// QEMU finds the entry point of a PVH kernel in this note (xen/interface/elfnote.h).
		if !bytes.Contains(notes(t, image), []byte("Xen\x00")) {
			t.Errorf("%s has no PVH note", k.Vmlinux)
		}
		if i > 0 && k.Key == built[0].Key {
			t.Errorf("%s has base's key", k.Spec.Name)
		}
	}
	for i, again := range realLineup(t, b) {
		if !again.Reused || again.Key != built[i].Key {
			t.Errorf("%s again: reused %v; want the same kernel from the store", again.Spec.Name, again.Reused)
		}
	}
}

func notes(t *testing.T, image *elf.File) []byte {
	t.Helper()
	var all []byte
	for _, p := range image.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		data := make([]byte, p.Filesz)
		if _, err := p.ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

// The same source as a user's git tree leads to the same kernel: the commits differ, the content does not.
func TestRealLocalTree(t *testing.T) {
	b := realBuilder(t)
	built := realLineup(t, b)
	base, posted := built[0], built[1]
	dir := filepath.Join(b.Cache, treesDir, base.Spec.Pin.Name, "src")
	gitDir := filepath.Join(dir, ".git")
	state := []string{"HEAD", "index", "config", "packed-refs"}
	before := contents(t, gitDir, state)
	_, variant, err := mustLoad(t).Resolve(Selection{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*Built{"base": base, "posted": posted} {
		spec := localSpec(dir, name, want.Spec.Series...)
		spec.Rev = base.Commit
		got, err := b.Build(t.Context(), spec, variant)
		if err != nil {
			t.Fatal(err)
		}
		if got.Key != want.Key {
			t.Errorf("%s from TREE has key %s; want the pin's, %s", name, got.Key, want.Key)
		}
	}
	if diff := cmp.Diff(before, contents(t, gitDir, state)); diff != "" {
		t.Errorf("the tree's repository changed (-before +after):\n%s", diff)
	}
}

func mustLoad(t *testing.T) *Lineup {
	t.Helper()
	lineup, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return lineup
}

func contents(t *testing.T, dir string, names []string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all[name] = data
	}
	return all
}
