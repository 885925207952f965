package userland

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/mkuimage/cpio"

	"patchproof/guest/event"
	"patchproof/kernel/sandbox"
)

// packer gathers what goes into the guest, by its path there.
type packer struct {
	records map[string]cpio.Record
	// known is what files need, or why they cannot run.
	known map[string]examined
	// closed are the files whose needs were packed, and where some of them lie, and trees the
	// folders that were.
	closed map[string]elsewhere
	trees  map[string]bool
	// scripts are the texts whose words were looked up, and where what they name lies.
	scripts map[string]elsewhere
	// kinds are the commands (see byKind) that came with those that they start.
	kinds map[string]bool
	// below is the folder of the guest that all of it goes to, and hostRoot says that the
	// guest sees the host's root, so that what that has need not be packed.
	below    string
	hostRoot bool
	// list is what libraries are found with. With stranger, what is packed for comes with the
	// source under test: of this machine it gets what everybody may see of the system.
	list     lister
	stranger bool
}

// elsewhere are folders of the guest in which commands and libraries lie that are not looked for
// there, and commands that are not in the guest, or without the modules that they need.
type elsewhere struct{ commands, libraries, missing []string }

func (e *elsewhere) add(more elsewhere) {
	for _, dir := range more.commands {
		e.commands = with(e.commands, dir)
	}
	for _, dir := range more.libraries {
		e.libraries = with(e.libraries, dir)
	}
	for _, path := range more.missing {
		e.missing = with(e.missing, path)
	}
}

// foundIn adds a folder that a command was found in.
func (e *elsewhere) foundIn(folder string) {
	if !slices.Contains(filepath.SplitList(event.TestPath), folder) {
		e.commands = with(e.commands, folder)
	}
}

func with(all []string, one string) []string {
	if slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

func emptyPacker() *packer {
	return &packer{
		records: map[string]cpio.Record{}, known: map[string]examined{}, closed: map[string]elsewhere{},
		trees: map[string]bool{}, scripts: map[string]elsewhere{}, kinds: map[string]bool{}, list: list,
	}
}

func newPacker() *packer {
	p := emptyPacker()
	// u-root's init runs it after the program (cmds/core/init/init_linux.go).
	p.add("/bin/defaultsh", []byte("#!/bbin/exec gone\n"), 0o755)
	return p
}

// in is a packer for what tests see in such a guest.
func (p *packer) in(g Guest) *packer {
	in := p
	if g.HostRoot {
		in = emptyPacker()
		in.records, in.below, in.hostRoot, in.list, in.stranger = p.records, event.OverDir, true, p.list, p.stranger
	}
	if g.Net {
		in.add("/etc/resolv.conf", []byte("nameserver "+event.NetDNS+"\n"), 0o644)
	}
	if !g.HostRoot {
		// What every machine knows: itself, root and nobody.
		in.add("/etc/hosts", []byte("127.0.0.1 localhost guest\n::1 localhost\n"), 0o644)
		in.add("/etc/passwd", []byte("root:x:0:0::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"), 0o644)
		in.add("/etc/group", []byte("root:x:0:\nnogroup:x:65534:\n"), 0o644)
	}
	return in
}

// name is the name of the record of what a test finds at a path.
func (p *packer) name(at string) string {
	if inScratch(at) {
		at = filepath.Join(event.BroughtDir, at)
	}
	return strings.TrimPrefix(filepath.Join(p.below, at), "/")
}

// inScratch says that a path lies where the guest has a tmpfs.
func inScratch(path string) bool {
	return slices.ContainsFunc(event.ScratchDirs, func(dir string) bool { return sandbox.Within(path, dir) && path != dir })
}

// add packs a text.
func (p *packer) add(at string, text []byte, mode uint64) {
	name := p.name(at)
	p.records[name] = cpio.StaticFile(name, string(text), mode)
}

// folder packs an empty folder.
func (p *packer) folder(at string) {
	name := p.name(at)
	p.records[name] = cpio.Directory(name, 0o755)
}

// file packs a host's file, whatever it is called there.
func (p *packer) file(path, at string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("packing for the guest: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("packing for the guest: %w", err)
	}
	p.add(at, text, uint64(info.Mode().Perm()))
	return nil
}

// host packs a host's file under its own path. Where that leads through symbolic links
// the file lies where they lead to, with one link from its path.
func (p *packer) host(path string) error {
	path, err := filepath.Abs(path)
	if err != nil || p.hostRoot && sandbox.Shown(path) {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("packing for the guest: %w", err)
	}
	if p.stranger && !ofSystem(path) {
		return nil
	}
	if real != path {
		name := p.name(path)
		p.records[name] = cpio.Symlink(name, real)
	}
	if _, there := p.records[p.name(real)]; there || p.hostRoot && sandbox.Shown(real) {
		return nil
	}
	return p.file(real, real)
}

// archive writes all of it, folders before what lies in them.
func (p *packer) archive() ([]byte, error) {
	for name := range maps.Clone(p.records) {
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			if _, there := p.records[dir]; !there {
				p.records[dir] = cpio.Directory(dir, 0o755)
			}
		}
	}
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, name := range slices.Sorted(maps.Keys(p.records)) {
		r := p.records[name]
		r.Ino = uint64(i) + 1
		if err := w.WriteRecord(r); err != nil {
			return nil, fmt.Errorf("packing for the guest: %w", err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("packing for the guest: %w", err)
	}
	return out.Bytes(), nil
}
