//go:build linux

// Command boot looks whether a kernel has come up as a user would want it: with its
// CPUs, memory and disks, and able to take load for some seconds. It needs nothing of the
// kernel but what the guest's userland needs, so it runs on any. That the kernel does not
// complain meanwhile, and powers off at the end, the harness sees.
package main

import (
	"os"
	"strconv"

	"patchproof/guest/event/report"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == childArg {
		code, _ := strconv.Atoi(os.Args[2])
		os.Exit(code)
	}
	report.Main("boot", run)
}

// childArg has the program end at once with the code that follows.
const childArg = "end"
