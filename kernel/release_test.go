package kernel

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseSources(t *testing.T) {
	const sources = `Package: linux
Binary: linux-image-6.12.9-amd64,
 linux-doc
Version: 6.12.9-1
Files:
 0123456789abcdef0123456789abcdef 100 linux_6.12.9.orig.tar.xz
Checksums-Sha256:
 1111111111111111111111111111111111111111111111111111111111111111 9 linux_6.12.9-1.dsc
 2222222222222222222222222222222222222222222222222222222222222222 100 linux_6.12.9.orig.tar.xz
Directory: pool/main/l/linux

Package: linux
Version: 7.3~rc7-1~exp1
Directory: pool/main/l/linux
Checksums-Sha256:
 3333333333333333333333333333333333333333333333333333333333333333 100 linux_7.3~rc7.orig.tar.xz

Package: linux
Version: 6.12.113-1
Directory: pool/updates/main/l/linux
Checksums-Sha256:
 4444444444444444444444444444444444444444444444444444444444444444 200 linux_6.12.113.orig.tar.xz

Package: linux
Version: 6.12.114-1
Directory: pool/main/l/linux
Checksums-Sha256:
 not-a-hash 200 linux_6.12.114.orig.tar.xz
`
	want := []release{
		{Version: "6.12.113", File: "pool/updates/main/l/linux/linux_6.12.113.orig.tar.xz", SHA256: strings.Repeat("4", 64), Size: 200},
		{Version: "6.12.9", File: "pool/main/l/linux/linux_6.12.9.orig.tar.xz", SHA256: strings.Repeat("2", 64), Size: 100},
	}
	if diff := cmp.Diff(want, parseSources([]byte(sources), origFile)); diff != "" {
		t.Errorf("parseSources (-want +got):\n%s", diff)
	}
}

// mirror makes a repository with files, which the apt that is found first is configured with.
func mirror(t *testing.T, files map[string]string) {
	dir := t.TempDir()
	for name, text := range files {
		writeFile(t, filepath.Join(dir, name), text)
	}
	real := kernelOrg
	t.Cleanup(func() { kernelOrg = real })
	kernelOrg.base = "file://" + dir + "/kernel.org"
	bin := t.TempDir()
	writeFile(t, filepath.Join(bin, "apt-get"), "#!/bin/sh\necho file://"+dir+"/\n")
	if err := os.Chmod(filepath.Join(bin, "apt-get"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func orig(version string) string { return "pool/main/l/linux/linux_" + version + ".orig.tar.xz" }

// listed is a cache in which Debian's index has just been looked at.
func listed(t *testing.T, list ...release) string {
	text, err := json.Marshal(merge(nil, list))
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	writeFile(t, filepath.Join(cache, releasesFile), string(text))
	return cache
}

// A list from the future would stay new until then.
func TestReleasesFromTheFutureAreOld(t *testing.T) {
	t.Parallel()
	file := filepath.Join(listed(t, release{Version: "7.1.13"}), releasesFile)
	if _, age, err := readReleases(file); err != nil || age > indexAge {
		t.Fatalf("a new list is %v old, %v", age, err)
	}
	then := time.Now().AddDate(1, 0, 0)
	if err := os.Chtimes(file, then, then); err != nil {
		t.Fatal(err)
	}
	if _, age, err := readReleases(file); err != nil || age <= indexAge {
		t.Errorf("a list from the future is %v old, %v", age, err)
	}
}

// A damaged list would name another source for ever, as if Debian had signed that.
func TestDamagedReleasesAreLookedUpAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), releasesFile)
	list := []release{{Version: "7.1.13", File: orig("7.1.13"), SHA256: strings.Repeat("a", 64), Size: 5}}
	if err := writeReleases(file, list); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if read, age, err := readReleases(file); err != nil || age > indexAge || !cmp.Equal(read, list) {
		t.Fatalf("readReleases = %v, %v, %v; want what was written", read, age, err)
	}
	for i := range text {
		for bit := range 8 {
			damaged := bytes.Clone(text)
			damaged[i] ^= 1 << bit
			writeFile(t, file, string(damaged))
			if read, age, err := readReleases(file); err != nil || len(read) > 0 || age <= indexAge {
				t.Errorf("with bit %d of byte %d flipped readReleases = %v, %v, %v; want nothing", bit, i, read, age, err)
			}
		}
	}
	// What an older patchproof wrote has no hash.
	writeFile(t, file, "[\n  {\"Version\": \"7.1.13\"}\n]\n")
	if read, _, err := readReleases(file); err != nil || len(read) != 1 {
		t.Errorf("of an old list readReleases = %v, %v", read, err)
	}
}

func TestTakeRelease(t *testing.T) {
	mirror(t, map[string]string{orig("7.1.8"): "8", orig("7.1.13"): "13", orig("6.12.107"): "old", orig("6.1.4"): "four"})
	var list []release
	for _, version := range []string{"7.1.8", "7.1.14", "7.1.13", "6.12.107", "6.12.9"} {
		list = append(list, release{Version: version, File: orig(version), SHA256: strings.Repeat("a", 64), Size: 5})
	}
	cache := listed(t, list...)
	local := filepath.Join(t.TempDir(), "mine.tar.xz")
	writeFile(t, local, "mine")
	hash := strings.Repeat("b", 64)
	for _, test := range []struct {
		pin, source, want, trust string
		size                     int64
		err                      []string
	}{
		{pin: "6.12.107", want: "v6.12.107", trust: trustIndex, size: 5},
		{pin: "v6.12.107", want: "v6.12.107", trust: trustIndex, size: 5},
		// Neither by the alphabet nor one that the mirror lists only.
		{pin: "7.1", want: "v7.1.13", trust: trustIndex, size: 5},
		{pin: "7.1.14", err: []string{"PIN=7.1.14", "is in Debian's index", "linux_7.1.14.orig.tar.xz", "KERNEL_SRC"}},
		{pin: "7.1.14", source: local, want: "v7.1.14", trust: trustIndex, size: 5},
		{pin: "6.12.999", err: []string{"no Linux 6.12.999", "6.12.107, 6.12.9", "TREE=folder"}},
		{pin: "7.9", err: []string{"no Linux 7.9", "7.1, 6.12"}},
		{pin: "6.1.4@" + hash, want: "v6.1.4", trust: trustUser, size: 4},
		{pin: "6.1.5@" + hash, err: []string{"linux_6.1.5.orig.tar.xz"}},
		{pin: "6.1.5@" + hash, source: local, want: "v6.1.5", trust: trustUser, size: 4},
		{pin: "2.6.32", err: []string{"5.4 to 7.x"}},
		{pin: "4.19", err: []string{"5.4 to 7.x"}},
		// What is declared, or is no release, is for Resolve.
		{pin: "5.10.13", want: "v5.10.13"},
		{pin: "for-5.8", want: "for-5.8"},
		{pin: "6.x", want: "6.x"},
		{pin: "7.3-rc1", want: "7.3-rc1"},
		{pin: "../6.1", want: "../6.1"},
		{pin: "6.1.4@bb", err: []string{`"bb" is not a sha256`}},
		{pin: ""},
	} {
		got, err := TakeRelease(t.Context(), Selection{Pin: test.pin}, cache, test.source, func(line string) { t.Errorf("PIN=%s: %s", test.pin, line) })
		if len(test.err) > 0 {
			if err == nil {
				t.Errorf("TakeRelease(%s) = %s; want an error", test.pin, got.Pin)
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("TakeRelease(%s): %v; want one line", test.pin, err)
			}
			for _, part := range test.err {
				if err != nil && !strings.Contains(err.Error(), part) {
					t.Errorf("TakeRelease(%s): %v; want %q in it", test.pin, err, part)
				}
			}
			continue
		}
		if err != nil || got.Pin != test.want {
			t.Errorf("TakeRelease(%s) = %s, %v; want %s", test.pin, got.Pin, err, test.want)
			continue
		}
		if got.Release == nil {
			got.Release = &Pin{}
		}
		if got.Release.Trust != test.trust || got.Release.Archive.Size != test.size {
			t.Errorf("TakeRelease(%s): trust %q, %d bytes; want %q, %d", test.pin, got.Release.Trust, got.Release.Archive.Size, test.trust, test.size)
		}
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != 1 {
		t.Errorf("the cache has %v, %v; want the list only", entries, err)
	}
}

// Of a release only the hash of its archive is known: by that it is imported once, and
// again when the same version has another one.
func TestReleaseIsImported(t *testing.T) {
	data := xz(t, fixtureTar(t))
	other := xz(t, append(fixtureTar(t), make([]byte, 512)...))
	mirror(t, map[string]string{orig("7.1.8"): string(data)})
	cache := t.TempDir()
	b := &Builder{Cache: cache}
	pin := fixturePin(t, data)
	spec := Spec{Name: Base, Pin: releasePin(release{Version: "7.1.8", File: orig("7.1.8"), SHA256: pin.Archive.SHA256, Size: pin.Archive.Size}, trustIndex)}
	first, err := b.Apply(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	// Also without the mirror and what was fetched from it.
	mirror(t, nil)
	if err := os.RemoveAll(filepath.Join(cache, sourcesDir)); err != nil {
		t.Fatal(err)
	}
	if again, err := b.Apply(t.Context(), spec); err != nil || again != first {
		t.Errorf("Apply again = %s, %v; want %s", again, err, first)
	}
	changed := fixturePin(t, other).Archive
	spec.Pin.Archive.SHA256, spec.Pin.Archive.Size = changed.SHA256, changed.Size
	if _, err := b.Apply(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "no source has linux_7.1.8.orig.tar.xz") {
		t.Errorf("Apply of another hash: %v; want it to need the source", err)
	}
	mirror(t, map[string]string{orig("7.1.8"): string(other)})
	if second, err := b.Apply(t.Context(), spec); err != nil || second == first {
		t.Errorf("Apply of another hash = %s, %v; want another commit than %s", second, err, first)
	}
	b.Source = fixtureDir(t)
	if err := b.checkSource(spec.Pin); err == nil || !strings.Contains(err.Error(), "TREE=folder") {
		t.Errorf("a folder as the source of a release: %v; want it refused", err)
	}
}
