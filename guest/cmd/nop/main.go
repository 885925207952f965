//go:build linux

// Command nop submits NOPs in batches of many sizes and checks every
// completion: the shortest path through io_uring's allocation and freeing of
// requests.
package main

import (
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() { report.Main("nop", uring.Program(run)) }
