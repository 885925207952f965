// Package ktap reads the Test Anything Protocol as kernel tests speak it: KTAP
// (the kernel's Documentation/dev-tools/ktap.rst), TAP 12 to 14, and kselftest's
// runner, which puts "# " before what the tests below it print.
//
// The reader takes one line after another, so that results are known when the
// kernel dies half-way, and its memory is bounded whatever a test prints.
package ktap

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"patchproof/guest/event"
)

// Result is one test's result.
type Result struct {
	// Name is the test's, behind those of the tests that it belongs to, with
	// slashes. It is unique within a Reader.
	Name string
	// Verdict is pass, fail, skip, or hang for a test that a runner stopped
	// (kselftest's directive TIMEOUT).
	Verdict event.Verdict
	// Detail is what follows the directive, and for a test that did not pass the
	// last lines that it printed.
	Detail string
}

// The limits that bound a Reader's memory.
const (
	maxResults = 10_000
	maxWaiting = 10_000
	maxName    = 200
	maxLines   = 40
	maxLine    = 400
	maxDepth   = 16
)

// Reader reads a test's output. Its zero value is not usable: see NewReader.
type Reader struct {
	emit func(Result)
	// most is how many results are handed out one by one.
	most int
	// open are the tests under way, the outermost first.
	open []*level
	// recent are the last lines that belong to no result yet.
	recent []string
	seen   map[string]bool
	// copies is the number of the last result of a name, behind the first.
	copies  map[string]int
	emitted int
	// beyond counts the results after maxResults.
	beyond map[event.Verdict]int
	bailed string
	found  bool
	// runner says that kselftest's is at work, which puts "# " in front of results.
	runner bool
	// inYAML is set between the lines --- and ... that explain a result.
	inYAML bool
}

// level is a run of results of one indentation.
type level struct {
	depth int
	// name is what "# Subtest:" said.
	name string
	// plan is the number of results announced, -1 without a plan.
	plan    int
	skipped string
	// repeated says that the plan is that of the level before, which TAP knows at the
	// beginning or at the end.
	repeated bool
	count    int
	// waiting are results that get their parent's name when its line comes.
	waiting []Result
}

// NewReader returns a Reader that hands each result to emit, as soon as its full
// name is known. No result is called like one of the taken names.
func NewReader(emit func(Result), taken ...string) *Reader {
	r := &Reader{emit: emit, most: maxResults, seen: map[string]bool{}, copies: map[string]int{}, beyond: map[event.Verdict]int{}}
	for _, name := range taken {
		r.seen[name] = true
	}
	return r
}

// Most bounds the results that are handed out one by one; those beyond are counted. There
// is a bound without it, too, which it can only lower.
func (r *Reader) Most(n int) { r.most = min(n, maxResults) }

var (
	versionLine = pattern(`^K?TAP version \d+\s*$`)
	planLine    = pattern(`^1\.\.(\d+)\s*(?:#\s*(.*))?$`)
	resultLine  = pattern(`^(not )?ok(?:\s+(\d+)\b[-:]?)?(?:\s+|$)(?:-\s+)?(.*)$`)
	subtestLine = pattern(`^# Subtest:\s*(.+?)\s*$`)
	bailLine    = pattern(`^Bail out!\s*(.*)$`)
	// TAP's words are in any letters, and SKIP has any end; KTAP's are words of prose as well.
	directive = pattern(`(?:^|\s)#\s*((?i:SKIP\w*|TODO)|XFAIL|TIMEOUT|ERROR)\b:?\s*(.*)$`)
	remark    = pattern(`\s#\s*(.*)$`)
)

// pattern returns what compiles expr when it is first used: this package is linked into
// every process of a guest, and most of them read no KTAP.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// Line takes the next line, without its end.
func (r *Reader) Line(line string) {
	line = strings.TrimRight(line, "\r\n")
	switch strings.TrimSpace(line) {
	case "---":
		r.inYAML = r.found && line[0] == ' '
	case "...":
		r.inYAML = false
	}
	// It is indented, and ends where that does.
	r.inYAML = r.inYAML && strings.HasPrefix(line, " ")
	r.runner = r.runner || strings.HasPrefix(line, "# selftests: ") || strings.HasPrefix(line, "# timeout set to ")
	if r.inYAML || !mayMean(line) {
		r.keep(line)
		return
	}
	depth, text := r.indentation(line)
	switch {
	case versionLine().MatchString(text):
		r.found = true
		r.enter(depth, true)
	case planLine().MatchString(text) && (r.found || depth == 0):
		r.found = true
		r.plan(depth, planLine().FindStringSubmatch(text))
	case r.found && subtestLine().MatchString(text):
		// It stands at the indentation of the subtest's results.
		r.enter(depth, false).name = clip(subtestLine().FindStringSubmatch(text)[1], maxName)
	case r.isResult(depth, text):
		r.found = true
		r.result(depth, resultLine().FindStringSubmatch(text))
	case bailLine().MatchString(text):
		r.found = true
		r.bailed = clip("Bail out! "+bailLine().FindStringSubmatch(text)[1], maxLine)
	default:
		r.keep(line)
	}
}

// mayMean says, cheaply, that a line may be of the protocol: most of what a test prints is not.
func mayMean(line string) bool {
	text := strings.TrimLeft(line, "# \t")
	if text == "" {
		return false
	}
	switch text[0] {
	case 'K', 'T', '1', 'n', 'o', 'S', 'B':
		return true
	}
	return false
}

// isResult says whether the line is a result. Without a version or a plan before it
// only a numbered one at the beginning of a line is, and an indented one without a number
// only where a test has begun: programs print "ok" as well.
func (r *Reader) isResult(depth int, text string) bool {
	m := resultLine().FindStringSubmatch(text)
	switch {
	case m == nil:
		return false
	case m[2] != "":
		return r.found || depth == 0
	}
	return r.found && (depth == 0 || r.begun(depth))
}

// begun says that a test of that indentation is under way.
func (r *Reader) begun(depth int) bool {
	return slices.ContainsFunc(r.open, func(l *level) bool { return l.depth == depth })
}

// indentation counts the levels before a line of the protocol: two or four blanks
// each (KTAP and TAP 14), or kselftest's "# ". A line "# Subtest:" keeps its sign.
func (r *Reader) indentation(line string) (depth int, text string) {
	text = line
	for {
		if rest := strings.TrimLeft(text, " \t"); len(rest) != len(text) {
			blanks := len(strings.ReplaceAll(text[:len(text)-len(rest)], "\t", "    "))
			depth += (blanks + 1) / 2
			text = rest
			continue
		}
		rest, ok := strings.CutPrefix(text, "# ")
		if !ok || subtestLine().MatchString(text) {
			return min(depth, 2*maxDepth), text
		}
		// A remark is a level only when the protocol goes on in it.
		inner := strings.TrimLeft(rest, " ")
		for strings.HasPrefix(inner, "# ") && !subtestLine().MatchString(inner) {
			inner = strings.TrimLeft(inner[2:], " ")
		}
		if !versionLine().MatchString(inner) && !planLine().MatchString(inner) && !subtestLine().MatchString(inner) && !(numbered(inner) && (r.runner || r.begun(depth+2))) {
			return min(depth, 2*maxDepth), text
		}
		depth += 2
		text = rest
	}
}

func numbered(text string) bool {
	m := resultLine().FindStringSubmatch(text)
	return m != nil && m[2] != ""
}

// enter returns the level of that depth. Where anew is set a level that is there and has
// ended its business begins again: a second document at the same indentation.
func (r *Reader) enter(depth int, anew bool) *level {
	for len(r.open) > 0 && r.open[len(r.open)-1].depth > depth {
		r.leave("")
	}
	if n := len(r.open); n > 0 && r.open[n-1].depth == depth {
		if !anew || r.open[n-1].count == 0 {
			return r.open[n-1]
		}
		r.leave("")
	}
	l := &level{depth: depth, plan: -1}
	r.open = append(r.open, l)
	return l
}

// leave ends the innermost level; its results belong to the test of that name.
func (r *Reader) leave(parent string) {
	l := r.open[len(r.open)-1]
	r.open = r.open[:len(r.open)-1]
	name := parent
	if name == "" {
		name = l.name
	}
	results := l.waiting
	if l.plan >= 0 && l.count != l.plan && !(l.repeated && l.count == 0) {
		results = append(results, Result{Name: "plan", Verdict: event.Fail,
			Detail: fmt.Sprintf("%d results were announced, %d came", l.plan, l.count)})
	}
	for _, res := range results {
		if name != "" {
			res.Name = name + "/" + res.Name
		}
		r.deliver(res)
	}
}

// deliver hands a result to the level around it, or out.
func (r *Reader) deliver(res Result) {
	if n := len(r.open); n > 0 && r.open[n-1].depth > 0 && len(r.open[n-1].waiting) < maxWaiting {
		r.open[n-1].waiting = append(r.open[n-1].waiting, res)
		return
	}
	if r.emitted >= r.most {
		r.beyond[res.Verdict]++
		return
	}
	r.emitted++
	r.emit(r.unique(res))
}

// unique makes a second test of the same name another one.
func (r *Reader) unique(res Result) Result {
	// Names that differ only in what cannot be shown or sent are the same.
	name := event.Printable(clip(res.Name, maxName))
	res.Name = name
	for n := max(r.copies[name]+1, 2); r.seen[res.Name]; n++ {
		res.Name = fmt.Sprintf("%s (%d)", name, n)
		r.copies[name] = n
	}
	r.seen[res.Name] = true
	return res
}

func (r *Reader) plan(depth int, m []string) {
	n, err := strconv.Atoi(m[1])
	if err != nil {
		n = 1 << 30
	}
	l := r.enter(depth, false)
	if l.plan >= 0 && l.count > 0 {
		// A second program's.
		same := l.plan == n && l.count == n
		l = r.enter(depth, true)
		l.repeated = same
	}
	l.plan = n
	if n == 0 {
		l.skipped = strings.TrimSpace(m[2])
		if l.skipped == "" {
			l.skipped = "nothing to run"
		}
	}
}

func (r *Reader) result(depth int, m []string) {
	l := r.enterParent(depth)
	l.count++
	res := Result{Name: strings.TrimSpace(m[3]), Verdict: event.Pass}
	if m[1] != "" {
		res.Verdict = event.Fail
	}
	if at := directive().FindStringSubmatchIndex(res.Name); at != nil {
		word, why := strings.ToUpper(res.Name[at[2]:at[3]]), strings.TrimSpace(res.Name[at[4]:at[5]])
		res.Name = strings.TrimSpace(res.Name[:at[0]])
		res.Verdict, res.Detail = directed(res.Verdict, word, why)
	} else if at := remark().FindStringSubmatchIndex(res.Name); at != nil {
		res.Detail = res.Name[at[2]:at[3]]
		res.Name = strings.TrimSpace(res.Name[:at[0]])
	}
	if res.Name == "" {
		res.Name = m[2]
	}
	if res.Name == "" {
		res.Name = strconv.Itoa(l.count)
	}
	res.Name = clip(res.Name, maxName)
	if res.Verdict != event.Pass && res.Verdict != event.Skip {
		res.Detail = strings.TrimSpace(res.Detail + "\n" + strings.Join(r.recent[max(0, len(r.recent)-maxLines):], "\n"))
	}
	r.recent = r.recent[:0]
	// The levels below end with this line: it is their parent's.
	for r.open[len(r.open)-1] != l {
		r.leave(res.Name)
	}
	r.deliver(res)
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

// directed is the verdict under a directive.
func directed(v event.Verdict, word, why string) (event.Verdict, string) {
	if strings.HasPrefix(word, "SKIP") {
		return event.Skip, why
	}
	said := word
	if why != "" {
		said += " " + why
	}
	switch {
	case word == "TIMEOUT":
		return event.Hang, said
	case word == "XFAIL", word == "TODO" && v == event.Fail:
		return event.Skip, said
	case word == "ERROR":
		return event.Fail, said
	}
	return v, said
}

// keep remembers a line for the result that may follow.
func (r *Reader) keep(line string) {
	if len(r.recent) == 2*maxLines {
		r.recent = append(r.recent[:0], r.recent[maxLines:]...)
	}
	r.recent = append(r.recent, clip(line, maxLine))
}

// End takes the end of the output: what was announced and did not come fails.
func (r *Reader) End() {
	announced, skipped := r.bailed != "", ""
	for len(r.open) > 0 {
		l := r.open[len(r.open)-1]
		if l.depth == 0 && l.plan == 0 && l.count == 0 {
			skipped = l.skipped
		}
		if l.depth > 0 && l.count > 0 && !announced {
			// Its parent's line is missing.
			l.waiting = append(l.waiting, Result{Name: "end", Verdict: event.Fail, Detail: "the output ended before this test's own result"})
		}
		r.leave("")
	}
	if r.bailed != "" {
		r.emit(r.unique(Result{Name: "bail out", Verdict: event.Fail, Detail: r.bailed}))
	}
	if skipped != "" {
		r.emit(r.unique(Result{Name: "plan", Verdict: event.Skip, Detail: skipped}))
	}
	for _, v := range []event.Verdict{event.Fail, event.Hang, event.Skip, event.Pass} {
		if n := r.beyond[v]; n > 0 {
			r.emit(r.unique(Result{Name: "further results: " + string(v), Verdict: v, Detail: fmt.Sprintf("%d more, not listed one by one", n)}))
		}
	}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + " (cut)"
}
