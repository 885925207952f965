package console

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"patchproof/guest/event"
)

const (
	// logHead and logTail bound a console log, in bytes: a guest that prints
	// without end fills neither the disk nor the memory. The tail is kept in
	// memory until the end.
	logHead = 12 << 20
	logTail = 4 << 20
	// MostKept is how large a log may become, with the note between the two.
	MostKept = logHead + logTail + 1<<10
	// longestLine is where a line is broken in two.
	longestLine = 4 << 10
)

// Log takes the bytes of a guest's console: it cuts them into lines,
// makes them safe to show, writes the file and hands each line to watch.
type Log struct {
	file  *os.File
	watch func(line string)

	authors authors
	line    []byte
	// written counts the bytes in the file, dropped those in neither.
	written, dropped int
	tail             bytes.Buffer
	err              error
}

// Create opens the log at path for writing.
func Create(path string, watch func(line string)) (*Log, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("the console log cannot be written: %w", err)
	}
	return &Log{file: f, watch: watch}, nil
}

// Write never fails, because a console must be drained whatever happens to its
// log; Close reports the first error.
func (c *Log) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		whole := end >= 0
		if !whole {
			end = len(p)
		}
		part := p[:end]
		if room := longestLine - len(c.line); len(part) > room {
			part, whole = part[:room], false
			end = room
		}
		c.line = append(c.line, part...)
		p = p[end:]
		if whole {
			p = p[1:]
		}
		if whole || len(c.line) >= longestLine {
			c.flush()
		}
	}
	return n, nil
}

// flush ends the line.
func (c *Log) flush() {
	line := c.authors.plain(event.Printable(strings.TrimRight(string(c.line), "\r")))
	c.line = c.line[:0]
	c.watch(line)
	c.keep(line + "\n")
}

func (c *Log) keep(text string) {
	if c.written+len(text) <= logHead && c.tail.Len() == 0 {
		n, err := io.WriteString(c.file, text)
		c.written += n
		if c.err == nil {
			c.err = err
		}
		return
	}
	c.tail.WriteString(text)
	if over := c.tail.Len() - logTail; over > 0 {
		c.dropped += over
		c.tail.Next(over)
	}
}

// Close writes what is still in memory and closes the file.
func (c *Log) Close() error {
	if len(c.line) > 0 {
		c.flush()
	}
	if c.dropped > 0 {
		fmt.Fprintf(c.file, "\n(%d bytes of console output left out here)\n\n", c.dropped)
	}
	_, err := c.file.Write(c.tail.Bytes())
	for _, e := range []error{err, c.file.Close()} {
		if c.err == nil {
			c.err = e
		}
	}
	if c.err != nil {
		return fmt.Errorf("the console log is incomplete: %w", c.err)
	}
	return nil
}
