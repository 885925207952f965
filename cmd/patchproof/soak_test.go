package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"patchproof/results"
)

// load is what a run uses of the machine at a moment.
type load struct {
	memoryKiB, descriptors, processes, temporary int
}

// TestSoak runs many cells in a row, SOAK of them (make soak), and compares what the
// harness uses in the second quarter of the time with what it uses in the last: what grows
// with the cells leaks. It wants a machine with nothing else to do.
func TestSoak(t *testing.T) {
	cells, _ := strconv.Atoi(os.Getenv("SOAK"))
	if cells < 1 {
		t.Skip("SOAK is not set; make soak")
	}
	b := newBox(t, true)
	stored := size(t, b.cache)
	b.env = append(b.env, "COUNT="+strconv.Itoa(cells))
	var out bytes.Buffer
	cmd := b.command("vmtest")
	cmd.Stdout, cmd.Stderr = &out, &out
	b.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var seen []load
	for tick := time.NewTicker(200 * time.Millisecond); ; {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("the run ended with %v:\n%s", err, out.String())
			}
			compareLoads(t, seen)
			sameVerdicts(t, out.String(), cells)
			if now := size(t, b.cache); now != stored {
				t.Errorf("the cache grew from %d to %d bytes", stored, now)
			}
			b.clean()
			return
		case <-tick.C:
			if l, ok := loadOf(cmd.Process.Pid, b.tmp); ok {
				seen = append(seen, l)
			}
		}
	}
}

func compareLoads(t *testing.T, seen []load) {
	t.Helper()
	quarter := len(seen) / 4
	if quarter < 10 {
		t.Fatalf("only %d samples: too short a run to tell anything", len(seen))
	}
	for _, of := range []struct {
		name  string
		value func(load) int
		// more is what the median may be higher at the end: of memory, the record of
		// the cells.
		more int
	}{
		{"memory (KiB)", func(l load) int { return l.memoryKiB }, 32 << 10},
		{"descriptors", func(l load) int { return l.descriptors }, 2},
		{"processes", func(l load) int { return l.processes }, 1},
		{"temporary files", func(l load) int { return l.temporary }, 2},
	} {
		early, late := median(seen[quarter:2*quarter], of.value), median(seen[3*quarter:], of.value)
		t.Logf("%s: %d in the second quarter, %d in the last", of.name, early, late)
		if late > early+of.more {
			t.Errorf("%s grow: %d in the second quarter, %d in the last", of.name, early, late)
		}
	}
}

func median(seen []load, value func(load) int) int {
	var all []int
	for _, l := range seen {
		all = append(all, value(l))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func sameVerdicts(t *testing.T, log string, cells int) {
	t.Helper()
	for line := range strings.SplitSeq(log, "\n") {
		dir, ok := strings.CutSuffix(line, "/run.json")
		if !ok {
			continue
		}
		run, err := results.Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		verdicts := map[string]int{}
		for _, c := range run.Cells {
			verdicts[c.Program+" "+string(c.Verdict)]++
		}
		if len(run.Cells) != cells || len(verdicts) != 1 {
			t.Errorf("verdicts = %v; want %d times the same", verdicts, cells)
		}
		return
	}
	t.Errorf("no record:\n%s", log)
}

// loadOf looks at a process, at what it started, and at its temporary folder.
func loadOf(pid int, tmp string) (l load, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return l, false
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			l.memoryKiB, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		}
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return l, false
	}
	l.descriptors = len(open)
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range children {
		text, _ := os.ReadFile(file)
		l.processes += len(strings.Fields(string(text)))
	}
	_ = filepath.WalkDir(tmp, func(string, fs.DirEntry, error) error {
		l.temporary++
		return nil
	})
	return l, l.memoryKiB > 0
}

// size is that of all files in a folder.
func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
