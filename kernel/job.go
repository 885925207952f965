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
	"slices"
	"strings"
	"sync"
	"time"

	"patchproof/kernel/arch"
	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"
)

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
	sandbox sandbox.Box
	folder  *folder
	// options is the hash of the config that was made last.
	options string
}

// built are the folders, with commit, config and compiler, in which this process has built
// a kernel. What is in a folder is held to its hash before each build, so that the same
// would be built there again.
var built sync.Map

// place is what built knows a build by.
func (j *job) place(commit string) string {
	return hashOf(j.folder.dir, commit, j.options, j.compiler)
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
	if errors.Is(err, sandbox.ErrKilled) {
		// What marks the folder stays in it.
		return "", withLog(err, j.log.Name())
	}
	return key, withLog(errors.Join(err, j.folder.close()), j.log.Name())
}

// open prepares the log, the sandbox and the build folder.
func (j *job) open(ctx context.Context) (err error) {
	on, note, err := sandbox.Find(ctx, j.spec.trusted())
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
	j.sandbox = sandbox.Box{
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
		case err == nil || ctx.Err() != nil || errors.Is(err, sandbox.ErrKilled):
			return key, err
		case errors.As(err, &refused):
			if refused.ofFolder() && !j.folder.fresh {
				j.note("make lacks a file that an earlier source may have had; it is built once more in a new folder")
				if err := j.folder.renew(j.commit); err != nil {
					return "", err
				}
				continue
			}
			if !refused.saidBefore(said) {
				if said = refused; try <= tries {
					fmt.Fprintln(j.log, "+ once more, to see whether the same is said")
					continue
				}
				return "", &hostError{what: "the compiler says something else each time, at last: " + refused.Message, raise: "look at this machine's memory"}
			}
			refused.Kernel, refused.Patched = j.spec.Name, j.commit != j.tree.base
			if !refused.Patched {
				refused.Hint = j.hint(ctx, refused)
				return "", refused
			}
			err := j.acquit(ctx, refused)
			if !refused.BaseBuilt {
				refused.Hint = j.hint(ctx, refused)
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

// hint says what may be done about a source that does not build without a patch.
func (j *job) hint(ctx context.Context, refused *BuildError) string {
	if goal := cmp.Or(j.variant.Goal, tinyGoal); strings.Contains(refused.Message, fmt.Sprintf("No rule to make target '%s'", goal)) {
		return "every kernel's Makefile has " + goal + ", so this is the source of something else, or not all of one"
	}
	return j.tooNew(ctx)
}

// tooNew says what to do where the source may be too old for the compiler.
func (j *job) tooNew(ctx context.Context) string {
	makefile, err := git(ctx, j.tree.src(), "cat-file", "blob", j.commit+":Makefile")
	if err != nil {
		return ""
	}
	return tooNew(j.compiler, makefile)
}

// acquit builds the base in the folder that the patched source failed in, unless this
// process has done so with the same config. If it builds, the patch broke the build.
func (j *job) acquit(ctx context.Context, refused *BuildError) error {
	if _, ok := built.Load(j.place(j.tree.base)); ok {
		j.note(j.spec.Name + " does not build, said twice; its base was built in the same folder before")
		refused.BaseBuilt = true
		return refused
	}
	j.note(j.spec.Name + " does not build, said twice; its base is built in the same folder, to see whether the patch is to blame")
	_, err := j.make(ctx, j.tree.base, false)
	var also *BuildError
	switch {
	case err == nil:
		refused.BaseBuilt = true
		return refused
	case ctx.Err() != nil || errors.Is(err, sandbox.ErrKilled):
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
	m := &makeRun{src: j.tree.src(), out: j.folder.dir, jobs: j.jobs(), compiler: j.Compiler, sandbox: j.sandbox, log: j.log, object: func(n int) {
		j.report(Progress{Kernel: j.spec.Name, Step: StepCompile, Done: int64(n), Total: int64(j.variant.Objects)})
	}}
	j.report(Progress{Kernel: j.spec.Name, Step: StepConfigure})
	config, err := j.config(ctx, m, commit)
	if err != nil {
		return "", err
	}
	j.options = hashOf(config)
	modules, err := j.variant.modular(config)
	if err != nil {
		return "", err
	}
	key = kernelKey(oid, config, j.compiler, j.variant.Image, modules)
	if _, ok := j.store().find(key); ok && keep {
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
	files, err := j.made(config)
	if err != nil {
		return "", err
	}
	built.Store(j.place(commit), true)
	if modules {
		installed, err := m.installModules(ctx, config, j.tree.dir)
		for _, file := range installed {
			defer os.Remove(file)
		}
		if err != nil {
			return "", err
		}
		maps.Copy(files, installed)
	}
	if !keep {
		return key, nil
	}
	return key, j.keep(ctx, key, record{
		Kernel: j.spec.Name, Variant: j.variant.Name, Image: j.variant.Image,
		Commit: commit, Tree: oid, ConfigHash: hashOf(config), Compiler: j.compiler,
		Objects: m.count, BuildS: time.Since(started).Seconds(),
	}, files)
}

// made are the files that make has left, by their names in the store, if it is all that it
// should have.
func (j *job) made(config string) (map[string]string, error) {
	out := j.folder.dir
	files := map[string]string{
		"vmlinux": filepath.Join(out, "vmlinux"), "config": filepath.Join(out, ".config"),
		"System.map": filepath.Join(out, "System.map"), "build.log": j.log.Name(),
	}
	if now, err := regular.ReadFile(files["config"]); err != nil || string(now) != config {
		return nil, &hostError{what: "the .config in the build folder is not what it was resolved to before the build"}
	}
	// kbuild names the whole of a kernel last, so a linker that was cut off left none.
	if j.variant.Image == "bzImage" {
		files[j.variant.Image] = filepath.Join(out, arch.Target.BzImage)
	}
	for _, name := range []string{j.variant.Image, "vmlinux", "System.map"} {
		if info, err := os.Lstat(files[name]); err != nil || !info.Mode().IsRegular() || info.Size() == 0 && name != "System.map" {
			return nil, &hostError{what: "make says that all is well, but left no " + filepath.Base(files[name])}
		}
	}
	return files, nil
}

// keep puts a kernel into the store, with the places of its patches.
func (j *job) keep(ctx context.Context, key string, r record, files map[string]string) error {
	places := filepath.Join(j.tree.dir, touchedFile+tmpSuffix)
	defer os.Remove(places)
	written, err := j.symbols(j.spec, j.folder.dir, r.Commit).writeTouched(ctx, places)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		// A kernel is not less good for that; where its source is, the source is asked.
		j.note("the places of the patches are not stored: " + err.Error())
	case written:
		files[touchedFile] = places
	}
	return j.store().add(key, r, files)
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

// machinery says that a file of a kernel source decides what runs on the host when
// it is built: makefiles, options, scripts, programs that the build makes for itself.
func machinery(name string) bool {
	for _, dir := range []string{"scripts/", "tools/", "certs/", "usr/", "/tools/", "/boot/", "/entry/vdso/"} {
		if strings.HasPrefix(name, dir) || dir[0] == '/' && strings.Contains(name, dir) {
			return true
		}
	}
	base := filepath.Base(name)
	if strings.HasPrefix(base, "gen") || strings.HasPrefix(base, "mk") || strings.HasPrefix(base, "conmakehash") {
		return true
	}
	switch filepath.Ext(base) {
	case ".c", ".h", ".S", ".s", ".rst", ".txt", ".dts", ".dtsi", ".yaml":
		return false
	}
	return !strings.HasPrefix(name, "Documentation/")
}

// Trusted says that all kernels are of sources whose hash is pinned here.
func Trusted(specs []Spec) bool {
	return !slices.ContainsFunc(specs, func(s Spec) bool { return !s.trusted() })
}
