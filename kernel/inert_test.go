package kernel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"patchproof/patches"
)

func TestTokens(t *testing.T) {
	const text = "#define A(x) x /* one */\n#define B (x)\nint f(int a)\n{\n\treturn a + A(a) ? '\"' : \"/* no comment */\"[0];\n}\n"
	for _, test := range []struct {
		name, old, new string
		same           bool
	}{
		{"a comment before", "int f", "/* what\n * it does */\nint f", true},
		{"a comment of another kind", "int f", "// don't\nint f", true},
		{"a comment behind a directive", "#define B (x)", "#define B (x) /* two */", true},
		{"another comment there", "/* one */", "// \"one", true},
		{"a comment away", " /* one */", "", true},
		{"blank lines", "{\n", "{\n\n\n", true},
		{"lines joined", ")\n{\n", ") { ", true},
		{"spaces around an operator", "a + A", "a+A", true},
		{"a name split over lines", "return a", "ret\\\nurn a", true},
		{"spaces in a directive", "#define B (x)", "#define B  (x)", true},
		{"a macro gets arguments", "#define B (x)", "#define B(x)", false},
		{"a directive gets longer", "#define B (x)\n", "#define B (x) ", false},
		{"in a string", "/* no comment", "/*  no comment", false},
		{"a comment becomes a string", "/* one */", "\"one\"", false},
		{"an operator", "a + A", "a - A", false},
		{"an operator put together", "a + A", "a ++ A", false},
		{"a name", "int a", "int b", false},
		{"code put into a comment", "return a", "return /* a */", false},
		{"code out of a comment", "/* one */", "/* one */ + 1", false},
	} {
		if !strings.Contains(text, test.old) {
			t.Errorf("%s: %q is not there", test.name, test.old)
		}
		if got := slices.Equal(tokens(text), tokens(strings.Replace(text, test.old, test.new, 1))); got != test.same {
			t.Errorf("%s: the same is %v; want %v", test.name, got, test.same)
		}
	}
}

func TestInert(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	original := fixtureFiles["fs/io_uring.c"]
	b := &Builder{Cache: t.TempDir()}
	for _, test := range []struct {
		name  string
		write map[string]string
		want  bool
	}{
		{"a document", map[string]string{"Documentation/filesystems/x.rst": "new"}, true},
		{"who maintains it", map[string]string{"MAINTAINERS": "M: me"}, true},
		{"a comment", map[string]string{"fs/io_uring.c": "/* new */\n" + original}, true},
		{"a comment away", map[string]string{"fs/io_uring.c": original}, true},
		{"code", map[string]string{"fs/io_uring.c": original + "int more;\n"}, false},
		{"code and a document", map[string]string{"fs/io_uring.c": original, "Documentation/y.rst": "new"}, false},
		{"a makefile", map[string]string{"fs/Makefile": "# new"}, false},
		{"the documents' Kconfig", map[string]string{"Documentation/Kconfig": "# new"}, false},
		{"a new C file", map[string]string{"fs/more.c": "/* new */"}, false},
		{"a script", map[string]string{"scripts/x.sh": "# new"}, false},
		{"a tool's text", map[string]string{"tools/x.txt": "new"}, false},
	} {
		for name, text := range test.write {
			writeFile(t, filepath.Join(dir, name), text)
		}
		userGit(t, dir, "add", "-A")
		userGit(t, dir, "commit", "-qm", test.name)
		h := mustHistory(t, b, localSpec(dir, "base"))
		commit, err := h.Commit(t.Context(), h.Tip)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.Inert(t.Context(), commit); got != test.want || err != nil {
			t.Errorf("Inert(%s) = %v, %v; want %v", test.name, got, err, test.want)
		}
	}
}

// lined is a C file whose code has numbers of lines in it, as a debug kernel's has.
const lined = `int report(int);
#define CHECK(x) \
	do { \
		if (x) \
			report(__LINE__); \
	} while (0)

/* The first
 * of two.
 */
int one(int a)
{
	CHECK(a);
	return a + 1;
}

int two(int a)
{
	const char *text = "a b";

	CHECK(a ==
	      2);
	return report(__LINE__) + text[a];
}
`

// objectOf is the code and the data of a C file.
func objectOf(t *testing.T, text string) []byte {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "x.c"), text)
	cmd := exec.Command("sh", "-c", "gcc -O2 -c x.c && objcopy -O binary -j .text -j .data -j .rodata x.o x.bin && cat x.bin")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// levelled is the file of a commit with patches on it.
func levelled(t *testing.T, b *Builder, dir, rev string, all []patches.Patch) string {
	t.Helper()
	spec := localSpec(dir, "level")
	spec.Rev = rev
	if len(all) > 0 {
		spec.Series = []patches.Series{{Patches: all}}
	}
	commit, err := b.Apply(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	text, err := git(t.Context(), tree{dir: b.treeDir(spec)}.src(), "show", commit+":fs/lined.c")
	if err != nil {
		t.Fatal(err)
	}
	return text + "\n"
}

// A commit that moves lines changes the code of all that names its line. Once both
// sides have the same lines, only what the commit really changes is left.
func TestLevelShowsWhatReallyChanges(t *testing.T) {
	t.Parallel()
	dir := fixtureRepo(t)
	random := rand.New(rand.NewPCG(1, 2))
	lines := strings.SplitAfter(lined, "\n")
	commit := func(now, subject string) {
		writeFile(t, filepath.Join(dir, "fs/lined.c"), now)
		userGit(t, dir, "add", "-A")
		userGit(t, dir, "commit", "-q", "--allow-empty", "-m", subject)
	}
	commit(lined, "start")
	b := &Builder{Cache: t.TempDir()}
	moved := 0
	for n := range 16 {
		// Unused code, before, in and behind what is used, and in a macro; then code.
		at, real := random.IntN(len(lines)-1), n%4 == 3
		added := "#if 0\n#endif\n"
		if strings.HasSuffix(strings.Join(lines[:at], ""), "\\\n") {
			added = "\\\n\\\n"
		}
		if at >= 7 && at <= 9 || at >= 20 && at <= 21 {
			added = "\n\n"
		}
		now := strings.Join(lines[:at], "") + added + strings.Join(lines[at:], "")
		if real {
			now = strings.Replace(now, "a + 1", fmt.Sprintf("a + %d", n+2), 1)
		}
		commit(lined, fmt.Sprintf("back %d", n))
		commit(now, fmt.Sprintf("change %d", n))
		h := mustHistory(t, b, localSpec(dir, "base"))
		c, err := h.Commit(t.Context(), h.Tip)
		if err != nil {
			t.Fatal(err)
		}
		before, after, err := h.Level(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		parent, child := levelled(t, b, dir, c.Parents[0], before), levelled(t, b, dir, c.ID, after)
		if !bytes.Equal(objectOf(t, lined), objectOf(t, now)) {
			moved++
		}
		if same := bytes.Equal(objectOf(t, parent), objectOf(t, child)); same == real {
			t.Errorf("change %d, at line %d, levelled: the same code is %v\n%s", n, at+1, same, now)
		}
	}
	if moved < 8 {
		t.Errorf("only %d changes moved a line; the test shows little", moved)
	}
}
