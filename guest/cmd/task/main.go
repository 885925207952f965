//go:build linux

// Command task lets processes go that have worked with rings, by exit, kill and exec, and
// then counts what the kernel keeps for a process: all of it must be gone. A request holds
// a count of its task, of the files, the file system's root and the credentials that it
// runs with, and a ring one of its owner, of the memory and of what was locked; a count
// that is lost shows in no other way until the machine runs out of memory.
package main

import (
	"os"

	"patchproof/guest/event/report"
	"patchproof/guest/uring"
)

func main() {
	// The program starts itself again for every process that is to go.
	if len(os.Args) == 4 && os.Args[1] == childArg {
		child(os.Args[2], os.Args[3])
	}
	report.Main("task", uring.Program(run))
}
