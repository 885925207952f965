package patches

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Unpacked reads what gzip, xz, bzip2 or zstd has compressed, and anything else as it is.
// The format is the compressor's name, empty for none.
func Unpacked(r io.Reader) (unpacked io.Reader, format string, err error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	switch err = nil; {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		format = "gzip"
		unpacked, err = gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		format = "xz"
		unpacked, err = xz.NewReader(in)
	case bytes.HasPrefix(head, []byte("BZh")):
		format = "bzip2"
		unpacked = bzip2.NewReader(in)
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		format = "zstd"
		// Of one decoder alone nothing is left that would have to be closed.
		unpacked, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	default:
		return in, "", nil
	}
	if err != nil {
		return nil, format, notUnpacked(format, err)
	}
	return unpacked, format, nil
}

func notUnpacked(format string, err error) error {
	return fmt.Errorf("compressed with %s, and it does not unpack: %w", format, err)
}
