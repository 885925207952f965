package console

import (
	"bufio"
	"io"
	"regexp"
	"strconv"
	"strings"

	"patchproof/patches"
)

var (
	// logPrefix is what dmesg (--raw, --ctime, --reltime, --time-format=iso), syslog and
	// journalctl (-o short, short-precise, short-iso, short-full) put before a line of the
	// kernel's.
	logPrefix = regexp.MustCompile(`^(?:<\d{1,3}>|[A-Z][a-z]{2} +\d{1,2} [0-9:]{8}(?:\.\d+)? (?:\S+ )?kernel: |\d{4}-\d{2}-\d{2}T\S+ (?:\S+ kernel: )?|` +
		`[A-Z][a-z]{2} \d{4}-\d{2}-\d{2} [0-9:]{8} \S+ \S+ kernel: |` +
		`\[[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} [0-9:]{8} \d{4}\] |\[[A-Z][a-z]{2} ?\d{1,2} [0-9:]{5}\] |\[ *\+\d+\.\d{6}\] )`)
	// record is what comes before the text in a record of /dev/kmsg or of extended netconsole,
	// with the caller (Documentation/ABI/testing/dev-kmsg).
	record = regexp.MustCompile(`^(\d+),\d+,\d+,[^;]*?(?:,caller=([TC]\d+)[^;]*)?;`)
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
	// broken is a line that a mailer has broken, which is told by what must come behind it.
	broken = regexp.MustCompile(`(?:WARNING: .* at|BUG: K[A-Z]+: .* in|kernel BUG at|Unable to handle .* virtual|Attempted to kill(?: init!)?|invalid context at|blocked for more(?: than(?: \d+)?)?|address:) ?$`)
	// colours are those of dmesg --color.
	colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)
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
	in := bufio.NewReaderSize(r, peekBytes)
	head, err := in.Peek(peekBytes)
	if err != nil && err != io.EOF {
		return nil, err
	}
	w := &Watcher{Raw: true, asking: asking{log: true}}
	if m := inRecords.FindSubmatch(head[:min(len(head), 1<<10)]); m != nil {
		w.Raw = false
		return w, readRecords(in, w, len(m[1]) > 0)
	}
	// A line of the kernel's own may look as if a host were named in it, but few do.
	stamps, hosts := 0, 0
	// What a program wrote into the kernel's log has a priority that is none of the kernel's;
	// but where all have, they are another program's.
	told := false
	for line := range strings.Lines(string(head)) {
		told = told || ofKernel(line)
	}
	for line := range strings.Lines(string(head)) {
		if _, _, text, ok := stamped(plainText(strings.TrimRight(line, "\r\n"))); ok {
			w.Raw = false
			stamps++
			if journalHost.MatchString(text) {
				hosts++
			}
		}
	}
	journal := 2*hosts > stamps
	held := ""
	for blank := false; ; {
		// What is beyond the buffer of a line is of no use to anybody.
		line, more, err := in.ReadLine()
		if err == io.EOF {
			w.Line(held)
			return w, nil
		}
		if err != nil {
			return nil, err
		}
		if blank && len(line) == 0 {
			continue
		}
		blank = len(line) == 0
		text := plainText(string(line))
		for more && err == nil {
			_, more, err = in.ReadLine()
		}
		if m := decoded.FindStringSubmatch(text); m != nil {
			if m[1] != "kern" {
				continue
			}
			text = text[len(m[0]):]
			w.Kernels = true
		}
		if told && leveled.MatchString(text) && !ofKernel(text) {
			continue
		}
		switch {
		case w.Raw:
			if m := record.FindStringSubmatch(text); m != nil && !ownPriority(m[1]) {
				continue
			}
			bare := withoutRecord(text)
			bare = bare[len(logPrefix.FindString(bare)):]
			w.Kernels = w.Kernels || len(bare) < len(text) || kernelish.MatchString(text)
			text = bare
		case journal:
			if _, _, said, ok := stamped(text); ok {
				text = strings.TrimSuffix(text, said) + journalHost.ReplaceAllString(said, "")
			}
		}
		if _, _, _, ok := stamped(text); held != "" && !ok && !w.Raw && text != "" {
			text = held + " " + strings.TrimLeft(text, " ")
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

// plainText is the line without colours.
func plainText(line string) string {
	if strings.IndexByte(line, 0x1b) < 0 {
		return line
	}
	return colours.ReplaceAllString(line, "")
}
