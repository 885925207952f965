// Package arch is all that the host knows of the processor architecture of the kernels
// that it builds and boots. Another one is another value.
package arch

import "debug/elf"

// Arch is one architecture. What its kernel prints is not here: vmtest/console reads logs
// of any, wherever they come from. The counter's plugin has the bytes of the marks
// (vmtest/counter/plugin/counter.c) beside guest/mark, which has a file for each.
type Arch struct {
	// Name is for people.
	Name string
	// GOARCH and GOAMD64 are what the guest's programs are compiled for: the oldest
	// processor of the architecture, so that they run on every machine.
	GOARCH, GOAMD64 string
	// Machine is what the header of its programs says.
	Machine elf.Machine
	// Src is its folder below arch/ in the kernel's source ($(SRCARCH) in its makefiles),
	// and Make are the values of ARCH= that mean it.
	Src  string
	Make []string
	// BzImage is where its compressed image lies below a build folder.
	BzImage string
	// Generated are the folders with headers that a build in the source leaves there.
	Generated string
	// QEMU is the program that emulates it, QEMUPackage Debian's package with that.
	QEMU, QEMUPackage string
	// Board is the machine that QEMU emulates, without the parts that only cost boot time.
	Board string
	// Console is its first serial port.
	Console string
	// Emulated are words of the kernel command line for a guest without KVM.
	Emulated []string
	// PanicOnNMI is the word by which an NMI that nobody claims is a panic.
	PanicOnNMI string
}

// Target is the architecture that kernels are built for and guests run on.
var Target = Arch{
	Name:    "x86-64",
	GOARCH:  "amd64",
	GOAMD64: "v1",
	Machine: elf.EM_X86_64,

	Src:       "x86",
	Make:      []string{"x86", "x86_64", "amd64"},
	BzImage:   "arch/x86/boot/bzImage",
	Generated: "arch/x86/include/generated",

	QEMU:        "qemu-system-x86_64",
	QEMUPackage: "qemu-system-x86",
	Board:       "q35,vmport=off,sata=off,smbus=off,usb=off",

	Console: "ttyS0",
	// On a busy host the timer's first interrupts come too late for the boot's check of
	// them (check_timer, arch/x86/kernel/apic/io_apic.c), which panics. KVM guests leave
	// the check out by themselves.
	Emulated:   []string{"no_timer_check"},
	PanicOnNMI: "unknown_nmi_panic",
}
