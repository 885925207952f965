package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"patchproof/kernel/arch"
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

// Lacks returns the first of the options, without CONFIG_, that is not built in.
func (b *Built) Lacks(options []string) (string, error) {
	if len(options) == 0 {
		return "", nil
	}
	config, err := os.ReadFile(b.Config)
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
		if err := checkKernel(ctx, t, spec, t.base); err != nil {
			return err
		}
		commit, err := b.apply(ctx, t, spec)
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
	if r.SHA256[modulesFile] != "" {
		built.Modules = filepath.Join(dir, modulesFile)
	}
	for _, p := range spec.Patches() {
		built.PatchIDs = append(built.PatchIDs, p.ID())
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

// job is one build in a locked tree.
type job struct {
	*Builder
	spec     Spec
	variant  Variant
	tree     tree
	commit   string
	compiler string
	reused   bool

	log     *os.File
	sandbox Sandbox
	folder  *folder
}

// tries is how often a build is tried that fails for a reason that is not the source's.
const tries = 2

// do configures and builds the commit, unless the store has the result, and returns the key.
func (j *job) do(ctx context.Context) (key string, err error) {
	if err := j.open(ctx); err != nil {
		return "", err
	}
	defer j.log.Close()
	key, err = j.build(ctx)
	if errors.Is(err, errKilled) {
		// What marks the folder stays in it.
		return "", withLog(err, j.log.Name())
	}
	return key, withLog(errors.Join(err, j.folder.close()), j.log.Name())
}

// open prepares the log, the sandbox and the build folder.
func (j *job) open(ctx context.Context) (err error) {
	on, note, err := FindSandbox(ctx, j.spec.trusted())
	if err != nil {
		return fmt.Errorf("kernel %s: %w", j.spec.Name, err)
	}
	if note != "" {
		j.note(note)
	}
	if j.log, err = j.openLog(); err != nil {
		return err
	}
	out := j.tree.build(j.variant, j.Compiler)
	if j.variant.Goal == "" {
		err = seed(ctx, out, j.tree.plainBuild(j.variant, j.Compiler))
	}
	if err == nil {
		j.folder, note, err = openFolder(out)
	}
	if err == nil && note != "" {
		j.note(fmt.Sprintf("the build folder of %s is made anew: %s", j.variant.Name, note))
	}
	j.sandbox = Sandbox{
		On: on, Show: append(j.Compiler.folders(), j.tree.src()), Write: []string{out},
		Temp: filepath.Join(out, scratchDir),
	}
	var powerful []string
	if err == nil && !j.spec.trusted() {
		powerful, err = j.machinery(ctx)
	}
	if err == nil && len(powerful) > 0 {
		more := ""
		if len(powerful) > 3 {
			powerful, more = powerful[:3], fmt.Sprintf(" and %d more", len(powerful)-3)
		}
		where := "in the sandbox"
		if !on {
			where = "as this user, without a sandbox"
		}
		j.note(fmt.Sprintf("the patch changes what runs when the kernel is built (%s%s); that runs %s", strings.Join(powerful, ", "), more, where))
		err = j.folder.borrow(ctx)
	}
	// What a stranger's makefile puts there would come out of it for others.
	if err == nil && j.spec.Tree == "" && len(powerful) == 0 {
		err = j.useCCache()
	}
	if err != nil {
		j.log.Close()
	}
	return err
}

// note tells the user something in one line, and the log.
func (j *job) note(text string) {
	j.report(Progress{Step: "note: " + text})
	if j.log != nil {
		fmt.Fprintln(j.log, "note:", text)
	}
}

// trusted says that all of a kernel's source is pinned by its hash or comes with the
// checkout. The kernels with a part of the user's patches have names that begin as the
// one with all.
func (s Spec) trusted() bool { return s.Tree == "" && !strings.HasPrefix(s.Name, Patched) }

// machinery returns what the patches change of that which runs on the host.
func (j *job) machinery(ctx context.Context) ([]string, error) {
	names, err := changedFiles(ctx, j.tree.src(), j.tree.base, j.commit)
	return slices.DeleteFunc(names, func(name string) bool { return !machinery(name) }), err
}

// build makes the commit. What fails for a reason that is not the source's is tried
// once more from nothing. What the compiler says about the source must be said twice,
// and the base be built after it in the same folder, before it counts.
func (j *job) build(ctx context.Context) (key string, err error) {
	var said *BuildError
	for try := 1; ; try++ {
		key, err = j.make(ctx, j.commit, true)
		var refused *BuildError
		var host *hostError
		switch {
		case err == nil || ctx.Err() != nil || errors.Is(err, errKilled):
			return key, err
		case errors.As(err, &refused):
			if !refused.saidBefore(said) {
				if said = refused; try <= tries {
					fmt.Fprintln(j.log, "+ once more, to see whether the same is said")
					continue
				}
				return "", &hostError{what: "the compiler says something else each time, at last: " + refused.Message, raise: "look at this machine's memory"}
			}
			refused.Kernel, refused.Patched = j.spec.Name, j.commit != j.tree.base
			if !refused.Patched {
				refused.Hint = j.tooNew(ctx)
				return "", refused
			}
			err := j.acquit(ctx, refused)
			if !refused.BaseBuilt {
				refused.Hint = j.tooNew(ctx)
			}
			return "", err
		case errors.As(err, &host):
			if host.final || try >= tries {
				if hint := j.tooNew(ctx); hint != "" && host.unknown {
					host.raise = hint
				}
				return "", fmt.Errorf("kernel %s could not be built, which says nothing about its source: %w", j.spec.Name, err)
			}
			j.note("the build failed for a reason that is not the source's and is tried once more: " + host.what)
			if host.fewer {
				j.Builder = j.fewerJobs()
			}
			if err := j.folder.renew(j.commit); err != nil {
				return "", err
			}
		default:
			return "", err
		}
	}
}

// tooNew says what to do where the source may be too old for the compiler.
func (j *job) tooNew(ctx context.Context) string {
	makefile, err := git(ctx, j.tree.src(), "cat-file", "blob", j.commit+":Makefile")
	if err != nil {
		return ""
	}
	return tooNew(j.compiler, makefile)
}

// acquit builds the base in the folder that the patched source failed in. If it
// builds, the patch broke the build.
func (j *job) acquit(ctx context.Context, refused *BuildError) error {
	j.note(j.spec.Name + " does not build, said twice; its base is built in the same folder, to see whether the patch is to blame")
	_, err := j.make(ctx, j.tree.base, false)
	var also *BuildError
	switch {
	case err == nil:
		refused.BaseBuilt = true
		return refused
	case ctx.Err() != nil || errors.Is(err, errKilled):
		return err
	case !errors.As(err, &also):
		return fmt.Errorf("kernel %s could not be built, and its base cannot be built now either: %w", j.spec.Name, err)
	}
	// Maybe the folder is bad.
	if err := j.folder.renew(j.tree.base); err != nil {
		return err
	}
	_, err = j.make(ctx, j.tree.base, false)
	if errors.As(err, &also) {
		// What the patched source's compiler said comes first: it may be another error.
		also.Kernel = "base of " + j.spec.Name
		return errors.Join(refused, err)
	}
	if err != nil {
		return err
	}
	_, err = j.make(ctx, j.commit, true)
	if errors.As(err, &also) {
		refused.BaseBuilt = true
		return refused
	}
	return err
}

func (b *Builder) fewerJobs() *Builder {
	fewer := *b
	fewer.Jobs = max(1, b.jobs()/2)
	return &fewer
}

// make checks a commit out, configures and compiles it, and puts it into the store
// where that is asked for.
func (j *job) make(ctx context.Context, commit string, keep bool) (key string, err error) {
	started := time.Now()
	if err := checkoutCommit(ctx, j.tree.src(), commit); err != nil {
		return "", err
	}
	oid, err := git(ctx, j.tree.src(), "rev-parse", "--verify", "HEAD^{tree}")
	if err != nil {
		return "", err
	}
	if err := j.folder.date(ctx, j.tree.src(), commit); err != nil {
		return "", err
	}
	out := j.folder.dir
	m := &makeRun{src: j.tree.src(), out: out, jobs: j.jobs(), compiler: j.Compiler, sandbox: j.sandbox, log: j.log, object: func(n int) {
		j.report(Progress{Kernel: j.spec.Name, Step: StepCompile, Done: int64(n), Total: int64(j.variant.Objects)})
	}}
	j.report(Progress{Kernel: j.spec.Name, Step: StepConfigure})
	config, err := j.config(ctx, m, commit)
	if err != nil {
		return "", err
	}
	modules, err := j.variant.modular(config)
	if err != nil {
		return "", err
	}
	key = kernelKey(oid, config, j.compiler, j.variant.Image, modules)
	if _, ok := j.store().lookup(key); ok && keep {
		j.reused = true
		return key, nil
	}
	m.object(0)
	targets := append(quirks(m.src, config), j.variant.Image)
	if modules {
		targets = append(targets, "modules")
	}
	if err := m.run(ctx, targets...); err != nil {
		return "", err
	}
	if now, err := os.ReadFile(filepath.Join(out, ".config")); err != nil || string(now) != config {
		return "", &hostError{what: "the .config in the build folder is not what it was resolved to before the build"}
	}
	// kbuild names the whole of a kernel last, so a linker that was cut off left none.
	image := filepath.Join(out, j.variant.Image)
	if j.variant.Image == "bzImage" {
		image = filepath.Join(out, arch.Target.BzImage)
	}
	symbols := filepath.Join(out, "System.map")
	for _, file := range []string{image, filepath.Join(out, "vmlinux"), symbols} {
		if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() || info.Size() == 0 && file != symbols {
			return "", &hostError{what: fmt.Sprintf("make says that all is well, but left no %s", filepath.Base(file))}
		}
	}
	var installed map[string]string
	if modules {
		installed, err = m.installModules(ctx, config, j.tree.dir)
		for _, file := range installed {
			defer os.Remove(file)
		}
		if err != nil {
			return "", err
		}
	}
	if !keep {
		return key, nil
	}
	r := record{
		Kernel: j.spec.Name, Variant: j.variant.Name, Image: j.variant.Image,
		Commit: commit, Tree: oid, ConfigHash: hashOf(config), Compiler: j.compiler,
		Objects: m.count, BuildS: time.Since(started).Seconds(),
	}
	files := map[string]string{
		j.variant.Image: image, "vmlinux": filepath.Join(out, "vmlinux"),
		"config": filepath.Join(out, ".config"), "System.map": filepath.Join(out, "System.map"), "build.log": j.log.Name(),
	}
	maps.Copy(files, installed)
	places := filepath.Join(j.tree.dir, touchedFile+tmpSuffix)
	defer os.Remove(places)
	written, err := j.symbols(j.spec, j.folder.dir, commit).writeTouched(ctx, places)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		// A kernel is not less good for that; where its source is, the source is asked.
		j.note("the places of the patches are not stored: " + err.Error())
	case written:
		files[touchedFile] = places
	}
	return key, j.store().add(key, r, files)
}

func (b *Builder) jobs() int {
	return cmp.Or(b.Jobs, runtime.NumCPU()+1)
}

// useCCache puts ccache between make and the compiler when the host has it. Except for a
// tree's first build in a new store: nothing can hit then, and filling ccache's folder
// would add about 7% to the compile time that a user waits longest for.
//
// The compiler is masked by a link of its name (ccache(1), "Run modes") rather than by
// CC="ccache gcc", a change of which would make kbuild compile everything again.
func (j *job) useCCache() error {
	folder := filepath.Join(j.Cache, "ccache")
	ccache, err := exec.LookPath("ccache")
	if err != nil {
		return nil
	}
	if filepath.IsAbs(j.Compiler.command()) {
		return nil
	}
	if !j.Compiler.CCache && !exists(folder) && !exists(filepath.Join(j.folder.dir, "System.map")) {
		return nil
	}
	masks := filepath.Join(folder, "mask")
	if err := os.MkdirAll(masks, 0o755); err != nil {
		return err
	}
	mask := filepath.Join(masks, j.Compiler.command())
	if target, err := os.Readlink(mask); err != nil || target != ccache {
		os.Remove(mask)
		if err := os.Symlink(ccache, mask); err != nil {
			return err
		}
	}
	j.sandbox.Write = append(j.sandbox.Write, folder)
	j.sandbox.Env = append(j.sandbox.Env,
		"PATH="+masks+string(os.PathListSeparator)+os.Getenv("PATH"),
		"CCACHE_DIR="+folder, "CCACHE_MAXSIZE=4G", "CCACHE_NOCOMPRESS=1",
		// A miss then runs no preprocessor of its own and reads no header twice.
		"CCACHE_DEPEND=1", "CCACHE_INODECACHE=1",
	)
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (j *job) openLog() (*os.File, error) {
	path := filepath.Join(j.Cache, logsDir, fmt.Sprintf("%s-%s-%s.log", filepath.Base(j.tree.dir), j.variant.Name, j.spec.Name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.Create(path)
}

// withLog adds the log's path to an error.
func withLog(err error, path string) error {
	if err == nil {
		return nil
	}
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
