package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Variable is the make variable and environment variable that turns the
// sandbox off.
const Variable = "SANDBOX"

// sandboxCommand is bubblewrap's, see bwrap(1).
const sandboxCommand = "bwrap"

// errNoSandbox means that commands of a stranger's would have to run without one.
var errNone = errors.New("no sandbox")

// Box runs a command that comes with a source tree, as makefiles and scripts do,
// in namespaces of its own (bubblewrap): without network, home or other processes,
// with a system that it can only read and none of the caller's environment. The zero
// value is no sandbox.
type Box struct {
	// On is false where the command runs as the user.
	On bool
	// Show are paths that the command sees though they may lie in a home folder,
	// Write those that it may change.
	Show, Write []string
	// Env is the whole environment but for PATH, HOME and TMPDIR.
	Env []string
	// Temp is the folder for temporary files, one of Write.
	Temp string
}

// Find says how commands of a tree run: trusted ones are of a source whose
// hash is pinned here, and fall back to none, which the note tells.
func Find(ctx context.Context, trusted bool) (on bool, note string, err error) {
	switch mode := os.Getenv(Variable); mode {
	case "off":
		if !trusted && os.Getenv("CI") == "true" {
			return false, "", fmt.Errorf("%w: %s=off is refused in CI (CI=true): the makefiles of a patch or a tree would run as this user", errNone, Variable)
		}
		return false, "", nil
	case "", "on":
		trouble := sandboxTrouble(ctx)
		switch {
		case trouble == "":
			return true, "", nil
		case ctx.Err() != nil:
			return false, "", context.Cause(ctx)
		case trusted && mode == "":
			return false, "builds of pinned sources run without a sandbox, which cannot be had here: " + trouble, nil
		}
		return false, "", fmt.Errorf("%w can be had here (%s), and a patch's makefiles run when it is built; make deps installs bubblewrap, %s=off builds without", errNone, trouble, Variable)
	default:
		return false, "", fmt.Errorf("%s=%s: want on or off", Variable, mode)
	}
}

// sandboxTrouble says why there is no sandbox, or nothing; found out once.
func sandboxTrouble(ctx context.Context) string {
	probe.Do(func() {
		if _, err := exec.LookPath(sandboxCommand); err != nil {
			probe.trouble = "bubblewrap is not installed"
			return
		}
		cmd, err := Box{On: true}.Command("/", "true")
		if err == nil {
			_, err = Output(ctx, cmd)
		}
		if err != nil {
			probe.trouble = strings.ReplaceAll(err.Error(), strings.Join(cmd.Args, " "), sandboxCommand)
		}
	})
	return probe.trouble
}

var probe struct {
	sync.Once
	trouble string
}

// hidden are folders that no build needs and that may hold what is not for others:
// homes, mail, sockets of services, other disks.
var hidden = []string{
	"/home", "/root", "/run", "/var/run", "/var/lib", "/var/spool", "/var/mail", "/var/log", "/var/backups", "/var/cache",
	"/srv", "/mnt", "/media", "/boot", "/sys", "/etc/ssh", "/etc/ssl/private", "/etc/sudoers.d", "/etc/apt",
}

// hiddenFiles hold secrets that the owner of a build may read.
var hiddenFiles = []string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/krb5.keytab"}

// Limits of one process in the sandbox, as prlimit(1) takes them. A compiler or
// linker of a large kernel needs some gigabytes; nothing needs thousands of processes.
var limits = []struct {
	flag     string
	resource int
	value    uint64
}{
	{"--nproc", unix.RLIMIT_NPROC, MaxProcesses},
	{"--as", unix.RLIMIT_AS, 32 << 30},
	{"--fsize", unix.RLIMIT_FSIZE, 16 << 30},
	{"--core", unix.RLIMIT_CORE, 0},
}

// Command is a command to run in dir, in the sandbox if it is on.
func (s Box) Command(dir, name string, args ...string) (*exec.Cmd, error) {
	if !s.On {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, Env(s.Env...)
		if s.Temp != "" {
			cmd.Env = append(cmd.Env, "TMPDIR="+s.Temp)
		}
		return cmd, nil
	}
	temp := s.Temp
	if temp == "" {
		temp = "/nowhere"
	}
	line := []string{
		"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
		"--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
	}
	line = append(line, s.mounts()...)
	line = append(line, "--chdir", dir, "--clearenv")
	env := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "TMPDIR=" + temp, "LC_ALL=C", "TZ=UTC"}, s.Env...)
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		line = append(line, "--setenv", name, value)
	}
	filter, err := seccompFile()
	if err != nil {
		return nil, err
	}
	if filter != nil {
		line = append(line, "--seccomp", "3")
	}
	line = append(line, "--", "prlimit")
	for _, l := range limits {
		line = append(line, fmt.Sprintf("%s=%d", l.flag, lowest(l.resource, l.value)))
	}
	// It leaves the group whose niceness run would set.
	line = append(line, "nice", "-n", fmt.Sprint(niceness))
	if _, err := exec.LookPath("choom"); err == nil {
		// Where memory runs out a build dies, and no guest.
		line = append(line, "choom", "-n", "500", "--")
	}
	line = append(line, name)
	cmd := exec.Command(sandboxCommand, append(line, args...)...)
	// Its own environment can be read in the sandbox, in /proc/1.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if filter != nil {
		cmd.ExtraFiles = []*os.File{filter}
	}
	return cmd, nil
}

// mounts hide the homes and what else is nobody's business, and show of it what the command needs.
func (s Box) mounts() []string {
	var line []string
	homes := slices.Concat(hidden, userHomes())
	covered := func(path string) bool {
		return slices.ContainsFunc(homes, func(h string) bool { return Within(path, h) })
	}
	for _, dir := range homes {
		// A link leads to another of them.
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			line = append(line, "--tmpfs", dir)
		}
	}
	for _, file := range hiddenFiles {
		if _, err := os.Stat(file); err == nil {
			line = append(line, "--ro-bind", "/dev/null", file)
		}
	}
	for _, path := range append(ToolFolders(buildTools), s.Show...) {
		if covered(path) {
			line = append(line, "--ro-bind", path, path)
		}
	}
	for _, path := range s.Write {
		line = append(line, "--bind", path, path)
	}
	return line
}

// lowest is a limit, or what this process may have at most where that is less.
func lowest(resource int, value uint64) uint64 {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err == nil {
		return min(value, now.Max)
	}
	return value
}

// userHomes are the caller's home folders, by the environment and by the system.
func userHomes() []string {
	var homes []string
	if account, err := user.Current(); err == nil {
		homes = append(homes, account.HomeDir)
	}
	homes = append(homes, os.Getenv("HOME"))
	var known []string
	for _, home := range homes {
		if real, err := filepath.EvalSymlinks(home); err == nil && real != "/" && filepath.IsAbs(real) && !slices.Contains(known, real) {
			known = append(known, real)
		}
	}
	return known
}

// buildTools are what every build runs.
var buildTools = []string{"make", "gcc", "ld", "flex", "bison", "bc", "perl", "python3", "ccache"}

// ToolFolders are those that tools lie in, where a user has them at home.
func ToolFolders(tools []string) []string {
	var folders []string
	for _, tool := range tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			continue
		}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, toolchain(real))
		}
		folders = append(folders, filepath.Dir(path))
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// toolchain is the folder that a compiler's own programs and headers lie in as well.
func toolchain(binary string) string {
	dir := filepath.Dir(binary)
	if filepath.Base(dir) == "bin" && !slices.Contains(userHomes(), filepath.Dir(dir)) {
		return filepath.Dir(dir)
	}
	return dir
}

// Within says that path is dir or lies below it.
func Within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// seccompFile is a pipe that holds a filter of system calls: no sockets, whose
// namespaces do not cover those of the file system (agents, services), nothing
// that looks into other processes or has been a way out of namespaces. A build
// needs none of them. It is nil for a processor whose numbers are not known here.
func seccompFile() (*os.File, error) {
	if runtime.GOARCH != "amd64" {
		return nil, nil
	}
	denied := []uint32{
		unix.SYS_SOCKET, unix.SYS_IO_URING_SETUP, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
		unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
		unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_PIVOT_ROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN,
	}
	const (
		offsetNumber, offsetArch = 0, 4 // of struct seccomp_data
		retErrno                 = unix.SECCOMP_RET_ERRNO
		x32                      = 0x40000000
	)
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	ret := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, K: k, Jt: yes, Jf: no}
	}
	program := []unix.SockFilter{
		load(offsetArch),
		// Numbers of 32-bit programs are others.
		jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0), ret(retErrno | uint32(unix.ENOSYS)),
		load(offsetNumber),
		jump(unix.BPF_JGE, x32, 0, 1), ret(retErrno | uint32(unix.ENOSYS)),
	}
	for _, number := range denied {
		program = append(program, jump(unix.BPF_JEQ, number, 0, 1), ret(retErrno|uint32(unix.EACCES)))
	}
	program = append(program, ret(unix.SECCOMP_RET_ALLOW))
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	// It fits into the pipe.
	return r, errors.Join(binary.Write(w, binary.NativeEndian, program))
}
