package console

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// stamped finds the first line in line that printk wrote: its timestamp, the
// caller's id where the kernel prints one (CONFIG_PRINTK_CALLER), and the text. What a
// program prints has no timestamp and is never a complaint, whatever it says; it may
// come before the kernel's text on one line. A line that a program quotes is the program's.
// start is where the timestamp begins.
func stamped(line string) (start int, caller, text string, ok bool) {
	from := strings.IndexByte(line, '[')
	for ; from >= 0 && from < len(line); from++ {
		if line[from] != '[' || quoted(line, from) {
			continue
		}
		start = from
		at := from + 1
		if at < len(line) && line[at] != ' ' && (line[at] < '0' || line[at] > '9') {
			continue
		}
		for at < len(line) && line[at] == ' ' {
			at++
		}
		whole := digits(line[at:])
		at += whole
		if whole == 0 || !strings.HasPrefix(line[at:], ".") || digits(line[at+1:]) != 6 {
			continue
		}
		at += 7
		inStamp := stampEnd(line[at:])
		if inStamp == 0 {
			continue
		}
		at += inStamp
		caller, text = printer(line[at:])
		return start, caller, text, true
	}
	return 0, "", "", false
}

// stampEnd is the length of what a timestamp ends in, 0 where there is none.
func stampEnd(s string) int {
	switch {
	case strings.HasPrefix(s, "]"):
		return 1
	case strings.HasPrefix(s, " ]"):
		return 2
	case s == "" || strings.IndexByte("@,s ", s[0]) < 0:
		return 0
	}
	return len(ofVendor.FindString(s))
}

// printer reads who printed a line, from behind its timestamp on: the caller's id, and what
// the kernels of phones have there instead.
func printer(s string) (caller, text string) {
	rest := strings.TrimLeft(s, " ")
	if len(rest) > 2 && rest[0] == '<' && rest[2] == '>' && digits(rest[1:2]) == 1 {
		// Its level, where the log's head does not have it.
		s = rest[3:]
		rest = strings.TrimLeft(s, " ")
	}
	if rest == "" || letter(rest[0]) && rest[0] != 'c' {
		// As most lines are.
		return "", strings.TrimPrefix(s, " ")
	}
	if rest[0] != '[' || strings.HasPrefix(rest, "[pid:") {
		if m := phone.FindStringSubmatch(s); m != nil {
			return idOf(m[2]+m[3], m[1]+m[4]), s[len(m[0]):]
		}
	}
	for len(s)-len(rest) <= 2 {
		// dmesg (util-linux 2.41) puts a blank in front of it, Samsung two.
		who, n := callerID(rest)
		if n == 0 {
			break
		}
		if caller == "" {
			caller = who
		}
		s = rest[n:]
		rest = strings.TrimLeft(s, " ")
	}
	return caller, strings.TrimPrefix(s, " ")
}

var (
	// ofVendor ends a timestamp of Amlogic's or Motorola's, with the processor, of LG's, with
	// the time of day, and of Huawei's.
	ofVendor = regexp.MustCompile(`^(?:[@,]\d{1,3}\]|s\]| / \d\d-\d\d \d\d:\d\d:\d\d\.\d{2,3}\](?:\[\d+\](?:\[\d+\]\[[^\]]*\])?)?)`)
	// phone is MediaTek's "-(1)[812:sh]" with a mark for interrupts, Huawei's
	// "[pid:812,cpu1,sh,7]", both with the text right behind, and Spreadtrum's "c1 ".
	phone = regexp.MustCompile(`^(?: {0,2}[-.*]?\((\d+)\)\[(\d+):[^\]]*\]| ?\[pid:(\d+),cpu(\d+),[^\]]*\]| c\d+(?: |$))`)
)

// quoted says whether what begins there is in quotes that end with the line: one that only opens may
// be the last that a program printed before the kernel did.
func quoted(line string, from int) bool {
	if from == 0 || !strings.ContainsRune("\"'`", rune(line[from-1])) {
		return false
	}
	return strings.HasSuffix(strings.TrimRight(line[from:], ")]}>;,. \r"), line[from-1:from])
}

// recent are the last lines with a timestamp, in a ring, of which n have been.
type recent struct {
	lines [16]string
	n     int
}

func (r *recent) add(line string) {
	r.lines[r.n%len(r.lines)] = line
	r.n++
}

func (r *recent) last() string { return r.lines[(r.n+len(r.lines)-1)%len(r.lines)] }

var (
	// retelling is what a test prints in front of a line that it tells of: a diagnostic of TAP's.
	retelling = regexp.MustCompile(`^\s*#|\b(?:got|want|expected)\b\W*$`)
	timeAt    = regexp.MustCompile(`^\[ *(\d+\.\d{6})`)
)

// retoldAfter is how much later, in seconds, a program tells what the kernel printed than two
// processors' clocks differ.
const retoldAfter = 0.1

// retold says that the kernel's line which begins at start was printed, or written by a program,
// before, and that a test only tells of it.
func (r *recent) retold(line string, start int) bool {
	if r.n == 0 || !retelling.MatchString(line[:start]) {
		return false
	}
	at := timeAt.FindStringSubmatch(line[start:])[1]
	return seconds(r.last())-seconds(line) > retoldAfter ||
		slices.ContainsFunc(r.lines[:], func(old string) bool { return strings.Contains(old, at) })
}

// Text returns what the kernel printed in a line of a console log, without its timestamp
// and the caller's id; ok is false for a line of a program's.
func Text(line string) (text string, ok bool) {
	_, _, text, ok = stamped(line)
	return text, ok
}

// callerID reads "[ T12]" or "[ C0]", what Android's vendors print instead, "[4: comm: 12]",
// and both at once as Unisoc's do, "[ T12@C0]".
func callerID(s string) (id string, length int) {
	if s == "" || s[0] != '[' {
		return "", 0
	}
	end := strings.IndexByte(s, ']')
	if end < 3 {
		return "", 0
	}
	id = strings.Trim(s[1:end], " ")
	if cpu := digits(id); cpu > 0 {
		rest, ok := strings.CutPrefix(id[cpu:], ":")
		colon := strings.LastIndexByte(rest, ':')
		if !ok || colon < 0 {
			return "", 0
		}
		comm, pid := strings.TrimLeft(rest[:colon], " "), strings.TrimLeft(rest[colon+1:], " ")
		if comm == "" || !letter(comm[0]) || pid == "" || digits(pid) != len(pid) {
			return "", 0
		}
		return idOf(pid, id[:cpu]), end + 1
	}
	if task, cpu, ok := strings.Cut(id, "@C"); ok && strings.HasPrefix(task, "T") {
		id = idOf(task[1:], cpu)
	}
	if len(id) < 2 || id[0] != 'T' && id[0] != 'C' || digits(id[1:]) != len(id)-1 {
		return "", 0
	}
	return id, end + 1
}

// idOf is the caller's id of a task on a processor, empty where neither is known. All processors
// idle in a task 0.
func idOf(pid, cpu string) string {
	switch pid {
	case "":
		return ""
	case "0":
		return "C" + cpu
	}
	return "T" + pid
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// seconds is the time of a line's first timestamp.
func seconds(line string) float64 {
	start, _, _, ok := stamped(line)
	if !ok {
		return 0
	}
	at := strings.TrimLeft(line[start+1:], " ")
	whole := digits(at) + 1
	s, _ := strconv.ParseFloat(at[:whole+digits(at[whole:])], 64)
	return s
}
