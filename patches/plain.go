package patches

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	commitLine  = regexp.MustCompile(`^commit ([0-9a-f]{7,64})(?: \(.*\))?$`)
	onelineLine = regexp.MustCompile(`^([0-9a-f]{7,64}) (?:\([^)]*\) )?(\S.*)$`)
	namesCommit = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{7,40} \S.*|changeset: +\d+:[0-9a-f]{12}|r\d+ \| .* \| .* lines?)\r?\n`)
	logField    = regexp.MustCompile(`^(\w+): +(.*)$`)
)

// parsePlain reads a diff without mail headers, and what git show and git log -p
// print. Other prose above a diff becomes the body.
func parsePlain(path string, data []byte, strip int) (Series, error) {
	s := Series{Name: stem(path), Path: path}
	text := string(data)
	if first, _, _ := strings.Cut(strings.TrimLeft(text, "\r\n"), "\n"); strings.HasSuffix(first, "\r") {
		// All lines have it, and not those of a file alone.
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	commits := splitLog(text)
	if len(commits) > 0 {
		return readLog(s, commits, strip)
	}
	if line := strayCommit(data); line > 0 {
		return Series{}, fmt.Errorf("%s: a commit begins here, in an unknown form of log; print it with git log -p, git format-patch --stdout or hg export", place(path, line))
	}
	parts := changesets(data)
	if len(parts) == 0 {
		parts = [][]byte{data}
	}
	line := 1
	for _, text := range parts {
		d, err := parseDiff(text, strip)
		if err != nil {
			return Series{}, locate(path, "", line, err)
		}
		prose := toUTF8(d.prose, "")
		p := Patch{Path: path, Subject: stem(path), Body: cutBody(prose), Files: d.files, Diff: []byte(d.diff)}
		p.movedBy(line - 1)
		p.describe(prose)
		s.Patches = append(s.Patches, p)
		line += bytes.Count(text, []byte("\n"))
	}
	if len(s.Patches) > 1 {
		s.Notes = append(s.Notes, fmt.Sprintf("%d changesets of Mercurial, in the file's order", len(s.Patches)))
	}
	return s, nil
}

// strayCommit is the number of the line that names a commit between two diffs, 0 for none.
func strayCommit(data []byte) int {
	lines := strings.SplitAfter(string(data), "\n")
	stray := 0
	for i, diffs := 0, 0; i < len(lines); i++ {
		switch {
		case strings.HasPrefix(lines[i], "@@ -"):
			i = hunkEnd(lines, i) - 1
			diffs++
		case (strings.HasPrefix(lines[i], "diff ") || strings.HasPrefix(lines[i], "Index: ")) && stray > 0:
			return stray
		case diffs > 0 && stray == 0 && namesCommit.MatchString(lines[i]):
			stray = i + 1
		}
	}
	return 0
}

// movedBy tells the hunks that the patch begins so many lines further down.
func (p *Patch) movedBy(lines int) {
	for _, f := range p.Files {
		for i := range f.Hunks {
			f.Hunks[i].Line += lines
		}
	}
}

// commit is one commit of a log.
type commit struct {
	id string
	// title is set where the log has one line a commit.
	title string
	lines []string
	// line is the number of the commit's first line in the file.
	line int
}

// splitLog cuts the output of git log or git show into its commits; it returns none
// when the text is another.
func splitLog(text string) []commit {
	lines := strings.SplitAfter(text, "\n")
	var all []commit
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], "\n")
		after := func(n int) string {
			if i+n < len(lines) {
				return lines[i+n]
			}
			return ""
		}
		if m := commitLine.FindStringSubmatch(line); m != nil && slices.ContainsFunc([]string{"Author:", "Merge:", "author ", "tree "}, func(p string) bool { return strings.HasPrefix(after(1), p) }) {
			all = append(all, commit{id: m[1], line: i + 1})
		} else if m := onelineLine.FindStringSubmatch(line); m != nil && strings.HasPrefix(after(1), "diff --git ") {
			all = append(all, commit{id: m[1], title: m[2], line: i + 1})
		} else if strings.HasPrefix(line, "@@ -") {
			end := hunkEnd(lines, i)
			if len(all) > 0 {
				all[len(all)-1].lines = append(all[len(all)-1].lines, lines[i:end]...)
			}
			i = end - 1
			continue
		} else if len(all) == 0 && strings.TrimSpace(line) != "" {
			return nil
		}
		if len(all) > 0 {
			all[len(all)-1].lines = append(all[len(all)-1].lines, lines[i])
		}
	}
	return all
}

// readLog makes a series of a log's commits, oldest first.
func readLog(s Series, commits []commit, strip int) (Series, error) {
	for _, c := range commits {
		p, err := c.patch(s.Path, strip)
		if err == errNoDiff {
			if slices.ContainsFunc(c.lines, func(line string) bool { return strings.HasPrefix(line, "Merge: ") }) {
				s.Left = append(s.Left, fmt.Sprintf("commit %.12s: a merge, which changes nothing by itself", c.id))
				continue
			}
			return Series{}, fmt.Errorf("%s: commit %.12s: %w; print the log with -p", place(s.Path, c.line), c.id, errNoDiff)
		}
		if err != nil {
			return Series{}, locate(s.Path, "commit "+c.id[:min(12, len(c.id))], c.line, err)
		}
		s.Patches = append(s.Patches, p)
	}
	if len(s.Patches) == 0 {
		return Series{}, fmt.Errorf("%s: %w; it shows merges only", s.Path, errNoDiff)
	}
	if len(s.Patches) > 1 {
		newestFirst, why, err := logOrder(s.Patches)
		if err != nil {
			return Series{}, fmt.Errorf("%s: %w", s.Path, err)
		}
		how := "in the file's order"
		if newestFirst {
			slices.Reverse(s.Patches)
			how = "oldest first, unlike in the file"
		}
		s.Notes = append(s.Notes, fmt.Sprintf("%d commits, %s (%s)", len(s.Patches), how, why))
	}
	return s, nil
}

// logOrder finds out whether a log has the newest commit first: from the blobs of
// files that several commits change, else from the dates.
func logOrder(list []Patch) (newestFirst bool, why string, err error) {
	up, down := indexOrder(list)
	switch {
	case up > 0 && down > 0:
		return false, "", fmt.Errorf("the order of its commits cannot be told from their index lines; print them with git log -p or git format-patch")
	case up > 0:
		return false, "as their index lines say", nil
	case down > 0:
		return true, "as their index lines say", nil
	}
	for i, p := range list[1:] {
		before := list[i]
		if p.Date.IsZero() || before.Date.IsZero() || p.Date.Equal(before.Date) {
			continue
		}
		if p.Date.After(before.Date) {
			up++
		} else {
			down++
		}
	}
	if up > 0 && down == 0 {
		return false, "as their dates say", nil
	}
	return true, "as git log prints them", nil
}

// indexOrder counts how often a patch begins with the blob of a file that the one
// before it in the list leaves, and how often the other way round.
func indexOrder(list []Patch) (up, down int) {
	same := func(a, b string) bool {
		n := min(len(a), len(b))
		return n >= 7 && a[:n] == b[:n]
	}
	last := map[string]File{}
	for _, p := range list {
		for _, f := range p.Files {
			if before, found := last[f.Name()]; found && f.PreImage != "" {
				if same(before.PostImage, f.PreImage) {
					up++
				}
				if same(before.PreImage, f.PostImage) {
					down++
				}
			}
			last[f.Name()] = f
		}
	}
	return up, down
}

// patch reads one commit of a log.
func (c commit) patch(path string, strip int) (Patch, error) {
	d, err := parseDiff([]byte(strings.Join(c.lines, "")), strip)
	if err != nil {
		return Patch{}, err
	}
	p := Patch{Path: path, Subject: c.title, Files: d.files, Diff: []byte(d.diff)}
	p.movedBy(c.line - 1)
	var message []string
	inMessage := false
	for line := range strings.Lines(toUTF8(d.prose, "")) {
		line = strings.TrimRight(line, "\n")
		if !inMessage {
			if m := logField.FindStringSubmatch(line); m != nil {
				switch m[1] {
				case "Author":
					p.Author, p.Email = identity(m[2])
				case "Date", "AuthorDate":
					if date, ok := parseDate(m[2]); ok {
						p.Date = date
					}
				}
			}
			if rest, found := strings.CutPrefix(line, "author "); found {
				if end := strings.LastIndex(rest, ">"); end > 0 {
					p.Author, p.Email = identity(rest[:end+1])
					if date, ok := parseDate(rest[end+1:]); ok {
						p.Date = date
					}
				}
			}
			inMessage = line == ""
			continue
		}
		text, indented := strings.CutPrefix(line, "    ")
		if !indented && strings.TrimSpace(line) != "" {
			// Notes, a diffstat.
			break
		}
		message = append(message, text)
	}
	text := strings.Trim(strings.Join(message, "\n"), "\n")
	if p.Subject == "" {
		title, body, _ := strings.Cut(text, "\n\n")
		p.Subject, p.Body = oneLine(title), cutBody(body)
	}
	if p.Subject == "" {
		p.Subject = stem(path)
	}
	return p, nil
}
