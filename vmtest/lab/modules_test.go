package lab

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"patchproof/kernel"
)

// Guests of a kernel have its modules and no other's, whatever became of what was packed
// for them before.
func TestWithModules(t *testing.T) {
	cache := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(cache, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	base := write("initramfs/base.cpio", "what all guests have")
	open := func() *Lab { return &Lab{Builder: kernel.Builder{Cache: cache}} }
	with := func(l *Lab, b *kernel.Built) (string, string) {
		t.Helper()
		file, err := l.WithModules(base, b)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return file, string(text)
	}
	l := open()
	if file, _ := with(l, &kernel.Built{Key: "plain"}); file != base {
		t.Errorf("a kernel without modules boots into %s; want %s", file, base)
	}
	one := &kernel.Built{Key: "one", Modules: write("one.cpio", "module one")}
	two := &kernel.Built{Key: "two", Modules: write("two.cpio", "module two")}
	file, text := with(l, one)
	if !strings.HasPrefix(text, "what all guests havemodule one\x00\x00") || !strings.Contains(text, "sbin/modprobe") {
		t.Errorf("it boots into %.40q; want what all guests have, the module and what loads it", text)
	}
	if again, _ := with(l, one); again != file {
		t.Errorf("the same kernel boots into %s, then into %s", file, again)
	}
	if _, other := with(l, two); !strings.Contains(other, "module two") || strings.Contains(other, "module one") {
		t.Errorf("another kernel boots into %.40q; want its own module", other)
	}
	if err := os.WriteFile(file, bytes.Repeat([]byte{0}, len(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, mended := with(open(), one); mended != text {
		t.Errorf("after damage it boots into %.40q; want what it was", mended)
	}
}
