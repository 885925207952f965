package kernel

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A stored folder is used only while it is what was stored.
func TestStoredFolderIsWhole(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"nothing": func(string) error { return nil },
		"a bit": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "futex/run.sh"), []byte("exit 1\n"), 0o755)
		},
		"a file":     func(dir string) error { return os.Remove(filepath.Join(dir, "futex/run.sh")) },
		"one more":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o644) },
		"a mode":     func(dir string) error { return os.Chmod(filepath.Join(dir, "futex/run.sh"), 0o644) },
		"its hash":   func(dir string) error { return os.Truncate(filepath.Join(dir, sumFile), 0) },
		"of old":     func(dir string) error { return os.Remove(filepath.Join(dir, sumFile)) },
		"everything": os.RemoveAll,
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "futex"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "futex/run.sh"), []byte("exit 0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		sum, err := contentSum(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, sumFile), []byte(sum+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if got, want := asStored(dir), name == "nothing"; got != want {
			t.Errorf("%s was spoilt: asStored = %v; want %v", name, got, want)
		}
	}
}

// Exit code 2 is what the source's own runner makes of it.
func TestSelftestsXFail(t *testing.T) {
	for runner, want := range map[string]bool{
		"skip_rc=4\nif [ $rc -eq $skip_rc ]; then\n":               false,
		"case \"$rc\" in\n\"$KSFT_SKIP\")\n;;\n\"$KSFT_XFAIL\")\n": true,
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "kselftest"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{selftestsList: "kcmp:kcmp_test\n", "kselftest/runner.sh": runner} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := readSelftests(dir); err != nil || got.XFail != want {
			t.Errorf("with a runner %q XFail is %v, %v; want %v", runner, got.XFail, err, want)
		}
	}
}

// What could not be built is tried again once something was installed.
func TestSelftestsOutdated(t *testing.T) {
	why := map[string]UnbuiltTarget{"alsa": {Why: "no alsa"}}
	for _, test := range []struct {
		name    string
		unbuilt unbuiltTargets
		want    bool
	}{
		{"all was built", unbuiltTargets{Libraries: "before"}, false},
		{"not all, and nothing is new", unbuiltTargets{Libraries: librariesAt(), Targets: why}, false},
		{"not all, and something is new", unbuiltTargets{Libraries: "before", Targets: why}, true},
	} {
		dir := t.TempDir()
		if err := test.unbuilt.write(dir); err != nil {
			t.Fatal(err)
		}
		if got := outdated(dir); got != test.want {
			t.Errorf("%s: outdated is %v", test.name, got)
		}
		got, err := readSelftests(dir)
		if diff := cmp.Diff(test.unbuilt.Targets, got.Unbuilt); len(test.unbuilt.Targets) > 0 && (diff != "" || err != nil) {
			t.Errorf("%s: not built, %v (-want +got):\n%s", test.name, err, diff)
		}
	}
}
