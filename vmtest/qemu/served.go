package qemu

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/hugelgupf/vmtest/qemu"

	"patchproof/guest/event"
)

// process are the words that start QEMU, which works in a folder. What it serves of the
// host's root is all that it sees itself.
func (v VM) process(folder string) ([]string, error) {
	if v.Root == nil {
		return []string{Binary}, nil
	}
	return v.Root.Command(Binary, []string{v.Boot.Kernel, v.Boot.Initramfs}, folder, v.Net)
}

// root serves the host's root. QEMU refuses to write, and does not follow links.
func (v VM) root() qemu.Fn {
	if v.Root == nil {
		return qemu.All()
	}
	return qemu.WithQEMUArgs(
		"-fsdev", "local,id=hostroot,path="+v.Root.Folder()+",security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=hostroot,mount_tag="+event.HostTag)
}

// CanServe says what keeps this QEMU from serving folders to a guest, if something does.
var CanServe = sync.OnceValue(func() error {
	if out, err := ask(context.Background(), "", "-device", "virtio-9p-pci,help"); err != nil || !strings.Contains(out, "mount_tag") {
		return errors.New("this QEMU was built without virtfs, by which a guest reads the host's root (virtio-9p-pci)")
	}
	return nil
})

// net is a network card, with QEMU's own network behind it: the guest reaches out, the
// host at 10.0.2.2, and nobody reaches in. Its boot ROM would only be loaded.
func (v VM) net() qemu.Fn {
	if !v.Net {
		return qemu.All()
	}
	return qemu.WithQEMUArgs("-netdev", "user,id=net,ipv6=off", "-device", "virtio-net-pci,netdev=net,romfile=")
}
