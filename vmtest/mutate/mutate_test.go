package mutate

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/patches/subjects"
	"patchproof/results"
)

const wrong = `From: A <a@localhost>
Subject: [PATCH] wrong

Seen-by: fdinfo, nop
Variant: debug
---
--- a/fs/io_uring.c
+++ b/fs/io_uring.c
@@ -1,3 +1,2 @@ static void io_req_cache_reclaim(struct io_kiocb_cache_entry *ce)
 one
-two
 three
`

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"wrong.patch": wrong, "letter.diff": "Hello,\nhere is no patch.\n", "notes.txt": "no mutant"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mutants, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(mutants) != 2 {
		t.Fatalf("Read() = %+v; want two mutants", mutants)
	}
	if m := mutants[0]; m.Name != "letter" || m.Err == nil {
		t.Errorf("%s: error %v; want one that says why it is no patch", m.Name, m.Err)
	}
	m := mutants[1]
	if m.Name != "wrong" || m.Err != nil || m.Variant != "debug" {
		t.Errorf("got %s, variant %q, error %v; want wrong, debug and none", m.Name, m.Variant, m.Err)
	}
	if diff := cmp.Diff([]string{"fdinfo", "nop"}, m.SeenBy); diff != "" {
		t.Errorf("programs to try first (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"io_req_cache_reclaim"}, functions(m)); diff != "" {
		t.Errorf("functions (-want +got):\n%s", diff)
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("Read() of an empty folder has no error")
	}
}

func TestKiller(t *testing.T) {
	check := func(name string, verdict event.Verdict, expected bool, detail string) results.Check {
		return results.Check{Check: event.Check{Name: name, Verdict: verdict, Detail: detail}, Expected: expected}
	}
	known := check("growth", event.Fail, true, "as declared")
	deadline := check("deadline", event.Hang, false, "nop had not ended")
	splat := check("console", event.Crash, false, "BUG: bad page\nand more")
	own := check("rows", event.Fail, false, "2 rows; want 4")
	for _, tt := range []struct {
		name    string
		checks  []results.Check
		by      string
		timeout bool
	}{
		{"a check before all", []results.Check{known, deadline, splat, own}, "nop/rows", false},
		{"the kernel's complaint before the deadline", []results.Check{known, deadline, splat}, "nop/console: BUG: bad page", false},
		{"nothing but the deadline", []results.Check{known, deadline}, "nop/deadline", true},
		{"a known issue that is gone", []results.Check{check("growth", event.Pass, false, "")}, "nop/growth (a known issue, passed)", false},
		{"a known issue that did not come", nil, "nop: known issue passed: console did not show", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			by, _, timeout := killer(results.Cell{Program: "nop", Checks: tt.checks, Reason: "known issue passed: console did not show (declared: a race)"})
			if by != tt.by || timeout != tt.timeout {
				t.Errorf("killer() = %q, timeout %v; want %q, %v", by, timeout, tt.by, tt.timeout)
			}
		})
	}
}

func TestFolder(t *testing.T) {
	s := &subjects.Subject{Dir: "/s", Pin: "v1", Mutants: []subjects.Mutants{
		{Kernel: "first", Folders: map[string]string{"v1": "a", "v2": "b"}},
		{Kernel: "second", Folders: map[string]string{"v1": "c"}},
	}}
	for _, test := range []struct{ kernel, pin, want string }{
		{"", "", "/s/a"}, {"first", "v2", "/s/b"}, {"second", "v1", "/s/c"}, {"second", "v2", ""}, {"third", "", ""},
	} {
		if got, err := Folder(s, test.kernel, test.pin); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("Folder(%q, %q) = %q, %v; want %q", test.kernel, test.pin, got, err, test.want)
		}
	}
}
