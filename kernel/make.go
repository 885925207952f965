package kernel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// recipe is everything that a build gets besides source, config and compiler. It
// is part of a kernel's key: a change of it makes all kernels new.
//
// WERROR=0 is for objtool, whose code newer compilers warn about. An empty
// LOCALVERSION keeps setlocalversion from adding "+" for a commit without a tag.
// The KBUILD_BUILD_ variables are what scripts/mkcompile_h would take from the
// host and the clock (Documentation/kbuild/reproducible-builds.rst).
var recipe = []string{
	"WERROR=0",
	"LOCALVERSION=",
	"KBUILD_BUILD_TIMESTAMP=Wed May 13 16:30:44 UTC 2020",
	"KBUILD_BUILD_USER=patchproof",
	"KBUILD_BUILD_HOST=patchproof",
	"KBUILD_BUILD_VERSION=1",
}

// BuildError is a compiler's or linker's refusal of the kernel's code.
type BuildError struct {
	Kernel string
	// File is relative to the kernel source and Line in it, when the message has them.
	File    string
	Line    int
	Message string
	// Log is the path of the whole log.
	Log string
	// Patched says whether the kernel has patches at all, and BaseBuilt whether
	// its base was built with the same config: then the patches broke it.
	Patched, BaseBuilt bool
}

func (e *BuildError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kernel %s does not build: ", e.Kernel)
	if e.File != "" {
		fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	}
	fmt.Fprintf(&b, "%s\n", e.Message)
	switch {
	case !e.Patched:
		b.WriteString("it has no patch: the source, the config or the compiler is at fault")
	case e.BaseBuilt:
		b.WriteString("its base builds with the same config: the patch broke it")
	default:
		b.WriteString("its base was not built with this config; KERNELS=base tells whether the patch broke it")
	}
	fmt.Fprintf(&b, "\nlog: %s", e.Log)
	return b.String()
}

// makeRun runs make for one tree and output folder.
type makeRun struct {
	src, out string
	jobs     int
	env      []string
	log      io.Writer
	object   func(n int) // is told the number of objects compiled so far
	count    int
}

// quirks are make variables that some trees need.
//
// With KASAN a vmlinux dies behind its PVH entry point without a word:
// xen_prepare_pvh and the memcmp that it calls look into shadow memory before
// kasan_early_init has made any. So platform/pvh/enlighten.o must not look, nor
// lib/string.o, which lib/Makefile itself leaves out for early code if
// CONFIG_AMD_MEM_ENCRYPT is set. memcpy, memset and memmove stay watched.
//
// binutils 2.36 leaves the symbol table out of an object without symbols, as
// thunk_64.o is without preemption and lock debugging. objtool takes that since
// 1d489151e9f9 (v5.11, and stable trees); before, it must not see the file.
func quirks(src, config string) []string {
	set := func(option string) bool { return strings.Contains(config, "\nCONFIG_"+option+"=y\n") }
	var vars []string
	if set("PVH") && set("KASAN") {
		vars = append(vars, "KASAN_SANITIZE_enlighten.o=n", "KASAN_SANITIZE_string.o=n")
	}
	text, err := os.ReadFile(filepath.Join(src, "tools/objtool/elf.c"))
	if err != nil || !strings.Contains(string(text), `WARN("missing symbol table")`) {
		return vars
	}
	if !set("PREEMPTION") && !set("TRACE_IRQFLAGS") && !set("DEBUG_LOCK_ALLOC") {
		vars = append(vars, "OBJECT_FILES_NON_STANDARD_thunk_64.o=y")
	}
	return vars
}

// objectLine matches kbuild's line for a compiled object, not for one of a host
// program. "AR", "LD" and the like put objects together.
var objectLine = regexp.MustCompile(`^  (?:CC|AS) (?:\[M\])? *\S`)

// run runs make with targets and counts objects. A compiler's refusal comes back
// as *BuildError without the parts that only the caller knows.
func (m *makeRun) run(ctx context.Context, targets ...string) error {
	args := []string{"-C", m.src, "O=" + m.out, "-j" + strconv.Itoa(m.jobs)}
	args = append(args, recipe...)
	cmd := exec.Command("make", append(args, targets...)...)
	cmd.Env = m.env
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	fmt.Fprintf(m.log, "+ make %s\n", strings.Join(cmd.Args[1:], " "))
	failure := failureFinder{src: m.src}
	scanned := make(chan error, 1)
	go func() {
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadBytes('\n')
			if objectLine.Match(line) {
				m.count++
				m.object(m.count)
			}
			failure.line(string(bytes.TrimRight(line, "\n")))
			if _, logErr := m.log.Write(line); err == nil {
				err = logErr
			}
			if err != nil {
				// Reading on keeps make from waiting for a full pipe.
				io.Copy(io.Discard, lines)
				scanned <- err
				return
			}
		}
	}()
	runErr := run(ctx, cmd)
	w.Close()
	scanErr := <-scanned
	switch {
	case ctx.Err() != nil:
		return runErr
	case scanErr != nil && scanErr != io.EOF:
		return fmt.Errorf("writing the build log: %w", scanErr)
	case errors.Is(runErr, exec.ErrNotFound):
		return fmt.Errorf("make is not installed (make deps): %w", runErr)
	case runErr != nil:
		return failure.error(runErr)
	}
	return nil
}

// failureFinder picks the first line of a build's output that says why it failed.
type failureFinder struct {
	src     string
	first   *BuildError
	trouble string // the host's own: no memory, no disk
	// last is the last line before make's first complaint: what some tool said
	// whose way of speaking is not known here.
	last    string
	stopped bool
}

var (
	// compilerError is gcc's, as's and Kconfig's form of a message with a place.
	compilerError = regexp.MustCompile(`^([^\s:]+):(\d+):(?:\d+:)? ((?:fatal )?[Ee]rror:? .*)$`)
	// linkerError is ld's: a symbol that nobody defines, a section that is too big.
	linkerError   = regexp.MustCompile(`^(?:ld|\S+/ld|\S+\.o): .*|.*undefined reference to .*|^ERROR: .*`)
	linkerWarning = regexp.MustCompile(`: (?:warning|NOTE|note): `)
	stopped       = regexp.MustCompile(`^\S*make\S*: \*\*\* \[`)
	// kbuildError is what makefiles say themselves.
	kbuildError = regexp.MustCompile(`^\*\*\* (\S.*)|^\S*[Mm]ake\S*: \*\*\* (No rule to make target .*)`)
	// killed is what gcc and make say of a process that the kernel's OOM killer took.
	killed = regexp.MustCompile(`Killed signal terminated program|^make.*\] Killed$|internal compiler error: Killed|Cannot allocate memory|virtual memory exhausted|out of memory`)
	noDisk = regexp.MustCompile(`No space left on device|Disk quota exceeded|Read-only file system`)
	// noTool is a command or header of the host that the build needs.
	noTool = regexp.MustCompile(`(?:sh: \d+: |sh: )(\S+): (?:command )?not found|(gelf\.h|libelf\.h): No such file`)
)

func (f *failureFinder) line(line string) {
	if f.trouble == "" {
		switch {
		case killed.MatchString(line):
			f.trouble = "this machine ran out of memory (" + strings.TrimSpace(line) + "); try a smaller JOBS"
		case noDisk.MatchString(line):
			f.trouble = "the disk is full or cannot be written: " + strings.TrimSpace(line)
		case noTool.MatchString(line):
			f.trouble = "this machine lacks a tool, see make deps: " + strings.TrimSpace(line)
		}
	}
	if stopped.MatchString(line) {
		f.stopped = true
	}
	if !f.stopped && strings.TrimSpace(line) != "" {
		f.last = strings.TrimSpace(line)
	}
	if f.first != nil {
		return
	}
	if found := compilerError.FindStringSubmatch(line); found != nil {
		number, _ := strconv.Atoi(found[2])
		f.first = &BuildError{File: f.relative(found[1]), Line: number, Message: found[3]}
		return
	}
	if linkerError.MatchString(line) && !linkerWarning.MatchString(line) {
		f.first = &BuildError{Message: line}
		return
	}
	if found := kbuildError.FindStringSubmatch(line); found != nil {
		f.first = &BuildError{Message: found[1] + found[2]}
	}
}

// relative strips what O= puts in front of a file of the source.
func (f *failureFinder) relative(file string) string {
	if rel, ok := strings.CutPrefix(file, filepath.Clean(f.src)+"/"); ok {
		return rel
	}
	return file
}

func (f *failureFinder) error(err error) error {
	if f.trouble != "" {
		return errors.New(f.trouble)
	}
	if f.first != nil {
		return f.first
	}
	if f.stopped && f.last != "" {
		return &BuildError{Message: f.last}
	}
	return &BuildError{Message: fmt.Sprintf("make failed without a compiler's message (%v)", err)}
}
