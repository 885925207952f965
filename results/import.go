package results

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"patchproof/guest/event"
	"patchproof/patches/regular"
)

// Hardware is the accelerator's name in a run that a bundle's collector made on a
// machine of its own, and Guest in one that it made in a VM. Neither is QEMU's here.
const (
	Hardware = "hardware"
	Guest    = "guest"
)

// collectionFile keeps what was collected beside the run.json that is made of it.
const collectionFile = "collection.json"

// Import makes runs below root (results/out) of what a bundle's collector wrote:
// one for each bundle and machine, in which every boot of a kernel is an
// iteration. Boots that are known already are not added again, and those of a
// bundle and machine that were imported before go to the same run. judge completes
// a cell from what the kernel logged and what is declared for it. It returns the
// runs' folders. A file that cannot be believed changes nothing on disk.
func Import(root string, files []string, judge func(c *Cell, log []string, known json.RawMessage) error) (dirs []string, err error) {
	var boots []event.Boot
	for _, file := range files {
		more, err := readCollection(file)
		if err != nil {
			return nil, err
		}
		boots = append(boots, more...)
	}
	var keys []string
	groups := map[string][]event.Boot{}
	for _, b := range boots {
		key := groupOf(b)
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], b)
	}
	known, err := imported(root)
	if err != nil {
		return nil, err
	}
	var writers []*importWriter
	for _, key := range keys {
		w := known[key]
		if w == nil {
			w = &importWriter{}
		}
		w.boots = merge(append(w.boots, groups[key]...))
		if err := w.build(judge); err != nil {
			return nil, err
		}
		writers = append(writers, w)
	}
	for _, w := range writers {
		if err := w.write(root); err != nil {
			return dirs, fmt.Errorf("importing: %w", err)
		}
		dirs = append(dirs, w.dir)
	}
	return dirs, nil
}

// groupOf tells bundles and machines apart, and a machine from a VM on it.
func groupOf(b event.Boot) string {
	return b.Bundle + " " + b.Facts.Machine + " " + b.Facts.Hypervisor
}

func readCollection(file string) ([]event.Boot, error) {
	text, err := regular.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	var c event.Collection
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s: not a collector's file: %w", file, err)
	}
	if c.Schema > event.CollectionSchema {
		return nil, fmt.Errorf("%s: written with schema %d, this patchproof reads up to %d: update patchproof to read it", file, c.Schema, event.CollectionSchema)
	}
	if c.Schema < 1 || len(c.Boots) == 0 {
		return nil, fmt.Errorf("%s: not a collector's file: it has no boots (patchproof results import reads what `bb collect` writes)", file)
	}
	for i, b := range c.Boots {
		if b.ID == "" || b.Bundle == "" || b.Facts.Release == "" {
			return nil, fmt.Errorf("%s: boot %d has no id, bundle or kernel release", file, i+1)
		}
	}
	return c.Boots, nil
}

// imported finds the runs that were imported before.
func imported(root string) (map[string]*importWriter, error) {
	found := map[string]*importWriter{}
	files, err := filepath.Glob(filepath.Join(root, "[0-9]*", collectionFile))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		boots, err := readCollection(file)
		if err != nil {
			return nil, err
		}
		found[groupOf(boots[0])] = &importWriter{dir: filepath.Dir(file), boots: boots}
	}
	return found, nil
}

// merge keeps each boot once, the record of it that has most, oldest first.
func merge(boots []event.Boot) []event.Boot {
	var all []event.Boot
	for _, b := range boots {
		i := slices.IndexFunc(all, func(old event.Boot) bool { return old.ID == b.ID })
		switch {
		case i < 0:
			all = append(all, b)
		case len(b.Ran) > len(all[i].Ran) || b.Finished:
			all[i] = b
		}
	}
	slices.SortStableFunc(all, func(a, b event.Boot) int { return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID)) })
	return all
}

// importWriter makes a run of boots.
type importWriter struct {
	// dir is empty until the run has a folder.
	dir   string
	boots []event.Boot
	run   Run
	// logs are the kernel's messages, by the file's name in the folder.
	logs map[string]string
}

// build makes the run, without touching the disk.
func (w *importWriter) build(judge func(*Cell, []string, json.RawMessage) error) error {
	first, last := w.boots[0], w.boots[len(w.boots)-1]
	w.logs = map[string]string{}
	w.run = Run{
		Schema: Schema, Titles: TitleRules, Status: Finished, Started: first.Started.UTC(), Finished: last.Started.UTC(),
		Host:    Host{OS: Line(first.Facts.Product), Kernel: Line(first.Facts.Release), CPU: Line(first.Facts.CPU), CPUs: first.Facts.CPUs},
		Accel:   Accel{Name: Hardware, Reason: "collected on the machine itself"},
		Kernels: []Kernel{}, Cells: []Cell{},
	}
	if h := first.Facts.Hypervisor; h != "" {
		w.run.Accel = Accel{Name: Guest, Reason: "collected in a VM on " + Line(h)}
	}
	iterations := map[[2]string]int{}
	for _, b := range w.boots {
		k, err := kernelOf(b)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(w.run.Kernels, func(old Kernel) bool { return old.Name == k.Name && old.Variant == k.Variant }) {
			w.run.Kernels = append(w.run.Kernels, k)
		}
		if !b.Finished {
			w.run.Status = Interrupted
		}
		ran := b.Ran
		if b.Running != "" {
			ran = append(slices.Clone(ran), event.Ran{Program: b.Running, Verdict: event.Error,
				Reason: "the record ends while it ran: the machine died, was switched off, or still runs it"})
		}
		for _, r := range ran {
			n := iterations[[2]string{k.Name, r.Program}] + 1
			iterations[[2]string{k.Name, r.Program}] = n
			if err := w.cell(k, r, n, b.Kernel.Known, judge); err != nil {
				return fmt.Errorf("%s on %s: %w", Line(r.Program), Line(k.Name), err)
			}
		}
	}
	w.run.ID = "import"
	return w.run.validate()
}

// kernelOf is what is known of the kernel of a boot: what the bundle says, or of
// another kernel its release.
func kernelOf(b event.Boot) (Kernel, error) {
	k := Kernel{Name: b.Facts.Release, Variant: "own", Series: []string{}, PatchIDs: []string{}, Features: []string{}}
	if b.Kernel.Name == "" {
		return k, nil
	}
	if err := json.Unmarshal(b.Kernel.Record, &k); err != nil {
		return k, fmt.Errorf("boot %s: its kernel's record: %w", Line(b.ID), err)
	}
	return k, nil
}

func (w *importWriter) cell(k Kernel, r event.Ran, n int, known json.RawMessage, judge func(*Cell, []string, json.RawMessage) error) error {
	c := Cell{Kernel: k.Name, Variant: k.Variant, Program: r.Program, Iteration: n, Verdict: r.Verdict, Reason: r.Reason,
		StartS: max(0, r.Started.Sub(w.run.Started).Seconds()), WallS: r.WallS, Checks: []Check{}, Metrics: append([]event.Metric{}, r.Metrics...)}
	for _, check := range r.Checks {
		c.Checks = append(c.Checks, Check{Check: check})
	}
	if !c.Verdict.Known() {
		return fmt.Errorf("unknown verdict %q", c.Verdict)
	}
	c.Metrics = append(c.Metrics, event.Metric{Name: "stolen", Value: r.StealS, Unit: "s"})
	if r.KHz > 0 {
		c.Metrics = append(c.Metrics, event.Metric{Name: "frequency-after", Value: float64(r.KHz) / 1000, Unit: "MHz"})
	}
	if err := judge(&c, r.Log, known); err != nil {
		return err
	}
	if r.LogTrouble != "" {
		c.Reason = strings.TrimSpace(c.Reason + " the kernel's log is not known: " + Line(r.LogTrouble))
	}
	if len(r.Log) > 0 {
		c.Console = strings.Map(inFileName, fmt.Sprintf("%s-%s-%s-%d.log", k.Name, k.Variant, r.Program, n))
		w.logs[c.Console] = strings.Join(r.Log, "\n") + "\n"
	}
	w.run.Cells = append(w.run.Cells, c)
	return nil
}

// inFileName has the shape that strings.Map wants.
func inFileName(r rune) rune {
	if r == '/' || r < ' ' || r > '~' {
		return '_'
	}
	return r
}

// write brings the run to the disk, run.json last.
func (w *importWriter) write(root string) (err error) {
	fresh := w.dir == ""
	if fresh {
		id, err := NewFolder(root, time.Now().UTC())
		if err != nil {
			return err
		}
		w.dir = filepath.Join(root, id)
	}
	defer func() {
		if err != nil && fresh {
			err = errors.Join(err, os.RemoveAll(w.dir))
		}
	}()
	w.run.ID = filepath.Base(w.dir)
	for name, text := range w.logs {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	text, err := json.Marshal(event.Collection{Schema: event.CollectionSchema, Boots: w.boots})
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(w.dir, collectionFile), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := errors.Join((&Writer{dir: w.dir, run: w.run}).write(), w.run.export(w.dir)); err != nil {
		return err
	}
	return renameio.Symlink(w.run.ID, filepath.Join(root, latestLink))
}
