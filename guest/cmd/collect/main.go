//go:build linux

// Command collect is the runner of a bundle: it runs the programs one after the
// other on whatever machine it finds itself on and writes what came of them to a
// file that `patchproof results import` reads.
//
// What a program does to the machine is in the bundle's manifest. Without being
// told to, nothing that a machine in use would mind is run on one that is no VM, and
// no disk is written to, VM or not.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
	"patchproof/guest/machine"
)

func main() {
	o, err := parse(os.Args[1:], os.Stdout)
	code := 2
	if err == nil {
		code, err = run(o, os.Stdout)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		code = 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "collect: %v\n", err)
		code = 2
	}
	if o.reboot {
		err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
		fmt.Fprintf(os.Stderr, "collect: reboot: %v\n", err)
	}
	os.Exit(code)
}

// options are the command line.
type options struct {
	out, save, scratch string
	destructive, list  bool
	reboot             bool
	scale              float64
	programs           []string
}

const usage = `usage: bb collect [flags] [program ...]

Runs the programs of the bundle on this machine, all by default, and writes what
came of them. Reading and taking part costs nothing; what would cost something is
refused until it is asked for.

`

func parse(args []string, out io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("collect", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.out, "out", "patchproof-results.json", "the `file` to write; a boot is added to what is in it. To a serial port (/dev/ttyS1) it is written at the end")
	flags.StringVar(&o.save, "save", "", "mount this `partition` (ext4 or vfat) and keep the file there")
	flags.StringVar(&o.scratch, "scratch", "", "a whole NVMe `disk` (/dev/nvme1n1) that programs may write to; its CONTENT WILL BE LOST")
	flags.BoolVar(&o.destructive, "destructive", false, "also on a machine that is no VM: take CPUs offline, drop its caches, try to crash the kernel")
	flags.BoolVar(&o.list, "list", false, "say what would be run and what not, and why")
	flags.Float64Var(&o.scale, "scale", 1, "multiply all limits of time, on a slow machine")
	flags.BoolVar(&o.reboot, "reboot", false, "reboot at the end, from the bundle's initramfs, so that the machine's own system comes back")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	o.programs = flags.Args()
	if err := o.check(); err != nil {
		return options{}, err
	}
	return o, nil
}

func (o options) check() error {
	// A disk and no partition of one: programs make their own.
	wholeNVMe := regexp.MustCompile(`^/dev/nvme\d+n\d+$`)
	switch {
	case o.scratch != "" && !wholeNVMe.MatchString(o.scratch):
		return fmt.Errorf("-scratch=%s: want a whole NVMe disk, such as /dev/nvme1n1", o.scratch)
	case o.scratch != "" && strings.HasPrefix(o.save, o.scratch):
		return fmt.Errorf("-save=%s lies on -scratch=%s, whose content will be lost", o.save, o.scratch)
	case o.reboot && !strings.HasPrefix(self(), "/bbin/"):
		return errors.New("-reboot is for the bundle's initramfs: this system wants to be shut down first")
	case o.scale < 1:
		return fmt.Errorf("-scale=%g: want a number from 1", o.scale)
	}
	return nil
}

func run(o options, stdout io.Writer) (code int, err error) {
	m, err := readManifest()
	if err != nil {
		return 2, err
	}
	facts := machine.Facts()
	wanted, refused, err := choose(m, o, facts, ranBefore())
	if err != nil {
		return 2, err
	}
	kernel := running(m, facts)
	describe(stdout, facts, kernel)
	for _, r := range refused {
		fmt.Fprintf(stdout, "not run: %s: %s\n", r.Program, r.Why)
	}
	if o.list {
		for _, p := range wanted {
			fmt.Fprintf(stdout, "would run: %s\n", p.Name)
		}
		return 0, nil
	}
	if len(wanted) == 0 {
		return 2, errors.New("nothing is left to run")
	}
	unmount, err := o.mount()
	if err != nil {
		return 2, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	file, err := open(o.out, event.Boot{
		ID: fmt.Sprintf("%s-%d", kernelBootID(), machine.Uptime().Milliseconds()), Bundle: m.Bundle, Started: time.Now().UTC(), Facts: facts, Kernel: kernel,
		Ran: []event.Ran{}, Refused: refused,
	})
	if err != nil {
		return 2, err
	}
	for i, p := range wanted {
		if err := errors.Join(noteRan(p.Name), file.begin(p.Name)); err != nil {
			return 2, err
		}
		ran := runProgram(p, o, kernel)
		fmt.Fprintf(stdout, "%d/%d  %s %s, %.1f s %s\n", i+1, len(wanted), ran.Verdict, p.Name, ran.WallS, ran.Reason)
		if ran.Verdict != event.Pass && ran.Verdict != event.Skip {
			code = 1
		}
		if err := file.end(ran); err != nil {
			return 2, err
		}
		if rest := wanted[i+1:]; code != 0 && len(rest) > 0 {
			fmt.Fprintf(stdout, "not run: the other %d, because %s may have left something behind in the kernel: boot again and name them\n", len(rest), p.Name)
			break
		}
	}
	if err := file.finish(); err != nil {
		return 2, err
	}
	where := o.out
	if o.save != "" {
		where = filepath.Base(o.out) + " on " + o.save
	}
	fmt.Fprintf(stdout, "written to %s; where the bundle was made: bin/patchproof results import FILE\n", where)
	return code, nil
}

// kernelBootID is the kernel's own: no two boots of any machine have the same.
func kernelBootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// describe says where it runs.
func describe(w io.Writer, f event.Facts, k event.BundledKernel) {
	name := k.Name
	if name == "" {
		name = "none of the bundle's kernels"
	}
	fmt.Fprintf(w, "kernel: %s (%s)\n", name, f.Release)
	where := strings.TrimSpace("no VM " + f.Product)
	if f.Hypervisor != "" {
		where = "a VM on " + f.Hypervisor
	}
	fmt.Fprintf(w, "machine: %s, %d x %s\n", where, f.CPUs, f.CPU)
	if f.Governor != "" && f.Governor != "performance" {
		fmt.Fprintf(w, "note: the frequency governor is %s; times are worth more with performance\n", f.Governor)
	}
}
