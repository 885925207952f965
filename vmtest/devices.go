package vmtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hugelgupf/vmtest/qemu"
	"github.com/hugelgupf/vmtest/qemu/qevent"
	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// process starts QEMU so that it dies with the harness, even when the harness
// is killed: setpriv (util-linux) sets PR_SET_PDEATHSIG, see prctl(2), and
// execs QEMU in its own place. Without setpriv only the harness's own clean-up
// ends QEMU.
func process() qemu.Fn {
	command := qemuBinary
	if _, err := exec.LookPath("setpriv"); err == nil {
		command = "setpriv --pdeathsig KILL " + qemuBinary
	}
	return bare(command)
}

// bare sets the command and forgets what the library would add by itself: its
// default -nographic puts the serial port on QEMU's stdout, from where its Wait
// reads all output into memory, and its VMTEST_* variables would make two runs
// of one selection differ.
func bare(command string) qemu.Fn {
	return func(_ *qemu.IDAllocator, o *qemu.Options) error {
		o.QEMUCommand, o.QEMUArgs, o.KernelArgs, o.VMTimeout = command, nil, "", 0
		return nil
	}
}

// machine is the board: processors and memory, and nothing that the programs
// do not use. Each omitted part is one less for the guest to probe: no NIC
// (-nodefaults), no SATA, SMBus and USB controllers, no vmport.
type machine struct {
	Accel     string
	Mode      Mode
	CPUs      int
	MemoryMiB int
	// stepped has the guest single-stepped from its first instruction on. The
	// harness switches that on when the program begins (guest.singlestep), because
	// a boot then takes twenty times as long; a command line can't.
	stepped bool
}

func (m machine) options() qemu.Fn {
	return func(_ *qemu.IDAllocator, o *qemu.Options) error {
		if m.Accel == TCG {
			o.AppendKernel(m.knownClock()...)
			// On a busy host the timer's first interrupts come too late for the boot's
			// check of them (check_timer, arch/x86/kernel/apic/io_apic.c), which
			// panics. KVM guests leave the check out by themselves.
			o.AppendKernel("no_timer_check")
		}
		o.AppendQEMU("-nodefaults", "-no-user-config", "-display", "none",
			"-machine", "q35,vmport=off,sata=off,smbus=off,usb=off",
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
func (m machine) accel() string {
	if m.stepped && oneInsnPerTB() {
		return m.Accel + ",one-insn-per-tb=on"
	}
	return m.Accel
}

// oneInsnPerTB says that this QEMU's name for -singlestep is a property of the
// accelerator: since 8.1, and the only name since 9.0.
var oneInsnPerTB = sync.OnceValue(func() bool {
	version, err := FindQEMU(context.Background())
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
func (m machine) knownClock() []string {
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

// bootFrom is what the guest boots, and the words of the kernel command line
// that every guest gets.
type bootFrom struct {
	Kernel, Initramfs string
	// Append are further words of the kernel command line.
	Append []string
}

func (b bootFrom) options() qemu.Fn {
	return qemu.All(
		qemu.WithKernel(b.Kernel),
		qemu.WithInitramfs(b.Initramfs),
		qemu.WithAppendKernel(
			"console=ttyS0",
			// 256 ptys of the old kind cost a fifth of a second under TCG
			// (drivers/tty/pty.c, legacy_pty_init).
			"pty.legacy_count=0",
			// So that the dump of a guest past its deadline always works.
			"sysrq_always_enabled"),
		qemu.WithAppendKernel(b.Append...),
	)
}

// endOnPanic makes a panic the end of QEMU: the kernel reboots at once and
// QEMU exits instead. An oops is a panic too, because what is left of the
// kernel then is worth no check: a program would wait for locks that nobody
// gives back. So is an NMI that nobody claims, which is how a guest that
// answers to nothing is asked for its stack.
func endOnPanic() qemu.Fn {
	return qemu.All(qemu.HaltOnKernelPanic(), qemu.WithAppendKernel("oops=panic", "unknown_nmi_panic"))
}

// link connects a QEMU chardev to the harness: a socket pair, whose one end
// QEMU inherits. Unlike a path it is never left behind, and unlike a pipe it
// goes both ways.
func link(id string, conn *net.Conn) qemu.Fn {
	return func(_ *qemu.IDAllocator, o *qemu.Options) error {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket pair for QEMU's %s: %w", id, err)
		}
		mine, theirs := os.NewFile(uintptr(fds[0]), id), os.NewFile(uintptr(fds[1]), id)
		defer mine.Close()
		if *conn, err = net.FileConn(mine); err != nil {
			theirs.Close()
			return err
		}
		o.AppendQEMU("-chardev", fmt.Sprintf("socket,id=%s,fd=%d", id, o.AddFile(theirs)))
		// Only QEMU may hold its end, so that QEMU's death ends ours.
		o.Tasks = append(o.Tasks, qemu.WaitVMStarted(func(context.Context, *qemu.Notifications) error {
			return theirs.Close()
		}))
		return nil
	}
}

// serial is the guest's first serial port: a pair of FIFOs. A socket would hold
// some 300 unread bytes, because QEMU writes them one by one, and v5.10 drops a
// character that the port does not take within 10 ms (wait_for_xmitr); a FIFO
// holds a megabyte.
type serial struct {
	path    string
	in, out *os.File
}

func openSerial(dir string) (*serial, error) {
	s := &serial{path: filepath.Join(dir, "console")}
	for name, file := range map[string]**os.File{".in": &s.in, ".out": &s.out} {
		if err := unix.Mkfifo(s.path+name, 0o600); err != nil {
			return nil, fmt.Errorf("a FIFO for the guest's console: %w", err)
		}
		// Opened for both so that it neither waits for QEMU nor ends before.
		fd, err := unix.Open(s.path+name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("a FIFO for the guest's console: %w", err)
		}
		*file = os.NewFile(uintptr(fd), s.path+name)
	}
	// Where the limit is lower the default has to do.
	unix.FcntlInt(s.out.Fd(), unix.F_SETPIPE_SZ, 1<<20)
	return s, unix.SetNonblock(int(s.out.Fd()), true)
}

func (s *serial) options() qemu.Fn {
	return qemu.WithQEMUArgs("-chardev", "pipe,id=console,path="+s.path, "-serial", "chardev:console")
}

// copyTo drains the console until QEMU is gone and nothing is left. It must run
// all the time: a full FIFO stalls the guest.
func (s *serial) copyTo(w io.Writer, gone <-chan struct{}) {
	go func() {
		<-gone
		s.out.SetReadDeadline(time.Now())
	}()
	io.Copy(w, s.out)
	s.out.SetReadDeadline(time.Time{})
	rest, err := s.out.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	rest.Read(func(fd uintptr) bool {
		for {
			n, err := unix.Read(int(fd), buf)
			if err != nil || n <= 0 {
				return true
			}
			w.Write(buf[:n])
		}
	})
}

func (s *serial) close() {
	s.in.Close()
	s.out.Close()
}

// monitor is QEMU's control socket, which speaks QMP.
func monitor(conn *net.Conn) qemu.Fn {
	return qemu.All(link("monitor", conn), qemu.WithQEMUArgs("-mon", "chardev=monitor,mode=control"))
}

// events is the virtio-serial port on which the program reports. The channel
// is closed at the end of the report or of QEMU.
//
// The library closes the channel a second time, and so panics, when a guest
// says twice that it is done. A guest must not be able to end the harness:
// that panic becomes the error of VM.Wait. broke is told the error that ends the
// report; nobody else learns of it while QEMU runs.
func events(ch chan<- event.Event, broke func(error)) qemu.Fn {
	return func(alloc *qemu.IDAllocator, o *qemu.Options) error {
		before := len(o.Tasks)
		if err := qevent.EventChannel(event.Port, ch)(alloc, o); err != nil {
			return err
		}
		for i, task := range o.Tasks[before:] {
			o.Tasks[before+i] = recovering(task, broke)
		}
		return nil
	}
}

// recovering turns a panic of the task into its error, and tells broke of either.
func recovering(task qemu.Task, broke func(error)) qemu.Task {
	return func(ctx context.Context, n *qemu.Notifications) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("the guest's report went on after its end (%v)", r)
			}
			if err != nil {
				broke(err)
			}
		}()
		return task(ctx, n)
	}
}

// Device is a disk of the guest.
type Device struct {
	// Kind is NVMe or VirtioBlk.
	Kind DeviceKind
	// SizeMiB is the size of the disk, which starts as zeroes.
	SizeMiB int
	// BadSectors are sectors of 512 bytes: whatever reads or writes one fails.
	BadSectors []int64
}

// DeviceKind is how the guest sees a disk.
type DeviceKind string

// NVMe is /dev/nvme<n>n1: with nvme.poll_queues set it does real
// IORING_SETUP_IOPOLL. VirtioBlk is /dev/vd<letter>.
const (
	NVMe      DeviceKind = "nvme"
	VirtioBlk DeviceKind = "virtio-blk-pci"
)

// attach connects the device to a raw image. cache=unsafe: the image is
// scratch, so that a flush in the guest need not reach the host's disk.
func (d Device) attach(image string) qemu.Fn {
	return func(alloc *qemu.IDAllocator, o *qemu.Options) error {
		id := alloc.ID("disk")
		device := fmt.Sprintf("%s,drive=%s", d.Kind, id)
		switch d.Kind {
		case NVMe:
			device += ",serial=" + id
		case VirtioBlk:
			// The guest gets the error; QEMU would else pause it for some.
			device += ",rerror=report,werror=report"
		}
		o.AppendQEMU(
			"-drive", fmt.Sprintf("if=none,id=%s,cache=unsafe,%s=%s", id, d.format(), strings.ReplaceAll(image, ",", ",,")),
			"-device", device)
		return nil
	}
}

// format is QEMU's block drivers for the image, up to the key that wants its
// path: raw, and blkdebug above it for bad sectors (QEMU's
// docs/devel/blkdebug.txt). The event none happens when QEMU opens the image, so
// that the faults are always there.
func (d Device) format() string {
	if len(d.BadSectors) == 0 {
		return "format=raw,file"
	}
	drivers := "driver=blkdebug"
	for i, sector := range d.BadSectors {
		rule := fmt.Sprintf("inject-error.%d", i)
		drivers += fmt.Sprintf(",%s.event=none,%s.sector=%d,%s.once=off", rule, rule, sector, rule)
	}
	return drivers + ",image.driver=raw,image.file.filename"
}
