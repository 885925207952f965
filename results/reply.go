package results

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"patchproof/guest/event"
	"patchproof/patches"
)

// replyWidth is how wide a line of a mail to a kernel list may be.
const replyWidth = 72

// shortHash is how much of a hash people are shown.
const shortHash = 12

// Reply is what can be pasted into a reply to the mail with the patches: what
// was tested, as facts, and what came of it, in lines of 72 columns. bench is a run
// with figures of the same kernels, nil if there is none, and may be r itself.
// tester, a name with an address, gets a Tested-by where every kernel with patches
// came out clean; note is for the person who pastes, not for the list: it says why
// there is none.
func Reply(r, bench *Run, tester string) (text, note string) {
	m := &mail{run: r, table: r.table()}
	m.facts()
	m.para("", Answer(r))
	m.matrix()
	m.differences()
	m.unexpected()
	m.knownIssues()
	m.figures(bench)
	if why := r.notClean(); why != "" {
		note = "no Tested-by: " + why
	} else if tester == "" {
		note = "no Tested-by: set git's user.name and user.email to have one"
	} else {
		// A trailer is one line, however long: tools that collect them look no further.
		fmt.Fprintf(&m.out, "Tested-by: %s\n", mailSafe.Replace(line(tester, itemLimit)))
	}
	return strings.TrimRight(m.out.String(), "\n") + "\n", note
}

// mail is a reply in the making.
type mail struct {
	run   *Run
	table table
	out   strings.Builder
}

// mailSafe replaces what Line puts where a guest's text was not fit to print, so
// that a mail needs no more than ASCII for it.
var mailSafe = strings.NewReplacer("…", "...", "\ufffd", "?")

// itemLimit is how many characters an item may have: the reason of a known issue is
// longer than a line that a guest printed.
const itemLimit = 1000

// item writes text behind lead, folded, with lead's width as the indentation.
func (m *mail) item(lead, text string) {
	indent := ansi.StringWidth(lead)
	text = mailSafe.Replace(line(text, itemLimit))
	// A path or a name without blanks is broken behind a slash or a comma first.
	lines := strings.Split(ansi.Wrap(text, replyWidth-indent, "/,"), "\n")
	for i, line := range lines {
		if i > 0 {
			lead = strings.Repeat(" ", indent)
		}
		m.out.WriteString(strings.TrimRight(lead+strings.TrimLeft(line, " "), " ") + "\n")
	}
}

// para is an item with an empty line behind it.
func (m *mail) para(lead, text string) {
	m.item(lead, text)
	m.out.WriteString("\n")
}

// kernelsWithPatches are those of the run that have any.
func (r *Run) kernelsWithPatches() []Kernel {
	return slices.DeleteFunc(slices.Clone(r.Kernels), func(k Kernel) bool { return len(k.Series) == 0 })
}

// facts says what was tested on what.
func (m *mail) facts() {
	m.para("", "patchproof built these kernels and ran each program on each, in a virtual machine of its own.")
	for _, k := range m.run.Kernels {
		title := m.table.title(column{k.Name, k.Variant})
		what := source(k)
		switch n := len(k.Series); {
		case n == 1:
			what += ", with this patch:"
		case n > 1:
			what += fmt.Sprintf(", with these %d patches:", n)
		}
		m.item(field10(clip(title, nameLimit-4)), what)
		for i, subject := range k.Series {
			m.item(fmt.Sprintf("%12d. ", i+1), subject)
		}
	}
	var configs, compilers []string
	for _, k := range m.run.Kernels {
		if k.ConfigHash != "" {
			configs = append(configs, k.Variant+", SHA-256 "+clipHash(k.ConfigHash))
		}
		compilers = append(compilers, k.Compiler)
	}
	m.item(field10("config"), either(configs))
	m.item(field10("compiler"), either(compilers))
	m.item(field10("QEMU"), fmt.Sprintf("%s, %s", m.run.QEMU, accelFact(m.run.Accel)))
	m.para(field10("run"), m.run.ID)
}

// source is what a kernel was built from, in one line.
func source(k Kernel) string {
	what := k.Pin
	if len(k.Series) == 0 && k.Commit != "" {
		what += ", commit " + clipHash(k.Commit)
	}
	if k.Tree != "" {
		what += ", tree " + clipHash(k.Tree)
	}
	if k.BuildError != "" {
		what += ", which DOES NOT BUILD"
	}
	return what
}

// accelFact says what an accelerator means for what was seen.
func accelFact(a Accel) string {
	if a.Name == "tcg" {
		return "TCG: software emulation, which hides races and says nothing about time"
	}
	return strings.ToUpper(a.Name)
}

// either gives the different ones of what the kernels have.
func either(all []string) string {
	all = slices.DeleteFunc(all, func(s string) bool { return s == "" })
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == 0 {
		return "not recorded"
	}
	return strings.Join(all, "; ")
}

func field10(name string) string { return fmt.Sprintf("%-10s ", name) }

func clipHash(s string) string { return s[:min(len(s), shortHash)] }

// clip shortens a name to n characters.
func clip(name string, n int) string {
	if runes := []rune(name); len(runes) > n {
		return string(runes[:n-3]) + "..."
	}
	return name
}

// matrix is the table of verdicts.
func (m *mail) matrix() {
	if len(m.run.Cells) == 0 {
		return
	}
	p := printer{run: m.run, table: m.table, width: replyWidth}
	p.matrix()
	m.out.WriteString(mailSafe.Replace(p.out.String()))
}

// differences lists what became worse or better with the patches. What only they
// make possible, and what passes, is counted.
func (m *mail) differences() {
	for _, k := range m.run.Kernels {
		base, ok := m.run.base(k)
		if !ok || len(m.run.Cells) == 0 {
			continue
		}
		title := m.table.title(column{k.Name, k.Variant})
		c := Compare(Side{m.run, base}, Side{m.run, k})
		// The programs' own verdicts are in the table, and the figures have their own.
		changes := slices.DeleteFunc(c.Changes, func(c Change) bool { return c.Kind != KindCheck })
		told := slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Effect == Changed })
		if len(told) == 0 {
			m.para("", fmt.Sprintf("%s: none of %d verdicts and features is worse or better than on %s.", title, c.Compared, Line(base.Name)))
			continue
		}
		m.item("", fmt.Sprintf("%s differs from %s in:", title, Line(base.Name)))
		for _, c := range told {
			m.item("  ", fmt.Sprintf("%s: %s -> %s", Line(c.What), Line(c.From), Line(c.To)))
		}
		if more := len(changes) - len(told); more > 0 {
			m.item("  ", fmt.Sprintf("and %d more, neither worse nor better", more))
		}
		m.out.WriteString("\n")
	}
}

// splatLines is how many lines of a complaint or a detail a mail gets.
const splatLines = 3

// unexpected tells of each unexpected check, and of cells that have none to blame.
func (m *mail) unexpected() {
	first := true
	for col, t := range m.table.inMood(alarm, trouble) {
		if first {
			m.para("", "Unexpected:")
			first = false
		}
		head, n := t.headline()
		m.item("  ", fmt.Sprintf("%s on %s: %s, in %d of %s", Line(head.Program), m.table.title(col), head.Verdict, n, patches.Plural(len(t), "run")))
		if head.Reason != "" {
			m.item("    ", head.Reason)
		}
		for _, c := range head.Checks {
			if !c.Expected {
				what := fmt.Sprintf("%s: %s", Line(c.Name), c.Verdict)
				if c.KnownIssue != "" {
					what += ", but its known issue says otherwise: " + c.KnownIssue
				}
				m.item("    ", what)
				m.splat(c)
			}
		}
		m.out.WriteString("\n")
	}
}

// knownIssues tells of each known issue that showed, with the kernels that have it.
func (m *mail) knownIssues() {
	issues := m.run.shownIssues(m.table)
	if len(issues) == 0 {
		return
	}
	m.para("", "Known issues, declared with the patches or the tree before this run:")
	for _, i := range issues {
		m.item("  ", fmt.Sprintf("%s, %s: %s on %s", Line(i.program), Line(i.check.Name), i.check.Verdict, patches.JoinAnd(i.kernels)))
		m.item("    ", i.check.KnownIssue)
		m.splat(i.check)
		m.out.WriteString("\n")
	}
}

// shownIssue is a known issue that showed itself, with all kernels that it did on.
type shownIssue struct {
	program string
	check   Check
	kernels []string
}

// shownIssues gathers the known issues that showed, in the order of the table.
func (r *Run) shownIssues(t table) []shownIssue {
	var issues []shownIssue
	for _, program := range t.programs {
		for _, col := range t.columns {
			for _, cell := range t.tallies[col][program] {
				for _, c := range cell.Checks {
					if !c.failedAsKnown() {
						continue
					}
					i := slices.IndexFunc(issues, func(i shownIssue) bool {
						return i.program == program && i.check.Name == c.Name && i.check.KnownIssue == c.KnownIssue
					})
					if i < 0 {
						issues = append(issues, shownIssue{program: program, check: c})
						i = len(issues) - 1
					}
					if title := t.title(col); !slices.Contains(issues[i].kernels, title) {
						issues[i].kernels = append(issues[i].kernels, title)
					}
				}
			}
		}
	}
	return issues
}

// splat writes what was seen: of a complaint of the kernel its title and the places
// in the patched source, of a check the first lines of its detail.
func (m *mail) splat(c Check) {
	for _, line := range c.excerpt() {
		m.item("      ", line)
	}
}

// excerpt is the beginning of what a check saw, a few lines fit to print.
func (c Check) excerpt() []string {
	var lines []string
	for line := range strings.Lines(c.Detail) {
		if len(lines) == splatLines || len(c.Where) > 0 && len(lines) == 1 {
			break
		}
		if line = Line(line); line != "" {
			lines = append(lines, line)
		}
	}
	places := 0
	for _, f := range c.Where {
		if f.File == "" || places == splatLines {
			continue
		}
		places++
		lines = append(lines, f.String())
	}
	return lines
}

// String is a frame as people write it: function, file:line, and whose line it is.
func (f Frame) String() string {
	text := Line(f.Function) + " " + Line(f.File)
	if f.Line > 0 {
		text += fmt.Sprintf(":%d", f.Line)
	}
	if f.Patch > 0 {
		text += fmt.Sprintf(" [patch %d]", f.Patch)
	}
	if f.Inlined {
		text += ", inlined into"
	}
	return text
}

// figures is the table of instructions per operation.
func (m *mail) figures(bench *Run) {
	if bench == nil {
		return
	}
	rows, kernels := bench.insns()
	if len(rows) == 0 {
		return
	}
	from := ""
	if bench.ID != m.run.ID {
		from = ", from run " + bench.ID + " of the same kernels"
	}
	m.item("", "Instructions per operation, not time, counted under TCG"+from+":")
	m.out.WriteString("\n")
	all := make([]int, len(kernels))
	for i := range all {
		all[i] = i
	}
	text, fits := insnsTable(rows, kernels, all)
	if !fits {
		text, _ = insnsTable(rows, kernels, []int{0, len(kernels) - 1})
	}
	m.out.WriteString(mailSafe.Replace(text) + "\n")
}

// insnsTable is a row per workload: what it needs on each of the shown kernels, and by how
// much that is more than on the first. fits says whether it is no wider than a mail.
func insnsTable(rows []insnsRow, kernels []string, shown []int) (text string, fits bool) {
	const column = 9
	grid := [][]string{{""}}
	for i, k := range shown {
		grid[0] = append(grid[0], clip(kernels[k], column))
		if i > 0 {
			grid[0] = append(grid[0], "change")
		}
	}
	for _, r := range rows {
		cells := []string{clip(r.name, nameLimit)}
		for i, k := range shown {
			cells = append(cells, clip(r.text(k), column))
			if i > 0 {
				cells = append(cells, clip(r.change(shown[0], k), column))
			}
		}
		grid = append(grid, cells)
	}
	widths := make([]int, len(grid[0]))
	for _, cells := range grid {
		for i, c := range cells {
			widths[i] = max(widths[i], width(c))
		}
	}
	fits = true
	for _, cells := range grid {
		line := fmt.Sprintf("%-*s", widths[0], cells[0])
		for i, c := range cells[1:] {
			line += fmt.Sprintf("  %*s", widths[i+1], c)
		}
		fits = fits && width(line) <= replyWidth
		text += strings.TrimRight(line, " ") + "\n"
	}
	return text, fits
}

// notClean says what keeps the patches from having been shown to be good, and
// nothing when every kernel with patches came out clean: finished, all cells as
// expected, and no failure that its base does not have as well.
func (r *Run) notClean() string {
	patched := r.kernelsWithPatches()
	if len(patched) == 0 {
		return "no patch was tested"
	}
	if r.Status != Finished {
		return "the run did not finish"
	}
	if r.Shard != nil {
		return fmt.Sprintf("the run is %s only (results merge puts them together)", r.Shard)
	}
	for _, k := range patched {
		if k.BuildError != "" {
			return k.Name + " does not build"
		}
		passed := false
		base, _ := r.base(k)
		for _, c := range r.Cells {
			if c.Kernel != k.Name || c.Variant != k.Variant {
				continue
			}
			if !c.Expected {
				return fmt.Sprintf("%s of %s on %s was not expected", c.Verdict, Line(c.Program), Line(k.Name))
			}
			for _, check := range c.Checks {
				if check.failedAsKnown() && check.Quarantine != "" {
					return fmt.Sprintf("%s failed in quarantine in %s", Line(k.Name), Line(c.Program))
				}
				if check.failedAsKnown() && !r.fails(base, c.Program, check.Name) {
					return fmt.Sprintf("%s has a known issue in %s that its base has not", Line(k.Name), Line(c.Program))
				}
			}
			passed = passed || c.Verdict == event.Pass
		}
		if !passed {
			return "no program passed on " + Line(k.Name)
		}
	}
	return ""
}

// fails says whether a check fails on a kernel, as declared.
func (r *Run) fails(k Kernel, program, check string) bool {
	return slices.ContainsFunc(r.Cells, func(c Cell) bool {
		return c.Kernel == k.Name && c.Variant == k.Variant && c.Program == program &&
			slices.ContainsFunc(c.Checks, func(ch Check) bool { return ch.Name == check && ch.failedAsKnown() })
	})
}
