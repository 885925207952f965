package patches

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hgMark begins each changeset that hg export prints.
const hgMark = "# HG changeset patch"

var (
	hgDate = regexp.MustCompile(`^# Date (-?\d+) (-?\d+)$`)
	// authorLine is how StGit, quilt's users and DEP-3 name an author above a diff.
	authorLine = regexp.MustCompile(`^(?:From|Author): +(.+@.+)$`)
	// describes is how a header begins that Debian's patches have (DEP-3).
	describes = regexp.MustCompile(`^(?:Description|Subject): *(.*)$`)
	dep3Field = regexp.MustCompile(`^[A-Z][A-Za-z-]+:(?: |$)`)
)

// changesets cuts a file at the marks of hg export; it returns none when the first line is
// no mark.
func changesets(data []byte) [][]byte {
	if !bytes.HasPrefix(bytes.TrimLeft(data, "\r\n"), []byte(hgMark)) {
		return nil
	}
	var all [][]byte
	for line := range bytes.Lines(data) {
		if strings.TrimRight(string(line), "\r\n") == hgMark || len(all) == 0 {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], line...)
	}
	return all
}

// describe takes from the prose above a diff what it says of author, date and subject, in
// the forms of hg export, StGit and DEP-3. Of other prose it changes nothing.
func (p *Patch) describe(prose string) {
	lines := strings.Split(strings.ReplaceAll(prose, "\r\n", "\n"), "\n")
	for len(lines) > 0 && strings.TrimSpace(lines[0]) == "" {
		lines = lines[1:]
	}
	switch {
	case len(lines) == 0:
	case strings.TrimSpace(lines[0]) == hgMark:
		p.ofHg(lines[1:])
	case describes.MatchString(lines[0]) || dep3Field.MatchString(lines[0]) && slices.ContainsFunc(lines, describes.MatchString):
		p.ofDEP3(lines)
	case len(lines) > 2 && strings.TrimSpace(lines[1]) == "" && authorLine.MatchString(lines[2]):
		p.ofStGit(lines)
	}
}

// titled takes a message whose first paragraph is the subject.
func (p *Patch) titled(message []string) {
	title, body, _ := strings.Cut(strings.Trim(strings.Join(message, "\n"), "\n"), "\n\n")
	if title = oneLine(title); title == "" {
		return
	}
	p.Subject, p.Body = title, cutBody(body)
}

func (p *Patch) ofHg(lines []string) {
	for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
		if user, ok := strings.CutPrefix(lines[0], "# User "); ok {
			p.Author, p.Email = identity(user)
		} else if m := hgDate.FindStringSubmatch(lines[0]); m != nil {
			at, _ := strconv.ParseInt(m[1], 10, 64)
			// Mercurial counts the seconds to the west.
			west, _ := strconv.Atoi(m[2])
			p.Date = time.Unix(at, 0).In(time.FixedZone("", -west))
		}
		lines = lines[1:]
	}
	p.titled(lines)
}

func (p *Patch) ofStGit(lines []string) {
	title, rest := lines[0], lines[2:]
	for len(rest) > 0 && strings.TrimSpace(rest[0]) != "" {
		if m := authorLine.FindStringSubmatch(rest[0]); m != nil {
			p.Author, p.Email = identity(m[1])
		} else if date, ok := strings.CutPrefix(rest[0], "Date: "); ok {
			p.Date, _ = parseDate(date)
		} else {
			break
		}
		rest = rest[1:]
	}
	p.titled(append([]string{title, ""}, rest...))
}

// ofDEP3 takes the first Description, of which the further lines are indented, and leaves the
// other fields where they are, below it.
func (p *Patch) ofDEP3(lines []string) {
	var title string
	var long, fields []string
	inDescription := false
	for _, line := range lines {
		line = strings.TrimRight(line, " \t")
		if line == "---" {
			break
		}
		m := describes.FindStringSubmatch(line)
		switch {
		case m != nil && title == "":
			title, inDescription = m[1], true
		case inDescription && strings.HasPrefix(line, " "):
			// A blank line is written as a dot.
			if line = line[1:]; line == "." {
				line = ""
			}
			long = append(long, line)
		default:
			inDescription = false
			if m := authorLine.FindStringSubmatch(line); m != nil && p.Email == "" {
				p.Author, p.Email = identity(m[1])
			} else {
				fields = append(fields, line)
			}
		}
	}
	p.titled(slices.Concat([]string{title, ""}, long, []string{""}, fields))
}
