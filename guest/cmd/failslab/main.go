//go:build linux

// Command failslab submits requests while the kernel has no memory for them:
// each ring then makes do with the one that it allocated for that when it was
// set up, its fallback request.
package main

import (
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() { report.Main("failslab", uring.Program(run)) }
