package patches

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// readQuilt reads a folder as quilt(1) keeps it: a file named series that lists
// the patches, one on a line, with # comments.
func readQuilt(dir string) (Series, error) {
	list := filepath.Join(dir, "series")
	data, err := readFile(list)
	if errors.Is(err, fs.ErrNotExist) {
		return Series{}, fmt.Errorf("%s is a folder without a file named series; give a patch file or a quilt folder", dir)
	}
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
		name, err := seriesLine(line)
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
		p, err := readOne(filepath.Join(dir, filepath.FromSlash(name)))
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
	if s.Known, err = ReadKnownIssues(filepath.Join(dir, knownIssuesFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Series{}, err
	}
	return s, nil
}

// seriesLine takes a line of a series file apart; name is empty for a comment.
func seriesLine(line string) (name string, err error) {
	words := strings.Fields(line)
	for i, word := range words {
		if strings.HasPrefix(word, "#") {
			words = words[:i]
			break
		}
	}
	if len(words) == 0 {
		return "", nil
	}
	for _, option := range words[1:] {
		if option != "-p1" {
			return "", fmt.Errorf("option %s of %s is not supported; patches must apply with -p1", option, words[0])
		}
	}
	if why := badName(words[0]); why != "" {
		return "", fmt.Errorf("patch name %q %s", words[0], why)
	}
	return words[0], nil
}

// readOne reads a file that must hold a single patch, as quilt's do.
func readOne(path string) (Patch, error) {
	data, err := readFile(path)
	if err != nil {
		return Patch{}, err
	}
	list, err := parse(path, data)
	if err != nil {
		return Patch{}, err
	}
	if len(list) > 1 {
		return Patch{}, fmt.Errorf("%s: holds %d patches; a file of a quilt series holds one", path, len(list))
	}
	return list[0], nil
}
