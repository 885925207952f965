//go:build linux

// Command hostile submits what no program should, and checks that the kernel
// refuses it as it says and works as before.
package main

import "patchproof/guest/event/report"

func main() { report.Main("hostile", run) }
