package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel/sandbox"
)

// Compiler is what kernels are built with; the zero value is gcc with GNU's binutils.
type Compiler struct {
	// CC is a command, such as gcc-11 or clang, LLVM the suffix of LLVM's commands
	// ("1" for none), which then take the place of binutils as well.
	CC, LLVM string
	// CCache has the objects of a first build kept as well, which is not worth
	// it where nobody asks.
	CCache bool
	// Cross begins the names of gcc and binutils for another architecture, which ARCH names as
	// the kernel's makefile does. What is compiled with it is never booted.
	Cross, ARCH string
}

var (
	// compilerName is what a CC may be called.
	compilerName = regexp.MustCompile(`^(?:/[\w.+/-]*/)?(?:x86_64-linux-gnu-)?((?:gcc|clang)(?:-\d+)?)$`)
	llvmSuffix   = regexp.MustCompile(`^-\d+$`)
)

// ParseCompiler reads CC and LLVM as kbuild takes them on its command line. A CC that is the
// host's gcc under another name is the zero value, as is none.
func ParseCompiler(cc, llvm string) (Compiler, error) {
	var c Compiler
	words := strings.Fields(cc)
	if len(words) > 1 && words[0] == "ccache" {
		c.CCache, words = true, words[1:]
	}
	switch {
	case llvm == "":
	case llvm == "0":
		return c, errors.New("LLVM=0: kbuild takes clang for this, too; leave LLVM out for gcc")
	case llvm == "1" || llvmSuffix.MatchString(llvm):
		c.LLVM = llvm
	case llvmSuffix.MatchString("-" + llvm):
		return c, fmt.Errorf("LLVM=%s: a version has a hyphen before it, LLVM=-%s; LLVM=1 takes clang and ld.lld without one", llvm, llvm)
	default:
		return c, fmt.Errorf("LLVM=%s: want 1 for clang and ld.lld, or -14 for those of a version", llvm)
	}
	if len(words) == 0 {
		return c, nil
	}
	if len(words) > 1 || !compilerName.MatchString(words[0]) {
		return c, fmt.Errorf("CC=%s: want gcc, clang, or one of a version such as gcc-11 or clang-14, in a folder (/opt/bin/gcc-11) or not, and ccache before it or not", cc)
	}
	own := words[0]
	if filepath.IsAbs(own) {
		if _, err := exec.LookPath(own); err != nil {
			return c, fmt.Errorf("CC: %w", err)
		}
	}
	switch {
	case c.LLVM == "" && resolved(own) == resolved("gcc"):
	case c.LLVM == "":
		c.CC = own
	case resolved(own) != resolved(c.command()):
		return c, fmt.Errorf("CC=%s and LLVM=%s exclude each other: LLVM's compiler is %s", cc, llvm, c.command())
	}
	return c, nil
}

// resolved is the file that a command comes down to.
func resolved(command string) string {
	path, err := exec.LookPath(command)
	if err != nil {
		return command
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return path
}

// suffix is what the commands of an LLVM end with.
func (c Compiler) suffix() string {
	if c.LLVM == "1" {
		return ""
	}
	return c.LLVM
}

// command is the compiler.
func (c Compiler) command() string {
	switch {
	case c.Cross != "":
		return c.Cross + "gcc"
	case c.LLVM != "":
		return "clang" + c.suffix()
	case c.CC != "":
		return c.CC
	}
	return "gcc"
}

// asked is what the user set, empty for the zero value.
func (c Compiler) asked() string {
	switch {
	case c.Cross != "":
		return "ARCH=" + c.ARCH
	case c.LLVM != "":
		return "LLVM=" + c.LLVM
	case c.CC != "":
		return "CC=" + c.CC
	}
	return ""
}

// variables are make's. Each command of LLVM's is named, because trees before 5.18
// take LLVM=-14 for LLVM=1, and those before 5.7 do not know it.
func (c Compiler) variables() []string {
	if c.Cross != "" {
		return []string{"ARCH=" + c.ARCH, "CROSS_COMPILE=" + c.Cross}
	}
	if c.LLVM == "" {
		if c.CC == "" {
			return nil
		}
		return []string{"CC=" + c.CC}
	}
	vars := []string{"LLVM=1", "LD=ld.lld" + c.suffix(), "CC=clang" + c.suffix(), "HOSTCC=clang" + c.suffix(), "HOSTCXX=clang++" + c.suffix()}
	for _, tool := range []string{"ar", "nm", "objcopy", "objdump", "readelf", "strip"} {
		vars = append(vars, strings.ToUpper(tool)+"=llvm-"+tool+c.suffix())
	}
	return vars
}

// folder is what it adds to the name of a build folder.
func (c Compiler) folder() string {
	if c.asked() == "" {
		return ""
	}
	return "-" + strings.NewReplacer("/", "-", "=", "").Replace(c.asked())
}

// tools are what the host must have for it, besides what every build needs.
func (c Compiler) tools() []Tool {
	var all []Tool
	add := func(name, pkg, why string) { all = append(all, Tool{Name: name, Package: pkg, Why: why}) }
	if c.Cross != "" {
		add(c.command(), "gcc-"+strings.TrimSuffix(c.Cross, "-"), "compiles for "+c.ARCH)
	} else if c.LLVM != "" {
		add("clang"+c.suffix(), "clang"+c.suffix(), "compiles the kernel")
		add("ld.lld"+c.suffix(), "lld"+c.suffix(), "links the kernel")
		add("llvm-ar"+c.suffix(), "llvm"+c.suffix(), "LLVM's binutils")
	} else if c.CC != "" {
		add(c.CC, compilerName.FindStringSubmatch(c.CC)[1], "compiles the kernel")
	}
	if c.CCache {
		add("ccache", "ccache", "is asked for by CC")
	}
	return all
}

// Kind is what it is a version of: gcc or clang.
func (c Compiler) Kind() string {
	switch {
	case c.Cross != "":
		return "gcc"
	case c.LLVM != "":
		return "clang"
	}
	kind, _, _ := strings.Cut(compilerName.FindStringSubmatch(c.command())[1], "-")
	return kind
}

// Instead says which compilers of its kind there are where neither this machine has the one
// that is asked for nor the distribution, by the names of its packages; nil where one has it.
func (c Compiler) Instead(packages []string) error {
	if c.asked() == "" || len(packages) == 0 || slices.Contains(packages, c.tools()[0].Package) {
		return nil
	}
	if _, err := exec.LookPath(c.command()); err == nil {
		return nil
	}
	settings := func(names []string) string {
		versioned := regexp.MustCompile("^" + c.Kind() + `(-\d+)?$`)
		var all []string
		for _, name := range names {
			switch m := versioned.FindStringSubmatch(name); {
			case m == nil:
			case c.LLVM == "":
				all = append(all, "CC="+name)
			case m[1] == "":
				all = append(all, "LLVM=1")
			default:
				all = append(all, "LLVM="+m[1])
			}
		}
		slices.Sort(all)
		if all = slices.Compact(all); len(all) == 0 {
			return "none"
		}
		return strings.Join(all, ", ")
	}
	return fmt.Errorf("%s: this machine has no %s, nor has apt a package for it. On this machine: %s; in apt: %s",
		c.asked(), c.command(), settings(commands(c.Kind())), settings(packages))
}

// commands are those in PATH whose names begin in that way.
func commands(prefix string) []string {
	var names []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		files, _ := filepath.Glob(filepath.Join(dir, prefix+"*"))
		for _, file := range files {
			if _, err := exec.LookPath(file); err == nil {
				names = append(names, filepath.Base(file))
			}
		}
	}
	return names
}

// folders are those that its commands lie in.
func (c Compiler) folders() []string {
	var commands []string
	for _, t := range c.tools() {
		commands = append(commands, t.Name)
	}
	return sandbox.ToolFolders(commands)
}

// id names compiler and binutils in one line: for another compiler than gcc what the user
// asked for comes first, for all parts of it go by that.
func (c Compiler) id(ctx context.Context) (string, error) {
	var lines []string
	tools := []string{c.command(), c.Cross + "ld"}
	if c.LLVM != "" {
		// Trees before 5.15 assemble with GNU's as.
		tools = []string{c.command(), "ld.lld" + c.suffix(), "ld"}
	}
	for _, tool := range tools {
		version, err := toolVersion(ctx, tool)
		if err != nil {
			return "", err
		}
		line, _, _ := strings.Cut(version, "\n")
		lines = append(lines, line)
	}
	id := strings.Join(lines, ", ")
	if c.asked() != "" {
		id = c.asked() + ": " + id
	}
	return id, nil
}

// toolVersion is what a tool says of its version.
func toolVersion(ctx context.Context, tool string) (string, error) {
	cmd := exec.Command(tool, "--version")
	cmd.Env = sandbox.Env()
	out, err := sandbox.Output(ctx, cmd)
	return string(out), err
}

// A vintage is the last minor version of a major one of Linux that came out in a year.
type vintage struct{ major, minor, year int }

var vintages = []vintage{{5, 4, 2019}, {5, 10, 2020}, {5, 15, 2021}, {6, 1, 2022}, {6, 6, 2023}, {6, 12, 2024}, {6, 18, 2025}}

// kernelYear is when a version came out, 0 for one that the table ends before.
func kernelYear(major, minor int) int {
	i := slices.IndexFunc(vintages, func(v vintage) bool { return major < v.major || major == v.major && minor <= v.minor })
	if i < 0 {
		return 0
	}
	return vintages[i].year
}

var versionOfCompiler = regexp.MustCompile(`^(?:\S+: )?(?:\S*(gcc)\S*|(?:\S+ )?(clang) version).*?(\d+)\.\d+`)

// tooNew says that a compiler, by its id, is younger than the source, and what to do;
// empty where it is not. Each year has a gcc, and from LLVM 13 on two of LLVM.
func tooNew(id, makefile string) string {
	version, level := makefileVersion.FindStringSubmatch(makefile), makefilePatchlevel.FindStringSubmatch(makefile)
	said := versionOfCompiler.FindStringSubmatch(id)
	if version == nil || level == nil || said == nil {
		return ""
	}
	major, _ := strconv.Atoi(version[1])
	minor, _ := strconv.Atoi(level[1])
	compiler, _ := strconv.Atoi(said[3])
	year := kernelYear(major, minor)
	name, setting, born, fits := "gcc", "CC=gcc-", compiler+2010, year-2010
	if said[2] != "" {
		name, setting, born, fits = "clang", "LLVM=-", compiler/2+2015, 2*(year-2015)+1
	}
	if year == 0 || born <= year {
		return ""
	}
	text := fmt.Sprintf("Linux %d.%d is of %d, and %s %d of %d, which may be too new for it: try one from %s %d on", major, minor, year, name, compiler, born, name, fits)
	for n := fits; n < compiler; n++ {
		if _, err := exec.LookPath(fmt.Sprintf("%s-%d", name, n)); err == nil {
			return text + fmt.Sprintf("; this machine has %s%d", setting, n)
		}
	}
	return text + fmt.Sprintf(", as in %s%d (make deps %s%d installs it where the distribution has it)", setting, compiler-1, setting, compiler-1)
}
