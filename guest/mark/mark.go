// Package mark tells the instruction counter on the host where a measurement
// begins and ends: each function executes an instruction that does nothing and
// that the counter knows. Without a counter they cost a few instructions.
package mark

// Start begins a window, or goes on with it after Pause: what is executed from here
// on counts.
func Start()

// Pause leaves out of the window what the program executes until the next Start;
// what the kernel executes still counts.
func Pause()

// Stop ends the window.
func Stop()

// Next ends a workload: the windows so far belong together. The first mark of all
// only wakes the counter up.
func Next()
