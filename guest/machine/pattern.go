//go:build linux

package machine

import "fmt"

// Pattern fills b with bytes that tell block n from any other.
func Pattern(b []byte, n int) {
	x := uint32(n)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
}

// ComparePattern checks that b is what Pattern(b, n) gives.
func ComparePattern(b []byte, n int) error {
	want := make([]byte, len(b))
	Pattern(want, n)
	for i := range b {
		if b[i] != want[i] {
			return fmt.Errorf("block %d: byte %d of %d is %#02x; want %#02x", n, i, len(b), b[i], want[i])
		}
	}
	return nil
}
