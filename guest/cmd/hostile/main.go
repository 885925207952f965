//go:build linux

// Command hostile submits what no program should, and checks that the kernel
// refuses it as it says and works as before.
package main

import (
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() { report.Main("hostile", uring.Program(run)) }
