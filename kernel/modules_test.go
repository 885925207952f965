package kernel

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// modularFixture is the fixture with a module, which is an object that is linked to nothing.
func modularFixture(t *testing.T) string {
	t.Helper()
	if _, err := depmod(); err != nil {
		t.Skip(err)
	}
	dir := fixtureRepo(t)
	makefile := strings.Replace(fixtureFiles["Makefile"], "(SMP|", "(MODULES|MODULE_UNLOAD|MINIX|DEBUG_INFO|SMP|", 1) + `
modules: vmlinux
	@echo '  CC [M]  fs/minix/minix.o'
	@mkdir -p $(O)/fs/minix
	@$(CC) -g -O0 -fno-pie -c -o $(O)/fs/minix/minix.ko $(CURDIR)/fs/minix/minix.c
modules_install:
	@mkdir -p $(INSTALL_MOD_PATH)/lib/modules/1.0/kernel/fs/minix
	@cp $(O)/fs/minix/minix.ko $(INSTALL_MOD_PATH)/lib/modules/1.0/kernel/fs/minix/
	@strip --strip-debug $(INSTALL_MOD_PATH)/lib/modules/1.0/kernel/fs/minix/minix.ko
	@ln -s $(O) $(INSTALL_MOD_PATH)/lib/modules/1.0/build
	@$(DEPMOD) -b $(INSTALL_MOD_PATH) 1.0
`
	writeFile(t, filepath.Join(dir, "Makefile"), makefile)
	writeFile(t, filepath.Join(dir, "fs/minix/minix.c"), moduleSource)
	writeFile(t, filepath.Join(dir, "Kconfig"), fixtureFiles["Kconfig"]+"\nconfig MINIX\n\ttristate \"Minix\"\n")
	userGit(t, dir, "add", "-A")
	userGit(t, dir, "commit", "-qm", "a module")
	return dir
}

const (
	moduleSource = "extern int read(void), write(void);\n\nint mount(void)\n{\n\treturn read();\n}\n"

	modulePatch = `--- a/fs/minix/minix.c
+++ b/fs/minix/minix.c
@@ -2,5 +2,5 @@

 int mount(void)
 {
-	return read();
+	return write();
 }
`
	moduleBroken = `--- a/fs/minix/minix.c
+++ b/fs/minix/minix.c
@@ -2,5 +2,5 @@

 int mount(void)
 {
-	return read();
+	return missing;
 }
`
	moduleComment = `--- a/fs/minix/minix.c
+++ b/fs/minix/minix.c
@@ -2,5 +2,6 @@

 int mount(void)
 {
+	/* It reads. */
 	return read();
 }
`
)

var modular = Variant{Name: "plain", Image: "vmlinux", Scale: 1, Config: []Fragment{{Name: "my.config", Text: "CONFIG_MINIX=m\n"}}}

func mustBuildOf(t *testing.T, b *Builder, spec Spec, v Variant) *Built {
	t.Helper()
	built, err := b.Build(t.Context(), spec, v)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// A kernel is its modules as well: what changes only one of them is another kernel.
func TestModules(t *testing.T) {
	t.Parallel()
	dir := modularFixture(t)
	b := &Builder{Cache: t.TempDir()}
	base := mustBuildOf(t, b, localSpec(dir, "base"), modular)
	modules, err := readModules(base.Modules)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"kernel/fs/minix/minix.ko"}, slices.Sorted(maps.Keys(modules))); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	archive, err := os.ReadFile(base.Modules)
	if err != nil {
		t.Fatal(err)
	}
	vmlinux, err := os.ReadFile(base.Vmlinux)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"lib/modules/1.0\x00", "lib/modules/1.0/modules.dep\x00", "lib/modules/1.0/modules.dep.bin\x00"} {
		if !strings.Contains(string(archive), want) {
			t.Errorf("the archive has no %q", want)
		}
	}
	if strings.Contains(string(archive), "lib/modules/1.0/build") {
		t.Error("the archive has a link into the build folder")
	}

	for _, tc := range []struct {
		name, diff string
		same       bool
	}{{"code", modulePatch, false}, {"comment", moduleComment, true}} {
		patched := mustBuildOf(t, b, localSpec(dir, "patched", readPatch(t, tc.diff)), modular)
		if other, err := os.ReadFile(patched.Vmlinux); string(vmlinux) != string(other) || err != nil {
			t.Fatalf("%s: the vmlinux changed as well: %v", tc.name, err)
		}
		// The fixture's is no ELF file.
		elfOf(t, patched.Dir)
		elfOf(t, base.Dir)
		if same, err := SameCode(base, patched); same != tc.same || err != nil {
			t.Errorf("SameCode with another %s in a module = %v, %v; want %v", tc.name, same, err, tc.same)
		}
		if same, err := SameShape(base, patched); !same || err != nil {
			t.Errorf("SameShape with another %s in a module = %v, %v; want true", tc.name, same, err)
		}
	}

	_, err = b.Build(t.Context(), localSpec(dir, "patched", readPatch(t, moduleBroken)), modular)
	if err == nil || !strings.Contains(err.Error(), "kernel patched does not build: fs/minix/minix.c:5: error: 'missing' undeclared") || !strings.Contains(err.Error(), "the patch broke it") {
		t.Errorf("a module that does not compile: %v; want the patch's fault, with the compiler's words", err)
	}
}

// elfOf puts an ELF file in the place of a fixture's vmlinux.
func elfOf(t *testing.T, dir string) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "x.c")
	writeFile(t, source, "int x;\nint _start(void) { return x; }\n")
	if out, err := exec.Command("gcc", "-nostdlib", "-static", "-o", filepath.Join(dir, "vmlinux"), source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v: %s", err, out)
	}
}

// Modules are kept, checked and handed on as a vmlinux is.
func TestModulesInTheStore(t *testing.T) {
	dir := modularFixture(t)
	b := &Builder{Cache: t.TempDir()}
	built := mustBuildOf(t, b, localSpec(dir, "base"), modular)
	want, err := os.ReadFile(built.Modules)
	if err != nil {
		t.Fatal(err)
	}
	file, err := b.store().Export(t.Context(), built.Key, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := &Builder{Cache: t.TempDir()}
	if key, _, err := elsewhere.store().Import(t.Context(), file); key != built.Key || err != nil {
		t.Fatalf("Import = %s, %v; want %s", key, err, built.Key)
	}
	there := mustBuildOf(t, elsewhere, localSpec(dir, "base"), modular)
	if got, err := os.ReadFile(there.Modules); !there.Reused || string(got) != string(want) || err != nil {
		t.Errorf("imported: reused %v, %d bytes of modules, %v; want %d", there.Reused, len(got), err, len(want))
	}

	for name, damage := range map[string]func() error{
		"changed": func() error {
			return os.WriteFile(built.Modules, []byte(strings.Replace(string(want), "minix", "xinim", 1)), 0o644)
		},
		"gone": func() error { return os.Remove(built.Modules) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		intact.Clear() // as another process finds it
		again := mustBuildOf(t, b, localSpec(dir, "base"), modular)
		if got, err := os.ReadFile(again.Modules); again.Reused || string(got) != string(want) || err != nil {
			t.Errorf("modules that are %s: reused %v, %v; want them built again", name, again.Reused, err)
		}
	}
}

// Who asks for none gets none, and the kernel that there was.
func TestKernelsWithoutModules(t *testing.T) {
	t.Parallel()
	dir := modularFixture(t)
	b := &Builder{Cache: t.TempDir()}
	whole := Variant{Name: "plain", Image: "vmlinux", Scale: 1, Config: []Fragment{
		{Name: "whole", Text: "# Linux/x86 6.1.0 Kernel Configuration\nCONFIG_MODULES=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_MINIX=m\n"},
	}}
	without := mustBuildOf(t, b, localSpec(dir, "base"), whole)
	if without.Modules != "" || exists(filepath.Join(without.Dir, modulesFile)) {
		t.Errorf("a whole .config has the modules %q built; want none", without.Modules)
	}
	config, err := os.ReadFile(without.Config)
	if err != nil {
		t.Fatal(err)
	}
	id := without.Compiler
	if want := hashOf(append([]string{without.Tree, string(config), id, "vmlinux"}, recipe...)...); without.Key != want {
		t.Errorf("its key is %s; want %s, as ever", without.Key, want)
	}
	both := whole
	both.Config = append(slices.Clone(whole.Config), modular.Config...)
	if with := mustBuildOf(t, b, localSpec(dir, "base"), both); with.Key == without.Key || with.Modules == "" {
		t.Errorf("with a fragment that asks for a module: key %.12s, modules %q; want another kernel, with them", with.Key, with.Modules)
	}
}

// The places of a module's code are those of its own functions, whatever the kernel has
// under the same name.
func TestPlacesInModules(t *testing.T) {
	t.Parallel()
	dir := modularFixture(t)
	writeFile(t, filepath.Join(dir, "fs/minix/minix.c"), `
__attribute__((section(".init.text"))) int start(void)
{
	return 1;
}

int mount(void)
{
	return start() + 1;
}
`)
	userGit(t, dir, "commit", "-qam", "two sections")
	debug := modular
	debug.Config = []Fragment{{Name: "my.config", Text: "CONFIG_MINIX=m\nCONFIG_DEBUG_INFO=y\n"}}
	for _, tc := range []struct {
		variant Variant
		want    map[string]Frame
	}{
		{modular, map[string]Frame{"start": {Function: "start"}, "mount": {Function: "mount"}}},
		{debug, map[string]Frame{
			"start": {Function: "start", File: "fs/minix/minix.c", Line: 3},
			"mount": {Function: "mount", File: "fs/minix/minix.c", Line: 8},
		}},
	} {
		built := mustBuildOf(t, &Builder{Cache: t.TempDir()}, localSpec(dir, "base"), tc.variant)
		elfOf(t, built.Dir)
		for function, want := range tc.want {
			frames, err := built.Symbols.Frames(t.Context(), "minix", function, 0, 64, false)
			if diff := cmp.Diff([]Frame{want}, frames); diff != "" || err != nil {
				t.Errorf("%s+0 in the module: %v (-want +got):\n%s", function, err, diff)
			}
		}
		for _, nowhere := range [][2]string{{"minix", "_start"}, {"minix", "read"}, {"other", "mount"}, {"", "mount"}} {
			frames, err := built.Symbols.Frames(t.Context(), nowhere[0], nowhere[1], 0, 64, false)
			if len(frames) > 0 || err != nil {
				t.Errorf("%s in module %q = %v, %v; want nothing", nowhere[1], nowhere[0], frames, err)
			}
		}
	}
}

// What a patch's makefiles leave in the build folder leads to nothing of this machine's.
func TestModulesThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]string{
		"a folder":    "rm -rf $(O)/.patchproof-tmp; ln -s VICTIM $(O)/.patchproof-tmp",
		"the modules": "mkdir -p $(O)/.patchproof-tmp/modules/lib; ln -s VICTIM $(O)/.patchproof-tmp/modules/lib/modules",
		"a module":    "rm $(O)/fs/minix/minix.ko; ln -s VICTIM/modules/secret $(O)/fs/minix/minix.ko",
	} {
		t.Run(name, func(t *testing.T) {
			dir, victim := modularFixture(t), t.TempDir()
			secret := filepath.Join(victim, "modules", "secret")
			writeFile(t, secret, "PRECIOUS")
			makefile, err := os.ReadFile(filepath.Join(dir, "Makefile"))
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, "Makefile"), string(makefile)+"\t@"+strings.ReplaceAll(leave, "VICTIM", victim)+"\n")
			userGit(t, dir, "commit", "-qam", "a makefile that leaves a link")
			debug := modular
			debug.Config = []Fragment{{Name: "my.config", Text: "CONFIG_MINIX=m\nCONFIG_DEBUG_INFO=y\n"}}
			built, err := (&Builder{Cache: t.TempDir()}).Build(t.Context(), localSpec(dir, "base"), debug)
			if text, readErr := os.ReadFile(secret); string(text) != "PRECIOUS" || readErr != nil {
				t.Errorf("the file of this machine is %q, %v", text, readErr)
			}
			if err == nil {
				text, _ := os.ReadFile(filepath.Join(built.Dir, debugModulesFile))
				if strings.Contains(string(text), "PRECIOUS") {
					t.Error("the file of this machine is in the store")
				}
			}
		})
	}
}
