package kernel

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Warnings are those of the commit, also where nothing is to be compiled anew, and a
// build after them compiles no more than it would have.
func TestWarnings(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	rule := "fs/io_uring.o:\n\t@mkdir -p $(O)/fs; $(CC) -c -o $(O)/fs/io_uring.o $(CURDIR)/fs/io_uring.c\n"
	writeFile(t, filepath.Join(dir, "Makefile"), fixtureFiles["Makefile"]+"\n"+rule)
	userGit(t, dir, "commit", "-qam", "objects")
	writeFile(t, filepath.Join(dir, "fs/io_uring.c"), fixtureFiles["fs/io_uring.c"]+"int more;\n")
	userGit(t, dir, "commit", "-qam", "more")
	spec := localSpec(dir, "base")
	writeFile(t, filepath.Join(dir, "fs/io_uring.c"), "#warning \"beware\"\n"+fixtureFiles["fs/io_uring.c"])
	userGit(t, dir, "commit", "-qam", "warns")
	b := &Builder{Cache: t.TempDir()}
	for range 2 {
		got, err := b.Warnings(t.Context(), spec, plain, "fs/io_uring.c")
		if err != nil {
			t.Fatal(err)
		}
		want := []Warning{{File: "fs/io_uring.c", Line: 1, Message: `#warning "beware" [-Wcpp]`}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("warnings (-want +got):\n%s", diff)
		}
	}
	for _, rev := range []string{"HEAD~1", "HEAD~2"} {
		spec.Rev = rev
		if got, err := b.Warnings(t.Context(), spec, plain, "fs/io_uring.c"); len(got) > 0 || err != nil {
			t.Errorf("%s: %v, %v; want no warning", rev, got, err)
		}
	}
	mustBuild(t, b, spec)
	f, note, err := openFolder(filepath.Join(b.treeDir(spec), "build-plain"))
	if err != nil || note != "" || len(f.commits) != 1 || !strings.HasPrefix(f.commits[0], userGit(t, dir, "rev-parse", spec.Rev)) {
		t.Errorf("after a build, the folder is of %q, %q, %v; want the commit that was built", f.commits, note, err)
	}
	if got, err := b.Warnings(t.Context(), spec, plain, "fs/none.c"); got != nil || err != nil {
		t.Errorf("of no file: %v, %v; want none", got, err)
	}
}
