package patches

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// errNoDiff means a text without a single file header: prose, a cover letter.
var errNoDiff = errors.New("there is no diff in it")

// errOtherDiff is a diff that git does not apply.
var errOtherDiff = fmt.Errorf("%w that git applies, only one of diff without -u; make it with diff -u, or with git", errNoDiff)

// otherDiff is how a hunk of diff -c, or of diff without options, begins.
var otherDiff = regexp.MustCompile(`(?m)^(?:\*{15}\r?\n\*\*\* \d|\d+(?:,\d+)?[acd]\d+(?:,\d+)?\r?\n[<>] )`)

// lineError is trouble at a line, counted from 1, of the text handed to parseDiff.
// Its caller knows where that text begins in the file.
type lineError struct {
	line int
	msg  string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.msg) }

// parsedDiff is a text split into the prose before its diff and the diff.
type parsedDiff struct {
	prose, diff string
	// files have Hunk.Line relative to the text.
	files []File
}

// parseDiff parses the diff in text. go-gitdiff knows git's syntax; what it lets
// pass but would be lost or misapplied later is refused in walk. Of its names strip folders
// go, as patch -p says.
func parseDiff(text []byte, strip int) (parsedDiff, error) {
	lines := strings.SplitAfter(string(text), "\n")
	if err := normalise(lines, strip); err != nil {
		return parsedDiff{}, err
	}
	parsed, prose, err := gitdiff.Parse(strings.NewReader(strings.Join(lines, "")))
	if err != nil {
		return parsedDiff{}, explain(err, lines)
	}
	if len(parsed) == 0 {
		if otherDiff.Match(text) {
			return parsedDiff{}, errOtherDiff
		}
		return parsedDiff{}, errNoDiff
	}
	w := walker{lines: lines}
	w.next = strings.Count(prose, "\n")
	for _, p := range parsed {
		if err := w.file(p); err != nil {
			return parsedDiff{}, err
		}
	}
	return parsedDiff{prose: prose, diff: w.diff.String(), files: w.files}, nil
}

var gitdiffError = regexp.MustCompile(`^gitdiff: line (-?\d+): (.*)$`)

// explain puts go-gitdiff's errors into the words of a person who edits a patch.
func explain(err error, lines []string) error {
	found := gitdiffError.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	line, convErr := strconv.Atoi(found[1])
	if convErr != nil {
		return err
	}
	line = min(max(line, 1), len(lines))
	msg := found[2]
	header := line
	for header > 1 && !strings.HasPrefix(lines[header-1], "@@ -") {
		header--
	}
	hunk := strings.TrimSpace(lines[header-1])
	switch {
	case strings.HasPrefix(msg, "invalid line operation"):
		msg = fmt.Sprintf("hunk %q ends here, before the lines that its header counts: it is cut short, its counts are wrong, or a mailer broke a line (%s)", hunk, msg)
	case strings.HasPrefix(msg, "fragment header miscounts"), strings.HasPrefix(msg, "no content following"):
		// go-gitdiff counts back by less than the hunk's lines when it adds and deletes.
		line = header
		msg = fmt.Sprintf("hunk %q is cut short, or the counts in its header are wrong (%s)", hunk, msg)
	case strings.HasPrefix(msg, "patch fragment without"):
		msg = "a hunk without a file name before it (" + msg + ")"
	}
	return &lineError{line, msg}
}

// emptyBlob is git's id of a file without content.
const emptyBlob = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

// walker goes over a diff's text once more, beside go-gitdiff's result, which
// knows neither line numbers nor what stood between the hunks.
type walker struct {
	lines []string
	next  int
	files []File
	// diff collects the headers and hunks, without the prose between them.
	diff strings.Builder
}

// keep moves on to line end and counts what it passes to the diff.
func (w *walker) keep(end int) {
	for _, line := range w.lines[w.next:end] {
		w.diff.WriteString(line)
	}
	w.next = end
}

func (w *walker) errorf(format string, args ...any) error {
	return &lineError{min(w.next+1, len(w.lines)), fmt.Sprintf(format, args...)}
}

func (w *walker) file(p *gitdiff.File) error {
	for !w.atFileHeader() {
		if w.next++; w.next >= len(w.lines) {
			return w.errorf("a file header is missing")
		}
	}
	f := File{
		PreImage: p.OldOIDPrefix, PostImage: p.NewOIDPrefix,
		IsNew: p.IsNew, IsDelete: p.IsDelete, IsRename: p.IsRename, IsCopy: p.IsCopy,
	}
	if err := w.names(&f, p); err != nil {
		return err
	}
	if p.IsBinary && p.BinaryFragment == nil {
		return w.errorf("%s: a binary change, which is not in the diff; make it with git diff --binary or git format-patch", f.Name())
	}
	w.header(&f)
	if f.Binary = p.IsBinary; f.Binary {
		w.binary()
	}
	says := func(prefixes ...string) bool {
		return slices.ContainsFunc(f.header, func(line string) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) })
		})
	}
	if len(p.TextFragments) == 0 && !f.Binary && (says("--- ") || !says("old mode", "new file", "deleted file", "rename ", "copy ")) {
		return w.errorf("%s: its header is not followed by a hunk", f.Name())
	}
	if f.IsDelete && len(p.TextFragments) == 0 && !f.Binary && f.PreImage != "" && !strings.HasPrefix(emptyBlob, f.PreImage) {
		return w.errorf("%s: it is deleted, and what it held is not in the diff, as git's -D leaves it out; make the diff without -D", f.Name())
	}
	for _, fragment := range p.TextFragments {
		if err := w.hunk(&f, fragment); err != nil {
			return err
		}
	}
	w.files = append(w.files, f)
	return nil
}

func (w *walker) at(i int, prefix string) bool {
	return i < len(w.lines) && strings.HasPrefix(w.lines[i], prefix)
}

func (w *walker) atFileHeader() bool {
	return w.at(w.next, "diff --git ") ||
		w.at(w.next, "--- ") && w.at(w.next+1, "+++ ") && w.at(w.next+2, "@@ -")
}

// names fills in Old and New as git am (-p1) sees them.
func (w *walker) names(f *File, p *gitdiff.File) error {
	f.Old, f.New = p.OldName, p.NewName
	if !w.at(w.next, "diff --git ") {
		// go-gitdiff leaves the first folder of a traditional diff in place.
		for _, name := range []*string{&f.Old, &f.New} {
			if *name == "" || strings.HasPrefix(*name, "/") {
				continue
			}
			_, rest, found := strings.Cut(*name, "/")
			if !found {
				return w.errorf("file name %q has no folder such as a/ in front; only diffs for patch -p1 are read", *name)
			}
			*name = rest
		}
		w.traditional(f, p)
	}
	// git takes /dev/null for a new file even without a "new file mode" line.
	if f.Old == "/dev/null" || f.IsNew {
		f.Old, f.IsNew = "", true
	}
	if f.New == "/dev/null" || f.IsDelete {
		f.New, f.IsDelete = "", true
	}
	if f.Name() == "" {
		return w.errorf("the header names no file")
	}
	for i := w.next; i < len(w.lines) && !w.at(i, "@@ -"); i++ {
		if i > w.next && w.at(i, "diff --git ") {
			break
		}
		// -p1 makes /etc/passwd an innocent etc/passwd, but nobody meant that.
		for _, prefix := range []string{"diff --git ", "--- ", "+++ "} {
			name, found := strings.CutPrefix(w.lines[i], prefix)
			name = strings.TrimPrefix(name, `"`)
			if found && strings.HasPrefix(name, "/") && strings.TrimRight(name, "\n") != "/dev/null" && !strings.HasPrefix(name, "/dev/null\t") {
				return &lineError{i + 1, fmt.Sprintf("%q is an absolute file name; a patch may only touch its tree", strings.TrimSpace(name))}
			}
		}
	}
	for _, name := range []string{f.Old, f.New} {
		if name == "" {
			continue
		}
		if why := badName(name); why != "" {
			return w.errorf("file name %q %s; a patch may only touch its tree", name, why)
		}
	}
	return nil
}

// traditional picks the one name of a file in a diff without git's headers, as git does
// (apply.c, parse_traditional_patch): the new one, unless it is the old one with
// something behind, such as .new. A hunk that begins with nothing creates the file.
func (w *walker) traditional(f *File, p *gitdiff.File) {
	if len(p.TextFragments) == 1 {
		first := p.TextFragments[0]
		f.IsNew = f.IsNew || f.Old != "/dev/null" && first.OldPosition == 0 && first.OldLines == 0
	}
	if old := base(nameOf(w.lines[w.next])); !f.IsNew && !f.IsDelete && f.New != "" && strings.HasPrefix(f.New, old) {
		f.Old, f.New = old, old
	}
}

// badName says what is wrong with a name, after git's verify_path: no absolute
// name, no "..", nothing inside .git.
func badName(name string) string {
	if strings.HasPrefix(name, "/") {
		return "is absolute"
	}
	if strings.ContainsAny(name, "\x00\n\r") {
		return "holds a control character"
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return fmt.Sprintf("has %q as a part", part)
		case strings.EqualFold(part, ".git"):
			return "leads into git's own folder"
		}
	}
	return ""
}

// extended are the header lines that may follow "diff --git" (git-diff(1),
// "Generating patch text with -p").
var extended = []string{
	"old mode ", "new mode ", "deleted file mode ", "new file mode ", "copy from ", "copy to ", "rename from ", "rename to ",
	"rename old ", "rename new ", "similarity index ", "dissimilarity index ", "index ", "--- ", "+++ ",
}

// header takes the file's header lines. A traditional diff gets the ones git
// would have written, so that its id does not depend on the tool or on time stamps.
func (w *walker) header(f *File) {
	if !w.at(w.next, "diff --git ") {
		w.next += 2
		from, to := "a/"+f.Old, "b/"+f.New
		f.header = []string{"diff --git a/" + f.Name() + " b/" + f.Name(), "--- " + from, "+++ " + to}
		if f.IsNew {
			f.header = []string{f.header[0], "new file mode 100644", "--- /dev/null", "+++ " + to}
		}
		if f.IsDelete {
			f.header = []string{f.header[0], "deleted file mode 100644", "--- " + from, "+++ /dev/null"}
		}
		// git reads the same change from them, whatever the names and time stamps were.
		w.diff.WriteString(strings.Join(f.header, "\n") + "\n")
		return
	}
	end := w.next + 1
	for slices.ContainsFunc(extended, func(prefix string) bool { return w.at(end, prefix) }) {
		end++
	}
	f.header = w.lines[w.next:end]
	w.keep(end)
}

func (w *walker) hunk(f *File, p *gitdiff.TextFragment) error {
	number := len(f.Hunks) + 1
	for !w.at(w.next, "@@ -") {
		if w.next++; w.next >= len(w.lines) {
			return w.errorf("%s: the header of hunk %d is missing", f.Name(), number)
		}
	}
	err := p.Validate()
	if err == nil && (p.OldPosition < 0 || p.NewPosition < 0 || p.OldLines < 0 || p.NewLines < 0) {
		err = errors.New("negative numbers")
	}
	if err == nil && (f.IsNew && p.OldLines > 0 || f.IsDelete && p.NewLines > 0) {
		err = errors.New("the header creates or deletes the file, but the hunk keeps lines")
	}
	if err != nil {
		return w.errorf("%s, hunk %d: %v", f.Name(), number, err)
	}
	// A hunk without context is a whole file's, or one of -U0. What that only adds git am
	// puts at the end of the file, without a word.
	if p.LinesAdded+p.LinesDeleted == int64(len(p.Lines)) && max(p.OldPosition, p.NewPosition) > 1 {
		return w.errorf("%s, hunk %d: it has no context, as git's -U0 makes it, so git am cannot tell where it belongs; "+
			"make the diff again without -U0 (and without diff.context=0 in git's configuration)", f.Name(), number)
	}
	f.Hunks = append(f.Hunks, Hunk{
		Header:   strings.TrimSpace(w.lines[w.next]),
		OldStart: int(p.OldPosition), OldLines: int(p.OldLines),
		NewStart: int(p.NewPosition), NewLines: int(p.NewLines),
		Lines: p.Lines, Line: w.next + 1,
	})
	end := w.next + 1
	for range p.Lines {
		for w.at(end, `\`) {
			end++
		}
		end++
	}
	for w.at(end, `\ `) {
		end++
	}
	w.keep(end)
	return w.afterHunk(f, p)
}

// binary keeps the blocks of a binary patch: for the change and for its reverse.
func (w *walker) binary() {
	for w.next < len(w.lines) && !w.at(w.next, "GIT binary patch") {
		w.next++
	}
	end := w.next + 1
	for w.at(end, "literal ") || w.at(end, "delta ") {
		for end < len(w.lines) && strings.TrimSpace(w.lines[end]) != "" {
			end++
		}
		if end < len(w.lines) {
			end++
		}
	}
	w.keep(min(end, len(w.lines)))
	if !strings.HasSuffix(w.diff.String(), "\n\n") {
		// git wants the blank line that ends a block.
		w.diff.WriteByte('\n')
	}
}

// afterHunk looks at what follows the lines that a hunk's header counts. git drops
// it without a word, so a count that is too small would lose a part of the change,
// and one that is too large takes in the mail's signature.
func (w *walker) afterHunk(f *File, p *gitdiff.TextFragment) error {
	where := fmt.Sprintf("%s, hunk %d", f.Name(), len(f.Hunks))
	last := p.Lines[len(p.Lines)-1]
	follows := w.at(w.next, "@@ -") || w.at(w.next, "diff ") || w.atFileHeader()
	if last.Op == gitdiff.OpDelete && last.Line == "- \n" && !follows {
		w.next--
		return w.errorf("%s: its @@ header counts more lines than it has: the last would be the mail's signature", where)
	}
	if follows {
		return nil
	}
	// Lost are lines that look like a hunk's, directly or behind blank ones.
	blank := false
	for i := w.next; i < len(w.lines); i++ {
		line := strings.TrimRight(w.lines[i], " \t\r\n")
		switch {
		case line == "":
			blank = true
			continue
		case line == "--" || line == "---" || strings.HasPrefix(line, "--- ") || strings.HasPrefix(w.lines[i], "-- "):
			return nil
		case line[0] == '\t' || line[0] == ' ' && blank:
			return nil
		case blank && strings.HasPrefix(line, "- ") && w.onlySignature(i+1):
			// A person's name below the patch.
			return nil
		case line[0] == '+' || line[0] == '-' || line[0] == ' ':
			return &lineError{i + 1, where + ": its @@ header counts fewer lines than follow it; from here on they would be lost"}
		}
		return nil
	}
	return nil
}

// onlySignature says that nothing but blank lines or a signature follows.
func (w *walker) onlySignature(i int) bool {
	for ; i < len(w.lines); i++ {
		if strings.HasPrefix(w.lines[i], "-- ") {
			return true
		}
		if strings.TrimSpace(w.lines[i]) != "" {
			return false
		}
	}
	return true
}
