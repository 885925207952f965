package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/kernel"
	"patchproof/vmtest/initramfs"
)

// A fault is something that goes wrong around the harness. Whatever it is, the exit
// code must tell the truth, the message what to do, and the next run must succeed.
type fault struct {
	group, name string
	// want is what is expected, as docs/faults.md has it.
	want string
	// boots is set where a stored kernel is booted.
	boots bool
	run   func(b *box)
}

// TestFaults breaks things on purpose. FAULTS=all (make faults) runs all of them, and
// writes docs/faults.md where FAULTS_TABLE names it; otherwise half of those run that
// boot nothing.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	all := os.Getenv("FAULTS") == "all"
	outcomes := make(map[string]string)
	var mu sync.Mutex
	faults := slices.Concat(hostChecks(), buildFaults(), folderFaults(), storeFaults(), selftestFaults(), gitFaults(), hostFaults(), treeFaults(), killFaults(all), bootFaults())
	t.Run("all", func(t *testing.T) {
		for i, f := range faults {
			// The suite has time for half of them.
			if !all && (f.boots || i%2 == 1) {
				continue
			}
			t.Run(f.group+"/"+f.name, func(t *testing.T) {
				if !f.boots {
					t.Parallel()
				}
				outcome := "as expected"
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case t.Failed():
						outcome = "FAILS"
					case t.Skipped():
						outcome = "not tried here"
					}
					outcomes[f.group+"/"+f.name] = outcome
				}()
				f.run(newBox(t, f.boots))
			})
		}
	})
	if table := os.Getenv("FAULTS_TABLE"); table != "" {
		if err := writeFaults(table, faults, outcomes); err != nil {
			t.Error(err)
		}
	}
}

// writeFaults writes the table of all faults.
func writeFaults(file string, faults []fault, outcomes map[string]string) error {
	var b strings.Builder
	b.WriteString("# Faults\n\nWhat `make faults` breaks on purpose, what must come of it, and what came of it when this table was made, by the same command.\n" +
		"In each case the exit code must be right, the message must say what to do, nothing may be left behind, and the next run must succeed.\n\n" +
		"Two more kinds are broken by the tests of the packages that meet them: sources and mirrors in `kernel/fetch_test.go` and `kernel/source_test.go`, " +
		"kernels that die, hang, flood or never print and guests that lie or say nothing in `vmtest/harness_test.go`.\n\n" +
		"`make soak` runs 500 cells in a row on a machine with nothing else to do (`SOAK` for another number) and fails where memory, descriptors, " +
		"processes, temporary files or the cache grow, or a verdict differs.\n")
	group := ""
	for _, f := range faults {
		if f.group != group {
			group = f.group
			fmt.Fprintf(&b, "\n## %s\n\n| fault | expected | outcome |\n|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", f.name, f.want, outcomes[f.group+"/"+f.name])
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// box is a place of its own for one fault: a cache, a TMPDIR, and a small tree that
// builds as a kernel does, by real make and gcc.
type box struct {
	*testing.T
	dir, cache, tmp, tree string
	// good and bad are patches of the tree: one that builds and one that does not.
	good, bad string
	// env is what the command gets beside the usual.
	env []string
}

const fakeMakefile = `
VERSION = 5
PATCHLEVEL = 10
O ?= .
CC = gcc
all: vmlinux
tinyconfig:
	@printf 'CONFIG_KEPT=y\nCONFIG_OTHER=y\n' > $(O)/.config
olddefconfig:
	@grep . $(O)/.config > $(O)/.config.tmp; mv $(O)/.config.tmp $(O)/.config
vmlinux: $(O)/main.o $(O)/io_uring.o
	@cat $(O)/main.o $(O)/io_uring.o $(O)/.config > $(O)/vmlinux.tmp; cp $(O)/.config $(O)/System.map; mv $(O)/vmlinux.tmp $(O)/vmlinux
$(O)/main.o: main.c
	@echo '  CC      main.o'
	@$(CC) -c -o $@ $(CURDIR)/main.c
$(O)/io_uring.o: fs/io_uring.c
	@echo '  CC      fs/io_uring.o'
	@$(CC) -c -o $@ $(CURDIR)/fs/io_uring.c
`

// store is the suite's own cache.
func store() string {
	if dir := os.Getenv("CACHE"); dir != "" {
		return dir
	}
	dir, err := kernel.DefaultCache()
	if err != nil {
		panic(err)
	}
	return dir
}

// seed is the initramfs that boxes begin with.
var seed struct {
	sync.Once
	file string
	err  error
}

func newBox(t *testing.T, boots bool) *box {
	dir, err := os.MkdirTemp("", "pf-fault-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &box{T: t, dir: dir, cache: filepath.Join(dir, "cache"), tmp: filepath.Join(dir, "tmp"), tree: filepath.Join(dir, "tree")}
	for _, d := range []string{b.cache, b.tmp} {
		b.must(os.MkdirAll(d, 0o755))
	}
	b.write(filepath.Join(b.tree, "Makefile"), fakeMakefile)
	b.write(filepath.Join(b.tree, "main.c"), "int start(void) { return 0; }\n")
	b.write(filepath.Join(b.tree, "fs/io_uring.c"), "int cached;\n")
	b.write(filepath.Join(b.tree, "Kconfig"), "config KEPT\n\tbool \"kept\"\n")
	b.git("init", "-q")
	b.git("add", "-A")
	b.git("commit", "-qm", "tree")
	b.good = b.patch("good", "fs/io_uring.c", "int cached;\nconst char more[] = \"GOOD\";\n")
	b.bad = b.patch("bad", "fs/io_uring.c", "int cached;\n#error \"BAD\"\n")
	seed.Do(func() {
		seed.file, seed.err = initramfs.Build(context.Background(), store())
	})
	b.must(seed.err)
	text, err := os.ReadFile(seed.file)
	b.must(err)
	b.write(filepath.Join(b.cache, "initramfs", filepath.Base(seed.file)), string(text))
	if boots {
		b.warm()
	}
	return b
}

func (b *box) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *box) write(name, text string) {
	b.Helper()
	b.must(os.MkdirAll(filepath.Dir(name), 0o755))
	b.must(os.WriteFile(name, []byte(text), 0o644))
}

func (b *box) git(args ...string) string {
	b.Helper()
	cmd := exec.Command("git", append([]string{"-C", b.tree, "-c", "user.name=u", "-c", "user.email=u@localhost", "-c", "protocol.file.allow=always"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("git %v: %v: %s", args, err, out)
	}
	return string(out)
}

// patch makes a patch file of one changed file and leaves the tree as it was.
func (b *box) patch(name, file, text string) string {
	b.Helper()
	b.write(filepath.Join(b.tree, file), text)
	return b.commitAsPatch(name)
}

func (b *box) commitAsPatch(name string) string {
	b.Helper()
	b.git("add", "-Af")
	b.git("commit", "-qm", name)
	path := filepath.Join(b.dir, name+".patch")
	b.write(path, b.git("format-patch", "-q", "-1", "--stdout"))
	b.git("reset", "-q", "--hard", "HEAD~1")
	return path
}

// command is the harness with the box around it.
func (b *box) command(args ...string) *exec.Cmd {
	cmd := exec.Command("patchproof", args...)
	cmd.Dir = topFolder()
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains([]string{"KERNELS", "PROGRAMS", "TREE", "PATCH", "CACHE", "TMPDIR", "CI", "SANDBOX", "COUNT", "JOBS", "VARIANT"}, name) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "TERM=dumb", "CACHE="+b.cache, "TMPDIR="+b.tmp), b.env...)
	return cmd
}

func topFolder() string {
	root, err := kernel.Checkout()
	if err != nil {
		panic(err)
	}
	return root
}

// end is how a command ended: its exit code, -1 for a signal.
func (b *box) end(cmd *exec.Cmd) (int, string) {
	b.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.Fatal(err)
	}
	if strings.Contains(string(out), "goroutine ") {
		b.Errorf("it crashed:\n%s", out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// build builds the tree with a patch, or without one.
func (b *box) build(patch string) (int, string) {
	b.Helper()
	return b.end(b.buildCommand(patch))
}

func (b *box) buildCommand(patch string) *exec.Cmd {
	cmd := b.command("build")
	cmd.Env = append(cmd.Env, "TREE="+b.tree, "PATCH="+patch)
	if patch == "" {
		cmd.Env = append(cmd.Env, "KERNELS=base")
	}
	return cmd
}

// exits runs a build and holds it against an exit code and words of its message.
func (b *box) exits(code int, patch string, words ...string) string {
	b.Helper()
	got, log := b.build(patch)
	if got != code {
		b.Fatalf("exit code %d; want %d:\n%s", got, code, log)
	}
	for _, word := range words {
		if !regexp.MustCompile(word).MatchString(log) {
			b.Errorf("it does not say %q:\n%s", word, log)
		}
	}
	return log
}

var patchedLine = regexp.MustCompile(`(?m)^patched\t(.*)$`)

// image is the patched kernel that a build printed the path of.
func (b *box) image(log string) string {
	b.Helper()
	m := patchedLine.FindStringSubmatch(log)
	if m == nil {
		b.Fatalf("no patched kernel:\n%s", log)
	}
	return m[1]
}

// right builds the good patch and compares what comes out with what an untouched box
// makes of it; nothing may be left behind.
func (b *box) right() {
	b.Helper()
	path := b.image(b.exits(0, b.good))
	got, err := os.ReadFile(path)
	b.must(err)
	reference.Do(func() {
		other := newBox(b.T, false)
		_, log := other.build(other.good)
		reference.image, _ = os.ReadFile(other.image(log))
	})
	if !bytes.Equal(got, reference.image) {
		b.Errorf("the patched kernel is not what it is in an untouched box: %d and %d bytes", len(got), len(reference.image))
	}
	b.clean()
}

var reference struct {
	sync.Once
	image []byte
}

// clean looks for what a run must not leave.
func (b *box) clean() {
	b.Helper()
	left, _ := filepath.Glob(filepath.Join(b.tmp, "*"))
	// A library makes it in test binaries only (x/tools, modindex).
	left = slices.DeleteFunc(left, func(path string) bool { return filepath.Base(path) == "goimports" })
	for _, pattern := range []string{"*.tmp", "*/*.tmp", "trees/*/*.kept"} {
		more, _ := filepath.Glob(filepath.Join(b.cache, pattern))
		left = append(left, more...)
	}
	if len(left) > 0 {
		b.Errorf("left behind: %q", left)
	}
}

// one returns the only file that matches below the cache.
func (b *box) one(pattern string) string {
	b.Helper()
	files, err := filepath.Glob(filepath.Join(b.cache, pattern))
	if err != nil || len(files) != 1 {
		b.Fatalf("%s: %v, %v; want one file", pattern, files, err)
	}
	return files[0]
}

// patchedDir is the folder of the patched kernel in the store.
func (b *box) patchedDir() string {
	b.Helper()
	return filepath.Dir(b.image(b.exits(0, b.good)))
}

func copyTree(from, to string) {
	// A missing source is an empty cache.
	_ = os.CopyFS(to, os.DirFS(from))
}

// spoilings are ways in which a file comes to harm.
var spoilings = map[string]func(path string) error{
	"is empty":  func(path string) error { return os.Truncate(path, 0) },
	"is cut":    func(path string) error { return resize(path, func(n int64) int64 { return n / 2 }) },
	"is gone":   os.Remove,
	"has a bit": flip,
}

// others are what may lie in the place of a file.
var others = map[string]func(path string) error{
	"a pipe":            func(path string) error { return syscall.Mkfifo(path, 0o644) },
	"a folder":          func(path string) error { return os.MkdirAll(filepath.Join(path, "more"), 0o755) },
	"a link to nowhere": func(path string) error { return os.Symlink("/nowhere/to/be/found", path) },
}

func resize(path string, f func(int64) int64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, f(info.Size()))
}

// flip flips one bit in the middle of a file and keeps its date.
func flip(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return err
	}
	text[len(text)/2] ^= 2
	if err := os.WriteFile(path, text, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(path, info.ModTime(), info.ModTime())
}

// sayings are how compilers and other tools tell of what is not the patch's fault.
var sayings = []struct{ name, says string }{
	{"is terminated", "gcc: fatal error: Terminated signal terminated program cc1\ncompilation terminated."},
	{"is killed for memory", "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated."},
	{"gets no memory", "cc1: out of memory allocating 65536 bytes after a total of 1081344 bytes"},
	{"gets no process", "gcc: fatal error: cannot execute 'cc1': vfork: Resource temporarily unavailable\ncompilation terminated."},
	{"gets no descriptor", "Fatal error: can't create fs/io_uring.o: Too many open files"},
	{"gets EIO for its output", "fs/io_uring.c:1:1: fatal error: error closing fs/io_uring.o: Input/output error"},
	{"gets EIO for its input", "fs/io_uring.c:2:10: fatal error: linux/fs.h: Input/output error"},
	{"gets ESTALE", "fs/io_uring.c:2:10: fatal error: linux/fs.h: Stale file handle"},
	{"finds the disk full", "/tmp/ccX.s: Fatal error: can't write 12 bytes to section .text of fs/io_uring.o: No space left on device"},
	{"finds its quota used up", "fs/io_uring.c:1:1: fatal error: error writing to /tmp/ccX.s: Disk quota exceeded"},
	{"finds a file system read-only", "Fatal error: can't create fs/io_uring.o: Read-only file system"},
	{"loses its temporary file", "Error: can't open /tmp/ccc0zfAh.s for reading: No such file or directory"},
	{"crashes", "gcc: internal compiler error: Segmentation fault signal terminated program cc1\nThe bug is not reproducible, so it is likely a hardware or OS problem."},
	{"crashes at a place", "fs/io_uring.c:1:1: internal compiler error: in expand_expr, at expr.c:1"},
	{"gets SIGBUS", "gcc: internal compiler error: Bus error signal terminated program cc1"},
	{"gets SIGILL", "gcc: internal compiler error: Illegal instruction signal terminated program as"},
	{"lacks its program", "gcc: fatal error: cannot execute 'cc1': execvp: No such file or directory"},
	{"lacks a library", "cc1: error while loading shared libraries: libmpc.so.3: cannot open shared object file: No such file or directory"},
	{"may not read a file", "fs/io_uring.c:2:10: fatal error: linux/fs.h: Permission denied"},
	{"leaves half a file to the assembler", "{standard input}: Assembler messages:\n{standard input}:5: Warning: end of file not at end of a line; newline inserted\n{standard input}:5: Error: unknown pseudo-op: `.lo'"},
	{"meets a cut object", "ld: fs/io_uring.o: file not recognized: file truncated"},
	{"says nothing", ""},
	{"says what nobody knows", "snafu"},
}

// compiler puts a gcc before the real one that fails for fs/io_uring.c as long as
// the file broken is there.
func (b *box) compiler(says string) {
	b.Helper()
	gcc, err := exec.LookPath("gcc")
	b.must(err)
	bin := filepath.Join(b.dir, "bin")
	b.write(filepath.Join(bin, "says"), says+"\n")
	b.write(filepath.Join(bin, "broken"), "")
	b.write(filepath.Join(bin, "gcc"), fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *fs/io_uring.c*) [ -e %s ] && { cat %s >&2; exit 1; };; esac\nexec %s \"$@\"\n",
		filepath.Join(bin, "broken"), filepath.Join(bin, "says"), gcc))
	b.must(os.Chmod(filepath.Join(bin, "gcc"), 0o755))
	b.env = append(b.env, "PATH="+bin+":"+os.Getenv("PATH"))
}

func buildFaults() []fault {
	var all []fault
	for _, s := range sayings {
		all = append(all, fault{group: "A build", name: "the compiler " + s.name, want: "exit 2, the patch is not blamed", run: func(b *box) {
			b.exits(0, "")
			b.compiler(s.says)
			log := b.exits(2, b.good, "could not be built|cannot be built|cannot write")
			if strings.Contains(log, "the patch broke it") {
				b.Errorf("the patch is blamed:\n%s", log)
			}
			b.env = nil
			b.right()
		}})
	}
	all = append(all, fault{group: "A build", name: "the compiler is terminated once", want: "exit 0 after a second try", run: func(b *box) {
		b.exits(0, "")
		b.compiler(sayings[0].says)
		cmd := b.buildCommand(b.good)
		var out bytes.Buffer
		cmd.Stdout = &onceSaid{&out, "is tried once more", func() { os.Remove(filepath.Join(b.dir, "bin", "broken")) }}
		cmd.Stderr = cmd.Stdout
		if err := cmd.Run(); err != nil {
			b.Fatalf("%v:\n%s", err, out.String())
		}
		b.env = nil
		b.right()
	}})
	for name, text := range map[string]struct{ file, text string }{
		"does not compile":             {"fs/io_uring.c", "int cached = missing;\n"},
		"has #error":                   {"fs/io_uring.c", "#error out of memory\n"},
		"includes what is not there":   {"fs/io_uring.c", "#include <linux/none.h>\n"},
		"breaks a makefile":            {"Makefile", fakeMakefile + "\n$(error snafu)\n"},
		"needs a file that is missing": {"Makefile", strings.Replace(fakeMakefile, "$(O)/io_uring.o: fs/io_uring.c", "$(O)/io_uring.o: fs/io_uring.c fs/none.c", 1)},
	} {
		all = append(all, fault{group: "A build", name: "the patch itself " + name, want: "exit 1, said twice, base builds after it", run: func(b *box) {
			b.exits(0, "")
			b.exits(1, b.patch("broken", text.file, text.text), "the patch broke it")
			b.right()
		}})
	}
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}

// onceSaid passes output on and calls then when a word has come by.
type onceSaid struct {
	text *bytes.Buffer
	word string
	then func()
}

func (o *onceSaid) Write(p []byte) (int, error) {
	n, err := o.text.Write(p)
	if o.then != nil && strings.Contains(o.text.String(), o.word) {
		o.then()
		o.then = nil
	}
	return n, err
}

func folderFaults() []fault {
	const pattern = "trees/tree-*/build-plain/"
	var all []fault
	add := func(name, want string, spoil func(b *box)) {
		all = append(all, fault{group: "The build folder", name: name, want: want, run: func(b *box) {
			b.exits(0, "")
			spoil(b)
			b.right()
		}})
	}
	for _, file := range []string{"io_uring.o", "main.o", ".config", ".patchproof-folder", ".patchproof-config"} {
		for how, spoil := range spoilings {
			add(file+" "+how, "made anew, the right kernel", func(b *box) { b.must(spoil(b.one(pattern + file))) })
		}
	}
	add("a file was put there", "made anew, the right kernel", func(b *box) { b.write(b.one("trees/tree-*/build-plain")+"/planted.o", "x") })
	add("a build in it was killed", "made anew, the right kernel", func(b *box) { b.write(b.one("trees/tree-*/build-plain")+"/.patchproof-building", "") })
	add("an option is lost from .config", "the option is back", func(b *box) {
		file := b.one(pattern + ".config")
		text, err := os.ReadFile(file)
		b.must(err)
		b.write(file, strings.Replace(string(text), "CONFIG_OTHER=y\n", "", 1))
	})
	for name, step := range map[string]time.Duration{"a day": 24 * time.Hour, "a second": time.Second, "a year": 365 * 24 * time.Hour} {
		add("the clock stepped back by "+name, "the patch is in the kernel", func(b *box) {
			date(b, b.one("trees/tree-*/build-plain"), time.Now().Add(step))
		})
		add("the clock stepped forward by "+name, "the patch is in the kernel", func(b *box) {
			date(b, b.one("trees/tree-*/build-plain"), time.Now().Add(-step))
		})
	}
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}

// date gives all files below a folder a date.
func date(b *box, dir string, to time.Time) {
	b.must(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, to, to))
	}))
}

func storeFaults() []fault {
	var all []fault
	for _, file := range []string{"vmlinux", "config", "System.map", "built.json"} {
		for how, spoil := range spoilings {
			all = append(all, fault{group: "The store", name: "a kernel's " + file + " " + how, want: "found before use, built again", run: func(b *box) {
				b.must(spoil(filepath.Join(b.patchedDir(), file)))
				b.right()
			}})
		}
	}
	for how, spoil := range spoilings {
		all = append(all, fault{group: "The store", name: "a request's record " + how, want: "found before use, made again", run: func(b *box) {
			b.patchedDir()
			files, _ := filepath.Glob(filepath.Join(b.cache, "requests", "*"))
			for _, file := range files {
				b.must(spoil(file))
			}
			b.right()
		}}, fault{group: "The store", name: "the initramfs " + how, want: "found before use, made again", run: func(b *box) {
			b.must(spoil(b.one("initramfs/*.cpio")))
			b.right()
			again, err := os.ReadFile(b.one("initramfs/*.cpio"))
			b.must(err)
			if first, err := os.ReadFile(seed.file); err != nil || !bytes.Equal(first, again) {
				b.Errorf("the initramfs is not what it was: %d bytes, %v", len(again), err)
			}
		}})
	}
	for what, put := range others {
		all = append(all, fault{group: "The store", name: what + " is in the place of a file", want: "found before use, made again", run: func(b *box) {
			for _, pattern := range []string{"kernels/*/built.json", "requests/*", "trees/*.lock", "trees/*/src", "logs/*"} {
				b.patchedDir()
				files, _ := filepath.Glob(filepath.Join(b.cache, pattern))
				for _, file := range files {
					b.must(os.RemoveAll(file))
					b.must(put(file))
				}
				if len(files) == 0 {
					b.Errorf("there is no %s", pattern)
				}
				b.exits(0, b.patch(filepath.Base(pattern), "main.c", "int other;\n"))
			}
			b.right()
		}})
	}
	swap := func(b *box, pattern string) {
		b.patchedDir()
		paths, err := filepath.Glob(filepath.Join(b.cache, pattern))
		b.must(err)
		if len(paths) != 2 {
			b.Fatalf("%s are %v; want base's and patched's", pattern, paths)
		}
		b.must(unix.Renameat2(unix.AT_FDCWD, paths[0], unix.AT_FDCWD, paths[1], unix.RENAME_EXCHANGE))
	}
	all = append(all, fault{group: "The store", name: "two kernels have changed places", want: "found before use, built again", run: func(b *box) {
		swap(b, "kernels/*")
		b.right()
	}}, fault{group: "The store", name: "two requests' records have changed places", want: "found before use, made again", run: func(b *box) {
		swap(b, "requests/*")
		b.right()
	}})
	all = append(all, fault{group: "The store", name: "unfinished files of a dead run", want: "removed by the next run", run: func(b *box) {
		b.write(filepath.Join(b.cache, "kernels", "1.tmp", "vmlinux"), "half")
		b.write(filepath.Join(b.cache, "2.tmp"), "half")
		b.write(filepath.Join(b.cache, "requests", "3.tmp"), "half")
		b.right()
	}})
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}

// fakeSelftests builds a target as the kernel's makefile does, one test by the compiler.
const fakeSelftests = `
install:
	@mkdir -p $(KSFT_INSTALL_PATH)/size
	@printf 'int main(void) { return 0; }' >$(KSFT_INSTALL_PATH)/t.c; gcc -o $(KSFT_INSTALL_PATH)/size/test $(KSFT_INSTALL_PATH)/t.c; rm $(KSFT_INSTALL_PATH)/t.c
	@printf '\043!/bin/sh\nexit 0\n' >$(KSFT_INSTALL_PATH)/size/run.sh; chmod 755 $(KSFT_INSTALL_PATH)/size/run.sh
	@printf 'size:test\nsize:run.sh\n' >$(KSFT_INSTALL_PATH)/kselftest-list.txt
`

// selftestFaults damage a stored build of kselftest's.
func selftestFaults() []fault {
	spoilings := map[string]func(dir string) error{
		"a test of it has a bit":    func(dir string) error { return flip(filepath.Join(dir, "size/test")) },
		"a test of it is cut":       func(dir string) error { return spoilings["is cut"](filepath.Join(dir, "size/test")) },
		"a test of it is gone":      func(dir string) error { return os.Remove(filepath.Join(dir, "size/run.sh")) },
		"a test of it may not run":  func(dir string) error { return os.Chmod(filepath.Join(dir, "size/run.sh"), 0o644) },
		"its list is cut":           func(dir string) error { return spoilings["is cut"](filepath.Join(dir, "kselftest-list.txt")) },
		"a file was put there":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "size/more"), nil, 0o755) },
		"it was stored without sum": func(dir string) error { return os.Remove(filepath.Join(dir, ".sum")) },
	}
	var all []fault
	for name, spoil := range spoilings {
		all = append(all, fault{group: "A stored kselftest", name: name, want: "found before use, built again", run: func(b *box) {
			b.write(filepath.Join(b.tree, "Makefile"), fakeMakefile+"headers:\n\t@mkdir -p $(O)/usr/include\n")
			b.write(filepath.Join(b.tree, "tools/testing/selftests/Makefile"), fakeSelftests)
			b.git("add", "-A")
			b.git("commit", "-qm", "selftests")
			lineup, err := kernel.Load()
			b.must(err)
			specs, _, err := lineup.Resolve(kernel.Selection{Tree: b.tree, Kernels: []string{"base"}})
			b.must(err)
			var said []string
			builder := kernel.Builder{Cache: b.cache, Progress: func(p kernel.Progress) { said = append(said, p.Step) }}
			build := func(wanted int) string {
				b.Helper()
				said = nil
				s, err := builder.Selftests(b.Context(), specs[0], []string{"size"})
				b.must(err)
				builds := 0
				for _, step := range said {
					if strings.Contains(step, "building kselftest") {
						builds++
					}
				}
				if builds != wanted {
					b.Errorf("%d builds; want %d: %q", builds, wanted, said)
				}
				text, err := exec.Command("sh", "-c", "cd $0 && size/test && size/run.sh && find . -type f -printf '%P %m\\n' | sort && cat size/* kselftest-list.txt", s.Dir).CombinedOutput()
				if err != nil {
					b.Errorf("%v: %s", err, text)
				}
				return s.Dir + string(text)
			}
			whole := build(1)
			if again := build(0); again != whole {
				b.Error("the stored build is not what was built")
			}
			b.must(spoil(b.one("selftests/*")))
			if again := build(1); again != whole {
				b.Error("what was built again is not what was built first")
			}
			build(0)
			b.clean()
		}})
	}
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}

func gitFaults() []fault {
	var all []fault
	add := func(name string, spoil func(b *box, git string)) {
		all = append(all, fault{group: "A git repository of the cache", name: name, want: "made again", run: func(b *box) {
			b.exits(0, b.patch("first", "main.c", "int first;\n"))
			spoil(b, b.one("trees/tree-*/src/.git"))
			b.right()
		}})
	}
	for _, file := range []string{"index", "HEAD", "config", "objects/info/alternates"} {
		for how, spoil := range spoilings {
			if how == "has a bit" && file == "config" {
				// Not every word of it matters.
				continue
			}
			add(file+" "+how, func(b *box, git string) { b.must(spoil(filepath.Join(git, file))) })
		}
	}
	add("index.lock is left", func(b *box, git string) { b.write(filepath.Join(git, "index.lock"), "") })
	add("HEAD is a pipe", func(b *box, git string) {
		b.must(os.Remove(filepath.Join(git, "HEAD")))
		b.must(others["a pipe"](filepath.Join(git, "HEAD")))
	})
	add("git am was killed", func(b *box, git string) { b.write(filepath.Join(git, "rebase-apply", "next"), "1\n") })
	add("all refs are empty", func(b *box, git string) {
		b.must(filepath.WalkDir(filepath.Join(git, "refs"), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			return os.Truncate(path, 0)
		}))
	})
	add("its objects are empty", func(b *box, git string) {
		b.must(filepath.WalkDir(filepath.Join(git, "objects"), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(path, "info") {
				return err
			}
			return errors.Join(os.Chmod(path, 0o644), os.Truncate(path, 0))
		}))
	})
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}

func hostFaults() []fault {
	environment := func(name, want string, code int, words string, env func(b *box) []string) fault {
		return fault{group: "The host", name: name, want: want, run: func(b *box) {
			b.env = env(b)
			b.exits(code, b.good, words)
			b.env = nil
			b.right()
		}}
	}
	all := []fault{
		environment("SANDBOX is mistyped", "exit 2, it says what it may be", 2, "want on or off", func(*box) []string { return []string{"SANDBOX=of"} }),
		environment("CI with SANDBOX=off", "exit 2, refused", 2, "refused in CI", func(*box) []string { return []string{"SANDBOX=off", "CI=true"} }),
		environment("SANDBOX=off", "exit 0", 0, "", func(*box) []string { return []string{"SANDBOX=off"} }),
		environment("bubblewrap does not work", "exit 2, it asks for SANDBOX=off", 2, "SANDBOX=off", func(b *box) []string {
			bin := filepath.Join(b.dir, "bin")
			b.write(filepath.Join(bin, "bwrap"), "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
			b.must(os.Chmod(filepath.Join(bin, "bwrap"), 0o755))
			return []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
		}),
		environment("no HOME", "exit 0", 0, "", func(b *box) []string {
			return []string{"HOME=", "GOPATH=" + goEnv("GOPATH"), "GOCACHE=" + goEnv("GOCACHE")}
		}),
		environment("a strange locale", "exit 0", 0, "", func(*box) []string { return []string{"LC_ALL=tr_TR.UTF-8", "LANGUAGE=de"} }),
		environment("make's own variables", "exit 0", 0, "", func(*box) []string { return []string{"MAKEFLAGS=-k -i", "GNUMAKEFLAGS=-n"} }),
		environment("git's own variables", "exit 0", 0, "", func(*box) []string {
			return []string{"GIT_DIR=/nowhere", "GIT_WORK_TREE=/nowhere", "GIT_INDEX_FILE=/nowhere"}
		}),
		environment("the cache's folder is a file", "exit 2, it names CACHE", 2, "CACHE", func(b *box) []string {
			b.write(filepath.Join(b.dir, "file"), "")
			return []string{"CACHE=" + filepath.Join(b.dir, "file")}
		}),
		environment("a file of the user's is where the cache has a folder", "exit 2, it names the file and CACHE", 2, "own/kernels is not a folder.*CACHE", func(b *box) []string {
			b.write(filepath.Join(b.dir, "own", "kernels"), "")
			return []string{"CACHE=" + filepath.Join(b.dir, "own")}
		}),
		environment("gcc is missing", "exit 2, it names the package", 2, "gcc", func(b *box) []string {
			return []string{"PATH=" + b.pathWithout("gcc", "cc", "apt-get")}
		}),
		{group: "The host", name: "the cache is behind a link", want: "exit 0", run: func(b *box) {
			link := filepath.Join(b.dir, "link")
			b.must(os.Symlink(b.cache, link))
			b.env = []string{"CACHE=" + link}
			b.exits(0, b.good)
			b.env = nil
			b.right()
		}},
		{group: "The host", name: "umask 077", want: "exit 0", run: func(b *box) {
			b.shell(0, "umask 077; exec patchproof build")
			b.right()
		}},
		{group: "The host", name: "stdout is closed", want: "ends in order, nothing is left", run: func(b *box) {
			b.shell(-2, "exec patchproof build >&-")
			b.clean()
			b.right()
		}},
		{group: "The host", name: "stdout is on a full disk", want: "exit 2", run: func(b *box) {
			b.shell(2, "exec patchproof build >/dev/full")
			b.clean()
			b.right()
		}},
		{group: "The host", name: "nobody reads the output", want: "ends in order, nothing is left", run: func(b *box) {
			b.shell(-2, "patchproof build 2>&1 | true; sleep 1")
			b.right()
		}},
		{group: "The host", name: "too few descriptors", want: "exit 0 or 2, never 1", run: func(b *box) {
			b.exits(0, "")
			b.shell(-2, "ulimit -n 24; exec patchproof build", "ulimit -n")
			b.right()
		}},
		{group: "The host", name: "files may not grow", want: "exit 2", run: func(b *box) {
			b.exits(0, "")
			b.shell(2, "ulimit -f 2; exec patchproof build", "ulimit -f")
			b.right()
		}},
		{group: "The host", name: "several harnesses in one cache", want: "exit 0 each", run: func(b *box) {
			var group sync.WaitGroup
			for range 3 {
				group.Go(func() {
					if out, err := b.buildCommand(b.good).CombinedOutput(); err != nil {
						b.Errorf("%v:\n%s", err, out)
					}
				})
			}
			group.Wait()
			b.right()
		}},
		{group: "The host", name: "the cache is pruned during a build", want: "exit 0", run: func(b *box) {
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			var group sync.WaitGroup
			group.Go(func() {
				for ctx.Err() == nil {
					_ = b.command("cache", "gc").Run()
				}
			})
			b.exits(0, b.good)
			cancel()
			group.Wait()
			b.right()
		}},
	}
	for _, size := range []string{"20k", "200k", "500k", "2m"} {
		all = append(all, fault{group: "The host", name: "the cache's disk holds " + size, want: "exit 2, it asks for space", run: func(b *box) {
			if os.Getuid() != 0 {
				b.Skip("mounting needs root")
			}
			small := filepath.Join(b.dir, "small")
			b.must(os.MkdirAll(small, 0o755))
			if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size="+size); err != nil {
				b.Skip(err)
			}
			defer syscall.Unmount(small, syscall.MNT_DETACH)
			b.env = []string{"CACHE=" + small}
			b.exits(2, b.good, "[Ss]pace|CACHE")
			b.env = nil
			b.right()
		}})
	}
	for _, odd := range []string{"my cache", "a:b", "it's", `"cache"`, "(cache)", "cache;true", "$HOME", "a#b", "two\nlines", "50%"} {
		all = append(all, environment(fmt.Sprintf("the cache's folder is called %q", odd), "exit 2, it says why", 2, "kbuild cannot work", func(b *box) []string {
			return []string{"CACHE=" + filepath.Join(b.dir, odd)}
		}))
	}
	for name, odd := range map[string]string{
		"a blank": "my tree", "quotes": `it's "mine"`, "a newline": "two\nlines", "non-ASCII letters": "дерево-ツ", "a dollar sign": "$HOME", "a very long name": strings.Repeat("long", 50),
	} {
		all = append(all, fault{group: "The host", name: "the tree's and the patch's path have " + name, want: "exit 0", run: func(b *box) {
			tree := filepath.Join(b.dir, odd)
			b.must(os.Rename(b.tree, tree))
			b.tree = tree
			good := filepath.Join(b.dir, odd+".patch")
			b.must(os.Rename(b.good, good))
			b.good = good
			b.right()
		}})
	}
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}

func goEnv(name string) string {
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(out))
}

// shell runs a build of the good patch through a shell; code -2 is any but 1. Where it ends
// with 2, it says words.
func (b *box) shell(code int, script string, words ...string) {
	b.Helper()
	cmd := b.command()
	sh := exec.Command("sh", "-c", script)
	sh.Dir, sh.Env = cmd.Dir, append(cmd.Env, "TREE="+b.tree, "PATCH="+b.good)
	got, log := b.end(sh)
	if code == -2 && got == 1 || code >= 0 && got != code {
		b.Errorf("exit code %d; want %d:\n%s", got, code, log)
	}
	for _, word := range words {
		if got == 2 && !strings.Contains(log, word) {
			b.Errorf("it does not say %q:\n%s", word, log)
		}
	}
}

// treeFaults are trees and patches that want out of their folder.
func treeFaults() []fault {
	victim := func(b *box) string {
		dir := filepath.Join(b.dir, "victim")
		for _, sub := range []string{"config/file", "generated/file", "file"} {
			b.write(filepath.Join(dir, sub), "precious\n")
		}
		return dir
	}
	unharmed := func(b *box, dir string) {
		b.Helper()
		for _, sub := range []string{"config/file", "generated/file", "file"} {
			if text, err := os.ReadFile(filepath.Join(dir, sub)); err != nil || string(text) != "precious\n" {
				b.Errorf("%s = %q, %v; want it as it was", sub, text, err)
			}
		}
	}
	var all []fault
	for _, name := range []string{"include", "arch/x86/include", "arch/x86/include/generated", "include/config", ".config", "fs"} {
		for _, how := range []string{"tree", "patch"} {
			all = append(all, fault{group: "A tree that wants out", name: "a " + how + " in which " + name + " is a link outside", want: "nothing outside is touched", run: func(b *box) {
				dir := victim(b)
				link := filepath.Join(b.tree, name)
				b.must(os.RemoveAll(link))
				b.must(os.MkdirAll(filepath.Dir(link), 0o755))
				b.must(os.Symlink(dir, link))
				patch := b.commitAsPatch("link")
				if how == "tree" {
					b.must(os.RemoveAll(link))
					b.must(os.MkdirAll(filepath.Dir(link), 0o755))
					b.must(os.Symlink(dir, link))
					b.git("add", "-Af")
					b.git("commit", "-qm", "link")
					patch = ""
				}
				b.build(patch)
				unharmed(b, dir)
				if how == "patch" {
					b.right()
				}
			}})
		}
	}
	diff := func(name, text string) fault {
		return fault{group: "A tree that wants out", name: "a patch " + name, want: "exit 2, nothing outside is touched", run: func(b *box) {
			dir := victim(b)
			file := filepath.Join(b.dir, "evil.patch")
			b.write(file, strings.ReplaceAll(text, "DIR", dir))
			b.exits(2, file)
			unharmed(b, dir)
			for _, planted := range []string{"trees/planted", "trees/tree-*/planted", "trees/tree-*/src/.git/hooks/post-checkout"} {
				if found, _ := filepath.Glob(filepath.Join(b.cache, planted)); len(found) > 0 {
					b.Errorf("it planted %q", found)
				}
			}
			b.right()
		}}
	}
	create := func(path string) string {
		return "diff --git a/" + path + " b/" + path + "\nnew file mode 100755\n--- /dev/null\n+++ b/" + path + "\n@@ -0,0 +1 @@\n+planted\n"
	}
	all = append(all,
		diff("to ../planted", create("../planted")),
		diff("to ../../planted", create("fs/../../../planted")),
		diff("to an absolute path", create("/DIR/planted")),
		diff("to .git/hooks", create(".git/hooks/post-checkout")),
		diff("to .GIT/hooks", create(".GIT/hooks/post-checkout")),
		fault{group: "A tree that wants out", name: "a tree with filters in its attributes and configuration", want: "they do not run", run: func(b *box) {
			dir := victim(b)
			b.write(filepath.Join(b.tree, ".gitattributes"), "* filter=evil\n")
			b.git("add", "-A")
			b.git("commit", "-qm", "attributes")
			b.git("config", "filter.evil.smudge", "sh -c 'echo pwned >"+dir+"/file; cat'")
			b.git("config", "filter.evil.clean", "sh -c 'echo pwned >"+dir+"/file; cat'")
			b.git("config", "core.fsmonitor", "sh -c 'echo pwned >"+dir+"/file'")
			b.write(filepath.Join(b.tree, ".git/hooks/post-checkout"), "#!/bin/sh\necho pwned >"+dir+"/file\n")
			b.must(os.Chmod(filepath.Join(b.tree, ".git/hooks/post-checkout"), 0o755))
			now := time.Now().Add(time.Hour)
			b.must(os.Chtimes(filepath.Join(b.tree, "main.c"), now, now))
			b.exits(0, "")
			unharmed(b, dir)
		}},
		fault{group: "A tree that wants out", name: "a tree with a submodule", want: "it is not fetched, exit 0", run: func(b *box) {
			other := filepath.Join(b.dir, "other")
			b.must(os.CopyFS(other, os.DirFS(b.tree)))
			b.git("submodule", "--quiet", "add", other, "sub")
			b.git("commit", "-qm", "submodule")
			b.exits(0, "")
			if found, _ := filepath.Glob(filepath.Join(b.cache, "trees/tree-*/src/sub/*")); len(found) > 0 {
				b.Errorf("it was fetched: %q", found)
			}
		}},
	)
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}

// killFaults end the harness, or all that it started, at instants that a seed chooses.
func killFaults(all bool) []fault {
	instants := 8
	if all {
		instants = 50
	}
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
	var faults []fault
	for n := range instants {
		random := rand.New(rand.NewPCG(uint64(n), 20))
		signal := signals[n%len(signals)]
		part := random.Float64()
		whole := random.IntN(2) == 0
		who := "the harness"
		if whole {
			who = "all of it"
		}
		name := fmt.Sprintf("%s gets %v at %2.0f %% of a build (seed %d)", who, signalName(signal), 100*part, n)
		faults = append(faults, fault{group: "Killed", name: name, want: "the next run makes the right kernel, nothing is left", run: func(b *box) {
			started := time.Now()
			b.exits(0, "")
			whole1 := time.Since(started)
			cmd := b.buildCommand(b.good)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			b.must(cmd.Start())
			time.Sleep(time.Duration(part * float64(whole1)))
			target := cmd.Process.Pid
			if whole {
				target = -target
			}
			// It may have ended already.
			_ = syscall.Kill(target, signal)
			_ = cmd.Wait()
			b.right()
		}})
	}
	return faults
}

func signalName(s syscall.Signal) string { return unix.SignalName(s) }
