package qemu

import (
	"fmt"

	"github.com/hugelgupf/vmtest/qemu"
)

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
			"-drive", fmt.Sprintf("if=none,id=%s,cache=unsafe,%s=%s", id, d.format(), commas(image)),
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
