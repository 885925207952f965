package subjects

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// plainName keeps names usable as folder, git ref, subtest and command-line word.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// validate says what is wrong with what a subject declares, and with what it names that nothing
// declares.
func (s *Subject) validate() error {
	if err := s.complete(); err != nil {
		return err
	}
	kernels, err := s.validKernels()
	if err != nil {
		return err
	}
	programs, err := s.validPrograms()
	if err != nil {
		return err
	}
	groups, err := s.validGroups()
	if err != nil {
		return err
	}
	broken, err := s.validMutants()
	if err != nil {
		return err
	}
	for _, list := range []struct {
		key         string
		names, have []string
	}{
		{"quick", s.Quick, programs}, {"hardware", s.Hardware, programs}, {"bench.hardware", s.Bench.Hardware, groups},
		{"mutants.kernel", broken, kernels}, {"bisect.program", given(s.Demo.Program), programs},
	} {
		for _, name := range list.names {
			if !slices.Contains(list.have, name) {
				return fmt.Errorf("%s names %q, which is not declared", list.key, name)
			}
		}
	}
	for i, k := range s.Issues {
		if err := k.validate(); err != nil {
			return fmt.Errorf("issue %d (program %q, check %q): %w", i+1, strings.Join(k.programs(), ", "), k.Check, err)
		}
	}
	for pin, path := range s.Demo.Series {
		if err := s.has(path); err != nil {
			return fmt.Errorf("bisect.series %s: %w", pin, err)
		}
	}
	for i, f := range s.Figures {
		if !slices.Contains(FigureKinds, f.Kind) {
			return fmt.Errorf("figure %d: kind is %q; want one of %s", i+1, f.Kind, strings.Join(FigureKinds, ", "))
		}
	}
	return nil
}

// complete says which of what every subject needs is missing.
func (s *Subject) complete() error {
	switch {
	case s.Title == "":
		return errors.New("title is missing")
	case s.Pin == "":
		return errors.New("pin is missing")
	case len(s.Kernels) == 0:
		return errors.New("kernel: at least one is needed")
	case len(s.Programs) == 0:
		return errors.New("program: at least one is needed")
	}
	for _, t := range s.Touches {
		if _, err := path.Match(t, ""); err != nil || t == "" || t[0] == '/' {
			return fmt.Errorf("touches has %q; want a path in a kernel's tree", t)
		}
	}
	return nil
}

// validKernels returns the names of the kernels.
func (s *Subject) validKernels() (names []string, err error) {
	for _, k := range s.Kernels {
		if err := newName(k.Name, &names); err != nil {
			return nil, fmt.Errorf("kernel: %w", err)
		}
		if len(k.Series) == 0 {
			return nil, fmt.Errorf("kernel %s: series is missing", k.Name)
		}
		for pin, series := range k.Series {
			for _, path := range series {
				if err := s.has(path); err != nil {
					return nil, fmt.Errorf("kernel %s: series %s: %w", k.Name, pin, err)
				}
			}
		}
	}
	return names, nil
}

// validPrograms returns the names of the programs.
func (s *Subject) validPrograms() (names []string, err error) {
	for _, p := range s.Programs {
		if err := newName(p.Name, &names); err != nil {
			return nil, fmt.Errorf("program: %w", err)
		}
		if p.Name == Quick {
			return nil, fmt.Errorf("program %s: the name is taken, it stands for the programs that the key quick lists", p.Name)
		}
		if err := p.validate(); err != nil {
			return nil, fmt.Errorf("program %s: %w", p.Name, err)
		}
		if p.Script == "" {
			continue
		}
		if err := s.has(p.Script); err != nil {
			return nil, fmt.Errorf("program %s: script: %w", p.Name, err)
		}
		if slices.Contains(s.Hardware, p.Name) {
			return nil, fmt.Errorf("hardware names %q, which is a script: a bundle has commands only", p.Name)
		}
	}
	return names, nil
}

// validGroups returns the names of what is measured.
func (s *Subject) validGroups() (names []string, err error) {
	for _, g := range s.Bench.Groups {
		if err := newName(g.Name, &names); err != nil {
			return nil, fmt.Errorf("bench.group: %w", err)
		}
		if len(g.CPUs) == 0 || slices.Min(g.CPUs) < 1 {
			return nil, fmt.Errorf("bench.group %s: cpus are %v; want numbers from 1", g.Name, g.CPUs)
		}
		if err := validDevices(g.Devices); err != nil {
			return nil, fmt.Errorf("bench.group %s: %w", g.Name, err)
		}
	}
	if len(names) > 0 && s.Bench.Command == "" {
		return nil, errors.New("bench.command is missing")
	}
	return names, nil
}

// validMutants returns the names of the kernels that mutants break.
func (s *Subject) validMutants() (broken []string, err error) {
	for _, m := range s.Mutants {
		if m.Kernel == "" {
			return nil, errors.New("mutants.kernel is missing")
		}
		if slices.Contains(broken, m.Kernel) {
			return nil, fmt.Errorf("mutants.kernel %s is declared twice", m.Kernel)
		}
		broken = append(broken, m.Kernel)
		for pin, path := range m.Folders {
			if err := s.has(path); err != nil {
				return nil, fmt.Errorf("mutants.folder %s: %w", pin, err)
			}
		}
	}
	return broken, nil
}

// given is a list of what is not empty.
func given(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// newName adds a name that is fit for use and not there yet.
func newName(name string, have *[]string) error {
	if !plainName.MatchString(name) {
		return fmt.Errorf("name %q: want letters, digits, dots, dashes", name)
	}
	if slices.Contains(*have, name) {
		return fmt.Errorf("name %q is declared twice", name)
	}
	*have = append(*have, name)
	return nil
}

// has says what is wrong with a path of the subject's.
func (s *Subject) has(path string) error {
	if !filepath.IsLocal(path) {
		return fmt.Errorf("%q is not a path below the subject's folder", path)
	}
	if _, err := os.Stat(s.Path(path)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s in the subject's folder", path)
	} else if err != nil {
		return err
	}
	return nil
}

// The values that Program.Mode and Device.Kind may have.
var (
	modes       = []string{"", "singlestep", "icount"}
	deviceKinds = []string{"nvme", "virtio-blk-pci"}
)

func (p Program) validate() error {
	switch {
	case p.Command != "" && !plainName.MatchString(p.Command):
		return fmt.Errorf("command is %q; want a command's name, and its arguments as args", p.Command)
	case p.Command != "" && p.Script != "":
		return errors.New("it has command and script; want one of them")
	case p.CPUs < 1:
		return fmt.Errorf("cpus is %d; want 1 or more", p.CPUs)
	case p.MemoryMiB < 64:
		return fmt.Errorf("memory-mib is %d; want 64 or more", p.MemoryMiB)
	case p.Deadline <= 0:
		return fmt.Errorf("deadline is %v; want one such as \"30s\"", p.Deadline)
	case !slices.Contains(modes, p.Mode):
		return fmt.Errorf("mode is %q; want %s", p.Mode, strings.Join(modes[1:], " or "))
	case p.Mode == "icount" && p.CPUs != 1:
		return fmt.Errorf("cpus is %d; mode icount emulates one", p.CPUs)
	}
	for _, word := range p.Args {
		if word == "" || strings.ContainsAny(word, " \t\n\"") {
			return fmt.Errorf("args has %q; want one word of the kernel command line each", word)
		}
	}
	return validDevices(p.Devices)
}

func validDevices(devices []Device) error {
	for _, d := range devices {
		if !slices.Contains(deviceKinds, d.Kind) {
			return fmt.Errorf("devices: kind is %q; want %s", d.Kind, strings.Join(deviceKinds, " or "))
		}
		if d.SizeMiB < 1 {
			return fmt.Errorf("devices: size-mib is %d; want 1 or more", d.SizeMiB)
		}
	}
	return nil
}
