//go:build linux

// Command cpuoffline takes CPUs offline and online again while the others are
// busy with io_uring: the request caches of a CPU that is gone must be empty.
package main

import (
	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() { report.Main("cpuoffline", uring.Program(run)) }
