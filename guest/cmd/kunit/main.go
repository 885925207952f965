//go:build linux

// Command kunit is what a kernel runs whose KUnit suites have run before: the host reads
// their results from the console. That it runs at all says that the kernel came up.
package main

import "patchproof/guest/event/report"

func main() {
	report.Main("kunit", func(t *report.T) { t.Check("boot", nil) })
}
