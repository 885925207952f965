//go:build linux

package uring

import "patchproof/guest/machine"

// Every function of io_uring that a task may sleep in begins so.
func init() { machine.Suspect(" io_") }

// BlockedReaders lists the worker threads of rings that are in a read of a pipe, on kernels
// where such a read blocks one: there these are the kernel's own (PipeReadsPoll).
func BlockedReaders() []machine.Task { return machine.KernelTasksIn("io_wqe_worker", "pipe_read") }

// ringExit is the kernel's function that tears a ring down, in a kworker
// (fs/io_uring.c, queued by io_ring_ctx_wait_and_kill).
const ringExit = "io_ring_exit_work"

// ExitingRings lists the kernel's threads that are tearing down a ring. It looks
// twice, as a thread that happens to run shows no stack.
func ExitingRings() []machine.Task {
	return append(machine.KernelTasksIn("kworker/", ringExit), machine.KernelTasksIn("kworker/", ringExit)...)
}
