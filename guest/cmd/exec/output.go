//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	"patchproof/guest/event/report"
)

// The limits of a test's output: so much is sent as it comes, then its last part.
const (
	maxHead = 1 << 20
	maxTail = 64 << 10
	maxLine = 16 << 10
	// So many lines are told of a test that did not pass.
	maxRecent = 30
	// So many pieces are sent as soon as they come; later ones wait until they are
	// worth an event.
	maxPrompt = 2000
	// So much that a test did not find is told.
	maxLacks = 8
)

// output takes what a test prints: whole lines go to the reader of its results, and all
// of it to the host, as it comes, so that a kernel that dies leaves what came before.
type output struct {
	send func(part []byte)
	line func(string)

	// mu guards what follows: the reader may be left behind by a test that cannot be
	// killed.
	mu sync.Mutex
	// pending has not been sent, partial has no end of line yet.
	pending, partial []byte
	// parts counts what was sent.
	parts int
	// sent counts the bytes that went to the host, cut those that did not and are no
	// longer in tail.
	sent, cut int
	tail      []byte
	recent    []string
	// lacks is what the test said that is not here.
	lacks  []string
	closed bool
	// oomKills is what oomKills said when the test began.
	oomKills int
}

// copy reads to the end.
func (o *output) copy(r io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		o.take(buf[:n])
		if err != nil {
			return
		}
	}
}

func (o *output) take(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.store(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		part := p
		if end >= 0 {
			part = p[:end]
		}
		o.partial = append(o.partial, part[:min(len(part), maxLine-len(o.partial))]...)
		if end < 0 {
			return
		}
		o.endLine()
		p = p[end+1:]
	}
}

func (o *output) endLine() {
	text := string(o.partial)
	o.partial = o.partial[:0]
	o.line(text)
	if what := lacking(text); what != "" && len(o.lacks) < maxLacks && !slices.Contains(o.lacks, what) {
		o.lacks = append(o.lacks, what)
	}
	if len(o.recent) == 2*maxRecent {
		o.recent = append(o.recent[:0], o.recent[maxRecent:]...)
	}
	o.recent = append(o.recent, text[:min(len(text), 400)])
}

// missing are what shells, modprobe(8) and mount(8) say of what is not there.
var missing = []struct {
	line *regexp.Regexp
	kind string
}{
	{regexp.MustCompile(`: (?:line )?\d+: ([\w.+/-]+): (?:command )?not found$`), "the command "},
	{regexp.MustCompile(`^(?:env|nice|nohup|setsid|sudo|timeout|unshare|xargs): .*[‘']([\w.+/-]+)[’']: No such file or directory$`), "the command "},
	{regexp.MustCompile(`^modprobe: FATAL: Module ([\w-]+) not found`), "the module "},
	{regexp.MustCompile(`^mount: .*unknown filesystem type [‘']([\w.-]+)[’']`), "the file system "},
	{regexp.MustCompile(`^mount: .*failed to (?:setup|set up) loop device`), "a loop device"},
}

// lacking is what a line says that the test did not find here, or nothing.
func lacking(line string) string {
	for _, m := range missing {
		if found := m.line.FindStringSubmatch(strings.TrimSpace(strings.TrimPrefix(line, "# "))); found != nil {
			return m.kind + strings.Join(found[1:], "")
		}
	}
	return ""
}

// store keeps the beginning for the host, and of the rest the end.
func (o *output) store(p []byte) {
	n := min(len(p), maxHead-o.sent-len(o.pending))
	o.pending = append(o.pending, p[:n]...)
	for len(o.pending) >= report.FilePart || len(o.pending) > 0 && o.parts < maxPrompt {
		o.flush()
	}
	o.tail = append(o.tail, p[n:]...)
	if over := len(o.tail) - maxTail; over > 0 {
		o.cut += over
		o.tail = append(o.tail[:0], o.tail[over:]...)
	}
}

func (o *output) flush() {
	n := min(len(o.pending), report.FilePart)
	if n == 0 {
		return
	}
	o.send(o.pending[:n])
	o.parts++
	o.sent += n
	o.pending = append(o.pending[:0], o.pending[n:]...)
}

// next begins the output of another test.
func (o *output) next(name string, line func(string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.store([]byte("== " + name + "\n"))
	o.line, o.recent, o.lacks = line, nil, nil
}

// endPart ends the last line of a test; what still comes of it belongs to nobody.
func (o *output) endPart() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.endLine()
	}
	o.line = func(string) {}
}

// close ends the last line and sends what is left.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if len(o.partial) > 0 {
		o.endLine()
	}
	for len(o.pending) > 0 {
		o.flush()
	}
	if o.cut > 0 {
		o.pending = fmt.Appendf(nil, "\n(%d bytes left out here)\n", o.cut)
	}
	for o.pending = append(o.pending, o.tail...); len(o.pending) > 0; {
		o.flush()
	}
}

// last returns the last lines that are not empty.
func (o *output) last() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.recent[max(0, len(o.recent)-maxRecent):]), func(line string) bool { return strings.TrimSpace(line) == "" })
}

// lacked is what the test said that is not here.
func (o *output) lacked() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.lacks)
}
