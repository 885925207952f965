package patches

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// source is a file with lines that are alike and lines that are not, as C has.
func source() string {
	var b strings.Builder
	for i := 1; i <= 12; i++ {
		fmt.Fprintf(&b, "static int io_step_%d(struct io_ring_ctx *ctx)\n{\n\tint ret = %d;\n\n\tif (!ctx->ready)\n\t\treturn -EAGAIN;\n\treturn ret;\n}\n\n", i, i)
	}
	return b.String()
}

const stepDiff = `diff --git a/fs/io.c b/fs/io.c
--- a/fs/io.c
+++ b/fs/io.c
@@ -18,6 +18,7 @@ static int io_step_2(struct io_ring_ctx *ctx)
 
 static int io_step_3(struct io_ring_ctx *ctx)
 {
+	io_note(ctx, 3);
 	int ret = 3;
 
 	if (!ctx->ready)
@@ -64,7 +65,7 @@ static int io_step_8(struct io_ring_ctx *ctx)
 static int io_step_8(struct io_ring_ctx *ctx)
 {
 	int ret = 8;
 
-	if (!ctx->ready)
+	if (!ctx->ready || !ctx->cache)
 		return -EAGAIN;
 	return ret;
`

func mustRead(t *testing.T, text string) Patch {
	t.Helper()
	s, err := Read(write(t, t.TempDir(), "step.diff", text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Patches[0]
}

// memory is a tree for Mismatches.
func memory(files map[string]string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		text, found := files[name]
		if !found {
			return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
		}
		return []byte(text), nil
	}
}

func TestMismatchesApplies(t *testing.T) {
	moved := strings.Repeat("// a new line above\n", 40) + source()
	for name, text := range map[string]string{"in place": source(), "moved down": moved, "moved up": strings.Replace(source(), "\n\n", "\n", 1)} {
		got := mustRead(t, stepDiff).Mismatches(memory(map[string]string{"fs/io.c": text}))
		if len(got) > 0 {
			t.Errorf("%s: Mismatches() = %s; want none", name, Format(got))
		}
	}
}

// TestMismatchText holds what a user reads; -update writes it anew.
func TestMismatchText(t *testing.T) {
	const newFile = "diff --git a/n.c b/n.c\nnew file mode 100644\n--- /dev/null\n+++ b/n.c\n@@ -0,0 +1 @@\n+int n;\n"
	const deleted = "diff --git a/d.c b/d.c\ndeleted file mode 100644\n--- a/d.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-int d;\n"
	const renamed = "diff --git a/r.c b/s.c\nsimilarity index 90%\nrename from r.c\nrename to s.c\n"
	patched := strings.NewReplacer("{\n\tint ret = 3;", "{\n\tio_note(ctx, 3);\n\tint ret = 3;",
		"int ret = 8;\n\n\tif (!ctx->ready)", "int ret = 8;\n\n\tif (!ctx->ready || !ctx->cache)").Replace(source())
	for _, tc := range []struct {
		name, patch string
		files       map[string]string
	}{
		{"changed-line", stepDiff, map[string]string{"fs/io.c": strings.Replace(source(), "int ret = 3;", "unsigned int ret = 3;", 1)}},
		{"inserted-lines", stepDiff, map[string]string{"fs/io.c": strings.Replace(source(), "int ret = 8;\n", "int ret = 8;\n\n\tlockdep_assert_held(&ctx->uring_lock);\n\tWARN_ON_ONCE(ctx->flags & IORING_SETUP_IOPOLL && ctx->more);\n", 1)}},
		{"removed-and-moved", stepDiff, map[string]string{"fs/io.c": strings.Repeat("/* filler */\n", 30) + strings.Replace(source(), "\tint ret = 8;\n\n", "", 1)}},
		{"white-space", stepDiff, map[string]string{"fs/io.c": strings.ReplaceAll(source(), "\t", "        ")}},
		{"applied", stepDiff, map[string]string{"fs/io.c": patched}},
		{"half-applied", stepDiff, map[string]string{"fs/io.c": strings.Replace(patched, "ret = 8;\n", "ret = 88;\n", 1)}},
		{"other-file", stepDiff, map[string]string{"fs/io.c": strings.Repeat("something else\n", 50)}},
		{"short-file", stepDiff, map[string]string{"fs/io.c": "nothing"}},
		{"empty-file", stepDiff, map[string]string{"fs/io.c": ""}},
		{"hostile-file", stepDiff, map[string]string{"fs/io.c": strings.Replace(source(), "int ret = 3;", "int \x1b[2Jret\x07 = 3;\xff", 1)}},
		{"missing-file", stepDiff, nil},
		{"whole-files", newFile + deleted + renamed, map[string]string{"n.c": "int other;\n", "r.c": "r\n", "s.c": "s\n", "d.c": "int d;\nint more;\n"}},
		{"whole-files-done", newFile + deleted + renamed, map[string]string{"n.c": "int n;\n", "s.c": "r\n"}},
		{"not-at-end", "diff --git a/e b/e\n--- a/e\n+++ b/e\n@@ -2,2 +2,3 @@\n b\n c\n+d\n", map[string]string{"e": "a\nb\nc\nz\n"}},
		{"not-at-start", "diff --git a/e b/e\n--- a/e\n+++ b/e\n@@ -1,2 +1,3 @@\n+0\n a\n b\n", map[string]string{"e": "z\na\nb\nc\n"}},
		{"no-line-end", "diff --git a/e b/e\n--- a/e\n+++ b/e\n@@ -1,2 +1,3 @@\n a\n+0\n b\n", map[string]string{"e": "a\nb"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Format(mustRead(t, tc.patch).Mismatches(memory(tc.files)))
			for line := range strings.Lines(got) {
				if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
					t.Errorf("a line of %d columns: %s", n, line)
				}
			}
			golden := filepath.Join("testdata", "mismatch", tc.name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("Format() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMismatchData(t *testing.T) {
	got := mustRead(t, stepDiff).Mismatches(memory(map[string]string{"fs/io.c": strings.Replace(source(), "\tint ret = 8;\n", "\tint ret = 80;\n", 1)}))
	want := []Mismatch{{
		Patch: "step (step.diff)", File: "fs/io.c", Hunk: 2, Hunks: 2, Header: "@@ -64,7 +65,7 @@ static int io_step_8(struct io_ring_ctx *ctx)", Line: 12,
		// Line 65 of the file that hunk 1 has made one line longer.
		Why: "does not apply", At: 65, Same: 6, Total: 7,
		Rows: []Row{
			{Both, 65, "static int io_step_8(struct io_ring_ctx *ctx)\n"}, {Both, 66, "{\n"},
			{Want, 0, "\tint ret = 8;\n"}, {Tree, 67, "\tint ret = 80;\n"},
			{Both, 68, "\n"}, {Both, 69, "\tif (!ctx->ready)\n"}, {Both, 70, "\t\treturn -EAGAIN;\n"}, {Both, 71, "\treturn ret;\n"},
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Mismatches() (-want +got):\n%s", diff)
	}
}

// TestMismatchesSeesEarlierFiles: a file that the patch itself creates or renames
// is there for its later hunks.
func TestMismatchesSeesEarlierFiles(t *testing.T) {
	p := mustRead(t, "diff --git a/a b/b\nsimilarity index 50%\nrename from a\nrename to b\n--- a/a\n+++ b/b\n@@ -1 +1 @@\n-x\n+y\n"+
		"diff --git a/a b/a\nnew file mode 100644\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+z\n")
	if got := p.Mismatches(memory(map[string]string{"a": "x\n"})); len(got) > 0 {
		t.Errorf("Mismatches() = %s; want none", Format(got))
	}
}
