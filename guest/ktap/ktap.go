// Package ktap reads the Test Anything Protocol as kernel tests speak it: KTAP
// (the kernel's Documentation/dev-tools/ktap.rst), TAP 12 to 14, and kselftest's
// runner, which puts "# " before what the tests below it print.
//
// The reader takes one line after another, so that results are known when the
// kernel dies half-way, and its memory is bounded whatever a test prints.
package ktap

import (
	"cmp"
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
	// own says that no test printed it: it is the Reader's word about what came.
	own bool
}

// The limits that bound a Reader's memory.
const (
	maxResults = 10_000
	maxOwn     = 100
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
	// versioned says that a line with TAP's or KTAP's version came.
	versioned bool
	// last is the result that the line before told, and held says that it is still to be
	// handed out: what explains it may follow.
	last *Result
	held bool
	// yaml are lines that explain last if "..." ends them, and yamlIndent what is before each.
	yaml       []string
	yamlIndent string
	// early are lines without a number that are results if a plan comes behind them.
	early []string
	// earlyPlan is an indented plan, which is one if a result follows, and its depth.
	earlyPlan []string
	earlyAt   int
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
	versionLine = pattern(`^K?TAP version \d+\s*(?:#.*)?$`)
	planLine    = pattern(`^1\.\.(\d+)\s*(?:#\s*(.*))?$`)
	resultLine  = pattern(`^(not )?ok(?:\s+(\d+)\b[-:]?)?(?:\s+|$)(?:-\s+)?(.*)$`)
	dashed      = pattern(`^(?:not )?ok\s+-\s+\S`)
	subtestLine = pattern(`^# Subtest:\s*(.+?)\s*$`)
	bailLine    = pattern(`^(?i:Bail out!)\s*(.*)$`)
	// TAP's words are in any letters, and SKIP has any end; KTAP's are words of prose as well.
	directive = pattern(`(?:^|\s)#\s*((?i:SKIP\w*|TODO)|XFAIL|TIMEOUT|ERROR)\b:?\s*(.*)$`)
	// A number may stand behind the sign as well: "fixes #12".
	remark = pattern(`\s#(?:\s+(.*)|\s*)$`)
	// What kselftest_harness.h says before its tests and before each.
	harnessLine = pattern(`^((?:# )*)# Starting \d+ tests from \d+ test cases\.$`)
	runLine     = pattern(`^((?:# )*)#\s+RUN\s+(\S.*) \.\.\.$`)
	totalsLine  = pattern(`^((?:# )*)# Totals: pass:(\d+) fail:(\d+) xfail:(\d+) xpass:(\d+) skip:(\d+) error:(\d+)$`)
	// What a terminal is told (CSI and OSC of ECMA-48), a hole in a file before a line, and what
	// the kernel's log has before each line.
	escapes = pattern(`\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|^\x00+`)
	stamp   = pattern(`^(?:<\d+>)?\[\s*(?:\d+\.\d+|\w{3} \w{3} +\d+ [\d:]+ \d{4})\](?:\[\s*[TC]\d+\])?:? ?`)
)

// pattern returns what compiles expr when it is first used: this package is linked into
// every process of a guest, and most of them read no KTAP.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// Line takes the next line, without its end.
func (r *Reader) Line(line string) {
	line = strings.TrimPrefix(strings.TrimRight(line, "\r\n"), "\ufeff")
	if strings.ContainsAny(line, "\x1b\x00") {
		line = escapes().ReplaceAllString(line, "")
	}
	// Each part stood at the beginning of the terminal's line.
	for part := range strings.SplitSeq(line, "\r") {
		if strings.HasPrefix(part, "[") || strings.HasPrefix(part, "<") {
			part = stamp().ReplaceAllString(part, "")
		}
		if !r.explains(part) {
			r.take(part)
		}
	}
}

// maxYAML bounds the lines of one explanation.
const maxYAML = 1000

// explains takes a line of YAML, between --- and ..., that explains the result before it.
// Lines that only began like that are taken for what they are.
func (r *Reader) explains(line string) bool {
	if r.yaml == nil {
		indent, ok := strings.CutSuffix(strings.TrimRight(line, " \t"), "---")
		if !ok || r.last == nil || indent == "" || strings.Trim(indent, "# \t") != "" {
			return false
		}
		r.yaml, r.yamlIndent = []string{line}, indent
		return true
	}
	text, ok := strings.CutPrefix(line, r.yamlIndent)
	if ok && strings.TrimSpace(text) == "..." {
		for _, line := range r.yaml[1:min(len(r.yaml), maxLines+1)] {
			r.explain(strings.TrimPrefix(line, r.yamlIndent))
		}
		r.yaml = nil
		return true
	}
	if (ok || strings.TrimSpace(line) == "") && len(r.yaml) < maxYAML {
		r.yaml = append(r.yaml, clip(line, maxLine))
		return true
	}
	r.noYAML()
	return false
}

// noYAML takes what had begun like YAML line by line.
func (r *Reader) noYAML() {
	lines := r.yaml
	r.yaml = nil
	for _, line := range lines {
		r.take(line)
	}
}

// explain adds a line to what is said of the last result.
func (r *Reader) explain(line string) {
	if r.last.Verdict != event.Pass && strings.Count(r.last.Detail, "\n") < 2*maxLines {
		r.last.Detail = strings.TrimSpace(r.last.Detail + "\n" + clip(line, maxLine))
	}
}

// take reads a line for what it says.
func (r *Reader) take(line string) {
	if r.last != nil && r.last.Verdict != event.Pass && !r.versioned && !r.runner && strings.HasPrefix(line, "#") && !subtestLine().MatchString(line) {
		// Perl's tests and those of bats say behind a result what was wrong; the kernel's,
		// which have a version, before it.
		r.explain(line)
		return
	}
	previous := r.last
	r.release()
	r.runner = r.runner || strings.HasPrefix(line, "# selftests: ") || strings.HasPrefix(line, "# timeout set to ")
	r.harness(line)
	if !mayMean(line) {
		r.keep(line)
		return
	}
	depth, text := r.indentation(line)
	within := ""
	if l := r.levelAt(depth); l != nil && l.running != "" && !ownResult(text, l.running) && !versionLine().MatchString(text) {
		depth, within = depth+2, l.running
	}
	// What a line begins with saves most of the patterns: a test may print a million.
	begins := func(with string) bool { return text != "" && strings.IndexByte(with, text[0]) >= 0 }
	switch {
	case begins("KT") && versionLine().MatchString(text):
		r.found, r.versioned = true, true
		r.enter(depth, true)
	case begins("1") && planLine().MatchString(text):
		m := planLine().FindStringSubmatch(text)
		if !r.found && depth > 0 {
			r.earlyPlan, r.earlyAt = m, depth
			r.keep(line)
			return
		}
		r.found = true
		r.plan(depth, m)
	case begins("#") && subtestLine().MatchString(text):
		r.found = true
		// TAP 14 has the line before the subtest, KUnit at the indentation of its results.
		if depth == 0 {
			r.enter(2, true).name = clip(subtestLine().FindStringSubmatch(text)[1], maxName)
			return
		}
		r.enter(depth, false).name = clip(subtestLine().FindStringSubmatch(text)[1], maxName)
	case begins("on") && r.isResult(depth, text):
		if !r.found && r.earlyPlan != nil && r.earlyAt == depth {
			r.plan(depth, r.earlyPlan)
		}
		r.found = true
		if within != "" {
			r.enter(depth, false).name = within
		}
		r.result(depth, resultLine().FindStringSubmatch(text))
	case begins("Bb") && bailLine().MatchString(text):
		r.found = true
		r.bailed = clip("Bail out! "+bailLine().FindStringSubmatch(text)[1], maxLine)
	case strings.TrimSpace(text) == "{" && previous != nil:
		for _, l := range r.open {
			l.block = l.block || l.depth == depth
		}
	case strings.TrimSpace(text) == "}" && r.closes(depth):
	default:
		if !r.found && depth == 0 && len(r.early) < maxWaiting && resultLine().MatchString(text) {
			r.early = append(r.early, text)
		}
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
	case 'K', 'T', '1', 'n', 'o', 'S', 'B', 'b', '{', '}':
		return true
	}
	return false
}

// isResult says whether the line is a result. Without a version or a plan before it
// only one with a number or a dash is, at the beginning of a line or below an indented plan,
// and an indented one without a number only where a test has begun: programs print "ok" as well.
func (r *Reader) isResult(depth int, text string) bool {
	m := resultLine().FindStringSubmatch(text)
	switch {
	case m == nil:
		return false
	case m[2] != "":
		return r.found || depth == 0 || r.earlyPlan != nil && r.earlyAt == depth
	case strings.TrimSpace(text) == "ok" && r.complete(depth):
		// prove(1) says so of a whole file.
		return false
	case depth == 0 && dashed().MatchString(text):
		return true
	}
	return r.found && (depth == 0 || r.begun(depth))
}

// harness takes what kselftest_harness.h says of the tests that it runs: they print results of
// their own (futex of 7.1), which its plan does not count.
func (r *Reader) harness(line string) {
	if !strings.HasPrefix(line, "# ") || !strings.HasSuffix(line, " ...") && !strings.HasSuffix(line, " test cases.") {
		return
	}
	if m := harnessLine().FindStringSubmatch(line); m != nil {
		if l := r.levelAt(len(m[1])); l != nil {
			l.harness = true
		}
	} else if m := runLine().FindStringSubmatch(line); m != nil {
		if l := r.levelAt(len(m[1])); l != nil && l.harness && l.running == "" {
			l.running = clip(m[2], maxName)
		}
	}
}

// ownResult says that a line is the result of the test that a harness has begun.
func ownResult(text, running string) bool {
	m := resultLine().FindStringSubmatch(text)
	return m != nil && (m[3] == running || strings.HasPrefix(m[3], running+" "))
}

// complete says that all that the plan of that indentation announced has come.
func (r *Reader) complete(depth int) bool {
	return slices.ContainsFunc(r.open, func(l *level) bool { return l.depth == depth && l.plan > 0 && l.count >= l.plan })
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

// deliver hands a result to the level around it, or out.
func (r *Reader) deliver(res Result) {
	if n := len(r.open); n > 0 && r.open[n-1].depth > 0 && len(r.open[n-1].waiting) < maxWaiting {
		l := r.open[n-1]
		l.waiting = append(l.waiting, res)
		r.last = &l.waiting[len(l.waiting)-1]
		return
	}
	r.release()
	most := r.most
	if res.own {
		// That a million were announced, and fewer came, is not one of those.
		most += maxOwn
	}
	if r.emitted >= most {
		r.beyond[res.Verdict]++
		return
	}
	r.emitted++
	res = r.unique(res)
	r.last, r.held = &res, res.Verdict != event.Pass
	if !r.held {
		r.emit(res)
	}
}

// release hands out the last result, which nothing explains any more.
func (r *Reader) release() {
	if r.held {
		r.emit(*r.last)
	}
	r.last, r.held = nil, false
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
	if l.plan > 0 || l.plan == 0 && l.count > 0 {
		// A second program's.
		l = r.enter(depth, true)
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
	if l.block {
		// Its brace is missing.
		r.endBlock(l)
	}
	l.number(m[2], m[0])
	said := strings.TrimSpace(m[3])
	said, block := strings.CutSuffix(said, "{")
	if block && said != "" && !strings.HasSuffix(said, " ") {
		said, block = said+"{", false
	}
	// Kselftest's word is in small letters, and before the name.
	if rest, ok := strings.CutPrefix(said, "# error "); ok {
		said = "# ERROR " + rest
	}
	verdict := event.Pass
	if m[1] != "" {
		verdict = event.Fail
	}
	res, excused, rest := parseResult(strings.TrimSpace(said), verdict)
	l.rest = rest
	if res.Name == "" || res.Name == "-" {
		res.Name = m[2]
	}
	if res.Name == "" {
		res.Name = strconv.Itoa(l.count)
	}
	res.Name = clip(res.Name, maxName)
	if below := r.open[len(r.open)-1]; below != l && below.plan == 0 && below.count == 0 && res.Verdict == event.Pass {
		// Its plan says 1..0: what has run nothing has shown nothing.
		res.Verdict, res.Detail = event.Skip, below.skipped
	}
	if res.Verdict != event.Pass && res.Verdict != event.Skip {
		said := strings.TrimSpace(strings.Join(r.recent[max(0, len(r.recent)-maxLines):], "\n"))
		if res.Detail == errorWord && said != "" {
			// What was wrong says more.
			res.Detail = ""
		}
		res.Detail = strings.TrimSpace(res.Detail + "\n" + said)
	}
	r.recent = r.recent[:0]
	// The levels below end with this line: it is their parent's.
	for r.open[len(r.open)-1] != l {
		r.leave(res.Name, excused)
	}
	l.previous, l.block, l.excused, l.running = res.Name, block, excused, ""
	r.deliver(res)
}

// parseResult takes apart what stands behind a result's number: its name, and a directive or a
// remark. Excused is a failure that is to be done, rest why a test skipped what had not run yet.
func parseResult(said string, v event.Verdict) (res Result, excused bool, rest string) {
	res = Result{Name: said, Verdict: v}
	if !strings.Contains(res.Name, "#") {
		// Neither a directive nor a remark.
	} else if at := directive().FindStringSubmatchIndex(res.Name); at != nil {
		word, why := strings.ToUpper(res.Name[at[2]:at[3]]), strings.TrimSpace(res.Name[at[4]:at[5]])
		res.Name = strings.TrimSpace(res.Name[:at[0]])
		excused = word == "TODO" && res.Verdict == event.Fail
		nameless := res.Name == "" || res.Name == "-"
		if nameless {
			// kselftest.h puts the name behind the word.
			res.Name = why
			why = ""
		}
		res.Verdict, res.Detail = directed(res.Verdict, word, why)
		if nameless && strings.HasPrefix(word, "SKIP") {
			rest = cmp.Or(res.Name, "without a reason")
		}
	} else if at := remark().FindStringSubmatchIndex(res.Name); at != nil {
		if at[2] >= 0 {
			res.Detail = res.Name[at[2]:at[3]]
		}
		res.Name = strings.TrimSpace(res.Name[:at[0]])
	}
	res.Name = strings.ReplaceAll(res.Name, `\#`, "#")
	return res, excused, rest
}

// errorWord is kselftest's for a test that could not do its work.
const errorWord = "ERROR"

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
	case word == errorWord:
		return event.Fail, said
	}
	return v, said
}

// keep remembers a line for the result that may follow, unless it counts those before. Where
// kselftest's harness begins a test, what came before is of another.
func (r *Reader) keep(line string) {
	if text := strings.TrimLeft(line, "# \t"); text != line {
		if strings.HasPrefix(text, "Totals: pass:") {
			r.total(line)
			return
		}
		if strings.HasPrefix(text, "RUN ") && strings.HasSuffix(text, " ...") {
			r.recent = r.recent[:0]
			return
		}
	}
	if len(r.recent) == 2*maxLines {
		r.recent = append(r.recent[:0], r.recent[maxLines:]...)
	}
	r.recent = append(r.recent, clip(line, maxLine))
}

// total takes what kselftest.h says at its end.
func (r *Reader) total(line string) {
	m := totalsLine().FindStringSubmatch(line)
	if m == nil {
		return
	}
	l := r.levelAt(len(m[1]))
	if l == nil {
		return
	}
	l.totals, l.failed = 0, 0
	for i, text := range m[2:] {
		// More than an int holds is no count.
		n, _ := strconv.Atoi(text)
		l.totals += n
		if i == 1 || i == 5 {
			l.failed += n
		}
	}
}

// End takes the end of the output: what was announced and did not come fails.
func (r *Reader) End() {
	r.noYAML()
	if len(r.open) > 0 && r.open[0].depth == 0 && r.open[0].plan > 0 {
		// Its plan came last. Before results with numbers, they are those whose numbers lack.
		if l := r.open[0]; l.count == 0 || l.count+len(r.early) <= l.plan && l.lowest == len(r.early)+1 {
			for i, text := range r.early {
				m := resultLine().FindStringSubmatch(text)
				m[2] = strconv.Itoa(i + 1)
				r.result(0, m)
			}
		}
	}
	r.release()
	announced, skipped := r.bailed != "", ""
	for n := len(r.open); n > 0; n = len(r.open) {
		l := r.open[n-1]
		if l.depth == 0 && l.plan == 0 && l.count == 0 {
			skipped = l.skipped
		}
		if n > 1 && l.count > 0 && !announced {
			// Its parent's line is missing, or its brace. Where nothing is around it, all
			// of the output is indented.
			l.waiting = append(l.waiting, Result{Name: "end", Verdict: event.Fail, Detail: "the output ended before this test's own result", own: true})
		}
		r.leave(r.blockAround(n-1), false)
	}
	r.release()
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
