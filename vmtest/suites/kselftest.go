package suites

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/BurntSushi/toml"

	"patchproof/kernel"
)

// Target is a kselftest target of a source.
type Target struct {
	// Name is its folder below tools/testing/selftests.
	Name string
	// Timeout is how long each of its tests may run; 0 means that its settings set no
	// limit.
	Timeout time.Duration
}

// targetTimeout is what the kernel's own runner gives a test whose target does not say
// otherwise.
const targetTimeout = 45 * time.Second

// targetTimeoutLine is that of a target's settings.
var targetTimeoutLine = regexp.MustCompile(`(?m)^\s*timeout\s*=\s*(\d+)`)

// takenForGranted are options of the kernels that selftests are written on. The config files of the
// targets name what is special to them, and these only now and then; the variants leave them out.
const takenForGranted = `CONFIG_SYSVIPC=y
CONFIG_POSIX_MQUEUE=y
CONFIG_AIO=y
CONFIG_FHANDLE=y
CONFIG_INOTIFY_USER=y
CONFIG_FANOTIFY=y
CONFIG_RSEQ=y
CONFIG_KCMP=y
CONFIG_CROSS_MEMORY_ATTACH=y
CONFIG_CACHESTAT_SYSCALL=y
CONFIG_USERFAULTFD=y
CONFIG_BSD_PROCESS_ACCT=y
CONFIG_COREDUMP=y
CONFIG_SECCOMP=y
CONFIG_KEYS=y
CONFIG_CGROUPS=y
CONFIG_NAMESPACES=y
CONFIG_UTS_NS=y
CONFIG_IPC_NS=y
CONFIG_USER_NS=y
CONFIG_PID_NS=y
CONFIG_NET_NS=y
CONFIG_TIME_NS=y
CONFIG_CHECKPOINT_RESTORE=y
CONFIG_CONFIGFS_FS=y
CONFIG_CONNECTOR=y
CONFIG_PROC_EVENTS=y
CONFIG_TRANSPARENT_HUGEPAGE=y
CONFIG_PROC_PAGE_MONITOR=y
CONFIG_PROC_CHILDREN=y
CONFIG_ELF_CORE=y
CONFIG_IKCONFIG=y
CONFIG_IKCONFIG_PROC=y
CONFIG_BLK_DEV_LOOP=y
CONFIG_EXT4_FS=y
CONFIG_INET=y
CONFIG_IPV6=y
`

//go:embed kselftest.toml
var omittedText string

// omitted are options that tests of a target need and its config leaves out, by the target's name.
var omitted = sync.OnceValue(func() map[string][]string {
	var file struct {
		Target []struct {
			Name   string
			Config []string
		}
	}
	if _, err := toml.Decode(omittedText, &file); err != nil {
		panic(fmt.Sprintf("kselftest.toml: %v", err)) // it is a part of this program
	}
	all := map[string][]string{}
	for _, t := range file.Target {
		all[t.Name] = t.Config
	}
	return all
})

// ChooseTargets finds the targets that are asked for, each of which must be in one of the
// sources at least, and the config that they wish for.
func ChooseTargets(ctx context.Context, names []string, contents []kernel.Content) ([]Target, kernel.Fragment, error) {
	fragment := kernel.Fragment{Name: "for TEST=kselftest", Pulls: true, Wish: true}
	var targets []Target
	lines := strings.Split(strings.TrimSpace(takenForGranted), "\n")
	for _, name := range names {
		if slices.ContainsFunc(targets, func(t Target) bool { return t.Name == name }) {
			continue
		}
		dir := path.Join(kernel.SelftestsDir, name)
		files := []string{path.Join(dir, "Makefile"), path.Join(dir, "settings"), path.Join(dir, "config")}
		var texts map[string]string
		for _, c := range slices.Backward(contents) {
			var err error
			if texts, err = c.ReadAll(ctx, files); err != nil {
				return nil, fragment, err
			}
			if _, ok := texts[files[0]]; ok {
				break
			}
		}
		if _, ok := texts[files[0]]; !ok {
			have, err := allTargets(ctx, contents[0])
			if err != nil {
				return nil, fragment, err
			}
			return nil, fragment, fmt.Errorf("TEST=kselftest:%s: this kernel's source has no such target among its %d; most like it: %s", name, len(have), Near(name, have))
		}
		t := Target{Name: name, Timeout: targetTimeout}
		if m := targetTimeoutLine.FindStringSubmatch(texts[files[1]]); m != nil {
			seconds, err := strconv.Atoi(m[1])
			if err != nil || seconds > 24*60*60 {
				seconds = 0
			}
			t.Timeout = time.Duration(seconds) * time.Second
		}
		targets = append(targets, t)
		// What the target itself says of an option comes after, and counts.
		for _, line := range omitted()[name] {
			lines = append(lines, "CONFIG_"+line)
		}
		for line := range strings.Lines(texts[files[2]]) {
			if line = strings.TrimSpace(line); configLine.MatchString(line) {
				lines = append(lines, line)
			}
		}
	}
	fragment.Text = strings.Join(settle(lines), "\n") + "\n"
	return targets, fragment, nil
}

// configLine is a line of a config file that sets an option; the files of targets have
// others, too, that nobody reads.
var configLine = regexp.MustCompile(`^(?:CONFIG_\w+=(?:[ym]|\d+|0x[0-9a-fA-F]+|"[^"]*")|# CONFIG_\w+ is not set)$`)

// targetsLine is a line of the makefile that lists all targets.
var targetsLine = regexp.MustCompile(`(?m)^\s*TARGETS(?:_HOTPLUG)?\s*\+?=\s*([\w./-]+)\s*$`)

// allTargets are the targets that a source lists.
func allTargets(ctx context.Context, c kernel.Content) ([]string, error) {
	text, err := c.Read(ctx, path.Join(kernel.SelftestsDir, "Makefile"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, m := range targetsLine.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
