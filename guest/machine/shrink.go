//go:build linux

package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Shrunk is one round of a shrinker, as the kernel's tracing tells it.
type Shrunk struct {
	// Counted is what the shrinker said it has.
	Counted int
	// Asked is how many objects it was asked to scan in all calls that freed any,
	// and Freed how many it said that it freed in them.
	Asked, Freed int
}

// ShrinkEvents returns a round for each time that a shrinker whose callback's name
// begins with prefix was asked while do ran. A kernel without tracing events gives
// an error that wraps fs.ErrNotExist, and do is not run.
func ShrinkEvents(prefix string, do func() error) ([]Shrunk, error) {
	dir, err := traceFS()
	if err != nil {
		return nil, err
	}
	set := func(name, value string) error { return os.WriteFile(dir+"/"+name, []byte(value), 0) }
	const start, end = "events/vmscan/mm_shrink_slab_start/enable", "events/vmscan/mm_shrink_slab_end/enable"
	if err := errors.Join(set("trace", ""), set(start, "1"), set(end, "1")); err != nil {
		return nil, err
	}
	err = do()
	if err := errors.Join(err, set(start, "0"), set(end, "0")); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(dir + "/trace")
	if err != nil {
		return nil, err
	}
	return parseShrunk(string(text), prefix)
}

// parseShrunk pairs the starts and ends of one shrinker
// (include/trace/events/vmscan.h, do_shrink_slab). One thread shrinks at a time.
func parseShrunk(trace, prefix string) ([]Shrunk, error) {
	// Compiled here, since a package's variables are initialised in every process of a guest.
	shrinkStart := regexp.MustCompile(`mm_shrink_slab_start: (\S+) .* cache items (-?\d+) delta \d+ total_scan (-?\d+)`)
	shrinkEnd := regexp.MustCompile(`mm_shrink_slab_end: (\S+) .* total_scan (-?\d+) last shrinker return val (-?\d+)`)
	var rounds []Shrunk
	total := -1
	for line := range strings.Lines(trace) {
		if found := shrinkStart.FindStringSubmatch(line); found != nil && strings.HasPrefix(found[1], prefix) {
			counted, _ := strconv.Atoi(found[2])
			total, _ = strconv.Atoi(found[3])
			rounds = append(rounds, Shrunk{Counted: counted})
		}
		if found := shrinkEnd.FindStringSubmatch(line); found != nil && strings.HasPrefix(found[1], prefix) {
			if total < 0 {
				return nil, fmt.Errorf("a shrinker ends that did not begin: %s", strings.TrimSpace(line))
			}
			left, _ := strconv.Atoi(found[2])
			last := &rounds[len(rounds)-1]
			last.Asked = total - left
			last.Freed, _ = strconv.Atoi(found[3])
			total = -1
		}
	}
	return rounds, nil
}

// traceFS returns the folder of tracefs, which it mounts if nobody has.
func traceFS() (string, error) {
	const dir = "/sys/kernel/tracing"
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("the kernel has no tracing: %w", err)
	}
	if _, err := os.Stat(dir + "/trace"); errors.Is(err, fs.ErrNotExist) {
		if err := unix.Mount("tracefs", dir, "tracefs", 0, ""); err != nil {
			return "", fmt.Errorf("mount tracefs: %w", err)
		}
	}
	_, err := os.Stat(dir + "/events/vmscan/mm_shrink_slab_start")
	return dir, err
}
