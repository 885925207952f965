package kernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// SameCode says whether two kernels would run the same: every section of their
// vmlinux and of their modules that is loaded holds the same bytes, but for what tells
// builds and source lines apart.
func SameCode(a, b *Built) (bool, error) {
	if a.Key == b.Key {
		return true, nil
	}
	one, err := loaded(filepath.Join(a.Dir, "vmlinux"))
	if err != nil {
		return false, err
	}
	other, err := loaded(filepath.Join(b.Dir, "vmlinux"))
	if err != nil {
		return false, err
	}
	if !maps.EqualFunc(one, other, bytes.Equal) {
		return false, nil
	}
	mine, err := readModules(filepath.Join(a.Dir, modulesFile))
	if err != nil {
		return false, err
	}
	theirs, err := readModules(filepath.Join(b.Dir, modulesFile))
	return err == nil && maps.EqualFunc(mine, theirs, func(one, other []byte) bool {
		return maps.EqualFunc(loadedModule(one), loadedModule(other), bytes.Equal)
	}), err
}

// SameShape says whether two kernels may differ in numbers of lines only: they have
// the same functions and objects, each of the same size.
func SameShape(a, b *Built) (bool, error) {
	one, err := shape(a.Dir)
	if err != nil {
		return false, err
	}
	other, err := shape(b.Dir)
	return err == nil && slices.Equal(one, other), err
}

// counted are the numbers that a compiler or a macro puts into a name.
var counted = regexp.MustCompile(`\d+`)

// shape lists the functions and objects of a kernel with their sizes, sorted.
func shape(dir string) ([]string, error) {
	path := filepath.Join(dir, "vmlinux")
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	all, err := symbolSizes(f, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	modules, err := readModules(filepath.Join(dir, modulesFile))
	if err != nil {
		return nil, err
	}
	for name, text := range modules {
		sizes := []string{name + " " + hashOf(string(text))} // one that is compressed
		if f, err := elf.NewFile(bytes.NewReader(text)); err == nil {
			if sizes, err = symbolSizes(f, name+" "); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		all = append(all, sizes...)
	}
	slices.Sort(all)
	return all, nil
}

// symbolSizes lists the functions and objects of an image, each behind what it belongs to.
func symbolSizes(f *elf.File, of string) ([]string, error) {
	symbols, err := f.Symbols()
	var all []string
	for _, s := range symbols {
		if kind := elf.ST_TYPE(s.Info); kind == elf.STT_FUNC || kind == elf.STT_OBJECT {
			all = append(all, fmt.Sprintf("%s%s %d", of, counted.ReplaceAllString(s.Name, "N"), s.Size))
		}
	}
	return all, err
}

// labels are sections that change with a line number, or name the build.
var labels = []string{"__bug_table", ".notes"}

// banner is where a kernel names its release (init/version.c, linux_banner).
var banner = regexp.MustCompile(`Linux version (\S+) \(`)

// loaded returns the sections of a vmlinux that it is made of in memory, the
// release's name in them blanked out.
func loaded(path string) (map[string][]byte, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	sections := map[string][]byte{}
	var release []byte
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NOTE ||
			slices.Contains(labels, s.Name) || strings.HasPrefix(s.Name, ".note") {
			continue
		}
		data, err := s.Data()
		if err != nil {
			return nil, fmt.Errorf("%s: section %s: %w", path, s.Name, err)
		}
		sections[s.Name] = data
		if found := banner.FindSubmatch(data); found != nil && release == nil {
			release = bytes.Clone(found[1])
		}
	}
	if len(release) == 0 {
		return sections, nil
	}
	for name, data := range sections {
		sections[name] = bytes.ReplaceAll(data, release, bytes.Repeat([]byte{0}, len(release)))
	}
	return sections, nil
}
