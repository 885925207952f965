package vmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"patchproof/kernel"
	"patchproof/patches/subjects"
)

// TestProgramsOfAnOwnPatch checks what runs where a user names a patch and no program:
// what is for any kernel, and the programs of a subject whose code is touched.
func TestProgramsOfAnOwnPatch(t *testing.T) {
	subject, err := kernel.NamedSubject("")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		file string
		want bool
	}{
		{"fs/io_uring.c", true},
		{"io_uring/rw.c", true},
		{"include/uapi/linux/io_uring.h", true},
		{"fs/io_uringless.c", false},
		{"mm/slub.c", false},
	} {
		t.Run(test.file, func(t *testing.T) {
			patch := filepath.Join(t.TempDir(), "fix.diff")
			text := fmt.Sprintf("--- a/%[1]s\n+++ b/%[1]s\n@@ -1 +1 @@\n-old\n+new\n", test.file)
			if err := os.WriteFile(patch, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			selected, err := resolve(Selection{Selection: kernel.Selection{Patch: patch}})
			if err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			for _, p := range selected.programs {
				names[p.Name] = true
			}
			if !names["boot"] {
				t.Error("boot does not run; want it for any patch")
			}
			got := slices.ContainsFunc(subject.Programs, func(p subjects.Program) bool { return names[p.Name] })
			if got != test.want {
				t.Errorf("programs of subject %s run: %v; want %v", subject.Name, got, test.want)
			}
		})
	}
}
