//go:build linux

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// port is a virtio-serial port, written with plain blocking system calls:
// hugelgupf/vmtest's guest.SerialEventChannel opens it through package os,
// which puts it in Go's poller, where a wake-up can be lost.
type port struct{ fd int }

// envelope is the line that hugelgupf/vmtest's qemu/qevent expects.
type envelope struct {
	Action string       `json:"hugelgupf_vmtest_guest_action"`
	Actual *event.Event `json:",omitempty"`
}

// openPort opens the port of that name.
func openPort(name string) (*port, error) {
	const class = "/sys/class/virtio-ports"
	ports, err := os.ReadDir(class)
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		got, err := os.ReadFile(filepath.Join(class, p.Name(), "name"))
		if err != nil || string(bytes.TrimSpace(got)) != name {
			continue
		}
		dev := "/dev/" + p.Name()
		fd, err := unix.Open(dev, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", dev, err)
		}
		return &port{fd: fd}, nil
	}
	return nil, fmt.Errorf("no virtio-serial port is called %s", name)
}

func (p *port) emit(e event.Event) error {
	return p.write(envelope{Action: "guestevent", Actual: &e})
}

// close says that no more events come, and returns when the host has taken
// all of them: closing a port sends a control message and waits until the
// host has consumed it (drivers/char/virtio_console.c, port_fops_release and
// __send_control_msg), and the host serves the data queue in the same turn.
func (p *port) close() error {
	if err := p.write(envelope{Action: "done"}); err != nil {
		return err
	}
	return unix.Close(p.fd)
}

func (p *port) write(e envelope) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return err
	}
	for b := line.Bytes(); len(b) > 0; {
		// The driver takes at most 32 KiB at a time.
		n, err := unix.Write(p.fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
