package console

import (
	"bufio"
	"cmp"
	"encoding/json"
	"io"
	"regexp"
	"strconv"
	"strings"

	"patchproof/patches"
)

var (
	// logPrefix is what dmesg (--raw, --ctime, --reltime, --show-delta, --time-format=iso), syslog
	// (RFC 5424, busybox and OpenWrt's logread, too), journalctl (-o short, short-precise, short-iso, short-full,
	// short-unix) and logcat put before a line of the kernel's. Days and months have their names
	// in the reader's language.
	logPrefix = regexp.MustCompile(`^(?:<\d{1,3}>1 \S+ \S+ kernel \S+ \S+ \S+ |(?:<\d{1,3}>)?(?:[^\s<]{1,9} +){2,3}[0-9:]{8}(?:\.\d+)? (?:\S* ){0,2}kernel: |<\d{1,3}>|kernel: |\d{9,10}\.\d{6} (?:\S+ )?kernel: |\d{4}-\d{2}-\d{2}T\S+ (?:\S+ )?kernel: |\d{4}-\d{2}-\d{2}T[0-9:]{8},\d{6}[+-]\S+ |` +
		`\S{1,4} \d{4}-\d{2}-\d{2} [0-9:]{8} \S+ \S+ kernel: |` +
		`\[(?:\S{1,9} +\S{1,9} +\d{1,2} [0-9:]{8} \d{4}|(?: *\d+\.\d{6})?)(?: <[ .\d]+>)?\] |\[\S{1,9} ?\d{1,2} [0-9:]{5}\] |\[ *\+\d+\.\d{6}\] |` +
		`\d\d-\d\d [0-9:]{8}\.\d{3} +0 +0 [A-Z] (?: {8}: )?)`)
	// clock is what others put before any line: docker, Kubernetes, Jenkins, GitHub, LAVA,
	// terminal programs, grabserial, ts, cat -n, and who quotes a log in a mail.
	clock = regexp.MustCompile(`^(?:(?:[^\t]+\t){0,2}\d{4}-\d{2}-\d{2}T\S+ {1,2}|\[\d{4}-\d{2}-\d{2}T[^\] ]+\] |(?:\d{4}-\d{2}-\d{2} )?\d{2}:\d{2}:\d{2}(?:[.,]\d{3,6})? {1,2}|[A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2}(?:\.\d+)? |[\w.-]+ +\| | *\d+\t|\[ *\d+\.\d{0,2}\] |\[\d{14}\]|\[(?:\d{4}[-/]\d{1,2}[-/]\d{1,2} )?\d{1,2}:\d\d:\d\d(?:\.\d+)?\] ?|\[\d+\.\d{6} \d+\.\d{6}\] |>(?:[> ]*>)? )`)
	// logcat is the head of any line of Android's log, tagged that of the kernel's text which it
	// took for a tag.
	logcat = regexp.MustCompile(`^\d\d-\d\d [0-9:]{8}\.\d{3} +(\d+) +\d+ [A-Z] `)
	tagged = regexp.MustCompile(`^([A-Za-z]{1,7}) +: `)
	// record is what comes before the text in a record of /dev/kmsg or of extended netconsole,
	// which may have the kernel's release in front, with the caller (Documentation/ABI/testing/dev-kmsg).
	record = regexp.MustCompile(`^(?:\d+\.[^,; ]+,)?(\d+),\d+,\d+,[^;]*?(?:,caller=([TC]\d+)[^;]*)?;`)
	// journalHost is what journalctl -o short-monotonic puts between the time and the text,
	// without a host for --no-hostname.
	journalHost = regexp.MustCompile(`^(?:\S+ )?kernel: `)
	// decoded is what dmesg -x puts in front: who wrote the line, and how grave it is.
	decoded = regexp.MustCompile(`^([a-z]\w*) *:(?:emerg|alert|crit|err|warn|notice|info|debug) *: `)
	// leveled is the head of a line with its priority, as dmesg --raw and a console with
	// AuthorOption print it.
	leveled = regexp.MustCompile(`^<(\d{1,3})>`)
	// kernelish is what lines of the kernel's begin with in a log that has nothing in front of
	// them.
	kernelish = regexp.MustCompile(`^(?:Linux version |(?:Kernel c|C)ommand line: |Run \S+ as init|Call [Tt]race:|Modules linked in:|CPU: \d+ |Memory: |Freeing unused |` +
		`\[ cut here|(?:ACPI|PCI|pci|usb|smp|rcu|random|clocksource|EXT4-fs|virtio\w*|NET|TCP|x86/\w+|sysrq|kmemleak|INFO|WARNING|reboot)\b.*: )`)
	// indented are lines of the kernel's that have no blanks in front.
	indented = regexp.MustCompile(`^(?:-+\[ cut here \]-+$|Call [Tt]race:|(?:BUG|WARNING|Oops): |kernel BUG at |Unable to handle kernel |Kernel panic - )`)
	// broken is a line that a mailer has broken, which is told by what must come behind it.
	broken = regexp.MustCompile(`(?:WARNING: .* at(?: \S+:\d+)?|stuck for \d+s!|\)\{\S{4,}\}-|\}, at:|BUG: K[A-Z]+: .* in|kernel BUG at|Unable to handle .* virtual|Attempted to kill(?: init!)?|invalid context at|blocked for more(?: than(?: \d+)?)?|address:) ?$`)
	// boxed is a line of a console as docker (json-file), LAVA and who collects logs keep it.
	boxed = regexp.MustCompile(`^\[?(?:- {1,2})?\{(?:"\w+"|dt) ?: ?`)
	// flow is such a line of LAVA's as YAML has it without JSON's quotes.
	flow = regexp.MustCompile(`msg: '((?:[^']|'')*)'\}$`)
	// otherStamp is a timestamp in milliseconds or nanoseconds, as some tools show it.
	otherStamp = regexp.MustCompile(`^((?:<\d{1,3}>)?\[ *\d+\.\d{3})(?:(\d{3})\d{3})?(\][ \[])`)
	// colours are those of dmesg --color, and what else a terminal is told.
	colours = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)
)

// peekBytes is how much of a log tells whether its lines have timestamps.
const peekBytes = 1 << 20

// Read reads a whole log: of a serial console, where programs print as well and the
// kernel's lines are those with a timestamp, or of dmesg or a journal without timestamps,
// where all lines are the kernel's. It may be compressed.
func Read(r io.Reader) (*Watcher, error) {
	r, _, err := patches.Unpacked(r)
	if err != nil {
		return nil, err
	}
	in, err := asWritten(bufio.NewReaderSize(r, peekBytes))
	if err != nil {
		return nil, err
	}
	head, err := in.Peek(peekBytes)
	if err != nil && err != io.EOF {
		return nil, err
	}
	w := &Watcher{Raw: true, asking: asking{log: true}}
	if m := inRecords.FindSubmatch(head[:min(len(head), 1<<10)]); m != nil {
		w.Raw = false
		return w, readRecords(in, w, len(m[1]) > 0)
	}
	if inFields.Match(head) {
		w.Raw = false
		return w, readFields(in, w)
	}
	l := logOf(string(head))
	w.Raw = l.raw
	return w, l.read(in, w)
}

// unescaped is a log that is a string of JSON or of a program, as clouds give out a console: its
// lines end in "\n", or "\r\n", spelled out.
type unescaped struct{ in *bufio.Reader }

func (u unescaped) Read(p []byte) (int, error) {
	for n := range p {
		b, err := u.in.ReadByte()
		if err != nil {
			return n, err
		}
		if next, _ := u.in.Peek(1); b == '\\' && len(next) == 1 {
			if spelled := strings.IndexByte(`nrt"`, next[0]); spelled >= 0 {
				b = "\n\r\t\""[spelled]
				u.in.Discard(1)
			}
		}
		p[n] = b
	}
	return len(p), nil
}

// layout is what the lines of a log have in front of the kernel's text.
type layout struct {
	// raw says that no line has a timestamp, journal that lines name a host, and other that the
	// timestamps are otherStamps.
	raw, journal, other bool
	// boxes says that the lines are in JSON or YAML. One that a program prints is the program's.
	boxes bool
	// indent is how far the lines are moved to the right, as in the log of git.
	indent int
	// told says that the priorities tell the kernel's lines from what programs wrote into its
	// log: theirs is none of the kernel's. But where all have such, they are another
	// program's.
	told bool
}

// logOf finds the layout out by the head of a log.
func logOf(head string) layout {
	l := layout{raw: true}
	// A line of the kernel's own may look as if a host were named in it, but few do.
	stamps, hosts, others := 0, 0, 0
	lines, boxes := 0, 0
	for line := range strings.Lines(head) {
		lines++
		if boxed.MatchString(line) {
			boxes++
		}
	}
	l.boxes = 2*boxes > lines
	for line := range strings.Lines(head) {
		if bare := strings.TrimLeft(line, " "); l.indent == 0 && indented.MatchString(bare) {
			l.indent = len(line) - len(bare)
		}
		l.told = l.told || ofKernel(line)
		plain := l.plainText(strings.TrimRight(line, "\r\n"))
		if otherStamp.MatchString(plain) {
			others++
		}
		if _, _, text, ok := stamped(plain); ok {
			l.raw = false
			stamps++
			if journalHost.MatchString(text) {
				hosts++
			}
		}
	}
	l.journal = 2*hosts > stamps
	if l.other = l.raw && others > fewStamps; l.other {
		l.raw = false
	}
	return l
}

// fewStamps are so few lines with a timestamp of another form that a program may have printed them.
const fewStamps = 4

// read hands the lines to w, and those that a mailer has broken as one.
func (l layout) read(in *bufio.Reader, w *Watcher) error {
	held := ""
	for blank := false; ; {
		// What is beyond the buffer of a line is of no use to anybody.
		line, more, err := in.ReadLine()
		if err == io.EOF {
			w.Line(held)
			return nil
		}
		if err != nil {
			return err
		}
		if blank && len(line) == 0 {
			continue
		}
		blank = len(line) == 0
		text := l.plainText(string(line))
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
		text, ok := l.kernels(text, w)
		if !ok {
			continue
		}
		if _, _, _, ok := stamped(text); held != "" && !ok && !l.raw && text != "" {
			text = held + " " + strings.TrimLeft(text, "> ")
		} else if held != "" {
			w.Line(held)
		}
		if held = ""; broken.MatchString(text) {
			held = strings.TrimRight(text, " ")
			continue
		}
		w.Line(text)
	}
}

// kernels is a line without what the layout has in front of it, and whether it is the
// kernel's.
func (l layout) kernels(text string, w *Watcher) (string, bool) {
	if m := otherStamp.FindStringSubmatch(text); m != nil && l.other {
		text = m[1] + cmp.Or(m[2], "000") + m[3] + text[len(m[0]):]
	}
	if m := decoded.FindStringSubmatch(text); m != nil {
		if m[1] != "kern" {
			return "", false
		}
		text = text[len(m[0]):]
		w.Kernels = true
	}
	if l.told && leveled.MatchString(text) && !ofKernel(text) {
		return "", false
	}
	switch {
	case l.raw:
		if strings.TrimLeft(text[:min(l.indent, len(text))], " ") == "" {
			text = text[min(l.indent, len(text)):]
		}
		if m := record.FindStringSubmatch(text); m != nil && !ownPriority(m[1]) {
			return "", false
		}
		bare := withoutRecord(text)
		head := logPrefix.FindString(bare)
		if head == "" {
			// A line of whoever it is, with the time.
			bare = bare[len(clock.FindString(bare)):]
			head = logPrefix.FindString(bare)
		}
		if of := logcat.FindStringSubmatch(bare); of != nil && of[1] != "0" {
			return "", false
		}
		w.Kernels = w.Kernels || head != "" || record.MatchString(text) || kernelish.MatchString(bare)
		if bare = bare[len(head):]; logcat.MatchString(head) {
			bare = tagged.ReplaceAllString(bare, "$1: ")
		}
		text = bare
	case l.journal:
		if _, _, said, ok := stamped(text); ok {
			text = strings.TrimSuffix(text, said) + journalHost.ReplaceAllString(said, "")
		}
	}
	return text, true
}

// ofKernel says that a line has a priority of the kernel's in front.
func ofKernel(line string) bool {
	m := leveled.FindStringSubmatch(line)
	return m != nil && ownPriority(m[1])
}

// ownPriority says that a priority is one of the kernel's own lines.
func ownPriority(priority string) bool {
	n, err := strconv.Atoi(priority)
	return err == nil && n < firstForeign
}

// withoutRecord is the line without the head of a record, of which the caller is kept as
// the kernel prints it.
func withoutRecord(line string) string {
	head := record.FindStringSubmatch(line)
	switch {
	case head == nil:
		return line
	case head[2] == "":
		return line[len(head[0]):]
	}
	return "[" + head[2] + "] " + line[len(head[0]):]
}

// plainText is the line without colours, and without what else it may be in.
func (l layout) plainText(line string) string {
	if l.boxes && boxed.MatchString(line) {
		var box struct{ Log, Msg, Message string }
		record := strings.TrimLeft(strings.TrimRight(line, ",]"), "[- ")
		if json.Unmarshal([]byte(record), &box) == nil {
			line = strings.TrimRight(box.Log+box.Msg+box.Message, "\r\n")
		} else if m := flow.FindStringSubmatch(record); m != nil {
			line = strings.ReplaceAll(m[1], "''", "'")
		}
	}
	// What was pasted from a web page may have other blanks.
	line = strings.ReplaceAll(line, "\u00a0", " ")
	if strings.IndexByte(line, 0x1b) < 0 {
		return line
	}
	return colours.ReplaceAllString(line, "")
}
