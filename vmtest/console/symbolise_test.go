package console

import (
	"strings"
	"testing"
)

func TestCodeAddressNamesItsModule(t *testing.T) {
	for line, want := range map[string]string{
		" minix_mknod+0x12/0x80 [minix]":                                                      "minix_mknod minix",
		" minix_mknod+0x12/0x80 [minix 1f0e2d3c4b5a69788796a5b4c3d2e1f001122334]":             "minix_mknod minix",
		" minix_mknod+0x12/0x80 [minix 1f0e2d3c4b5a69788796a5b4c3d2e1f001122334-dirty] extra": "minix_mknod minix",
		"RIP: 0010:minix_mknod+0x12/0x80 [minix]":                                             "minix_mknod minix",
		" vfs_create+0x12/0x80":                                                               "vfs_create",
		" vfs_create+0x12/0x80 [1, 2]":                                                        "vfs_create",
		"WARNING: CPU: 0 at f+0x1/0x2 PID: 1 [x]":                                             "f",
		" ? minix_mknod+0x12/0x80 [minix]":                                                    "minix_mknod minix",
		" __do_sys_x.part.0+0x12/0x80 [snd_hda_intel]":                                        "__do_sys_x.part.0 snd_hda_intel",
	} {
		m := codeAddress.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("%q has no address", line)
			continue
		}
		if got := strings.TrimSpace(m[2] + " " + m[5]); got != want {
			t.Errorf("%q is in %q; want %q", line, got, want)
		}
	}
}
