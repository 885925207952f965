package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/kernel"
)

// withoutCalls are what the command "without" has the kernel refuse, by name.
var withoutCalls = map[string]struct {
	calls []uint32
	errno unix.Errno
}{
	"locks":   {[]uint32{unix.SYS_FLOCK}, unix.ENOLCK},
	"renames": {[]uint32{unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2}, unix.EXDEV},
	"links":   {[]uint32{unix.SYS_SYMLINK, unix.SYS_SYMLINKAT}, unix.EPERM},
}

// without runs a command whose system calls of a kind are refused, as a file system
// refuses them that cannot do it: without locks patchproof build.
func without() {
	refused := withoutCalls[os.Args[1]]
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for _, call := range refused.calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(refused.errno)})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		// For all threads: whichever runs exec.
		if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
			err = errno
		}
	}
	path, lookErr := exec.LookPath(os.Args[2])
	if err == nil && lookErr == nil {
		err = unix.Exec(path, os.Args[2:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "without:", err, lookErr)
	os.Exit(3)
}

// hostChecks are what would stop a run and is found before anything is fetched or built.
// Each has its case here.
func hostChecks() []fault {
	const group = "Found before anything is built"
	var all []fault
	// add runs a shell script as root in a mount namespace of its own, in which
	// "patchproof" must refuse with the words before it has built anything.
	add := func(name, script string, words ...string) {
		all = append(all, fault{group: group, name: name, want: "exit 2, the cure, nothing built", run: func(b *box) {
			log := b.inNamespace(2, script)
			for _, word := range words {
				if !strings.Contains(log, word) {
					b.Errorf("it does not say %q:\n%s", word, log)
				}
			}
			b.nothingBuilt(log)
			b.env = nil
			b.right()
		}})
	}
	// works runs a script that must not be stopped.
	works := func(name, script string) {
		all = append(all, fault{group: group, name: name, want: "exit 0: it is not needed", run: func(b *box) {
			b.exits(0, b.good)
			b.inNamespace(0, script)
			b.right()
		}})
	}
	const small = "mount -t tmpfs -o size=$1 none $2"
	add("the cache's disk is mounted noexec", "mount -t tmpfs -o noexec none $CACHE; patchproof build", "noexec", "set CACHE to a folder")
	add("the cache's disk is mounted read-only", "mount -t tmpfs -o ro none $CACHE; patchproof build", "CACHE=", "read-only file system; mount its disk for writing")
	add("the cache's disk has no locks", "without locks patchproof build", "cannot be locked", "set CACHE to a folder")
	add("the cache's disk has no renames", "without renames patchproof build", "cannot be renamed", "set CACHE to a folder")
	add("the cache's disk has no links", "without links patchproof build", "no symbolic links", "set CACHE to a folder")
	add("the cache's folder may not be written", "chmod 755 $CACHE; exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all patchproof build", "CACHE=", "cannot be written: permission denied; let this user write there, or set CACHE")
	add("TMPDIR is mounted read-only", "mount -t tmpfs -o ro none $TMPDIR; TEST=/bin/true patchproof vmtest", "TMPDIR=", "read-only file system; mount its disk for writing, or set TMPDIR")
	add("TMPDIR has no room for the guests' disks", "set -- 2m $TMPDIR; "+small+"; TEST=/bin/true DISK=64M patchproof vmtest", "TMPDIR=", "the disks of a guest take 64 MiB")
	add("results/out is mounted read-only", "mount -t tmpfs -o ro none results/out; TEST=/bin/true patchproof vmtest", "results/out cannot be written", "read-only")
	add("results/out has no room", "set -- 100k results/out; "+small+"; TEST=/bin/true patchproof vmtest", "KiB free, and the record of a run takes")
	add("results/out/latest is a folder", "mount -t tmpfs none results/out; mkdir results/out/latest; TEST=/bin/true patchproof vmtest", "results/out/latest is a folder", "move it away")
	add("there is no /dev/ptmx", "mount --bind /dev/null /dev/ptmx; TEST=/bin/true patchproof vmtest", "no pseudo-terminal", "devpts")
	add("no sandbox can be had", `printf '#!/bin/sh\nexit 1\n' >$TMPDIR/../bwrap; chmod 755 $TMPDIR/../bwrap; PATH=$(dirname $TMPDIR):$PATH patchproof build`, "no sandbox", "SANDBOX=off")
	for _, tool := range []string{"qemu-system-x86_64", "flex", "xz", "make", "bwrap"} {
		all = append(all, fault{group: group, name: tool + " is missing", want: "exit 2, the package, nothing built", run: func(b *box) {
			b.env = []string{"PATH=" + b.pathWithout(tool, "apt-get")}
			log := b.exits(2, b.good, "missing: "+tool+" ")
			b.nothingBuilt(log)
			b.env = nil
			b.right()
		}})
	}
	works("the cache's disk is mounted noexec, and has the kernel", "mount --bind $CACHE $CACHE; mount -o remount,bind,noexec $CACHE; patchproof build")
	works("there is no /dev/ptmx, and nothing is booted", "mount --bind /dev/null /dev/ptmx; ACCEL=tcg patchproof build")
	works("results/out is mounted read-only, and nothing is recorded", "mount -t tmpfs -o ro none results/out; patchproof build")
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}

// inNamespace runs a script with what it mounts seen by nobody else, for the good patch.
func (b *box) inNamespace(code int, script string) string {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("mounting needs root")
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		b.Skipf("no mount namespace can be had here: %v: %s", err, out)
	}
	root, err := kernel.Checkout()
	b.must(err)
	b.must(os.MkdirAll(filepath.Join(root, "results", "out"), 0o755))
	// Who is nobody must find the command and the box.
	b.must(os.Chmod(b.dir, 0o755))
	cmd := b.command()
	sh := exec.Command("unshare", "--mount", "sh", "-ec", script)
	sh.Dir, sh.Env = cmd.Dir, append(cmd.Env, "TREE="+b.tree, "PATCH="+b.good)
	got, log := b.end(sh)
	if got != code {
		b.Fatalf("exit code %d; want %d:\n%s", got, code, log)
	}
	return log
}

// nothingBuilt says that a run was refused before it fetched, applied or compiled anything.
func (b *box) nothingBuilt(log string) {
	b.Helper()
	for _, word := range []string{"compiling", "applying", "configuring"} {
		if strings.Contains(log, word) {
			b.Errorf("it had begun %s:\n%s", word, log)
		}
	}
	for _, dir := range []string{"trees", "kernels"} {
		if left, _ := os.ReadDir(filepath.Join(b.cache, dir)); len(left) > 0 {
			b.Errorf("%s of the cache has %v", dir, left)
		}
	}
	b.clean()
}

// pathWithout is a folder for PATH that lacks some commands.
func (b *box) pathWithout(without ...string) string {
	bin := filepath.Join(b.dir, "bin")
	b.must(os.MkdirAll(bin, 0o755))
	for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !slices.Contains(without, e.Name()) {
				_ = os.Symlink(filepath.Join(dir, e.Name()), filepath.Join(bin, e.Name()))
			}
		}
	}
	return bin
}
