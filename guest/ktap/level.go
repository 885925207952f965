package ktap

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"patchproof/guest/event"
)

// level is a run of results of one indentation.
type level struct {
	depth int
	// name is what "# Subtest:" said.
	name string
	// plan is the number of results announced, -1 without a plan.
	plan    int
	skipped string
	count   int
	// lowest and highest are the lowest and the highest number of a result.
	lowest, highest int
	// lines are those of its results, and again counts those that came more than once: a
	// child prints what its parent had in its buffer.
	lines map[string]bool
	again int
	// totals is how many results kselftest.h says that it counted, and failed how many of them
	// failed: some tests (kcmp) count results that they do not print.
	totals, failed int
	// rest is why a test skipped what had not run yet: a skip without a name, kselftest's
	// way to end early.
	rest string
	// previous is the name of its last result, to which a subtest in braces belongs; block
	// says that one is under way, and excused that it may fail.
	previous       string
	block, excused bool
	// harness says that kselftest_harness.h prints the results, and running is the test that it
	// has begun: what comes before that one's own result is of it.
	harness bool
	running string
	// waiting are results that get their parent's name when its line comes.
	waiting []Result
}

// closes ends the subtest in braces whose own line has that depth.
func (r *Reader) closes(depth int) bool {
	for _, l := range r.open {
		if l.depth == depth && l.block {
			r.endBlock(l)
			return true
		}
	}
	return false
}

// endBlock ends what stands in braces behind the last result of a level.
func (r *Reader) endBlock(l *level) {
	for r.open[len(r.open)-1] != l {
		r.leave(l.previous, l.excused)
	}
	l.block = false
}

// begun says that a test of that indentation is under way.
func (r *Reader) begun(depth int) bool { return r.levelAt(depth) != nil }

// levelAt is the level under way of that indentation, or nil.
func (r *Reader) levelAt(depth int) *level {
	if i := slices.IndexFunc(r.open, func(l *level) bool { return l.depth == depth }); i >= 0 {
		return r.open[i]
	}
	return nil
}

// enter returns the level of that depth. Where anew is set a level that is there and has
// ended its business begins again: a second document at the same indentation.
func (r *Reader) enter(depth int, anew bool) *level {
	for n := len(r.open); n > 0 && r.open[n-1].depth > depth; n = len(r.open) {
		r.leave(r.blockAround(n-1), false)
	}
	if n := len(r.open); n > 0 && r.open[n-1].depth == depth {
		l := r.open[n-1]
		if !anew || l.count == 0 && l.plan <= 0 {
			return l
		}
		r.leave(r.blockAround(n-1), false)
	}
	l := &level{depth: depth, plan: -1}
	r.open = append(r.open, l)
	return l
}

// blockAround is the name of the test in whose braces the level of that index stands.
func (r *Reader) blockAround(i int) string {
	if i > 0 && r.open[i-1].block {
		return r.open[i-1].previous
	}
	return ""
}

// leave ends the innermost level; its results belong to the test of that name, and are no
// failures where that one is excused.
func (r *Reader) leave(parent string, excused bool) {
	l := r.open[len(r.open)-1]
	r.open = r.open[:len(r.open)-1]
	name := parent
	if name == "" {
		name = l.name
	}
	results := l.waiting
	if res, ok := l.misplanned(); ok {
		results = append(results, res)
	}
	for _, res := range results {
		if name != "" {
			res.Name = name + "/" + res.Name
		}
		if excused && res.Verdict == event.Fail {
			res.Verdict, res.Detail = event.Skip, strings.TrimSpace("TODO, as the test that it is part of\n"+res.Detail)
		}
		r.deliver(res)
	}
}

// misplanned holds what came against the plan.
func (l *level) misplanned() (Result, bool) {
	res := Result{Name: "plan", Verdict: event.Fail, Detail: fmt.Sprintf("%d results were announced, %d came", l.plan, l.count), own: true}
	switch {
	case l.plan < 0:
		return res, false
	case l.count == 0 && l.plan > 0 && l.totals == l.plan:
		res.Name, res.Detail = "totals", fmt.Sprintf("%d of %d failed, as the test counts them", l.failed, l.plan)
		return res, l.failed > 0
	case l.count < l.plan && l.rest != "":
		res.Verdict = event.Skip
		res.Detail += ", and the rest was skipped: " + l.rest
	case l.count != l.plan:
	case l.again > 0:
		res.Detail += fmt.Sprintf(", but %d of them twice", l.again)
	case l.highest > l.plan:
		res.Detail += fmt.Sprintf(", of which one has the number %d", l.highest)
	default:
		return res, false
	}
	return res, true
}

// number counts a result.
func (l *level) number(number, line string) {
	l.count++
	n, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	l.highest = max(l.highest, n)
	if l.lines == nil {
		l.lines, l.lowest = map[string]bool{}, n
	}
	l.lowest = min(l.lowest, n)
	line = clip(line, maxName)
	if l.lines[line] {
		l.again++
	} else if len(l.lines) < maxResults {
		l.lines[line] = true
	}
}

// enterParent returns the level of that depth and leaves those below it open, whose
// parent the coming result is.
func (r *Reader) enterParent(depth int) *level {
	for i := len(r.open) - 1; i >= 0; i-- {
		if r.open[i].depth == depth {
			return r.open[i]
		}
		if r.open[i].depth < depth {
			return r.enter(depth, false)
		}
	}
	// Nothing was open as far out as this.
	l := &level{depth: depth, plan: -1}
	r.open = append([]*level{l}, r.open...)
	return l
}
