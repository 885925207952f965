package qemu

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hugelgupf/vmtest/qemu"
	"github.com/hugelgupf/vmtest/qemu/qevent"
	"golang.org/x/sys/unix"

	"patchproof/guest/event"
)

// link connects a QEMU chardev to the harness: a socket pair, whose one end
// QEMU inherits. Unlike a path it is never left behind, and unlike a pipe it
// goes both ways.
func link(id string, conn *net.Conn) qemu.Fn {
	return func(_ *qemu.IDAllocator, o *qemu.Options) error {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket pair for QEMU's %s: %w", id, err)
		}
		mine, theirs := os.NewFile(uintptr(fds[0]), id), os.NewFile(uintptr(fds[1]), id)
		defer mine.Close()
		if *conn, err = net.FileConn(mine); err != nil {
			theirs.Close()
			return err
		}
		o.AppendQEMU("-chardev", fmt.Sprintf("socket,id=%s,fd=%d", id, o.AddFile(theirs)))
		// Only QEMU may hold its end, so that QEMU's death ends ours.
		o.Tasks = append(o.Tasks, qemu.WaitVMStarted(func(context.Context, *qemu.Notifications) error {
			return theirs.Close()
		}))
		return nil
	}
}

// serial is the guest's first serial port: a pair of FIFOs. A socket would hold
// some 300 unread bytes, because QEMU writes them one by one, and v5.10 drops a
// character that the port does not take within 10 ms (wait_for_xmitr); a FIFO
// holds a megabyte.
type serial struct {
	path    string
	in, out *os.File
}

func openSerial(dir string) (*serial, error) {
	s := &serial{path: filepath.Join(dir, "console")}
	for name, file := range map[string]**os.File{".in": &s.in, ".out": &s.out} {
		if err := unix.Mkfifo(s.path+name, 0o600); err != nil {
			return nil, fmt.Errorf("a FIFO for the guest's console: %w", err)
		}
		// Opened for both so that it neither waits for QEMU nor ends before.
		fd, err := unix.Open(s.path+name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("a FIFO for the guest's console: %w", err)
		}
		*file = os.NewFile(uintptr(fd), s.path+name)
	}
	// Where the limit is lower the default has to do.
	unix.FcntlInt(s.out.Fd(), unix.F_SETPIPE_SZ, 1<<20)
	return s, unix.SetNonblock(int(s.out.Fd()), true)
}

func (s *serial) options() qemu.Fn {
	return qemu.WithQEMUArgs("-chardev", "pipe,id=console,path="+commas(s.path), "-serial", "chardev:console")
}

// copyTo drains the console until QEMU is gone and nothing is left. It must run
// all the time: a full FIFO stalls the guest.
func (s *serial) copyTo(w io.Writer, gone <-chan struct{}) {
	go func() {
		<-gone
		s.out.SetReadDeadline(time.Now())
	}()
	io.Copy(w, s.out)
	s.out.SetReadDeadline(time.Time{})
	rest, err := s.out.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 64<<10)
	rest.Read(func(fd uintptr) bool {
		for {
			n, err := unix.Read(int(fd), buf)
			if err != nil || n <= 0 {
				return true
			}
			w.Write(buf[:n])
		}
	})
}

func (s *serial) close() {
	s.in.Close()
	s.out.Close()
}

// monitor is QEMU's control socket, which speaks QMP.
func monitor(conn *net.Conn) qemu.Fn {
	return qemu.All(link("monitor", conn), qemu.WithQEMUArgs("-mon", "chardev=monitor,mode=control"))
}

// events is the virtio-serial port on which the program reports. The channel
// is closed at the end of the report or of QEMU.
//
// The library closes the channel a second time, and so panics, when a guest
// says twice that it is done. A guest must not be able to end the harness:
// that panic becomes the error of VM.Wait. broke is told the error that ends the
// report; nobody else learns of it while QEMU runs.
func events(ch chan<- event.Event, broke func(error)) qemu.Fn {
	return func(alloc *qemu.IDAllocator, o *qemu.Options) error {
		before := len(o.Tasks)
		if err := qevent.EventChannel(event.Port, ch)(alloc, o); err != nil {
			return err
		}
		for i, task := range o.Tasks[before:] {
			o.Tasks[before+i] = recovering(task, broke)
		}
		return nil
	}
}

// recovering turns a panic of the task into its error, and tells broke of either.
func recovering(task qemu.Task, broke func(error)) qemu.Task {
	return func(ctx context.Context, n *qemu.Notifications) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("the guest's report went on after its end (%v)", r)
			}
			if err != nil {
				broke(err)
			}
		}()
		return task(ctx, n)
	}
}
