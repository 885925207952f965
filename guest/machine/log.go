//go:build linux

package machine

import (
	"strings"

	"golang.org/x/sys/unix"
)

// LogDuring runs do and returns what the kernel logged meanwhile: the texts of
// its records (/dev/kmsg, Documentation/ABI/testing/dev-kmsg).
func LogDuring(do func() error) (lines []string, err error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	record := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, record)
		if err == unix.EAGAIN {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		if _, text, ok := strings.Cut(string(record[:n]), ";"); ok {
			lines = append(lines, strings.TrimSuffix(text, "\n"))
		}
	}
}
