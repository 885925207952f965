package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/qemu"
)

// redraw is how often the view is drawn anew: seconds tick, and checks pass by.
const redraw = 250 * time.Millisecond

// live is what is under way, shown below the lines that are printed: the step of a
// build, the cells in flight with the one first that has taken longest, and how many
// are left. Its methods may be called from several goroutines.
type live struct {
	program *tea.Program
	gone    chan struct{}

	mu sync.Mutex
	// build is the last step of a build, since when it began.
	build kernel.Progress
	since time.Time
	// flights are the cells that run.
	flights map[cellKey]flight
	// plan is nil where nobody knows what will run; ended counts its cells.
	plan  *forecast
	ended int
}

// cellKey tells cells of one command apart.
type cellKey struct {
	kernel, variant, program string
	iteration                int
}

// flight is a cell that runs.
type flight struct {
	began time.Time
	doing string
}

// startLive begins to draw on w. It takes nothing from the keyboard: Ctrl-C stays
// the signal that it is, for QEMU and the compiler too.
func startLive(w io.Writer) *live {
	// A view that ended by itself must not keep those waiting who send to it.
	ctx, ended := context.WithCancel(context.Background())
	l := &live{gone: make(chan struct{}), flights: map[cellKey]flight{}}
	l.program = tea.NewProgram(screen{live: l}, tea.WithContext(ctx), tea.WithOutput(w), tea.WithInput(nil), tea.WithoutSignalHandler())
	go func() {
		defer close(l.gone)
		defer ended()
		// A terminal that is gone is no reason to stop working.
		l.program.Run()
	}()
	return l
}

// print writes lines above the view, in the order of its calls.
func (l *live) print(text string) {
	l.program.Send(tea.Println(strings.TrimSuffix(text, "\n"))())
}

// end takes the view away.
func (l *live) end() {
	l.program.Send(clear{})
	l.program.Quit()
	<-l.gone
}

// step takes in what a cell is doing.
func (l *live) step(s vmtest.Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := cellKey{s.Kernel, s.Variant, s.Program, s.Iteration}
	f := l.flights[key]
	switch s.Phase {
	case qemu.PhaseBooting:
		f = flight{began: time.Now()}
	case qemu.PhaseEnded:
		delete(l.flights, key)
		l.ended++
		if l.plan != nil {
			delete(l.plan.left, key)
		}
		return
	}
	f.doing = string(s.Phase)
	if s.Check != "" {
		f.doing += " " + results.Line(s.Check)
	}
	l.flights[key] = f
}

// progress takes in how far a build is.
func (l *live) progress(p kernel.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.Step != l.build.Step || p.Kernel != l.build.Kernel {
		l.since = time.Now()
	}
	l.build = p
}

// expect gives the view the plan that its cells belong to.
func (l *live) expect(f *forecast) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan = f
}

// lines is the view in text.
func (l *live) lines(now time.Time, height int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	if line := l.buildLine(now); line != "" {
		lines = append(lines, line)
	}
	keys := slices.SortedFunc(maps.Keys(l.flights), func(a, b cellKey) int {
		return cmp.Or(l.flights[a].began.Compare(l.flights[b].began), cmp.Compare(a.program, b.program), cmp.Compare(a.kernel, b.kernel))
	})
	// Some lines of what was printed should stay in sight, and the last one is the sum.
	if most := max(1, height/2-2); len(keys) > most {
		keys = keys[:most]
	}
	wide := 0
	for _, k := range keys {
		wide = max(wide, len(k.name()))
	}
	for _, k := range keys {
		f := l.flights[k]
		lines = append(lines, fmt.Sprintf("%7s  %-*s  %s", short(now.Sub(f.began)), wide, k.name(), f.doing))
	}
	if len(l.flights) > 0 || l.plan != nil && len(l.plan.left) > 0 {
		lines = append(lines, l.sum(now))
	}
	return lines
}

// sum is the last line: how much is done, and how long the rest may take.
func (l *live) sum(now time.Time) string {
	running := fmt.Sprintf("%d running", len(l.flights))
	if l.plan == nil {
		return running
	}
	text := fmt.Sprintf("%d/%d done, %s", l.ended, l.plan.total, running)
	if rest := l.plan.rest(now, l.flights); rest > 0 {
		text += ", about " + short(rest) + " left"
	}
	return text
}

// barWidth is the width of a build's bar in characters.
const barWidth = 20

// buildLine is how far a build is, and empty when none is under way.
func (l *live) buildLine(now time.Time) string {
	p := l.build
	if p.Total == 0 || p.Done == 0 || p.Done >= p.Total {
		return ""
	}
	part := float64(p.Done) / float64(p.Total)
	full := int(part * barWidth)
	amount := fmt.Sprintf("%d/%d", p.Done, p.Total)
	if p.Step == kernel.StepFetch || p.Step == kernel.StepUnpack {
		amount = humanize.Bytes(uint64(p.Done)) + " of " + humanize.Bytes(uint64(p.Total))
	}
	rest := time.Duration(float64(now.Sub(l.since)) * (1/part - 1))
	return fmt.Sprintf("  [%s%s] %2.0f%%, %s, about %s left", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*part, amount, short(rest))
}

// name is a cell as the lines about it call it.
func (k cellKey) name() string {
	name := k.program + " on " + k.kernel
	if k.iteration > 1 {
		name += fmt.Sprintf(" (run %d)", k.iteration)
	}
	return name
}

// short is a duration in whole seconds.
func short(d time.Duration) string { return d.Round(time.Second).String() }

// forecast is how long the cells of a plan may take, from the last run of each.
type forecast struct {
	total, jobs int
	// left holds the cells that have not ended, with what they took, in seconds;
	// 0 where nobody knows.
	left map[cellKey]float64
}

// newForecast looks up what the cells took in stored runs.
func newForecast(cells []vmtest.CellSpec, jobs int, took func(kernel, variant, program string) float64) *forecast {
	f := &forecast{total: len(cells), jobs: jobs, left: map[cellKey]float64{}}
	for _, c := range cells {
		f.left[cellKey{c.Kernel, c.Variant, c.Program.Name, c.Iteration}] = took(c.Kernel, c.Variant, c.Program.Name)
	}
	return f
}

// rest is how long the cells that have not ended may take, JOBS at a time. It is 0
// where a cell never ran before, because an estimate without it would be too low.
func (f *forecast) rest(now time.Time, flights map[cellKey]flight) time.Duration {
	sum, longest := 0.0, 0.0
	for key, seconds := range f.left {
		if seconds == 0 {
			return 0
		}
		if flight, ok := flights[key]; ok {
			seconds = max(0, seconds-now.Sub(flight.began).Seconds())
		}
		sum += seconds
		longest = max(longest, seconds)
	}
	return time.Duration(max(longest, sum/float64(f.jobs)) * float64(time.Second))
}

// screen is the view as bubbletea wants it.
type screen struct {
	live          *live
	width, height int
	cleared       bool
}

// clear is the message that takes the view away.
type clear struct{}

type tick time.Time

func nextTick() tea.Cmd {
	return tea.Tick(redraw, func(t time.Time) tea.Msg { return tick(t) })
}

// Init begins the ticking.
func (s screen) Init() tea.Cmd { return nextTick() }

// Update takes the terminal's size and the ticks.
func (s screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case tick:
		return s, nextTick()
	case clear:
		s.cleared = true
	}
	return s, nil
}

// View draws.
func (s screen) View() tea.View {
	v := tea.NewView("")
	v.DisableBracketedPasteMode = true
	if s.cleared || s.width == 0 {
		return v
	}
	lines := s.live.lines(time.Now(), s.height)
	for i, line := range lines {
		lines[i] = ansi.Truncate(line, s.width-1, "…")
	}
	v.SetContent(strings.Join(lines, "\n"))
	return v
}
