package userland

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"patchproof/guest/event"
)

// Suite is a folder of tests that were installed together and run one after the other in
// one guest.
type Suite struct {
	// Name is the row in the matrix.
	Name string
	// Root is the folder, on the host; Dir is below it, where the tests lie and begin.
	Root, Dir string
	// Tests are the names of their files.
	Tests []string
	// Timeout is how long each of them may run under KVM and with a plain kernel.
	Timeout time.Duration
	// SkipCode is an exit code of theirs that is a skip.
	SkipCode int
	// ByInterpreter has scripts that are not executable started with what their first lines name.
	ByInterpreter bool
	// Unbuilt is why there are no tests, or not all of them, where they do not build; Broken says
	// that this is the kernel's fault.
	Unbuilt string
	Broken  bool
	Guest   Guest
}

// buildCheck is the check of a suite that does not build.
const buildCheck = "build"

// suiteFolder is where a suite's folder lies in the guest. Suites of one folder share it;
// paths that are too long for a socket are not for tests.
func (s Suite) suiteFolder() string {
	name := rowName(s.Root)
	return filepath.Join(event.TestDir, "suite-"+name[:min(len(name), 8)])
}

// ArchiveSuites packs suites. A test that cannot run in the guest is a skip there, which
// says why: the others still tell something.
func ArchiveSuites(ctx context.Context, suites []Suite) ([]byte, error) {
	p := newPacker()
	list, err := strangers(ctx)
	if err != nil {
		return nil, err
	}
	p.list, p.stranger = list, true
	for _, s := range suites {
		if len(s.Tests) == 0 && s.Unbuilt != "" {
			if err := p.specify(s.Name, event.Test{Suite: []event.Test{{Name: buildCheck, Missing: s.Unbuilt, Broken: s.Broken}}}); err != nil {
				return nil, err
			}
			continue
		}
		in := p.in(s.Guest)
		if err := in.tree(s.Root, s.suiteFolder()); err != nil {
			return nil, err
		}
		var lie elsewhere
		if !s.Guest.HostRoot {
			if lie, err = p.helpers(s.Root, s.suiteFolder()); err != nil {
				return nil, err
			}
		}
		all := event.Test{HostRoot: s.Guest.HostRoot}
		dir := filepath.Join(s.suiteFolder(), s.Dir)
		for _, name := range s.Tests {
			file := filepath.Join(s.Root, s.Dir, name)
			test := event.Test{Name: name, Dir: dir, TimeoutS: s.Timeout.Seconds(), Commands: lie.commands, Libraries: lie.libraries, SkipCode: s.SkipCode, Partly: s.Unbuilt}
			runner, err := in.runner(s, file)
			test.Argv = append(runner, filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				test.Missing = "it was not built: " + cmp.Or(s.Unbuilt, "make says nothing of it")
			} else if err != nil {
				test.Missing = strings.ReplaceAll(err.Error(), file, name)
			}
			all.Suite = append(all.Suite, test)
		}
		if err := p.specify(s.Name, all); err != nil {
			return nil, err
		}
	}
	return p.archive()
}

// ownRunner is what runs the tests of a folder that are not executable, where it is there.
const ownRunner = "ksft_runner.sh"

// runner is what a suite's test has to be started with, as the kernel's own runner does, or
// nothing where it is started by itself.
func (p *packer) runner(s Suite, file string) ([]string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Mode()&0o111 != 0 {
		return nil, runnable(file, s.Guest.HostRoot, p.list)
	}
	if info, err := os.Stat(filepath.Join(s.Root, s.Dir, ownRunner)); err == nil && info.Mode()&0o111 != 0 {
		return []string{"./" + ownRunner}, nil
	}
	if script, err := isScript(file); err != nil || !script || !s.ByInterpreter {
		return nil, errors.Join(err, runnable(file, s.Guest.HostRoot, p.list))
	}
	if _, err := p.closure(file, filepath.Join(s.suiteFolder(), s.Dir)); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.Fields(line[len("#!"):]), err
}

// specify packs what the guest's program is told of a row.
func (p *packer) specify(row string, test event.Test) error {
	text, err := json.Marshal(test)
	if err == nil {
		p.add(filepath.Join(event.TestDir, row+".json"), text, 0o644)
	}
	return err
}

// helpers packs what the programs and scripts below a folder need, which lies at a folder in the
// guest, as far as it is there.
func (p *packer) helpers(root, at string) (lie elsewhere, err error) {
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		below, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		found, err := p.brought(file, filepath.Join(at, below))
		lie.add(found)
		return err
	})
	return lie, err
}

// commands packs the commands that a script's words name, and the shell.
func (p *packer) commands(file, at string) (lie elsewhere, err error) {
	for _, shell := range []string{"/bin/sh", "/bin/bash"} {
		if _, err := os.Stat(shell); err == nil {
			if err := p.host(shell); err != nil {
				return lie, err
			}
			if _, err := p.closure(shell, filepath.Dir(shell)); err != nil {
				return lie, err
			}
		}
	}
	return p.namedBy(file, at)
}

// Group are tests that lie in one folder and run one after the other in one guest, on the
// file system of a disk.
type Group struct {
	// Name is the row in the matrix.
	Name string
	// Root is the folder, on the host, and Tests the names of files there.
	Root  string
	Tests []string
	// Helpers are files there that lie where the tests begin.
	Helpers []string
	// Timeout is how long each of them may run under KVM and with a plain kernel.
	Timeout time.Duration
	// Slow are those that may run longer, by their names.
	Slow map[string]time.Duration
	// Uptime is how long the guest must have been up when one begins, by its name.
	Uptime map[string]time.Duration
	// SkipCode is an exit code of theirs that is a skip.
	SkipCode int
	// Disk is the device, in the guest.
	Disk  string
	Guest Guest
}

// mkfs is what makes the file system, without the device.
var mkfs = []string{"mke2fs", "-q", "-F", "-t", "ext4"}

// FindMkfs says what is missing of what makes file systems.
func FindMkfs() (string, error) {
	for _, dir := range []string{"/sbin", "/usr/sbin"} {
		path := filepath.Join(dir, mkfs[0])
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on this machine, which makes the file system that the tests run on; run: apt-get install e2fsprogs", mkfs[0])
}

// Archive packs the group.
func (g Group) Archive() ([]byte, error) {
	maker, err := FindMkfs()
	if err != nil {
		return nil, err
	}
	p := newPacker()
	in := p.in(g.Guest)
	if err := in.host(maker); err != nil {
		return nil, err
	}
	if _, err := in.closure(maker, filepath.Dir(maker)); err != nil {
		return nil, err
	}
	bin := filepath.Join(event.TestDir, "bin")
	all := event.Test{HostRoot: g.Guest.HostRoot, Disk: g.Disk, Mkfs: append([]string{maker}, mkfs[1:]...), Dir: filepath.Join(event.TestDir, "work")}
	add := func(name string) (string, error) {
		file, path := filepath.Join(g.Root, name), filepath.Join(bin, name)
		_, err := in.closure(file, bin)
		return path, errors.Join(in.file(file, path), err)
	}
	for _, name := range g.Helpers {
		path, err := add(name)
		if err != nil {
			return nil, err
		}
		all.Helpers = append(all.Helpers, path)
	}
	for _, name := range g.Tests {
		path, err := add(name)
		if err != nil {
			return nil, err
		}
		all.Suite = append(all.Suite, event.Test{
			Name: name, Argv: []string{path}, Dir: all.Dir, TimeoutS: max(g.Timeout, g.Slow[name]).Seconds(), UptimeS: g.Uptime[name].Seconds(), SkipCode: g.SkipCode,
		})
	}
	if err := p.specify(g.Name, all); err != nil {
		return nil, err
	}
	return p.archive()
}
