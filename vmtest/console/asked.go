package console

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"patchproof/guest/event"
)

// asking is what a log tells of somebody who asked the kernel where it is, with sysrq keys
// or an NMI. Only of a log: while a guest runs, an NMI before Ask is nobody's asking.
type asking struct {
	log bool
	// guest says that the kernel is one of the harness's guests, by its command line: of no
	// other kernel is it known who sent an NMI, or that nothing but keys brought a trouble.
	guest bool
	// unclaimed says that the last NMI was of the kind that is sent to a guest.
	unclaimed bool
	// level is set once all is to be shown on the console, and dump at the key after
	// that: so the harness begins (qemu.interrogate), and then ends the guest.
	level, dump bool
	// since is the time of the first key that shows something, empty without one. A program
	// may press one while its guest runs, too.
	since  string
	answer strings.Builder
	// nmi is the panic that answers an NMI.
	nmi *complaint
}

// nmiPanic is how a kernel goes down that was told to panic on an NMI that nobody claims.
const nmiPanic = "Kernel panic - not syncing: NMI: Not continuing"

// ofGuest are the words that every guest of the harness's has on its command line.
var ofGuest = regexp.MustCompile(`^(?:Kernel c|C)ommand line: .*\bpatchproof\.\w+=`)

// read takes a line that may be a question or a part of the answer.
func (a *asking) read(text, line string) {
	if a.since == "" && strings.HasPrefix(text, "sysrq: Show ") {
		a.since = fmt.Sprintf("%f", seconds(line))
	}
	switch {
	case !a.log:
		return
	case strings.HasPrefix(text, "Command line: ") || strings.HasPrefix(text, "Kernel command line: "):
		a.guest = ofGuest.MatchString(text)
	case strings.Contains(text, "NMI received for unknown reason "):
		a.unclaimed = true
	case strings.HasPrefix(text, "NMI: PCI system error "):
		a.unclaimed = false
	case strings.HasPrefix(text, "sysrq: Loglevel set to 8"):
		a.level = true
	case strings.HasPrefix(text, "sysrq: Show "):
		a.dump = a.dump || a.level && a.guest
	}
	if a.since != "" && a.answer.Len() < maxDump {
		a.answer.WriteString(line + "\n")
	}
}

// brought says that the complaint is of the asking itself: the panic on an NMI, the stall of
// the processor that prints an answer, and, of what the harness asked, any trouble with it.
func (a *asking) brought(c *complaint) bool {
	crashed := slices.ContainsFunc(c.stack, func(f string) bool { return nameOf(f) == "sysrq_handle_crash" })
	switch {
	case c.shown && !crashed && (c.Verdict == event.Hang && a.since != "" || a.dump):
		return true
	case !a.log:
		return false
	case a.guest && a.unclaimed && strings.HasPrefix(c.title, nmiPanic):
		a.nmi = c
		return true
	}
	return c.nmi && a.nmi != nil
}

// Asked tells where a kernel was that somebody asked with sysrq or an NMI, as the harness
// asks a guest past its deadline; empty when a log has nothing of that. The log must have
// been read.
func (w *Watcher) Asked() string {
	w.closeAll()
	a := &w.asking
	switch {
	case a.nmi != nil:
		where := ""
		if f := interrupted(a.nmi); f != "" {
			where = ": a processor was in " + f
		}
		return fmt.Sprintf("at %f s an NMI asked it where it is%s", a.nmi.since, where)
	case a.since != "":
		where := ""
		if _, places := digest(strings.TrimSpace(a.answer.String())); places != "" {
			where = ": " + places
		}
		return fmt.Sprintf("at %s s sysrq asked it where it is%s", a.since, where)
	}
	return ""
}

// interrupted is the function that a processor was in when the NMI came of which it panicked:
// what is to blame below the NMI's own part of the stack, or else what the registers tell.
func interrupted(panic *complaint) string {
	at, below := "", false
	for _, line := range panic.lines {
		_, _, text, ok := stamped(line)
		if !ok {
			text = line
		}
		if f := instruction(text); f != "" && at == "" {
			if at = nameOf(f); blamed(at) {
				return at
			}
		}
		if f := frameOf(text); below && f != "" && blamed(f) {
			return nameOf(f)
		}
		below = below || text == " </NMI>"
	}
	return at
}
