package vmtest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// writeELF writes a program or kernel of a few bytes of machine code, which is
// loaded at and entered at address, and returns its path.
func writeELF(t testing.TB, address uint64, code, note []byte) string {
	t.Helper()
	const header, segment = 64, 56
	start := uint64(header + 2*segment)
	h := elf.Header64{
		Ident:     [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:      uint16(elf.ET_EXEC),
		Machine:   uint16(elf.EM_X86_64),
		Version:   uint32(elf.EV_CURRENT),
		Entry:     address,
		Phoff:     header,
		Ehsize:    header,
		Phentsize: segment,
		Phnum:     2,
	}
	// The file offset and the address must agree modulo a page for an execve.
	at := uint64(0x1000)
	load := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Off: at, Vaddr: address, Paddr: address,
		Filesz: uint64(len(code)), Memsz: uint64(len(code)), Align: 0x1000}
	notes := elf.Prog64{Type: uint32(elf.PT_NOTE), Flags: uint32(elf.PF_R), Off: start, Filesz: uint64(len(note)), Memsz: uint64(len(note)), Align: 4}
	var b bytes.Buffer
	for _, part := range []any{h, load, notes, note} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(make([]byte, at-uint64(b.Len())))
	b.Write(code)
	file := filepath.Join(t.TempDir(), "elf")
	if err := os.WriteFile(file, b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// pvhNote is the ELF note by which QEMU finds a kernel's entry for PVH:
// XEN_ELFNOTE_PHYS32_ENTRY (18) of the owner "Xen".
func pvhNote(entry uint64) []byte {
	var b []byte
	for _, word := range []uint32{4, 8, 18} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	b = append(b, "Xen\x00"...)
	return binary.LittleEndian.AppendUint64(b, entry)
}

// bareLine is what bareInit prints.
const bareLine = "BARE-INIT"

// bareInit is the least that an init can do: write(1, line), then power off.
func bareInit() []byte {
	line := []byte(bareLine + "\n")
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, SYS_write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x48, 0x8d, 0x35, 27, 0, 0, 0, // lea rsi, [rip+27]: the line
		0xba, byte(len(line)), 0, 0, 0, // mov edx, len
		0x0f, 0x05, // syscall
		0xb8, 169, 0, 0, 0, // mov eax, SYS_reboot
		0xbf, 0xad, 0xde, 0xe1, 0xfe, // mov edi, LINUX_REBOOT_MAGIC1
		0xbe, 0x69, 0x19, 0x12, 0x28, // mov esi, LINUX_REBOOT_MAGIC2
		0xba, 0xdc, 0xfe, 0x21, 0x43, // mov edx, LINUX_REBOOT_CMD_POWER_OFF
	}
	// rip is behind the lea; between it and the line are 7+20+2 bytes.
	code = append(code, 0x0f, 0x05)
	code[13] = byte(len(code) - 17)
	return append(code, line...)
}
