package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchproof/kernel/sandbox"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A file's warnings are those of its own object, said with the flags that patches are
// checked with; what they made is gone afterwards, and is not made again.
func TestExamine(t *testing.T) {
	dir := fixtureRepo(t)
	rule := `
prepare:
	@echo 'kernel/bounds.c:1:1: warning: not of the file [-Wextra]'
fs/io_uring.o:
	@mkdir -p $(O)/fs; $(CC) $(KCFLAGS) $(if $(W),-Wunused-variable) -c -o $(O)/fs/io_uring.o $(CURDIR)/fs/io_uring.c
	@echo once >> $(O)/made
fs/left-out.o:
	@echo "make[1]: *** No rule to make target 'fs/left-out.o'.  Stop." >&2; exit 2
fs/broken.o:
	@$(CC) -c -o $(O)/broken.o $(CURDIR)/fs/broken.c
`
	writeFile(t, filepath.Join(dir, "Makefile"), fixtureFiles["Makefile"]+rule)
	writeFile(t, filepath.Join(dir, "fs/io_uring.c"), "int both(int n)\n{\n\tint unused;\n\tvolatile char use[256];\n\treturn use[n];\n}\n")
	writeFile(t, filepath.Join(dir, "fs/left-out.c"), "int x;\n")
	writeFile(t, filepath.Join(dir, "fs/broken.c"), "int y = none;\n")
	userGit(t, dir, "add", ".")
	userGit(t, dir, "commit", "-qm", "examined")
	// What the host has of checkers is not this test's.
	path := t.TempDir()
	for _, tool := range []string{"git", "make", "gcc", "cc", "ld", "as", "sh", "cat", "cp", "mv", "rm", "mkdir", "grep", "printf", "true", "echo", "bwrap", "prlimit", "nice", "choom", "bash", "env"} {
		for _, folder := range []string{"/usr/bin", "/bin"} {
			if exists(filepath.Join(folder, tool)) {
				if err := os.Symlink(filepath.Join(folder, tool), filepath.Join(path, tool)); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
	t.Setenv("PATH", path)
	t.Setenv(sandbox.Variable, "off")
	t.Setenv("CI", "")
	b := &Builder{Cache: t.TempDir()}
	spec := localSpec(dir, "base")
	files := []string{"fs/io_uring.c", "fs/left-out.c", "fs/broken.c", "fs/none.c"}
	for try := range 3 {
		if try == 2 {
			// What was damaged meanwhile is found out again.
			kept, _ := filepath.Glob(filepath.Join(b.Cache, checksDir, "*"))
			for _, file := range kept {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, file, strings.Replace(string(text), "'unused'", "'unuseD'", 1))
			}
		}
		got, err := b.Examine(t.Context(), spec, plain, files)
		if err != nil {
			t.Fatal(err)
		}
		if got["fs/io_uring.c"].Stack["both"] < 128 || got["fs/io_uring.c"].Sizes["both"] == 0 {
			t.Errorf("stack %v, sizes %v; want 128 bytes at least of one function", got["fs/io_uring.c"].Stack, got["fs/io_uring.c"].Sizes)
		}
		want := map[string]Examined{
			"fs/io_uring.c": {Warnings: []Warning{{File: "fs/io_uring.c", Line: 3, Message: "unused variable 'unused' [-Wunused-variable]"}}},
			"fs/left-out.c": {Unbuilt: true},
			"fs/broken.c":   {Error: &Warning{File: "fs/broken.c", Line: 1, Message: "error: 'none' undeclared here (not in a function)"}},
			"fs/none.c":     {Absent: true},
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Examined{}, "Sizes", "Stack")); diff != "" {
			t.Errorf("examined (-want +got):\n%s", diff)
		}
	}
	out := filepath.Join(b.treeDir(spec), "build-plain")
	if made, err := os.ReadFile(filepath.Join(out, "made")); err != nil || string(made) != "once\nonce\n" {
		t.Errorf("it was made %q, %v; want once, and once more for the damage", made, err)
	}
	left, _ := filepath.Glob(filepath.Join(out, "fs", "*io_uring*"))
	if len(left) > 0 {
		t.Errorf("%v is left in the build folder; want nothing that has other flags than a build's", left)
	}
}

func TestRemarks(t *testing.T) {
	said := `fs/io_uring.c:672: WARNING:UNSPECIFIED_INT: Prefer 'unsigned int' to bare use of 'unsigned'
include/linux/cpuhotplug.h:68: ERROR:MISSING_SIGN_OFF: Missing Signed-off-by: line(s)
:0: WARNING:COMMIT_MESSAGE: Missing commit description - Add an appropriate one
total: 1 errors, 2 warnings
`
	want := []Remark{
		{File: "fs/io_uring.c", Line: 672, Level: "WARNING", Type: "UNSPECIFIED_INT", Message: "Prefer 'unsigned int' to bare use of 'unsigned'"},
		{Level: "ERROR", Type: "MISSING_SIGN_OFF", Message: "Missing Signed-off-by: line(s)"},
		{Level: "WARNING", Type: "COMMIT_MESSAGE", Message: "Missing commit description - Add an appropriate one"},
	}
	if diff := cmp.Diff(want, remarksIn(said)); diff != "" {
		t.Errorf("remarksIn (-want +got):\n%s", diff)
	}
}

func TestSectionMismatches(t *testing.T) {
	log := filepath.Join(t.TempDir(), "build.log")
	writeFile(t, log, `WARNING: modpost: vmlinux.o(.text+0x1f2c): Section mismatch in reference from the function a() to the function .init.text:b()
WARNING: modpost: vmlinux.o(.text+0x1f99): Section mismatch in reference from the function a() to the function .init.text:b()
WARNING: modpost: vmlinux: section mismatch in reference: c+0x12 (section: .text) -> d (section: .init.text)
WARNING: modpost: missing MODULE_LICENSE() in x.o
`)
	want := []string{
		"vmlinux.o(.text): Section mismatch in reference from the function a() to the function .init.text:b()",
		"vmlinux: section mismatch in reference: c (section: .text) -> d (section: .init.text)",
	}
	got, err := (&Built{Log: log}).SectionMismatches()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("section mismatches (-want +got), %v:\n%s", err, diff)
	}
}

// Of these the number changes with any line that comes before.
func TestUnnumbered(t *testing.T) {
	for name, want := range map[string]string{
		"io_uring_init":                                "io_uring_init",
		"shrink_lock.42":                               "shrink_lock",
		"io_submit_sqes.part.0":                        "io_submit_sqes.part",
		"__UNIQUE_ID___addressable_io_uring_init835":   "__UNIQUE_ID___addressable_io_uring_init",
		"__UNIQUE_ID___addressable_init_ipv6_addr2835": "__UNIQUE_ID___addressable_init_ipv6_addr",
		"sha256": "sha256",
	} {
		if got := unnumbered(name); got != want {
			t.Errorf("unnumbered(%q) = %q; want %q", name, got, want)
		}
	}
}
