package qemu

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// guestVariable is in the environment of QEMU, and of what a wrapper around it starts: the
// folder of the guest.
const guestVariable = "PATCHPROOF_GUEST"

// leftPatience is how long what a wrapper left behind may take to end by itself, once the
// process that the harness started has ended.
const leftPatience = time.Second

// endLeft kills what is left of a guest when the process that the harness started has ended
// and gone is not closed. A wrapper may leave a process behind that keeps QEMU's outputs
// open, or QEMU itself, when it is killed and has not replaced itself by QEMU. Of a process
// that could not be found (0) nobody knows whether it has ended.
func endLeft(folder string, pid int, gone <-chan struct{}) {
	var ended time.Duration
	for pid != 0 {
		select {
		case <-gone:
			return
		case <-time.After(tick):
		}
		if !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			continue
		}
		if ended += tick; ended < leftPatience {
			continue
		}
		for _, left := range withVariable(folder) {
			unix.Kill(left, unix.SIGKILL)
		}
	}
}

// withVariable returns the processes that have a guest's folder in their environment.
func withVariable(folder string) []int {
	want := []byte("\x00" + guestVariable + "=" + folder + "\x00")
	var all []int
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if bytes.Contains(append([]byte{0}, text...), want) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			all = append(all, pid)
		}
	}
	return all
}
