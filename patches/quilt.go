package patches

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"patchproof/patches/subjects"
	"path/filepath"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// readQuilt reads a folder as quilt(1) keeps it: a file named series that lists
// the patches, one on a line, with # comments.
func readQuilt(dir string) (Series, error) {
	list := filepath.Join(dir, "series")
	data, err := readFile(list)
	if err != nil {
		return Series{}, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Series{}, err
	}
	s := Series{Name: filepath.Base(abs), Path: dir}
	seen := map[string]int{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		name, strip, reverse, err := seriesLine(line)
		if err != nil {
			return Series{}, fmt.Errorf("%s:%d: %w", list, number, err)
		}
		if name == "" {
			continue
		}
		if before := seen[name]; before > 0 {
			return Series{}, fmt.Errorf("%s:%d: %s is listed on line %d already", list, number, name, before)
		}
		seen[name] = number
		p, err := readOne(filepath.Join(dir, filepath.FromSlash(name)), strip)
		if err == nil && reverse {
			p, err = p.reversed()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return Series{}, fmt.Errorf("%s:%d: there is no file %s in the folder", list, number, name)
		}
		if err != nil {
			return Series{}, fmt.Errorf("%s:%d: %w", list, number, err)
		}
		s.Patches = append(s.Patches, p)
	}
	if len(s.Patches) == 0 {
		return Series{}, fmt.Errorf("%s: lists no patch", list)
	}
	if s.Known, err = subjects.ReadKnownIssues(filepath.Join(dir, subjects.KnownIssuesFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Series{}, err
	}
	return s, nil
}

// seriesLine takes a line of a series file apart; name is empty for a comment.
func seriesLine(line string) (name string, strip int, reverse bool, err error) {
	words := strings.Fields(line)
	for i, word := range words {
		if strings.HasPrefix(word, "#") {
			words = words[:i]
			break
		}
	}
	strip = autoStrip
	if len(words) == 0 {
		return "", strip, false, nil
	}
	if strings.ContainsAny(words[0][:1], "+-") {
		return "", strip, false, fmt.Errorf("the line begins with %s, where the name of a patch is expected; options come after it, and guards of series.conf are not known", words[0])
	}
	options := words[1:]
	for i := 0; i < len(options); i++ {
		option := options[i]
		if option == "-p" && i+1 < len(options) {
			i++
			option += options[i]
		}
		switch option {
		case "-p0":
			strip = 0
		case "-p1", "-pab":
			strip = 1
		case "-R", "--reverse":
			reverse = true
		default:
			return "", strip, false, fmt.Errorf("option %s of %s is not supported; -p0, -p1 and -R are", option, words[0])
		}
	}
	if why := badName(words[0]); why != "" {
		return "", strip, false, fmt.Errorf("patch name %q %s", words[0], why)
	}
	return words[0], strip, reverse, nil
}

// readOne reads a file that must hold a single patch, as quilt's do; what number it
// has in a series of mails does not matter.
func readOne(path string, strip int) (Patch, error) {
	data, err := readFile(path)
	if err != nil {
		return Patch{}, err
	}
	letters := split(data)
	if len(letters) == 0 {
		s, err := parsePlain(path, data, strip)
		if err != nil {
			return Patch{}, err
		}
		if len(s.Patches) > 1 {
			return Patch{}, fmt.Errorf("%s: holds %d patches; a file of a quilt series holds one", path, len(s.Patches))
		}
		return s.Patches[0], nil
	}
	var found []message
	for i, l := range letters {
		l.flat = strip == 0
		found = append(found, l.read(path, i+1)...)
	}
	if len(found) > 1 {
		return Patch{}, fmt.Errorf("%s: holds %d patches; a file of a quilt series holds one", path, len(found))
	}
	return found[0].patch, found[0].err
}

// reversed is the patch that takes the change back, for quilt's -R.
func (p Patch) reversed() (Patch, error) {
	var text strings.Builder
	for _, f := range p.Files {
		if f.IsRename || f.IsCopy || f.Binary || len(f.Hunks) == 0 {
			return Patch{}, fmt.Errorf("%s: %s: only changes of text can be reversed (-R)", p.Path, f.Name())
		}
		name := f.Name()
		old, new := "a/"+name, "b/"+name
		fmt.Fprintf(&text, "diff --git a/%s b/%s\n", name, name)
		if f.IsNew {
			text.WriteString("deleted file mode 100644\n")
			new = "/dev/null"
		}
		if f.IsDelete {
			text.WriteString("new file mode 100644\n")
			old = "/dev/null"
		}
		fmt.Fprintf(&text, "--- %s\n+++ %s\n", old, new)
		for _, h := range f.Hunks {
			fmt.Fprintf(&text, "@@ -%d,%d +%d,%d @@\n", h.NewStart, h.NewLines, h.OldStart, h.OldLines)
			for _, line := range h.Lines {
				switch line.Op {
				case gitdiff.OpAdd:
					line.Op = gitdiff.OpDelete
				case gitdiff.OpDelete:
					line.Op = gitdiff.OpAdd
				}
				text.WriteString(line.String())
				if line.NoEOL() {
					text.WriteString("\n\\ No newline at end of file\n")
				}
			}
		}
	}
	d, err := parseDiff([]byte(text.String()), 1)
	if err != nil {
		return Patch{}, locate(p.Path, "reversed", 0, err)
	}
	p.Subject, p.Files, p.Diff = "Revert: "+p.Subject, d.files, []byte(d.diff)
	return p, nil
}
