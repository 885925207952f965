package bisect

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest"
)

// flaky makes the guests fail now and then: each that has the word, at a rate.
func (b *rig) flaky(seed uint64, word string, rate float64) {
	random := rand.New(rand.NewPCG(seed, 1))
	b.cell = func(_ context.Context, s vmtest.CellSpec) results.Cell {
		image, err := os.ReadFile(s.Image)
		if err != nil {
			panic(err)
		}
		b.ran = append(b.ran, s.Kernel)
		switch len(b.ran) {
		case 1:
			return made("") // The good end, or it would be no question.
		case 2:
			return made("LEAK")
		}
		if strings.Contains(string(image), word) && random.Float64() < rate {
			return made("LEAK")
		}
		return made("")
	}
}

// noise adds a commit that changes a comment, white space or a document.
func noise(t *testing.T, dir string, n int) {
	t.Helper()
	file := filepath.Join(dir, "main.c")
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	switch n % 3 {
	case 0:
		write(t, file, fmt.Sprintf("/* note %d */\n", n)+string(source))
	case 1:
		write(t, file, "\n"+string(source))
	case 2:
		write(t, filepath.Join(dir, "Documentation", "notes.rst"), strconv.Itoa(n))
	}
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-qm", fmt.Sprintf("noise %d", n))
}

// lines makes the code of the fixture depend on where it stands, as a debug kernel's does
// in its tables (lockdep, KASAN) and its instructions (might_sleep).
const lines = `int line = __LINE__;
static const struct { const char *file; int line; } where = { __FILE__, __LINE__ };
int sleeps(void) { return where.line + __LINE__; }
`

func TestFlakyFailureIsFoundByQuorum(t *testing.T) {
	t.Parallel()
	for seed, rate := range []float64{0.8, 0.4} {
		changes := numbered(9, 6, leak)
		changes[0].text = lines
		dir := fixture(t, changes...)
		noise(t, dir, 0)
		b := newBench(t, 1)
		b.flaky(uint64(seed), "LEAK", rate)
		b.confidence = 0.95
		q, s := b.question(t, dir, "HEAD~10")
		r := b.mustSearch(t, q, s)
		a := r.Answer
		if a.Outcome != Found || a.Culprit.Subject != "change 6" || a.Confidence < 0.95 {
			t.Errorf("at rate %v: %s, %+v, confidence %v; want change 6", rate, a.Outcome, a.Culprit, a.Confidence)
		}
		// Asked again, it is answered from the record.
		before := r.Report()
		b.count = 1
		b.ran, b.said, b.record = nil, nil, &Record{Accel: results.Accel{Name: "tcg"}, Program: "fixedfile"}
		b.confidence = 0.95
		if again := b.mustSearch(t, q, s); again.Report() != before || len(b.ran) > 0 {
			t.Errorf("asked again, %d runs:\n%s\nwant\n%s", len(b.ran), again.Report(), before)
		}
	}
}

// Commits that change no code are never to blame, however the runs come out.
func TestWhatChangesNoCodeIsNeverNamed(t *testing.T) {
	t.Parallel()
	searches := 2
	if n, err := strconv.Atoi(os.Getenv("SEARCHES")); err == nil {
		searches = n
	}
	for seed := range searches {
		text := word("FLAKY")
		if seed%2 == 1 {
			text = lines + text
		}
		dir := fixture(t, change{"code", text})
		for n := range 6 {
			noise(t, dir, seed+n)
		}
		b := newBench(t, 1)
		b.flaky(uint64(seed), "FLAKY", []float64{0.3, 0.5, 0.7}[seed/2%3])
		b.budget = 60
		q, s := b.question(t, dir, "HEAD~6")
		a := b.mustSearch(t, q, s).Answer
		if a.Outcome == Found || a.Culprit != nil && strings.HasPrefix(a.Culprit.Subject, "noise") {
			t.Errorf("search %d: %s, %q; want that no commit is named", seed, a.Outcome, a.Text)
		}
	}
}

// Of a failure that comes and goes, a commit that passed by chance is not called the fix.
func TestChanceIsNoFix(t *testing.T) {
	t.Parallel()
	dir := fixture(t, change{"a", leak}, change{"b", ""}, change{"c", ""}, change{"d", ""}, change{"fix a", ""}, change{"e", ""})
	q := Question{Program: "fixedfile", Good: "HEAD", Bad: "HEAD~5", Fix: true, Fresh: true}
	q.Tree = dir
	for seed := range uint64(5) {
		b := newBench(t, 1)
		b.flaky(seed, "LEAK", 0.4)
		s, err := q.resolve()
		if err != nil {
			t.Fatal(err)
		}
		s.variant = kernel.Variant{Name: "plain", Image: "vmlinux", Scale: 1}
		if a := b.mustSearch(t, q, s).Answer; a.Outcome == Found && a.Culprit.Subject != "fix a" {
			t.Errorf("search %d: %q; want fix a, or that no commit is believed", seed, a.Text)
		}
	}
}

// Where the runs are used up, what is likely is said, and no commit named.
func TestBudgetOfAQuorum(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	dir := fixture(t, numbered(9, 6, leak)...)
	b.flaky(3, "LEAK", 0.5)
	b.confidence, b.budget = 0.95, 4
	q, s := b.question(t, dir, "HEAD~9")
	r := b.mustSearch(t, q, s)
	if a := r.Answer; a.Outcome != NotProven || len(a.Candidates) < 2 || !strings.Contains(a.Text, "BUDGET=8 goes on") {
		t.Errorf("answer = %s, %q, %q; want several candidates", a.Outcome, a.Text, a.Candidates)
	}
}

// A commit in a branch that was merged is found, too.
func TestQuorumInABranch(t *testing.T) {
	t.Parallel()
	dir := fixture(t, numbered(3, 0, "")...)
	git(t, dir, "switch", "-qc", "side", "HEAD~1")
	file := filepath.Join(dir, "other.c")
	write(t, file, "int other;\n")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-qm", "side 1")
	makefile, err := os.ReadFile(filepath.Join(dir, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "Makefile"), strings.Replace(string(makefile), "$(CURDIR)/main.c", "$(CURDIR)/main.c $(CURDIR)/other.c", 1))
	write(t, file, "int other;\n"+leak)
	git(t, dir, "commit", "-qam", "side 2")
	git(t, dir, "switch", "-q", "-")
	git(t, dir, "merge", "-q", "--no-edit", "side")
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "later")
	b := newBench(t, 1)
	b.flaky(1, "LEAK", 0.6)
	b.confidence = 0.95
	q, s := b.question(t, dir, "HEAD~4")
	if a := b.mustSearch(t, q, s).Answer; a.Outcome != Found || a.Culprit.Subject != "side 2" {
		t.Errorf("answer = %s, %+v; want side 2", a.Outcome, a.Culprit)
	}
}
