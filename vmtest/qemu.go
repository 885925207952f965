package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// qemuBinary is the QEMU that boots the kernels.
const qemuBinary = "qemu-system-x86_64"

// minQEMU is the oldest QEMU that can do what the harness asks of it: 4.0
// boots an ELF vmlinux through its PVH note, and 4.2 turns parts of the q35
// board off that only cost boot time.
var minQEMU = [2]int{4, 2}

// FindQEMU returns the version of the host's QEMU. Its error says how to
// install it when it is missing or too old.
func FindQEMU(ctx context.Context) (version string, err error) {
	out, err := exec.CommandContext(ctx, qemuBinary, "--version").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is not installed (Debian and Ubuntu: apt-get install qemu-system-x86)", qemuBinary)
	}
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", qemuBinary, err)
	}
	return parseQEMUVersion(string(out))
}

var versionLine = regexp.MustCompile(`(?m)^QEMU emulator version ((\d+)\.(\d+)\S*)`)

func parseQEMUVersion(out string) (string, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s --version printed no version: %q", qemuBinary, strings.TrimSpace(out))
	}
	major, _ := strconv.Atoi(m[2])
	minor, _ := strconv.Atoi(m[3])
	if major < minQEMU[0] || major == minQEMU[0] && minor < minQEMU[1] {
		return "", fmt.Errorf("QEMU %s is too old, %d.%d or later is needed (Debian and Ubuntu: apt-get install qemu-system-x86)", m[1], minQEMU[0], minQEMU[1])
	}
	return m[1], nil
}
