package bisect

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest"
	"patchproof/vmtest/bench"
	"patchproof/vmtest/counter"
)

// metric is a figure that a search goes by, in place of a symptom: a commit is bad
// where its figure is nearer to the bad end's than to the good end's.
type metric struct {
	// section is the part of vmlinux whose size is searched, or wholeImage; bench is the
	// workload whose instructions are. One of the two is empty.
	section, bench string
	// good and bad are the ends' figures, and noise how far two runs of one kernel were
	// apart at most.
	good, bad, noise float64
}

// wholeImage is all of a vmlinux that is there in memory.
const wholeImage = "vmlinux"

// endMetricRuns and metricRuns are how often the ends and all others are measured at
// least where figures have noise, and noises by how many times of that two must differ.
const (
	endMetricRuns = 5
	metricRuns    = 2
	noises        = 3
)

// ownPart is the part of the ends' difference that a commit must make by itself: what
// comes bit by bit has no first bad commit.
const ownPart = 0.25

// metricOf reads METRIC.
func metricOf(text string) (*metric, error) {
	what, of, _ := strings.Cut(strings.TrimSpace(text), " ")
	of = strings.TrimSpace(of)
	switch workload, isBench := strings.CutPrefix(of, "bench="); {
	case text == "":
		return nil, nil
	case what == "size" && (of == wholeImage || strings.HasPrefix(of, ".")):
		return &metric{section: of}, nil
	case what == "insns" && isBench && workload != "":
		return &metric{bench: workload}, nil
	}
	return nil, fmt.Errorf("METRIC=%s: want 'size vmlinux', 'size .text' or another section, or 'insns bench=WORKLOAD' with one of docs/bench.md", text)
}

// program is the guest program that measures the workload: PROGRAM, or that of the group
// that has the workload.
func (m *metric) program(name string, q Question) (vmtest.Program, error) {
	subject, err := kernel.NamedSubject(q.Subject)
	if err != nil {
		return vmtest.Program{}, err
	}
	p, err := bench.Measuring(subject.Bench, m.bench, name)
	if err != nil {
		return vmtest.Program{}, fmt.Errorf("METRIC=insns bench=%s: %w", m.bench, err)
	}
	return p, nil
}

func (m *metric) String() string {
	if m.section != "" {
		return "size of " + m.section
	}
	return "instructions of " + m.bench
}

// text is a figure for people.
func (m *metric) text(v float64) string {
	if m.section != "" {
		return fmt.Sprintf("%.0f bytes", v)
	}
	return fmt.Sprintf("%.2f insns/op", v)
}

// change is how far a figure is from another.
func (m *metric) change(from, to float64) string {
	if m.section != "" {
		return fmt.Sprintf("%+.0f bytes", to-from) + share(from, to)
	}
	return fmt.Sprintf("%+.2f insns/op", to-from) + share(from, to)
}

// share is a change in percent, and nothing where that would tell nobody anything: from
// nothing at all, or to many times as much.
func share(from, to float64) string {
	if percent := 100 * (to/from - 1); from > 0 && percent < 1000 {
		return fmt.Sprintf(" (%+.3g %%)", percent)
	}
	return ""
}

// measure takes the trial's figure from its vmlinux, or from its runs the least; ok is
// false, and why tells the reason, where there is none.
func (m *metric) measure(t *Trial) (why string, ok bool) {
	switch {
	case t.Broken != "":
		return t.Broken, false
	case m.section != "":
		if t.Figure == nil {
			size, err := sizeOf(t.Vmlinux, m.section)
			if err != nil {
				return err.Error(), false
			}
			t.Figure = &size
		}
		return "", true
	}
	figures := m.figures(t.Cells)
	if len(figures) == 0 {
		for _, c := range t.Cells {
			if c.Verdict != event.Pass {
				return fmt.Sprintf("%s: %s", c.Verdict, results.Line(c.Reason)), false
			}
		}
		return fmt.Sprintf("%s measures no %s", t.Cells[0].Program, m.bench), false
	}
	least := slices.Min(figures)
	t.Figure = &least
	return "", true
}

// figures are those of the runs that passed.
func (m *metric) figures(cells []results.Cell) []float64 {
	var all []float64
	for _, c := range cells {
		wanted := counter.MetricInsns
		for _, x := range c.Metrics {
			if x.Labels[counter.LabelBench] != m.bench || c.Verdict != event.Pass {
				continue
			}
			if x.Name == counter.MetricOps && x.Labels[counter.LabelFigure] == counter.FigureMedian {
				wanted = counter.MetricInsnsMedian
			}
			if x.Name == wanted {
				all = append(all, x.Value)
			}
		}
	}
	return all
}

// spread is how far the runs of a kernel are apart.
func (m *metric) spread(t *Trial) float64 {
	figures := m.figures(t.Cells)
	if len(figures) == 0 {
		return 0
	}
	return slices.Max(figures) - slices.Min(figures)
}

// judge says on which side a kernel's figure is.
func (m *metric) judge(t *Trial) (kernel.Mark, string) {
	why, ok := m.measure(t)
	if !ok {
		return kernel.Skip, why
	}
	middle := (m.good + m.bad) / 2
	why = m.text(*t.Figure)
	switch {
	case math.Abs(*t.Figure-middle) <= noises*max(m.noise, m.spread(t))/2 && m.section == "":
		return kernel.Skip, why + ", which is too near to the middle between the ends"
	case (*t.Figure > middle) == (m.bad > m.good):
		return kernel.Bad, why
	}
	return kernel.Good, why
}

// question is one that the figure answers.
func (m *metric) question(role string) question {
	if m.section != "" {
		return question{role: role, built: m.judge}
	}
	return question{role: role, ran: m.judge, enough: func(results.Cell) bool { return false }}
}

// unmarked has the figure told in place of the side; nil for nil.
func (m *metric) unmarked(judge func(*Trial) (kernel.Mark, string)) func(*Trial) (kernel.Mark, string) {
	if judge == nil {
		return nil
	}
	return func(t *Trial) (kernel.Mark, string) {
		why, ok := m.measure(t)
		if ok {
			why = m.text(*t.Figure)
		}
		return "", why
	}
}

// sizeOf is the size of a section of a vmlinux, 0 if it has none of that name, or of all
// that are loaded. Of code it is that of the functions, as scripts/bloat-o-meter counts
// them: x86 pads .text to huge pages, in which any change would go under.
func sizeOf(vmlinux, section string) (float64, error) {
	f, err := elf.Open(vmlinux)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", vmlinux, err)
	}
	// A function has one place and maybe several names.
	functions := map[elf.SectionIndex]map[uint64]uint64{}
	for _, s := range symbols {
		if functions[s.Section] == nil {
			functions[s.Section] = map[uint64]uint64{}
		}
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			functions[s.Section][s.Value] = max(functions[s.Section][s.Value], s.Size)
		}
	}
	size := uint64(0)
	for i, s := range f.Sections {
		switch {
		case s.Name != section && (section != wholeImage || s.Flags&elf.SHF_ALLOC == 0):
		case s.Flags&elf.SHF_EXECINSTR != 0:
			for _, n := range functions[elf.SectionIndex(i)] {
				size += n
			}
		default:
			size += s.Size
		}
	}
	return float64(size), nil
}

// answerMetric searches for the commit with which a figure changed.
func (s *search) answerMetric(ctx context.Context) (*Answer, error) {
	m := s.metric
	s.sig.metric = m
	s.confidence = 0
	count := max(s.count, metricRuns)
	s.count = max(s.count, endMetricRuns)
	var ends []*Trial
	for _, end := range []struct{ commit, role string }{{s.path.good, roleGood}, {s.path.bad, roleBad}} {
		point, err := s.at(ctx, end.commit)
		if err != nil {
			return nil, err
		}
		// Its side is known when both are.
		q := m.question(end.role)
		q.built, q.ran = m.unmarked(q.built), m.unmarked(q.ran)
		t, err := s.try(ctx, point, q)
		if err != nil {
			return nil, err
		}
		if why, ok := m.measure(t); !ok {
			return &Answer{Outcome: Untestable, Text: fmt.Sprintf("the %s, %s, has no %s: %s.", end.role, t.Title, m, why), Evidence: t.Detail}, nil
		}
		ends = append(ends, t)
		m.noise = max(m.noise, m.spread(t))
	}
	s.count = count
	m.good, m.bad = *ends[0].Figure, *ends[1].Figure
	if m.good == 0 && m.bad == 0 {
		return &Answer{Outcome: Untestable, Text: fmt.Sprintf("the %s is 0 at both ends: is that its name?", m)}, nil
	}
	if math.Abs(m.bad-m.good) <= noises*m.noise {
		text := fmt.Sprintf("the ends do not differ in the %s: %s and %s", m, m.text(m.good), m.text(m.bad))
		if m.noise > 0 {
			text += ", where runs of one kernel differ by " + m.text(m.noise)
		}
		return &Answer{Outcome: BadIsGood, Text: text + "."}, nil
	}
	for _, t := range ends {
		if t.Mark, t.Why = m.judge(t); t.Mark == kernel.Skip {
			return nil, errors.New(t.Why)
		}
	}
	s.tell.Say("the %s is %s at the good end and %s at the bad one, %s; the search is for what crosses the middle",
		m, m.text(m.good), m.text(m.bad), m.change(m.good, m.bad))
	return s.between(ctx, s.path.good, s.path.bad)
}

// found says what a culprit did to the figure.
func (m *metric) found(a *Answer) string {
	way := "smaller"
	if m.bad > m.good {
		way = "larger"
	}
	text := fmt.Sprintf("the %s %s", way, m)
	if len(a.Shown) > 0 {
		_, change, _ := strings.Cut(a.Shown[0], ": ")
		text += ": " + change
	}
	return text
}

// proveMetric holds a commit's own change against that of the ends.
func (s *search) proveMetric(a *Answer, before, with *Trial) {
	m := s.metric
	if before.Figure == nil || with.Figure == nil {
		return
	}
	own, whole := *with.Figure-*before.Figure, m.bad-m.good
	a.Shown = []string{fmt.Sprintf("%s: %s by itself, of %s between the ends", m, m.change(*before.Figure, *with.Figure), m.change(m.good, m.bad))}
	if own/whole < ownPart {
		a.Outcome = NotProven
		a.Doubt = "it crosses the middle between the ends, but makes only a small part of their difference, which comes bit by bit"
	}
}
