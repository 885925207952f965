package userland

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"patchproof/guest/event"
	"patchproof/kernel/arch"
	"patchproof/kernel/sandbox"
)

// noProgramError is a file that is neither a program nor a script, whatever its mode.
type noProgramError struct{ what string }

func (e *noProgramError) Error() string { return e.what }

func noProgram(format string, args ...any) error {
	return &noProgramError{fmt.Sprintf(format, args...)}
}

// needed are the files that a file needs to run: interpreters and loaders, which must lie where
// they do, and libraries, which the loader looks for.
type needed struct{ programs, libraries []string }

// lister runs a loader, which lists the libraries of a file (ld.so(8), --list).
type lister func(loader, file string) ([]byte, error)

// list is the lister for files of the user's.
func list(loader, file string) ([]byte, error) {
	return exec.Command(loader, "--list", file).CombinedOutput()
}

// listTime is how long a stranger's file may keep its loader.
const listTime = time.Minute

// strangers is the lister for files of a source under test, which may be a stranger's: they name
// their loader, and what that opens besides (DT_AUDIT), so that it runs in the sandbox.
func strangers(ctx context.Context) (lister, error) {
	on, _, err := sandbox.Find(ctx, true)
	if err != nil {
		return nil, err
	}
	return func(loader, file string) ([]byte, error) {
		if !sandbox.Shown(loader) {
			return nil, fmt.Errorf("%s is none of this system's loaders", loader)
		}
		cmd, err := sandbox.Box{On: on, Show: []string{file}}.Command("/", loader, "--list", file)
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		limited, cancel := context.WithTimeout(ctx, listTime)
		defer cancel()
		err = sandbox.Run(limited, cmd)
		return out.Bytes(), err
	}, nil
}

func needs(file string, hostRoot bool, list lister) (all needed, err error) {
	f, err := os.Open(file)
	if err != nil {
		return all, err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if n, err := io.ReadFull(f, magic); err != nil && n < 2 {
		return all, noProgram("%s is empty: neither a program nor a script", file)
	}
	if string(magic[:2]) == "#!" {
		return scriptNeeds(file, f, hostRoot, list)
	}
	if bytes.HasPrefix(magic, []byte("\ufeff")) {
		return all, fmt.Errorf(`%s begins with a byte order mark, behind which the kernel sees no "#!": save it without`, file)
	}
	if string(magic) != elf.ELFMAG {
		return all, noProgram(`%s is neither an ELF program nor a script that begins with "#!"`, file)
	}
	return programNeeds(file, list)
}

func programNeeds(file string, list lister) (all needed, err error) {
	program, err := elf.Open(file)
	if err != nil {
		return all, fmt.Errorf("%s is a damaged program: %w", file, err)
	}
	defer program.Close()
	if program.Machine != arch.Target.Machine {
		return all, fmt.Errorf("%s is a program for %s, the guest is %s", file,
			strings.TrimPrefix(program.Machine.String(), "EM_"), arch.Target.Name)
	}
	if program.Type != elf.ET_EXEC && program.Type != elf.ET_DYN {
		return all, noProgram("%s is an object file, not a program", file)
	}
	loader := ""
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			text, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			if err != nil {
				return all, fmt.Errorf("%s is a damaged program: %w", file, err)
			}
			loader = strings.TrimRight(string(text), "\x00")
		}
	}
	if loader == "" && isLibrary(program, file) {
		return all, noProgram("%s is a shared library, not a program", file)
	}
	if loader == "" {
		return all, nil // static
	}
	if _, err := os.Stat(loader); err != nil {
		return all, fmt.Errorf("%s needs the loader %s, which is not on this machine: link it statically, or install the loader", file, loader)
	}
	out, err := list(loader, file)
	if missing := missingLibrary.FindSubmatch(out); missing != nil {
		return all, fmt.Errorf("%s needs the library %s, which is not on this machine", file, slices.MaxFunc(missing[1:], func(a, b []byte) int { return len(a) - len(b) }))
	}
	if err != nil {
		return all, fmt.Errorf("the libraries of %s cannot be found: %s --list: %w: %s", file, loader, err, strings.TrimSpace(string(out)))
	}
	all.programs = []string{loader}
	listed := listedLibrary.FindAllStringSubmatch(string(out), -1)
	for _, m := range listed {
		all.libraries = append(all.libraries, m[1])
		// glibc loads it when a thread is cancelled or ends itself, and aborts without.
		if unwinder := filepath.Join(filepath.Dir(m[1]), "libgcc_s.so.1"); filepath.Base(m[1]) == "libc.so.6" {
			if _, err := os.Stat(unwinder); err == nil {
				all.libraries = append(all.libraries, unwinder)
			}
			opened, err := openedBy(file, filepath.Dir(m[1]), func(path string) ([]byte, error) { return list(loader, path) })
			if err != nil {
				return all, err
			}
			all.libraries = append(all.libraries, opened...)
		}
	}
	return all, nil
}

// soname is what a program may hand to dlopen(3).
var soname = regexp.MustCompile(`\x00lib[A-Za-z0-9_+.-]+\.so(?:\.[0-9]+)*\x00`)

// openedBy are the libraries of a folder whose names a program has among its strings, as one that
// opens them by itself does, and those that they load.
func openedBy(file, dir string, list func(path string) ([]byte, error)) (all []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for _, name := range soname.FindAllString(string(text), -1) {
		path := filepath.Join(dir, strings.Trim(name, "\x00"))
		if out, err := list(path); err == nil {
			all = append(all, path)
			for _, m := range listedLibrary.FindAllStringSubmatch(string(out), -1) {
				all = append(all, m[1])
			}
		}
	}
	return all, nil
}

// isLibrary says whether what has no loader is a library, and not a static program.
func isLibrary(program *elf.File, file string) bool {
	if program.Type != elf.ET_DYN {
		return false
	}
	flags, _ := program.DynValue(elf.DT_FLAGS_1)
	names, _ := program.DynString(elf.DT_SONAME)
	pie := len(flags) > 0 && elf.DynFlag1(flags[0])&elf.DF_1_PIE != 0
	return !pie && (len(names) > 0 || strings.Contains(filepath.Base(file), ".so"))
}

var (
	// Where a loader looks for libraries by itself (ld.so(8)): the guest has no ld.so.cache.
	loaderFolder = regexp.MustCompile(`^(?:/usr)?/lib(?:64)?(?:/[a-z0-9_]+-linux-gnu)?$`)
	// The lines of ld.so --list.
	listedLibrary  = regexp.MustCompile(`(?m)^\s*(?:\S+ => )?(/.+) \(0x[0-9a-f]+\)$`)
	missingLibrary = regexp.MustCompile(`(?m)^\s*(\S+) => not found|error while loading shared libraries: ([^:]+): cannot open`)
)

func scriptNeeds(file string, f io.ReadSeeker, hostRoot bool, list lister) (all needed, err error) {
	if _, err := f.Seek(2, io.SeekStart); err != nil {
		return all, err
	}
	// The kernel reads no more of the first line than this (BINPRM_BUF_SIZE).
	line, _ := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	words := strings.Fields(line)
	if len(words) == 0 {
		return all, fmt.Errorf(`%s names no interpreter after "#!"`, file)
	}
	interpreter := words[0]
	if strings.HasSuffix(line, "\r\n") {
		return all, fmt.Errorf("%s has CRLF line ends: the kernel looks for the interpreter %q", file, interpreter+"\r")
	}
	all.programs = []string{interpreter}
	if filepath.Base(interpreter) == "env" {
		command := slices.IndexFunc(words[1:], func(w string) bool { return !strings.HasPrefix(w, "-") && !strings.Contains(w, "=") })
		if command < 0 {
			return all, fmt.Errorf("%s names no interpreter behind %s", file, interpreter)
		}
		path, err := lookUp(words[1+command], hostRoot)
		if err != nil {
			return all, fmt.Errorf("%s needs the interpreter %s, which is not on this machine", file, words[1+command])
		}
		if hostRoot && inGuest(words[1+command]) == "" {
			return all, fmt.Errorf("%s needs the interpreter %s, which is not in the guest's PATH (%s), but only here: %s", file, words[1+command], event.TestPath, path)
		}
		all.programs = append(all.programs, path)
	}
	for _, path := range slices.Clone(all.programs) {
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			return all, fmt.Errorf("%s needs the interpreter %s, which is not on this machine", file, path)
		}
		if hostRoot && !sandbox.Shown(path) {
			return all, fmt.Errorf("%s needs the interpreter %s, which the guest does not see: of the host's root it has what lies in %s", file, path, sandbox.ViewParts())
		}
		more, err := needs(path, hostRoot, list)
		if err != nil {
			return all, fmt.Errorf("%s: its interpreter: %v", file, err)
		}
		all.programs = append(all.programs, more.programs...)
		all.libraries = append(all.libraries, more.libraries...)
	}
	if !hostRoot && !isShell(all.programs) {
		return all, fmt.Errorf("%s is a script for %s, whose modules are not packed into the guest: bring a shell script or a program, or have it see the host's root with ROOT=host", file, filepath.Base(interpreterOf(all.programs)))
	}
	return all, nil
}

// interpreterOf is what runs the script: the command behind env, or else the first.
func interpreterOf(all []string) string {
	if filepath.Base(all[0]) == "env" && len(all) > 1 {
		return all[1]
	}
	return all[0]
}

// isShell says whether the interpreter is whole in its one file.
func isShell(all []string) bool {
	switch filepath.Base(interpreterOf(all)) {
	case "sh", "dash", "bash", "ksh", "mksh", "busybox", "ash", "zsh", "awk", "mawk", "gawk", "sed", "gosh":
		return true
	}
	return false
}
