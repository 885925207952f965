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
// vmlinux that is loaded holds the same bytes, but for what tells builds and
// source lines apart.
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
	return maps.EqualFunc(one, other, bytes.Equal), nil
}

// SameShape says whether two kernels may differ in numbers of lines only: they have
// the same functions and objects, each of the same size.
func SameShape(a, b *Built) (bool, error) {
	one, err := shape(filepath.Join(a.Dir, "vmlinux"))
	if err != nil {
		return false, err
	}
	other, err := shape(filepath.Join(b.Dir, "vmlinux"))
	return err == nil && slices.Equal(one, other), err
}

// counted are the numbers that a compiler or a macro puts into a name.
var counted = regexp.MustCompile(`\d+`)

// shape lists the functions and objects of a vmlinux with their sizes, sorted.
func shape(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var all []string
	for _, s := range symbols {
		if kind := elf.ST_TYPE(s.Info); kind == elf.STT_FUNC || kind == elf.STT_OBJECT {
			all = append(all, fmt.Sprintf("%s %d", counted.ReplaceAllString(s.Name, "N"), s.Size))
		}
	}
	slices.Sort(all)
	return all, nil
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
