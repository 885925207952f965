package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of docs/variables.md")

// variablesDoc is the table as the documents and `make help` show it.
func variablesDoc() string {
	var out strings.Builder
	for _, v := range table {
		commands := strings.Join(v.commands, ", ")
		if n := len(campaigns); len(v.commands) >= n && slices.Equal(v.commands[:n], campaigns) {
			commands = strings.Join(append([]string{"all of these"}, v.commands[n:]...), ", ")
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", v.name, commands, v.standard, v.meaning)
	}
	return out.String()
}

// The table of the document is the table of the code; -update writes it.
func TestDocumentHasTheTable(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "variables.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(data), "|---|---|---|---|\n")
	if !found {
		t.Fatalf("%s has no table", path)
	}
	lines := strings.SplitAfter(rest, "\n")
	n := 0
	for n < len(lines) && strings.HasPrefix(lines[n], "|") {
		n++
	}
	got, tail := strings.Join(lines[:n], ""), strings.Join(lines[n:], "")
	if *update {
		if err := os.WriteFile(path, []byte(head+"|---|---|---|---|\n"+variablesDoc()+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(variablesDoc(), got); diff != "" {
		t.Errorf("%s is not the table of variables.go; go test ./cmd/patchproof -run TestDocumentHasTheTable -update writes it (-want +got):\n%s", path, diff)
	}
}

func TestRefuse(t *testing.T) {
	typed := func(name, value string) []string { return []string{name + "=" + value, typedEnv + "=" + name} }
	tests := []struct {
		command string
		environ []string
		// want is what the refusal says; empty where there is none.
		want string
	}{
		{"vmtest", typed("PATCHES", "x"), "PATCHES=x: vmtest does not take PATCHES; did you mean PATCH?"},
		{"vmtest", typed("KERNEL", "base"), "did you mean KERNELS?"},
		{"vmtest", typed("PROGRAM", "nop"), "did you mean PROGRAMS?"},
		{"vmtest", typed("patch", "x"), "did you mean PATCH?"},
		{"vmtest", typed("COLOUR", "x"), "vmtest does not take COLOUR"},
		{"results report", typed("CC", "gcc-11"), "report does not take CC"},
		{"vmtest", typed("CC", "gcc-11"), ""},
		{"vmtest", []string{"LLVM=1"}, ""},
		{"vmtest", typed("ARCH", "x86"), "built for x86-64, by CC or LLVM"},
		{"vmtest", typed("MUTANTS", "x"), "it is for mutants"},
		{"bisect", typed("KERNELS", "posted"), "bisect does not take KERNELS"},
		{"mutants", typed("COUNT", "2"), "mutants does not take COUNT"},
		{"results report", typed("KERNELS", "base"), "report does not take KERNELS"},
		{"results report", typed("RUNS", "x"), "did you mean RUN?"},
		{"deps", typed("PATCHES", "x"), "deps does not take PATCHES"},
		// An empty one that was typed is a slip as well.
		{"vmtest", typed("PATCHES", ""), "did you mean PATCH?"},
		{"vmtest", typed("PATCH", ""), "PATCH= is empty: leave it out"},
		{"deps", typed("TREE", ""), "TREE= is empty: leave it out"},
		{"vmtest", typed("VARIANT", ""), "VARIANT= is empty: leave it out"},
		{"bisect", typed("GOOD", ""), "GOOD= is empty: leave it out"},
		{"vmtest", typed("V", "2"), "version V=2 is that of a series: it needs PATCH= or LORE="},
		{"vmtest", []string{"V=1"}, ""},
		{"vmtest", append(typed("V", "2"), "PATCH=x"), ""},
		{"vmtest", typed("JOBS", ""), ""},
		{"vmtest", []string{"PATCH="}, ""},
		{"vmtest", typed("KERNELS", "base"), ""},
		{"build", typed("JOBS", "2"), ""},
		{"build", typed("ACCEL", "tcg"), ""},
		{"results report", typed("RUN", "x"), ""},
		{"vmtest", typed("GO", "go1.27"), ""},
		{"vmtest", typed("GOFLAGS", "-v"), ""},
		{"vmtest", typed("MAKEFLAGS", "-k"), ""},
		// For make test and make suite.
		{"deps", typed("KERNELS", "base"), ""},

		{"vmtest", []string{"PATCHES=x"}, "did you mean PATCH?"},
		{"vmtest", []string{"KERNLES=base"}, "did you mean KERNELS?"},
		{"vmtest", []string{"PROGRAM=nop"}, "did you mean PROGRAMS?"},
		{"vmtest", []string{"Patch=x"}, "did you mean PATCH?"},
		{"vmtest", []string{"TREES=x"}, "did you mean TREE?"},
		{"vmtest", []string{"PATCHPROOF_PATCH=x"}, "did you mean PATCH?"},
		{"vmtest", []string{"ARCH=arm64"}, "built for x86-64, by CC or LLVM"},
		{"vmtest", []string{"CROSS_COMPILE=aarch64-linux-gnu-"}, "built for x86-64, by CC or LLVM"},
		{"apply", []string{"LLVM=1", "CC=clang"}, ""},
		{"build", []string{"PROGRAMS=nop"}, "build does not take PROGRAMS"},
		// What other software is told by these is no word to patchproof.
		{"vmtest", []string{"ARCH=x86_64", "CC=gcc", "PATCHES=", "V=1", "O=/b", "RUN=x"}, ""},
		{"bench", []string{"TEST=1", "TIMEOUT=1", "DISK=x", "CPUS=4", "MEMORY=1G", "APPEND=x"}, ""},
		{"results report", []string{"KERNELS=base", "PATCHES=x"}, ""},
		{"cache ls", []string{"KERNELS=base"}, ""},
		{"vmtest", strings.Fields("PATH=/bin BATCH=1 MATCH=1 CATCH=1 COLUMNS=80 CCACHE=1 CI=true JOB_NAME=x BUILD_ID=1 RUNNER_OS=Linux " +
			"GITHUB_REF=x GIT_BRANCH=x NODE_NAME=x CONFIG_SITE=x SHLVL=1 TERM=dumb KERNEL_VERSION=6 PWD=/ LANG=C VARIABLE=1 PING=1 PINE=1"), ""},
	}
	for _, test := range tests {
		got := ""
		if err := refuse(test.command, test.environ); err != nil {
			got = err.Error()
		}
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("refuse(%s, %q) = %q; want %q", test.command, test.environ, got, test.want)
		}
	}
}

// A word of the table that no command has would be help for nobody.
func TestTableNamesCommands(t *testing.T) {
	known := []string{"cache ls", "cache gc", "cache export", "cache import"}
	for _, node := range parser(t).Model.Leaves(false) {
		known = append(known, strings.TrimPrefix(node.Path(), "results "))
	}
	for _, v := range table {
		for _, command := range v.commands {
			if !slices.Contains(known, command) {
				t.Errorf("%s is for %s, which is no command; known: %s", v.name, command, strings.Join(known, ", "))
			}
		}
	}
}

func parser(t *testing.T) *kong.Kong {
	t.Helper()
	p, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Who builds programs for other machines may have what Go calls them in the environment: the
// command is for this one.
func TestMakeBuildsTheCommandForThisMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	compiler := filepath.Join(dir, "go")
	script := "#!/bin/sh\necho \"for $GOOS $GOARCH\" >" + filepath.Join(dir, "asked") + "\n"
	if err := os.WriteFile(compiler, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "command", "GO="+compiler, "PATCHPROOF="+filepath.Join(dir, "patchproof"))
	cmd.Dir, cmd.Env = topFolder(), append(os.Environ(), "GOOS=windows", "GOARCH=arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if got := string(asked); err != nil || got != "for  \n" {
		t.Errorf("Go was asked for a program %q, %v; want one for the machine that it runs on", got, err)
	}
}

// Flags of make's that change what it ends with may come from anywhere, and 0 would be taken for a
// run that passed.
func TestMakeRefusesWhatHidesAFailure(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"-i", "-t", "-q", "--ignore-errors", "-kis"} {
		cmd := exec.Command("make", "vmtest", "PROGRAMS=none-of-them", "GO=true", "PATCHPROOF=false")
		cmd.Dir, cmd.Env = topFolder(), append(os.Environ(), "MAKEFLAGS="+flag)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), "MAKEFLAGS") {
			t.Errorf("with MAKEFLAGS=%s make ends with %d; want 2, and the reason:\n%s", flag, code, out)
		}
	}
}
