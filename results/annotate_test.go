package results

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

func TestAnnotations(t *testing.T) {
	splat := unexpected(check("console", event.Crash, "list_del corruption\nCall Trace:\n 100% of it"))
	splat.Where = []Frame{
		{Function: "__list_del", File: "lib/list_debug.c", Line: 55},
		{Function: "io_free", File: "fs/io_uring.c", Line: 1500, Patch: 2},
		{Function: "io_exit", File: "fs/io_uring.c", Line: 1600, Patch: 3},
	}
	hostile := unexpected(check("x\n::set-output name=a::b", event.Fail, "\x1b[2J\r\n::stop-commands::x\n::error file=/etc/passwd::gone"))
	base := unexpected(check("console", event.Crash, "WARNING"))
	base.Where = []Frame{{Function: "f", File: "a,b:c.c"}, {Function: "g", File: "a,b:c.c", Line: 7}}
	r := &Run{Status: Finished, Kernels: kernels("base", "posted"), Cells: []Cell{
		cellOf("posted", "race", splat), cellOf("posted", "nop", hostile), cellOf("base", "nop", base),
		cellOf("posted", "fine", check("cqe", event.Pass, ""), knownIssue(check("bounds", event.Fail, ""), "known")),
		cellOf("posted", "ours", unexpected(check("program", event.Error, "QEMU is gone"))),
	}}
	got := Annotations(r)
	want := "::error file=fs/io_uring.c,line=1500,title=crash of race on posted::console: list_del corruption%0ACall Trace:%0A100%25 of it\n"
	if !strings.HasPrefix(got, want) {
		t.Errorf("Annotations = %q; want first %q", got, want)
	}
	if !strings.Contains(got, "::error file=a%2Cb%3Ac.c,line=7,title=crash of nop on base::console: WARNING\n") {
		t.Errorf("Annotations = %q; want the place in the base's source", got)
	}
	// A guest may print what it likes: each line is one annotation, and none of a known issue
	// or of the harness's trouble.
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	if len(lines) != 3 {
		t.Errorf("%d lines; want 3:\n%s", len(lines), got)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "::error ") || strings.ContainsAny(line, "\r\x1b") {
			t.Errorf("a line that is no annotation: %q", line)
		}
	}
}

func TestAnnotationsAreFew(t *testing.T) {
	r := &Run{Status: Finished, Kernels: kernels("base")}
	for i := range mostAnnotations + 4 {
		r.Cells = append(r.Cells, cellOf("base", fmt.Sprint("p", i), unexpected(check("a", event.Fail, ""))))
	}
	got := strings.Split(strings.TrimSpace(Annotations(r)), "\n")
	if diff := cmp.Diff("::error::4 more, see the summary", got[len(got)-1]); diff != "" || len(got) != mostAnnotations+1 {
		t.Errorf("%d lines, the last (-want +got):\n%s", len(got), diff)
	}
	if text := Annotations(asIs()); text != "" {
		t.Errorf("Annotations of a run as expected = %q", text)
	}
}
