package userland

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"

	"patchproof/guest/event"
)

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	script := write(t, filepath.Join(dir, "mine.sh"), "#!/bin/sh\nexit 0\n", 0o755)
	blanks := write(t, filepath.Join(dir, "a test.sh"), "#!/bin/sh\n", 0o755)
	long := write(t, filepath.Join(dir, strings.Repeat("n", 255)), "#!/bin/sh\n", 0o755)
	suite := filepath.Join(dir, "suite")
	write(t, filepath.Join(suite, "one"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(suite, "two.sh"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(suite, "data.txt"), "x", 0o644)
	for _, test := range []struct {
		name, list string
		want       []string
	}{
		{"a script", script, []string{"mine.sh []"}},
		{"a path with blanks", blanks, []string{"a-test.sh []"}},
		{"a command line", script + " -v 'two words'", []string{"mine.sh [-v two words]"}},
		{"a command of the host's", "true", []string{"true []"}},
		{"a folder", suite, []string{"one []", "two.sh []"}},
		{"a long name", long, []string{strings.Repeat("n", longestName) + " []"}},
		{"a list", script + "; true;\n" + script, []string{"mine.sh []", "true []", "mine.sh-2 []"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tests, err := Find(test.list, Guest{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, found := range tests {
				got = append(got, found.Name+" ["+strings.Join(found.args, " ")+"]")
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Find(%q) (-want +got):\n%s", test.list, diff)
			}
		})
	}
}

// A folder may come from a disk where all files are executable, and have been edited.
func TestFindInFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"README": "Read me.\n", "empty": "", "one.sh": "#!/bin/sh\n", "one.sh~": "#!/bin/sh\n", "one.sh.orig": "#!/bin/sh\n",
		"libone.so.1": library(t), "three.sh": "#!/bin/sh\n",
	} {
		write(t, filepath.Join(dir, name), text, 0o755)
	}
	if err := os.Chmod(filepath.Join(dir, "three.sh"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"data/notes", "net/four.sh", "net/five.sh", "net/ip/six.sh"} {
		text := "#!/bin/sh\n"
		if name == "data/notes" {
			text = "Read me.\n"
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), text, 0o755)
	}
	if err := os.Symlink("somebody@here.123", filepath.Join(dir, ".#one.sh")); err != nil {
		t.Fatal(err)
	}
	tests, err := Find(dir, Guest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, found := range tests {
		got = append(got, found.Name)
	}
	for _, why := range NotRun(tests) {
		got = append(got, strings.TrimPrefix(why, dir+"/"))
	}
	if diff := cmp.Diff([]string{
		"one.sh",
		`README is neither an ELF program nor a script that begins with "#!", and is not run`,
		"empty is empty: neither a program nor a script, and is not run",
		"libone.so.1 is a shared library, not a program, and is not run",
		"one.sh.orig is an editor's or patch's copy of a file, and is not run",
		"one.sh~ is an editor's or patch's copy of a file, and is not run",
		"three.sh is not executable, and is not run (chmod +x?)",
		fmt.Sprintf("%[1]s: the programs in the folders below it are not run: %[1]s/net, %[1]s/net/ip (TEST=%[1]s/net runs those of one)", dir),
	}, got); diff != "" {
		t.Errorf("the tests of a folder, and what does not run there (-want +got):\n%s", diff)
	}
	if err := os.Remove(filepath.Join(dir, "one.sh")); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(dir, Guest{}); err == nil || !strings.Contains(err.Error(), "no test lies in this folder: "+dir+"/README is neither") {
		t.Errorf("Find(a folder without tests) = %v", err)
	}
}

// library is a shared library of this machine's.
func library(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*-linux-gnu*/libgcc_s.so.1")
	if len(found) == 0 {
		t.Skip("no shared library")
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFindRefuses(t *testing.T) {
	dir := t.TempDir()
	arm := make([]byte, 64)
	// An ELF header of 64 bits, little endian, ET_EXEC, EM_AARCH64 (elf.h).
	copy(arm, "\x7fELF\x02\x01\x01")
	arm[16], arm[18], arm[20], arm[52] = 2, 183, 1, 64
	for _, test := range []struct{ name, text, want string }{
		{"no-such", "", "no such file or directory"},
		{"not-executable.sh", "#!/bin/sh\n", "is not executable (chmod +x"},
		{"empty", "", "is empty: neither a program nor a script"},
		{"text", "echo hello\n", `neither an ELF program nor a script that begins with "#!"`},
		{"no-interpreter", "#!/no/such/shell\n", "needs the interpreter /no/such/shell, which is not on this machine"},
		{"no-env-command", "#!/usr/bin/env nosuchlanguage\n", "needs the interpreter nosuchlanguage, which is not on this machine"},
		{"crlf.sh", "#!/bin/sh\r\nexit 0\r\n", "CRLF line ends"},
		{"bom.sh", "\ufeff#!/bin/sh\n", "begins with a byte order mark"},
		{"names-nothing", "#!\n", "names no interpreter"},
		{"perl", "#!/usr/bin/perl -w\n", "is a script for perl, whose modules are not packed"},
		{"arm64", string(arm), "is a program for AARCH64, the guest is x86-64"},
		{"damaged", "\x7fELF\x02\x01\x01", "is a damaged program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, test.name)
			if test.name != "no-such" {
				mode := os.FileMode(0o755)
				if test.name == "not-executable.sh" {
					mode = 0o644
				}
				write(t, path, test.text, mode)
			}
			_, err := Find(path, Guest{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Find(%s) = %v; want an error that says %q and names the file", test.name, err, test.want)
			}
		})
	}
	if _, err := Find(t.TempDir(), Guest{}); err == nil || !strings.Contains(err.Error(), "no executable file lies in this folder") {
		t.Errorf("Find(an empty folder) = %v; want an error", err)
	}
	if _, err := Find("MODE=1 exit", Guest{}); err == nil || !strings.Contains(err.Error(), "what needs a shell goes into a script") {
		t.Errorf("Find(words of a shell) = %v; want an error", err)
	}
	deep := t.TempDir()
	if err := os.Mkdir(filepath.Join(deep, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(deep, "net", "one.sh"), "#!/bin/sh\n", 0o755)
	if _, err := Find(deep, Guest{}); err == nil || !strings.Contains(err.Error(), "no executable file lies in this folder itself; ") || !strings.Contains(err.Error(), "TEST="+deep+"/net runs") {
		t.Errorf("Find(a folder of folders) = %v; want an error that says how theirs are run", err)
	}
	round := filepath.Join(dir, "round")
	if err := os.Symlink("round", round); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(round, Guest{}); err == nil || !strings.Contains(err.Error(), "too many levels of symbolic links") {
		t.Errorf("Find(a link to itself) = %v; want an error", err)
	}
	nowhere := t.TempDir()
	if err := os.Symlink("away", filepath.Join(nowhere, "link")); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{filepath.Join(nowhere, "link"), nowhere} {
		if _, err := Find(list, Guest{}); err == nil || !strings.Contains(err.Error(), "link to away, which is not there") {
			t.Errorf("Find(%s) = %v; want an error that says where the link leads", list, err)
		}
	}
	if _, err := Find("nosuchcommand --flag", Guest{}); err == nil || !strings.Contains(err.Error(), "no such command in PATH") {
		t.Errorf("Find(an unknown command) = %v; want an error", err)
	}
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	suite := filepath.Join(dir, "suite")
	write(t, filepath.Join(suite, "run.sh"), "#!/bin/sh\n# perl is only a remark\ngrep -q x data/file && sleep 1\n. ./lib.sh\n", 0o755)
	write(t, filepath.Join(suite, "data", "file"), "x\n", 0o644)
	write(t, filepath.Join(suite, "lib.sh"), "size() { stat -c %s $1; }\n", 0o644)
	write(t, filepath.Join(suite, "data", "inner"), "#!/bin/sh\ncksum file\n", 0o755)
	tests, err := Find(suite, Guest{})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := Archive(tests, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	var spec string
	for _, r := range records {
		if names[r.Name] {
			t.Errorf("%s is in the archive twice", r.Name)
		}
		names[r.Name] = true
		if dir := filepath.Dir(r.Name); dir != "." && r.Name != cpio.Trailer && !names[dir] {
			t.Errorf("%s comes before its folder", r.Name)
		}
		if r.Name == "test/run.sh.json" {
			text, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
			if err != nil {
				t.Fatal(err)
			}
			spec = string(text)
		}
	}
	for _, want := range []string{"test/suite/run.sh", "test/suite/data/file", "bin/sh"} {
		if !names[want] {
			t.Errorf("%s is not in the archive", want)
		}
	}
	for what, want := range map[string]bool{"/grep": true, "/sleep": true, "/stat": true, "/cksum": true, "/libc.so.6": true, "/libgcc_s.so.1": true, "/perl": false} {
		got := false
		for name := range names {
			got = got || strings.HasSuffix(name, what)
		}
		if got != want {
			t.Errorf("a file …%s in the archive: %v; want %v", what, got, want)
		}
	}
	if want := `{"argv":["/test/suite/run.sh"],"dir":"/test/suite","timeout_s":30}`; spec != want {
		t.Errorf("the test's specification is %s; want %s", spec, want)
	}
}

// Folders of one name are two folders in the guest, and so is a test of that name.
func TestArchiveFoldersOfOneName(t *testing.T) {
	dir := t.TempDir()
	var list []string
	for _, folder := range []string{"a/tests", "b/tests"} {
		write(t, filepath.Join(dir, folder, "x.sh"), "#!/bin/sh\necho "+folder+"\n", 0o755)
		list = append(list, filepath.Join(dir, folder))
	}
	list = append(list, write(t, filepath.Join(dir, "tests"), "#!/bin/sh\necho alone\n", 0o755))
	tests, err := Find(strings.Join(list, ";"), Guest{})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := Archive(tests, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, archive)
	var got []string
	for _, test := range tests {
		var spec event.Test
		if err := json.Unmarshal([]byte(files["test/"+test.Name+".json"]), &spec); err != nil {
			t.Fatal(err)
		}
		got = append(got, test.Name+": "+strings.TrimSpace(strings.TrimPrefix(files[strings.TrimPrefix(spec.Argv[0], "/")], "#!/bin/sh\n")))
	}
	want := []string{"x.sh: echo a/tests", "x.sh-2: echo b/tests", "tests: echo alone"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what each test runs (-want +got):\n%s", diff)
	}
}

// What a test finds on this machine by PATH, by its loader, by whole paths or beside itself it finds
// in the guest, too.
func TestArchiveWhatATestFindsHere(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir() // below /tmp, where the guest has a tmpfs
	libs, tools, within := filepath.Join(dir, "my libs"), filepath.Join(dir, "tools"), filepath.Join(dir, "within")
	write(t, filepath.Join(dir, "inputs", "a", "b"), "x\n", 0o644)
	left := write(t, filepath.Join(t.TempDir(), "left"), "by an earlier run\n", 0o644)
	write(t, filepath.Join(dir, "f.c"), "int f(void) { return 0; }\n", 0o644)
	write(t, filepath.Join(dir, "main.c"), "int f(void);\nconst char *opens = \"libm.so.6\", *starts = \"/usr/bin/tac\";\nint main(void) { return f() + !opens; }\n", 0o644)
	write(t, filepath.Join(tools, "mytool"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(tools, "python3"), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(dir, "lib.sh"), "uname\n. ./lib.sh\n", 0o644)
	write(t, filepath.Join(dir, "data", "in"), "x\n", 0o644)
	write(t, filepath.Join(within, "functions.sh"), "stat\n. "+filepath.Join(within, "more")+"\n", 0o644)
	write(t, filepath.Join(within, "more"), "x\n", 0o644)
	write(t, filepath.Join(dir, "calls.sh"), "#!/bin/sh\n. $(dirname $0)/lib.sh\ncat $here/data/in inputs/*\n. "+within+"/functions.sh\nmytool | python3 >"+left+"\n", 0o755)
	if err := os.Mkdir(libs, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-shared", "-fPIC", "-o", "my libs/libpatchprooff.so", "f.c"},
		{"-o", "main", "main.c", "-Lmy libs", "-lpatchprooff", "-Wl,-rpath,$ORIGIN/my libs"},
	} {
		cmd := exec.Command(gcc, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc %q: %v\n%s", args, err, out)
		}
	}
	t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
	t.Chdir(dir)
	tests, err := Find("./main; ./calls.sh; sh -c 'cksum data/in && mytool'; timeout 9 ./main", Guest{})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := Archive(tests, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, archive)
	if _, there := files["test/.brought"+left]; there {
		t.Errorf("%s, which a script writes, is packed", left)
	}
	main := filepath.Join(dir, "main")
	for name, want := range map[string]event.Test{
		"main":     {Argv: []string{"/test/main/main"}, Libraries: []string{libs}},
		"calls.sh": {Argv: []string{"/test/calls.sh/calls.sh"}, Commands: []string{tools}, Unseen: []string{filepath.Join(tools, "python3")}},
		"sh":       {Argv: []string{"/test/sh/sh", "-c", "cksum data/in && mytool"}, Commands: []string{tools}},
		"timeout":  {Argv: []string{"/test/timeout/timeout", "9", main}, Libraries: []string{libs}},
	} {
		want.Dir, want.TimeoutS = "/test/"+name, 60
		var got event.Test
		if err := json.Unmarshal([]byte(files["test/"+name+".json"]), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("specification of %s (-want +got):\n%s", name, diff)
		}
	}
	var opened bool
	for name := range files {
		opened = opened || strings.HasSuffix(name, "/libm.so.6")
	}
	if !opened {
		t.Error("libm.so.6, which a program opens by itself, is not packed")
	}
	for _, name := range []string{
		"test/.brought" + libs + "/libpatchprooff.so", "test/.brought" + tools + "/mytool", "test/.brought" + main,
		"test/.brought" + within + "/functions.sh", "test/.brought" + within + "/more",
		"test/calls.sh/lib.sh", "test/calls.sh/data/in", "test/calls.sh/inputs/a/b", "usr/bin/uname", "usr/bin/stat", "usr/bin/cksum", "usr/bin/tac",
	} {
		if _, there := files[name]; !there {
			t.Errorf("%s is not packed", name)
		}
	}
}

// A test that sees the host's root brings what that does not show: itself and what its
// arguments name. A program of the host's runs where it lies.
func TestArchiveHostRoot(t *testing.T) {
	dir := t.TempDir()
	perl := write(t, filepath.Join(dir, "mine.pl"), "#!/usr/bin/perl\n# only-here is named by a remark\n", 0o755)
	input := write(t, filepath.Join(dir, "input"), "x\n", 0o644)
	hidden := filepath.Join(dir, "bin", "only-here")
	write(t, hidden, "#!/bin/sh\n", 0o755)
	t.Setenv("PATH", filepath.Dir(hidden)+":"+os.Getenv("PATH"))
	script := write(t, filepath.Join(dir, "mine.sh"), "#!/bin/sh\nonly-here; ls\n", 0o755)
	tests, err := Find(perl+"; cat "+input+"; "+script, Guest{HostRoot: true})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := Archive(tests, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, archive)
	var over []string
	for name, text := range files {
		if strings.HasPrefix(name, "over/") && text != "" {
			over = append(over, name)
		}
	}
	slices.Sort(over)
	want := []string{"over/test/.brought" + input, "over/test/mine.pl/mine.pl", "over/test/mine.sh/mine.sh"}
	slices.Sort(want)
	if diff := cmp.Diff(want, over); diff != "" {
		t.Errorf("files over the host's root (-want +got):\n%s", diff)
	}
	for name := range files {
		if strings.HasSuffix(name, "libc.so.6") {
			t.Errorf("%s is packed, which the host's root has", name)
		}
	}
	got := map[string]event.Test{}
	for _, test := range tests {
		var spec event.Test
		if err := json.Unmarshal([]byte(files["test/"+test.Name+".json"]), &spec); err != nil {
			t.Fatal(err)
		}
		got[test.Name] = spec
	}
	cat := "/usr/bin/cat"
	if diff := cmp.Diff(map[string]event.Test{
		"mine.pl": {Argv: []string{"/test/mine.pl/mine.pl"}, Dir: "/test/mine.pl", TimeoutS: 30, HostRoot: true},
		"cat":     {Argv: []string{cat, input}, Dir: "/test/cat", TimeoutS: 30, HostRoot: true},
		"mine.sh": {Argv: []string{"/test/mine.sh/mine.sh"}, Dir: "/test/mine.sh", TimeoutS: 30, HostRoot: true, Unseen: []string{hidden}},
	}, got); diff != "" {
		t.Errorf("specifications (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"#!/usr/bin/env only-here\n": "needs the interpreter only-here, which is not in the guest's PATH",
		"#!" + hidden + "\n":         "needs the interpreter " + hidden + ", which the guest does not see",
	} {
		if _, err := Find(write(t, filepath.Join(dir, "refused"), name, 0o755), Guest{HostRoot: true}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find of a script %q: %v; want %q", name, err, want)
		}
	}
}

// A source under test may be a stranger's. What its tests name of this machine must not come into
// the guest, whose output others read, and nothing of it runs here.
func TestArchiveSuitesOfAStranger(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip(err)
	}
	root, home := t.TempDir(), t.TempDir()
	secret := write(t, filepath.Join(home, "secret"), "SECRET\n", 0o644)
	tool := write(t, filepath.Join(home, "tool"), "#!/bin/sh\necho SECRET\n", 0o755)
	canary := filepath.Join(home, "canary")
	loader := write(t, filepath.Join(root, "loader"), "#!/bin/sh\necho >"+canary+"\necho ' libx.so => "+secret+" (0x1)'\n", 0o755)
	write(t, filepath.Join(root, "names.sh"), "#!/bin/sh\n. "+secret+"\n"+tool+"\n", 0o755)
	write(t, filepath.Join(root, "interpreted"), "#!"+loader+"\n", 0o755)
	if err := os.Symlink(secret, filepath.Join(root, "link.sh")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(gcc, "-x", "c", "-o", filepath.Join(root, "program"), "-Wl,--dynamic-linker="+loader, "-")
	cmd.Stdin = strings.NewReader("int main(void) { return 0; }\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, guest := range []Guest{{}, {HostRoot: true}} {
		archive, err := ArchiveSuites(t.Context(), []Suite{{Name: "s", Root: root, Dir: ".", Tests: []string{"program", "names.sh", "link.sh", "interpreted"}, Guest: guest}})
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range contents(t, archive) {
			if strings.Contains(text, "SECRET") {
				t.Errorf("%s came along: %s", name, text)
			}
		}
		if _, err := os.Stat(canary); err == nil {
			t.Fatal("the loader that a program names has run here")
		}
	}
}

func TestArchiveSuites(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "net", "lib.sh"), "wait_for() { sleep 1; }\n", 0o644)
	write(t, filepath.Join(root, "net", "one.sh"), "#!/bin/sh\n. ./lib.sh\n", 0o755)
	write(t, filepath.Join(root, "net", "two.py"), "#!/usr/bin/env python3\n", 0o755)
	write(t, filepath.Join(root, "net", "mode"), "#!/bin/sh\n", 0o644)
	write(t, filepath.Join(root, "new", "mode"), "#!/usr/bin/env sh\nstat .\n", 0o644)
	write(t, filepath.Join(root, "new", "plain"), "text\n", 0o644)
	write(t, filepath.Join(root, "drill", ownRunner), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(root, "drill", "a.pkt"), "text\n", 0o644)
	archive, err := ArchiveSuites(t.Context(), []Suite{
		{Name: "kselftest-net", Root: root, Dir: "net", Tests: []string{"one.sh", "two.py", "mode", "gone"}, Timeout: time.Minute, SkipCode: 2},
		{Name: "kselftest-new", Root: root, Dir: "new", Tests: []string{"mode", "plain"}, ByInterpreter: true},
		{Name: "kselftest-drill", Root: root, Dir: "drill", Tests: []string{"a.pkt"}, ByInterpreter: true},
		{Name: "kselftest-part", Root: root, Dir: "new", Tests: []string{"mode", "gone"}, ByInterpreter: true, Unbuilt: "no part"},
		{Name: "kselftest-alsa", Unbuilt: "no alsa"},
		{Name: "kselftest-kcmp", Unbuilt: "the patch broke it", Broken: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, archive)
	for _, command := range []string{"/sleep", "/stat"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(name string) bool { return strings.HasSuffix(name, command) }) {
			t.Errorf("%s, which a file that others read or start names, is not packed", command)
		}
	}
	of := func(row string) (spec event.Test) {
		if err := json.Unmarshal([]byte(files["test/"+row+".json"]), &spec); err != nil {
			t.Fatal(err)
		}
		return spec
	}
	got := of("kselftest-net")
	dir := "/test/suite-" + filepath.Base(root) + "/net"
	want := event.Test{Suite: []event.Test{
		{Name: "one.sh", Argv: []string{dir + "/one.sh"}, Dir: dir, TimeoutS: 60, SkipCode: 2},
		{Name: "two.py", Argv: []string{dir + "/two.py"}, Dir: dir, TimeoutS: 60, SkipCode: 2, Missing: "cannot"},
		{Name: "mode", Argv: []string{dir + "/mode"}, Dir: dir, TimeoutS: 60, SkipCode: 2, Missing: "cannot"},
		{Name: "gone", Argv: []string{dir + "/gone"}, Dir: dir, TimeoutS: 60, SkipCode: 2, Missing: "it was not built: make says nothing of it"},
	}}
	for i, words := range []string{1: "python3", 2: "not executable"} {
		if words != "" && strings.Contains(got.Suite[i].Missing, words) && !strings.Contains(got.Suite[i].Missing, root) {
			got.Suite[i].Missing = "cannot"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the suite's specification (-want +got):\n%s", diff)
	}
	var others []string
	for _, row := range []string{"kselftest-new", "kselftest-drill", "kselftest-part", "kselftest-alsa", "kselftest-kcmp"} {
		for _, test := range of(row).Suite {
			others = append(others, fmt.Sprintf("%s: %s %s %v %s", test.Name, strings.ReplaceAll(strings.Join(test.Argv, " "), filepath.Dir(dir), "-"), test.Missing, test.Broken, test.Partly))
		}
	}
	if diff := cmp.Diff([]string{
		"mode: /usr/bin/env sh -/new/mode  false ",
		"plain: -/new/plain plain is not executable (chmod +x plain) false ",
		"a.pkt: ./ksft_runner.sh -/drill/a.pkt  false ",
		"mode: /usr/bin/env sh -/new/mode  false no part",
		"gone: -/new/gone it was not built: no part false no part",
		"build:  no alsa false ",
		"build:  the patch broke it true ",
	}, others); diff != "" {
		t.Errorf("the other suites' tests (-want +got):\n%s", diff)
	}
}

// contents are the files of an archive, by name.
func contents(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, r := range records {
		text, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		files[r.Name] = string(text)
	}
	return files
}

// A C program starts a shell by itself, and commands by their paths.
func TestSpelled(t *testing.T) {
	for text, want := range map[string][]string{
		"\x7fELF\x00/bin/sleep\x00sleep\x00/usr/sbin/ip link\x00/bin/sleep\x00":                      {"/bin/sleep", "/usr/sbin/ip"},
		"/bin:/usr/bin\x00/home/u/bin/x\x00/bin/\x00in Go/bin/echo":                                  nil,
		"\x00filesystem\x00system\x00":                                                               {"/bin/sh"},
		"\x00system\x00rm -rf %s\x00ls\x00no-such-command -q /mnt\x00Cannot open /x\x00sync all\x00": {"/bin/sh", "rm"},
		"\x00rm -rf %s\x00":        nil,
		"\x00popen\x00/bin/sh\x00": {"/bin/sh"},
	} {
		got, err := spelled(write(t, filepath.Join(t.TempDir(), "program"), text, 0o755))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", text, err, diff)
		}
	}
}

// Commands whose names are put together when a script runs come along, as those do that others start.
func TestComposed(t *testing.T) {
	dir, tools := t.TempDir(), t.TempDir()
	for _, name := range []string{"mkfs.pp1", "mkfs.pp2", "pptool-a", "other"} {
		write(t, filepath.Join(tools, name), "#!/bin/sh\n", 0o755)
	}
	write(t, filepath.Join(tools, "pptool-text"), "", 0o644)
	for i := range mostAlike + 1 {
		write(t, filepath.Join(tools, fmt.Sprintf("ppmany-%d", i)), "#!/bin/sh\n", 0o755)
	}
	t.Setenv("PATH", tools+":/usr/bin:/bin")
	for script, want := range map[string][]string{
		"mkfs.$fs /dev/x\n":                         {"mkfs.pp1", "mkfs.pp2"},
		"x=`/sbin/mkfs.${fs}`; mkfs.\"$fs\"\n":      {"mkfs.pp1", "mkfs.pp2"},
		"which pptool-$kind && ppmany-$i\n":         {"pptool-a"},
		"/tmp/x.mkfs.$i a-pptool-$x $mkfs.$y other": nil,
		"mkfs. pptool- no$x\n":                      nil,
	} {
		var got []string
		for _, path := range composed(script) {
			if filepath.Dir(path) == tools {
				got = append(got, filepath.Base(path))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", script, diff)
		}
	}
	program := write(t, filepath.Join(dir, "program"), "\x00system\x00mkfs.%s -q %s\x00/sbin/pptool-%s /mnt\x00ppmany-%s -q\x00", 0o755)
	all, err := spelled(program)
	all = slices.DeleteFunc(all, func(path string) bool { return filepath.Dir(path) != tools })
	if diff := cmp.Diff([]string{tools + "/mkfs.pp1", tools + "/mkfs.pp2", tools + "/pptool-a"}, all); diff != "" || err != nil {
		t.Errorf("of a program: %v (-want +got):\n%s", err, diff)
	}
	for name, text := range map[string]string{"composes.sh": "#!/bin/sh\nmkfs.$1 /dev/x\n", "starts.sh": "#!/bin/sh\nmkfs -t $1 /dev/x\n"} {
		write(t, filepath.Join(tools, "mkfs"), "#!/bin/sh\n", 0o755)
		tests, err := Find(write(t, filepath.Join(dir, name), text, 0o755), Guest{})
		if err != nil {
			t.Fatal(err)
		}
		archive, err := Archive(tests, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if want := "test/.brought" + tools + "/mkfs.pp2"; contents(t, archive)[want] == "" {
			t.Errorf("%s: %s is not packed", name, want)
		}
	}
}

// What loads modules has the names by which the kernel and people call it.
func TestLoader(t *testing.T) {
	archive, err := Loader()
	if err != nil {
		t.Fatal(err)
	}
	files := contents(t, archive)
	for _, command := range moduleCommands {
		kmod := strings.TrimPrefix(files["sbin/"+command], "/")
		if target := files[kmod]; !strings.HasPrefix(target, "\x7fELF") && !strings.HasPrefix(files[strings.TrimPrefix(target, "/")], "\x7fELF") {
			t.Errorf("/sbin/%s leads to %q, which is no program of the archive", command, kmod)
		}
	}
	if files["bin/defaultsh"] != "" {
		t.Error("it brings what belongs to a test")
	}
}

func TestItems(t *testing.T) {
	for _, test := range []struct {
		list string
		want []string
	}{
		{"", nil},
		{" ; \n;", nil},
		{"./a.sh; ./b.sh -x\n./c.sh", []string{"./a.sh", "./b.sh -x", "./c.sh"}},
		{`sh -c 'a; b'; ./c.sh`, []string{`sh -c 'a; b'`, "./c.sh"}},
		{`sh -c "a; echo \"x;y\""; ./c.sh`, []string{`sh -c "a; echo \"x;y\""`, "./c.sh"}},
		{`sh -c 'it\'; ./c.sh`, []string{`sh -c 'it\'`, "./c.sh"}},
		{`a\;b; c`, []string{`a\;b`, "c"}},
		{"sh -c 'a\nb'", []string{"sh -c 'a\nb'"}},
		{"/tmp/it's.sh; ./b.sh", []string{"/tmp/it's.sh", "./b.sh"}},
	} {
		if diff := cmp.Diff(test.want, Items(test.list)); diff != "" {
			t.Errorf("Items(%q) (-want +got):\n%s", test.list, diff)
		}
	}
}
