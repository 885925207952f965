// Package userland makes a guest's userland for the tests that a user brings: it finds
// what TEST names, refuses what cannot run in the guest, and packs each test with its
// interpreter, the libraries that it loads and the commands that a script names, in an
// archive that goes behind the initramfs.
package userland

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"mvdan.cc/sh/v3/shell"

	"patchproof/guest/event"
	"patchproof/kernel/arch"
	"patchproof/kernel/sandbox"
)

// Guest is what tests find in their guest beside what is packed for them.
type Guest struct {
	// HostRoot has them see the host's root.
	HostRoot bool `json:",omitempty"`
	// Net gives them a network.
	Net bool `json:",omitempty"`
}

// Test is a test that a user brought.
type Test struct {
	// Name is the row in the matrix, and unique.
	Name string
	// Timeout is how long it may run under KVM and with a plain kernel; 0 is Archive's.
	Timeout time.Duration
	// file is the executable on the host, args its arguments.
	file string
	args []string
	// folder is the folder that the test came from and is packed with, "" for a single
	// file.
	folder string
	guest  Guest
}

// maxFolder bounds what a folder of tests may bring along, in bytes.
const maxFolder = 256 << 20

// Items are the parts of a list, which semicolons and ends of lines separate, but not those
// in quotes: they are a command's own.
func Items(list string) []string {
	quote, escaped := rune(0), false
	parts := strings.FieldsFunc(list, func(r rune) bool {
		switch {
		case escaped:
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case quote == 0:
			return r == ';' || r == '\n'
		}
		return false
	})
	if quote != 0 {
		// It is no quote, but a character of a path.
		parts = strings.FieldsFunc(list, func(r rune) bool { return r == ';' || r == '\n' })
	}
	var items []string
	for _, part := range parts {
		if part = strings.TrimSpace(part); part != "" {
			items = append(items, part)
		}
	}
	return items
}

// Find returns the tests that TEST's value names: an executable, a script, a folder of
// them, or a command line; several are separated by semicolons or line ends. A
// command is looked for as a shell would: a path where it has a slash, else in the
// current folder and then in PATH. Tests may see the host's root, and then need not bring
// what that has.
func Find(list string, guest Guest) ([]Test, error) {
	var tests []Test
	add := func(t Test) {
		t.guest = guest
		for n, name := 2, t.Name; slices.ContainsFunc(tests, func(o Test) bool { return o.Name == t.Name }); n++ {
			t.Name = fmt.Sprintf("%s-%d", name, n)
		}
		tests = append(tests, t)
	}
	for _, item := range Items(list) {
		// A path with blanks is a path before it is a command line.
		if info, err := os.Stat(item); err == nil {
			if !info.IsDir() {
				t, err := single(item, item, nil, guest.HostRoot)
				if err != nil {
					return nil, err
				}
				add(t)
				continue
			}
			found, err := folder(item, guest.HostRoot)
			if err != nil {
				return nil, err
			}
			for _, t := range found {
				add(t)
			}
			continue
		}
		words, err := shell.Fields(item, func(name string) string { return os.Getenv(name) })
		if err != nil {
			return nil, fmt.Errorf("TEST=%q cannot be read as a command line: %w; what needs a shell goes into a script, or into sh -c '...'", item, err)
		}
		if len(words) == 0 {
			continue
		}
		t, err := single(item, words[0], words[1:], guest.HostRoot)
		if err != nil {
			return nil, err
		}
		add(t)
	}
	if len(tests) == 0 {
		return nil, fmt.Errorf("TEST=%q names no test", list)
	}
	return tests, nil
}

func single(item, command string, args []string, hostRoot bool) (Test, error) {
	file := command
	if _, err := os.Stat(file); err != nil {
		if target, isLink := os.Readlink(file); isLink == nil && errors.Is(err, fs.ErrNotExist) {
			return Test{}, fmt.Errorf("TEST=%s: it is a link to %s, which is not there", item, target)
		}
		if strings.Contains(command, "/") {
			return Test{}, fmt.Errorf("TEST=%s: %s: %w", item, command, errors.Unwrap(err))
		}
		if file, err = lookUp(command, hostRoot); err != nil {
			hint := ""
			if len(args) > 0 {
				hint = "; what needs a shell goes into a script, or into sh -c '...'"
			}
			return Test{}, fmt.Errorf("TEST=%s: there is no file %s here, and no such command in PATH%s", item, command, hint)
		}
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return Test{}, err
	}
	if err := runnable(file, hostRoot); err != nil {
		return Test{}, fmt.Errorf("TEST=%s: %w", item, err)
	}
	return Test{Name: rowName(file), file: file, args: args}, nil
}

// folder finds the executables that lie in a folder. What only has the mode of one, as a README
// from a disk that knows no modes, is none; see NotRun.
func folder(dir string, hostRoot bool) ([]Test, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("TEST=%s: %w", dir, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var tests []Test
	var none error
	for _, e := range entries {
		file := filepath.Join(abs, e.Name())
		info, err := os.Stat(file)
		if target, isLink := os.Readlink(file); err != nil && isLink == nil && !editors.MatchString(e.Name()) {
			return nil, fmt.Errorf("TEST=%s: %s is a link to %s, which is not there", dir, e.Name(), target)
		}
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		err = asTest(file, hostRoot)
		var no *noProgramError
		if errors.As(err, &no) {
			none = cmp.Or(none, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("TEST=%s: %w", dir, err)
		}
		tests = append(tests, Test{Name: rowName(file), file: file, folder: abs})
	}
	switch {
	case len(tests) > 0:
		return tests, nil
	case none != nil:
		return nil, fmt.Errorf("TEST=%s: no test lies in this folder: %w", dir, none)
	}
	if deeper := below(abs, hostRoot); deeper != "" {
		return nil, fmt.Errorf("TEST=%s: no executable file lies in this folder itself; %s", dir, deeper)
	}
	return nil, fmt.Errorf("TEST=%s: no executable file lies in this folder (chmod +x?)", dir)
}

// below says which folders below one, beside those that are tests' own, have programs, and how
// those are run.
func below(dir string, hostRoot bool, own ...string) string {
	const most = 3
	var folders []string
	filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read cannot be packed, which is said then
		}
		in := filepath.Dir(file)
		if in == dir || !d.Type().IsRegular() || slices.Contains(folders, in) || slices.Contains(own, in) {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode()&0o111 != 0 && asTest(file, hostRoot) == nil {
			folders = append(folders, in)
		}
		return nil
	})
	if len(folders) == 0 {
		return ""
	}
	more := ""
	if n := len(folders) - most; n > 0 {
		folders, more = folders[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the programs in the folders below it are not run: %s%s (TEST=%s runs those of one)", strings.Join(folders, ", "), more, folders[0])
}

// editors matches what editors leave beside the files that they change.
var editors = regexp.MustCompile(`^\.#|^#.*#$|~$|^\..*\.sw[op]$|\.(?:orig|rej)$`)

// asTest says why a file of a folder is no test, or cannot be run.
func asTest(file string, hostRoot bool) error {
	if editors.MatchString(filepath.Base(file)) {
		return noProgram("%s is an editor's or patch's copy of a file", file)
	}
	return runnable(file, hostRoot)
}

// NotRun says of files in the tests' folders that they do not run: scripts that are not
// executable, as others read them or that was forgotten, what is executable and no program, and
// what lies in folders below.
func NotRun(tests []Test) []string {
	var left, own []string
	for _, t := range tests {
		own = append(own, t.folder)
	}
	seen := map[string]bool{}
	for _, t := range tests {
		if t.folder == "" || seen[t.folder] {
			continue
		}
		seen[t.folder] = true
		entries, _ := os.ReadDir(t.folder)
		for _, e := range entries {
			file := filepath.Join(t.folder, e.Name())
			info, err := os.Stat(file)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			if info.Mode()&0o111 != 0 {
				var no *noProgramError
				if errors.As(asTest(file, t.guest.HostRoot), &no) {
					left = append(left, no.Error()+", and is not run")
				}
			} else if script, err := isScript(file); err == nil && script {
				left = append(left, file+" is not executable, and is not run (chmod +x?)")
			}
		}
		if deeper := below(t.folder, t.guest.HostRoot, own...); deeper != "" {
			left = append(left, t.folder+": "+deeper)
		}
	}
	return left
}

// longestName is how many bytes the name of a row may have: it becomes a part of file names.
const longestName = 100

// rowChars are those that the name of a row may have.
var rowChars = regexp.MustCompile(`[^A-Za-z0-9._+-]+`)

func rowName(file string) string {
	name := rowChars.ReplaceAllString(filepath.Base(file), "-")
	return cmp.Or(strings.Trim(name[:min(len(name), longestName)], "-."), "test")
}

// lookUp finds a command as a shell would: one that sees the host's root, in the guest's
// PATH first.
func lookUp(command string, hostRoot bool) (string, error) {
	if path := inGuest(command); hostRoot && path != "" {
		return path, nil
	}
	return exec.LookPath(command)
}

// inGuest is where a command lies in the PATH of a guest that sees the host's root, or
// empty.
func inGuest(command string) string {
	for _, dir := range filepath.SplitList(event.TestPath) {
		path := filepath.Join(dir, command)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && sandbox.Shown(path) {
			return path
		}
	}
	return ""
}

// runnable says why a file cannot be run in the guest.
func runnable(file string, hostRoot bool) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", file)
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not executable (chmod +x %s)", file, file)
	}
	_, err = needs(file, hostRoot)
	return err
}

// noProgramError is a file that is neither a program nor a script, whatever its mode.
type noProgramError struct{ what string }

func (e *noProgramError) Error() string { return e.what }

func noProgram(format string, args ...any) error {
	return &noProgramError{fmt.Sprintf(format, args...)}
}

// needed are the files that a file needs to run: interpreters and loaders, which must lie where
// they do, and libraries, which the loader looks for.
type needed struct{ programs, libraries []string }

func needs(file string, hostRoot bool) (all needed, err error) {
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
		return scriptNeeds(file, f, hostRoot)
	}
	if bytes.HasPrefix(magic, []byte("\ufeff")) {
		return all, fmt.Errorf(`%s begins with a byte order mark, behind which the kernel sees no "#!": save it without`, file)
	}
	if string(magic) != elf.ELFMAG {
		return all, noProgram(`%s is neither an ELF program nor a script that begins with "#!"`, file)
	}
	return programNeeds(file)
}

func programNeeds(file string) (all needed, err error) {
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
	out, err := exec.Command(loader, "--list", file).CombinedOutput()
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
			opened, err := openedBy(file, loader, filepath.Dir(m[1]))
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
func openedBy(file, loader, dir string) (all []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for _, name := range soname.FindAllString(string(text), -1) {
		path := filepath.Join(dir, strings.Trim(name, "\x00"))
		if out, err := exec.Command(loader, "--list", path).Output(); err == nil {
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

func scriptNeeds(file string, f io.ReadSeeker, hostRoot bool) (all needed, err error) {
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
		more, err := needs(path, hostRoot)
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

// Archive packs the tests: their files and what they need, each test below its own
// folder of event.TestDir, and their specifications. A test may run for timeout under KVM
// and with a plain kernel.
func Archive(tests []Test, timeout time.Duration) ([]byte, error) {
	p := newPacker()
	folders := map[string]string{} // where each lies in the guest
	for _, t := range tests {
		in := p.in(t.guest)
		dir := filepath.Join(event.TestDir, t.Name)
		command := filepath.Join(dir, filepath.Base(t.file))
		var lie elsewhere
		switch {
		case t.folder != "":
			if folders[t.folder] == "" {
				folders[t.folder] = folderIn(t.folder, folders, tests)
			}
			dir = folders[t.folder]
			command = filepath.Join(dir, filepath.Base(t.file))
			if err := in.tree(t.folder, dir); err != nil {
				return nil, err
			}
			if !t.guest.HostRoot {
				found, err := in.helpers(t.folder, dir)
				if err != nil {
					return nil, err
				}
				lie.add(found)
			}
		case t.guest.HostRoot && sandbox.Shown(t.file):
			// A program may find the rest of itself by where it lies.
			command = t.file
			in.folder(dir)
		default:
			if err := in.file(t.file, command); err != nil {
				return nil, err
			}
		}
		found, err := in.closure(t.file, filepath.Dir(command))
		if err != nil {
			return nil, err
		}
		lie.add(found)
		unseen, err := t.unseen()
		if err != nil {
			return nil, err
		}
		args, found, err := in.arguments(t.args)
		if err != nil {
			return nil, err
		}
		lie.add(found)
		if err := p.specify(t.Name, event.Test{
			Argv: append([]string{command}, args...), Dir: dir, TimeoutS: cmp.Or(t.Timeout, timeout).Seconds(),
			HostRoot: t.guest.HostRoot, Commands: lie.commands, Libraries: lie.libraries, Unseen: append(unseen, lie.missing...),
		}); err != nil {
			return nil, err
		}
	}
	return p.archive()
}

// folderIn is where a folder lies in the guest: under its own name, unless another one or a
// test has that.
func folderIn(folder string, taken map[string]string, tests []Test) string {
	name := rowName(folder)
	for n := 2; ; n++ {
		dir := filepath.Join(event.TestDir, name)
		if !slices.Contains(slices.Collect(maps.Values(taken)), dir) &&
			!slices.ContainsFunc(tests, func(t Test) bool { return t.folder == "" && t.Name == name || t.Name+".json" == name }) {
			return dir
		}
		name = fmt.Sprintf("%s-%d", rowName(folder), n)
	}
}

// arguments packs what a test's arguments name: files, by paths which are then whole, and commands.
func (p *packer) arguments(args []string) (whole []string, lie elsewhere, err error) {
	for _, arg := range args {
		if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() && strings.Contains(arg, "/") {
			if arg, err = filepath.Abs(arg); err != nil {
				return nil, lie, err
			}
		}
		whole = append(whole, arg)
	}
	lie, err = p.named(append(words(strings.Join(args, "\n")), whole...), "", "")
	return whole, lie, err
}

// closure packs what a file needs to run and, where it is a script, what it names. At is the
// folder that it lies in in the guest.
func (p *packer) closure(file, at string) (lie elsewhere, err error) {
	if lie, done := p.closed[file]; done {
		return lie, nil
	}
	all, err := needs(file, p.hostRoot)
	if err != nil {
		return lie, err
	}
	for _, path := range slices.Concat(all.programs, all.libraries) {
		if err := p.host(path); err != nil {
			return lie, err
		}
	}
	for _, path := range all.libraries {
		if folder := filepath.Dir(path); !loaderFolder.MatchString(folder) {
			lie.libraries = with(lie.libraries, folder)
		}
	}
	p.closed[file] = lie // scripts may name each other
	script, err := isScript(file)
	if err == nil && script {
		lie.foundIn(filepath.Dir(interpreterOf(all.programs)))
		var named elsewhere
		named, err = p.namedBy(file, at)
		lie.add(named)
	}
	p.closed[file] = lie
	return lie, err
}

// brought packs what a file needs that comes along with a test, as far as it is there.
func (p *packer) brought(file, at string) (lie elsewhere, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return lie, fmt.Errorf("packing for the guest: %w", err)
	}
	if filepath.Ext(file) == ".sh" {
		// It may be read by another script, and then needs neither "#!" nor its mode.
		return p.commands(file, at)
	}
	if info.Mode()&0o111 == 0 {
		return lie, nil
	}
	if _, err := needs(file, p.hostRoot); err != nil {
		return lie, nil // it says so itself when it is run
	}
	return p.closure(file, at)
}

// unseen are the commands of the host's PATH that a script names and that are not in the
// guest's.
func (t Test) unseen() ([]string, error) {
	script, err := isScript(t.file)
	if err != nil || !script || !t.guest.HostRoot {
		return nil, err
	}
	text, err := os.ReadFile(t.file)
	var all []string
	for _, w := range words(string(text)) {
		if path := commandOf(w); path != "" && inGuest(filepath.Base(path)) == "" {
			all = with(all, path)
		}
	}
	return all, err
}

// namedBy packs what a script's words name, with what that needs.
func (p *packer) namedBy(file, at string) (lie elsewhere, err error) {
	if lie, done := p.scripts[file]; done {
		return lie, nil
	}
	p.scripts[file] = lie
	text, err := os.ReadFile(file)
	if err != nil {
		return lie, err
	}
	lie, err = p.named(words(string(text)), filepath.Dir(file), at)
	p.scripts[file] = lie
	return lie, err
}

// modular are interpreters that are not whole without their modules.
var modular = regexp.MustCompile(`^(?:python|perl|ruby|node|php|lua|tclsh)[\d.]*$`)

// mostNamed is how large a file may be that comes along because a word names it.
const mostNamed = 64 << 20

// named packs what words name: commands, files by their whole path, and those that lie beside a
// script in dir, which go to at. It packs too much rather than too little: which words are
// commands is known when the script runs.
func (p *packer) named(words []string, dir, at string) (lie elsewhere, err error) {
	for _, w := range words {
		if path := commandOf(w); path != "" {
			if p.hostRoot && !filepath.IsAbs(w) {
				continue // the guest has a PATH of its own, see unseen
			}
			if _, err := needs(path, p.hostRoot); err != nil {
				// It is only a word that a command has, too, until the script runs it.
				lie.missing = with(lie.missing, path)
				continue
			}
			if modular.MatchString(filepath.Base(path)) && !p.hostRoot {
				lie.missing = with(lie.missing, path)
			}
			more, err := p.closure(path, filepath.Dir(path))
			if err := errors.Join(err, p.host(path)); err != nil {
				return lie, err
			}
			lie.add(more)
			if !filepath.IsAbs(w) {
				lie.foundIn(filepath.Dir(path))
			}
		} else if filepath.IsAbs(w) && comesAlong(w) && (!inScratch(w) || dir == "" || sandbox.Within(w, dir)) {
			// What a script names in /tmp may be what it left there.
			more, err := p.brought(w, filepath.Dir(w))
			if err := errors.Join(err, p.host(w)); err != nil {
				return lie, err
			}
			lie.add(more)
		}
		if slices.Contains(filepath.SplitList(os.Getenv("PATH")), dir) {
			continue // it has commands only
		}
		// "$(dirname "$0")/x" has the word /x, and "$here/x" the word here/x.
		_, below, _ := strings.Cut(w, "/")
		for _, name := range []string{w, below} {
			if dir == "" || !filepath.IsLocal(name) || filepath.Clean(name) == "." {
				continue
			}
			if strings.HasSuffix(name, "/") && comesWhole(filepath.Join(dir, name)) {
				// As in "for f in inputs/*".
				if err := p.tree(filepath.Join(dir, name), filepath.Join(at, name)); err != nil {
					return lie, err
				}
			}
			if !comesAlong(filepath.Join(dir, name)) {
				continue
			}
			more, err := p.beside(filepath.Join(dir, name), filepath.Join(at, name))
			if err != nil {
				return lie, err
			}
			lie.add(more)
		}
	}
	return lie, nil
}

// beside packs a file that lies beside a script, unless its folder came whole.
func (p *packer) beside(file, to string) (lie elsewhere, err error) {
	if _, there := p.records[p.name(to)]; there {
		return lie, nil
	}
	if file == to {
		err = p.host(file)
	} else {
		err = p.file(file, to)
	}
	if err != nil {
		return lie, err
	}
	return p.brought(file, filepath.Dir(to))
}

// comesAlong says whether a file that a word names goes into the guest, which has its own /proc,
// /sys and /dev.
func comesAlong(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() <= mostNamed &&
		!slices.ContainsFunc([]string{"/proc", "/sys", "/dev"}, func(dir string) bool { return sandbox.Within(path, dir) })
}

// comesWhole says whether a folder that a word names goes into the guest.
func comesWhole(dir string) bool {
	size := int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size() + 4096
		}
		if size > mostNamed {
			return errors.New("too large")
		}
		return err
	})
	info, statErr := os.Stat(dir)
	return err == nil && statErr == nil && info.IsDir()
}

func isScript(file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	magic := make([]byte, 2)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "#!", nil
}

// word is what may be a command's or a file's name in a script.
var word = regexp.MustCompile(`[A-Za-z0-9_.+/\[-]+`)

// words are those of a script, each once, without those of its remarks.
func words(script string) []string {
	var all []string
	seen := map[string]bool{}
	for line := range strings.Lines(script) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, w := range word.FindAllString(line, -1) {
			if !seen[w] {
				seen[w] = true
				all = append(all, w)
			}
		}
	}
	return all
}

// commandOf is the command of the host's that a word names, or nothing.
func commandOf(w string) string {
	if strings.Contains(w, "/") && !filepath.IsAbs(w) {
		return ""
	}
	path, err := exec.LookPath(w)
	if err != nil {
		return ""
	}
	return path
}

// tree packs a folder's files.
func (p *packer) tree(dir, at string) error {
	if p.trees[dir] {
		return nil
	}
	p.trees[dir] = true
	size := int64(0)
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return filepath.SkipDir
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		if size += info.Size(); size > maxFolder {
			return fmt.Errorf("TEST=%s: the folder holds more than %d MiB, too much for a guest's memory: name single tests", dir, maxFolder>>20)
		}
		return p.file(path, filepath.Join(at, rel))
	})
}
