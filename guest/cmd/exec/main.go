//go:build linux

// Command exec runs a user's test: any executable or script, with the limits and in the
// way that event.Test says, and reports what it said of itself. Exit code 0 is a pass, 4
// a skip (kselftest's), anything else a failure; KTAP or TAP on its output become checks.
package main

import (
	"os"

	"patchproof/guest/event/report"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		child(os.Args[2:])
	}
	if len(os.Args) > 1 && os.Args[1] == goneArg {
		gone()
	}
	report.Main("exec", run)
}
