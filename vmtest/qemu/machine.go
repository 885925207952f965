package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/hugelgupf/vmtest/qemu"

	"patchproof/kernel/arch"
)

// process are the words that start QEMU, by those of a command line, so that it dies with
// the harness, even when the harness is killed: setpriv (util-linux) sets PR_SET_PDEATHSIG,
// see prctl(2), and execs QEMU in its own place. Without setpriv only the harness's own
// clean-up ends QEMU. Its environment names the guest's folder.
func process(command []string, folder string) []string {
	command = append([]string{"env", guestVariable + "=" + folder}, command...)
	if _, err := exec.LookPath("setpriv"); err == nil {
		command = append([]string{"setpriv", "--pdeathsig", "KILL"}, command...)
	}
	return command
}

// bare sets the command and forgets what the library would add by itself: its
// default -nographic puts the serial port on QEMU's stdout, from where its Wait
// reads all output into memory, and its VMTEST_* variables would make two runs
// of one selection differ.
func bare(command []string) qemu.Fn {
	return func(_ *qemu.IDAllocator, o *qemu.Options) error {
		// The library would part the command's words at blanks.
		o.QEMUCommand, o.QEMUArgs, o.KernelArgs, o.VMTimeout = command[0], command[1:], "", 0
		return nil
	}
}

// confined keeps a guest that breaks out of QEMU from much of the host's kernel
// (QEMU's -sandbox, seccomp): no other programs, no other users, no old system calls.
func confined() qemu.Fn {
	if !canConfine() {
		return qemu.All()
	}
	return qemu.WithQEMUArgs("-sandbox", confinement)
}

const confinement = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// canConfine says that this QEMU was built with it.
var canConfine = sync.OnceValue(func() bool {
	_, err := ask(context.Background(), "quit\n", "-sandbox", confinement, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio")
	// One that does not answer says nothing of it.
	return err == nil || errors.Is(err, errLate)
})

// commas doubles the commas of a path, which end an option's value for QEMU.
func commas(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// Mode is a way to emulate processors. All but Normal need TCG, and take it
// where the other programs run under KVM.
type Mode string

// The modes. Singlestep lets an interrupt in after every instruction, where TCG
// otherwise takes one between translation blocks only, so that an inlined list
// operation is never interrupted. Icount makes guest time the number of
// instructions, the same in every run; it emulates one processor.
const (
	Normal     Mode = ""
	Singlestep Mode = "singlestep"
	Icount     Mode = "icount"
)

// Machine is the board: processors and memory, and nothing that the programs
// do not use. Each omitted part is one less for the guest to probe: no NIC
// (-nodefaults), no SATA, SMBus and USB controllers, no vmport.
type Machine struct {
	Accel     string
	Mode      Mode
	CPUs      int
	MemoryMiB int
	// stepped has the guest single-stepped from its first instruction on. The
	// harness switches that on when the program begins (guest.singlestep), because
	// a boot then takes twenty times as long; a command line can't.
	stepped bool
}

func (m Machine) options() qemu.Fn {
	return func(_ *qemu.IDAllocator, o *qemu.Options) error {
		if m.Accel == TCG {
			o.AppendKernel(m.knownClock()...)
			o.AppendKernel(arch.Target.Emulated...)
		}
		o.AppendQEMU("-nodefaults", "-no-user-config", "-display", "none",
			"-machine", arch.Target.Board,
			"-accel", m.accel(),
			"-smp", fmt.Sprint(m.CPUs),
			"-m", fmt.Sprint(m.MemoryMiB))
		switch {
		case m.Mode == Icount:
			o.AppendQEMU("-icount", "shift=0,sleep=off")
		case m.stepped && !oneInsnPerTB():
			o.AppendQEMU("-singlestep")
		}
		return nil
	}
}

// accel is QEMU's accelerator with its properties.
func (m Machine) accel() string {
	if m.stepped && oneInsnPerTB() {
		return m.Accel + ",one-insn-per-tb=on"
	}
	return m.Accel
}

// oneInsnPerTB says that this QEMU's name for -singlestep is a property of the
// accelerator: since 8.1, and the only name since 9.0.
var oneInsnPerTB = sync.OnceValue(func() bool {
	version, err := Find(context.Background())
	if err != nil {
		return false
	}
	var major, minor int
	fmt.Sscanf(version, "%d.%d", &major, &minor)
	return major > 8 || major == 8 && minor >= 1
})

// knownClock tells a kernel how fast the time stamp counter runs, which TCG
// takes from the host, and with icount from the instructions. A guest that has to find out waits for timer interrupts
// that a busy host delivers late: it then warns and delays wrongly, and takes
// 0.08 s longer to boot even on an idle one.
func (m Machine) knownClock() []string {
	// tickRate is CONFIG_HZ, Kconfig's default.
	const tickRate = 250
	words := func(khz int) []string {
		return []string{fmt.Sprintf("tsc_early_khz=%d", khz), fmt.Sprintf("lpj=%d", khz*1000/tickRate)}
	}
	if m.Mode == Icount {
		// With shift=0 an instruction is a nanosecond.
		return words(1_000_000)
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil
	}
	value, _ := field(string(text), "cpu MHz")
	mhz, err := strconv.ParseFloat(strings.TrimLeft(value, "\t :"), 64)
	if err != nil {
		return nil
	}
	return words(int(mhz * 1000))
}

// Boot is what the guest boots, and the words of the kernel command line
// that every guest gets.
type Boot struct {
	Kernel, Initramfs string
	// Append are further words of the kernel command line.
	Append []string
}

func (b Boot) options() qemu.Fn {
	return qemu.All(
		qemu.WithKernel(absolute(b.Kernel)),
		qemu.WithInitramfs(absolute(b.Initramfs)),
		qemu.WithAppendKernel(
			"console="+arch.Target.Console,
			// 256 ptys of the old kind cost a fifth of a second under TCG
			// (drivers/tty/pty.c, legacy_pty_init).
			"pty.legacy_count=0",
			// So that the dump of a guest past its deadline always works.
			"sysrq_always_enabled"),
		qemu.WithAppendKernel(b.Append...),
	)
}

// absolute makes a path one that leads to the same file from another folder.
func absolute(path string) string {
	if full, err := filepath.Abs(path); path != "" && err == nil {
		return full
	}
	return path
}

// endOnPanic makes a panic the end of QEMU: the kernel reboots at once and
// QEMU exits instead. An oops is a panic too, because what is left of the
// kernel then is worth no check: a program would wait for locks that nobody
// gives back. So is an NMI that nobody claims, which is how a guest that
// answers to nothing is asked for its stack.
func endOnPanic() qemu.Fn {
	return qemu.All(qemu.HaltOnKernelPanic(), qemu.WithAppendKernel("oops=panic", arch.Target.PanicOnNMI))
}
