package console

import (
	"bufio"
	"io"
	"regexp"
	"strings"
)

var (
	// logPrefix is what dmesg (--raw, --ctime, --reltime, --time-format=iso), syslog and
	// journalctl put before a line of the kernel's.
	logPrefix = regexp.MustCompile(`^(?:<\d{1,3}>|[A-Z][a-z]{2} +\d{1,2} [0-9:]{8}(?:\.\d+)? \S+ kernel: |\d{4}-\d{2}-\d{2}T\S+ (?:\S+ kernel: )?|` +
		`\[[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} [0-9:]{8} \d{4}\] |\[[A-Z][a-z]{2} ?\d{1,2} [0-9:]{5}\] |\[ *\+\d+\.\d{6}\] )`)
	// colours are those of dmesg --color.
	colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)
)

// peekBytes is how much of a log tells whether its lines have timestamps.
const peekBytes = 1 << 20

// Read reads a whole log: of a serial console, where programs print as well and the
// kernel's lines are those with a timestamp, or of dmesg or a journal without timestamps,
// where all lines are the kernel's.
func Read(r io.Reader) (*Watcher, error) {
	in := bufio.NewReaderSize(r, peekBytes)
	head, err := in.Peek(peekBytes)
	if err != nil && err != io.EOF {
		return nil, err
	}
	w := &Watcher{Raw: true}
	for line := range strings.Lines(string(head)) {
		if _, _, _, ok := stamped(plainText(strings.TrimRight(line, "\r\n"))); ok {
			w.Raw = false
			break
		}
	}
	for {
		// What is beyond the buffer of a line is of no use to anybody.
		line, more, err := in.ReadLine()
		if err == io.EOF {
			return w, nil
		}
		if err != nil {
			return nil, err
		}
		text := plainText(string(line))
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
		if w.Raw {
			text = logPrefix.ReplaceAllString(text, "")
		}
		w.Line(text)
	}
}

// plainText is the line without colours.
func plainText(line string) string {
	if strings.IndexByte(line, 0x1b) < 0 {
		return line
	}
	return colours.ReplaceAllString(line, "")
}
