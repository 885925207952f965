package kernel

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// storedKernel puts a kernel of that name into a store, with a request that led to it.
func storedKernel(t *testing.T, s Store, name string) (key string) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	for file, text := range map[string]string{
		"vmlinux": "\x7fELF " + name, "config": "CONFIG_X86=y\n# " + name + "\n", "System.map": "0 T start\n", "build.log": "gcc\n",
	} {
		files[file] = filepath.Join(dir, file)
		if err := os.WriteFile(files[file], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := "CONFIG_X86=y\n# " + name + "\n"
	r := record{
		Kernel: name, Variant: "plain", Image: "vmlinux", Commit: strings.Repeat("c", 40), Tree: strings.Repeat("7", 40),
		ConfigHash: hashOf(config), Compiler: "gcc 12", Objects: 2, BuildS: 1.5,
	}
	key = hashOf(append([]string{r.Tree, config, r.Compiler, r.Image}, recipe...)...)
	if err := s.add(key, r, files); err != nil {
		t.Fatal(err)
	}
	if err := s.remember(hashOf("request for "+name), key); err != nil {
		t.Fatal(err)
	}
	return key
}

func TestExportImport(t *testing.T) {
	from, to := Store{t.TempDir()}, Store{t.TempDir()}
	key := storedKernel(t, from, "base")
	other := storedKernel(t, from, "posted")
	if err := from.remember(hashOf("another request"), key); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	path, err := from.Export(t.Context(), key, folder)
	if err != nil || path != filepath.Join(folder, key+archiveSuffix) {
		t.Fatalf("Export = %s, %v", path, err)
	}
	for _, again := range []bool{false, true} {
		got, had, err := to.Import(t.Context(), path)
		if err != nil || got != key || had != again {
			t.Errorf("Import = %s, %v, %v; want %s, %v", got, had, err, key, again)
		}
	}
	want, _ := from.lookup(key)
	got, ok := to.lookup(key)
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("the kernel that was imported (-exported +imported):\n%s", diff)
	}
	for _, request := range []string{"request for base", "another request"} {
		if led, _ := to.remembered(hashOf(request)); led != key {
			t.Errorf("the request leads to %q; want %s", led, key)
		}
	}
	if _, ok := to.lookup(other); ok {
		t.Error("a kernel that was not exported is there")
	}
	for _, file := range []string{"vmlinux", "config", "System.map", "build.log"} {
		a, err := os.ReadFile(filepath.Join(from.kernelDir(key), file))
		b, err2 := os.ReadFile(filepath.Join(to.kernelDir(key), file))
		if err := errors.Join(err, err2); err != nil || string(a) != string(b) {
			t.Errorf("%s is another, %v", file, err)
		}
	}

	// What comes from a store goes into one again as the same bytes.
	second, err := to.Export(t.Context(), key, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(path)
	if b, _ := os.ReadFile(second); !bytes.Equal(a, b) {
		t.Error("the kernel has other bytes when it is exported again")
	}
}

// A store's own knowledge stays, and a damaged kernel in it is replaced.
// A disk that is full is not the archive's fault, and it is said what to do about it.
func TestExportImportOnAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	from := Store{t.TempDir()}
	noise := make([]byte, 100<<10)
	rand.NewChaCha8([32]byte{}).Read(noise)
	key := storedKernel(t, from, hex.EncodeToString(noise))
	path, err := from.Export(t.Context(), key, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a small tmpfs: %v", err)
	}
	defer syscall.Unmount(small, syscall.MNT_DETACH)
	_, exportErr := from.Export(t.Context(), key, filepath.Join(small, "exported"))
	_, _, importErr := Store{filepath.Join(small, "cache")}.Import(t.Context(), path)
	for _, err := range []error{exportErr, importErr} {
		if err == nil || !strings.Contains(err.Error(), "free some space") || strings.Contains(err.Error(), "is not taken") {
			t.Errorf("error = %v; want one that asks for space", err)
		}
	}
	for _, pattern := range []string{"exported/*", "exported/.*", "cache/kernels/*"} {
		if left, _ := filepath.Glob(filepath.Join(small, pattern)); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

func TestImportIntoStoreThatHasMore(t *testing.T) {
	from, to := Store{t.TempDir()}, Store{t.TempDir()}
	key := storedKernel(t, from, "base")
	path, err := from.Export(t.Context(), key, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	own := storedKernel(t, to, "own")
	if err := to.remember(hashOf("request for base"), own); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to.kernelDir(key), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to.kernelDir(key), "vmlinux"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, had, err := to.Import(t.Context(), path); err != nil || had {
		t.Errorf("Import = %v, %v; want that the damaged kernel is replaced", had, err)
	}
	if _, ok := to.lookup(key); !ok {
		t.Error("the kernel is not whole")
	}
	if led, _ := to.remembered(hashOf("request for base")); led != own {
		t.Errorf("the request leads to %s; want what the store knew, %s", led, own)
	}
}

func TestExportRefuses(t *testing.T) {
	s := Store{t.TempDir()}
	key := storedKernel(t, s, "base")
	if _, err := s.Match([]string{"nope"}); err == nil || !strings.Contains(err.Error(), `"nope" is the key of 0 kernels`) {
		t.Errorf("Match(nope) = %v", err)
	}
	if keys, err := s.Match([]string{key[:12], key}); err != nil || !slices.Equal(keys, []string{key}) {
		t.Errorf("Match = %v, %v; want the key once", keys, err)
	}
	// A kernel of before the recipe was another.
	old := strings.Repeat("0", 64)
	if err := os.Rename(s.kernelDir(key), s.kernelDir(old)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Export(t.Context(), old, t.TempDir()); !errors.Is(err, ErrOtherKernel) {
		t.Errorf("Export of a kernel under another key = %v; want ErrOtherKernel", err)
	}
	if err := os.WriteFile(filepath.Join(s.kernelDir(old), "vmlinux"), []byte("\x7fELF bade"), 0o644); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if _, err := s.Export(t.Context(), old, folder); err == nil || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("Export of a damaged kernel = %v; want that it is not whole", err)
	}
	if left, _ := os.ReadDir(folder); len(left) > 0 {
		t.Errorf("the export that failed left %v", left)
	}
}

// member is a member of an archive.
type member struct {
	tar.Header
	text string
}

// members reads an archive.
func members(t *testing.T, path string) []member {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packed, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	var all []member
	archive := tar.NewReader(packed)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{*h, string(text)})
	}
}

// pack writes an archive.
func pack(t *testing.T, path string, all []member) {
	t.Helper()
	var out bytes.Buffer
	packed, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(packed)
	for _, m := range all {
		if m.Typeflag == tar.TypeReg {
			m.Size = int64(len(m.text))
		}
		if err := archive.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if m.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(archive, m.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(archive.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Whatever an archive has that an export does not write, nothing of it comes into the store.
func TestImportHostile(t *testing.T) {
	plain := func(name, text string) member {
		return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, text}
	}
	special := func(name string, kind byte, link string) member {
		return member{tar.Header{Name: name, Typeflag: kind, Linkname: link, Mode: 0o644}, ""}
	}
	more := func(m member) func([]member) []member {
		return func(all []member) []member { return append(all, m) }
	}
	at := func(all []member, name string) int {
		return slices.IndexFunc(all, func(m member) bool { return m.Name == name })
	}
	instead := func(name string, m member) func([]member) []member {
		return func(all []member) []member { all[at(all, name)] = m; return all }
	}
	without := func(name string) func([]member) []member {
		return func(all []member) []member { return slices.Delete(all, at(all, name), at(all, name)+1) }
	}
	// changed changes the record, whose sum is made right again where that is asked for.
	changed := func(sum bool, change func(r *record)) func([]member) []member {
		return func(all []member) []member {
			m := &all[at(all, builtFile)]
			var r record
			if err := json.Unmarshal([]byte(m.text), &r); err != nil {
				t.Fatal(err)
			}
			change(&r)
			if sum {
				r.Sum = r.sum()
			}
			text, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			m.text = string(text)
			return all
		}
	}
	manifestOf := func(m manifest) func([]member) []member {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return instead(manifestFile, plain(manifestFile, string(text)))
	}
	otherConfig := "CONFIG_X86=y\nCONFIG_KASAN=y\n"
	for _, tt := range []struct {
		name   string
		change func([]member) []member
		want   string
	}{
		{"a path outside", more(plain("../../requests/x", "x")), "which no archive of a kernel has"},
		{"an absolute path", more(plain("/etc/passwd", "x")), "which no archive of a kernel has"},
		{"a path that goes round", more(plain("./vmlinux", "x")), "which no archive of a kernel has"},
		{"a file of its own", more(plain("lock", "x")), "which no archive of a kernel has"},
		{"a name with a newline", more(plain("vmlinux\n", "x")), `"vmlinux\n", which`},
		{"a folder", more(special("kernels/", tar.TypeDir, "")), "which no archive of a kernel has"},
		{"a link", instead("vmlinux", special("vmlinux", tar.TypeSymlink, "/etc/passwd")), "its vmlinux is not a plain file"},
		{"a hard link", instead("vmlinux", special("vmlinux", tar.TypeLink, "config")), "its vmlinux is not a plain file"},
		{"a device", instead("System.map", special("System.map", tar.TypeChar, "")), "its System.map is not a plain file"},
		{"a fifo", instead("build.log", special("build.log", tar.TypeFifo, "")), "its build.log is not a plain file"},
		{"a folder in a file's place", instead("config", special("config", tar.TypeDir, "")), "its config is not a plain file"},
		{"a file twice", more(plain("vmlinux", "x")), "it has vmlinux twice"},
		{"a bomb", instead("build.log", plain("build.log", strings.Repeat("\x00", leastAllowance+1))), "far more than a kernel has"},
		{"another vmlinux", instead("vmlinux", plain("vmlinux", "\x7fELF evil")), "its vmlinux is not the one that was built"},
		{"another System.map", instead("System.map", plain("System.map", "")), "its System.map is not the one that was built"},
		{"no vmlinux", without("vmlinux"), "its vmlinux is not the one that was built"},
		{"a bzImage more", more(plain("bzImage", "x")), "its bzImage is not the one that was built"},
		{"no record", without(builtFile), "it has no built.json"},
		{"no manifest", without(manifestFile), "it begins with built.json"},
		{"nothing", func([]member) []member { return nil }, "which is no hash"},
		{"an empty manifest", manifestOf(manifest{}), "which is no hash"},
		{"a key that is a path", manifestOf(manifest{Key: "../../../tmp/x"}), "which is no hash"},
		{"a request that is a path", manifestOf(manifest{Key: strings.Repeat("0", 64), Requests: []string{"../kernels/x"}}), "which is no hash"},
		{"another kernel's key", manifestOf(manifest{Key: strings.Repeat("0", 64)}), "its key does not fit"},
		{"a record that was changed", changed(false, func(r *record) { r.Compiler = "gcc 14" }), "its built.json was changed"},
		{"another compiler", changed(true, func(r *record) { r.Compiler = "gcc 14" }), "its key does not fit"},
		{"another source", changed(true, func(r *record) { r.Tree = strings.Repeat("8", 40) }), "its key does not fit"},
		{"another image", changed(true, func(r *record) { r.Image = "config"; r.Size = 26 }), "names other files"},
		{"an image outside", changed(true, func(r *record) { r.Image = "../../x" }), "names other files"},
		{"another size", changed(true, func(r *record) { r.Size = 5 }), "does not have the size"},
		{"a file outside", changed(true, func(r *record) { r.SHA256["../x"] = "0" }), "names other files"},
		{"a commit that is an option", changed(true, func(r *record) { r.Commit = "--upload-pack=x" }), "none can be"},
		{"a name that is none", changed(true, func(r *record) { r.Kernel = "\x1b[2J" }), "none can be"},
		{"a compiler of two lines", changed(true, func(r *record) { r.Compiler = "gcc\n12" }), "none can be"},
		{"another config", func(all []member) []member {
			all = changed(true, func(r *record) { r.ConfigHash = hashOf(otherConfig); r.SHA256["config"] = sumOf(t, otherConfig) })(all)
			return instead("config", plain("config", otherConfig))(all)
		}, "its key does not fit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := Store{t.TempDir()}, Store{t.TempDir()}
			path, err := from.Export(t.Context(), storedKernel(t, from, "base"), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			pack(t, path, tt.change(members(t, path)))
			refused(t, to, path, tt.want)
		})
	}
}

// A file that is cut off, or in which a bit is another, is no kernel.
func TestImportDamaged(t *testing.T) {
	from := Store{t.TempDir()}
	path, err := from.Export(t.Context(), storedKernel(t, from, "base"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := Store{t.TempDir()}
	for n := 0; n < len(whole); n += 1 + len(whole)/25 {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, to, path, "is not taken")
		flipped := bytes.Clone(whole)
		flipped[n] ^= 0x10
		if err := os.WriteFile(path, flipped, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, to, path, "is not taken")
	}
	refused(t, to, t.TempDir(), "not a regular file")
	refused(t, to, filepath.Join(t.TempDir(), "nothing"), "no such file")
}

// refused says what an import that must fail did.
func refused(t *testing.T, s Store, path, want string) {
	t.Helper()
	key, _, err := s.Import(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
		t.Errorf("Import = %s, %v; want that %s is refused: %q", key, err, path, want)
	}
	for _, folder := range []string{kernelsDir, requestsDir} {
		if left, _ := os.ReadDir(filepath.Join(s.Dir, folder)); len(left) > 0 {
			t.Errorf("the import that was refused left %v in %s", left, folder)
		}
	}
}

// sumOf is the hash of a file with that text.
func sumOf(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := fileSum(file)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A machine that took a kernel from a file knows which lines are of which patch, without the source.
func TestImportedKernelKnowsItsPatches(t *testing.T) {
	t.Parallel()
	spec := localSpec(fixtureRepo(t), "patched", readPatch(t, mainPatch), readPatch(t, goodPatch))
	from := &Builder{Cache: t.TempDir()}
	built := mustBuild(t, from, spec)
	path, err := from.store().Export(t.Context(), built.Key, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	to := &Builder{Cache: t.TempDir()}
	if _, _, err := to.store().Import(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s := to.symbols(spec, to.store().kernelDir(built.Key), built.Commit)
	s.files = map[string]*blamed{}
	s.readTouched()
	got := map[string][]int{}
	for _, name := range s.touched {
		file, err := s.file(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = file.Patch
	}
	want := map[string][]int{"main.c": {1}, "fs/io_uring.c": {0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the patch of each line (-want +got):\n%s", diff)
	}
	base := mustBuild(t, from, localSpec(spec.Tree, "base"))
	if _, err := os.Stat(filepath.Join(base.Dir, touchedFile)); err == nil {
		t.Error("a kernel without patches has a " + touchedFile)
	}
}
