package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/results/seal"
)

// warm gives the box the suite's base kernel and sees that it boots.
func (b *box) warm() {
	b.Helper()
	records, _ := filepath.Glob(filepath.Join(store(), "kernels", "*", "built.json"))
	for _, file := range records {
		text, err := os.ReadFile(file)
		b.must(err)
		if strings.Contains(string(text), `"Kernel": "base"`) && strings.Contains(string(text), `"Variant": "plain"`) {
			dir := filepath.Dir(file)
			copyTree(dir, filepath.Join(b.cache, "kernels", filepath.Base(dir)))
		}
	}
	copyTree(filepath.Join(store(), "requests"), filepath.Join(b.cache, "requests"))
	b.env = []string{"ACCEL=tcg", "KERNELS=base", "PROGRAMS=nop"}
	if ls, _ := filepath.Glob(filepath.Join(b.cache, "kernels", "*")); len(ls) == 0 {
		b.Skip("the store has no base kernel; make build KERNELS=base")
	}
	if code, log := b.end(b.command("vmtest")); code != 0 {
		b.Skipf("a plain run does not pass:\n%s", log)
	}
}

// boots runs the box's selection and holds its exit code against what is wanted.
func (b *box) boots(code int, words string) *results.Run {
	b.Helper()
	return b.booted(code, words, b.command("vmtest"))
}

func (b *box) booted(code int, words string, cmd *exec.Cmd) *results.Run {
	b.Helper()
	got, log := b.end(cmd)
	if got != code || !strings.Contains(log, words) {
		b.Fatalf("exit code %d; want %d and %q:\n%s", got, code, words, log)
	}
	for line := range strings.SplitSeq(log, "\n") {
		if dir, ok := strings.CutSuffix(line, "/run.json"); ok {
			run, err := results.Read(dir)
			b.must(err)
			return run
		}
	}
	return nil
}

// recovers says that a run passes and leaves nothing.
func (b *box) recovers() {
	b.Helper()
	b.env = []string{"ACCEL=tcg", "KERNELS=base", "PROGRAMS=nop"}
	b.boots(0, "")
	b.clean()
	if pid := b.guest(0); pid != 0 {
		b.Errorf("QEMU %d lives on", pid)
	}
}

// guest waits for a QEMU of this box and returns its process, 0 if there is none.
func (b *box) guest(patience time.Duration) int { return b.process("qemu-system-", patience) }

// process waits for one whose command line begins so and names the box's cache.
func (b *box) process(begins string, patience time.Duration) int {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			line, _ := os.ReadFile(file)
			if bytes.HasPrefix(line, []byte(begins)) && bytes.Contains(line, []byte(b.cache)) {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
				return pid
			}
		}
		if time.Now().After(end) {
			return 0
		}
	}
}

// qemu puts a script before the real QEMU.
func (b *box) qemu(script string) {
	b.Helper()
	real, err := exec.LookPath("qemu-system-x86_64")
	b.must(err)
	bin := filepath.Join(b.dir, "bin")
	b.write(filepath.Join(bin, "qemu-system-x86_64"), "#!/bin/sh\nREAL="+real+"\n"+script+"\n")
	b.must(os.Chmod(filepath.Join(bin, "qemu-system-x86_64"), 0o755))
	b.env = append(b.env, "PATH="+bin+":"+os.Getenv("PATH"))
}

func bootFaults() []fault {
	var all []fault
	add := func(name, want string, run func(b *box)) {
		all = append(all, fault{group: "A guest", name: name, want: want, boots: true, run: func(b *box) {
			run(b)
			b.recovers()
		}})
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT} {
		add(fmt.Sprintf("somebody sends QEMU %v", signalName(signal)), "exit 2, no verdict", func(b *box) {
			b.env = []string{"ACCEL=tcg", "KERNELS=base", "PROGRAMS=fixedfile"}
			go func() {
				if pid := b.guest(30 * time.Second); pid != 0 {
					time.Sleep(time.Second)
					syscall.Kill(pid, signal)
				}
			}()
			b.boots(2, "")
		})
	}
	add("somebody stops QEMU for a while", "run again, exit 0", func(b *box) {
		go func() {
			if pid := b.guest(30 * time.Second); pid != 0 {
				time.Sleep(300 * time.Millisecond)
				syscall.Kill(pid, syscall.SIGSTOP)
				time.Sleep(10 * time.Second)
				syscall.Kill(pid, syscall.SIGCONT)
			}
		}()
		b.boots(0, "")
	})
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		add(fmt.Sprintf("all of it gets %v in a boot", signalName(signal)), "the record says so, nothing is left", func(b *box) {
			b.env = []string{"ACCEL=tcg", "KERNELS=base", "PROGRAMS=fixedfile"}
			cmd := b.command("vmtest")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			b.must(cmd.Start())
			if b.guest(30*time.Second) == 0 {
				b.Skip("no QEMU came up")
			}
			time.Sleep(500 * time.Millisecond)
			syscall.Kill(-cmd.Process.Pid, signal)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); signal != syscall.SIGKILL && code != 2 {
				b.Errorf("exit code %d; want 2", code)
			}
		})
	}
	// alone kills a command without its group while a process of it is at work, which must end, too.
	alone := func(b *box, command, process string) {
		cmd := b.command(command)
		cmd.Stdin = strings.NewReader("sleep 1000\n")
		b.must(cmd.Start())
		pid := b.process(process, 30*time.Second)
		if pid == 0 {
			b.Skipf("there was no %s", process)
		}
		time.Sleep(500 * time.Millisecond)
		b.must(cmd.Process.Kill())
		_ = cmd.Wait()
		for range 100 {
			if b.process(process, 0) != pid {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		b.Errorf("%q, %d, lives on", process, pid)
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, command := range []string{"vmtest", "shell"} {
		add("patchproof "+command+" alone gets SIGKILL", "its QEMU ends with it, nothing is left", func(b *box) {
			b.env = []string{"ACCEL=tcg", "KERNELS=base", "PROGRAMS=fixedfile"}
			alone(b, command, "qemu-system-")
		})
	}
	add("patchproof alone gets SIGKILL while it makes the initramfs", "the compiler ends with it, nothing is left", func(b *box) {
		b.must(os.RemoveAll(filepath.Join(b.cache, "initramfs")))
		// With a cache of its own it takes a while.
		b.env = append(b.env, "GOCACHE="+filepath.Join(b.dir, "gocache"))
		alone(b, "vmtest", "go\x00build")
	})
	add("TMPDIR is full", "exit 2, it asks for space", func(b *box) {
		if os.Getuid() != 0 {
			b.Skip("mounting needs root")
		}
		small := filepath.Join(b.dir, "small")
		b.must(os.MkdirAll(small, 0o755))
		if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
			b.Skip(err)
		}
		defer syscall.Unmount(small, syscall.MNT_DETACH)
		b.env = []string{"ACCEL=tcg", "KERNELS=base", "PROGRAMS=faults", "TMPDIR=" + small}
		b.boots(2, "TMPDIR")
	})
	add("a run's record cannot be written for a while", "exit 2, the record says that it is not whole", func(b *box) {
		if os.Getuid() != 0 {
			b.Skip("mounting needs root")
		}
		root, err := kernel.Checkout()
		b.must(err)
		b.env = append(b.env, "JOBS=1", "COUNT=2", "OUT="+filepath.Join(root, "results/out"), "WAS="+filepath.Join(b.dir, "was"))
		// Nothing replaces what something is mounted on.
		b.qemu(`case "$*" in *-kernel*)
			if mkdir $WAS; then
				file=$(realpath $OUT/latest)/run.json; echo $file >$WAS/file; mount --bind $file $file
			else
				umount $(cat $WAS/file)
			fi 2>/dev/null
		esac; exec $REAL "$@"`)
		run := b.boots(2, "device or resource busy")
		if run == nil || run.Status != results.Interrupted {
			b.Errorf("the run's record is %+v; want one that is not finished", run)
		}
	})
	for _, how := range []string{"is empty", "is cut", "has a bit"} {
		add("the initramfs "+how, "made again, exit 0", func(b *box) {
			b.must(spoilings[how](b.one("initramfs/*.cpio")))
			b.boots(0, "")
		})
	}
	for _, how := range []string{"is empty", "is cut", "has a bit"} {
		add("a run's record "+how, "exit 2, it is not believed", func(b *box) {
			run := b.boots(0, "")
			file := filepath.Join(run.Dir, "run.json")
			b.must(spoilings[how](file))
			if code, log := b.end(b.command("results", "show", run.Dir)); code != 2 || !strings.Contains(log, file) {
				b.Errorf("results show ended with %d; want 2 and the name of %s:\n%s", code, file, log)
			}
		})
		add("what was found out about KVM "+how, "tried again, exit 0", func(b *box) {
			b.env = []string{"KERNELS=base", "PROGRAMS=nop"}
			b.boots(0, "")
			files, _ := filepath.Glob(filepath.Join(b.cache, "kvm.json"))
			if len(files) == 0 {
				b.Skip("KVM needs no trial here")
			}
			b.must(spoilings[how](files[0]))
			b.boots(0, "")
			if _, sealed, err := seal.Read(files[0]); !sealed || err != nil {
				b.Errorf("%s was not made again: sealed %v, %v", files[0], sealed, err)
			}
		})
	}
	for name, script := range map[string]string{
		"is too old":               `[ "$1" = --version ] && { echo 'QEMU emulator version 2.11.1'; exit; }; exec $REAL "$@"`,
		"prints no version":        `[ "$1" = --version ] && exit; exec $REAL "$@"`,
		"fails at once":            `[ "$1" = --version ] && exec $REAL "$@"; echo 'cannot set up guest memory' >&2; exit 1`,
		"crashes at once":          `[ "$1" = --version ] && exec $REAL "$@"; kill -SEGV $$`,
		"ends without a word":      `[ "$1" = --version ] && exec $REAL "$@"; exit 0`,
		"ends well in a boot":      `case "$*" in *-kernel*) ;; *) exec $REAL "$@";; esac; $REAL "$@" & sleep 0.2; kill -KILL $!; wait $!; exit 0`,
		"is deaf and does nothing": `case "$*" in *-kernel*) ;; *) exec $REAL "$@";; esac; trap '' INT TERM; while :; do sleep 1; done`,
		"lacks its sandbox":        `case "$*" in *-sandbox*) echo 'qemu: -sandbox: seccomp support is disabled' >&2; exit 1;; esac; exec $REAL "$@"`,
	} {
		code := 2
		if name == "lacks its sandbox" {
			code = 0
		}
		add("QEMU "+name, fmt.Sprintf("exit %d", code), func(b *box) {
			b.qemu(script)
			b.boots(code, "")
		})
	}
	for name, command := range map[string]string{
		"umask 133":              "umask 133; patchproof vmtest",
		"no HOME, and no GOPATH": `env -i PATH="$PATH" CACHE="$CACHE" TMPDIR="$TMPDIR" ACCEL=tcg KERNELS=base PROGRAMS=nop patchproof vmtest`,
	} {
		add(name, "exit 0, the initramfs is whole", func(b *box) {
			b.must(os.RemoveAll(filepath.Join(b.cache, "initramfs")))
			cmd := b.command()
			sh := exec.Command("sh", "-c", command)
			sh.Dir, sh.Env = cmd.Dir, cmd.Env
			b.booted(0, "", sh)
		})
	}
	add("nobody reads the output", "ends in order, nothing is left", func(b *box) {
		cmd := b.command()
		sh := exec.Command("sh", "-c", "COUNT=4 patchproof vmtest 2>&1 | head -1; sleep 1")
		sh.Dir, sh.Env = cmd.Dir, cmd.Env
		b.end(sh)
		b.clean()
	})
	add("20 cells in a row", "20 times the same verdict, nothing is left", func(b *box) {
		b.env = append(b.env, "COUNT=20")
		run := b.boots(0, "")
		if run == nil || len(run.Cells) != 20 || slices.ContainsFunc(run.Cells, func(c results.Cell) bool { return c.Verdict != "pass" }) {
			b.Errorf("run = %+v; want 20 cells that pass", run)
		}
	})
	slices.SortStableFunc(all, func(x, y fault) int { return strings.Compare(x.name, y.name) })
	return all
}
