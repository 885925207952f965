package console

import (
	"regexp"
	"strconv"
	"strings"
)

// AuthorOption has the kernel print the priority of each of its lines, which tells who
// wrote it (console_msg_format, since v4.16). It is for guests whose program is not ours:
// what that writes to /dev/kmsg is printed with a timestamp, too.
const AuthorOption = "console_msg_format=syslog"

// firstForeign is the first priority of a line that the kernel did not write itself: what
// comes from /dev/kmsg has a facility that is not the kernel's, whatever it says
// (Documentation/ABI/testing/dev-kmsg).
const firstForeign = 8

// byUser ends the timestamp of what a program wrote.
const byUser = " user]"

// headed is the head of a line of the kernel's, with its priority where it is printed.
var headed = regexp.MustCompile(`(?:<(\d{1,3})>)?\[( *\d+\.\d{6})([@,/s ][^\]]*)?\]`)

// authors tells the kernel's lines from those that look like them.
type authors struct {
	// told is set once the kernel has printed a priority: then all of its lines have one.
	told bool
}

// plain takes the priorities away, and makes the timestamps of what a program wrote
// something else.
func (a *authors) plain(line string) string {
	if !a.told && !strings.Contains(line, ">[") || strings.IndexByte(line, '[') < 0 {
		return line
	}
	return headed.ReplaceAllStringFunc(line, func(head string) string {
		m := headed.FindStringSubmatch(head)
		priority, err := strconv.Atoi(m[1])
		a.told = a.told || err == nil
		if a.told && (err != nil || priority >= firstForeign) {
			return "[" + m[2] + m[3] + byUser
		}
		return "[" + m[2] + m[3] + "]"
	})
}
