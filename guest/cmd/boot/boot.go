//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event/report"
	"patchproof/guest/machine"
)

// load is how long each kind of load lasts.
const load = 500 * time.Millisecond

// limit is how long a check may take.
const limit = 10 * time.Second

func run(t *report.T) {
	t.Check("cpus", cpus())
	t.Check("memory", memory())
	t.Check("disks", disks())
	for _, disk := range machine.Disks() {
		t.Within(limit, "disk/"+filepath.Base(disk), func() error { return writeAndRead(disk) })
	}
	t.Within(limit, "load/processes", processes)
	t.Within(limit, "load/files", func() error { return everywhere(files) })
	t.Within(limit, "load/pipes", func() error { return everywhere(pipes) })
	t.Within(limit, "load/memory", func() error { return everywhere(pages) })
	t.Within(limit, "clock", clock)
}

// cpus checks that all CPUs that the machine has are at work.
func cpus() error {
	want, err := bootNumber(machine.CPUsKey)
	if err != nil {
		return err
	}
	online, err := machine.OnlineCPUs()
	if err != nil {
		return err
	}
	if len(online) != want {
		return fmt.Errorf("%d CPUs are online, the machine has %d", len(online), want)
	}
	for _, cpu := range online {
		if err := machine.OnCPU(cpu, func() error { return nil }); err != nil {
			return fmt.Errorf("CPU %d takes no task: %w", cpu, err)
		}
	}
	return nil
}

// disks checks that the kernel has found all of them. They appear while drivers probe.
func disks() error {
	want, err := bootNumber(machine.DisksKey)
	if err != nil {
		return err
	}
	return machine.Await(limit, func() error {
		if got := len(machine.Disks()); got != want {
			return fmt.Errorf("the kernel has %d disks, the machine %d", got, want)
		}
		return nil
	})
}

// memory checks that the kernel has found the machine's memory: what it does not keep for
// itself. A debug kernel's KASAN takes an eighth.
func memory() error {
	want, err := bootNumber(machine.MemoryKey)
	if err != nil {
		return err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return machine.Trouble{Err: fmt.Errorf("sysinfo: %w", err)}
	}
	got := int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
	if got < want/2 || got > want {
		return fmt.Errorf("the kernel has %d MiB of memory, the machine %d", got, want)
	}
	return nil
}

func bootNumber(key string) (int, error) {
	value, _ := machine.BootOption(key)
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, machine.Trouble{Err: fmt.Errorf("%s=%q on the kernel command line is no number", key, value)}
	}
	return n, nil
}

// everywhere runs a load on each CPU at once, and again until its time is over.
func everywhere(once func(n int) error) error {
	online, err := machine.OnlineCPUs()
	if err != nil {
		return err
	}
	errs := make([]error, len(online))
	var wait sync.WaitGroup
	for i, cpu := range online {
		wait.Go(func() {
			errs[i] = machine.OnCPU(cpu, func() error {
				for end := time.Now().Add(load); time.Now().Before(end); {
					if err := once(i); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// processes starts some and looks what they end with.
func processes() error {
	for n := range 8 {
		cmd := exec.Command("/proc/self/exe", childArg, strconv.Itoa(n))
		cmd.Args[0] = "boot" // by which busybox knows the program
		err := cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != n {
			return fmt.Errorf("a process ended with %d and not with %d (%v)", code, n, err)
		}
	}
	return nil
}

const block = 64 << 10

func pattern(n int) []byte {
	b := make([]byte, block)
	machine.Pattern(b, n)
	return b
}

func files(n int) error {
	dir, err := os.MkdirTemp("", "load")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "file")
	want := pattern(n)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path, path+"2"); err != nil {
		return err
	}
	got, err := os.ReadFile(path + "2")
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("a file does not hold what was written")
	}
	return nil
}

func pipes(n int) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	want := pattern(n)
	go func() {
		w.Write(want)
		w.Close()
	}()
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("a pipe does not give what was written")
	}
	return nil
}

func pages(n int) error {
	const size = 4 << 20
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(b)
	for i := 0; i < size; i += os.Getpagesize() {
		if b[i] != 0 {
			return errors.New("new memory is not zero")
		}
		b[i] = byte(i>>12 + n)
	}
	for i := 0; i < size; i += os.Getpagesize() {
		if b[i] != byte(i>>12+n) {
			return errors.New("memory does not hold what was written")
		}
	}
	return nil
}

// clock checks that time goes on while a task sleeps, and that it does not go back.
func clock() error {
	before := machine.Uptime()
	time.Sleep(50 * time.Millisecond)
	if passed := machine.Uptime() - before; passed < 50*time.Millisecond {
		return fmt.Errorf("after a sleep of 50 ms the clock had gone on by %v", passed)
	}
	return nil
}

// writeAndRead fills the first and the last part of a scratch disk.
func writeAndRead(path string) error {
	fd, err := machine.OpenDisk(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	end, err := unix.Seek(fd, 0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("the size of %s: %w", path, err)
	}
	want, err := machine.Buffer(block)
	if err != nil {
		return err
	}
	got, err := machine.Buffer(block)
	if err != nil {
		return err
	}
	for n, at := range []int64{0, end - block} {
		machine.Pattern(want, n)
		if _, err := unix.Pwrite(fd, want, at); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if _, err := unix.Pread(fd, got, at); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if err := machine.ComparePattern(got, n); err != nil {
			return fmt.Errorf("%s does not hold what was written: %w", path, err)
		}
	}
	return nil
}
