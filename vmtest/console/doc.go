// Package console reads what a kernel prints: it keeps a guest's console in a file
// (log.go), finds the kernel's complaints in it and gives each a title that is the
// same in every run (splat.go, complaint.go), says where the tasks of a stuck guest are (dump.go),
// and in which lines of the source a complaint happened (symbolise.go). It knows no VM.
package console
