// Package vmtest boots kernels and says what guest programs found in them.
//
// A cell is one program run once on one kernel, in its own VM. Plan.Run takes the
// cells of a selection from the kernels to the verdicts. What a cell needs has a room
// of its own: the guest's initramfs (initramfs), QEMU and the guest in it (qemu), what
// the kernel says on its console (console) and the counting of instructions (counter).
// The program's events, the console and the end of QEMU together give the verdict
// (verdict.go), which is then held against the known issues (known.go).
//
// The suite itself is vmtest_test.go: `go test ./vmtest`.
package vmtest
