//go:build linux

package uring

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestChanges has what kernels report of themselves, and which changes they have.
func TestChanges(t *testing.T) {
	changes := []Change{OverfullRingTakes, NopOnPolledRing, PipeReadsPoll, NoFallbackRequest, RingsByMemcg, RingsLocked, NowaitFlagRules}
	for _, tt := range []struct {
		name   string
		kernel Kernel
		want   []Answer
		flags  uint8
		read   uint8
	}{
		{"v5.4", Kernel{Features: 0x1, Opcodes: 12}, []Answer{Before, Before, Before, Before, Before, Before, Before}, 0x3, 0},
		{"v5.7.14", Kernel{Features: 0x3f, Opcodes: 33}, []Answer{Before, Before, Before, Before, Before, Before, Before}, 0x3f, SQEAsync},
		{"v5.10.13", Kernel{Features: 0x7f, Opcodes: 34}, []Answer{Before, Before, Before, Before, Before, Before, Before}, 0x3f, 0},
		{"v5.15", Kernel{Features: 0x7ff, Opcodes: 40}, []Answer{Either, Either, Either, After, After, Before, Before}, 0x3f, 0},
		{"v6.1.4", Kernel{Features: 0x1fff, Opcodes: 49}, []Answer{After, After, After, After, After, Before, Before}, 0x7f, 0},
		{"v6.12.107", Kernel{Features: 0xffff, Opcodes: 58}, []Answer{After, After, After, After, After, Before, After}, 0x7f, 0},
		{"v7.1.13", Kernel{Features: 0x3ffff, Opcodes: 65}, []Answer{After, After, After, After, After, After, After}, 0x7f, 0},
	} {
		var got []Answer
		for _, c := range changes {
			got = append(got, tt.kernel.Has(c))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: answers differ (-want +got):\n%s", tt.name, diff)
		}
		if got := tt.kernel.SQEFlags(); got != tt.flags {
			t.Errorf("%s: flags %#x; want %#x", tt.name, got, tt.flags)
		}
		if got := tt.kernel.BlockingRead(); got != tt.read {
			t.Errorf("%s: a read that blocks has flags %#x; want %#x", tt.name, got, tt.read)
		}
	}
}
