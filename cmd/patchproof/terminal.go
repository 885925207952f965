package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/term"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest"
)

// lineEvery is how often a long step says how far it is where no bar can be drawn.
const lineEvery = 20 * time.Second

// terminal writes results to out and, while work is under way, progress to err:
// a view of it on a terminal, a line now and then otherwise.
type terminal struct {
	out, err io.Writer
	// colour says whether out shows colours (https://no-color.org).
	colour bool
	// view is drawn on err where isLive, from the first step until endLive.
	isLive bool

	mu       sync.Mutex
	view     *live
	step     string
	lastLine time.Time
}

func newTerminal(out, err io.Writer) *terminal {
	return &terminal{
		out: out, err: err,
		colour: isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		isLive: isTerminal(err) && os.Getenv("TERM") != "dumb",
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// printf writes a result.
func (t *terminal) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print(t.out, fmt.Sprintf(format, args...))
}

// errorf writes trouble that is not the end of the command.
func (t *terminal) errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print(t.err, fmt.Sprintf("patchproof: "+format, args...))
}

// note writes a line that a person should know of and that is no trouble; an empty one
// is none.
func (t *terminal) note(text string) {
	if text == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print(t.err, "note: "+event.Printable(text)+"\n")
}

// print writes whole lines, above the view where there is one.
func (t *terminal) print(w io.Writer, text string) {
	if t.view != nil && isTerminal(w) {
		t.view.print(text)
		return
	}
	io.WriteString(w, text)
}

// show gives the view, which begins with the first thing to show.
func (t *terminal) show() *live {
	if t.view == nil && t.isLive {
		t.view = startLive(t.err)
	}
	return t.view
}

// follow lets the view show a plan's cells, and how long they may take.
func (t *terminal) follow(plan *vmtest.Plan) {
	plan.Watch = t.watch
	root, err := kernel.Checkout()
	if err != nil || !t.isLive {
		return
	}
	f := newForecast(plan.Cells, plan.Places, results.Took(filepath.Join(root, "results", "out")))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.show().expect(f)
}

// endLive takes the view away, before a report or what else has the terminal.
func (t *terminal) endLive() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.view != nil {
		t.view.end()
		t.view = nil
	}
}

// progress shows one step of preparing a kernel.
func (t *terminal) progress(p kernel.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	view := t.show()
	if view != nil {
		view.progress(p)
	}
	if step := describe(p); step != t.step {
		t.step, t.lastLine = step, time.Now()
		t.print(t.err, step+"\n")
	}
	if view == nil && p.Total > 0 && p.Done > 0 && time.Since(t.lastLine) >= lineEvery {
		t.lastLine = time.Now()
		// The total is an estimate where objects are counted.
		fmt.Fprintf(t.err, "  %d%%\n", min(100, 100*p.Done/p.Total))
	}
}

// watch shows what a cell is doing.
func (t *terminal) watch(s vmtest.Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if view := t.show(); view != nil {
		view.step(s)
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
