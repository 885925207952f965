//go:build linux

// Command contexts has requests completed from every context that the kernel
// completes them from, and lets rings go with all of these in flight at once.
// Every request must complete once, with its own user_data and the right
// result, and on kernels with the request cache every request must be in it
// afterwards.
package main

import (
	"os"

	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() {
	// The program starts itself again for every ring that is to go.
	if len(os.Args) == 4 && os.Args[1] == "child" {
		child(os.Args[2], os.Args[3])
	}
	report.Main("contexts", uring.Program(run))
}
