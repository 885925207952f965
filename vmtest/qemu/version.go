// Package qemu runs guests: it finds QEMU and what it can use (version.go, accel.go),
// puts a machine together (machine.go, disk.go, ports.go), boots it and stays until
// nothing of it is left (vm.go), and asks a guest that is stuck where it is (guest.go,
// qmp.go). It says how a guest ended and what was seen of it, and judges nothing.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"patchproof/kernel/arch"
)

// Binary is the QEMU that boots the kernels.
var Binary = arch.Target.QEMU

// oldest is the first QEMU that can do what the harness asks of it: 4.0
// boots an ELF vmlinux through its PVH note, and 4.2 turns parts of the q35
// board off that only cost boot time.
var oldest = [2]int{4, 2}

// askTakes bounds how long a QEMU that works takes to say what it is and can do.
const askTakes = 30 * time.Second

// errLate means that a QEMU which was asked something did not end.
var errLate = fmt.Errorf("did not end within %v", askTakes)

// ask runs QEMU where it boots nothing, and returns what it prints.
func ask(ctx context.Context, stdin string, args ...string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, askTakes)
	defer cancel()
	cmd := exec.CommandContext(limited, Binary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	// What a wrapper leaves behind keeps the pipe.
	cmd.WaitDelay = leftPatience
	out, err := cmd.Output()
	switch {
	case ctx.Err() == nil && limited.Err() != nil:
		err = errLate
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil
	}
	return string(out), err
}

// Find returns the version of the host's QEMU. Its error says how to
// install it when it is missing or too old.
func Find(ctx context.Context) (version string, err error) {
	out, err := ask(ctx, "", "--version")
	if errors.Is(err, errLate) {
		return "", fmt.Errorf("%s --version %w", Binary, err)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is not installed (Debian and Ubuntu: apt-get install %s)", Binary, arch.Target.QEMUPackage)
	}
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", Binary, err)
	}
	return parseVersion(out)
}

var versionLine = regexp.MustCompile(`(?m)^QEMU emulator version ((\d+)\.(\d+)\S*)`)

func parseVersion(out string) (string, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s --version printed no version: %.80q", Binary, strings.TrimSpace(out))
	}
	major, _ := strconv.Atoi(m[2])
	minor, _ := strconv.Atoi(m[3])
	if major < oldest[0] || major == oldest[0] && minor < oldest[1] {
		return "", fmt.Errorf("QEMU %s is too old, %d.%d or later is needed (Debian and Ubuntu: apt-get install %s)", m[1], oldest[0], oldest[1], arch.Target.QEMUPackage)
	}
	return m[1], nil
}
