package userland

import (
	"errors"
	"os/exec"
	"path/filepath"

	"github.com/u-root/mkuimage/cpio"
)

// moduleCommands are what kmod is called by. The kernel itself calls the first
// (CONFIG_MODPROBE_PATH), and so do people, as a shell looks into /sbin.
var moduleCommands = []string{"modprobe", "insmod", "rmmod", "lsmod", "modinfo"}

// Loader packs what loads modules in a guest: the host's kmod, with its libraries and its
// names.
func Loader() ([]byte, error) {
	file := ""
	for _, name := range []string{"kmod", "/usr/bin/kmod", "/bin/kmod"} {
		if found, err := exec.LookPath(name); err == nil {
			file = found
			break
		}
	}
	if file == "" {
		return nil, errors.New("the guest loads modules with kmod, which is not on this machine; run: apt-get install kmod")
	}
	p := emptyPacker()
	if err := p.host(file); err != nil {
		return nil, err
	}
	if _, err := p.closure(file, filepath.Dir(file)); err != nil {
		return nil, err
	}
	for _, command := range moduleCommands {
		name := "sbin/" + command
		p.records[name] = cpio.Symlink(name, file)
	}
	return p.archive()
}
