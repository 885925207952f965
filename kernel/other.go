package kernel

import (
	"fmt"
	"slices"
	"strings"

	"patchproof/kernel/arch"
)

// Other is a config in which files are compiled, to see what the compiler says of code that
// the kernel which is booted leaves out. Nothing is linked.
type Other struct {
	// Name is what the user calls it: allmodconfig, arm64:defconfig.
	Name     string
	Variant  Variant
	Compiler Compiler
}

// goals are the configs that each tree has for each architecture.
var goals = []string{"allmodconfig", "allyesconfig", "allnoconfig", "defconfig", "tinyconfig"}

// crosses are other architectures, as the kernel's makefile calls them, and what the names of
// Debian's compilers for them begin with.
var crosses = []struct{ arch, prefix string }{
	{"arm", "arm-linux-gnueabihf-"},
	{"arm64", "aarch64-linux-gnu-"},
	{"powerpc", "powerpc64le-linux-gnu-"},
	{"riscv", "riscv64-linux-gnu-"},
	{"s390", "s390x-linux-gnu-"},
}

// ParseOthers reads configs with commas between them, each for the target architecture, which
// the compiler is for, or behind that and a colon for another one.
func ParseOthers(text string, compiler Compiler) ([]Other, error) {
	var all []Other
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		o := Other{Name: name, Compiler: compiler}
		prefix, goal, crossed := strings.Cut(name, ":")
		if !crossed {
			goal = name
		} else if !slices.Contains(arch.Target.Make, prefix) {
			i := slices.IndexFunc(crosses, func(c struct{ arch, prefix string }) bool { return c.arch == prefix })
			if i < 0 {
				var known []string
				for _, c := range crosses {
					known = append(known, c.arch)
				}
				return nil, fmt.Errorf("%s: unknown architecture %q; known: %s", name, prefix, strings.Join(known, ", "))
			}
			o.Compiler = Compiler{Cross: crosses[i].prefix, ARCH: prefix}
		}
		if !slices.Contains(goals, goal) {
			return nil, fmt.Errorf("%s: unknown config %q; known: %s, and these for another architecture, such as arm64:defconfig", name, goal, strings.Join(goals, ", "))
		}
		for _, t := range append(o.Compiler.tools(), signing) {
			if !t.present() {
				return nil, fmt.Errorf("%s: this machine has no %s, which %s; apt-get install %s", name, t.Name, t.Why, t.Package)
			}
		}
		o.Variant = Variant{Name: goal, Goal: goal, Lenient: true}
		if !slices.ContainsFunc(all, func(old Other) bool { return old.Name == name }) {
			all = append(all, o)
		}
	}
	return all, nil
}
