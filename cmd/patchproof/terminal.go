package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"patchproof/kernel"
)

// lineEvery is how often a long step says how far it is where no bar can be drawn.
const lineEvery = 20 * time.Second

// terminal writes results to out and, while work is under way, progress to err:
// a bar on a terminal, a line now and then otherwise.
type terminal struct {
	out, err io.Writer
	// colour says whether out shows colours (https://no-color.org).
	colour bool
	live   bool

	mu       sync.Mutex
	bar      *progressbar.ProgressBar
	step     string
	lastLine time.Time
}

func newTerminal(out, err io.Writer) *terminal {
	return &terminal{
		out: out, err: err,
		colour: isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		live:   isTerminal(err) && os.Getenv("TERM") != "dumb",
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printf writes a result.
func (t *terminal) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endBar()
	fmt.Fprintf(t.out, format, args...)
}

// errorf writes trouble that is not the end of the command.
func (t *terminal) errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endBar()
	fmt.Fprintf(t.err, "patchproof: "+format, args...)
}

// progress shows one step of preparing a kernel.
func (t *terminal) progress(p kernel.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	step := describe(p)
	if step != t.step {
		t.endBar()
		t.step, t.lastLine = step, time.Now()
		fmt.Fprintln(t.err, step)
	}
	if p.Total == 0 || p.Done == 0 {
		return
	}
	if !t.live {
		if time.Since(t.lastLine) >= lineEvery {
			t.lastLine = time.Now()
			fmt.Fprintf(t.err, "  %d%%\n", min(100, 100*p.Done/p.Total))
		}
		return
	}
	if t.bar == nil {
		t.bar = newBar(t.err, p)
	}
	// The total is an estimate where objects are counted.
	if p.Done > p.Total {
		t.bar.ChangeMax64(p.Done)
	}
	t.bar.Set64(p.Done)
}

func newBar(w io.Writer, p kernel.Progress) *progressbar.ProgressBar {
	return progressbar.NewOptions64(p.Total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription("  "),
		progressbar.OptionShowBytes(p.Step == kernel.StepFetch || p.Step == kernel.StepUnpack),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionClearOnFinish(),
	)
}

// endBar takes the bar away before another line is written.
func (t *terminal) endBar() {
	if t.bar != nil {
		t.bar.Clear()
		t.bar = nil
	}
}

// describe is the line that begins a step.
func describe(p kernel.Progress) string {
	text := map[string]string{
		kernel.StepWait:      "waiting",
		kernel.StepFetch:     "fetching the source",
		kernel.StepUnpack:    "unpacking the source",
		kernel.StepApply:     "applying patches",
		kernel.StepConfigure: "configuring",
		kernel.StepCompile:   "compiling",
	}[p.Step]
	if text == "" {
		text = p.Step
	}
	// A source serves all kernels.
	if p.Kernel != "" && p.Step != kernel.StepFetch && p.Step != kernel.StepUnpack {
		text = p.Kernel + ": " + text
	}
	if p.Note != "" {
		text += " (" + p.Note + ")"
	}
	return text
}
