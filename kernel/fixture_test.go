package kernel

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patchproof/patches"
)

// fixtureFiles is a kernel in miniature, built by real make and gcc: it has the
// targets, the output and the Kconfig files of a kernel, and two objects.
var fixtureFiles = map[string]string{
	"Makefile": `
VERSION = 5
PATCHLEVEL = 10
O ?= .
all: vmlinux
tinyconfig:
	@printf '# CONFIG_EXTRA is not set\n' > $(O)/.config
# Like olddefconfig, it keeps what it knows and drops the rest; the last line wins.
olddefconfig:
	@grep -E 'CONFIG_(SMP|IO_URING|NR_CPUS)[ =]' $(O)/.config > $(O)/.config.tmp || true
	@mv $(O)/.config.tmp $(O)/.config
vmlinux: $(O)/main.o $(O)/io_uring.o
	@cat $^ > $(O)/vmlinux.tmp && cp $(O)/.config $(O)/System.map && mv $(O)/vmlinux.tmp $(O)/vmlinux
$(O)/main.o: main.c
	@echo '  CC      main.o'
	@$(CC) -c -o $@ $(CURDIR)/main.c
$(O)/io_uring.o: fs/io_uring.c
	@echo '  CC      fs/io_uring.o'
	@$(CC) -c -o $@ $(CURDIR)/fs/io_uring.c
`,
	"main.c":        "int start(void) { return 0; }\n",
	"fs/io_uring.c": "int cached;\n\nint alloc(void)\n{\n\treturn cached;\n}\n\nint release(void)\n{\n\treturn 0;\n}\n",
	"Kconfig":       "config SMP\n\tbool \"SMP\"\n\nconfig IO_URING\n\tbool \"io_uring\"\n",
	// A tarball has files that its own .gitignore names, and attributes must not convert any.
	".gitignore":     "*.dat\n",
	".gitattributes": "*.txt text eol=crlf ident\n",
	"firmware.dat":   "kept\n",
	"dos.txt":        "a\r\nb $Id$\n",
}

// goodPatch, brokenPatch and otherPatch are diffs against fixtureFiles: one that
// builds, one that does not, one for another tree.
const (
	goodPatch = `--- a/fs/io_uring.c
+++ b/fs/io_uring.c
@@ -2,5 +2,5 @@

 int alloc(void)
 {
-	return cached;
+	return cached + 1;
 }
`
	brokenPatch = `--- a/fs/io_uring.c
+++ b/fs/io_uring.c
@@ -2,5 +2,5 @@

 int alloc(void)
 {
-	return cached;
+	return missing;
 }
`
	// mainPatch changes the other object.
	mainPatch = `--- a/main.c
+++ b/main.c
@@ -1 +1 @@
-int start(void) { return 0; }
+int start(void) { return 1; }
`
	otherPatch = `--- a/fs/io_uring.c
+++ b/fs/io_uring.c
@@ -2,5 +2,5 @@

 int alloc(void)
 {
-	return another;
+	return cached;
 }
`
)

var plain = Variant{Name: "plain", Image: "vmlinux", Scale: 1}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readPatch(t *testing.T, diff string) patches.Series {
	t.Helper()
	file := filepath.Join(t.TempDir(), "change.patch")
	writeFile(t, file, strings.ReplaceAll(diff, "\n\n", "\n \n"))
	series, err := patches.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return series
}

// tarFile is an entry of a test's tarball; a folder's name ends in a slash.
type tarFile struct {
	name, text, link string
	mode             int64
	kind             byte
}

func tarball(t *testing.T, files []tarFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.text)), Mode: 0o644 | f.mode, Typeflag: tar.TypeReg, Linkname: f.link}
		if f.link != "" {
			h.Typeflag = tar.TypeSymlink
		}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if f.kind != 0 {
			h.Typeflag = f.kind
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func xz(t *testing.T, data []byte) []byte {
	t.Helper()
	cmd := exec.Command("xz", "--stdout")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fixtureTar is the fixture as a release tarball.
func fixtureTar(t *testing.T) []byte {
	files := []tarFile{{name: "linux-1.0/"}, {name: "linux-1.0/fs/"}}
	for name, text := range fixtureFiles {
		files = append(files, tarFile{name: "linux-1.0/" + name, text: text})
	}
	files = append(files,
		tarFile{name: "linux-1.0/scripts/run.sh", text: "#!/bin/sh\n", mode: 0o111},
		tarFile{name: "linux-1.0/fs/up", link: "../main.c"})
	return tarball(t, files)
}

// fixtureDir unpacks the fixture with tar.
func fixtureDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("tar", "-x", "--strip-components=1", "-C", dir)
	cmd.Stdin = bytes.NewReader(fixtureTar(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// userGit runs git as a user would.
func userGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=u", "-c", "user.email=u@localhost"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// fixtureRepo is the fixture as a user's git repository, with one commit.
func fixtureRepo(t *testing.T) string {
	t.Helper()
	dir := fixtureDir(t)
	userGit(t, dir, "init", "-q")
	userGit(t, dir, "add", "-Af")
	userGit(t, dir, "commit", "-qm", "all")
	return dir
}

// fixturePin is an archive pin whose content is data and whose tree is the fixture's.
func fixturePin(t *testing.T, data []byte) Pin {
	t.Helper()
	sum := sha256.Sum256(data)
	return Pin{
		Name: "v1.0", Version: "1.0", Date: time.Unix(1_600_000_000, 0),
		Tree:    plainTree(t),
		Archive: Archive{Name: "linux_1.0.tar.xz", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])},
		Sources: []Source{{URL: "https://localhost/none"}},
	}
}

// plainTree is what git itself makes of the unpacked fixture.
func plainTree(t *testing.T) string {
	t.Helper()
	dir := fixtureDir(t)
	cmd := func(args ...string) string {
		c := gitCommand(dir, args...)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	cmd("init", "-q")
	// The pin's tree holds the bytes of the files, whatever .gitattributes says.
	writeFile(t, filepath.Join(dir, ".git", "info", "attributes"), "* -text -ident\n")
	cmd("add", "-Af")
	return cmd("write-tree")
}

// list returns the paths below dir, for comparing what a call left behind.
func list(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && path != dir {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return all
}
