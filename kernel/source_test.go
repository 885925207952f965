package kernel

import (
	"archive/tar"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestImportMakesTheTreeThatGitAddMakes(t *testing.T) {
	// Nothing of the user's git configuration may show.
	home := t.TempDir()
	writeFile(t, filepath.Join(home, ".gitconfig"), "[core]\n\tautocrlf = true\n[user]\n\tname = Somebody\n[commit]\n\tgpgSign = true\n")
	t.Setenv("HOME", home)
	t.Setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
	t.Setenv("GIT_DIR", filepath.Join(home, "nowhere"))

	archive := filepath.Join(t.TempDir(), "linux.tar.xz")
	data := xz(t, fixtureTar(t))
	writeFile(t, archive, string(data))
	for name, source := range map[string]string{"archive": archive, "directory": fixtureDir(t)} {
		t.Run(name, func(t *testing.T) {
			b := &Builder{Cache: t.TempDir(), Source: source}
			commit, err := b.Apply(t.Context(), Spec{Name: "base", Pin: fixturePin(t, data)})
			if err != nil {
				t.Fatal(err)
			}
			// Fixed for ever: two machines have the same ids.
			const want = "c1dc76f77f59e40f122a94dcf46c8ae0a5c4dc28"
			if commit != want {
				t.Errorf("commit = %s; want %s", commit, want)
			}
			src := filepath.Join(b.Cache, "trees", "v1.0", "src")
			for file, want := range fixtureFiles {
				got, err := os.ReadFile(filepath.Join(src, file))
				if err != nil || string(got) != want {
					t.Errorf("%s = %q, %v; want %q", file, got, err, want)
				}
			}
			if info, err := os.Stat(filepath.Join(src, "scripts/run.sh")); err != nil || info.Mode()&0o111 == 0 {
				t.Errorf("scripts/run.sh is not executable: %v", err)
			}
			if link, err := os.Readlink(filepath.Join(src, "fs/up")); link != "../main.c" {
				t.Errorf("fs/up = %q, %v; want a link to ../main.c", link, err)
			}
		})
	}
}

func TestHostileTarballs(t *testing.T) {
	t.Parallel()
	ok := tarFile{name: "linux-1.0/Makefile", text: "all:\n"}
	for name, test := range map[string]struct {
		files []tarFile
		want  string
	}{
		"parent":          {[]tarFile{ok, {name: "linux-1.0/../../evil", text: "x"}}, "leads outside"},
		"absolute":        {[]tarFile{ok, {name: "/etc/evil", text: "x"}}, "leads outside"},
		"dot dot only":    {[]tarFile{ok, {name: "../evil", text: "x"}}, "leads outside"},
		"other top":       {[]tarFile{ok, {name: "linux-2.0/evil", text: "x"}}, "one folder linux-"},
		"no top":          {[]tarFile{{name: "evil", text: "x"}}, "one folder linux-"},
		"absolute link":   {[]tarFile{ok, {name: "linux-1.0/evil", link: "/etc/passwd"}}, "leads outside the source"},
		"escaping link":   {[]tarFile{ok, {name: "linux-1.0/a/evil", link: "../../x"}}, "leads outside the source"},
		"through a link":  {[]tarFile{ok, {name: "linux-1.0/a", link: "b"}, {name: "linux-1.0/a/evil", text: "x"}}, "below the symbolic link a"},
		"over a git hook": {[]tarFile{ok, {name: "linux-1.0/.git/hooks/post-checkout", text: "x", mode: 0o111}}, "git folder"},
		"device":          {[]tarFile{ok, {name: "linux-1.0/evil", kind: tar.TypeChar}}, "files, folders and symbolic links only"},
		"hard link":       {[]tarFile{ok, {name: "linux-1.0/evil", kind: tar.TypeLink}}, "files, folders and symbolic links only"},
		"empty":           {nil, "empty"},
		"swapped":         {[]tarFile{ok}, "the pin wants"},
	} {
		t.Run(name, func(t *testing.T) {
			data := xz(t, tarball(t, test.files))
			outside := t.TempDir()
			archive := filepath.Join(outside, "a", "linux.tar.xz")
			writeFile(t, archive, string(data))
			before := list(t, outside)
			b := &Builder{Cache: filepath.Join(outside, "a", "cache"), Source: archive}
			_, err := b.Apply(t.Context(), Spec{Name: "base", Pin: fixturePin(t, data)})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v; want one with %q", err, test.want)
			}
			for _, path := range list(t, outside) {
				if strings.Contains(path, "evil") || strings.Contains(path, "src") {
					t.Errorf("left behind: %s (before: %v)", path, before)
				}
			}
		})
	}
}

func TestDamagedXZ(t *testing.T) {
	t.Parallel()
	whole := xz(t, fixtureTar(t))
	damaged := append([]byte{}, whole...)
	damaged[len(damaged)/2] ^= 0xff
	for name, data := range map[string][]byte{
		"truncated": whole[:len(whole)/2],
		"no end":    whole[:len(whole)-8],
		"damaged":   damaged,
		"not xz":    []byte("<html>moved</html>"),
	} {
		t.Run(name, func(t *testing.T) {
			archive := filepath.Join(t.TempDir(), "linux.tar.xz")
			writeFile(t, archive, string(data))
			b := &Builder{Cache: t.TempDir(), Source: archive}
			_, err := b.Apply(t.Context(), Spec{Name: "base", Pin: fixturePin(t, data)})
			if err == nil || !strings.Contains(err.Error(), archive) {
				t.Errorf("error = %v; want one that names %s", err, archive)
			}
			if _, err := os.Stat(filepath.Join(b.Cache, "trees", "v1.0", "src")); !os.IsNotExist(err) {
				t.Errorf("a source tree was left: %v", err)
			}
		})
	}
}

func TestSourceThatIsNotThePin(t *testing.T) {
	t.Parallel()
	data := xz(t, fixtureTar(t))
	pin := fixturePin(t, data)
	swapped := append([]byte{}, data...)
	swapped[10] ^= 1
	changed := fixtureDir(t)
	writeFile(t, filepath.Join(changed, "main.o"), "object")
	file := func(data []byte) string {
		name := filepath.Join(t.TempDir(), "linux.tar.xz")
		writeFile(t, name, string(data))
		return name
	}
	for name, test := range map[string]struct {
		source string
		want   []string
	}{
		"truncated": {file(data[:100]), []string{"100 bytes", "truncated"}},
		"swapped":   {file(swapped), []string{"sha256", pin.Archive.SHA256}},
		"built in":  {changed, []string{pin.Tree, changed}},
		"missing":   {filepath.Join(t.TempDir(), "none"), []string{"KERNEL_SRC", "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &Builder{Cache: t.TempDir(), Source: test.source}
			_, err := b.Build(t.Context(), Spec{Name: "base", Pin: pin}, plain)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v; want one with %q", err, want)
				}
			}
		})
	}
}

func TestImportCancelled(t *testing.T) {
	t.Parallel()
	data := xz(t, fixtureTar(t))
	archive := filepath.Join(t.TempDir(), "linux.tar.xz")
	writeFile(t, archive, string(data))
	ctx, cancel := context.WithCancel(t.Context())
	b := &Builder{Cache: t.TempDir(), Source: archive, Progress: func(p Progress) {
		if p.Step == StepUnpack {
			cancel()
		}
	}}
	started := time.Now()
	if _, err := b.Apply(ctx, Spec{Name: "base", Pin: fixturePin(t, data)}); err == nil || ctx.Err() == nil {
		t.Errorf("error = %v after %v; want the cancellation", err, time.Since(started))
	}
	if left := list(t, filepath.Join(b.Cache, "trees", "v1.0")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
