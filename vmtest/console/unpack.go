package console

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

// unpacked reads what a compressed log holds, and another log as it is.
func unpacked(r io.Reader) (io.Reader, error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	kind := ""
	var out io.Reader = in
	switch err = nil; {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		kind = "gzip"
		out, err = gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		kind = "xz"
		out, err = xz.NewReader(in)
	case bytes.HasPrefix(head, []byte("BZh")):
		out = bzip2.NewReader(in)
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		kind = "zstd"
		out, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	}
	if err != nil {
		return nil, fmt.Errorf("compressed with %s, and it does not unpack: %w", kind, err)
	}
	return out, nil
}
