package kernel

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"patchproof/kernel/arch"
)

// Tool is something of the host that building and booting kernels needs.
type Tool struct {
	// Name is a command, or a header below /usr/include.
	Name string
	// Package is the Debian package that has it.
	Package string
	// Why says what it is for, in a few words.
	Why string
	// Optional tools only make things faster.
	Optional bool
	// Test tools are for the tests of patchproof itself.
	Test bool
	// Modules says that only runs with modules need it.
	Modules bool
	// Kselftest tools are for runs that ask for kselftest targets.
	Kselftest bool
}

// signing is what scripts of a kernel with signed modules are compiled with. patchcheck looks for
// it where other configs are asked for.
var signing = Tool{Name: "openssl/bio.h", Package: "libssl-dev", Why: "signs modules in other configs", Test: true}

// tools is the one table of what the host must have besides Go.
var tools = []Tool{
	{Name: "git", Package: "git", Why: "keeps the kernel source and applies patches"},
	{Name: "xz", Package: "xz-utils", Why: "unpacks the kernel source"},
	{Name: "gcc", Package: "gcc", Why: "compiles the kernel"},
	{Name: "ld", Package: "binutils", Why: "links the kernel"},
	{Name: "stdlib.h", Package: "libc6-dev", Why: "the kernel's build tools are C programs"},
	{Name: "make", Package: "make", Why: "runs the kernel's build"},
	{Name: "flex", Package: "flex", Why: "Kconfig's scanner"},
	{Name: "bison", Package: "bison", Why: "Kconfig's parser"},
	{Name: "bc", Package: "bc", Why: "computes kernel/time's constants"},
	{Name: "gelf.h", Package: "libelf-dev", Why: "objtool, for exact stack traces"},
	{Name: "bwrap", Package: "bubblewrap", Why: "keeps what a patch's makefiles run in a box"},
	{Name: arch.Target.QEMU, Package: arch.Target.QEMUPackage, Why: "boots the kernels"},
	{Name: "kmod", Package: "kmod", Why: "lists modules, and loads them in the guest", Modules: true},
	{Name: "rsync", Package: "rsync", Why: "installs kselftest's tests", Kselftest: true},
	signing,
	{Name: "chromium", Package: "chromium", Why: "shows the report to its tests", Test: true},
	{Name: "xmllint", Package: "libxml2-utils", Why: "validates junit.xml in a test", Test: true},
	{Name: "python3", Package: "python3", Why: "runs the kernel's KTAP parser in a test", Test: true},
	{Name: "ccache", Package: "ccache", Why: "compiles an object once only", Optional: true},
}

// MissingTools returns what this host lacks of what building with the compiler, and booting, needs.
func MissingTools(c Compiler) []Tool {
	var missing []Tool
	for _, t := range slices.Concat(tools, c.tools()) {
		if !t.present() {
			missing = append(missing, t)
		}
	}
	return missing
}

func (t Tool) present() bool {
	if filepath.Ext(t.Name) == ".h" {
		_, err := os.Stat(filepath.Join("/usr/include", t.Name))
		return err == nil
	}
	_, err := exec.LookPath(t.Name)
	return err == nil
}
