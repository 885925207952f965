//go:build linux

package machine

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// NVMe is the disk that programs read and write; its content is scratch. A VM of
// the harness has no other, and elsewhere the collector names it.
var NVMe = cmp.Or(os.Getenv(event.DiskEnv), "/dev/nvme0n1")

// Disks returns the paths of the machine's disks: NVMe's and virtio's.
func Disks() []string {
	var disks []string
	for _, pattern := range []string{"/sys/block/nvme*", "/sys/block/vd*"} {
		found, _ := filepath.Glob(pattern)
		for _, dir := range found {
			disks = append(disks, "/dev/"+filepath.Base(dir))
		}
	}
	return disks
}

// Sector is the alignment and smallest size of O_DIRECT requests in bytes.
const Sector = 512

// OpenDisk opens the disk, or a partition of it, for O_DIRECT, and exclusively:
// while the open file lives anywhere, also only as a ring's registered file,
// another exclusive open fails with EBUSY (bd_claim, fs/block_dev.c).
func OpenDisk(path string) (fd int, err error) {
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// partitionSize is in bytes.
const partitionSize = 4 << 20

// AddPartition adds the n-th partition, from 1, and returns its path. The disk
// needs no partition table for that (blkpg.h).
func AddPartition(n int) (path string, err error) {
	disk, err := unix.Open(NVMe, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", NVMe, err)
	}
	defer unix.Close(disk)
	partition := unix.BlkpgPartition{Start: int64(n-1) * partitionSize, Length: partitionSize, Pno: int32(n)}
	var pin runtime.Pinner
	pin.Pin(&partition)
	defer pin.Unpin()
	const addPartition = 1 // BLKPG_ADD_PARTITION
	arg := unix.BlkpgIoctlArg{Op: addPartition, Datalen: int32(unsafe.Sizeof(partition)), Data: (*byte)(unsafe.Pointer(&partition))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(disk), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return "", fmt.Errorf("add partition %d to %s: %w", n, NVMe, errno)
	}
	return fmt.Sprintf("%sp%d", NVMe, n), nil
}

// NVMePolls says why the disk cannot be polled, nil when it can: the driver
// must have a polled queue (boot option nvme.poll_queues).
func NVMePolls() error {
	path := "/sys/block/" + filepath.Base(NVMe) + "/queue/io_poll"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(b)); got != "1" {
		return fmt.Errorf("%s is %s; want 1 (boot with nvme.poll_queues=1)", path, got)
	}
	return nil
}

// NVMeInterrupts counts the interrupts that the disk's I/O queues have raised
// so far (its admin queue, q0, is left out).
func NVMeInterrupts() (uint64, error) {
	perCPU, err := interruptsPerCPU()
	var total uint64
	for _, n := range perCPU {
		total += n
	}
	return total, err
}

// interruptsPerCPU counts the same by the CPU that they came to: one count
// per online CPU, in order.
func interruptsPerCPU() ([]uint64, error) {
	const path = "/proc/interrupts"
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	controller := NVMe[strings.LastIndex(NVMe, "/")+1 : strings.LastIndex(NVMe, "n")]
	header, table, _ := strings.Cut(string(b), "\n")
	counts := make([]uint64, len(strings.Fields(header)))
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) <= len(counts) {
			continue
		}
		name := words[len(words)-1]
		if queue, ok := strings.CutPrefix(name, controller+"q"); !ok || queue == "0" {
			continue
		}
		for i := range counts {
			n, err := strconv.ParseUint(words[1+i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", path, line, err)
			}
			counts[i] += n
		}
	}
	return counts, nil
}

// NVMeInterruptedBy returns the only CPU that got the disk's interrupts while f ran.
func NVMeInterruptedBy(f func() error) (cpu int, err error) {
	cpus, err := OnlineCPUs()
	if err != nil {
		return 0, err
	}
	before, err := interruptsPerCPU()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := interruptsPerCPU()
	if err != nil {
		return 0, err
	}
	var got []int
	for i, cpu := range cpus {
		if after[i] != before[i] {
			got = append(got, cpu)
		}
	}
	if len(got) != 1 {
		return 0, fmt.Errorf("CPUs %v got the disk's interrupts; want one", got)
	}
	return got[0], nil
}

// EndWhereInterrupted lets the disk's requests end on the CPU that the interrupt
// comes to, whichever CPU submitted them (rq_affinity in
// Documentation/block/queue-sysfs.rst). With nvme.write_queues=1 that is the same one
// for the writes of all CPUs.
func EndWhereInterrupted() error {
	return os.WriteFile("/sys/block/"+filepath.Base(NVMe)+"/queue/rq_affinity", []byte("0"), 0)
}

// BadSector is the sector that fails on every disk, as the harness says; it is
// Trouble when that does not.
func BadSector() (int64, error) {
	const option = "patchproof.bad-sector"
	value, _ := BootOption(option)
	bad, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, Trouble{fmt.Errorf("boot option %s: %w", option, err)}
	}
	return bad, nil
}

// Buffer returns n zeroed bytes at the start of a page and outside Go's heap,
// so that the kernel may write to them at any time. They are never given back.
func Buffer(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
}
