//go:build linux

// Command mixer submits a long stream of random entries, valid and not, to
// several rings at once, and lets rings go with some of it in flight. Each entry
// must complete once, with a result that it may have, and afterwards nothing may
// be left. The stream is a function of patchproof.seed and patchproof.count.
package main

import (
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() { report.Main("mixer", uring.Program(run)) }
