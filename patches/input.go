package patches

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"patchproof/patches/regular"
	"patchproof/patches/subjects"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
)

// Read reads the patches at path: a mail, a mailbox with a thread, a plain diff, what
// git log -p prints, each also compressed; a quilt folder (one that holds a file named
// series), a maildir, a folder that git format-patch wrote. "-" is standard input, and
// several files may be given with spaces between them. Of several versions of a series
// it takes the latest complete one. It refuses anything that git am could misread,
// and its errors name the file, the message and the line.
func Read(path string) (Series, error) { return ReadVersion(path, 0) }

// noPatch says of a path that there is nothing, without the name of the system call.
func noPatch(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return fmt.Errorf("no patch to read: %s: %w", at.Path, at.Err)
	}
	return fmt.Errorf("no patch to read: %w", err)
}

// ReadVersion is Read for the version of a series that the user asks for.
func ReadVersion(path string, version int) (Series, error) {
	if path == "-" {
		data, err := stdin()
		if err != nil {
			return Series{}, err
		}
		return parse("stdin", data, version)
	}
	info, err := os.Stat(path)
	if err != nil {
		if list := strings.Fields(path); len(list) > 1 && exist(list) {
			return readFiles(path, list, version)
		}
		if list := strings.Fields(path); slices.ContainsFunc(list, isThere) {
			// Several were given, and one of them is missing.
			list = slices.DeleteFunc(list, isThere)
			return Series{}, fmt.Errorf("no patch to read: there is no file %s", strings.Join(list, ", "))
		}
		return Series{}, noPatch(err)
	}
	if info.IsDir() {
		return readFolder(path, version)
	}
	data, err := readFile(path)
	if err != nil {
		return Series{}, err
	}
	s, err := parse(path, data, version)
	if err != nil {
		return Series{}, err
	}
	known := strings.TrimSuffix(path, filepath.Ext(path)) + "." + subjects.KnownIssuesFile
	if s.Known, err = subjects.ReadKnownIssues(known); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Series{}, err
	}
	return s, nil
}

// stdin is standard input, which can be read only once.
var stdin = sync.OnceValues(func() ([]byte, error) { return readAll(os.Stdin, "standard input") })

// Abs makes what Read takes independent of the working directory.
func Abs(path string) (string, error) {
	if path == "-" {
		return path, nil
	}
	if _, err := os.Stat(path); err != nil {
		if list := strings.Fields(path); len(list) > 1 && exist(list) {
			for i := range list {
				if list[i], err = filepath.Abs(list[i]); err != nil {
					return "", err
				}
			}
			return strings.Join(list, " "), nil
		}
	}
	return filepath.Abs(path)
}

func exist(paths []string) bool {
	return !slices.ContainsFunc(paths, func(p string) bool { return !isThere(p) })
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// parse reads a file's patches, in the order in which they apply.
func parse(path string, data []byte, version int) (Series, error) {
	letters := split(data)
	if len(letters) == 0 {
		if version > 0 {
			return Series{}, fmt.Errorf("%s: V=%d selects a version of a mailed series, and this is no mail", path, version)
		}
		s, err := parsePlain(path, data, autoStrip)
		if errors.Is(err, errNoDiff) && filepath.Base(path) == "series" {
			return Series{}, fmt.Errorf("%s is the list of a quilt series: give its folder, PATCH=%s", path, filepath.Dir(path))
		}
		return s, err
	}
	var mails []message
	for i, l := range letters {
		mails = append(mails, l.read(path, i+1)...)
	}
	return assemble(path, mails, version)
}

// readFolder tells the kinds of folders apart.
func readFolder(dir string, version int) (Series, error) {
	if _, err := os.Stat(filepath.Join(dir, "series")); err == nil {
		return readQuilt(dir)
	}
	var files, left []string
	cur, curErr := os.ReadDir(filepath.Join(dir, "cur"))
	fresh, newErr := os.ReadDir(filepath.Join(dir, "new"))
	if curErr == nil || newErr == nil {
		for _, part := range []struct {
			name    string
			entries []fs.DirEntry
		}{{"cur", cur}, {"new", fresh}} {
			for _, entry := range part.entries {
				switch {
				case strings.HasPrefix(entry.Name(), ".") || !entry.Type().IsRegular():
				case trashed.MatchString(entry.Name()):
					left = append(left, entry.Name()+": it is marked as deleted")
				default:
					files = append(files, filepath.Join(dir, part.name, entry.Name()))
				}
			}
		}
		// A maildir's names begin with the time of delivery.
		slices.SortStableFunc(files, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
		if len(files) == 0 {
			return Series{}, fmt.Errorf("%s: the maildir is empty", dir)
		}
		s, err := readMails(dir, files, version)
		s.Left = append(s.Left, left...)
		return s, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Series{}, err
	}
	for _, entry := range entries {
		name := entry.Name()
		for _, packed := range []string{".gz", ".xz", ".bz2", ".zst"} {
			name = strings.TrimSuffix(name, packed)
		}
		if entry.IsDir() || strings.HasPrefix(name, ".") || !slices.Contains([]string{".patch", ".diff", ".eml", ".mbox", ".mbx"}, filepath.Ext(name)) {
			continue
		}
		files = append(files, filepath.Join(dir, entry.Name()))
	}
	if len(files) == 0 {
		if files = numberedFiles(dir, entries); len(files) > 0 {
			return readMails(dir, files, version)
		}
		for _, inner := range []string{"patches", "debian/patches"} {
			if _, err := os.Stat(filepath.Join(dir, inner, "series")); err == nil {
				return Series{}, fmt.Errorf("%s holds a quilt series in %[2]s: give that folder, PATCH=%[1]s/%[2]s", dir, inner)
			}
		}
		return Series{}, fmt.Errorf("%s is a folder without a file named series, without mails in cur or new, and without files *.patch", dir)
	}
	if err := gap(dir, files); err != nil {
		return Series{}, err
	}
	s, err := readFiles(dir, files, version)
	if err != nil && version == 0 {
		if kept, keptErr := keptInOrder(files); keptErr == nil && kept {
			return readEach(dir, files, "in the order of their names, whatever numbers their subjects have")
		}
	}
	return s, err
}

// ownNumber is what a file's name begins with in a folder that somebody keeps in order.
var ownNumber = regexp.MustCompile(`^(\d+)[-_.]`)

// keptInOrder says that the files' names have numbers of their own, which are not those of the
// subjects: the patches were taken from several series, as distributions do. Where there are two
// versions of a patch or replies, it is no such folder.
func keptInOrder(files []string) (bool, error) {
	titles := map[string]bool{}
	own := false
	for _, file := range files {
		m := ownNumber.FindStringSubmatch(filepath.Base(file))
		if m == nil {
			return false, nil
		}
		data, err := readFile(file)
		if err != nil {
			return false, err
		}
		for _, l := range split(data) {
			t, title := parseSubject(l.subject()), cleanSubject(l.subject())
			if titles[title] || t.reply {
				return false, nil
			}
			titles[title] = true
			own = own || t.of > 0 && strconv.Itoa(t.number) != strings.TrimLeft(m[1], "0")
		}
	}
	return own, nil
}

// trashed is the mark of a maildir's mail that was deleted.
var trashed = regexp.MustCompile(`:2,[A-Za-z]*T`)

// numberedFiles are the mails of a folder that MH, Claws Mail or Sylpheed keep: 1, 2, 3,
// or git mailsplit: 0001, 0002.
func numberedFiles(dir string, entries []fs.DirEntry) []string {
	numbers := map[string]int{}
	var files []string
	for _, entry := range entries {
		if n, err := strconv.Atoi(entry.Name()); err == nil && n > 0 && entry.Type().IsRegular() {
			file := filepath.Join(dir, entry.Name())
			files, numbers[file] = append(files, file), n
		}
	}
	slices.SortFunc(files, func(a, b string) int { return numbers[a] - numbers[b] })
	return files
}

// fileNumber is what git format-patch begins the name of a file with.
var fileNumber = regexp.MustCompile(`^((?:v\d+-)?)(\d{4})-`)

// gap refuses a folder from whose file names it can be seen that one is missing, or
// is of another run of git format-patch, where the subjects have no numbers to tell it.
func gap(dir string, files []string) error {
	last := map[string]int{}
	before := map[string]string{}
	var trouble error
	for _, file := range files {
		name := filepath.Base(file)
		m := fileNumber.FindStringSubmatch(name)
		if m == nil {
			return nil
		}
		data, err := readFile(file)
		if err != nil {
			return err
		}
		if letters := split(data); len(letters) > 0 && parseSubject(letters[0].subject()).of > 0 {
			return nil
		}
		number, err := strconv.Atoi(m[2])
		if err != nil {
			return err
		}
		switch {
		case trouble != nil || number == 0 && last[m[1]] == 0:
		case number == last[m[1]]:
			trouble = fmt.Errorf("%s: %s and %s have the same number; remove the one that is not meant, or name the files: PATCH='1.patch 2.patch'",
				dir, before[m[1]], name)
		case number > last[m[1]]+1:
			trouble = fmt.Errorf("%s: there is no file %s%04d-*.patch before %s; if that is right, name the files: PATCH='1.patch 2.patch'",
				dir, m[1], last[m[1]]+1, name)
		}
		last[m[1]], before[m[1]] = number, name
	}
	return trouble
}

// readFiles reads several files, one series together.
func readFiles(path string, files []string, version int) (Series, error) {
	if len(files) == 1 {
		return ReadVersion(files[0], version)
	}
	plain := 0
	for _, file := range files {
		data, err := readFile(file)
		if err != nil {
			return Series{}, err
		}
		if len(split(data)) == 0 {
			plain++
		}
	}
	if plain == 0 {
		return readMails(path, files, version)
	}
	if version > 0 {
		return Series{}, fmt.Errorf("%s: V=%d selects a version of a mailed series, and some of these are no mails", path, version)
	}
	order := "in the order given"
	if isFolder(path) {
		order = "in the order of their names"
	}
	return readEach(path, files, order)
}

// readEach reads files of one patch each, which are in order already.
func readEach(path string, files []string, order string) (Series, error) {
	s := Series{Name: stem(path), Path: path, Notes: []string{fmt.Sprintf("%d files, %s", len(files), order)}}
	for _, file := range files {
		p, err := readOne(file, autoStrip)
		if errors.Is(err, errNoDiff) && coverName.MatchString(filepath.Base(file)) {
			s.Left = append(s.Left, filepath.Base(file)+": a cover letter")
			continue
		}
		if err != nil {
			return Series{}, err
		}
		s.Patches = append(s.Patches, p)
	}
	return s, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

var coverName = regexp.MustCompile(`^(?:v\d+-)?0+-`)

// readMails reads files of mails as one mailbox.
func readMails(path string, files []string, version int) (Series, error) {
	var mails []message
	for _, file := range files {
		data, err := readFile(file)
		if err != nil {
			return Series{}, err
		}
		letters := split(data)
		if len(letters) == 0 {
			return Series{}, fmt.Errorf("%s: no mail", file)
		}
		for _, l := range letters {
			mails = append(mails, l.read(file, len(mails)+1)...)
		}
	}
	s, err := assemble(path, mails, version)
	s.Name = stem(path)
	return s, err
}

// stem is a file's name without folder and extension.
func stem(path string) string {
	base := filepath.Base(path)
	for _, packed := range []string{".gz", ".xz", ".bz2", ".zst"} {
		base = strings.TrimSuffix(base, packed)
	}
	if name := strings.TrimSuffix(base, filepath.Ext(base)); name != "" {
		return name
	}
	return base
}

// readFile reads a regular text file of a sane size, unpacked.
func readFile(path string) ([]byte, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, path)
}

func readAll(r io.Reader, path string) ([]byte, error) {
	data, err := limited(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if data, err = unpack(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, fmt.Errorf("%s: the file is empty", path)
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		data = data[3:]
	}
	if why := otherForm(data); why != "" {
		return nil, fmt.Errorf("%s: %s", path, why)
	}
	if data, err = fromUTF16(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data = fromBase64(data)
	if page.Match(data) {
		return nil, fmt.Errorf("%s: a web page; save the patch as plain text (on lore: raw or mbox.gz, with others: .patch)", path)
	}
	if i := bytes.IndexByte(data, 0); i >= 0 && len(split(data)) == 0 {
		return nil, fmt.Errorf("%s: line %d: a zero byte; this is binary data, not a patch", path, lineAt(data, i))
	}
	return data, nil
}

// otherForm says what to do with a form of which patches can be made, and empty for others.
func otherForm(data []byte) string {
	tar := len(data) > 262 && string(data[257:262]) == "ustar"
	switch {
	case bundle.Match(data):
		return "a bundle of git's; fetch it into a tree (git fetch FILE BRANCH), and give its commits: git format-patch --stdout BASE..FETCH_HEAD"
	case tar || bytes.HasPrefix(data, []byte("PK\x03\x04")) || bytes.HasPrefix(data, []byte("7z\xbc\xaf\x27\x1c")) || bytes.HasPrefix(data, []byte("Rar!")):
		return "an archive; unpack it, and give the folder, or the files in their order: PATCH='1.patch 2.patch'"
	case coloured.Match(data):
		return "a diff in colours; print it with --color=never, or copy it without them"
	case graph.Match(data):
		return "a log with a graph; print it without --graph"
	}
	return ""
}

var (
	bundle   = regexp.MustCompile(`^# v\d+ git bundle\n`)
	coloured = regexp.MustCompile(`(?m)^\x1b\[[\d;]*mdiff --git `)
	graph    = regexp.MustCompile(`^[*|\\/ _]*\* +commit [0-9a-f]{7,64}\b`)
)

// fromUTF16 decodes what PowerShell's > writes. It takes a program's output for text of the
// terminal's charset, so that only ASCII comes out as it was.
func fromUTF16(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte("\xff\xfe")) && !bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return data, nil
	}
	text, err := unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder().Bytes(data)
	if err != nil {
		return nil, fmt.Errorf("UTF-16, and it does not decode: %w", err)
	}
	for i, b := range text {
		if b >= utf8.RuneSelf {
			return nil, fmt.Errorf("line %d: UTF-16 with other characters than ASCII, as PowerShell's > writes it and alters them; "+
				"have git write the file: git diff --output=FILE, git format-patch", lineAt(text, i))
		}
	}
	return text, nil
}

// fromBase64 decodes the form in which Gerrit gives out a patch.
func fromBase64(data []byte) []byte {
	if bytes.ContainsAny(data[:min(len(data), 60)], " :-@") {
		return data
	}
	if text, err := unbase64(data); err == nil && looksLikeDiff(text) {
		return text
	}
	return data
}

// page is how a web page begins.
var page = regexp.MustCompile(`(?i)^\s*<(?:!doctype html|html|\?xml)`)

func limited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = fmt.Errorf("more than %d MiB, too large for a patch", maxSize>>20)
	}
	return data, err
}

// unpack returns what a compressed file holds, and other data as it is. What a server has packed
// for the way may be packed a second time.
func unpack(data []byte) ([]byte, error) {
	for range 3 {
		r, format, err := Unpacked(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if format == "" {
			break
		}
		if data, err = limited(r); err != nil {
			return nil, notUnpacked(format, err)
		}
	}
	return data, nil
}
