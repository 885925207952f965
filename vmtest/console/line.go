package console

import (
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
		if !strings.HasPrefix(line[at:], "]") {
			continue
		}
		at++
		caller = ""
		if who, n := callerID(line[at:]); n > 0 {
			caller = who
			at += n
		} else if who, n := callerID(strings.TrimPrefix(line[at:], " ")); n > 0 {
			// dmesg (util-linux 2.41) puts a blank in front of it.
			caller = who
			at += 1 + n
		}
		if at == len(line) {
			return start, caller, "", true
		}
		if line[at] != ' ' {
			continue
		}
		return start, caller, line[at+1:], true
	}
	return 0, "", "", false
}

// quoted says whether what begins there is in quotes that end with the line: one that only opens may
// be the last that a program printed before the kernel did.
func quoted(line string, from int) bool {
	if from == 0 || !strings.ContainsRune("\"'`", rune(line[from-1])) {
		return false
	}
	return strings.HasSuffix(strings.TrimRight(line[from:], ")]}>;,. \r"), line[from-1:from])
}

// Text returns what the kernel printed in a line of a console log, without its timestamp
// and the caller's id; ok is false for a line of a program's.
func Text(line string) (text string, ok bool) {
	_, _, text, ok = stamped(line)
	return text, ok
}

// callerID reads "[ T12]" or "[ C0]", and what Android's vendors print instead, "[4: comm: 12]".
func callerID(s string) (id string, length int) {
	if s == "" || s[0] != '[' {
		return "", 0
	}
	end := strings.IndexByte(s, ']')
	if end < 3 {
		return "", 0
	}
	id = strings.TrimLeft(s[1:end], " ")
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
		return "T" + pid, end + 1
	}
	if len(id) < 2 || id[0] != 'T' && id[0] != 'C' || digits(id[1:]) != len(id)-1 {
		return "", 0
	}
	return id, end + 1
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
	end := strings.IndexByte(at, ']')
	s, _ := strconv.ParseFloat(at[:end], 64)
	return s
}
