//go:build linux

// Command bench runs io_uring workloads whose instructions the host counts, between
// the marks that every window sets.
package main

import "patchproof/guest/event/report"

func main() { report.Main("bench", run) }
