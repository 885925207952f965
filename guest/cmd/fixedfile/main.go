//go:build linux

// Command fixedfile works with registered files of several kinds and then
// lets their ring go in several ways: after each the ring must be gone and the
// files released.
package main

import (
	"os"

	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() {
	// The program starts itself again for every ring that is to go.
	if len(os.Args) == 5 && os.Args[1] == "child" {
		child(os.Args[2], os.Args[3], os.Args[4])
	}
	report.Main("fixedfile", uring.Program(run))
}
