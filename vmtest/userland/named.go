package userland

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel/sandbox"
)

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

// examined is what a file needs, or why it cannot run.
type examined struct {
	all needed
	err error
}

// needs is what a file needs, found out once.
func (p *packer) needs(file string) (needed, error) {
	found, done := p.known[file]
	if !done {
		found.all, found.err = needs(file, p.hostRoot, p.list)
		p.known[file] = found
	}
	return found.all, found.err
}

// closure packs what a file needs to run and, where it is a script, what it names. At is the
// folder that it lies in in the guest.
func (p *packer) closure(file, at string) (lie elsewhere, err error) {
	if lie, done := p.closed[file]; done {
		return lie, nil
	}
	all, err := p.needs(file)
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
	var named elsewhere
	switch {
	case err != nil:
	case script:
		lie.foundIn(filepath.Dir(interpreterOf(all.programs)))
		named, err = p.namedBy(file, at)
	case !sandbox.Shown(file):
		var commands []string
		if commands, err = spelled(file); err == nil {
			named, err = p.named(commands, filepath.Dir(file), at)
		}
	}
	lie.add(named)
	p.closed[file] = lie
	return lie, err
}

// commandPath is how a string of a program begins with a command of the system.
var commandPath = regexp.MustCompile(`\x00/(?:usr/)?(?:local/)?s?bin/[\w.+-]+`)

// spelled are the commands that a program names by their whole paths, as for execve(2) and
// system(3), and where it calls system(3) or popen(3) the shell and what it seems to give that.
func spelled(file string) (all []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for _, path := range commandPath.FindAllString(string(text), -1) {
		all = with(all, path[1:])
	}
	if calls.Match(text) {
		all = with(all, "/bin/sh")
		for _, m := range commandBegin.FindAllSubmatch(text, -1) {
			all = append(all, beginning(string(m[1]))...)
		}
		for _, m := range commandLine.FindAllSubmatch(text, -1) {
			if commandOf(string(m[1])) != "" {
				all = with(all, string(m[1]))
			}
		}
	}
	return all, nil
}

// commandLine is a string of a program that looks like one for system(3): a command, and an option
// or a path.
var commandLine = regexp.MustCompile(`\x00([a-z][\w.+-]*) (?:-[A-Za-z-]|/|%s)`)

// commandBegin is a string for system(3) whose command is put together when the program runs.
var commandBegin = regexp.MustCompile(`\x00(?:/(?:\w+/)*)?([a-z][\w+-]*[._-])%s `)

// calls are the names of functions of the C library that start a shell, as symbols.
var calls = regexp.MustCompile(`\x00(?:system|popen)\x00`)

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
	if _, err := p.needs(file); err != nil {
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
	lie, err = p.named(append(words(string(text)), composed(string(text))...), filepath.Dir(file), at)
	p.scripts[file] = lie
	return lie, err
}

// composition is the beginning of a word of a script that is put together when it runs, as in
// "mkfs.$fs" and "/sbin/mkfs.${fs}".
var composition = regexp.MustCompile(`(?:^|[^\w$.{-])([A-Za-z][\w+-]*[._-])["']*\$[{(\w]`)

// composed are the commands that words of a script may come to be.
func composed(script string) (all []string) {
	for _, m := range composition.FindAllStringSubmatch(script, -1) {
		for _, path := range beginning(m[1]) {
			all = with(all, path)
		}
	}
	return all
}

// mostAlike is how many commands may begin alike and still be of one kind.
const mostAlike = 24

// beginning are the commands of the host's that begin so, by their paths.
func beginning(prefix string) (all []string) {
	for _, dir := range commandFolders() {
		entries, _ := os.ReadDir(dir) // what is not there has none
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if info, err := os.Stat(path); err == nil && strings.HasPrefix(e.Name(), prefix) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				all = append(all, path)
			}
		}
	}
	if len(all) > mostAlike {
		return nil
	}
	return all
}

// commandFolders are those of the host's PATH, and others that the guest's has: a user may have no
// sbin there, and is root in the guest.
func commandFolders() []string {
	all := filepath.SplitList(os.Getenv("PATH"))
	for _, dir := range filepath.SplitList(event.TestPath) {
		all = with(all, dir)
	}
	return all
}

// byKind are commands that start another one of their own name with a kind's behind it: mkfs(8),
// mount(8).
var byKind = []string{"mkfs", "fsck", "mount", "umount"}

// modular are interpreters that are not whole without their modules.
var modular = regexp.MustCompile(`^(?:python|perl|ruby|node|php|lua|tclsh)[\d.]*$`)

// mostNamed is how large a file may be that comes along because a word names it.
const mostNamed = 64 << 20

// named packs what words name: commands, files of the system, and those that lie beside a script in
// dir, which go to at, or below there; of arguments, where dir is "", any file. It packs too much
// rather than too little: which words are commands is known when the script runs. But what a script
// names elsewhere may be what it writes, or nothing for a guest whose output others read.
func (p *packer) named(words []string, dir, at string) (lie elsewhere, err error) {
	for _, w := range words {
		if path := commandOf(w); path != "" {
			if p.hostRoot && !filepath.IsAbs(w) {
				continue // the guest has a PATH of its own, see unseen
			}
			if _, err := p.needs(path); err != nil {
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
			if base := filepath.Base(w); slices.Contains(byKind, base) && !p.kinds[base] {
				p.kinds[base] = true
				more, err := p.named(beginning(base+"."), dir, at)
				if err != nil {
					return lie, err
				}
				lie.add(more)
			}
			if !filepath.IsAbs(w) {
				lie.foundIn(filepath.Dir(path))
			}
		} else if !p.stranger && filepath.IsAbs(w) && comesAlong(w) && (dir == "" || sandbox.Within(w, dir) || ofSystem(w)) {
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
			if dir == "" || p.stranger || !filepath.IsLocal(name) || filepath.Clean(name) == "." {
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

// ofSystem says that a file is one of the system's, and for everybody.
func ofSystem(path string) bool {
	info, err := os.Stat(path)
	return err == nil && sandbox.Shown(path) && info.Mode()&0o004 != 0
}

// comesAlong says whether a file that a word names may go into the guest, which has its own /proc,
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
	if path, err := exec.LookPath(w); err == nil {
		return path
	}
	if filepath.IsAbs(w) {
		return ""
	}
	return inGuest(w)
}
