//go:build linux

// Command race runs two or three things against each other that the RFC does
// without a common lock, or under one that an interrupt takes too. The boot option
// patchproof.race names what.
package main

import (
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() { report.Main("race", uring.Program(run)) }
