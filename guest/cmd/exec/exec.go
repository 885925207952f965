//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
	"patchproof/guest/event/report"
	"patchproof/guest/ktap"
	"patchproof/guest/machine"
)

// skipCode is the exit code of a test that was not run (KSFT_SKIP,
// tools/testing/selftests/kselftest.h).
const skipCode = 4

// maxSuiteResults bounds the results of all tests of a suite that are told one by one: the
// host takes so many events and no more.
const maxSuiteResults = 50_000

func run(t *report.T) {
	test, err := specification()
	if err != nil {
		t.Error("exec", err)
		return
	}
	// A signal to all processes is meant for the test.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	if test.HostRoot {
		if err := enterHostRoot(); err != nil {
			t.Error("exec", fmt.Errorf("the host's root: %w", err))
			return
		}
	}
	if err := prepare(); err != nil {
		t.Error("exec", err)
		return
	}
	if test.Disk != "" {
		if err := onDisk(test); err != nil {
			t.Error("exec", err)
			return
		}
	}
	out := &output{send: func(part []byte) { t.File(event.OutputFile, part) }}
	if len(test.Suite) > 0 {
		runSuite(t, test.Suite, out)
	} else {
		tap := ktap.NewReader(func(r ktap.Result) { t.Verdict(r.Name, r.Verdict, r.Detail) }, event.TestChecks...)
		out.line = tap.Line
		state, late, err := execute(test, out)
		t.Tested()
		out.close()
		tap.End()
		conclude(t, "exit", test, out, state, late, err)
	}
	sendResults(t, out.sent)
}

// runSuite runs tests one after the other: what one of them does to its time keeps no other
// from running. The checks of one begin with its name.
func runSuite(t *report.T, tests []event.Test, out *output) {
	if only, ok := machine.BootOption(event.OnlyKey); ok {
		named := strings.Split(only, ",")
		tests = slices.DeleteFunc(tests, func(test event.Test) bool { return !slices.Contains(named, test.Name) })
	}
	left := maxSuiteResults
	from, _ := machine.BootOption(event.FromKey)
	first, _ := strconv.Atoi(from)
	for _, test := range tests[min(first, len(tests)):] {
		if test.Missing != "" {
			verdict := event.Skip
			if test.Broken {
				verdict = event.Fail
			}
			t.Verdict(test.Name, verdict, test.Missing)
			continue
		}
		tap := ktap.NewReader(func(r ktap.Result) {
			left--
			t.Verdict(test.Name+"/"+r.Name, r.Verdict, r.Detail)
		})
		tap.Most(left)
		out.next(test.Name, tap.Line)
		time.Sleep(seconds(test.UptimeS) - machine.Uptime())
		tell(event.Running + test.Name)
		state, late, err := execute(test, out)
		out.endPart()
		tap.End()
		conclude(t, test.Name, test, out, state, late, err)
		if late != "" && state == nil {
			// It cannot be killed, and may be in the way of the others: they run in another
			// guest.
			break
		}
	}
	t.Tested()
	out.close()
}

// tell puts a line into the kernel's log, as far as that can be had.
func tell(line string) {
	// A warning, as init has the console leave out what is less. A file that stays open may
	// write ten lines in five seconds.
	os.WriteFile("/dev/kmsg", []byte("<12>"+line+"\n"), 0)
}

// conclude reports the check of how a test ended.
func conclude(t *report.T, check string, test event.Test, out *output, state *os.ProcessState, late string, err error) {
	if err != nil {
		t.Error(check, err)
		return
	}
	verdict, detail := judge(state, late, test.SkipCode)
	remark := func(format string, args ...any) {
		first, rest, _ := strings.Cut(detail, "\n")
		detail = first + "; " + fmt.Sprintf(format, args...) + "\n" + rest
	}
	if killed := oomKills() - out.oomKills; verdict != event.Pass && killed > 0 {
		remark("memory ran out while it ran (tasks killed for that: %d), MEMORY= gives it more", killed)
	}
	if verdict == event.Fail && len(test.Unseen) > 0 {
		where := "is not in the guest's PATH"
		if !test.HostRoot {
			where = "the guest does not have, or not whole, without ROOT=host"
		}
		remark("it names what %s: %s", where, strings.Join(test.Unseen, ", "))
	}
	if lacks := out.lacked(); verdict != event.Pass && len(lacks) > 0 {
		remark("by its output there was not: %s", strings.Join(lacks, ", "))
	}
	if verdict == event.Fail && test.Partly != "" {
		remark("what it needs may be missing: %s", test.Partly)
	}
	if recent := out.last(); verdict != event.Pass && len(recent) > 0 {
		remark("its last line: %s", recent[len(recent)-1])
		detail = strings.TrimSpace(detail + "\n\nIts last lines:\n" + strings.Join(recent, "\n"))
	}
	t.Verdict(check, verdict, detail)
}

// oomKills is how many tasks the kernel says in its log, as far as it goes back, that it has
// killed because memory ran out. Not every config counts them in /proc/vmstat.
func oomKills() int {
	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log)
	if err != nil {
		return 0
	}
	return bytes.Count(log[:n], []byte("ut of memory: Killed process "))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func specification() (event.Test, error) {
	name, _ := machine.BootOption(event.TestKey)
	var test event.Test
	text, err := os.ReadFile(filepath.Join(event.TestDir, name+".json"))
	if err != nil {
		return test, err
	}
	if err := json.Unmarshal(text, &test); err != nil {
		return test, fmt.Errorf("the specification of test %s: %w", name, err)
	}
	if len(test.Argv) == 0 && len(test.Suite) == 0 {
		return test, fmt.Errorf("the specification of test %s has no command", name)
	}
	return test, nil
}

// homely are folders that programs expect and of which the guest has none of the host's, links
// those that are found elsewhere.
var (
	homely = []string{"/root", "/home", "/mnt", "/media", "/srv", "/var/lib", "/var/log", "/var/cache", "/var/spool"}
	links  = map[string]string{"/var/run": "/run", "/var/tmp": "/tmp"}
)

// prepare makes the places that tests expect. A file system that the kernel lacks is no
// trouble: what needs it will say so.
func prepare() error {
	for _, dir := range homely {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for link, target := range links {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	for _, dir := range event.ScratchDirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// A test may fill it, and the machine must not end with that.
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=1777,size=25%"); err != nil {
			return fmt.Errorf("a tmpfs on %s: %w", dir, err)
		}
		brought, _ := os.ReadDir(filepath.Join(event.BroughtDir, dir))
		for _, e := range brought {
			if err := os.Symlink(filepath.Join(event.BroughtDir, dir, e.Name()), filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// u-root's init gives each controller a hierarchy of its own (cgroup v1); no distribution does any more.
	v1, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, dir := range append(v1, "/sys/fs/cgroup") {
		unix.Unmount(dir, 0)
	}
	// What any distribution mounts.
	for _, fs := range []struct{ kind, dir, options string }{
		{"debugfs", "/sys/kernel/debug", ""}, {"tracefs", "/sys/kernel/tracing", ""},
		// Without its mode nobody but root may open a terminal.
		{"devpts", "/dev/pts", "ptmxmode=666,gid=5,mode=620"},
		{"cgroup2", "/sys/fs/cgroup", ""}, {"securityfs", "/sys/kernel/security", ""}, {"configfs", "/sys/kernel/config", ""},
		{"bpf", "/sys/fs/bpf", ""}, {"mqueue", "/dev/mqueue", ""}, {"hugetlbfs", "/dev/hugepages", ""},
	} {
		if os.MkdirAll(fs.dir, 0o755) == nil && unix.Mount(fs.kind, fs.dir, fs.kind, 0, fs.options) != nil {
			// Where the kernel lacks it there is no such folder; one of sysfs is the kernel's.
			os.Remove(fs.dir)
		}
	}
	if err := moduleNodes(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("guest")); err != nil {
		return fmt.Errorf("the machine's name: %w", err)
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, "/dev/"+name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	// A test that lowers the console's level, as dmesg -n 1 does, must not hide what the kernel
	// complains of. From the beginning, it would have the boot print more.
	err := os.WriteFile("/sys/module/printk/parameters/ignore_loglevel", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the console's level: %w", err)
	}
	// Whatever the test does to the machine's memory, its verdict must come out.
	return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
}

// moduleNodes makes the device nodes of modules that are not loaded, as any distribution does when it
// boots (kmod static-nodes): who opens one, as /dev/fuse, has the kernel load its module.
func moduleNodes() error {
	lists, err := filepath.Glob("/lib/modules/*/modules.devname")
	if err != nil || len(lists) == 0 {
		return err // most kernels have no modules
	}
	text, err := os.ReadFile(lists[0])
	if err != nil {
		return err
	}
	for _, n := range nodes(string(text)) {
		file := filepath.Join("/dev", n.name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := unix.Mknod(file, n.mode, int(unix.Mkdev(n.major, n.minor))); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("the device node %s: %w", file, err)
		}
	}
	return nil
}

// node is a device node below /dev.
type node struct {
	name         string
	mode         uint32
	major, minor uint32
}

// nodes are those that depmod(8) lists, each with its module: "fuse fuse c10:229".
func nodes(list string) (all []node) {
	for line := range strings.Lines(list) {
		var module, device string
		n := node{mode: unix.S_IFCHR | 0o666}
		if _, err := fmt.Sscanf(line, "%s %s %s", &module, &n.name, &device); err != nil || !filepath.IsLocal(n.name) {
			continue
		}
		if strings.HasPrefix(device, "b") {
			n.mode = unix.S_IFBLK | 0o666
		}
		if _, err := fmt.Sscanf(device[1:], "%d:%d", &n.major, &n.minor); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// onDisk makes a file system on a disk, and mounts it where the tests begin.
func onDisk(test event.Test) error {
	made, err := exec.Command(test.Mkfs[0], append(test.Mkfs[1:], test.Disk)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("a file system on %s: %w: %s", test.Disk, err, made)
	}
	if err := os.MkdirAll(test.Dir, 0o755); err != nil {
		return err
	}
	if err := mount(test.Disk, test.Dir, "ext4", 0, ""); err != nil {
		return err
	}
	for _, helper := range test.Helpers {
		if err := os.Symlink(helper, filepath.Join(test.Dir, filepath.Base(helper))); err != nil {
			return err
		}
	}
	return nil
}

// childArg has the program become the test, see child.
const childArg = "become"

// child gives up what the program has and the test should not, and becomes the test. It
// returns only to the shell, with 127.
func child(argv []string) {
	os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0)
	err := unix.Exec(argv[0], argv, os.Environ())
	fmt.Fprintf(os.Stderr, "exec %s: %v\n", argv[0], err)
	os.Exit(127)
}

// goneArg has the program say that another of its kind is gone, see gone.
const goneArg = "gone"

// gone is what init starts when the program has ended without powering the machine off,
// which it never does by itself.
func gone() {
	// What goes to stdout is copied by init, which may not come to it any more.
	fd, err := unix.Open("/dev/console", unix.O_WRONLY, 0)
	if err == nil {
		unix.Write(fd, []byte(event.RunnerGone+"\n"))
		unix.IoctlSetInt(fd, unix.TCSBRK, 1) // until it is sent, tcdrain(3)
	}
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Fprintf(os.Stderr, "exec: power-off: %v\n", err)
	os.Exit(1)
}

// execute runs the test to its end or to its limit, and ends what it left behind.
func execute(test event.Test, out *output) (state *os.ProcessState, late string, err error) {
	out.oomKills = oomKills()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	defer read.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{childArg}, test.Argv...)...)
	cmd.Args[0] = "exec" // by which busybox knows the program
	cmd.Dir, cmd.Stdout, cmd.Stderr = test.Dir, write, write
	cmd.Env = []string{
		"PATH=" + strings.Join(append(slices.Clip(test.Commands), event.TestPath), ":"),
		"HOME=/tmp", "TMPDIR=/tmp", "LANG=C.UTF-8", "TERM=dumb", "PATCHPROOF=1", "RESULTS=" + event.ResultsDir,
	}
	if len(test.Libraries) > 0 {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+strings.Join(test.Libraries, ":"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, "", fmt.Errorf("the test could not be started: %w", err)
	}
	write.Close()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		out.copy(read)
	}()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	select {
	case err = <-ended:
	case had := <-overdue(ctx, seconds(test.TimeoutS)):
		late = had + ", and was killed\n" + cmp.Or(machine.StuckTasks(), "no task of it is stuck in the kernel")
	}
	// Everything but this program and init, which a signal to all leaves out
	// (kill(2)); more than once, because what forks may escape.
	for range 20 {
		if unix.Kill(-1, unix.SIGKILL) == unix.ESRCH {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if late != "" {
		select {
		case err = <-ended:
		case <-time.After(machine.Patience(time.Second)):
			// It cannot be killed; its stacks are in late.
		}
	}
	select {
	case <-drained:
	case <-time.After(machine.Patience(2 * time.Second)):
		// Something that cannot be killed holds the pipe.
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return nil, "", fmt.Errorf("waiting for the test: %w", err)
	}
	return cmd.ProcessState, late, nil
}

// overdue says when a test that begins now has had its time, and how much that was. What it
// computes may take as much longer as this guest is slower; what it waits for is no slower here
// than elsewhere, where the limit would be over, too, unless it is the host that is busy.
func overdue(ctx context.Context, limit time.Duration) <-chan string {
	late := make(chan string, 1)
	go func() {
		begun, idle, patience, waiting := time.Now(), machine.Idle(), machine.Patience(limit), machine.WaitPatience(limit)
		for ctx.Err() == nil {
			time.Sleep(min(250*time.Millisecond, limit))
			elapsed := time.Since(begun)
			waited := allIdle(idle, machine.Idle(), elapsed)
			switch {
			case elapsed >= patience && patience == limit:
				late <- fmt.Sprintf("the test had not ended after %v", limit)
			case elapsed >= patience:
				late <- fmt.Sprintf("the test had not ended after %v (its TIMEOUT of %v, longer by as much as this guest is slower)", patience.Round(time.Second/10), limit)
			case waited >= waiting:
				late <- fmt.Sprintf("the test had not ended after %v, of which it waited %v (its TIMEOUT)", elapsed.Round(time.Second), waiting.Round(time.Second/10))
			default:
				continue
			}
			return
		}
	}()
	return late
}

// allIdle is for how long of a time no processor had anything to do, or less. Beside a test that
// always computes, on one processor after the other, all but one can idle: what they idled
// beyond that, all of them did at once.
func allIdle(before, after map[string]time.Duration, elapsed time.Duration) time.Duration {
	var sum time.Duration
	processors := 0
	for cpu, idle := range after {
		if was, there := before[cpu]; there {
			sum += idle - was
			processors++
		}
	}
	if processors == 0 {
		return 0
	}
	return max(0, sum-time.Duration(processors-1)*elapsed)
}

// judge says what the test's end means.
func judge(state *os.ProcessState, late string, skip int) (event.Verdict, string) {
	if late != "" {
		return event.Hang, late
	}
	status := state.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		return event.Fail, fmt.Sprintf("the test was killed by signal %d, %v", status.Signal(), status.Signal())
	case status.ExitStatus() == 0:
		return event.Pass, ""
	case status.ExitStatus() == skipCode, status.ExitStatus() == skip:
		return event.Skip, fmt.Sprintf("the test ended with %d: skipped", status.ExitStatus())
	}
	return event.Fail, fmt.Sprintf("the test ended with %d", status.ExitStatus())
}
