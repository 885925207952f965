package kernel

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// freesNothing is a semantic patch that reports a kfree of nothing.
const freesNothing = `// Options: --no-includes
virtual report

@r@
position p;
@@
 kfree@p(NULL);

@script:python depends on report@
p << r.p;
@@
coccilib.report.print_report(p[0], "WARNING: nothing is freed")
`

// What a semantic patch of the tree reports has its place; one that cannot be used is named
// and takes none of the others with it.
func TestCoccicheck(t *testing.T) {
	if _, err := exec.LookPath("spatch"); err != nil {
		t.Skip("spatch is not installed; apt-get install coccinelle brings it")
	}
	dir := fixtureRepo(t)
	for name, text := range map[string]string{
		"scripts/coccinelle/free/nothing.cocci": freesNothing,
		"scripts/coccinelle/a.cocci":            "virtual report\n@r@ this is none\n",
		"scripts/coccinelle/patch-only.cocci":   strings.ReplaceAll(freesNothing, "report", "context"),
		"fs/io_uring.c":                         "void f(void)\n{\n\tg();\n\tkfree(NULL);\n\tkfree(NULL);\n}\n",
		"fs/other.c":                            "void f(void)\n{\n}\n",
	} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	userGit(t, dir, "add", ".")
	userGit(t, dir, "commit", "-qm", "semantic patches")
	b := &Builder{Cache: t.TempDir()}
	for range 2 {
		got, err := b.Coccicheck(t.Context(), localSpec(dir, "base"), []string{"fs/io_uring.c", "fs/other.c", "fs/none.c"})
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range got {
			if len(m.Unused) != 1 || !strings.HasPrefix(m.Unused[0], "a.cocci: ") {
				t.Errorf("%s: unused are %q; want a.cocci, with the reason", name, m.Unused)
			}
			m.Unused = nil
			got[name] = m
		}
		const message = "WARNING: nothing is freed"
		want := map[string]Matches{
			"fs/io_uring.c": {Found: map[string][]Warning{"free/nothing.cocci": {
				{File: "fs/io_uring.c", Line: 4, Message: message}, {File: "fs/io_uring.c", Line: 5, Message: message},
			}}},
			"fs/other.c": {Found: map[string][]Warning{}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	}
}
