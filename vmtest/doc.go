// Package vmtest boots kernels and says what guest programs found in them.
//
// A cell is one program run once on one kernel, in its own VM. Plan.Run takes
// the cells of a selection through these steps, each in a file of its own:
// QEMU is found (qemu.go) and an accelerator chosen by booting with it
// (accel.go); the initramfs is built or reused (initramfs.go); a VM is put
// together from devices (devices.go) and booted (boot.go); its console is
// logged and watched for the kernel's own complaints (package console);
// a VM that is stuck is asked where (qmp.go, boot.go); and the program's
// events, the console and the end of QEMU together give the verdict
// (verdict.go), which is then held against the known issues (known.go).
//
// The suite itself is vmtest_test.go: `go test ./vmtest`.
package vmtest
