// Command bare is the least that can be an init: it prints a line and powers off.
package main

import (
	"os"
	"syscall"
)

func main() {
	os.Stdout.WriteString("BARE-INIT\n")
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
