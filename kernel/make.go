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
	"slices"
	"strconv"
	"strings"
	"time"

	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"

	"golang.org/x/sys/unix"
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

// kernelKey is the name under which a kernel is stored: the hash of all that it is made of.
// With modules it is another kernel than without, though its config is the same.
func kernelKey(tree, config, compiler, image string, modules bool) string {
	parts := append([]string{tree, config, compiler, image}, recipe...)
	if modules {
		parts = append(parts, modulesFile)
	}
	return hashOf(parts...)
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
	// Hint says what may be done about a source that does not go with its compiler.
	Hint string
	// Patched says whether the kernel has patches at all, and BaseBuilt whether
	// its base was built after that in the same folder: then the patches broke it.
	Patched, BaseBuilt bool

	// all are all that was said about the source in the same try.
	all []BuildError
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
		b.WriteString("its base does not build either: the source, the config or the compiler is at fault")
	}
	if e.Hint != "" {
		b.WriteString("\n" + e.Hint)
	}
	fmt.Fprintf(&b, "\nlog: %s", e.Log)
	return b.String()
}

// makeRun runs make for one tree and output folder.
type makeRun struct {
	src, out string
	jobs     int
	compiler Compiler
	sandbox  sandbox.Box
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
	text, err := regular.ReadFile(filepath.Join(src, "tools/objtool/elf.c"))
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
// as *BuildError without the parts that only the caller knows, trouble of the host
// as *hostError.
func (m *makeRun) run(ctx context.Context, targets ...string) error {
	args := []string{"-C", m.src, "O=" + m.out, "-j" + strconv.Itoa(m.jobs)}
	args = slices.Concat(args, recipe, m.compiler.variables(), targets)
	cmd, err := m.sandbox.Command(m.src, "make", args...)
	if err != nil {
		return err
	}
	for _, file := range cmd.ExtraFiles {
		defer file.Close()
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	fmt.Fprintf(m.log, "+ make %s\n", strings.Join(args, " "))
	failure := failureFinder{src: m.src}
	watched, heard, end := m.watch(ctx)
	defer end()
	scanned := make(chan error, 1)
	go func() {
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadBytes('\n')
			heard()
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
	runErr := sandbox.Run(watched, cmd)
	w.Close()
	scanErr := <-scanned
	switch {
	case ctx.Err() != nil:
		return runErr
	case watched.Err() != nil:
		return &hostError{what: context.Cause(watched).Error(), final: true, passing: true}
	case scanErr != nil && scanErr != io.EOF:
		return fmt.Errorf("writing the build log: %w", scanErr)
	case errors.Is(runErr, exec.ErrNotFound):
		return fmt.Errorf("%s is not installed (make deps): %w", cmd.Args[0], runErr)
	case errors.Is(runErr, sandbox.ErrTooMany):
		return &hostError{what: runErr.Error(), final: true, passing: true}
	case runErr != nil:
		return failure.error(runErr)
	}
	return nil
}

// watch ends the context that it returns when the build would fill the disk or does
// not come to an end; heard is told of each line.
func (m *makeRun) watch(ctx context.Context) (watched context.Context, heard, end func()) {
	watched, cancel := context.WithCancelCause(ctx)
	silence := time.AfterFunc(buildSilence, func() {
		cancel(fmt.Errorf("make has said nothing for %v", buildSilence))
	})
	total := time.AfterFunc(buildTime, func() { cancel(fmt.Errorf("the build did not end within %v", buildTime)) })
	var began unix.Statfs_t
	beganErr := unix.Statfs(m.out, &began)
	ticker := time.NewTicker(time.Second)
	go func() {
		for {
			select {
			case <-watched.Done():
				return
			case <-ticker.C:
			}
			var now unix.Statfs_t
			if beganErr != nil || unix.Statfs(m.out, &now) != nil || free(began) < diskFloor {
				// A disk as small as that is for the writes themselves to find out.
				continue
			}
			if free(now) < diskFloor {
				cancel(fmt.Errorf("the build would fill the disk of %s: less than %d MiB are free", m.out, diskFloor>>20))
			}
		}
	}()
	return watched, func() { silence.Reset(buildSilence) }, func() {
		silence.Stop()
		total.Stop()
		ticker.Stop()
		cancel(nil)
	}
}

// free is what a file system has left for users, in bytes.
func free(s unix.Statfs_t) uint64 { return s.Bavail * uint64(s.Bsize) }

// hostError is a build that this machine failed, not the source: no memory, no
// disk, a compiler that was killed or crashed.
type hostError struct {
	// what happened, and what to do where that is known.
	what, raise string
	// final means that trying again is of no use.
	final bool
	// fewer means that fewer jobs may do.
	fewer bool
	// unknown means that no message was understood.
	unknown bool
	// passing means that the machine is to blame alone: what is built has no part in it.
	passing bool
}

func (e *hostError) Error() string {
	if e.raise == "" {
		return e.what
	}
	return e.what + "; " + e.raise
}

// failureFinder picks the lines of a build's output that say why it failed.
type failureFinder struct {
	src string
	// found are what compilers, linkers and makefiles say about the source.
	found []BuildError
	// mismatches are modpost's warnings, which say what is meant if it ends for them.
	mismatches []BuildError
	trouble    *hostError
	// last is the last line before make's first complaint: what some tool said
	// whose way of speaking is not known here.
	last    string
	stopped bool
}

// sectionMismatches is what modpost says at its end where the warnings of them are errors.
const sectionMismatches = "Section mismatches detected"

var (
	// compilerError is gcc's and as's form of a message with a place.
	compilerError = regexp.MustCompile(`^([^\s:]+|\{standard input\}):(\d+):(?:\d+:)? ((?:fatal )?[Ee]rror:? .*)$`)
	// kconfigError is Kconfig's. Those of scripts/Kconfig.include are about the compiler.
	kconfigError = regexp.MustCompile(`^((?:\S+/)?Kconfig[^\s:/]*):(\d+): ?(\S.*)$`)
	// linkerError is ld's and lld's: a symbol that nobody defines, a section that is too big;
	// modpost's, and depmod's of modules that need each other.
	linkerError = regexp.MustCompile(`^(?:(?:\S+/)?ld(?:\.lld(?:-\d+)?)?|\S+\.(?:o|so(?:\.\w+)?)): .*|.*undefined reference to .*|^ERROR: .*|^depmod: ERROR: (?:Cycle detected|Found \d+ modules in dependency cycles).*`)
	// toolError is what the kernel's own tools say of the source: modpost's last words (since v5.13
	// most of them begin with ERROR), those of arch/x86/tools/relocs, scripts/link-vmlinux.sh and
	// scripts/headers_install.sh; rustc; and whatever reads a script that is none.
	toolError = regexp.MustCompile(`^FATAL: modpost: (?:` + sectionMismatches + `|GPL-incompatible module |The relocation at |\S+: (?:sizeof\(struct |struct \w+ is not terminated |Masked-off bit))` +
		`|^Invalid (?:\w+ )?R_\w+ relocation|^Unsupported relocation type: |^Inconsistent kallsyms data|^error(?:\[E\d+\]|: \S+: leak )|[Ss]yntax ?[Ee]rror\b`)
	linkerWarning = regexp.MustCompile(`: (?:warning|NOTE|note): `)
	// minimum is what a source says that it wants where it finds a compiler too old.
	minimum = regexp.MustCompile(`^\*\*\*\s+Minimum (.+) version:\s*(\S+)$`)
	// folders are make's lines about where it is.
	folders = regexp.MustCompile(`^\S*make\S*: (?:Entering|Leaving) directory `)
	stopped = regexp.MustCompile(`^\S*make\S*: \*\*\* \[`)
	// kbuildError is what makefiles say themselves, and make of a makefile.
	kbuildError = regexp.MustCompile(`^\*\*\* (\S.*)|^\S*[Mm]ake\S*: \*\*\* (No rule to make target .*)|^(\S*(?:Makefile|Kbuild|\.mk)\S*:\d+: \*\*\* .*)`)
	// ownWords are lines about the source whose words could be mistaken for the
	// host's: kbuild's steps, the compiler's excerpts, its warnings and its errors that
	// leave it alive.
	ownWords = regexp.MustCompile(`^\s|: (?:warning|note): |^\S+:\d+:(?:\d+:)? error: |^(?:\S+/)?Kconfig\S*:\d+: can't open file "`)
)

// A troubleKind is how tools tell of trouble of the host's.
type troubleKind struct {
	says  *regexp.Regexp
	error hostError
}

// troubles are looked for in this order; the words behind a colon at a line's end are
// strerror(3)'s.
var troubles = []troubleKind{
	{regexp.MustCompile(`Sorry, this (?:compiler|linker|assembler|C compiler)\b.* not supported|^\*\*\* (?:C )?(?:Compiler|compiler|Linker|Assembler) is too old`),
		hostError{what: "the compiler is too old for this source", raise: "CC=gcc-NN or LLVM=-NN takes another one (docs/compilers.md)", final: true}},
	{regexp.MustCompile(`Killed signal terminated program|^\S*make\S*: .*\] Killed$|internal compiler error: Killed|unable to execute command: Killed|Cannot allocate memory|[Vv]irtual memory exhausted|[Mm]emory exhausted|[Oo]ut of memory|std::bad_alloc`),
		hostError{what: "this machine ran out of memory", raise: "try a smaller JOBS", fewer: true, passing: true}},
	{regexp.MustCompile(`No space left on device|Disk quota exceeded|File too large|File size limit exceeded`),
		hostError{what: "the disk is full or cannot be written", raise: "free some space or set CACHE to another folder", final: true, passing: true}},
	{regexp.MustCompile(`Read-only file system`),
		hostError{what: "the build wrote where it may not, or the disk is read-only", raise: "see the log, or set CACHE to another folder", final: true}},
	{regexp.MustCompile(`(?:sh|make\S*|env|bwrap|nice|prlimit): (?:\d+: |line \d+: )?\S+: (?:command )?not found|\] Error 127$|(?:gelf\.h|libelf\.h|openssl/\S+\.h): No such file|installation problem|cannot execute.*: No such file|error while loading shared libraries`),
		hostError{what: "this machine lacks a tool", raise: "see make deps", final: true}},
	{regexp.MustCompile(`Resource temporarily unavailable|[vf]?fork: |posix_spawn|[Cc]annot fork`),
		hostError{what: "this machine did not let the build start a process", raise: "try a smaller JOBS, or raise the limit of processes (ulimit -u)", fewer: true, passing: true}},
	{regexp.MustCompile(`Too many open files`),
		hostError{what: "the build may not open more files", raise: "try a smaller JOBS, or raise the limit (ulimit -n)", fewer: true, passing: true}},
	{regexp.MustCompile(`signal terminated program|internal compiler error|[Pp]lease submit a full bug report|PLEASE submit a bug report|likely a hardware or OS problem|\(core dumped\)|^\S*make\S*: .*\] (?:Terminated|Segmentation fault|Bus error|Illegal instruction|Aborted|Hangup|Interrupt|Quit|User defined signal \d|CPU time limit exceeded|Floating point exception|Trace/breakpoint trap|Bad system call|Alarm clock|Broken pipe)\b|: (?:Segmentation fault|Bus error|Illegal instruction|Aborted|Terminated|Killed)$`),
		hostError{what: "a compiler or another tool was terminated or crashed", raise: "if it does so again, look at the memory, the disk and the compiler of this machine", passing: true}},
	{regexp.MustCompile(`: (?:Input/output error|Bad file descriptor|Stale file handle|Permission denied|Operation not permitted|Device or resource busy|Text file busy|Remote I/O error|Transport endpoint is not connected|Structure needs cleaning|Bad message|Exec format error|Connection timed out|Host is down|No such device.*|Interrupted system call|Too many levels of symbolic links|Not a directory|Bad address|Key has expired|Required key not available)\.?$`),
		hostError{what: "this machine could not read or write a file", raise: "look at its disk, and at the rights on CACHE"}},
	{regexp.MustCompile(`file truncated|file format not recognized|file not recognized|is not an object|malformed archive|[Nn]ot an ELF|invalid ELF|(?:^|[\s(])[Cc]orrupt(?:ed|ion)?\b|bad section|error adding symbols|[Uu]nexpected end of file|end of file not at end of a line|\.o: file is empty|cannot (?:find|open) \S+\.[oas]\b|failed to elf_begin|elf_(?:begin|update|getshdr)`),
		hostError{what: "an object in the build folder is damaged", raise: "look at the disk of CACHE"}},
	{regexp.MustCompile(`[Cc]an't (?:open|create|write|read|close) |[Cc]annot (?:create|open|write|read) (?:temporary|output|intermediate)|[Cc]annot create temporary|error (?:closing|writing to|reading) |could not (?:open|create|write)`),
		hostError{what: "this machine could not keep a temporary file", raise: "look at its disk, and at what cleans TMPDIR"}},
}

func (f *failureFinder) line(line string) {
	text := strings.TrimSpace(line)
	if !ownWords.MatchString(line) {
		f.hostTrouble(text)
	}
	if stopped.MatchString(line) {
		f.stopped = true
	}
	if !f.stopped && text != "" && !folders.MatchString(text) {
		f.last = text
	}
	found := compilerError.FindStringSubmatch(line)
	if found == nil {
		found = kconfigError.FindStringSubmatch(line)
	}
	if found != nil && !strings.HasSuffix(found[1], "/Kconfig.include") && !strings.HasPrefix(found[3], "warning:") {
		number, _ := strconv.Atoi(found[2])
		f.found = append(f.found, BuildError{File: f.relative(found[1]), Line: number, Message: found[3]})
		return
	}
	if found := mismatchLine.FindStringSubmatch(line); found != nil {
		f.mismatches = append(f.mismatches, BuildError{Message: place.ReplaceAllString(found[1], "")})
		return
	}
	if (linkerError.MatchString(line) || toolError.MatchString(line)) && !linkerWarning.MatchString(line) {
		if strings.Contains(line, sectionMismatches) {
			f.found = append(f.found, f.mismatches...)
		}
		f.found = append(f.found, BuildError{Message: line})
		return
	}
	if found := kbuildError.FindStringSubmatch(line); found != nil {
		f.found = append(f.found, BuildError{Message: strings.ReplaceAll(found[1]+found[2]+found[3], filepath.Clean(f.src)+"/", "")})
	}
}

func (f *failureFinder) hostTrouble(text string) {
	if wants := minimum.FindStringSubmatch(text); wants != nil && f.trouble != nil {
		f.trouble.what += fmt.Sprintf("; it wants %s %s or newer", wants[1], wants[2])
	}
	if f.trouble != nil {
		return
	}
	for _, kind := range troubles {
		if kind.says.MatchString(text) {
			trouble := kind.error
			trouble.what += " (" + text + ")"
			f.trouble = &trouble
			return
		}
	}
}

// relative strips what O= puts in front of a file of the source.
func (f *failureFinder) relative(file string) string {
	if rel, ok := strings.CutPrefix(file, filepath.Clean(f.src)+"/"); ok {
		return rel
	}
	return file
}

// error is the host's trouble before what was said about the source: a compiler that
// dies in the middle leaves others with half a file.
func (f *failureFinder) error(err error) error {
	switch {
	case f.trouble != nil:
		return f.trouble
	case len(f.found) > 0:
		first := f.found[0]
		first.all = f.found
		return &first
	case f.last != "":
		return &hostError{unknown: true, what: "make failed without a compiler's or linker's message about the source; what was said last is: " + f.last}
	}
	return &hostError{what: fmt.Sprintf("make failed without a compiler's message (%v)", err)}
}

// Also is the error with that message in a file, whatever its line, among all that was said
// in the same try; nil where there is none.
func (e *BuildError) Also(file, message string) *BuildError {
	i := slices.IndexFunc(e.all, func(said BuildError) bool { return said.File == file && said.Message == message })
	if i < 0 {
		return nil
	}
	said := e.all[i]
	said.Kernel, said.Log = e.Kernel, e.Log
	return &said
}

// harmless are errors behind which the compiler goes on as if nothing were wrong: what it
// read was a program, in which something has another name or type.
var harmless = regexp.MustCompile(`^error: (?:.* has no member named |.* undeclared \(first use |too (?:few|many) arguments to |incompatible types? |.*\[-Werror)`)

// SaysAll says that all that is wrong with a file was told: no message is of a kind that
// others hide behind.
func (e *BuildError) SaysAll(file string) bool {
	return !slices.ContainsFunc(e.all, func(said BuildError) bool { return said.File != file || !harmless.MatchString(said.Message) })
}

// missing is make's word of a file that it needs and that is not there, goal one of a file
// that it should make itself.
var missing, goal = regexp.MustCompile(`^No rule to make target `), regexp.MustCompile(`^No rule to make target '[^']*\.(?:o|a|ko)'`)

// ofFolder says that nothing was said but that a file is missing. Who needs it may be what an
// earlier source has left in the folder.
func (e *BuildError) ofFolder() bool {
	return !slices.ContainsFunc(e.all, func(said BuildError) bool {
		return !missing.MatchString(said.Message) || goal.MatchString(said.Message)
	})
}

// saidBefore says that one of the messages was among those of an earlier try.
func (e *BuildError) saidBefore(earlier *BuildError) bool {
	return earlier != nil && slices.ContainsFunc(e.all, func(now BuildError) bool {
		return slices.ContainsFunc(earlier.all, func(then BuildError) bool {
			return now.File == then.File && now.Line == then.Line && now.Message == then.Message
		})
	})
}

const (
	// diskFloor is what a build must leave free on the disk, buildSilence how long it
	// may say nothing, buildTime how long it may take.
	diskFloor    = 1 << 30
	buildSilence = 20 * time.Minute
	buildTime    = 4 * time.Hour
)
