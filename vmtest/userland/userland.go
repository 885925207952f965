// Package userland makes a guest's userland for the tests that a user brings: it finds
// what TEST names, refuses what cannot run in the guest, and packs each test with its
// interpreter, the libraries that it loads and the commands that a script names, in an
// archive that goes behind the initramfs.
package userland

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/u-root/mkuimage/cpio"
	"mvdan.cc/sh/v3/shell"

	"patchproof/guest/event"
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
	if err := runnable(file, hostRoot, list); err != nil {
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
	return runnable(file, hostRoot, list)
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
func runnable(file string, hostRoot bool, list lister) error {
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
	_, err = needs(file, hostRoot, list)
	return err
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
		if p.stranger && d.Type() == fs.ModeSymlink && !leadsInto(dir, path) {
			// What it leads to here is not for the test. In the guest it may lead to something.
			target, err := os.Readlink(path)
			name := p.name(filepath.Join(at, rel))
			p.records[name] = cpio.Symlink(name, target)
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

// leadsInto says whether a link leads to what lies in a folder.
func leadsInto(dir, link string) bool {
	whole, err := filepath.EvalSymlinks(dir)
	real, linkErr := filepath.EvalSymlinks(link)
	return err == nil && linkErr == nil && sandbox.Within(real, whole)
}
