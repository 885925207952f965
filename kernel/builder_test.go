package kernel

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"patchproof/kernel/host"
	"patchproof/patches"
)

// localSpec is the kernel of a user's tree with some patches.
func localSpec(dir, name string, series ...patches.Series) Spec {
	return Spec{Name: name, Pin: Pin{Name: treePin}, Tree: dir, Rev: "HEAD", Series: series}
}

func mustBuild(t *testing.T, b *Builder, spec Spec) *Built {
	t.Helper()
	built, err := b.Build(t.Context(), spec, plain)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// Which warnings of the link a patched kernel adds is found out by base's log.
func TestACutLogIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	base := mustBuild(t, b, localSpec(dir, "base"))
	for _, spoil := range []func() error{
		func() error { return os.Truncate(base.Log, 3) },
		func() error { return os.Remove(base.Log) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		intact.Delete(base.Dir) // as in another process
		again := mustBuild(t, b, localSpec(dir, "base"))
		if info, err := os.Stat(again.Log); again.Reused || err != nil || info.Size() == 3 {
			t.Errorf("reused %v, its log: %v, %v; want the kernel built again", again.Reused, info, err)
		}
	}
}

func TestBuildGoesThroughTheStore(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	base := mustBuild(t, b, localSpec(dir, "base"))
	if base.Reused || base.Objects != 2 {
		t.Errorf("base: reused %v, %d objects; want a new build of 2", base.Reused, base.Objects)
	}
	patched := mustBuild(t, b, localSpec(dir, "patched", readPatch(t, goodPatch)))
	if patched.Reused || patched.Objects != 1 || patched.Key == base.Key {
		t.Errorf("patched: reused %v, %d objects, base's key %v; want a new build of 1", patched.Reused, patched.Objects, patched.Key == base.Key)
	}
	if len(patched.Subjects) != 1 {
		t.Errorf("patched: subjects %q; want one", patched.Subjects)
	}
	for _, file := range []string{patched.Vmlinux, patched.Config, patched.Log, filepath.Join(patched.Dir, "System.map")} {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 && filepath.Base(file) != "config" && filepath.Base(file) != "System.map" {
			t.Errorf("%s: %v; want a file", file, err)
		}
	}
	// What the first patch changed is built already, and a second one on top changes
	// another file.
	more := mustBuild(t, b, localSpec(dir, "more", readPatch(t, goodPatch), readPatch(t, mainPatch)))
	if more.Reused || more.Objects != 1 {
		t.Errorf("a second patch on top: reused %v, %d objects; want a new build of 1", more.Reused, more.Objects)
	}
	again := mustBuild(t, b, localSpec(dir, "base"))
	if !again.Reused || again.Key != base.Key || again.Objects != base.Objects {
		t.Errorf("base again: reused %v, key %s; want the first build, %s", again.Reused, again.Key, base.Key)
	}
	// Elsewhere, from another repository with the same files: the same bytes.
	other := mustBuild(t, &Builder{Cache: t.TempDir()}, localSpec(fixtureRepo(t), "patched", readPatch(t, goodPatch)))
	if other.Key != patched.Key {
		t.Errorf("key elsewhere = %s; want %s", other.Key, patched.Key)
	}
}

func TestTheCallersEnvironmentDoesNotLeakIn(t *testing.T) {
	for name, value := range map[string]string{
		"MAKEFLAGS": "--question", "CC": "false", "KCFLAGS": "-DBAD", "ARCH": "arm", "O": "/nowhere", "CROSS_COMPILE": "none-", "LANG": "de_DE.UTF-8",
	} {
		t.Setenv(name, value)
	}
	mustBuild(t, &Builder{Cache: t.TempDir()}, localSpec(fixtureRepo(t), "base"))
}

func TestBuildThatBreaks(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	proofs := 0
	b := &Builder{Cache: t.TempDir(), Progress: func(p Progress) {
		if strings.Contains(p.Step, "its base is built in the same folder") {
			proofs++
		}
	}}
	broken := localSpec(dir, "patched", readPatch(t, brokenPatch))
	// Whether or not the base is in the store.
	for range 2 {
		_, err := b.Build(t.Context(), broken, plain)
		var refused *BuildError
		if !errors.As(err, &refused) {
			t.Fatalf("error = %v; want *BuildError", err)
		}
		if refused.File != "fs/io_uring.c" || refused.Line != 5 || !refused.BaseBuilt || refused.Kernel != "patched" {
			t.Errorf("error = %+v; want fs/io_uring.c:5, and that the base builds", refused)
		}
		if log, readErr := os.ReadFile(refused.Log); readErr != nil || !strings.Contains(string(log), "missing") {
			t.Errorf("log %q: %v; want one with the compiler's message", refused.Log, readErr)
		}
		mustBuild(t, b, localSpec(dir, "base"))
	}
	if items, err := (Store{b.Cache}).List(); err != nil || kinds(items)["kernel"] != 1 {
		t.Errorf("store = %v, %v; want the base only", items, err)
	}
	// The second failure cannot be the folder's.
	if proofs != 1 {
		t.Errorf("the base was built %d times to see whether the patch is to blame; want once", proofs)
	}
}

func kinds(items []Item) map[string]int {
	count := map[string]int{}
	for _, item := range items {
		count[item.Kind]++
	}
	return count
}

// slowRepo is a tree whose build runs a command that does not end by itself; the
// test sees it start through the progress of an object.
func slowRepo(t *testing.T, command string) string {
	dir := fixtureRepo(t)
	makefile := strings.Replace(fixtureFiles["Makefile"], "\t@$(CC) -c -o $@ $(CURDIR)/fs/io_uring.c", "\t@"+command, 1)
	writeFile(t, filepath.Join(dir, "Makefile"), makefile)
	userGit(t, dir, "commit", "-qam", "slow")
	return dir
}

func TestCtrlCLeavesNoProcess(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	dir := slowRepo(t, "sleep 1000 & echo $$! > "+pidFile+"; wait")
	ctx, cancel := context.WithCancel(t.Context())
	b := &Builder{Cache: t.TempDir(), Progress: func(p Progress) {
		if p.Step == StepCompile && p.Done > 0 {
			cancel()
		}
	}}
	spec := localSpec(dir, "base")
	_, err := b.Build(ctx, spec, plain)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v; want the cancellation", err)
	}
	if text, err := os.ReadFile(pidFile); err == nil {
		if exec.Command("kill", "-0", strings.TrimSpace(string(text))).Run() == nil {
			t.Errorf("process %s is still running", text)
		}
	}
	if items, err := (Store{b.Cache}).List(); err != nil || kinds(items)["kernel"] != 0 || kinds(items)["leftover"] != 0 {
		t.Errorf("store = %v, %v; want no kernel and no leftovers", items, err)
	}
	// The tree is free and still serves.
	spec.Rev = "HEAD^"
	mustBuild(t, &Builder{Cache: b.Cache}, spec)
}

func TestFolderOfAKilledBuildIsNotTrusted(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	spec := localSpec(dir, "base")
	out := tree{dir: b.treeDir(spec)}.build(Variant{Name: "plain"}, Compiler{})
	// A half written object, newer than its source.
	writeFile(t, filepath.Join(out, "main.o"), "half")
	writeFile(t, filepath.Join(out, buildingFile), "")
	built := mustBuild(t, b, spec)
	if image, err := os.ReadFile(built.Vmlinux); err != nil || strings.Contains(string(image), "half") || built.Objects != 2 {
		t.Errorf("%d objects, %v; want a build from nothing", built.Objects, err)
	}
}

// What an earlier source noted of its files in the folder says nothing of a later one.
func TestFileThatIsGone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// file is gone in the later commit; note is the folder's that says who needs it, if one is made.
		file, note string
		// anew says that the later commit is built in a new folder, refused that it does not build.
		anew    bool
		refused string
	}{
		{"noted in the folder", "old.h", "main.d", true, ""},
		{"noted by the tools", "tools/old.h", "tools/main.d", false, ""},
		{"needed", "data.bin", "", true, "No rule to make target 'data.bin', needed by 'vmlinux'.  Stop."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := fixtureRepo(t)
			makefile := fixtureFiles["Makefile"]
			if test.note != "" {
				makefile += "\t@mkdir -p $(O)/tools\n" +
					"\t@[ ! -e " + test.file + " ] || echo '$(O)/main.o: $(CURDIR)/" + test.file + "' > $(O)/" + test.note + "\n" +
					"-include $(O)/" + test.note + "\n"
			} else {
				makefile += "vmlinux: $(CURDIR)/" + test.file + "\n"
			}
			writeFile(t, filepath.Join(dir, "Makefile"), makefile)
			writeFile(t, filepath.Join(dir, test.file), "")
			userGit(t, dir, "add", "-Af")
			userGit(t, dir, "commit", "-qm", "with the file")
			userGit(t, dir, "rm", "-q", test.file)
			userGit(t, dir, "commit", "-qm", "without it")
			anew := false
			b := &Builder{Cache: t.TempDir(), Progress: func(p Progress) { anew = anew || strings.Contains(p.Step, "in a new folder") }}
			earlier := localSpec(dir, "earlier")
			earlier.Rev = "HEAD~1"
			mustBuild(t, b, earlier)
			_, err := b.Build(t.Context(), localSpec(dir, "later"), plain)
			var refused *BuildError
			if errors.As(err, &refused) != (test.refused != "") || refused != nil && refused.Message != test.refused {
				t.Errorf("the later commit: %v; want %q", err, test.refused)
			}
			if anew != test.anew {
				t.Errorf("built in a new folder: %v; want %v", anew, test.anew)
			}
		})
	}
}

func TestTwoBuildersAtOnce(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	cache := t.TempDir()
	var group sync.WaitGroup
	var mu sync.Mutex
	var objects, waits int
	for range 4 {
		group.Go(func() {
			b := &Builder{Cache: cache, Progress: func(p Progress) {
				if p.Step == StepWait {
					mu.Lock()
					defer mu.Unlock()
					waits++
				}
			}}
			built, err := b.Build(t.Context(), localSpec(dir, "base"), plain)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if !built.Reused {
				objects += built.Objects
			}
		})
	}
	group.Wait()
	if objects != 2 {
		t.Errorf("%d objects compiled by four builders; want 2, once", objects)
	}
	if waits > 3 {
		t.Errorf("%d builders waited; want at most 3", waits)
	}
}

func TestChecksBesideASweep(t *testing.T) {
	t.Parallel()
	b := &Builder{Cache: t.TempDir()}
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				Store{b.Cache}.sweep()
			}
		}
	})
	for range 300 {
		if err := host.Check(host.Need{Cache: b.Cache, Build: true}); err != nil {
			t.Errorf("another run's sweep is taken for trouble: %v", err)
			break
		}
	}
	close(done)
	group.Wait()
}

func TestCacheThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "")
	for _, cache := range []string{filepath.Join(file, "cache"), "/proc/patchproof"} {
		_, err := (&Builder{Cache: cache}).Build(t.Context(), localSpec(fixtureRepo(t), "base"), plain)
		if err == nil || !strings.Contains(err.Error(), "CACHE") {
			t.Errorf("error = %v; want one that tells of CACHE", err)
		}
	}
}

// TestCacheThatIsSomebodysFolder leaves a home alone, which CACHE=~ would name: a cache removes
// what is unfinished or in the way, and what was not used for long.
func TestCacheThatIsSomebodysFolder(t *testing.T) {
	t.Parallel()
	s := Store{t.TempDir()}
	for _, file := range []string{"Documents/letter", "logs/2019/diary", "photos.tmp/one"} {
		writeFile(t, filepath.Join(s.Dir, file), "mine\n")
	}
	_, useErr := s.Use(t.Context())
	_, gcErr := s.GC(0)
	for _, err := range []error{useErr, gcErr} {
		if err == nil || !strings.Contains(err.Error(), "holds Documents, and is no cache") {
			t.Errorf("used as a cache: %v; want it refused", err)
		}
	}
	for _, file := range []string{"logs/2019/diary", "photos.tmp/one"} {
		if _, err := os.Stat(filepath.Join(s.Dir, file)); err != nil {
			t.Error(err)
		}
	}
}

// A CI job brings some files of a cache, and what it makes there is for all of its users.
func TestCacheOfAPart(t *testing.T) {
	t.Parallel()
	s := Store{t.TempDir()}
	writeFile(t, filepath.Join(s.Dir, "releases-liburing.json"), "[]\n")
	release, err := s.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := s.remember(hashOf("request"), hashOf("key")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(s.Dir, requestsDir, hashOf("request")))
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("the request's record: %v, %v; want one that others can read", info, err)
	}
}

func TestRelativeCache(t *testing.T) {
	t.Chdir(t.TempDir())
	built := mustBuild(t, &Builder{Cache: "cache"}, localSpec(fixtureRepo(t), "base"))
	if !filepath.IsAbs(built.Vmlinux) {
		t.Errorf("Vmlinux = %s; want an absolute path", built.Vmlinux)
	}
	_, err := (&Builder{Cache: "my cache"}).Build(t.Context(), localSpec(fixtureRepo(t), "base"), plain)
	if err == nil || !strings.Contains(err.Error(), "spaces or colons") {
		t.Errorf("error = %v; want one about spaces", err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	cache := t.TempDir()
	if err := syscall.Mount("tmpfs", cache, "tmpfs", 0, "size=300k"); err != nil {
		t.Skipf("mounting a small tmpfs: %v", err)
	}
	defer syscall.Unmount(cache, syscall.MNT_DETACH)
	dir := slowRepo(t, "dd if=/dev/zero of=$@ bs=1k count=1000")
	_, err := (&Builder{Cache: cache}).Build(t.Context(), localSpec(dir, "base"), plain)
	if err == nil || !strings.Contains(err.Error(), cache) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("error = %v; want one that names %s and says what to do", err, cache)
	}
	var refused *BuildError
	if errors.As(err, &refused) {
		t.Errorf("error = %v; want the host blamed, not the kernel", err)
	}
	if left := list(t, filepath.Join(cache, kernelsDir)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBrokenStoreEntryIsBuiltAgain(t *testing.T) {
	t.Parallel()
	b := &Builder{Cache: t.TempDir()}
	spec := localSpec(fixtureRepo(t), "base")
	built := mustBuild(t, b, spec)
	if err := os.Truncate(built.Vmlinux, 1); err != nil {
		t.Fatal(err)
	}
	again := mustBuild(t, b, spec)
	if info, err := os.Stat(again.Vmlinux); err != nil || info.Size() == 1 || again.Reused {
		t.Errorf("the truncated image was reused: %v", err)
	}
}

func TestGC(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	s := Store{b.Cache}
	base := mustBuild(t, b, localSpec(dir, "base"))
	patched := mustBuild(t, b, localSpec(dir, "patched", readPatch(t, goodPatch)))
	old := time.Now().Add(-time.Hour)
	for _, built := range []*Built{base, patched} {
		err := filepath.WalkDir(built.Dir, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Chtimes(path, old, old))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	leftover := filepath.Join(b.Cache, kernelsDir, "1"+tmpSuffix)
	writeFile(t, filepath.Join(leftover, "vmlinux"), "half")
	// A use counts, even without a build.
	mustBuild(t, b, localSpec(dir, "base"))
	removed, err := s.GC(30 * time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{base.Dir: true, patched.Dir: false, leftover: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v; want %v (removed: %v)", path, err == nil, want, removed)
		}
	}
	release, err := s.Use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(0); !errors.Is(err, errInUse) {
		t.Errorf("GC beside a build = %v; want errInUse", err)
	}
	release()
	if _, err := s.GC(0); err != nil {
		t.Fatal(err)
	}
	if items, err := s.List(); err != nil || len(items) > 0 {
		t.Errorf("left after GC(0): %v, %v", items, err)
	}
	mustBuild(t, b, localSpec(dir, "base"))
}

func TestOptionsAreResolvedAgainWhenTheyMayHaveChanged(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	const kconfigPatch = `--- a/Kconfig
+++ b/Kconfig
@@ -1,4 +1,4 @@
 config SMP
-	bool "SMP"
+	bool "Several CPUs"

 config IO_URING
`
	for _, test := range []struct {
		spec Spec
		want bool
	}{
		{localSpec(dir, "base"), true},
		{localSpec(dir, "code", readPatch(t, goodPatch)), false},
		{localSpec(dir, "option", readPatch(t, kconfigPatch)), true},
	} {
		built := mustBuild(t, b, test.spec)
		log, err := os.ReadFile(built.Log)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(log), "tinyconfig"); got != test.want {
			t.Errorf("%s: config resolved: %v; want %v", test.spec.Name, got, test.want)
		}
	}
}

func TestBuildWithOptionsThatDoNotLand(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	b := &Builder{Cache: t.TempDir()}
	wanting := plain
	wanting.Fragments = []string{"plain.config"}
	for range 2 {
		_, err := b.Build(t.Context(), localSpec(dir, "base"), wanting)
		var missing *ConfigError
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), "CONFIG_SLUB_DEBUG=y (plain.config:8): came out as n; this tree has no such option") {
			t.Errorf("error = %v; want *ConfigError about CONFIG_SLUB_DEBUG", err)
		}
	}
	mustBuild(t, b, localSpec(dir, "base"))
}
