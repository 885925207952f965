package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"patchproof/results"
)

// Boots is how often each kernel is measured when nobody asks otherwise: twice,
// so that every run shows whether its figures come out the same again.
const Boots = 2

// explained are the workloads whose difference is shown function by function; all
// are in bench.json.
var explained = []string{"Nop/batch=32", "NopLinked/batch=320", "ReadTmpfs/file=plain/batch=32"}

// Report writes what a run measured beside its run.json: bench.json, and for each
// kernel a <kernel>.bench.txt that benchstat reads. To w it writes the table and
// where the differences come from.
func Report(w io.Writer, run *results.Run) error {
	rows := Rows(run)
	attributions, err := Attribute(run)
	if err != nil {
		return err
	}
	doc, err := json.MarshalIndent(struct {
		Run         string        `json:"run"`
		Rows        []Row         `json:"rows"`
		Attribution []Attribution `json:"attribution"`
	}{run.ID, rows, attributions}, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(run.Dir, "bench.json"), append(doc, '\n'), 0o644); err != nil {
		return err
	}
	var files []string
	for _, k := range run.Kernels {
		var text bytes.Buffer
		if err := WriteBenchfmt(&text, run, k, rows); err != nil {
			return err
		}
		file := filepath.Join(run.Dir, k.Name+".bench.txt")
		if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
			return err
		}
		files = append(files, file)
	}
	if err := WriteTable(w, rows); err != nil {
		return err
	}
	for _, a := range attributions {
		for _, name := range explained {
			if a.Bench == name && len(a.Kernels) > 1 {
				fmt.Fprintln(w)
				if err := WriteAttribution(w, a); err != nil {
					return err
				}
			}
		}
	}
	fmt.Fprintf(w, "\nInstructions, not time. For benchstat: %s\n", strings.Join(files, " "))
	return nil
}
