package console

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"patchproof/kernel"
	"patchproof/results"
)

// maxFrames bounds the places of one complaint.
const maxFrames = 64

// codeAddress is how the kernel prints an address in its code: function, offset, size,
// and the module, behind which since v5.14 its build ID may stand. In a stack a question
// mark stands before what may be a left-over.
var codeAddress = regexp.MustCompile(`(\? )?\b([A-Za-z_][\w.]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[(\w+)(?: [0-9a-f]{8,}[^]]*)?\])?`)

// atFault are lines with the address of an instruction, where the others have
// one to return to.
var atFault = regexp.MustCompile(`RIP: 0010:|pc : |WARNING: (?:CPU: |\S+:\d+ at )`)

// Places finds the places of the source that a complaint names, and gives them as a
// text of one line each. The series holds the subjects of the kernel's patches.
func Places(ctx context.Context, symbols *kernel.Symbols, series []string, splat string) ([]results.Frame, string, error) {
	var where []results.Frame
	var text strings.Builder
	seen := map[string]bool{}
	for line := range strings.Lines(splat) {
		m := codeAddress.FindStringSubmatch(line)
		if m == nil || m[1] != "" || seen[m[0]] || len(where) >= maxFrames {
			continue
		}
		seen[m[0]] = true
		offset, _ := strconv.ParseUint(m[3], 16, 64)
		size, _ := strconv.ParseUint(m[4], 16, 64)
		frames, err := symbols.Frames(ctx, m[5], m[2], offset, size, !atFault.MatchString(line))
		if err != nil {
			return nil, "", err
		}
		known := false
		for _, f := range frames {
			where = append(where, results.Frame(f))
			known = known || f.File != ""
		}
		if !known {
			continue
		}
		fmt.Fprintf(&text, "\n%s", m[0])
		for _, f := range frames {
			fmt.Fprintf(&text, "\n    %s", results.Frame(f).Place(series))
		}
	}
	return where, text.String(), nil
}
