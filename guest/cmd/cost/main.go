//go:build linux

// Command cost counts instructions: what a request costs when a batch names one
// file or two, and when more requests are in flight than the cache's lists
// hold. It compares a kernel with itself only. The machine must count time in
// instructions (vmtest's Icount), one nanosecond each.
package main

import (
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() { report.Main("cost", uring.Program(run)) }
