//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// enterHostRoot makes the host's root the root of this program, read-only, with what was
// packed for the test and a tmpfs over it, and with this machine's devices and processes.
func enterHostRoot() error {
	const dir = "/hostroot"
	lower, above, all := filepath.Join(dir, "host"), filepath.Join(dir, "above"), filepath.Join(dir, "all")
	upper, work := filepath.Join(above, "upper"), filepath.Join(above, "work")
	for _, d := range []string{lower, above, all, event.OverDir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// What a test needs of the host's root does not change while it runs.
	if err := mount(event.HostTag, lower, "9p", unix.MS_RDONLY, "trans=virtio,version=9p2000.L,cache=loose,msize=262144"); err != nil {
		return err
	}
	if err := mount("tmpfs", above, "tmpfs", 0, "mode=755,size=50%"); err != nil {
		return err
	}
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := mount("overlay", all, "overlay", 0, fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s", event.OverDir, lower, upper, work)); err != nil {
		return err
	}
	// The kernel's own modules, where it has some, are not those of the host's kernel.
	for _, d := range []string{"proc", "sys", "dev", "lib/modules"} {
		if _, err := os.Stat("/" + d); os.IsNotExist(err) {
			continue
		}
		if err := os.MkdirAll(filepath.Join(all, d), 0o755); err != nil {
			return err
		}
		if err := mount("/"+d, filepath.Join(all, d), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	// A program whose root is a plain folder may not make namespaces (user_namespaces(7)).
	if err := os.Chdir(all); err != nil {
		return err
	}
	if err := mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

func mount(source, target, kind string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	return nil
}
