package vmtest

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"

	"patchproof/vmtest/qemu"
)

// A person at a terminal gets a prompt, whatever was typed wrong before, and the
// guest powers itself off behind the shell.
func TestShellOnATerminal(t *testing.T) {
	base(t)
	plan, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	ended := make(chan error, 1)
	go func() {
		ended <- plan.Shell(t.Context(), tty, tty)
		tty.Close()
	}()
	typed := []string{"nosuch\r", "echo hi-$((6*7))\r", "exit\r"}
	var seen bytes.Buffer
	buf := make([]byte, 4096)
	for from := 0; ; {
		n, err := master.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			break // the terminal is closed
		}
		if i := strings.Index(seen.String()[from:], "$ "); i >= 0 && len(typed) > 0 {
			from += i + 2
			io.WriteString(master, typed[0])
			typed = typed[1:]
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	shown(t, seen.String(), "hi-42")
}

// Commands that come through a pipe are run.
func TestShellWithoutATerminal(t *testing.T) {
	base(t)
	plan, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	shell := func(commands string) (string, error) {
		in, feed, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(feed, commands)
		feed.Close()
		out, err := os.Create(t.TempDir() + "/out")
		if err != nil {
			t.Fatal(err)
		}
		err = plan.Shell(t.Context(), in, out)
		text, readErr := os.ReadFile(out.Name())
		if readErr != nil {
			t.Fatal(readErr)
		}
		return string(text), err
	}
	text, err := shell("nosuch\necho hi-$((6*7))\nexit\n")
	if err != nil {
		t.Errorf("the shell ended with %v", err)
	}
	shown(t, text, "hi-42")
	if _, err := shell(""); err == nil || !strings.Contains(err.Error(), "needs a terminal") {
		t.Errorf("with nothing to run: %v; want a word that a terminal is needed", err)
	}
}

// shown says what a session lacks that ended well.
func shown(t *testing.T, session string, want ...string) {
	t.Helper()
	for _, text := range append(want, "reboot: Power down") {
		if !strings.Contains(session, text) {
			t.Errorf("the session lacks %q:\n%s", text, session)
		}
	}
	if strings.Contains(session, "Kernel panic") {
		t.Errorf("the kernel panicked:\n%s", session)
	}
}

func TestShellCell(t *testing.T) {
	slow, plain := Program{Name: "slow", Mode: qemu.Singlestep}, Program{Name: "plain"}
	for _, tc := range []struct {
		asked string
		want  string
	}{{"", "plain"}, {"slow,plain", "slow"}} {
		p := &Plan{Cells: []CellSpec{{Program: slow}, {Program: plain}}, variables: map[string]string{"PROGRAMS": tc.asked}}
		if got := p.shellCell().Program.Name; got != tc.want {
			t.Errorf("with PROGRAMS=%s the machine is that of %s; want %s", tc.asked, got, tc.want)
		}
	}
}
