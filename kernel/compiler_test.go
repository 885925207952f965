package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCompiler(t *testing.T) {
	tests := []struct {
		cc, llvm string
		want     Compiler
		// trouble is what the refusal says, empty where there is none.
		trouble string
	}{
		{"", "", Compiler{}, ""},
		{"", "0", Compiler{}, "kbuild takes clang for this"},
		{"gcc", "", Compiler{}, ""},
		{"ccache gcc", "", Compiler{CCache: true}, ""},
		{"gcc-99", "", Compiler{CC: "gcc-99"}, ""},
		{"ccache clang-99", "", Compiler{CC: "clang-99", CCache: true}, ""},
		{"x86_64-linux-gnu-gcc-99", "", Compiler{CC: "x86_64-linux-gnu-gcc-99"}, ""},
		{"", "1", Compiler{LLVM: "1"}, ""},
		{"clang", "1", Compiler{LLVM: "1"}, ""},
		{"clang-99", "-99", Compiler{LLVM: "-99"}, ""},
		{"ccache clang-99", "-99", Compiler{LLVM: "-99", CCache: true}, ""},

		{"gcc", "1", Compiler{}, "exclude each other"},
		{"clang-99", "-98", Compiler{}, "exclude each other"},
		{"gcc -m32", "", Compiler{}, "CC=gcc -m32: want gcc, clang"},
		{"ccache", "", Compiler{}, "want gcc, clang"},
		{"tcc", "", Compiler{}, "want gcc, clang"},
		{"bin/gcc", "", Compiler{}, "want gcc, clang"},
		{"aarch64-linux-gnu-gcc", "", Compiler{}, "want gcc, clang"},
		{"/opt/$(id)/gcc", "", Compiler{}, "want gcc, clang"},
		{"/nowhere/gcc-12", "", Compiler{}, "/nowhere/gcc-12"},
		{"", "14", Compiler{}, "LLVM=14: a version has a hyphen before it, LLVM=-14"},
		{"", "new", Compiler{}, "LLVM=new: want 1"},
		{"", "/usr/lib/llvm-14/bin/", Compiler{}, "want 1"},
		{"", "-14 ", Compiler{}, "want 1"},
	}
	for _, test := range tests {
		got, err := ParseCompiler(test.cc, test.llvm)
		if err != nil {
			if test.trouble == "" || !strings.Contains(err.Error(), test.trouble) {
				t.Errorf("ParseCompiler(%q, %q): %v; want %q", test.cc, test.llvm, err, test.trouble)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" || test.trouble != "" {
			t.Errorf("ParseCompiler(%q, %q): no refusal, and (-want +got):\n%s", test.cc, test.llvm, diff)
		}
	}
}

// What the host lacks is named by its Debian package before a build begins.
func TestMissingToolsOfCompiler(t *testing.T) {
	for setting, want := range map[Compiler][]string{
		{CC: "gcc-99"}:                  {"gcc-99"},
		{CC: "x86_64-linux-gnu-gcc-99"}: {"gcc-99"},
		{LLVM: "-99"}:                   {"clang-99", "lld-99", "llvm-99"},
		{}:                              nil,
	} {
		common := MissingTools(Compiler{})
		var got []string
		for _, tool := range MissingTools(setting)[len(common):] {
			got = append(got, tool.Package)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", setting, diff)
		}
	}
}

// Each setting has a build folder and a key of its own, and the one of gcc is as it was.
func TestCompilersAreKeptApart(t *testing.T) {
	id, err := Compiler{}.id(t.Context())
	if err != nil || !strings.HasPrefix(id, "gcc ") {
		t.Errorf("gcc is called %q, %v; want what it says itself", id, err)
	}
	named, err := Compiler{CC: "/usr/bin/gcc"}.id(t.Context())
	if err != nil || named == id {
		t.Errorf("CC=/usr/bin/gcc is called %q, %v; want another name than %q", named, err, id)
	}
	folders := map[string]bool{}
	for _, c := range []Compiler{{}, {CC: "clang"}, {CC: "gcc-11"}, {LLVM: "1"}, {LLVM: "-14"}} {
		folders[tree{dir: "t"}.build(Variant{Name: "plain"}, c)] = true
	}
	if len(folders) != 5 || !folders["t/build-plain"] {
		t.Errorf("build folders %v; want five, one of them t/build-plain", folders)
	}
}

func TestTooNew(t *testing.T) {
	const debian = "gcc (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40"
	tests := []struct {
		id, version, want string
	}{
		{debian, "5.4", "Linux 5.4 is of 2019, and gcc 12 of 2022, which may be too new for it: try one from gcc 9 on"},
		{"CC=gcc-15: gcc-15 (Debian 15.2.0-4) 15.2.0, GNU ld 2.45", "6.1", "gcc 15 of 2025"},
		{"LLVM=-19: Debian clang version 19.1.7 (3), Debian LLD 19.1.7", "5.10", "clang 19 of 2024, which may be too new for it: try one from clang 11 on"},
		{debian, "6.1", ""},
		{debian, "7.1", ""},
		{"LLVM=1: Debian clang version 14.0.6, Debian LLD 14.0.6", "6.1", ""},
		{"unheard of", "5.4", ""},
	}
	for _, test := range tests {
		major, minor, _ := strings.Cut(test.version, ".")
		got := tooNew(test.id, "VERSION = "+major+"\nPATCHLEVEL = "+minor+"\n")
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("tooNew(%q, %s) = %q; want %q", test.id, test.version, got, test.want)
		}
	}
}

// Where neither the machine nor apt has a compiler, it is said which there are.
func TestCompilersThatThereAre(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"gcc", "gcc-12", "gcc-ar-12", "clang-14", "clang-14.bak"} {
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	apt := []string{"gcc", "gcc-11", "gcc-12", "clang", "clang-16", "gcc-12-base"}
	for setting, want := range map[Compiler]string{
		{CC: "gcc-99"}:   "CC=gcc-99: this machine has no gcc-99, nor has apt a package for it. On this machine: CC=gcc, CC=gcc-12; in apt: CC=gcc, CC=gcc-11, CC=gcc-12",
		{CC: "clang-99"}: "CC=clang-99: this machine has no clang-99, nor has apt a package for it. On this machine: CC=clang-14; in apt: CC=clang, CC=clang-16",
		{LLVM: "-99"}:    "LLVM=-99: this machine has no clang-99, nor has apt a package for it. On this machine: LLVM=-14; in apt: LLVM=-16, LLVM=1",
		{LLVM: "1"}:      "",
		{CC: "gcc-11"}:   "",
		{CC: "gcc-12"}:   "",
		{}:               "",
	} {
		got := ""
		if err := setting.Instead(apt); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v.Instead = %q; want %q", setting, got, want)
		}
		if err := setting.Instead(nil); err != nil {
			t.Errorf("%+v.Instead without lists of apt's = %v; want nothing", setting, err)
		}
	}
}
