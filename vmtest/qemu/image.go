package qemu

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"patchproof/kernel/arch"
)

// Unloadable says what is wrong with a file that QEMU is to load as a kernel, "" where
// nothing is found. QEMU takes what it does not know for an old kernel.
func Unloadable(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	head := make([]byte, 0x206)
	n, _ := io.ReadFull(f, head)
	// Documentation/arch/x86/boot.rst: the header's magic number.
	if string(head[0x202:]) == "HdrS" {
		return ""
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return fmt.Sprintf("neither an ELF file nor a bzImage, it begins with %.20q", head[:n])
	}
	image, err := elf.NewFile(f)
	if err != nil {
		return fmt.Sprintf("not a whole ELF file: %v", err)
	}
	if image.Machine != arch.Target.Machine {
		return fmt.Sprintf("not for %s: its ELF header says %s", arch.Target.Name, image.Machine)
	}
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	entered := false
	for _, p := range image.Progs {
		if p.Type == elf.PT_LOAD && p.Off+p.Filesz > uint64(info.Size()) {
			return fmt.Sprintf("cut short: it has %d bytes, and a part of it would lie behind them", info.Size())
		}
		if p.Type == elf.PT_NOTE {
			entered = entered || hasPVH(p.Open())
		}
	}
	if !entered {
		return "without a PVH note, by which QEMU enters a kernel (CONFIG_PVH=y)"
	}
	return ""
}

// hasPVH looks in notes for Xen's with the entry point of a PVH kernel
// (XEN_ELFNOTE_PHYS32_ENTRY of include/xen/interface/elfnote.h, 18).
func hasPVH(notes io.Reader) bool {
	for {
		var n struct{ Name, Desc, Type uint32 }
		if binary.Read(notes, binary.LittleEndian, &n) != nil {
			return false
		}
		name := make([]byte, min(n.Name+3, 64)&^3)
		if _, err := io.ReadFull(notes, name); err != nil {
			return false
		}
		if n.Type == 18 && string(name) == "Xen\x00" {
			return true
		}
		if _, err := io.CopyN(io.Discard, notes, int64(n.Desc+3)&^3); err != nil {
			return false
		}
	}
}
