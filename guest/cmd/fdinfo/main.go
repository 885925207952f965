//go:build linux

// Command fdinfo checks the AllocCache section of a ring's fdinfo: that it is
// there exactly when the kernel has the patch, which rows it has, and that the
// counters move by the patch's own rules.
package main

import "patchproof/guest/event/report"

func main() { report.Main("fdinfo", run) }
