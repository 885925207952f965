// Package counter counts the instructions that a guest executes, by a plugin of QEMU
// (plugin/counter.c), and reads what it counted.
package counter

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/kernel/host"
	"patchproof/results"
	"patchproof/vmtest/qemu"
)

//go:embed plugin/counter.c
var counterSource []byte

// api is the version of QEMU's plugin interface that the counter is compiled for:
// 9.0 took the functions of version 1 away. What came later it learns from QEMU.
func api(qemu string) int {
	var major int
	fmt.Sscanf(qemu, "%d.", &major)
	if major < 9 {
		return 1
	}
	return 2
}

// Build returns the path of the QEMU plugin that counts instructions, in
// the cache folder, after compiling it if need be.
func Build(ctx context.Context, cache string) (string, error) {
	version, err := qemu.Find(ctx)
	if err != nil {
		return "", err
	}
	define := fmt.Sprintf("-DAPI=%d", api(version))
	hash := sha256.Sum256(append([]byte(define), counterSource...))
	dir := filepath.Join(cache, "counter")
	name := fmt.Sprintf("%x", hash[:16])
	if file := kernel.Kept(dir, name, ".so"); file != "" {
		return file, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", host.Unwritable(err, cache, "CACHE")
	}
	tmp, err := os.MkdirTemp(dir, "*.tmp")
	if err != nil {
		return "", host.Unwritable(err, cache, "CACHE")
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "counter.so")
	cmd := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden", define, "-x", "c", "-o", out, "-")
	cmd.Stdin = strings.NewReader(string(counterSource))
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(ctx.Err(), fmt.Errorf("the instruction counter does not compile: %w\n%s", err, text))
	}
	return kernel.Keep(out, dir, name, ".so")
}

// The metrics of a counted cell: MetricOps is what the program reports of each
// workload, in operations per window, with the label LabelBench; MetricInsns and
// MetricInsnsMedian are made of the counts, in instructions per operation. The
// first is that of the window with the fewest: whatever a window has more is an
// interrupt or another thread, which only ever add. Of several CPUs it is their
// mean. The label LabelFigure names the one to show where that is not the first.
const (
	LabelFigure       = "figure"
	FigureMedian      = "median"
	LabelBench        = "bench"
	MetricOps         = "ops"
	MetricInsns       = "insns"
	MetricInsnsMedian = "insns-median"
	UnitInsns         = "insns/op"
	// What a slab cache holds, which a program reports itself with LabelBench.
	MetricSlabObjects = "slab-objects"
	MetricSlabBytes   = "slab-bytes"
)

// Add turns the counter's records into metrics of the cell.
func Add(cell *results.Cell, path string) error {
	counts, err := Read(path)
	if err != nil {
		return err
	}
	var measured []event.Metric
	for _, m := range cell.Metrics {
		if m.Name != MetricOps {
			continue
		}
		n := len(measured) / 2
		if n >= len(counts) || len(counts[n].Windows) == 0 {
			return fmt.Errorf("%s: nothing was counted for %s", path, m.Labels[LabelBench])
		}
		least, median := counts[n].figures()
		figure := func(name string, count float64) event.Metric {
			return event.Metric{Name: name, Value: count / m.Value, Unit: UnitInsns, Labels: map[string]string{LabelBench: m.Labels[LabelBench]}}
		}
		measured = append(measured, figure(MetricInsns, least), figure(MetricInsnsMedian, median))
	}
	cell.Metrics = append(cell.Metrics, measured...)
	return nil
}

// Counts are the instructions of one workload.
type Counts struct {
	// Windows holds the instructions of each window, by the CPU that they ran on.
	Windows map[int][]uint64
	// At holds the instructions at each address, the sum over the windows. With
	// several CPUs the address is the first of a translation block.
	At map[uint64]uint64
}

func newCounts() Counts { return Counts{Windows: map[int][]uint64{}, At: map[uint64]uint64{}} }

// NumWindows is how many windows there were, on all CPUs.
func (c Counts) NumWindows() int {
	n := 0
	for _, windows := range c.Windows {
		n += len(windows)
	}
	return n
}

// figures are the instructions of the least and of the median window, the mean
// over the CPUs.
func (c Counts) figures() (least, median float64) {
	for _, windows := range c.Windows {
		sorted := slices.Sorted(slices.Values(windows))
		least += float64(sorted[0]) / float64(len(c.Windows))
		median += float64(sorted[len(sorted)/2]) / float64(len(c.Windows))
	}
	return least, median
}

// Read reads what the counter wrote: the workloads in the order in which the
// guest ran them.
func Read(path string) ([]Counts, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Counts
	now := newCounts()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		var err error
		switch {
		case len(words) == 3 && words[0] == "window":
			var cpu int
			var count uint64
			if cpu, err = strconv.Atoi(words[1]); err == nil {
				count, err = strconv.ParseUint(words[2], 10, 64)
			}
			now.Windows[cpu] = append(now.Windows[cpu], count)
		case len(words) == 3 && words[0] == "at":
			var addr, count uint64
			if addr, err = strconv.ParseUint(words[1], 16, 64); err == nil {
				count, err = strconv.ParseUint(words[2], 10, 64)
			}
			now.At[addr] = count
		case len(words) == 1 && words[0] == "next":
			all = append(all, now)
			now = newCounts()
		default:
			err = errors.New("not a record of the counter")
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	return all, lines.Err()
}
