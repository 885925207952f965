//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
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

// A check that failed for want of something in the guest says so.
func TestLacked(t *testing.T) {
	o := &output{send: func([]byte) {}, line: func(string) {}}
	for line, want := range map[string]string{
		"./zram_lib.sh: line 247: mkfs.ext2: command not found":               "the command mkfs.ext2",
		"./x.sh: 12: bc: not found":                                           "the command bc",
		"# ./x.sh: 12: bc: not found":                                         "the command bc",
		"timeout: failed to run command ‘tpm2’: No such file or directory":    "the command tpm2",
		"modprobe: FATAL: Module xfs not found in directory /lib/modules/7.1": "the module xfs",
		"mount: /mnt: unknown filesystem type 'ext4'.":                        "the file system ext4",
		"mount: /mnt: failed to setup loop device for /x.":                    "a loop device",
		"line 3: 1 key: not found, 2 wanted":                                  "",
		"FAIL: module not found":                                              "",
		"cat: /proc/x: No such file or directory":                             "",
	} {
		o.next("one", func(string) {})
		o.take([]byte(line + "\n" + line + "\n"))
		if got := strings.Join(o.lacked(), ", "); got != want {
			t.Errorf("%q: %q; want %q", line, got, want)
		}
	}
}

func TestNodes(t *testing.T) {
	got := nodes("# Device nodes to trigger on-demand module loading.\nfuse fuse c10:229\nloop loop0 b7:0\nsnd_timer snd/timer c116:33\nx ../x c1:3\nx y c\nx\n\n")
	want := []node{{"fuse", unix.S_IFCHR | 0o666, 10, 229}, {"loop0", unix.S_IFBLK | 0o666, 7, 0}, {"snd/timer", unix.S_IFCHR | 0o666, 116, 33}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(node{})); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

func TestAllIdle(t *testing.T) {
	const begun = time.Hour
	for _, tc := range []struct {
		name string
		// idled is what each processor idled of 60 seconds.
		idled []time.Duration
		want  time.Duration
	}{
		{"a test that sleeps", []time.Duration{60 * time.Second, 60 * time.Second}, 60 * time.Second},
		{"one that computes on one processor", []time.Duration{0, 60 * time.Second}, 0},
		{"one that computes on one after the other", []time.Duration{30 * time.Second, 30 * time.Second}, 0},
		{"on each of four in turn", []time.Duration{45 * time.Second, 45 * time.Second, 45 * time.Second, 45 * time.Second}, 0},
		{"one that computes and sleeps", []time.Duration{30 * time.Second, 60 * time.Second}, 30 * time.Second},
		{"on all processors", []time.Duration{0, 0}, 0},
		{"on the only one", []time.Duration{40 * time.Second}, 40 * time.Second},
		{"one that took /proc away", nil, 0},
	} {
		before, after := map[string]time.Duration{}, map[string]time.Duration{}
		for i, idled := range tc.idled {
			before[fmt.Sprint("cpu", i)], after[fmt.Sprint("cpu", i)] = begun, begun+idled
		}
		// One that was switched on meanwhile.
		after["cpu9"] = time.Second
		if got := allIdle(before, after, time.Minute); got != tc.want {
			t.Errorf("%s: all idled for %v; want %v", tc.name, got, tc.want)
		}
	}
}
