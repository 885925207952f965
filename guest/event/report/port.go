//go:build linux

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
	"patchproof/guest/machine"
)

// port is a virtio-serial port, written with plain blocking system calls:
// hugelgupf/vmtest's guest.SerialEventChannel opens it through package os,
// which puts it in Go's poller, where a wake-up can be lost.
type port struct {
	fd int
	// sent counts the bytes.
	sent int
}

// promptBytes is what the host's side takes at once, whatever it is doing: half of what
// a pipe holds.
const promptBytes = 32 << 10

// envelope is the line that hugelgupf/vmtest's qemu/qevent expects.
type envelope struct {
	Action string       `json:"hugelgupf_vmtest_guest_action"`
	Actual *event.Event `json:",omitempty"`
}

// ports is where the kernel lists them, each with the name that QEMU gave it.
const ports = "/sys/class/virtio-ports"

// consoleDriver is where the kernel links the devices that ports belong to.
const consoleDriver = "/sys/bus/virtio/drivers/virtio_console"

// portPatience is how long the host's names for a device's ports may take.
const portPatience = 5 * time.Second

// awaitPort opens the port of that name. A guest that has a device for ports
// waits for it: the name comes in a message of the host's after the device was
// found, which a worker takes after boot went on
// (drivers/char/virtio_console.c, control_work_handler).
func awaitPort(name string) (*port, error) {
	for end := time.Now().Add(machine.Patience(portPatience)); ; time.Sleep(time.Millisecond) {
		p, err := openPort(name)
		if err == nil || !hasPorts() || time.Now().After(end) {
			return p, err
		}
	}
}

// hasPorts says whether the machine has a device for ports.
func hasPorts() bool {
	devices, err := os.ReadDir(consoleDriver)
	return err == nil && slices.ContainsFunc(devices, func(d os.DirEntry) bool {
		return strings.HasPrefix(d.Name(), "virtio")
	})
}

// openPort opens the port of that name. Like everything up to the first event
// it keeps to system calls: on an emulated CPU most of a program's start is the
// translation of code that runs once, and package os brings a lot of it.
func openPort(name string) (*port, error) {
	dir, err := unix.Open(ports, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", ports, err)
	}
	defer unix.Close(dir)
	entries := make([]byte, 4096)
	n, err := unix.ReadDirent(dir, entries)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ports, err)
	}
	_, _, nodes := unix.ParseDirent(entries[:n], -1, nil)
	for _, node := range nodes {
		if got, err := readName(ports + "/" + node + "/name"); err != nil || got != name {
			continue
		}
		fd, err := unix.Open("/dev/"+node, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open /dev/%s: %w", node, err)
		}
		return &port{fd: fd}, nil
	}
	return nil, fmt.Errorf("no virtio-serial port is called %s", name)
}

// readName reads a small file that ends in a newline.
func readName(file string) (string, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	text := make([]byte, 256)
	n, err := unix.Read(fd, text)
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSpace(text[:n])), nil
}

func (p *port) emit(e event.Event) error {
	if e.Kind == event.KindStart {
		return p.write(startLine(e))
	}
	return p.encode(envelope{Action: "guestevent", Actual: &e})
}

// startLine is the first event as encode would write it, without the JSON
// encoder, whose first use is a tenth of the program's way to its first event.
func startLine(e event.Event) []byte {
	line := append([]byte(nil), `{"hugelgupf_vmtest_guest_action":"guestevent","Actual":{"seq":`...)
	line = strconv.AppendInt(line, int64(e.Seq), 10)
	line = append(line, `,"kind":"start","program":`...)
	line = strconv.AppendQuote(line, e.Program)
	line = append(line, `,"uptime_s":`...)
	line = strconv.AppendFloat(line, e.UptimeS, 'f', -1, 64)
	return append(line, "}}\n"...)
}

// close says that no more events come, and returns when the host has taken
// all of them: closing a port sends a control message and waits until the
// host has consumed it (drivers/char/virtio_console.c, port_fops_release and
// __send_control_msg), and the host serves the data queue in the same turn.
func (p *port) close() error {
	// A host that is slower than the guest has the data queue stand full, and QEMU
	// forgets what is in it at a power-off. Once as many blanks as it has places
	// (128, hw/char/virtio-serial-bus.c) were taken, all before them is the host's. They
	// stand before the last line, where JSON does not mind them.
	if p.sent > promptBytes {
		for range 160 {
			if err := p.write([]byte(" ")); err != nil {
				return err
			}
		}
	}
	if err := p.encode(envelope{Action: "done"}); err != nil {
		return err
	}
	return unix.Close(p.fd)
}

func (p *port) encode(e envelope) error {
	line, err := encoded(e)
	if err != nil {
		return err
	}
	return p.write(line)
}

func encoded(e envelope) ([]byte, error) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(e)
	return line.Bytes(), err
}

func (p *port) write(line []byte) error {
	for len(line) > 0 {
		// The driver takes at most 32 KiB at a time.
		n, err := unix.Write(p.fd, line)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		line = line[n:]
		p.sent += n
	}
	return nil
}
