package vmtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"patchproof/guest/event"
	"patchproof/kernel/sandbox"
)

// QEMU in a view of the host's root, and with a network, runs a guest as it does without;
// one that hangs is told from a kernel that is fine, and ended.
func TestServedGuests(t *testing.T) {
	t.Parallel()
	cell, guest := base(t), hostileInitramfs(t)
	view, note, err := sandbox.FindView(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(note)
	for _, test := range []struct {
		how  string
		want event.Verdict
	}{
		{"well", event.Pass},
		{"sysrq-crash", event.Crash},
		{"hang", event.Hang},
	} {
		t.Run(test.how, func(t *testing.T) {
			t.Parallel()
			s := spec(t, cell, guest, "hostile="+test.how)
			s.Program.HostRoot, s.Program.Net, s.View = true, true, view
			s.Program.Deadline = time.Second
			got := RunCell(context.Background(), s)
			if got.Verdict != test.want {
				t.Errorf("verdict %s (%s); want %s", got.Verdict, got.Reason, test.want)
			}
			for _, want := range []string{"virtio-9p-pci", "virtio-net-pci", " ip=10.0.2.15::10.0.2.2:"} {
				if !strings.Contains(got.Command, want) {
					t.Errorf("the command line lacks %q: %s", want, got.Command)
				}
			}
		})
	}
}
