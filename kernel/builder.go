package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"patchproof/patches/regular"
)

// The steps of a build, in order, as Progress names them.
const (
	StepWait      = "wait"      // for another run; Note says for which
	StepFetch     = "fetch"     // Done and Total in bytes
	StepUnpack    = "unpack"    // bytes of the archive
	StepApply     = "apply"     // patches
	StepConfigure = "configure" // no counts
	StepCompile   = "compile"   // objects
)

// Progress is how far a kernel is.
type Progress struct {
	Kernel, Step string
	// Done counts up to Total, which is 0 when it is not known and an estimate for objects.
	Done, Total int64
	Note        string
}

// Builder builds kernels into a store. One at a time: a build uses all CPUs.
type Builder struct {
	// Cache is the store's folder, see DefaultCache.
	Cache string
	// Jobs is make's -j; 0 means one more than the host has CPUs, because some
	// job is always waiting for another process.
	Jobs int
	// Source is a local tarball or directory to take a pin from (KERNEL_SRC); for
	// a git pin, a local repository whose HEAD is taken.
	Source string
	// Compiler is what kernels are built with.
	Compiler Compiler
	// Progress is called from the goroutines of a build, when set.
	Progress func(Progress)
}

// Built is a kernel in the store.
type Built struct {
	Spec    Spec
	Variant string
	// Key names the kernel in the store and Dir is its folder there.
	Key, Dir string
	// Vmlinux is the image to boot: an ELF vmlinux or a bzImage, as the variant says.
	Vmlinux, Config, Log string
	// Modules is an archive of the modules for an initramfs, empty where none were built.
	Modules string
	// Commit and Tree are git ids of the patched source.
	Commit, Tree string
	// ConfigHash is the sha256 of the resolved config.
	ConfigHash, Compiler string
	Subjects             []string
	// Objects were compiled in the build that made it, which took BuildS seconds
	// from the patched source on.
	Objects int
	BuildS  float64
	// Reused says that the store had it.
	Reused bool
	// Symbols finds the places of its code in the source.
	Symbols *Symbols
}

// Lacks returns the first of the options, without CONFIG_, that is not built in.
func (b *Built) Lacks(options []string) (string, error) {
	if len(options) == 0 {
		return "", nil
	}
	config, err := regular.ReadFile(b.Config)
	if err != nil {
		return "", err
	}
	for _, option := range options {
		if !strings.Contains(string(config), "\nCONFIG_"+option+"=y\n") {
			return option, nil
		}
	}
	return "", nil
}

// Build returns the kernel of a spec from the store, after building it if need
// be. Equal source trees, resolved configs and compilers give the same key.
//
// It fails with *ApplyError, *ConfigError or *BuildError when the patch, the
// config or the code is at fault; any other error is the host's trouble.
func (b *Builder) Build(ctx context.Context, spec Spec, v Variant) (*Built, error) {
	b, err := b.absolute()
	if err != nil {
		return nil, err
	}
	built, err := b.build(ctx, spec, v)
	if err == nil {
		return built, b.tellDisplaced(built, v)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if isLocalTrouble(err) {
		return nil, fmt.Errorf("kernel %s: cannot write below %s; free some space or set CACHE to another folder: %w", spec.Name, b.Cache, err)
	}
	return nil, err
}

// Apply applies the patches of a spec, without building, and returns the commit:
// a quick way to know that a whole line-up applies before the first is built.
func (b *Builder) Apply(ctx context.Context, spec Spec) (commit string, err error) {
	b, err = b.absolute()
	if err != nil {
		return "", err
	}
	err = b.withTree(ctx, spec, func(t tree) error {
		commit, err = b.apply(ctx, t, spec)
		return err
	})
	return commit, err
}

// Stored returns the kernel of a spec if the store has it, else nil.
func (b *Builder) Stored(ctx context.Context, spec Spec, v Variant) (*Built, error) {
	b, err := b.absolute()
	if err != nil {
		return nil, err
	}
	built, _, err := b.stored(ctx, spec, v)
	return built, err
}

// absolute returns a Builder whose folders mean the same to git and make, which
// run elsewhere.
func (b *Builder) absolute() (*Builder, error) {
	there := *b
	var err error
	if there.Cache, err = filepath.Abs(b.Cache); err != nil {
		return nil, err
	}
	if strings.ContainsAny(there.Cache, ": \t\r\n'\"`$&;()<>|*?[]{}#!\\%^") {
		return nil, fmt.Errorf("CACHE=%s: kbuild cannot work in a folder with spaces or colons in its path, nor with what means something to make or a shell", there.Cache)
	}
	// The sandbox shows folders by their real names.
	if real, err := filepath.EvalSymlinks(there.Cache); err == nil {
		there.Cache = real
	}
	if b.Source == "" {
		return &there, nil
	}
	there.Source, err = filepath.Abs(b.Source)
	return &there, err
}

func (b *Builder) store() Store { return Store{b.Cache} }

func (b *Builder) report(p Progress) {
	if b.Progress != nil {
		b.Progress(p)
	}
}

// stored returns the kernel if the store has it, else nil, and the compiler.
func (b *Builder) stored(ctx context.Context, spec Spec, v Variant) (built *Built, compiler string, err error) {
	if err := b.checkSource(spec.Pin); err != nil {
		return nil, "", err
	}
	if compiler, err = b.Compiler.id(ctx); err != nil {
		return nil, "", err
	}
	request, err := b.request(ctx, spec, v, compiler)
	if err != nil {
		return nil, "", err
	}
	built, _ = b.known(request, spec, v)
	return built, compiler, nil
}

func (b *Builder) build(ctx context.Context, spec Spec, v Variant) (*Built, error) {
	built, compiler, err := b.stored(ctx, spec, v)
	if err != nil || built != nil {
		return built, err
	}
	if err := b.CheckHost(ctx, spec); err != nil {
		return nil, err
	}
	err = b.withTree(ctx, spec, func(t tree) error {
		// Whoever held the lock may have built it, and a git pin now has its commit.
		request, err := b.request(ctx, spec, v, compiler)
		if err != nil {
			return err
		}
		var ok bool
		if built, ok = b.known(request, spec, v); ok {
			return nil
		}
		commit, err := b.applyOnKernel(ctx, t, spec)
		if err != nil {
			return err
		}
		job := job{Builder: b, spec: spec, variant: v, tree: t, commit: commit, compiler: compiler}
		key, err := job.do(ctx)
		if err != nil {
			return err
		}
		if err := b.store().remember(request, key); err != nil {
			return err
		}
		if built, ok = b.known(request, spec, v); !ok {
			return fmt.Errorf("kernel %s vanished from %s while it was put there", spec.Name, b.Cache)
		}
		built.Reused = job.reused
		return nil
	})
	return built, err
}

// withTree calls f with the spec's tree, locked and with its base commit in it.
func (b *Builder) withTree(ctx context.Context, spec Spec, f func(tree) error) error {
	if err := b.store().writable(); err != nil {
		return err
	}
	release, err := b.store().Use(ctx)
	if err != nil {
		return err
	}
	defer release()
	unlock, err := b.store().lock(ctx, b.treeDir(spec)+".lock", "kernel "+spec.Name, func(holder string) {
		b.report(Progress{Kernel: spec.Name, Step: StepWait, Note: "for another run: " + holder})
	})
	if err != nil {
		return err
	}
	defer unlock()
	if err := b.settle(tree{dir: b.treeDir(spec)}); err != nil {
		return err
	}
	err = b.inTree(ctx, spec, f)
	if damagedRepository(err) && ctx.Err() == nil {
		b.report(Progress{Step: fmt.Sprintf("note: the git repository of %s in the cache is damaged and is made again (%v)", filepath.Base(b.treeDir(spec)), err)})
		if err := os.RemoveAll(tree{dir: b.treeDir(spec)}.src()); err != nil {
			return err
		}
		err = b.inTree(ctx, spec, f)
		if spec.Tree != "" && damagedRepository(err) && ctx.Err() == nil {
			return fmt.Errorf("an object of TREE=%[1]s is missing or damaged, as the repository made anew from it is, too; git -C %[1]s fsck names it: %[2]w", spec.Tree, err)
		}
	}
	return err
}

// settle removes what lies in the place of a tree's folders, and a repository in which
// something lies in the place of a file: git would wait for a pipe, for ever.
func (b *Builder) settle(t tree) error {
	for _, dir := range []string{t.dir, t.src()} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || !exists(dir) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	repository := filepath.Join(t.src(), ".git")
	odd := ""
	for _, dir := range []string{"objects", "refs"} {
		if info, err := os.Stat(filepath.Join(repository, dir)); err == nil && !info.IsDir() {
			odd = dir
		}
	}
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !d.Type().IsRegular() {
			odd = filepath.Base(path)
			return filepath.SkipAll
		}
		return err
	})
	if odd == "" && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	b.report(Progress{Step: fmt.Sprintf("note: the git repository of %s in the cache is damaged and is made again (%s is not what git has made)", filepath.Base(t.dir), odd)})
	return os.RemoveAll(t.src())
}

// withCommit is withTree with the spec's commit made, on a base that is a kernel.
func (b *Builder) withCommit(ctx context.Context, spec Spec, f func(t tree, commit string) error) error {
	return b.withTree(ctx, spec, func(t tree) error {
		commit, err := b.applyOnKernel(ctx, t, spec)
		if err != nil {
			return err
		}
		return f(t, commit)
	})
}

// inTree prepares the tree and calls f with it.
func (b *Builder) inTree(ctx context.Context, spec Spec, f func(tree) error) error {
	t, err := b.prepare(ctx, spec)
	if err != nil {
		return err
	}
	// GC goes by it.
	now := time.Now()
	if err := os.Chtimes(t.dir, now, now); err != nil {
		return err
	}
	return f(t)
}

// applyOnKernel is apply on a base that is a kernel.
func (b *Builder) applyOnKernel(ctx context.Context, t tree, spec Spec) (string, error) {
	if err := checkKernel(ctx, t, spec, t.base); err != nil {
		return "", err
	}
	return b.apply(ctx, t, spec)
}

// apply makes the spec's commit and returns it.
func (b *Builder) apply(ctx context.Context, t tree, spec Spec) (string, error) {
	if n := int64(len(spec.Patches())); n > 0 {
		b.report(Progress{Kernel: spec.Name, Step: StepApply, Total: n})
	}
	commit, notes, err := t.apply(ctx, spec, t.base)
	for _, note := range notes {
		b.report(Progress{Step: "note: " + note})
	}
	return commit, err
}

// request identifies what was asked for, as far as it is known without opening
// the tree; the store remembers the key that it led to.
func (b *Builder) request(ctx context.Context, spec Spec, v Variant, compiler string) (string, error) {
	source := spec.Pin.Tree
	switch {
	case spec.Tree != "":
		commit, err := localSource(ctx, spec)
		if err != nil {
			return "", err
		}
		source = commit
	case source == "" && !spec.Pin.fromGit():
		source = spec.Pin.Archive.SHA256
	case spec.Pin.fromGit():
		// Its commit is chosen once; another one needs another tree.
		commit, err := git(ctx, tree{dir: b.treeDir(spec)}.src(), "rev-parse", "--verify", "--quiet", baseRef)
		if err != nil {
			commit = ""
		}
		source = commit
	}
	requests, err := readFragments(v)
	if err != nil {
		return "", err
	}
	parts := append([]string{source, compiler, v.Image, asked(requests)}, recipe...)
	if wantsModules(v, requests) {
		parts = append(parts, modulesFile)
	}
	for _, p := range spec.Patches() {
		parts = append(parts, string(p.MailMessage()))
	}
	return hashOf(parts...), nil
}

// known returns the kernel that a request led to before.
func (b *Builder) known(request string, spec Spec, v Variant) (*Built, bool) {
	key, ok := b.store().remembered(request)
	if !ok {
		return nil, false
	}
	r, ok := b.store().find(key)
	if !ok {
		return nil, false
	}
	// It was used now. A store that cannot be written still serves.
	_ = b.store().remember(request, key)
	dir := b.store().kernelDir(key)
	built := &Built{
		Spec: spec, Variant: v.Name, Key: key, Dir: dir,
		Vmlinux: filepath.Join(dir, r.Image), Config: filepath.Join(dir, "config"), Log: filepath.Join(dir, "build.log"),
		Commit: r.Commit, Tree: r.Tree, ConfigHash: r.ConfigHash, Compiler: r.Compiler,
		Objects: r.Objects, BuildS: r.BuildS, Reused: true,
		Symbols: b.symbols(spec, dir, r.Commit),
	}
	if r.SHA256[modulesFile] != "" {
		built.Modules = filepath.Join(dir, modulesFile)
	}
	for _, p := range spec.Patches() {
		built.Subjects = append(built.Subjects, p.Subject)
	}
	return built, true
}

// checkSource finds a mistyped KERNEL_SRC at once, also when the tree is there already.
func (b *Builder) checkSource(pin Pin) error {
	if b.Source == "" || pin.Name == treePin {
		return nil
	}
	info, err := os.Stat(b.Source)
	if err != nil {
		return fmt.Errorf("KERNEL_SRC: %w", err)
	}
	if info.IsDir() && pin.Tree == "" && !pin.fromGit() {
		return fmt.Errorf("KERNEL_SRC=%s is a folder; of pin %s only the hash of the archive is known: give %s, or a git tree with TREE=folder", b.Source, pin.Name, pin.Archive.Name)
	}
	if info.IsDir() || pin.fromGit() {
		return nil
	}
	if info.Size() != pin.Archive.Size {
		return fmt.Errorf("KERNEL_SRC=%s has %d bytes, pin %s wants %d: truncated, or another file", b.Source, info.Size(), pin.Name, pin.Archive.Size)
	}
	return nil
}

func (b *Builder) jobs() int {
	return cmp.Or(b.Jobs, runtime.NumCPU()+1)
}

func (b *Builder) fewerJobs() *Builder {
	fewer := *b
	fewer.Jobs = max(1, b.jobs()/2)
	return &fewer
}

// exists reports whether something is there, a link to nowhere included.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
