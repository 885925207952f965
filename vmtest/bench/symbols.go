package bench

import (
	"cmp"
	"debug/elf"
	"fmt"
	"patchproof/patches/subjects"
	"slices"
	"strings"
)

// The parts that instructions are split into, beside the subject's own.
const (
	partUser  = "user"
	partEntry = "entry"
	partSlab  = "slab"
	partOther = "other"
)

// partNames are in the order in which they are shown: the way of a request.
func partNames(own []subjects.Part) []string {
	names := []string{partUser, partEntry}
	for _, p := range own {
		names = append(names, p.Name)
	}
	return append(names, partSlab, partOther)
}

// function is a function of the kernel.
type function struct {
	start uint64
	name  string
	// file is the source file, without folder, of functions that are static: the
	// symbols of an object's own follow the name of its file (ELF, STT_FILE).
	file string
}

// symbols finds functions by address.
type symbols []function

// readSymbols reads a vmlinux.
func readSymbols(vmlinux string) (symbols, error) {
	f, err := elf.Open(vmlinux)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", vmlinux, err)
	}
	var s symbols
	file := ""
	for _, sym := range all {
		switch elf.ST_TYPE(sym.Info) {
		case elf.STT_FILE:
			file = sym.Name
			continue
		case elf.STT_FUNC, elf.STT_NOTYPE:
		default:
			continue
		}
		if sym.Section == elf.SHN_UNDEF || sym.Section >= elf.SHN_LORESERVE || f.Sections[sym.Section].Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		fn := function{start: sym.Value, name: sym.Name}
		if elf.ST_BIND(sym.Info) == elf.STB_LOCAL {
			fn.file = file
		}
		s = append(s, fn)
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("%s has no symbols", vmlinux)
	}
	slices.SortStableFunc(s, func(a, b function) int { return cmp.Compare(a.start, b.start) })
	return s, nil
}

// kernelHalf is where the kernel's addresses begin.
const kernelHalf = 1 << 63

// at returns the function that the address is in.
func (s symbols) at(addr uint64) function {
	if addr < kernelHalf {
		return function{name: "(user)"}
	}
	i, exact := slices.BinarySearchFunc(s, addr, func(f function, addr uint64) int { return cmp.Compare(f.start, addr) })
	if !exact {
		i--
	}
	if i < 0 {
		return function{name: "(unknown)"}
	}
	return s[i]
}

// part says where in a request's way the function is.
func (f function) part(own []subjects.Part) string {
	starts := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(f.name, p) })
	}
	switch {
	case f.name == "(user)":
		return partUser
	}
	for _, p := range own {
		if slices.Contains(p.Files, f.file) || slices.ContainsFunc(p.Contains, func(word string) bool { return strings.Contains(f.name, word) }) {
			return p.Name
		}
	}
	switch {
	case f.file == "slub.c" || starts("kmem_cache_", "__kmalloc", "kfree", "__slab_", "___slab_"):
		return partSlab
	case f.file == "common.c" && strings.Contains(f.name, "syscall") ||
		starts("entry_", "do_syscall_", "syscall_", "__x64_sys_", "swapgs_", "exit_to_user_", "asm_", "irqentry_"):
		return partEntry
	}
	return partOther
}
