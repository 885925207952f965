package kernel

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A program of two files, one of which a patch changes: what is said of each
// instruction must be its line, what that was inlined into, and the patch.
func TestSymbolsFindLineAndPatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src, build := filepath.Join(dir, "src"), filepath.Join(dir, "build-debug")
	if err := initRepo(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	const before = `int other(int);
static inline int twice(int x)
{
	return other(x) + other(x);
}
int entry(int x)
{
	return other(x);
}
`
	after := strings.Replace(before, "	return other(x);\n", "	return twice(x)\n		+ other(x);\n", 1)
	const cold = "int state;\n__attribute__((noinline, section(\".text.cold\"))) void refuse(int x)\n{\n	state = x;\n}\nint other(int x)\n{\n	if (__builtin_expect(x > 9, 0))\n		refuse(x);\n	return state;\n}\n"
	for _, version := range []string{before, after} {
		writeFile(t, filepath.Join(src, "fs/entry.c"), version)
		writeFile(t, filepath.Join(src, "fs/other.c"), cold)
		for _, args := range [][]string{{"add", "-A"}, {"commit", "--quiet", "--message=x"}} {
			if _, err := git(t.Context(), src, args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	commit, err := git(t.Context(), src, "rev-parse", "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(build, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, debug := range []string{"-g", "-g0"} {
		args := []string{debug, "-O2", "-nostdlib", "-static", "-Wl,-e,entry", "-o", "vmlinux" + debug, filepath.Join(src, "fs/entry.c"), filepath.Join(src, "fs/other.c")}
		cmd := exec.Command("gcc", args...)
		cmd.Dir = build
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
	}
	// found are the places of all instructions of a function.
	found := func(image, function string) map[string]bool {
		s := &Symbols{vmlinux: filepath.Join(build, image), src: src, commit: commit, patches: 1, touched: []string{"fs/entry.c"}}
		all := map[string]bool{}
		for offset := range uint64(128) {
			frames, err := s.Frames(context.Background(), "", function, offset, 128, false)
			if err != nil {
				t.Fatal(err)
			}
			var text []string
			for _, f := range frames {
				text = append(text, fmt.Sprintf("%s %s:%d %d", f.Function, f.File, f.Line, f.Patch))
			}
			all[strings.Join(text, " < ")] = true
			if len(frames) > 1 && (!frames[0].Inlined || frames[1].Inlined) {
				t.Errorf("frames %+v: want the first inlined into the second", frames)
			}
		}
		return all
	}
	tests := []struct{ image, function, want string }{
		{"vmlinux-g", "entry", "entry fs/entry.c:9 1"},
		{"vmlinux-g", "entry", "twice fs/entry.c:4 0 < entry fs/entry.c:8 1"},
		{"vmlinux-g", "entry", "entry fs/entry.c:7 0"},
		{"vmlinux-g", "refuse", "refuse fs/other.c:4 0"},
		{"vmlinux-g", "other", "other fs/other.c:8 0"},
		{"vmlinux-g0", "entry", "entry fs/entry.c:0 1"},
		{"vmlinux-g0", "other", "other :0 0"},
		{"vmlinux-g", "nothing", ""},
	}
	try := func(where string) {
		t.Helper()
		for _, tc := range tests {
			if got := found(tc.image, tc.function); !got[tc.want] {
				t.Errorf("places in %s of %s, %s = %v; want %q among them", tc.function, tc.image, where, got, tc.want)
			}
		}
	}
	try("with the source")

	// Elsewhere there is no repository, but what was stored with the kernel.
	s := &Symbols{vmlinux: filepath.Join(build, "vmlinux-g"), src: src, commit: commit, patches: 1, touched: []string{"fs/entry.c"}}
	stored := filepath.Join(build, touchedFile)
	if written, err := s.writeTouched(t.Context(), stored); !written || err != nil {
		t.Fatalf("writeTouched = %v, %v", written, err)
	}
	text, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	src = filepath.Join(dir, "elsewhere")
	try("with what was stored")

	// What does not fit the patches, or itself, is not believed.
	for _, bad := range []string{
		"", "{", "{}", strings.Replace(string(text), `"Patches":1`, `"Patches":2`, 1), strings.Replace(string(text), `"Patch":[0,`, `"Patch":[`, 1),
		strings.Replace(string(text), `"Patch":[0,`, `"Patch":[2,`, 1), `{"Patches":1,"Files":{"fs/entry.c":null}}`,
	} {
		if bad == string(text) {
			t.Fatal("what was to be bad is not")
		}
		writeFile(t, stored, bad)
		s := &Symbols{vmlinux: filepath.Join(build, "vmlinux-g"), src: src, commit: commit, patches: 1, touched: []string{"fs/entry.c"}}
		if frames, err := s.Frames(t.Context(), "", "entry", 1, 128, false); err == nil {
			t.Errorf("Frames with %.60q stored = %+v; want that the source is not there", bad, frames)
		}
	}
}

func TestBlamedChanged(t *testing.T) {
	file := parseBlame(strings.Join([]string{
		strings.Repeat("a", 40) + " 1 1 2", "author x", "\tstatic void f(int x);", strings.Repeat("a", 40) + " 2 2", "\tstatic void f(int x)",
		strings.Repeat("b", 40) + " 3 3 1", "\t{", strings.Repeat("a", 40) + " 4 4 1", "\t}", strings.Repeat("a", 40) + " 5 5 2", "\tint g(void)", "\t{", "\t}",
	}, "\n"), []string{strings.Repeat("c", 40), strings.Repeat("b", 40)})
	if diff := cmp.Diff([]int{0, 0, 2, 0, 0, 0, 0}, file.Patch); diff != "" {
		t.Errorf("patch of each line (-want +got):\n%s", diff)
	}
	for function, want := range map[string]int{"f": 2, "f.part.0": 2, "g": 0} {
		if got, ok := file.changed(function); !ok || got != want {
			t.Errorf("changed(%q) = %d, %t; want %d, true", function, got, ok, want)
		}
	}
	if _, ok := file.changed("h"); ok {
		t.Error("changed(h) is true for a function that the file lacks")
	}
}
