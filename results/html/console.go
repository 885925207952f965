package html

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"patchproof/patches/regular"
	"patchproof/patches/subjects"
	"patchproof/results"
)

const (
	// consoleHead and consoleTail bound what a page holds of one console, in bytes;
	// longestLine bounds a line of it.
	consoleHead = 48 << 10
	consoleTail = 96 << 10
	longestLine = 2000
)

// console is a console log as the page shows it.
type console struct {
	// Path is the log's, inside the run's folder.
	Path   string
	Chunks []chunk
	// Note says why some of it, or all, is not here.
	Note string
	// Splats counts the complaints of the kernel in it.
	Splats int
}

// chunk is some lines of a console: ordinary ones, or one line of a splat with
// the places of the source that it names.
type chunk struct {
	Text  string
	Splat bool
	// Anchor and Number are set where a complaint begins.
	Anchor string
	Number int
	Where  []string
}

// readConsole reads a cell's log, and marks in it what the cell's checks are about.
func readConsole(dir string, c results.Cell, id string, series []string) console {
	view := console{Path: c.Console}
	if c.Console == "" {
		view.Note = "There is no console log of this cell."
		return view
	}
	head, tail, left, err := readEnds(dir, c.Console)
	if err != nil {
		view.Note = "The console log cannot be read: " + err.Error()
		return view
	}
	marks := splatLines(c.Checks, series)
	add := func(text string) {
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			line = clip(line)
			mark, splat := marks[line]
			if !splat {
				if n := len(view.Chunks); n > 0 && !view.Chunks[n-1].Splat {
					view.Chunks[n-1].Text += line + "\n"
				} else {
					view.Chunks = append(view.Chunks, chunk{Text: line + "\n"})
				}
				continue
			}
			piece := chunk{Text: line, Splat: true, Where: mark.where}
			if mark.first {
				view.Splats++
				piece.Number, piece.Anchor = view.Splats, fmt.Sprintf("%s-splat-%d", id, view.Splats)
			}
			view.Chunks = append(view.Chunks, piece)
		}
	}
	add(head)
	if left > 0 {
		view.Note = fmt.Sprintf("%s in the middle are left out here; the log has everything.", humanize.IBytes(uint64(left)))
		add(fmt.Sprintf("\n(%s left out here, see %s)\n", humanize.IBytes(uint64(left)), c.Console))
		add(tail)
	}
	return view
}

// readEnds reads the beginning and the end of a log and says how many bytes lie between.
func readEnds(dir, path string) (head, tail string, left int64, err error) {
	// A link in the run's folder must not lead out of it.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", "", 0, err
	}
	defer root.Close()
	f, err := regular.OpenIn(root, path)
	if err != nil {
		return "", "", 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", "", 0, err
	}
	if info.Size() <= consoleHead+consoleTail {
		text, err := io.ReadAll(io.LimitReader(f, consoleHead+consoleTail))
		return string(text), "", 0, err
	}
	buf := make([]byte, consoleHead+consoleTail)
	if _, err := io.ReadFull(f, buf[:consoleHead]); err != nil {
		return "", "", 0, err
	}
	if _, err := f.ReadAt(buf[consoleHead:], info.Size()-consoleTail); err != nil && err != io.EOF {
		return "", "", 0, err
	}
	return string(buf[:consoleHead]), string(buf[consoleHead:]), info.Size() - consoleHead - consoleTail, nil
}

// clip shortens a line that nobody could read.
func clip(line string) string {
	line = strings.TrimSuffix(line, "\r")
	if len(line) <= longestLine {
		return line
	}
	return fmt.Sprintf("%s… (%s more on this line)", strings.ToValidUTF8(line[:longestLine], "\ufffd"), humanize.IBytes(uint64(len(line)-longestLine)))
}

var (
	stamped = regexp.MustCompile(`^.*\[ *\d+\.\d{6}\]`)
	address = regexp.MustCompile(`(\? )?\b([A-Za-z_]\w*)[\w.]*\+0x[0-9a-f]+/0x[0-9a-f]+`)
)

// mark is what is known of a line of a complaint: that the complaint begins with
// it, and the places of the source that it names.
type mark struct {
	first bool
	where []string
}

// splatLines gives the lines of the log that belong to the kernel's complaints,
// with the places of the source that the check of each found.
func splatLines(checks []results.Check, series []string) map[string]mark {
	lines := map[string]mark{}
	for _, c := range checks {
		if !subjects.IsConsole(c.Name) {
			continue
		}
		frames, first := c.Where, true
		for line := range strings.Lines(c.Detail) {
			line = clip(strings.TrimSuffix(line, "\n"))
			if !stamped.MatchString(line) {
				continue
			}
			if _, ok := lines[line]; ok {
				continue
			}
			found := mark{first: first}
			first = false
			if m := address.FindStringSubmatch(line); m != nil && m[1] == "" {
				found.where, frames = places(frames, m[2], series)
			}
			lines[line] = found
		}
	}
	return lines
}

// places takes the frames of the first call of function from those that are left:
// the function's own, and before it those that were inlined into it.
func places(frames []results.Frame, function string, series []string) (list []string, rest []results.Frame) {
	begin := 0
	for i, f := range frames {
		if f.Inlined {
			continue
		}
		if f.Function == function {
			for _, f := range frames[begin : i+1] {
				if f.File != "" {
					list = append(list, f.Place(series))
				}
			}
			return list, slices.Delete(slices.Clone(frames), begin, i+1)
		}
		begin = i + 1
	}
	return nil, frames
}
