// Command hostile is the init of guests that misbehave. The harness's tests
// choose how with hostile=<name> on the kernel command line.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const done = `{"hugelgupf_vmtest_guest_action":"done"}` + "\n"

func event(seq int, rest string) string {
	return fmt.Sprintf(`{"hugelgupf_vmtest_guest_action":"guestevent","Actual":{"seq":%d,%s}}`, seq, rest) + "\n"
}

func main() {
	for _, fs := range []string{"devtmpfs", "proc", "sysfs"} {
		dir := map[string]string{"devtmpfs": "/dev", "proc": "/proc", "sysfs": "/sys"}[fs]
		if err := unix.Mount(fs, dir, fs, 0, ""); err != nil {
			fmt.Println("mount:", err)
		}
	}
	misbehave(option("hostile="))
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func option(key string) string {
	line, _ := os.ReadFile("/proc/cmdline")
	for _, word := range strings.Fields(string(line)) {
		if value, ok := strings.CutPrefix(word, key); ok {
			return value
		}
	}
	return ""
}

func misbehave(how string) {
	start := event(0, `"kind":"start","program":"nop"`)
	check := event(1, `"kind":"check","check":{"name":"a","verdict":"pass"}`)
	end := event(2, `"kind":"end","program":"nop","count":2`)
	switch how {
	case "well":
		report(start + check + end + done)
	case "line":
		fmt.Println("HOSTILE-INIT")
	case "mute":
		fmt.Println("HOSTILE-INIT")
		pause()
	case "lost":
		report(start + end + done)
	case "twice":
		report(start + check + check + end + done)
	case "after-end":
		report(start + check + end + event(3, `"kind":"log","text":"more"`) + done)
	case "done-twice":
		report(start + check + end + done + done)
	case "event-after-done":
		report(start + check + end + done + check)
	case "no-end":
		report(start + check + done)
	case "no-done":
		report(start + check)
	case "garbage":
		report(start + "\x00\xff\x1b[31m not JSON\n" + check + end + done)
	case "long-line":
		report(start + strings.Repeat("x", 100_000) + "\n" + check + end + done)
		// At the power-off QEMU forgets what the host has not yet read.
		pause()
	case "escapes":
		os.Stdout.WriteString("\x1b]0;title\x07\x1b[2J\x1b[31mred\x00\xff\xfe\u202eabc\r\n[BUG: not the kernel's]\nBUG: unable to handle nothing\n")
		os.Stdout.Write(append(bytes.Repeat([]byte("m"), 1<<20), '\n'))
		report(start + check + end + done)
	case "flood":
		report(start + check)
		for chunk := bytes.Repeat([]byte("0123456789abcdef flood\n"), 1<<12); ; {
			os.Stdout.Write(chunk)
		}
	case "hang":
		report(start + check)
		pause()
	case "hang-lost":
		report(start + end)
		pause()
	case "hang-garbage":
		report("not JSON\n")
		pause()
	case "exit":
		report(start + check)
		os.Exit(2)
	case "sysrq-crash":
		report(start + check)
		os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	}
}

// pause stays. The Go runtime's own signals end the system call.
func pause() {
	for {
		unix.Pause()
	}
}

// report writes to the events' port in one piece.
func report(text string) {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, name := range names {
		fd, err := unix.Open("/dev/"+filepath.Base(filepath.Dir(name)), unix.O_WRONLY, 0)
		if err != nil {
			fmt.Println("port:", err)
			return
		}
		for b := []byte(text); len(b) > 0; {
			n, err := unix.Write(fd, b)
			if err != nil {
				fmt.Println("port:", err)
				return
			}
			b = b[n:]
		}
		unix.Close(fd)
	}
}
