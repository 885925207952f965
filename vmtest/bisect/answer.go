package bisect

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"

	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/results"
)

// Outcome is how a search ended.
type Outcome string

// The outcomes. Only Found is what was asked for.
const (
	Found Outcome = "found"
	// BaseDoes: what the patches run on fails the same way.
	BaseDoes Outcome = "the base does this"
	// GoodIsBad and BadIsGood: an end is not what it was said to be.
	GoodIsBad Outcome = "good is bad"
	BadIsGood Outcome = "bad is good"
	// OtherVerdict: the bad end fails, but not as asked.
	OtherVerdict Outcome = "another verdict"
	// Untestable: an end cannot be built or judged.
	Untestable Outcome = "untestable"
	// Inconclusive: the good end fails in a way of its own.
	Inconclusive Outcome = "inconclusive"
	// AllSkipped: what is left cannot be judged.
	AllSkipped Outcome = "all skipped"
	// NotBelieved: there is a result that a check of it contradicts.
	NotBelieved Outcome = "not believed"
	// FirstOfSeveral: the first bad commit is found, and later ones do the same.
	FirstOfSeveral Outcome = "first of several"
	// NotProven: there is a result that could not be put to the proof, and cannot
	// be the whole truth.
	NotProven Outcome = "not proven"
)

// Answer is what a search found.
type Answer struct {
	Outcome Outcome `json:"outcome"`
	// Text says it in a sentence.
	Text string `json:"text"`
	// Culprit is the first bad commit and Title its place in the series.
	Culprit *kernel.Commit `json:"culprit,omitempty"`
	Title   string         `json:"title,omitempty"`
	// Options is the smallest set of options found, as the bad config has them.
	Options []string `json:"options,omitempty"`
	// Doubt is why a result is not believed.
	Doubt string `json:"doubt,omitempty"`
	// Candidates are what may be the culprit when some could not be judged.
	Candidates []string `json:"candidates,omitempty"`
	// Signature is what was searched for. Shown are the symptoms of the culprit's kernel, or
	// of what ShownBy names, each in a line, and Evidence the stacks or the splat behind them.
	Signature *Symptom `json:"signature,omitempty"`
	Shown     []string `json:"shown,omitempty"`
	ShownBy   string   `json:"shown_by,omitempty"`
	Evidence  string   `json:"evidence,omitempty"`
	// Before and With are the verdicts on both sides of the culprit.
	Before *Side `json:"before,omitempty"`
	With   *Side `json:"with,omitempty"`
	// Merge says that the culprit is a merge, and what it brings in is good by itself.
	Merge bool `json:"merge,omitempty"`
	// Touched is what the culprit changes.
	Touched []kernel.Touched `json:"touched,omitempty"`
	// SameCode says that the culprit's kernel is its parent's.
	SameCode bool `json:"same_code"`
	// Revert says what became of the bad end without the culprit.
	Revert string `json:"revert,omitempty"`
	// Kept says what the later commits do that changed the culprit's lines.
	Kept string `json:"kept,omitempty"`
	// Rate is how often a bad kernel fails, and Confidence how sure the answer is,
	// both estimates between 0 and 1: see odds.
	Rate       float64 `json:"rate,omitempty"`
	Confidence float64 `json:"confidence,omitempty"`
	// Runs is how often a kernel was run before it counted as good; of a search by
	// quorum, how many runs it made.
	Runs   int  `json:"runs,omitempty"`
	Quorum bool `json:"quorum,omitempty"`
}

// Side is the verdict on one side of a culprit.
type Side struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

func sideOf(t *Trial) *Side {
	text := string(t.Mark)
	if len(t.Cells) > 0 {
		text += ", " + patches.Plural(len(t.Cells), "run")
	}
	if t.Why != "" {
		text += ": " + results.Line(t.Why)
	}
	return &Side{t.Title, text}
}

// evidence is what the first run with the signature showed: its symptoms, each in
// a line, and the stacks or the splat behind them.
func (sig signature) evidence(cells []results.Cell) (shown []string, text string) {
	for _, c := range cells {
		found, ok := sig.shows(c)
		if !ok {
			continue
		}
		all := symptoms(c, sig.check)
		for _, s := range all {
			line := s.String()
			if s.Title == "" {
				line += ": " + results.Line(s.Detail)
			}
			shown = append(shown, line)
		}
		if len(sig.Blocked) > 0 {
			return shown, sig.stacks(all)
		}
		return shown, found.Detail
	}
	return nil, ""
}

// stacks picks the tasks that are blocked where the signature says, each once,
// out of all that the symptoms tell.
func (sig signature) stacks(all []Symptom) string {
	var kept []string
	seen := map[string]bool{}
	for _, s := range all {
		var task []string
		end := func() {
			var functions string
			for _, line := range task {
				if f := frame.FindStringSubmatch(line); f != nil {
					functions += f[1] + "\n"
				}
			}
			hit := false
			for _, f := range sig.Blocked {
				hit = hit || strings.Contains("\n"+functions, "\n"+f+"\n")
			}
			if hit && !seen[functions] {
				seen[functions] = true
				kept = append(kept, task...)
			}
			task = nil
		}
		for line := range strings.Lines(s.Detail) {
			line = strings.TrimRight(line, "\n")
			switch {
			case frame.MatchString(line) && task != nil:
				task = append(task, line)
			case strings.Contains(line, " state"):
				end()
				task = []string{line}
			default:
				end()
			}
		}
		end()
	}
	return strings.Join(kept, "\n")
}

// end completes an answer that names a culprit.
func (a *Answer) end(s *search) *Answer {
	o := oddsOf(s.record, s.sig)
	a.Rate, a.Confidence, a.Runs = o.rate(), o.confidence(), s.count
	if len(s.sig.build) > 0 || s.sig.warning != "" {
		// A compiler says the same each time.
		a.Rate, a.Confidence, a.Runs = 0, 0, 0
	}
	if s.metric != nil {
		a.Rate, a.Confidence, a.Signature = 0, 0, nil
	}
	if s.belief != nil {
		_, a.Confidence = s.belief.Best()
		a.Rate, a.Runs, a.Quorum = s.belief.Rate(), 0, true
		for _, t := range s.record.Trials {
			a.Runs += len(t.Cells)
		}
	}
	switch a.Outcome {
	case Found:
		a.Text = fmt.Sprintf("%s is the first bad commit.", a.Title)
		if s.metric != nil {
			a.Text = fmt.Sprintf("%s is the first commit with %s.", a.Title, s.metric.found(a))
		}
	case FirstOfSeveral:
		a.Text = fmt.Sprintf("%s is the first bad commit, but not the only one: the bad end shows the same without it.", a.Title)
		if s.base.Tree != "" && len(s.top) == 0 {
			a.Text += fmt.Sprintf(" PATCH=%s with GOOD=%s searches for the next.", filepath.Join(s.record.dir(), revertFile), s.name(a.Culprit.ID))
		}
	case NotProven:
		a.Text = fmt.Sprintf("git bisect ends at %s, but that is not proven: %s.", a.Title, a.Doubt)
		a.Confidence = 0
	case NotBelieved:
		a.Text = fmt.Sprintf("git bisect ends at %s, which is not believed: %s.", a.Title, a.Doubt)
		a.Confidence = 0
	}
	return a
}

// Report is the answer for people, with the log of what was tried.
func (r *Record) Report() string {
	var b strings.Builder
	a := r.Answer
	fmt.Fprintf(&b, "%s\n", a.Text)
	if c := a.Culprit; c != nil {
		fmt.Fprintf(&b, "\n  %s\n  %s\n  %s\n", c.ID, results.Line(c.Subject), results.Line(c.Author))
	}
	for _, o := range a.Options {
		fmt.Fprintf(&b, "  %s\n", o)
	}
	for _, c := range a.Candidates {
		fmt.Fprintf(&b, "  %s\n", results.Line(c))
	}
	if a.Before != nil {
		fmt.Fprintf(&b, "\n  before  %s\n  with    %s\n", a.Before.Text, a.With.Text)
	}
	if len(a.Shown) > 0 {
		fmt.Fprintf(&b, "\n  %s shows:\n", cmp.Or(a.ShownBy, "it"))
		for _, line := range a.Shown {
			fmt.Fprintf(&b, "    %s\n", results.Line(line))
		}
	}
	if a.Evidence != "" {
		b.WriteString("\n")
		for line := range strings.Lines(shorten(a.Evidence)) {
			fmt.Fprintf(&b, "    %s\n", strings.TrimRight(line, "\n"))
		}
	}
	if len(a.Touched) > 0 {
		b.WriteString("\n  it touches:\n")
		for _, t := range a.Touched {
			fmt.Fprintf(&b, "    %s\n", results.Line(t.String()))
		}
	}
	if a.Merge {
		b.WriteString("\n  it is a merge, and each side of it passes: what is wrong is that the two meet\n")
	}
	if a.Revert != "" {
		fmt.Fprintf(&b, "\n  %s\n", results.Line(a.Revert))
	}
	if a.Kept != "" {
		if a.Revert == "" {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "  %s\n", results.Line(a.Kept))
	}
	for _, t := range r.Trials {
		if t.Role == roleWithout {
			fmt.Fprintf(&b, "\n  %s: %s, %s\n", t.Title, t.Mark, results.Line(t.Why))
		}
	}
	b.WriteString(r.confidence())
	b.WriteString(r.tried())
	return b.String()
}

// confidence says how sure the answer is, where that was reckoned.
func (r *Record) confidence() string {
	a := r.Answer
	switch {
	case a.Confidence <= 0:
		return ""
	case a.Quorum:
		return fmt.Sprintf("\n  confidence %s: by %s of %s a bad kernel fails in about %.0f %% of its runs\n", percent(a.Confidence), patches.Plural(a.Runs, "run"), patches.Plural(len(r.Trials), "kernel"), 100*a.Rate)
	}
	surer := ""
	if a.Confidence < 0.99 {
		surer = fmt.Sprintf("; COUNT=%d makes it surer", 3*a.Runs)
	}
	return fmt.Sprintf("\n  confidence %s: a bad kernel fails in about %.0f %% of its runs, as far as %s of each can tell%s\n", percent(a.Confidence), 100*a.Rate, patches.Plural(a.Runs, "run"), surer)
}

// tried lists the kernels that were tried, in their order.
func (r *Record) tried() string {
	var b strings.Builder
	b.WriteString("\nkernels tried:\n")
	for _, t := range r.Trials {
		fmt.Fprintf(&b, "  %-9s %-5s %s (%s)\n", t.Role, t.Mark, results.Line(t.Title), t.cost())
		if len(t.Fixups) > 0 {
			fmt.Fprintf(&b, "            with FIXUP %s\n", results.Line(strings.Join(t.Fixups, ", ")))
		}
		if t.Figure != nil && t.Mark != kernel.Skip {
			fmt.Fprintf(&b, "            %s\n", results.Line(t.Why))
		}
		if t.Mark == kernel.Skip {
			fmt.Fprintf(&b, "            skipped: %s\n", results.Line(t.Why))
		}
	}
	return b.String()
}

// percent rounds down: what is not certain is not 100 %.
func percent(p float64) string {
	if p >= 0.9999 {
		return "over 99.99 %"
	}
	return fmt.Sprintf("%.4g %%", float64(int(p*1e4))/100)
}

// evidenceLines is how much of a splat is printed; the record has all of it.
const evidenceLines = 40

func shorten(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= evidenceLines {
		return text
	}
	return strings.Join(lines[:evidenceLines], "") + "...\n"
}
