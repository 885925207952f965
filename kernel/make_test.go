package kernel

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"patchproof/kernel/sandbox"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestWhyABuildFailed(t *testing.T) {
	for name, test := range map[string]struct {
		output  string
		want    BuildError
		trouble string
	}{
		"compiler": {output: `  CC      fs/io_uring.o
/cache/src/fs/io_uring.c: In function ‘io_alloc_req’:
/cache/src/fs/io_uring.c:1300:9: warning: unused variable ‘x’ [-Wunused-variable]
/cache/src/fs/io_uring.c:1304:9: error: ‘req_cachep’ undeclared (first use in this function)
/cache/src/fs/io_uring.c:1305:9: error: another
make[2]: *** [/cache/src/scripts/Makefile.build:280: fs/io_uring.o] Error 1`,
			want: BuildError{File: "fs/io_uring.c", Line: 1304, Message: "error: ‘req_cachep’ undeclared (first use in this function)"}},
		"missing header": {output: "/cache/src/fs/io_uring.c:82:10: fatal error: linux/none.h: No such file or directory\n",
			want: BuildError{File: "fs/io_uring.c", Line: 82, Message: "fatal error: linux/none.h: No such file or directory"}},
		"assembler": {output: "/cache/src/arch/x86/lib/memcpy_64.S:33: Error: no such instruction: `movk'\n",
			want: BuildError{File: "arch/x86/lib/memcpy_64.S", Line: 33, Message: "Error: no such instruction: `movk'"}},
		"linker": {output: "  LD      vmlinux.o\nld: fs/io_uring.o: in function `io_uring_init':\nio_uring.c:(.init.text+0x5): undefined reference to `none'\n",
			want: BuildError{Message: "ld: fs/io_uring.o: in function `io_uring_init':"}},
		"a section mismatch": {output: "  MODPOST vmlinux.symvers\nWARNING: modpost: vmlinux.o(.text+0xa859): Section mismatch in reference from the function a() to the function .init.text:b()\nThe function a() references\n\nFATAL: modpost: Section mismatches detected.\nSet CONFIG_SECTION_MISMATCH_WARN_ONLY=y to allow them.\nmake[2]: *** [scripts/Makefile.modpost:59: vmlinux.symvers] Error 1\n",
			want: BuildError{Message: "vmlinux.o(.text): Section mismatch in reference from the function a() to the function .init.text:b()"}},
		"a section mismatch, v5.13": {output: "WARNING: modpost: vmlinux.o(.text+0x8): Section mismatch in reference from the function a() to the variable .init.data:b\nERROR: modpost: Section mismatches detected.\nSet CONFIG_SECTION_MISMATCH_WARN_ONLY=y to allow them.\n",
			want: BuildError{Message: "vmlinux.o(.text): Section mismatch in reference from the function a() to the variable .init.data:b"}},
		"a section mismatch, v6.6": {output: "WARNING: modpost: vmlinux: section mismatch in reference: a+0x8 (section: .text) -> b (section: .init.text)\nERROR: modpost: Section mismatches detected.\nSet CONFIG_SECTION_MISMATCH_WARN_ONLY=y to allow them.\n",
			want: BuildError{Message: "vmlinux: section mismatch in reference: a (section: .text) -> b (section: .init.text)"}},
		"a mismatch that is only warned of": {output: "WARNING: modpost: vmlinux: section mismatch in reference: a+0x8 (section: .text) -> b (section: .init.text)\nld: fs/a.o: in function `a':\n",
			want: BuildError{Message: "ld: fs/a.o: in function `a':"}},
		"Kconfig": {output: "  GEN     Makefile\nfs/Kconfig:352:warning: ignoring unsupported character '%'\nfs/Kconfig:353: invalid statement\nmake[2]: *** [/cache/src/scripts/kconfig/Makefile:77: olddefconfig] Error 1\n",
			want: BuildError{File: "fs/Kconfig", Line: 353, Message: "invalid statement"}},
		"Kconfig of a folder that is not there": {output: "/cache/src/fs/Kconfig:353: can't open file \"fs/none/Kconfig\"\n",
			want: BuildError{File: "fs/Kconfig", Line: 353, Message: "can't open file \"fs/none/Kconfig\""}},
		"Kconfig in a circle": {output: "fs/Kconfig.aa:358:error: recursive dependency detected!\nfs/Kconfig.aa:358:\tsymbol BB depends on AA\nFor a resolution refer to Documentation/kbuild/kconfig-language.rst\n",
			want: BuildError{File: "fs/Kconfig.aa", Line: 358, Message: "error: recursive dependency detected!"}},
		"Kconfig on the compiler": {output: "/cache/src/scripts/Kconfig.include:39: C compiler 'gcc-99' not found\n", trouble: "gcc-99"},
		"vDSO": {output: "arch/x86/entry/vdso/vdso64.so.dbg: undefined symbols found\n",
			want: BuildError{Message: "arch/x86/entry/vdso/vdso64.so.dbg: undefined symbols found"}},
		"relocs": {output: "Invalid absolute R_X86_64_32S relocation: io_table\nmake[2]: *** [arch/x86/boot/compressed/Makefile:1: vmlinux.relocs] Error 1\n",
			want: BuildError{Message: "Invalid absolute R_X86_64_32S relocation: io_table"}},
		"recipe": {output: "/bin/sh: 1: Syntax error: \"(\" unexpected\nmake: *** [fs/Makefile:3: fs/a.h] Error 2\n",
			want: BuildError{Message: "/bin/sh: 1: Syntax error: \"(\" unexpected"}},
		"a tool in Python": {output: "  File \"/cache/src/scripts/a.py\", line 1\n    if\n      ^\nSyntaxError: invalid syntax\nmake: *** [fs/Makefile:3: fs/a.h] Error 1\n",
			want: BuildError{Message: "SyntaxError: invalid syntax"}},
		"rustc": {output: "error[E0425]: cannot find value `x` in this scope\n --> rust/kernel/lib.rs:9:5\n",
			want: BuildError{Message: "error[E0425]: cannot find value `x` in this scope"}},
		"GPL": {output: "FATAL: modpost: GPL-incompatible module a.ko uses GPL-only symbol 'b'\n",
			want: BuildError{Message: "FATAL: modpost: GPL-incompatible module a.ko uses GPL-only symbol 'b'"}},
		"modpost, cut object": {output: "FATAL: modpost: fs/a.o is truncated. sechdrs[i].sh_offset=1 > sizeof(*hrd)=64\nmake: *** [Makefile:1: vmlinux] Error 1\n", trouble: "is truncated"},
		"a name like the host's words": {output: "ld.lld: error: undefined symbol: xfs_corruption_error\n",
			want: BuildError{Message: "ld.lld: error: undefined symbol: xfs_corruption_error"}},
		"another": {output: "ERROR: modpost: \"corrupt_it\" [fs/corrupt.ko] undefined!\nmake[2]: *** [scripts/Makefile.build:280: fs/corrupt.o] Error 1\n",
			want: BuildError{Message: "ERROR: modpost: \"corrupt_it\" [fs/corrupt.ko] undefined!"}},
		"damaged symbols": {output: "ld: fs/a.o: corrupt symbol table\n", trouble: "damaged"},
		"a tool's own words": {output: "ld: warning: a.o: missing .note.GNU-stack section\n  AS      entry.o\nentry.o: warning: objtool: missing symbol table\nmake[3]: *** [Makefile.build:349: entry.o] Error 1\nmake[3]: *** Deleting file 'entry.o'\n",
			trouble: "missing symbol table"},
		"makefile": {output: "***\n*** The source tree is not clean, please run 'make mrproper'\n*** in /cache/src\n***\nmake: *** [Makefile:180: sub-make] Error 2\n",
			want: BuildError{Message: "The source tree is not clean, please run 'make mrproper'"}},
		"missing file": {output: "make[3]: *** No rule to make target 'fs/none.o', needed by 'fs/built-in.a'.  Stop.\n",
			want: BuildError{Message: "No rule to make target 'fs/none.o', needed by 'fs/built-in.a'.  Stop."}},
		"silent": {output: "\nmake: *** [Makefile:1: vmlinux] Error 1\n",
			trouble: "make failed without a compiler's message (exit status 2)"},
		"silent but for its folder": {output: "make: Entering directory '/cache/src'\nmake: *** [Makefile:1: vmlinux] Error 1\nmake: Leaving directory '/cache/src'\n",
			trouble: "make failed without a compiler's message (exit status 2)"},
		"out of memory": {output: "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.\n", trouble: "out of memory"},
		"broken makefile": {output: "/cache/src/fs/Makefile:7: *** missing separator.  Stop.\n",
			want: BuildError{Message: "fs/Makefile:7: *** missing separator.  Stop."}},
		"words of the source": {output: "/cache/src/fs/a.c:1:2: error: #error out of memory\n",
			want: BuildError{File: "fs/a.c", Line: 1, Message: "error: #error out of memory"}},
		"a warning's words": {output: "/cache/src/fs/a.c:1:2: warning: 'Killed' may be corrupt\n/cache/src/fs/a.c:9:2: error: expected ';'\n",
			want: BuildError{File: "fs/a.c", Line: 9, Message: "error: expected ';'"}},
		"terminated":      {output: "gcc: fatal error: Terminated signal terminated program cc1\ncompilation terminated.\n", trouble: "terminated or crashed"},
		"no process":      {output: "gcc: fatal error: cannot execute 'cc1': vfork: Resource temporarily unavailable\n", trouble: "ulimit -u"},
		"no descriptor":   {output: "Fatal error: can't create fs/io_uring.o: Too many open files\n", trouble: "ulimit -n"},
		"bad disk":        {output: "/cache/src/fs/io_uring.c:1:1: fatal error: error closing fs/io_uring.o: Input/output error\n", trouble: "disk"},
		"bad source disk": {output: "/cache/src/fs/io_uring.c:3:10: fatal error: linux/fs.h: Input/output error\n", trouble: "disk"},
		"temp file gone":  {output: "Error: can't open /tmp/ccc0zfAh.s for reading: No such file or directory\n", trouble: "TMPDIR"},
		"cut object":      {output: "ld: fs/io_uring.o: file not recognized: file truncated\n", trouble: "damaged"},
		"half a file":     {output: "{standard input}: Assembler messages:\n{standard input}:5: Warning: end of file not at end of a line; newline inserted\n{standard input}:5: Error: unknown pseudo-op: `.lo'\n", trouble: "damaged"},
		"clang, killed":   {output: "clang: error: unable to execute command: Killed\n", trouble: "out of memory"},
		"clang, crashed":  {output: "PLEASE submit a bug report to https://llvm.example and include the crash backtrace\n", trouble: "crashed"},
		"too old":         {output: "***\n*** Compiler is too old.\n***   Your Clang version:    14.0.6\n***   Minimum Clang version: 15.0.0\n***\n", trouble: "it wants Clang 15.0.0 or newer"},
		"Kconfig's words": {output: "scripts/Kconfig.include:44: Sorry, this compiler is not supported.\n", trouble: "too old for this source"},
		"crash":           {output: "/cache/src/fs/a.c:1:1: internal compiler error: Segmentation fault\n", trouble: "crashed"},
		"make's child":    {output: "make[2]: *** [scripts/Makefile.build:280: fs/io_uring.o] Killed\n", trouble: "out of memory"},
		"full disk":       {output: "/tmp/ccX.s: Assembler messages:\n/tmp/ccX.s: Fatal error: can't write 12 bytes to section .text: No space left on device\n", trouble: "disk is full"},
		"no flex":         {output: "/bin/sh: 1: flex: not found\nmake[1]: *** Error 127\n", trouble: "make deps"},
		"no libelf":       {output: "/cache/src/tools/objtool/elf.h:10:10: fatal error: gelf.h: No such file or directory\n", trouble: "make deps"},
		"the host first":  {output: "/cache/src/a.c:1:1: error: x\ngcc: fatal error: Killed signal terminated program cc1\n", trouble: "out of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			f := failureFinder{src: "/cache/src"}
			for _, line := range strings.Split(test.output, "\n") {
				f.line(line)
			}
			err := f.error(errors.New("exit status 2"))
			var refused *BuildError
			if test.trouble != "" {
				if errors.As(err, &refused) || !strings.Contains(err.Error(), test.trouble) {
					t.Errorf("error = %v; want the host's trouble with %q", err, test.trouble)
				}
				return
			}
			if !errors.As(err, &refused) {
				t.Fatalf("error = %v; want *BuildError", err)
			}
			if diff := cmp.Diff(test.want, *refused, cmpopts.IgnoreUnexported(BuildError{})); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestObjectLine(t *testing.T) {
	for line, want := range map[string]bool{
		"  CC      fs/io_uring.o\n":          true,
		"  CC [M]  fs/io_uring.o\n":          true,
		"  AS      arch/x86/entry/entry.o\n": true,
		"  HOSTCC  scripts/basic/fixdep\n":   false,
		"  AR      fs/built-in.a\n":          false,
		"  LD      vmlinux\n":                false,
		"  ASN.1   x509.asn1.c\n":            false,
		"CC fs/io_uring.o\n":                 false,
	} {
		if got := objectLine.MatchString(line); got != want {
			t.Errorf("objectLine(%q) = %v; want %v", line, got, want)
		}
	}
}

func TestQuirks(t *testing.T) {
	src := t.TempDir()
	if got := quirks(src, ""); got != nil {
		t.Errorf("quirks without objtool = %q; want none", got)
	}
	if got := quirks(src, "#\nCONFIG_PVH=y\nCONFIG_KASAN=y\n"); len(got) != 2 {
		t.Errorf("quirks with KASAN = %q; want two", got)
	}
	writeFile(t, filepath.Join(src, "tools/objtool/elf.c"), "\t\tWARN(\"missing symbol table\");\n")
	if got := quirks(src, "#\nCONFIG_SMP=y\n"); len(got) != 1 {
		t.Errorf("quirks with old objtool = %q; want one", got)
	}
	if got := quirks(src, "#\nCONFIG_PREEMPTION=y\n"); got != nil {
		t.Errorf("quirks with preemption = %q; want none", got)
	}
}

// A wrapper around a tool may leave a process behind that keeps the output open.
func TestWrapperLeavesAProcess(t *testing.T) {
	t.Parallel()
	out, err := sandbox.Output(t.Context(), exec.Command("sh", "-c", "echo whole; sleep 1000 & exit 0"))
	if err != nil || string(out) != "whole\n" {
		t.Errorf("output = %q, %v; want all of it", out, err)
	}
}
