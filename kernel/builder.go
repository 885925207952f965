package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
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
	// Commit and Tree are git ids of the patched source.
	Commit, Tree string
	// ConfigHash is the sha256 of the resolved config.
	ConfigHash, Compiler string
	PatchIDs, Subjects   []string
	// Objects were compiled in the build that made it, which took BuildS seconds
	// from the patched source on.
	Objects int
	BuildS  float64
	// Reused says that the store had it.
	Reused bool
	// Symbols finds the places of its code in the source.
	Symbols *Symbols
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
		return built, nil
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
	if strings.ContainsAny(there.Cache, ": \t\n") {
		return nil, fmt.Errorf("CACHE=%s: kbuild cannot work in a folder with spaces or colons in its path", there.Cache)
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
	if compiler, err = compilerID(ctx); err != nil {
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
		commit, err := b.apply(ctx, t, spec)
		if err != nil {
			return err
		}
		job := job{Builder: b, spec: spec, variant: v, tree: t, commit: commit, compiler: compiler}
		key, err := job.do(ctx)
		if err != nil {
			return b.blame(ctx, err, spec, v, compiler)
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

func (b *Builder) apply(ctx context.Context, t tree, spec Spec) (string, error) {
	if n := int64(len(spec.Patches())); n > 0 {
		b.report(Progress{Kernel: spec.Name, Step: StepApply, Total: n})
	}
	return t.apply(ctx, spec, t.base)
}

// request identifies what was asked for, as far as it is known without opening
// the tree; the store remembers the key that it led to.
func (b *Builder) request(ctx context.Context, spec Spec, v Variant, compiler string) (string, error) {
	source := spec.Pin.Tree
	switch {
	case spec.Tree != "":
		commit, err := resolveLocal(ctx, spec)
		if err != nil {
			return "", err
		}
		source = commit
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
	parts := append([]string{source, compiler, v.Image, fragmentText(requests)}, recipe...)
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
	r, ok := b.store().lookup(key)
	if !ok {
		return nil, false
	}
	dir := b.store().kernelDir(key)
	built := &Built{
		Spec: spec, Variant: v.Name, Key: key, Dir: dir,
		Vmlinux: filepath.Join(dir, r.Image), Config: filepath.Join(dir, "config"), Log: filepath.Join(dir, "build.log"),
		Commit: r.Commit, Tree: r.Tree, ConfigHash: r.ConfigHash, Compiler: r.Compiler,
		Objects: r.Objects, BuildS: r.BuildS, Reused: true,
		Symbols: b.symbols(spec, dir, r.Commit),
	}
	for _, p := range spec.Patches() {
		built.PatchIDs = append(built.PatchIDs, p.ID())
		built.Subjects = append(built.Subjects, p.Subject)
	}
	return built, true
}

// blame completes a *BuildError with the kernel and whether its base builds.
func (b *Builder) blame(ctx context.Context, err error, spec Spec, v Variant, compiler string) error {
	var refused *BuildError
	if !errors.As(err, &refused) {
		return err
	}
	refused.Kernel, refused.Patched = spec.Name, len(spec.Series) > 0
	base := spec
	base.Series = nil
	if request, requestErr := b.request(ctx, base, v, compiler); requestErr == nil {
		_, refused.BaseBuilt = b.known(request, base, v)
	}
	return err
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
	if info.IsDir() || pin.fromGit() {
		return nil
	}
	if info.Size() != pin.Archive.Size {
		return fmt.Errorf("KERNEL_SRC=%s has %d bytes, pin %s wants %d: truncated, or another file", b.Source, info.Size(), pin.Name, pin.Archive.Size)
	}
	return nil
}

// compilerID names compiler and binutils in one line.
func compilerID(ctx context.Context) (string, error) {
	var lines []string
	for _, tool := range []string{"gcc", "ld"} {
		cmd := exec.Command(tool, "--version")
		cmd.Env = cleanEnv()
		out, err := output(ctx, cmd)
		if err != nil {
			return "", err
		}
		line, _, _ := strings.Cut(string(out), "\n")
		lines = append(lines, line)
	}
	return strings.Join(lines, ", "), nil
}

// job is one build in a locked tree.
type job struct {
	*Builder
	spec     Spec
	variant  Variant
	tree     tree
	commit   string
	compiler string
	reused   bool
}

// buildingFile in an output folder says that a build is under way. One that is
// found there was killed, maybe while an object was half written with a new time
// stamp: such a folder cannot be trusted.
const buildingFile = ".patchproof-building"

// do configures and builds the commit, unless the store has the result, and returns the key.
func (j *job) do(ctx context.Context) (key string, err error) {
	started := time.Now()
	if err := checkoutCommit(ctx, j.tree.src(), j.commit); err != nil {
		return "", err
	}
	oid, err := git(ctx, j.tree.src(), "rev-parse", "--verify", "HEAD^{tree}")
	if err != nil {
		return "", err
	}
	out := j.tree.build(j.variant)
	marker := filepath.Join(out, buildingFile)
	if exists(marker) {
		if err := os.RemoveAll(out); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	logPath, log, err := j.openLog()
	if err != nil {
		return "", err
	}
	defer log.Close()
	if err := os.WriteFile(marker, nil, 0o644); err != nil {
		return "", err
	}
	defer func() {
		if !errors.Is(err, errKilled) {
			os.Remove(marker)
		}
	}()
	env, err := j.makeEnv(out)
	if err != nil {
		return "", err
	}
	m := &makeRun{src: j.tree.src(), out: out, jobs: j.jobs(), env: env, log: log, object: func(n int) {
		j.report(Progress{Kernel: j.spec.Name, Step: StepCompile, Done: int64(n), Total: int64(j.variant.Objects)})
	}}
	j.report(Progress{Kernel: j.spec.Name, Step: StepConfigure})
	config, err := j.config(ctx, m)
	if err != nil {
		return "", withLog(err, logPath)
	}
	key = hashOf(append([]string{oid, config, j.compiler, j.variant.Image}, recipe...)...)
	if _, ok := j.store().lookup(key); ok {
		j.reused = true
		return key, nil
	}
	m.object(0)
	if err := m.run(ctx, append(quirks(m.src, config), j.variant.Image)...); err != nil {
		return "", withLog(err, logPath)
	}
	image := filepath.Join(out, j.variant.Image)
	if j.variant.Image == "bzImage" {
		image = filepath.Join(out, "arch/x86/boot/bzImage")
	}
	r := record{
		Kernel: j.spec.Name, Variant: j.variant.Name, Image: j.variant.Image,
		Commit: j.commit, Tree: oid, ConfigHash: hashOf(config), Compiler: j.compiler,
		Objects: m.count, BuildS: time.Since(started).Seconds(),
	}
	files := map[string]string{
		j.variant.Image: image, "vmlinux": filepath.Join(out, "vmlinux"),
		"config": filepath.Join(out, ".config"), "System.map": filepath.Join(out, "System.map"), "build.log": logPath,
	}
	return key, j.store().add(key, r, files)
}

func (b *Builder) jobs() int {
	return cmp.Or(b.Jobs, runtime.NumCPU()+1)
}

// makeEnv is make's environment, with ccache between make and gcc when the host
// has it. Except for a tree's first build in a new store: nothing can hit then, and
// filling ccache's folder would add about 7% to the compile time that a user waits longest for.
//
// gcc is masked by a link called gcc (ccache(1), "Run modes") rather than by
// CC="ccache gcc", a change of which would make kbuild compile everything again.
func (j *job) makeEnv(out string) ([]string, error) {
	folder := filepath.Join(j.Cache, "ccache")
	ccache, err := exec.LookPath("ccache")
	if err != nil {
		return cleanEnv(), nil
	}
	if !exists(folder) && !exists(filepath.Join(out, "System.map")) {
		return cleanEnv(), nil
	}
	masks := filepath.Join(folder, "mask")
	if err := os.MkdirAll(masks, 0o755); err != nil {
		return nil, err
	}
	mask := filepath.Join(masks, "gcc")
	if target, err := os.Readlink(mask); err != nil || target != ccache {
		os.Remove(mask)
		if err := os.Symlink(ccache, mask); err != nil {
			return nil, err
		}
	}
	return cleanEnv(
		"PATH="+masks+string(os.PathListSeparator)+os.Getenv("PATH"),
		"CCACHE_DIR="+folder, "CCACHE_MAXSIZE=4G", "CCACHE_NOCOMPRESS=1",
		// A miss then runs no preprocessor of its own and reads no header twice.
		"CCACHE_DEPEND=1", "CCACHE_INODECACHE=1",
	), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (j *job) openLog() (string, *os.File, error) {
	path := filepath.Join(j.Cache, logsDir, fmt.Sprintf("%s-%s-%s.log", filepath.Base(j.tree.dir), j.variant.Name, j.spec.Name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", nil, err
	}
	f, err := os.Create(path)
	return path, f, err
}

// withLog adds the log's path to an error.
func withLog(err error, path string) error {
	var refused *BuildError
	if errors.As(err, &refused) {
		refused.Log = path
		return err
	}
	var config *ConfigError
	if errors.As(err, &config) {
		return err
	}
	return fmt.Errorf("%w\nlog: %s", err, path)
}
