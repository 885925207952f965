//go:build linux

// Command faults reads and writes a sector that the disk cannot, alone and
// among requests that succeed: only its requests may fail, those linked behind
// them are cancelled, and no request is lost.
package main

import (
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() { report.Main("faults", uring.Program(run)) }
