package results

import "patchproof/patches/subjects"

// Checks that no program makes but the harness, beside those of the console.
const (
	// DeadlineCheck is that of a guest that ran past its deadline.
	DeadlineCheck = "deadline"
	// ResetCheck is that of a guest that reset itself.
	ResetCheck = "reset"
	// ReportCheck is the one that Blame adds.
	ReportCheck = "report"
)

// consolePrefix begins the title of a complaint of the kernel's.
const consolePrefix = subjects.ConsoleCheck + ": "
