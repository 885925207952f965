// Package initramfs builds what the guests boot into: u-root's init and the guest
// programs in one binary, kept in the cache by its content.
package initramfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/mkuimage/uimage/builder"
	"github.com/u-root/mkuimage/uimage/initramfs"
	"github.com/u-root/uio/llog"
	"github.com/u-root/uio/ulog"

	"patchproof/kernel"
	"patchproof/kernel/arch"
	"patchproof/kernel/host"
	"patchproof/patches/regular"
)

// module is the import path of this repository's module.
const module = "patchproof"

// shellCommands are the u-root commands that a person needs in `make shell`
// (uroot.uinitargs=gosh).
var shellCommands = []string{
	"cat", "dd", "dmesg", "echo", "gosh", "grep", "head", "hexdump", "ls", "mkdir", "mount", "ps", "rm", "shutdown", "sleep", "umount",
}

// buildTag leaves gosh's line editor with its many packages out.
const buildTag = "goshsmall"

// Build returns the path of the guest's initramfs in the cache folder
// and builds it when its content has not been built before: u-root's init, all
// guest programs and the further u-root commands asked for, in one busybox
// binary. Every process of the guest starts from that binary and initialises
// all that is linked into it: with the shell's commands a boot under TCG takes
// some 5 % longer, so only the shell has them.
//
// Its key covers the Go version, the versions of all modules, the guest
// sources and the recipe, so an unchanged checkout only hashes some files.
func Build(ctx context.Context, cache string, commands ...string) (string, error) {
	root, err := kernel.Checkout()
	if err != nil {
		return "", err
	}
	key, err := keyOf(ctx, root, commands)
	if err != nil {
		return "", fmt.Errorf("the initramfs's sources cannot be read: %w", err)
	}
	dir := filepath.Join(cache, "initramfs")
	if file := kernel.Kept(dir, key, ".cpio"); file != "" {
		return file, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", host.Unwritable(err, cache, "CACHE")
	}
	lock := regular.Lock(dir + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("waiting for another run that builds the initramfs: %w", err)
	}
	defer lock.Close()
	if file := kernel.Kept(dir, key, ".cpio"); file != "" {
		return file, nil
	}
	file, err := write(ctx, root, dir, key, commands)
	if err != nil {
		return "", fmt.Errorf("the initramfs could not be built: %w", err)
	}
	return file, nil
}

// BuildShell is Build with the commands of a shell.
func BuildShell(ctx context.Context, cache string) (string, error) {
	return Build(ctx, cache, shellCommands...)
}

// Shell returns the initramfs with the commands of a shell, and the one
// binary in it, which is static and runs under any Linux.
func Shell(ctx context.Context, cache string) (archive, bb []byte, err error) {
	file, err := BuildShell(ctx, cache)
	if err != nil {
		return nil, nil, err
	}
	if archive, err = os.ReadFile(file); err != nil {
		return nil, nil, err
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, r := range records {
		if r.Name == "bbin/bb" {
			bb, err = io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
			return archive, bb, err
		}
	}
	return nil, nil, fmt.Errorf("%s has no bbin/bb", file)
}

// Archive returns an archive of files and symbolic links, by name.
func Archive(files map[string][]byte, links map[string]string) ([]byte, error) {
	var records []cpio.Record
	for _, name := range slices.Sorted(maps.Keys(files)) {
		records = append(records, cpio.StaticFile(name, string(files[name]), 0o644))
	}
	for _, name := range slices.Sorted(maps.Keys(links)) {
		records = append(records, cpio.Directory(path.Dir(name), 0o755), cpio.Symlink(name, links[name]))
	}
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, r := range records {
		r.Ino = uint64(i) + 1
		if err := w.WriteRecord(r); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), cpio.WriteTrailer(w)
}

// keyOf hashes everything that decides the initramfs's content.
func keyOf(ctx context.Context, root string, commands []string) (string, error) {
	version, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOVERSION: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s%q\n", version, commands)
	// This file is the recipe.
	files := []string{filepath.Join(root, "go.mod"), filepath.Join(root, "go.sum"), filepath.Join(root, "vmtest", "initramfs", "initramfs.go")}
	guest, err := guestSources(root)
	if err != nil {
		return "", err
	}
	for _, file := range append(files, guest...) {
		if err := hashFile(h, root, file); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

// guestSources lists the files below guest/ that are compiled, in order.
func guestSources(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(filepath.Join(root, "guest"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "testdata" {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".s") {
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

func hashFile(h io.Writer, root, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	rel, err := filepath.Rel(root, file)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(h, "%s %d\n", rel, info.Size())
	_, err = io.Copy(h, f)
	return err
}

// clearUp removes what earlier runs left unfinished in dir.
func clearUp(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, "*.tmp"))
	for _, old := range left {
		// A compiler that has outlived a killed harness may still write there, for seconds. What
		// it then leaves, or what cannot be removed, is for the next run.
		for tries := 0; errors.Is(os.RemoveAll(old), syscall.ENOTEMPTY) && tries < 50; tries++ {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// write builds the archive and puts it into dir. The caller holds the lock, so what
// is unfinished there is nobody's.
func write(ctx context.Context, root, dir, key string, commands []string) (file string, err error) {
	clearUp(dir)
	tmp, err := os.MkdirTemp(dir, "*.tmp")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	programs, err := filepath.Glob(filepath.Join(root, "guest", "cmd", "*", "*.go"))
	if err != nil {
		return "", err
	}
	var packages []string
	for _, source := range programs {
		packages = append(packages, path.Join(module, "guest/cmd", filepath.Base(filepath.Dir(source))))
	}
	slices.Sort(packages)
	packages = slices.Compact(packages)
	for _, name := range append([]string{"init"}, commands...) {
		packages = append(packages, "github.com/u-root/u-root/cmds/core/"+name)
	}
	base, err := cpio.ArchiveFromRecords([]cpio.Record{
		cpio.Directory("dev", 0o755),
		cpio.Directory("proc", 0o555),
		cpio.Directory("sys", 0o555),
		cpio.Directory("tmp", 0o777),
		// The kernel opens init's stdin, stdout and stderr on it, before
		// anything is mounted (init/main.c, console_on_rootfs).
		cpio.CharDev("dev/console", 0o600, 5, 1),
	})
	if err != nil {
		return "", err
	}
	out := filepath.Join(tmp, "initramfs.cpio")
	err = uimage.Create(llog.New(slog.LevelError, llog.WritePrintf(io.Discard)),
		uimage.WithEnv(golang.DisableCGO(), golang.WithGOARCH(arch.Target.GOARCH), golang.WithGOOS("linux"), golang.WithWorkingDir(root), golang.WithBuildTag(buildTag)),
		uimage.WithTempDir(tmp),
		uimage.WithBaseArchive(base),
		uimage.WithCommands(nil, &busybox{ctx: ctx, root: root}, packages...),
		uimage.WithInit("init"),
		// No command is called uinit, so the busybox runs the one that its first
		// argument names (gobusybox's bbmain/cmd/main.go, run): the program, to
		// which u-root's init hands uroot.uinitargs, without a second exec.
		uimage.WithSymlink("bbin/uinit", "/bbin/bb"),
		uimage.WithCPIOOutput(out),
	)
	if err != nil {
		return "", err
	}
	return kernel.Keep(out, dir, key, ".cpio")
}

// busybox builds the guest's one binary. It stands in for mkuimage's
// builder.GBBBuilder for two reasons: gobusybox takes any package whose import
// path has no dot in its first element for the standard library (bb.go,
// collectDeps) and so leaves out this module's own packages; and it
// always compiles everything anew (go build -a), which the Go build cache
// makes needless.
type busybox struct {
	ctx  context.Context
	root string
}

// DefaultBinaryDir implements builder.Builder.
func (*busybox) DefaultBinaryDir() string { return "bbin" }

// Build implements builder.Builder.
func (b *busybox) Build(_ *llog.Logger, files *initramfs.Files, opts builder.Opts) error {
	src := filepath.Join(opts.TempDir, "src-tree")
	if err := bb.BuildBusybox(ulog.Null, &bb.Opts{
		Env:          opts.Env,
		GenSrcDir:    src,
		CommandPaths: opts.Packages,
		GenerateOnly: true,
	}); err != nil {
		return err
	}
	if err := b.copyModule(filepath.Join(src, "src", module)); err != nil {
		return err
	}
	binary := filepath.Join(opts.TempDir, "bb")
	cmd := exec.CommandContext(b.ctx, "go", "build", "-tags="+buildTag, "-trimpath", "-ldflags=-s -w -buildid=", "-o", binary, ".")
	cmd.Dir = filepath.Join(src, "src", "bb.u-root.com", "bb")
	cmd.Env = append(os.Environ(), "GO111MODULE=off", "GOPATH="+src, "GOFLAGS=", "GOEXPERIMENT=", "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch.Target.GOARCH, "GOAMD64="+arch.Target.GOAMD64, "GOWORK=off")
	// Killed, it leaves its folder, which therefore is in ours. When the harness is killed, it must
	// not go on to write where the next run clears up; that goes by the thread that starts it.
	cmd.Env = append(cmd.Env, "GOTMPDIR="+opts.TempDir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(b.ctx.Err(), fmt.Errorf("go build: %w\n%s", err, out))
	}
	if err := files.AddFile(binary, "bbin/bb"); err != nil {
		return err
	}
	for _, pkg := range opts.Packages {
		if err := files.AddRecord(cpio.Symlink(path.Join("bbin", path.Base(pkg)), "bb")); err != nil {
			return err
		}
	}
	return nil
}

// copyModule adds the packages that the guest programs import to the GOPATH
// that gobusybox generated. The programs themselves are there, rewritten.
func (b *busybox) copyModule(dst string) error {
	sources, err := guestSources(b.root)
	if err != nil {
		return err
	}
	for _, source := range sources {
		rel, err := filepath.Rel(b.root, source)
		if err != nil {
			return err
		}
		if strings.HasPrefix(filepath.ToSlash(rel), "guest/cmd/") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		target := filepath.Join(dst, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// With returns the path of an initramfs in the cache that is base with a further archive
// behind it, whose files come in addition (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst).
func With(cache, base string, more func() ([]byte, error)) (string, error) {
	archive, err := more()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(base)
	if err != nil {
		return "", fmt.Errorf("the initramfs: %w", err)
	}
	text = Join(text, archive)
	sum := sha256.Sum256(text)
	file := filepath.Join(cache, "initramfs", hex.EncodeToString(sum[:])[:32]+".cpio")
	if there, err := os.ReadFile(file); err == nil && bytes.Equal(there, text) {
		return file, nil
	}
	if err := renameio.WriteFile(file, text, 0o644); err != nil {
		return "", host.Unwritable(err, cache, "CACHE")
	}
	return file, nil
}

// Join puts archives behind each other.
func Join(archives ...[]byte) []byte {
	var all []byte
	for _, archive := range archives {
		// One begins at a multiple of four.
		all = append(all, make([]byte, -len(all)&3)...)
		all = append(all, archive...)
	}
	return all
}
