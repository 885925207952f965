//go:build linux

package machine

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// leakAge is how old an object must be before kmemleak calls it lost
// (mm/kmemleak.c, MSECS_MIN_AGE), with a margin.
const leakAge = 5*time.Second + 100*time.Millisecond

// Leaks returns what kmemleak says of memory that the kernel has lost, nothing
// when it has lost none. It takes two scans, because kmemleak waits for one in
// which an object did not change, and more than five seconds.
func Leaks() (report string, err error) {
	file, err := debugFS("kmemleak")
	if err != nil {
		return "", err
	}
	time.Sleep(leakAge)
	for range 2 {
		if err := os.WriteFile(file, []byte("scan"), 0); err != nil {
			return "", fmt.Errorf("kmemleak's scan: %w", err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("kmemleak's report: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
