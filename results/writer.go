package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"patchproof/guest/event"
	"patchproof/results/seal"
)

const (
	runFile    = "run.json"
	latestLink = "latest"
)

// Writer keeps one run's record on disk. Its methods may be called from
// several goroutines.
type Writer struct {
	dir string
	// unlock is never called: the lock ends with the process, as whatever is still
	// written into the folder does.
	unlock func()

	// began is when the run did, by a clock that nobody sets where it is this process's run.
	began time.Time

	mu  sync.Mutex
	run Run
}

// Create makes the run's folder under root (results/out), writes its first
// run.json there and lets root/latest point at it. It sets the schema, the id,
// the status and, if missing, the start; a new run has no cells. When it fails, no folder stays.
func Create(root string, run Run) (*Writer, error) {
	if run.Started.IsZero() {
		run.Started = time.Now()
	}
	began := run.Started
	run.Started = run.Started.UTC() // which no more knows that clock
	run.Schema, run.Titles, run.Status, run.Finished = Schema, TitleRules, Running, time.Time{}
	id, err := NewFolder(root, run.Started)
	if err != nil {
		return nil, fmt.Errorf("making a folder for the results: %w", err)
	}
	run.ID = id
	// Lists, never null: readers in other languages iterate over them.
	run.Cells = []Cell{}
	if run.Kernels == nil {
		run.Kernels = []Kernel{}
	}
	w := &Writer{dir: filepath.Join(root, id), began: began, run: run}
	if w.unlock, err = lockRun(w.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.dir))
	}
	if err := w.write(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.dir))
	}
	if err := renameio.Symlink(id, filepath.Join(root, latestLink)); err != nil {
		return nil, errors.Join(fmt.Errorf("pointing %s at the new run: %w", filepath.Join(root, latestLink), err), os.RemoveAll(w.dir))
	}
	return w, nil
}

// CheckRoot finds what would keep a run from being the latest below root, if there is a root.
func CheckRoot(root string) error {
	link := filepath.Join(root, latestLink)
	if info, err := os.Lstat(link); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder, and a link to the run goes there; move it away", link)
	}
	return nil
}

// NewFolder makes a new folder for a run below root (results/out) and returns its name, which sorts by
// time. Runs that start in the same millisecond are told apart by mkdir, which
// lets only one of them have a name.
func NewFolder(root string, started time.Time) (string, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	stamp := started.Format("20060102-150405.000")
	id := stamp
	for n := 2; ; n++ {
		err := os.Mkdir(filepath.Join(root, id), 0o755)
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		id = fmt.Sprintf("%s-%d", stamp, n)
	}
}

// Dir is the run's folder, where the console logs belong.
func (w *Writer) Dir() string { return w.dir }

// AddKernel records a kernel that is ready to boot.
func (w *Writer) AddKernel(k Kernel) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range []*[]string{&k.Series, &k.PatchIDs, &k.Features} {
		if *list == nil {
			*list = []string{}
		}
	}
	w.run.Kernels = append(w.run.Kernels, k)
	return w.write()
}

// Add records a finished cell. A cell that cannot be written as JSON (a figure
// that is not a number) is refused. When the disk refuses it is kept, and the
// next Add or Finish tries again.
func (w *Writer) Add(c Cell) error {
	if c.Checks == nil {
		c.Checks = []Check{}
	}
	if c.Metrics == nil {
		c.Metrics = []event.Metric{}
	}
	if _, err := json.Marshal(c); err != nil {
		return fmt.Errorf("recording %s on %s: %w", c.Program, c.Kernel, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run.Cells = append(w.run.Cells, c)
	return w.write()
}

// Hold compares a patched kernel with its base, and makes what is recorded say so.
func (w *Writer) Hold(base, patched string, strict bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run.Against = Hold(w.run.Cells, base, patched, strict)
	return w.write()
}

// Again is as the function of that name, of the cells so far.
func (w *Writer) Again(base, patched string) []Repeat {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Again(w.run.Cells, base, patched)
}

// Finish records how the run ended and when, and writes the files for other tools. Where the clock
// was set back meanwhile the end is that of the clock which the run began by.
func (w *Writer) Finish(s Status) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run.Status, w.run.Finished = s, time.Now().UTC()
	if by := w.run.Started.Add(time.Since(w.began)); by.After(w.run.Finished) {
		w.run.Finished = by
	}
	return errors.Join(w.write(), w.run.export(w.dir))
}

// WriteJSON writes what lies beside a run.json, or is no record of a run, for people and
// other tools: indented, and in one step.
func WriteJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return renameio.WriteFile(path, append(text, '\n'), 0o644)
}

// write replaces run.json in one step, so that a reader, or a kill at any
// moment, meets either the old record or the new one.
func (w *Writer) write() error {
	return seal.Write(filepath.Join(w.dir, runFile), w.run)
}
