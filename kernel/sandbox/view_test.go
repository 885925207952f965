package sandbox

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What serves the view sees the system, and none of what is not for everybody.
func TestView(t *testing.T) {
	on, _, err := Find(context.Background(), true)
	if err != nil || !on {
		t.Skip("no sandbox here")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	view, note, err := FindView(context.Background(), true)
	if err != nil || note != "" {
		t.Fatalf("FindView = %q, %v; want a view", note, err)
	}
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "a folder, with a comma")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	line, err := view.Command("sh", nil, work, false)
	if err != nil {
		t.Fatal(err)
	}
	see := func(script string) string {
		out, err := exec.Command(line[0], append(line[1:], "-c", script)...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, root := range []string{"", view.Folder()} {
		if got := see("grep -c . " + root + "/etc/os-release"); got == "0" {
			t.Errorf("%s/etc/os-release is empty", root)
		}
		for _, path := range []string{"/etc/shadow", "/etc/gshadow", "/etc/ssh/ssh_host_ed25519_key", home, "/root", "/home", "/var", "/run", secret} {
			if got := see("cat " + root + path + " 2>/dev/null; ls -A " + root + path + " 2>/dev/null | grep -v '^/' ; true"); got != "" {
				t.Errorf("%s%s can be seen: %.200s", root, path, got)
			}
		}
		if got := see("touch " + root + "/usr/x " + root + "/etc/x 2>/dev/null || echo refused"); got != "refused" {
			t.Errorf("%s can be written", root)
		}
	}
	if got := see("ls -A " + view.Folder()); strings.Contains(got, "dev") || strings.Contains(got, "proc") {
		t.Errorf("the view shows what is not the system's: %s", got)
	}
	see("echo from inside >file")
	if text, err := os.ReadFile(filepath.Join(work, "file")); err != nil || string(text) != "from inside\n" {
		t.Errorf("the folder that may be written has %q, %v", text, err)
	}
	if got := see("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '"); got != "lo" {
		t.Errorf("it has the networks %q; want lo", got)
	}
}

func TestPrivateBelow(t *testing.T) {
	dir := t.TempDir()
	for path, mode := range map[string]os.FileMode{"open/file": 0o644, "open/key": 0o640, "closed/file": 0o644, "half/file": 0o644} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{"closed": 0o700, "half": 0o711} {
		if err := os.Chmod(filepath.Join(dir, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "open", "link")); err != nil {
		t.Fatal(err)
	}
	got, err := privateBelow(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"closed", "half", "open/key"}
	for i := range got {
		got[i], _ = filepath.Rel(dir, got[i])
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("private: %q; want %q", got, want)
	}
}
