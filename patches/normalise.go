package patches

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// autoStrip leaves it to the diff's own names whether they begin with a/ and b/.
const autoStrip = -1

// topFolders are the kernel's own, by which a name without a/ is known.
var topFolders = strings.Fields("arch block certs crypto Documentation drivers fs include init io_uring ipc kernel lib LICENSES mm net " +
	"rust samples scripts security sound tools usr virt")

var topFiles = strings.Fields("Makefile Kbuild Kconfig MAINTAINERS README COPYING CREDITS")

var (
	hunkHeader = regexp.MustCompile(`^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@`)
	// lostFile are diff's lines for a file whose change it does not show.
	lostFile = regexp.MustCompile(`^(?:Binary f|F)iles (\S+) and (\S+) differ$|^Only in ([^:]+): (.+)$|^File (\S+) is a .+ while file \S+ is a .+$`)
	combined = regexp.MustCompile(`^diff --(?:cc|combined) (.+)$`)
)

// outline is where a text has its file headers.
type outline struct {
	// git and plain are the indexes of "diff --git" lines and of "---" lines without one.
	git, plain []int
	// other holds the lines outside of headers and hunks, after the first of them or,
	// where there is none, all.
	other []int
}

// outlineOf goes through a text; a hunk's lines count by its header, so that a
// deleted "-- a" is no header.
func outlineOf(lines []string) outline {
	var o outline
	inGit := false
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], "\r\n")
		switch {
		case strings.HasPrefix(line, "diff --git "):
			o.git = append(o.git, i)
			inGit = true
		case strings.HasPrefix(line, "--- ") && i+1 < len(lines) && strings.HasPrefix(lines[i+1], "+++ ") && (inGit || hunkAt(lines, i+2)):
			// Without a hunk it is prose: strace writes --- and +++ as well.
			if !inGit {
				o.plain = append(o.plain, i)
			}
			i++
		case strings.HasPrefix(line, "@@ -"):
			inGit = false
			i = hunkEnd(lines, i) - 1
		case line == "GIT binary patch":
			inGit = false
		case line == "":
			inGit = false
			o.other = append(o.other, i)
		default:
			o.other = append(o.other, i)
		}
	}
	return o
}

func hunkAt(lines []string, i int) bool { return i < len(lines) && strings.HasPrefix(lines[i], "@@ -") }

// hunkEnd gives the index behind the lines that the hunk at i counts.
func hunkEnd(lines []string, i int) int {
	m := hunkHeader.FindStringSubmatch(lines[i])
	i++
	if m == nil {
		return i
	}
	size := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 1
		}
		return n
	}
	before, after := size(m[1]), size(m[2])
	for i < len(lines) && (before > 0 || after > 0) && lines[i] != "" {
		switch lines[i][0] {
		case ' ', '\n', '\r':
			before, after = before-1, after-1
		case '-':
			before--
		case '+':
			after--
		case '\\':
		default:
			return i
		}
		i++
	}
	return i
}

// normalise makes of a diff what git am -p1 understands, line by line, so that
// line numbers stay: names get the a/ and b/ that they lack, and line ends that a
// mailer has made CR LF become LF. It refuses what would be lost on the way.
func normalise(lines []string, strip int) error {
	o := outlineOf(lines)
	if err := lineEnds(lines, o); err != nil {
		return err
	}
	if err := lost(lines, o); err != nil {
		return err
	}
	for _, i := range o.git {
		if err := gitNames(lines, i, strip); err != nil {
			return err
		}
	}
	return plainNames(lines, o, strip)
}

// lineEnds strips the CR of every line, when the diff's own header lines have one:
// a mailer or an editor did that. A file that has CR LF itself has it in hunks alone.
func lineEnds(lines []string, o outline) error {
	heads := slices.Concat(o.git, o.plain)
	with := 0
	for _, i := range heads {
		if strings.HasSuffix(lines[i], "\r\n") {
			with++
		}
	}
	if with == 0 {
		return nil
	}
	if with < len(heads) {
		return &lineError{heads[0] + 1, "some of the diff's header lines end in CR LF and some do not: an editor has mixed the line ends; save the mail's raw text again"}
	}
	for i, line := range lines {
		if text, found := strings.CutSuffix(line, "\r\n"); found {
			lines[i] = text + "\n"
		}
	}
	return nil
}

// lost refuses a diff that says itself that a part of the change is not in it.
func lost(lines []string, o outline) error {
	if len(o.git)+len(o.plain) == 0 {
		return nil
	}
	roots := rootsOf(lines, o)
	for _, i := range o.other {
		line := strings.TrimRight(lines[i], " \r\n")
		if roots != nil && !strings.HasPrefix(line, "diff ") && !strings.HasPrefix(line, "Common subdirectories: ") && roots.MatchString(line) && lostFile.FindString(line) == "" {
			return &lineError{i + 1, fmt.Sprintf("%q: a file whose change is not in the diff; make it with LC_ALL=C diff -ruN, or with git", line)}
		}
		if m := combined.FindStringSubmatch(line); m != nil {
			return &lineError{i + 1, fmt.Sprintf("a merge's combined diff of %s, which cannot be applied; show the commits that it merges, or diff it with its first parent", m[1])}
		}
		m := lostFile.FindStringSubmatch(line)
		if m == nil || headed(lines, i) {
			continue
		}
		switch {
		case m[2] != "":
			return &lineError{i + 1, fmt.Sprintf("the change of %s is not in the diff (%s); make it with git diff --binary", base(m[2]), line)}
		case m[4] != "":
			return &lineError{i + 1, fmt.Sprintf("%s is not in the diff (%s); make it with diff -N, or with git", m[4], line)}
		}
		return &lineError{i + 1, fmt.Sprintf("the change of %s is not in the diff (%s)", m[5], line)}
	}
	return nil
}

var (
	// compareLine is what diff -r writes above the diff of two files.
	compareLine = regexp.MustCompile(`^diff (?:-\S+ )+(\S+) (\S+)\s*$`)
	recursive   = regexp.MustCompile(`^diff (?:\S+ )*?(?:-[A-Za-z]*r[A-Za-z]*|--recursive) `)
)

// rootsOf matches what diff -r says of files that it does not show, in the language of who ran
// it: "Only in linux: x", with one of the two folders that it compared, or "Binary files
// linux.orig/x and linux/x differ"; nil where it was not used.
func rootsOf(lines []string, o outline) *regexp.Regexp {
	for _, i := range o.other {
		m := compareLine.FindStringSubmatch(lines[i])
		if m == nil || !recursive.MatchString(lines[i]) {
			continue
		}
		old, _, _ := strings.Cut(m[1], "/")
		new, _, _ := strings.Cut(m[2], "/")
		old, new = regexp.QuoteMeta(old), regexp.QuoteMeta(new)
		return regexp.MustCompile(`^(?:\S+ ){0,4}(?:` + old + `|` + new + `)(?:/[^:]*)?: \S+$|(?:^|\s)` + old + `/.*\s` + new + `/`)
	}
	return nil
}

// headed says whether line i belongs to a header of git's, whose file names it.
func headed(lines []string, i int) bool {
	for i--; i >= 0 && strings.TrimSpace(lines[i]) != ""; i-- {
		if strings.HasPrefix(lines[i], "diff --git ") {
			return true
		}
		if strings.HasPrefix(lines[i], "@@ -") {
			return false
		}
	}
	return false
}

// base takes the first folder off a name.
func base(name string) string {
	if _, rest, found := strings.Cut(name, "/"); found {
		return rest
	}
	return name
}

// gitNames mends the header at i if it was made with diff.noprefix.
func gitNames(lines []string, i, strip int) error {
	rest := strings.TrimRight(strings.TrimPrefix(lines[i], "diff --git "), " \r\n")
	old, new, found := twoNames(rest)
	_, moved := movedFrom(lines, i)
	one := base(old) == base(new) || moved || strings.HasPrefix(old, `"`) != strings.HasPrefix(new, `"`)
	if how := mailers(lines, i); how != "" && !(found && one) {
		return &lineError{i + 1, fmt.Sprintf("the line %q was %s by a mailer; save the patch as it was sent", strings.TrimSpace(lines[i]), how)}
	}
	if !found {
		return nil
	}
	if strip != 0 && !one {
		return &lineError{i + 1, fmt.Sprintf("%q names two files and moves none, so it cannot be told which is meant; make the diff with git's own a/ and b/", strings.TrimSpace(lines[i]))}
	}
	if strip != 0 && !bare(lines, i, old, new) {
		return nil
	}
	lines[i] = "diff --git " + prefixed("a/", old) + " " + prefixed("b/", new) + "\n"
	for j := i + 1; j < len(lines) && !strings.HasPrefix(lines[j], "@@ -") && !strings.HasPrefix(lines[j], "diff --git "); j++ {
		for mark, prefix := range map[string]string{"--- ": "a/", "+++ ": "b/"} {
			name, found := strings.CutPrefix(lines[j], mark)
			if found && !strings.HasPrefix(name, "/dev/null") {
				lines[j] = mark + prefixed(prefix, name)
			}
		}
		if strings.HasPrefix(lines[j], "+++ ") {
			break
		}
	}
	return nil
}

// mailers says what a mailer did to the header line at i, from which the file's names cannot be
// told; empty for nothing.
func mailers(lines []string, i int) string {
	line := strings.TrimSpace(lines[i])
	if slices.ContainsFunc(extended, func(p string) bool { return strings.Contains(line, " "+p) }) {
		return "joined with the next one"
	}
	next := ""
	if i+1 < len(lines) {
		next = strings.TrimSpace(lines[i+1])
	}
	if next != "" && !slices.ContainsFunc(extended, func(p string) bool { return strings.HasPrefix(next, p) }) ||
		!strings.Contains(strings.TrimPrefix(line, "diff --git "), " ") {
		return "broken in two"
	}
	return ""
}

// prefixed puts a/ or b/ before a name, which may be quoted.
func prefixed(prefix, name string) string {
	if rest, quoted := strings.CutPrefix(name, `"`); quoted {
		return `"` + prefix + rest
	}
	return prefix + name
}

// twoNames splits what follows "diff --git". Names may hold spaces; both are of the
// same file, or a rename's lines tell.
func twoNames(s string) (old, new string, found bool) {
	if strings.HasPrefix(s, `"`) {
		if end := strings.Index(s[1:], `" `); end >= 0 {
			return s[:end+2], strings.TrimLeft(s[end+2:], " "), true
		}
		return "", "", false
	}
	if i := strings.Index(s, ` "`); i > 0 {
		return s[:i], s[i+1:], true
	}
	// The split that leaves the same name on both sides, else the first one.
	first := -1
	for i := 1; i < len(s)-1; i++ {
		if s[i] != ' ' && s[i] != '\t' {
			continue
		}
		if first < 0 {
			first = i
		}
		if s[:i] == s[i+1:] || base(s[:i]) == base(s[i+1:]) && strings.Contains(s[:i], "/") {
			return s[:i], s[i+1:], true
		}
	}
	if first < 0 {
		return "", "", false
	}
	return s[:first], s[first+1:], true
}

// movedFrom is the name that a header of git's renames or copies a file from, if it does.
func movedFrom(lines []string, i int) (name string, moved bool) {
	for j := i + 1; j < len(lines) && !strings.HasPrefix(lines[j], "diff --git ") && !strings.HasPrefix(lines[j], "@@ -"); j++ {
		for _, mark := range []string{"rename from ", "copy from "} {
			if name, found := strings.CutPrefix(lines[j], mark); found {
				return strings.TrimRight(name, "\r\n"), true
			}
		}
	}
	return "", false
}

// bare says whether a header of git's has names without a/ and b/.
func bare(lines []string, i int, old, new string) bool {
	if name, moved := movedFrom(lines, i); moved {
		return name == old
	}
	// git's two prefixes differ, so that the same name twice is the file's; but for a/ or b/
	// before a folder of the kernel's, which somebody put there.
	folder, rest, _ := strings.Cut(strings.Trim(old, `"`), "/")
	top, _, nested := strings.Cut(rest, "/")
	prefixed := (folder == "a" || folder == "b") && (nested && slices.Contains(topFolders, top) || slices.Contains(topFiles, rest))
	return old == new && !prefixed
}

// plainNames gives the names of a diff without git's headers a folder to strip, if
// they lack one.
func plainNames(lines []string, o outline, strip int) error {
	if len(o.plain) == 0 {
		return nil
	}
	if strip == autoStrip {
		dropDots(lines, o)
		var err error
		if strip, err = guessStrip(lines, o); err != nil {
			return err
		}
	}
	if strip != 0 {
		return nil
	}
	for _, i := range o.plain {
		for j, prefix := range []string{"a/", "b/"} {
			mark := lines[i+j][:4]
			if name := lines[i+j][4:]; !strings.HasPrefix(name, "/") {
				lines[i+j] = mark + prefixed(prefix, name)
			}
		}
	}
	return nil
}

// dropDots takes the ./ off the names of two folders, which diff -r ./linux.orig ./linux puts
// before them.
func dropDots(lines []string, o outline) {
	for _, i := range o.plain {
		if old, new := nameOf(lines[i]), nameOf(lines[i+1]); old != new && strings.HasPrefix(old, "./") && strings.HasPrefix(new, "./") {
			for _, j := range []int{i, i + 1} {
				lines[j] = lines[j][:4] + strings.TrimPrefix(strings.TrimLeft(lines[j][4:], " "), "./")
			}
		}
	}
}

// guessStrip tells patch -p0 from -p1. Different first folders, linux.orig/ and
// linux/, are there to be stripped; the same name twice that begins with a folder
// of the kernel's is the name itself.
func guessStrip(lines []string, o outline) (int, error) {
	undecided := 1
	for _, i := range o.plain {
		old, new := nameOf(lines[i]), nameOf(lines[i+1])
		name := new
		if name == "/dev/null" {
			name = old
		}
		folder, rest, nested := strings.Cut(name, "/")
		top := nested && slices.Contains(topFolders, folder) || !nested && slices.Contains(topFiles, name)
		below, _, _ := strings.Cut(rest, "/")
		marked := folder == "a" || folder == "b" || slices.Contains(topFolders, below) && !top
		switch {
		case strings.HasPrefix(old, "/") && old != "/dev/null" || strings.HasPrefix(new, "/") && new != "/dev/null":
			return 1, nil
		case old == "/dev/null" || new == "/dev/null":
			if top {
				undecided = 0
			}
		case old != new && nested && base(old) == base(new):
			return 1, nil
		case top || indexed(lines, i, name):
			return 0, nil
		case marked:
			return 1, nil
		case !nested:
			return 0, &lineError{i + 1, fmt.Sprintf("file name %q has no folder such as a/ in front, so it cannot be told where in the tree it is; make the diff at the top of the tree", name)}
		default:
			return 0, &lineError{i + 1, fmt.Sprintf("the same name %q on both sides: it cannot be told whether %s/ belongs to it (patch -p0 or -p1); make the diff with git", name, folder)}
		}
	}
	return undecided, nil
}

// indexed says whether an Index: line above, of CVS, Subversion or quilt, has the name.
func indexed(lines []string, i int, name string) bool {
	for j := i - 1; j >= max(0, i-6) && !strings.HasPrefix(lines[j], "+") && !strings.HasPrefix(lines[j], " "); j-- {
		if strings.TrimSpace(strings.TrimPrefix(lines[j], "Index: ")) == name {
			return true
		}
	}
	return false
}

// nameOf is the file name of a "---" or "+++" line, without its time stamp.
func nameOf(line string) string {
	name, _, _ := strings.Cut(strings.TrimRight(line[4:], "\r\n"), "\t")
	return strings.TrimSpace(name)
}
