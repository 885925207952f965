package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	edlib "github.com/hbollon/go-edlib"

	"patchproof/kernel/arch"
	"patchproof/kernel/sandbox"
	"patchproof/vmtest"
)

// variable is a line of the table of what a user can set, on make's command line, in
// the environment, or as a flag of the commands that take it.
type variable struct {
	name string
	// form is what a value looks like, in usage lines.
	form string
	// standard is the default as the documents tell it, empty where there is none.
	standard string
	// meaning is for help and documents; `code` may be marked.
	meaning string
	// commands are those that take it, in the order of the documents.
	commands []string
	// machine says that it is about this machine, not about what is tested: a command
	// that has no use for it cannot give a wrong answer by leaving it alone.
	machine bool
	// common says that other software gives its own meaning to the name. In the environment it
	// is then left alone by commands that do not take it, and no name is taken for
	// a slip of it.
	common bool
	// noFlag says that it is no flag of the commands: an argument of theirs, or read
	// from the environment where it is used.
	noFlag bool
}

// The commands that choose a kernel and say something about it. These refuse what they
// do not take, because their answer would be about something else than was asked.
var (
	suite     = []string{"vmtest"}
	tested    = []string{"vmtest", "shell"}
	searches  = []string{"bisect", "bisect-config"}
	lineups   = []string{"vmtest", "build", "shell", "bench", "bundle", "mutants"}
	campaigns = slices.Concat(lineups, searches)
	stored    = []string{"report", "reply", "summary", "reference"}
	checks    = []string{"patchcheck", "ready"}
	sources   = slices.Concat(campaigns, []string{"apply"}, checks)
)

// table is every variable there is. A new one is a line here and its use; flags, help and
// refusals follow, and a test says what is missing in docs/variables.md.
var table = []variable{
	{name: "SUBJECT", form: "NAME", standard: "the default one; none with PATCH or TREE", commands: campaigns,
		meaning: "patch under test with all that belongs to it, see docs/subjects.md"},
	{name: "KERNELS", form: "NAMES", standard: "all of the pin", commands: lineups,
		meaning: "kernels of the line-up: `base`, and those of the subject"},
	{name: "PROGRAMS", form: "NAMES", standard: "all", commands: slices.Concat([]string{"vmtest", "shell", "mutants"}, checks),
		meaning: "guest programs of the subject, see docs/programs.md; `quick` stands for a few; with patchcheck and ready, `boot` is the default, and `none` boots nothing"},
	{name: "VARIANT", form: "NAME", standard: "plain", commands: slices.Concat(campaigns, checks),
		meaning: "config: `plain` to measure, `debug` for KASAN, lockdep and other checks of the kernel's own"},
	{name: "ACCEL", form: "auto|kvm|tcg", standard: "auto", commands: slices.Concat(campaigns, checks), machine: true,
		meaning: "how QEMU runs guests: `kvm`, `tcg`, or `auto`, which takes KVM where a guest really runs under it"},
	{name: "PIN", form: "NAME", standard: "the subject's", commands: sources,
		meaning: "kernel source, held to its hash; or a release: `6.12.107`, or `7.1` for its newest (docs/trees.md)"},
	{name: "PATCH", form: "FILE", commands: sources,
		meaning: "your patch (mail, thread, diff, folder, address, `-`; see docs/patches.md), or with TREE commits (`v6.12..HEAD`), `worktree` or `index` (docs/trees.md): the line-up becomes `base` and `patched`"},
	{name: "V", form: "N", standard: "the latest that is complete", commands: sources, common: true,
		meaning: "with PATCH, the version of a mailed series to take"},
	{name: "LORE", form: "MESSAGE-ID", commands: sources,
		meaning: "instead of PATCH, a mail of the thread to take from lore.kernel.org; PATCH may be its address, too"},
	{name: "INBOX", form: "FOLDER", commands: sources, common: true,
		meaning: "with LORE, a public-inbox clone to take it from"},
	{name: "TREE", form: "FOLDER", commands: sources,
		meaning: "a local git tree instead of a pin; it is only read"},
	{name: "REV", form: "REVISION", standard: "HEAD", commands: sources,
		meaning: "revision of TREE"},
	{name: "KERNEL_SRC", form: "FILE", commands: sources, machine: true,
		meaning: "the pin's source where you have it: a tarball or a folder, which is verified"},
	{name: "JOBS", form: "N", standard: "one per CPU", commands: slices.Concat(campaigns, checks), machine: true,
		meaning: "cells at once, and make's `-j`; where it is not set, one cell more for each test of yours that only waits"},
	{name: "COUNT", form: "N", standard: "1; bench 2, or 6 for time", commands: slices.Concat(suite, []string{"bench"}, searches),
		meaning: "how often each cell is run"},
	{name: "SHARD", form: "I/N", commands: []string{"vmtest", "bench", "mutants"}, common: true,
		meaning: "part `2/5` of the cells or mutants, the same on every machine; see docs/ci.md"},
	{name: "SEED", form: "N", standard: "1", commands: suite,
		meaning: "seed of programs that make their input up at random; the record of a cell has it"},
	{name: "KNOWN", form: "FILE", commands: campaigns,
		meaning: "issues that your tree is known to have, declared as in a `known-issues.toml`"},
	{name: "STRICT", form: "1", commands: suite,
		meaning: "`1`: with PATCH, a check that fails a little more often than on base counts as worse"},
	{name: "TEST", form: "TEST", commands: tested, common: true,
		meaning: "your own test: an executable, a script, a folder of them or a command line; or the kernel's own: `kunit:NAMES`, `kselftest:TARGETS`, `auto` for what is nearest to a patch; or `liburing`; several with semicolons; see docs/tests.md"},
	{name: "TIMEOUT", form: "TIME", standard: "60s", commands: tested, common: true,
		meaning: "how long a test may run"},
	{name: "MEMORY", form: "SIZE", standard: "512M", commands: tested, common: true,
		meaning: "memory of a test's VM"},
	{name: "CPUS", form: "N", standard: "2", commands: tested, common: true,
		meaning: "processors of a test's VM"},
	{name: "DISK", form: "SIZE", commands: tested, common: true,
		meaning: "empty disks of a test's VM: a size each, behind a comma `nvme` or `virtio`"},
	{name: "APPEND", form: "WORDS", commands: tested, common: true,
		meaning: "words for the kernel command line of a test's VM"},
	{name: "ROOT", form: "host", commands: suite, common: true,
		meaning: "`host`: a test sees this machine's root, without what is not for everybody; see docs/tests.md"},
	{name: "NET", form: "user", commands: suite, common: true,
		meaning: "`user`: a test's guest has a network, QEMU's; without it there is none"},
	{name: "PROGRAM", form: "NAME", standard: "the subject's", commands: searches,
		meaning: "the program of a search"},
	{name: "CHECK", form: "NAME", standard: "what only BAD shows", commands: searches,
		meaning: "a check of the program (`name` or `begin*`), or a verdict: `fail`, `hang`, `crash`"},
	{name: "GOOD", form: "END", standard: "base", commands: searches,
		meaning: "the end of a search that passes: a patch's number, a commit, or a config"},
	{name: "BAD", form: "END", standard: "the last patch", commands: searches,
		meaning: "the end of a search that fails"},
	{name: "FIND", form: "fix|warning", standard: "break", commands: []string{"bisect"}, common: true,
		meaning: "`fix`: the first commit that passes again; GOOD comes after BAD then. `warning`: the first with a warning of the compiler, of the C file that CHECK names"},
	{name: "FIXUP", form: "PATCHES", commands: []string{"bisect"}, common: true,
		meaning: "what commits of TREE need on top to build: a patch, behind it a range (`fix.patch A..B`) or none; several with semicolons"},
	{name: "METRIC", form: "FIGURE", commands: []string{"bisect"}, common: true,
		meaning: "search by a figure, in place of a failure: `size vmlinux`, `size .text` or another section, `insns bench=WORKLOAD`"},
	{name: "CONFIDENCE", form: "PERCENT", standard: "95 where it fails now and then", commands: []string{"bisect"}, common: true,
		meaning: "how sure a search is to be; it then runs kernels again and again, see docs/bisect.md"},
	{name: "BUDGET", form: "N", standard: "300", commands: []string{"bisect"}, common: true,
		meaning: "how many runs such a search may make"},
	{name: "FRESH", form: "1", commands: slices.Concat([]string{"mutants"}, searches),
		meaning: "`1`: search, or judge mutants, again, whatever is known"},
	{name: "BENCH", form: "NAMES", standard: "all", commands: []string{"bench"},
		meaning: "groups of workloads, see docs/bench.md"},
	{name: "INSTRUMENT", form: "insns|time", standard: "insns", commands: []string{"bench"},
		meaning: "what is measured: `insns` under TCG, or `time`, which needs KVM"},
	{name: "CONFIG", form: "FILES", commands: slices.Concat(lineups, []string{"bisect"}, checks),
		meaning: "options of yours: a fragment, several, or a whole `.config`, see docs/config.md"},
	{name: "CC", form: "COMMAND", standard: "gcc", commands: slices.Concat(campaigns, checks, []string{"deps"}), common: true,
		meaning: "the kernel's compiler: `gcc-11`, `clang`, a path, or `'ccache gcc'`; see docs/compilers.md"},
	{name: "LLVM", form: "1|-N", commands: slices.Concat(campaigns, checks, []string{"deps"}),
		meaning: "`1`: kernels are built with clang and ld.lld; `-14`: with those of a version"},
	{name: "ALSO", form: "CONFIGS", commands: checks, common: true,
		meaning: "other configs in which the files of a patch are compiled: `allmodconfig`, `allnoconfig`, `arm64:defconfig`, with commas between them"},
	{name: "MUTANTS", form: "FOLDER", standard: "those of the pin", commands: []string{"mutants"},
		meaning: "a folder of patches, each of which is a mutant"},
	{name: "WORK", form: "FOLDER", standard: "work", commands: []string{"apply", "refresh"}, common: true,
		meaning: "the work tree of hand work, see docs/patches.md"},
	{name: "RUN", form: "RUN", standard: "latest", commands: stored, common: true, noFlag: true,
		meaning: "the run to look at, named as in `results ls`"},
	{name: "CACHE", form: "FOLDER", standard: "~/.cache/patchproof", commands: slices.Concat(sources, []string{"cache ls", "cache gc", "cache export", "cache import"}), machine: true,
		meaning: "where sources, trees and kernels are kept"},
	{name: sandbox.Variable, form: "on|off", standard: "on", commands: slices.Concat(campaigns, checks), machine: true, noFlag: true,
		meaning: "`off`: builds run as you, without bubblewrap, see docs/ci.md"},
}

// flags are the variables of one command as flags: a struct made of the table, with
// a field for each variable that the command takes.
type flags struct{ kong.Plugins }

// flagsOf makes the flags of a command.
func flagsOf(command string) flags {
	var fields []reflect.StructField
	for _, v := range table {
		if v.noFlag || !slices.Contains(v.commands, command) {
			continue
		}
		help := strings.ReplaceAll(v.meaning, "`", "")
		if v.standard != "" {
			help += " (" + v.standard + ")"
		}
		name := strings.ToLower(strings.ReplaceAll(v.name, "_", "-"))
		fields = append(fields, reflect.StructField{
			Name: v.name, Type: reflect.TypeFor[string](),
			Tag: reflect.StructTag(fmt.Sprintf("name:%q env:%q placeholder:%q help:%q", name, v.name, v.form, help)),
		})
	}
	return flags{kong.Plugins{reflect.New(reflect.StructOf(fields)).Interface()}}
}

// value is what a variable was set to; a command that does not take it has none.
func (f flags) value(name string) string {
	field := reflect.ValueOf(f.Plugins[0]).Elem().FieldByName(name)
	if !field.IsValid() {
		return ""
	}
	return field.String()
}

// selection checks what was selected as far as that needs no kernel source.
func (f flags) selection(t *terminal) (vmtest.Selection, error) {
	sel, err := vmtest.FromEnv(f.value)
	sel.Install = installer(t, sel.Compiler, sel.Config)
	return sel, err
}

// typedEnv names, for the command, the variables of make's command line. The Makefile
// sets it: in the environment of a recipe they look like all others.
const typedEnv = "PATCHPROOF_TYPED"

// tooling begins the names of variables that are for Go, make and their like, not for
// patchproof, whatever they look like.
var tooling = []string{"GO", "CGO_", "CCACHE", "MAKE", "SHELL", "TERM", "NO_COLOR", "TMPDIR", "PATH", "HOME", "SCREENSHOTS"}

// kbuild are the variables by which a kernel's own build, unlike this one, takes
// another architecture, compiler or flags, with the values that change nothing here.
var kbuild = map[string][]string{
	"ARCH": arch.Target.Make, "CROSS_COMPILE": nil, "KCFLAGS": nil, "KBUILD_OUTPUT": nil,
}

// subjectOf are the variables that say what is tested. One that was typed and is empty, as from
// a script whose own variable is not set, would have something else tested, and be green.
var subjectOf = []string{
	"PATCH", "TREE", "REV", "PIN", "LORE", "TEST", "KERNELS", "PROGRAMS", "CONFIG", "VARIANT", "SUBJECT", "CC",
	"PROGRAM", "CHECK", "GOOD", "BAD", "FIND", "METRIC", "FIXUP", "MUTANTS", "BENCH", "INSTRUMENT", "ALSO",
}

// refuse finds a variable that was set and that the command would not heed.
//
// What stands on make's command line was typed for this run: the command takes it, or it is refused.
// The environment holds much that is for others. There, a command that says something about
// a kernel refuses what belongs to another command, what looks like a slip of
// our names, and what kbuild would build another kernel by.
func refuse(command string, environ []string) error {
	typed := map[string]bool{}
	values := map[string]string{}
	var names []string
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if name == typedEnv {
			for _, name := range strings.Fields(value) {
				typed[name] = true
			}
		}
		values[name] = value
		names = append(names, name)
	}
	for name := range typed {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		v, isOurs := lookUp(name)
		value, given := values[name]
		switch {
		case !isOurs && isTooling(name):
			continue
		case typed[name] && given && value == "" && slices.Contains(subjectOf, name):
			return fmt.Errorf("%s= is empty: leave it out, or say which one (what was meant would not be tested)", name)
		case isOurs && (v.isFor(command) || v.machine || command == "deps"):
			continue
		case typed[name]:
			// Whatever it is, it was meant for this run.
		case values[name] == "" || !slices.Contains(campaigns, command) && !slices.Contains(checks, command) || v.common:
			continue
		case !isOurs && !slip(name):
			if harmless, isKbuild := kbuild[name]; !isKbuild || slices.Contains(harmless, values[name]) {
				continue
			}
		}
		return refusal(command, name, values[name])
	}
	// Others' V is in many an environment.
	if v := values["V"]; typed["V"] && v != "" && values["PATCH"] == "" && values["LORE"] == "" {
		return fmt.Errorf("version V=%s is that of a series: it needs PATCH= or LORE=; what make prints has no levels here", v)
	}
	return nil
}

// refusal says what is taken instead.
func refusal(command, name, value string) error {
	text := fmt.Sprintf("%s=%s: %s does not take %s", name, value, command, name)
	near := nearest(command, name)
	v, isOurs := lookUp(name)
	_, isKbuild := kbuild[name]
	switch {
	case near != "":
		text += fmt.Sprintf("; did you mean %s?", near)
	case isOurs:
		text += "; it is for " + strings.Join(v.commands, ", ")
	case isKbuild:
		text += ": kernels are built for " + arch.Target.Name + ", by CC or LLVM, without flags of yours; unset it, or leave it out"
	}
	return fmt.Errorf("%s (docs/variables.md has the table)", text)
}

// isFor says whether a command takes the variable.
func (v variable) isFor(command string) bool {
	return slices.Contains(v.commands, strings.TrimPrefix(command, "results "))
}

func lookUp(name string) (variable, bool) {
	i := slices.IndexFunc(table, func(v variable) bool { return v.name == name })
	if i < 0 {
		return variable{}, false
	}
	return table[i], true
}

func isTooling(name string) bool {
	return slices.ContainsFunc(tooling, func(begin string) bool { return strings.HasPrefix(name, begin) })
}

// slip says whether a name of the environment looks like one of ours: only in
// upper and lower case, number, or one letter of five or more does it differ.
func slip(name string) bool {
	return slices.ContainsFunc(table, func(v variable) bool {
		if v.common || len(name) < 3 {
			return false
		}
		same := singular(name) == singular(v.name)
		near := min(len(name), len(v.name)) >= 5 && name[0] == v.name[0] && edlib.OSADamerauLevenshteinDistance(name, v.name) == 1
		return same || near || strings.HasPrefix(name, "PATCHPROOF_") && strings.TrimPrefix(name, "PATCHPROOF_") == v.name
	})
}

func singular(name string) string {
	upper := strings.ToUpper(name)
	if rest, ok := strings.CutSuffix(upper, "CHES"); ok {
		return rest + "CH"
	}
	return strings.TrimSuffix(upper, "S")
}

// nearest is the name that may have been meant, of those that the command takes; empty
// where none is near.
func nearest(command, name string) string {
	name = singular(strings.TrimPrefix(name, "PATCHPROOF_"))
	best, least := "", max(1, len(name)/3)+1
	for _, v := range table {
		if !v.isFor(command) {
			continue
		}
		if d := edlib.OSADamerauLevenshteinDistance(name, singular(v.name)); d < least {
			best, least = v.name, d
		}
	}
	return best
}
