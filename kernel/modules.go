package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/u-root/mkuimage/cpio"

	"patchproof/patches/regular"
)

// modulesFile is beside a kernel that was built with modules: what its guests have below
// modulesFolder, as an archive that an initramfs takes.
const modulesFile = "modules.cpio"

// debugModulesFile has the modules of a kernel with debug info as they were before that was
// taken out of them, for finding places of the source.
const debugModulesFile = "modules-debug.cpio"

// modulesFolder holds a folder of modules for each release of the kernel.
const modulesFolder = "lib/modules"

// maxModules bounds what goes into a guest's memory, in bytes.
const maxModules = 256 << 20

// depmod returns the command that lists which modules need which. It may lie where only
// root looks.
func depmod() (string, error) {
	for _, name := range []string{"depmod", "/usr/sbin/depmod", "/sbin/depmod"} {
		if file, err := exec.LookPath(name); err == nil {
			return file, nil
		}
	}
	return "", errors.New("modules are built with depmod, which is not installed; run: apt-get install kmod")
}

// installModules installs what make modules has built into a temporary folder, and packs
// it into the folder to. It returns the files for the store, by their names there.
func (m *makeRun) installModules(ctx context.Context, config, to string) (map[string]string, error) {
	lister, err := depmod()
	if err != nil {
		return nil, err
	}
	// Makefiles may leave links that lead out of the folder.
	out, err := os.OpenRoot(m.out)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	const installed = scratchDir + "/modules"
	if err := out.RemoveAll(installed); err != nil {
		return nil, err
	}
	if err := m.run(ctx, "INSTALL_MOD_PATH="+filepath.Join(m.out, installed), "INSTALL_MOD_STRIP=1", "DEPMOD="+lister, "modules_install"); err != nil {
		return nil, err
	}
	names, err := moduleFiles(out, installed)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(names, func(name string) bool { return path.Base(name) == "modules.dep" }) {
		return nil, &hostError{what: "make modules_install says that all is well, but left no list of modules"}
	}
	files := map[string]string{modulesFile: filepath.Join(to, modulesFile+tmpSuffix)}
	err = packModules(names, files[modulesFile], func(name string) ([]byte, error) {
		return regular.ReadFileIn(out, path.Join(installed, name))
	})
	if err != nil || !strings.Contains(config, "\nCONFIG_DEBUG_INFO=y\n") {
		return files, err
	}
	files[debugModulesFile] = filepath.Join(to, debugModulesFile+tmpSuffix)
	return files, packModules(names, files[debugModulesFile], func(name string) ([]byte, error) {
		// As it was built, at its place among the installed ones.
		_, built, ok := strings.Cut(name, "/kernel/")
		if base, _, isModule := strings.Cut(path.Base(built), ".ko"); ok && isModule {
			return regular.ReadFileIn(out, path.Join(path.Dir(built), base+".ko"))
		}
		return regular.ReadFileIn(out, path.Join(installed, name))
	})
}

// moduleFiles lists the plain files below a folder, in order. The links that are there
// lead to the source and to the build folder.
func moduleFiles(out *os.Root, dir string) (names []string, err error) {
	err = fs.WalkDir(out.FS(), dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, strings.TrimPrefix(name, dir+"/"))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the modules that were installed: %w", err)
	}
	return names, nil
}

// packModules packs files, which come in order and which read returns, into an archive whose
// bytes depend on nothing else.
func packModules(names []string, to string, read func(name string) ([]byte, error)) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	w := cpio.Newc.Writer(out)
	size := 0
	packed := map[string]bool{".": true}
	add := func(r cpio.Record) error {
		packed[r.Name] = true
		r.Ino = uint64(len(packed))
		return w.WriteRecord(r)
	}
	var folder func(name string) error
	folder = func(name string) error {
		if packed[name] {
			return nil
		}
		if err := folder(path.Dir(name)); err != nil {
			return err
		}
		return add(cpio.Directory(name, 0o755))
	}
	for _, name := range names {
		text, err := read(name)
		if err != nil {
			return fmt.Errorf("packing the modules: %w", err)
		}
		if size += len(text); size > maxModules {
			return fmt.Errorf("the modules have more than %d MiB, too much for a guest's memory: ask for fewer (the tree's localmodconfig target makes a .config with those in use)", maxModules>>20)
		}
		if err := errors.Join(folder(path.Dir(name)), add(cpio.StaticFile(name, string(text), 0o644))); err != nil {
			return fmt.Errorf("packing the modules: %w", err)
		}
	}
	return errors.Join(cpio.WriteTrailer(w), out.Close())
}

// readModules returns the modules of a kernel's archive by their paths below their
// release's folder, which are the same for each release.
func readModules(archive string) (map[string][]byte, error) {
	f, err := regular.Open(archive)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(f))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", archive, err)
	}
	modules := map[string][]byte{}
	for _, r := range records {
		_, name, ok := strings.Cut(strings.TrimPrefix(r.Name, modulesFolder+"/"), "/")
		if !ok || !strings.Contains(path.Base(name), ".ko") {
			continue
		}
		if modules[name], err = io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize))); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", archive, r.Name, err)
		}
	}
	return modules, nil
}

// laidOut gives each section of a module that is loaded addresses of its own, by what its
// symbols say, as it will have them once it is loaded: before, all of them begin at 0, and an
// address is one in several functions.
func laidOut(module []byte) []byte {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil || f.Type != elf.ET_REL || f.Class != elf.ELFCLASS64 {
		return module
	}
	base, next := map[elf.SectionIndex]uint64{}, uint64(1<<20)
	for i, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 {
			base[elf.SectionIndex(i)] = next
			// They stay aligned, and apart.
			next += (s.Size/4096 + 2) * 4096
		}
	}
	table := f.SectionByType(elf.SHT_SYMTAB)
	if table == nil || table.Offset+table.Size > uint64(len(module)) {
		return module
	}
	module = bytes.Clone(module)
	entries := module[table.Offset : table.Offset+table.Size]
	for ; len(entries) >= elf.Sym64Size; entries = entries[elf.Sym64Size:] {
		// name, info, other, section, value, size
		section, value := f.ByteOrder.Uint16(entries[6:]), entries[8:]
		f.ByteOrder.PutUint64(value, f.ByteOrder.Uint64(value)+base[elf.SectionIndex(section)])
	}
	return module
}

// moduleLabels are entries of a module's .modinfo that name its build or hash its source.
var moduleLabels = regexp.MustCompile(`(?:vermagic|srcversion)=[^\x00]*\x00`)

// loadedModule returns what a module is made of in memory: the sections that are loaded,
// and what they refer to by name. A file that cannot be read so is returned as it is.
func loadedModule(text []byte) map[string][]byte {
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil || f.Type != elf.ET_REL {
		return map[string][]byte{"": text} // compressed
	}
	symbols, err := f.Symbols()
	if err != nil {
		return map[string][]byte{"": text}
	}
	parts := map[string][]byte{}
	for i, s := range f.Sections {
		of := s
		if s.Type == elf.SHT_RELA && int(s.Info) < len(f.Sections) {
			of = f.Sections[s.Info]
		}
		if of.Flags&elf.SHF_ALLOC == 0 || of.Type == elf.SHT_NOTE || slices.Contains(labels, of.Name) || strings.HasPrefix(of.Name, ".note") {
			continue
		}
		var data []byte
		switch s.Type {
		case elf.SHT_NOBITS:
			data = fmt.Append(nil, s.Size)
		case elf.SHT_RELA:
			data, err = references(f, s, symbols)
		default:
			data, err = s.Data()
		}
		if err != nil {
			return map[string][]byte{"": text}
		}
		if s.Name == ".modinfo" {
			data = moduleLabels.ReplaceAll(data, nil)
		}
		// Sections may share a name.
		name := s.Name
		for parts[name] != nil {
			name += fmt.Sprint("#", i)
		}
		parts[name] = append([]byte{}, data...)
	}
	return parts
}

// references lists what the places of a section refer to: in a file that is not linked yet
// the code itself does not say which function it calls.
func references(f *elf.File, s *elf.Section, symbols []elf.Symbol) ([]byte, error) {
	data, err := s.Data()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for ; len(data) >= 24; data = data[24:] {
		offset, info, addend := f.ByteOrder.Uint64(data), f.ByteOrder.Uint64(data[8:]), int64(f.ByteOrder.Uint64(data[16:]))
		number := elf.R_SYM64(info)
		if number == 0 || int(number) > len(symbols) {
			fmt.Fprintf(&out, "%d %d %d\n", offset, elf.R_TYPE64(info), addend)
			continue
		}
		symbol := symbols[number-1]
		section := ""
		if int(symbol.Section) < len(f.Sections) {
			section = f.Sections[symbol.Section].Name
		}
		fmt.Fprintf(&out, "%d %d %q %q+%d %d\n", offset, elf.R_TYPE64(info), symbol.Name, section, symbol.Value, addend)
	}
	return out.Bytes(), nil
}
