//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutputIsBounded(t *testing.T) {
	var sent bytes.Buffer
	lines := 0
	o := &output{send: func(p []byte) { sent.Write(p) }, line: func(string) { lines++ }}
	text := strings.Repeat("0123456789abcde\n", 1<<20) // 16 MiB
	o.copy(strings.NewReader(text + "the end"))
	o.close()
	if want := 1<<20 + 1; lines != want {
		t.Errorf("%d lines were read; want %d", lines, want)
	}
	if got := sent.Len(); got < maxHead || got > maxHead+maxTail+100 {
		t.Errorf("%d bytes were sent; want the first %d and the last %d", got, maxHead, maxTail)
	}
	if !strings.HasSuffix(sent.String(), "abcde\nthe end") || !strings.Contains(sent.String(), " bytes left out here)") {
		t.Errorf("the output ends with %q; want its end, and a word of what was left out", sent.String()[sent.Len()-40:])
	}
}

func TestOutputLines(t *testing.T) {
	var got []string
	o := &output{send: func([]byte) {}, line: func(s string) { got = append(got, s) }}
	for _, part := range []string{"a", "b\nc", "\n\n", strings.Repeat("x", maxLine+10), "\nlast"} {
		o.take([]byte(part))
	}
	o.close()
	want := []string{"ab", "c", "", strings.Repeat("x", maxLine), "last"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}
