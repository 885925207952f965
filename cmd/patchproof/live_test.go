package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"patchproof/kernel"
	"patchproof/vmtest"
	"patchproof/vmtest/qemu"
)

func TestLiveLines(t *testing.T) {
	now := time.Now()
	at := func(s int) time.Time { return now.Add(-time.Duration(s) * time.Second) }
	nop, race := cellKey{"base", "plain", "nop", 1}, cellKey{"posted", "plain", "race-timer", 2}
	next := cellKey{"posted", "plain", "nop", 1}
	flights := map[cellKey]flight{
		nop:  {began: at(2), doing: "booting"},
		race: {began: at(72), doing: "running timer"},
	}
	plan := func(nopTook, raceTook, nextTook float64) *forecast {
		return &forecast{total: 7, jobs: 2, left: map[cellKey]float64{nop: nopTook, race: raceTook, next: nextTook}}
	}
	cells := []string{
		"  1m12s  race-timer on posted (run 2)  running timer",
		"     2s  nop on base                   booting",
	}
	for _, tt := range []struct {
		name   string
		live   *live
		height int
		want   []string
	}{
		{"nothing is under way", &live{}, 24, nil},
		{"cells, the longest first, and no plan", &live{flights: flights}, 24, append(cells[:2:2], "2 running")},
		{"a cell that never ran", &live{flights: flights, ended: 4, plan: plan(5, 80, 0)}, 24, append(cells[:2:2], "4/7 done, 2 running")},
		// Of 80 and 5 seconds 8 and 3 are left, and 10: 21 for two at a time.
		{"all ran before", &live{flights: flights, ended: 4, plan: plan(5, 80, 10)}, 24, append(cells[:2:2], "4/7 done, 2 running, about 11s left")},
		{"one is longer than all others", &live{flights: flights, ended: 4, plan: plan(5, 172, 1)}, 24, append(cells[:2:2], "4/7 done, 2 running, about 1m40s left")},
		{"slower than last time", &live{flights: flights, ended: 4, plan: plan(1, 20, 10)}, 24, append(cells[:2:2], "4/7 done, 2 running, about 10s left")},
		{"few lines", &live{flights: flights}, 6, []string{cells[0][:33], "2 running"}},
		{"a build", &live{build: kernel.Progress{Step: kernel.StepCompile, Kernel: "base", Done: 250, Total: 1000}, since: at(30)}, 24,
			[]string{"  [#####...............] 25%, 250/1000, about 1m30s left"}},
		{"a build that is done", &live{build: kernel.Progress{Step: kernel.StepCompile, Kernel: "base", Done: 1003, Total: 1000}}, 24, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.live.lines(now, tt.height)
			if tt.height == 6 {
				got[0] = got[0][:33]
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// onTerminal returns what reaches a terminal device of 60 columns.
func onTerminal(t *testing.T, use func(*terminal)) string {
	t.Helper()
	t.Setenv("TERM", "xterm-256color")
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := pty.Setsize(tty, &pty.Winsize{Cols: 60, Rows: 20}); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(master)
		read <- string(text)
	}()
	term := newTerminal(tty, tty)
	if !term.isLive {
		t.Error("no view on a terminal")
	}
	use(term)
	tty.Close()
	return <-read
}

// running is a cell that reports a check, whose name is the guest's word.
func running(program, check string) vmtest.Step {
	return vmtest.Step{Kernel: "base", Variant: "plain", Program: program, Iteration: 1, Phase: qemu.PhaseRunning, Check: check}
}

func TestLiveTerminal(t *testing.T) {
	long := strings.Repeat("a long line ", 12)
	got := onTerminal(t, func(term *terminal) {
		term.watch(running("nop", "batch-32"))
		term.watch(running("fdinfo", "\x1b[2J\x1b]0;owned\x07\u202e"+strings.Repeat("x", 200)))
		time.Sleep(3 * redraw)
		term.printf("1/3  one\n%s\n", long)
		term.printf("2/3  two\n")
		time.Sleep(3 * redraw)
		term.endLive()
		term.printf("the report\n")
	})
	if !strings.Contains(got, "nop on base") || !strings.Contains(got, "running batch-32") {
		t.Errorf("the cell was not shown: %q", got)
	}
	// The screen is in the end as if there had been no view.
	screen := vt.NewEmulator(60, 20)
	screen.WriteString(got)
	plain := vt.NewEmulator(60, 20)
	plain.WriteString(strings.ReplaceAll("1/3  one\n"+long+"\n2/3  two\nthe report\n", "\n", "\r\n"))
	if diff := cmp.Diff(tidy(plain.String()), tidy(screen.String())); diff != "" {
		t.Errorf("the screen at the end (-without a view +with it):\n%s", diff)
	}
	for _, tt := range []struct{ what, sequence string }{
		{"the guest's own escape", "\x1b[2J\x1b]0;owned"},
		{"a bell", "\x07"},
		{"a question to the terminal, whose answer the shell would get", "$p"},
		{"another keyboard protocol, in which Ctrl-C is no signal", "\x1b[>"},
		{"bracketed paste", "\x1b[?2004h"},
		{"mouse reports", "\x1b[?100"},
		{"the alternate screen", "\x1b[?1049h"},
	} {
		if strings.Contains(got, tt.sequence) {
			t.Errorf("%s (%q) reached the terminal: %q", tt.what, tt.sequence, got)
		}
	}
	if hidden, shown := strings.LastIndex(got, "\x1b[?25l"), strings.LastIndex(got, "\x1b[?25h"); hidden > shown {
		t.Errorf("the cursor stays hidden: %q", got)
	}
}

// tidy leaves out the blanks at the ends of lines, and empty lines at the end.
func tidy(screen string) []string {
	var lines []string
	for line := range strings.Lines(screen) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.Split(strings.TrimRight(strings.Join(lines, "\n"), "\n"), "\n")
}

func TestNoViewWithoutTerminal(t *testing.T) {
	var out, err strings.Builder
	term := newTerminal(&out, &err)
	term.watch(vmtest.Step{Kernel: "base", Program: "nop", Phase: qemu.PhaseBooting})
	term.progress(kernel.Progress{Kernel: "base", Step: kernel.StepCompile, Done: 1, Total: 2})
	term.printf("1/1  pass\n")
	term.endLive()
	if diff := cmp.Diff([]string{"1/1  pass\n", "base: compiling\n"}, []string{out.String(), err.String()}); diff != "" {
		t.Errorf("stdout, stderr (-want +got):\n%s", diff)
	}
	t.Setenv("TERM", "dumb")
	master, tty, openErr := pty.Open()
	if openErr != nil {
		t.Fatal(openErr)
	}
	defer master.Close()
	defer tty.Close()
	if newTerminal(tty, tty).isLive {
		t.Error("a view on a dumb terminal")
	}
}
