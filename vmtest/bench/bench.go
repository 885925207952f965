package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"patchproof/patches/subjects"
	"patchproof/results"
	"patchproof/vmtest/qemu"
)

// Boots is how often each kernel is measured when nobody asks otherwise: twice,
// so that every run shows whether its figures come out the same again.
const Boots = 2

// Report writes what a run measured beside its run.json: bench.json, and for each
// kernel a <kernel>.bench.txt that benchstat reads. To w it writes the table and
// where the differences come from.
func Report(w io.Writer, b subjects.Bench, run *results.Run) error {
	rows := Rows(b, run)
	// Merged shards may have been measured on machines whose stores are elsewhere.
	elsewhere := slices.IndexFunc(run.Kernels, func(k results.Kernel) bool {
		_, err := os.Stat(k.Vmlinux)
		return errors.Is(err, fs.ErrNotExist)
	})
	var attributions []Attribution
	if elsewhere < 0 {
		var err error
		if attributions, err = attribute(b, run); err != nil {
			return err
		}
	}
	files, err := save(run, rows, struct {
		Run         string        `json:"run"`
		Rows        []Row         `json:"rows"`
		Attribution []Attribution `json:"attribution"`
	}{run.ID, rows, attributions})
	if err != nil {
		return err
	}
	if err := writeTables(w, rows); err != nil {
		return err
	}
	for _, a := range attributions {
		for _, name := range b.Explained {
			if a.Bench == name && len(a.Kernels) > 1 {
				fmt.Fprintln(w)
				if err := writeAttribution(w, a); err != nil {
					return err
				}
			}
		}
	}
	if elsewhere >= 0 {
		k := run.Kernels[elsewhere]
		fmt.Fprintf(w, "\nWhere the differences come from is told where the kernels are; kernel %s has no %s here.\n", k.Name, k.Vmlinux)
	}
	fmt.Fprintf(w, "\nInstructions, not time. For benchstat: %s\n", strings.Join(files, " "))
	return nil
}

// ReportTimes does the same for a run that measured time.
func ReportTimes(w io.Writer, b subjects.Bench, run *results.Run) error {
	if run.Accel.Name != qemu.KVM && run.Accel.Name != results.Hardware {
		return fmt.Errorf("run %s measured time under %s, where it says nothing about hardware; make it again with ACCEL=%s", results.Line(run.ID), results.Line(run.Accel.Name), qemu.KVM)
	}
	times, doubts := TimeRows(b, run), doubtsOf(b, run)
	files, err := save(run, Rows(b, run), struct {
		Run    string    `json:"run"`
		Times  []TimeRow `json:"times"`
		Doubts []string  `json:"doubts"`
	}{run.ID, times, doubts})
	if err != nil {
		return err
	}
	if err := writeTimes(w, times, doubts); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "For benchstat: %s\n", strings.Join(files, " "))
	return err
}

// save writes bench.json and the files for benchstat, whose names it returns.
func save(run *results.Run, rows []Row, record any) (files []string, err error) {
	if err := results.WriteJSON(filepath.Join(run.Dir, "bench.json"), record); err != nil {
		return nil, err
	}
	for _, k := range run.Kernels {
		var text bytes.Buffer
		if err := writeBenchfmt(&text, run, k, rows); err != nil {
			return nil, err
		}
		file := filepath.Join(run.Dir, k.Name+".bench.txt")
		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}
