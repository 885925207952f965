//go:build linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
)

// pressure lets memory run short.
func (b *books) pressure(t *report.T, s *shrinking) error {
	return b.shrink(t, "pressure", s, hog)
}

// reclaimer is the kernel's thread that takes memory back before it runs out.
const reclaimer = "kswapd0"

// hog takes memory until the reclaimer has run once. There is
// nothing but slabs to be had: no swap, and the initramfs is memory too. With
// the largest watermark_scale_factor it starts when a tenth of the memory is
// still free, far from where the kernel would kill.
func hog() error {
	if err := machine.SetSysctl("vm/watermark_scale_factor", "1000"); err != nil {
		return err
	}
	free, err := machine.FreeMemory()
	if err != nil {
		return err
	}
	before, _, err := machine.Sleeps(reclaimer)
	if err != nil {
		return err
	}
	var taken [][]byte
	defer func() {
		for _, mem := range taken {
			unix.Munmap(mem)
		}
	}()
	const step = 4 << 20
	for size := free * 3 / 4; free > step; size = step {
		mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			return err
		}
		taken, free = append(taken, mem), free-size
		// It may have been woken just now, and may be slow to run: taking more
		// meanwhile would end with the kernel killing this program.
		var now int
		err = machine.Await(limit/2, func() error {
			var asleep bool
			if now, asleep, err = machine.Sleeps(reclaimer); err == nil && !asleep {
				err = fmt.Errorf("%s was woken and does not come to rest", reclaimer)
			}
			return err
		})
		if err != nil || now > before {
			return err
		}
	}
	return fmt.Errorf("all free memory was taken in %d pieces, but %s did not run", len(taken), reclaimer)
}
