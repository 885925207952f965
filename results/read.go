package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"patchproof/results/seal"
)

// upgrades[n] turns a document of schema n into one of schema n+1. Every rise
// of Schema adds one, so that each run.json ever written can still be read.
var upgrades = map[int]func(doc []byte) ([]byte, error){}

// Read gives back a run from its run.json or from the folder that holds it.
// What it returns has known verdicts and a known status, and console paths
// that stay inside the folder. Its strings may come from a guest: see Line.
func Read(path string) (*Run, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, runFile)
	}
	doc, _, err := seal.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no results there (give a run's folder, such as results/out/latest): %w", err)
	}
	if errors.Is(err, seal.ErrBroken) {
		return nil, fmt.Errorf("%s is not as it was written and is not believed (%w); make the run again, or remove that line to read it all the same", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	run, err := decode(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	run.Dir = filepath.Dir(path)
	// The link moves on with the next run; what is said about this one should not.
	if real, err := filepath.EvalSymlinks(run.Dir); err == nil {
		run.Dir = real
	}
	return run, nil
}

func decode(doc []byte) (*Run, error) {
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(doc, &head); err != nil {
		return nil, fmt.Errorf("not a run.json: %w", err)
	}
	if head.Schema > Schema {
		return nil, fmt.Errorf("written with schema %d, this patchproof reads up to %d: update patchproof to read it", head.Schema, Schema)
	}
	if head.Schema < 1 {
		return nil, errors.New("not a run.json: it has no schema number")
	}
	for n := head.Schema; n < Schema; n++ {
		var err error
		if doc, err = upgrades[n](doc); err != nil {
			return nil, fmt.Errorf("upgrading from schema %d: %w", n, err)
		}
	}
	var run Run
	if err := json.Unmarshal(doc, &run); err != nil {
		return nil, fmt.Errorf("not a run.json: %w", err)
	}
	if err := run.validate(); err != nil {
		return nil, err
	}
	return &run, nil
}

// validate refuses what would otherwise be judged or followed blindly.
func (r *Run) validate() error {
	if r.ID == "" {
		return errors.New("the run has no id")
	}
	switch r.Status {
	case Running, Finished, Interrupted:
	default:
		return fmt.Errorf("unknown status %q", r.Status)
	}
	if r.Shard != nil {
		if err := r.Shard.validate(); err != nil {
			return err
		}
	}
	for i, c := range r.Cells {
		if c.Kernel == "" || c.Program == "" {
			return fmt.Errorf("cell %d names no kernel or no program", i)
		}
		if !c.Verdict.Known() {
			return fmt.Errorf("cell %d (%s on %s): unknown verdict %q", i, c.Program, c.Kernel, c.Verdict)
		}
		if c.Console != "" && !filepath.IsLocal(c.Console) {
			return fmt.Errorf("cell %d (%s on %s): console path %q leaves the run's folder", i, c.Program, c.Kernel, c.Console)
		}
		for _, check := range c.Checks {
			if !check.Verdict.Known() {
				return fmt.Errorf("cell %d (%s on %s): check %q has the unknown verdict %q", i, c.Program, c.Kernel, check.Name, check.Verdict)
			}
		}
		if !slices.ContainsFunc(r.Kernels, func(k Kernel) bool { return k.Name == c.Kernel && k.Variant == c.Variant }) {
			return fmt.Errorf("cell %d (%s on %s): the run has no kernel %s of the variant %q", i, c.Program, c.Kernel, c.Kernel, c.Variant)
		}
	}
	return nil
}
