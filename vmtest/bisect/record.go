package bisect

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"patchproof/kernel"
	"patchproof/patches/regular"
	"patchproof/results"
	"patchproof/results/seal"
)

// Schema is the number of the records' format, as results.Schema is of run.json's.
const Schema = 2

// Record is bisect.json or bisect-config.json: what was asked, every kernel that
// was tried, and the answer. It is all that a search remembers: taken up again, the
// search goes its way anew and finds the trials made.
type Record struct {
	Schema int `json:"schema"`
	// Question identifies what was asked, and of which sources and programs.
	Question string         `json:"question"`
	Status   results.Status `json:"status"`
	Started  time.Time      `json:"started"`
	Finished time.Time      `json:"finished,omitzero"`
	// Selection holds the make variables that were set.
	Selection map[string]string `json:"selection"`
	Program   string            `json:"program"`
	Check     string            `json:"check,omitempty"`
	Variant   string            `json:"variant"`
	Host      results.Host      `json:"host"`
	Accel     results.Accel     `json:"accel"`
	QEMU      string            `json:"qemu"`
	// Voted are the ranges that were searched by quorum after git bisect had ended.
	Voted []string `json:"voted,omitempty"`
	// Trials are in the order in which they were made.
	Trials []*Trial `json:"trials"`
	Answer *Answer  `json:"answer,omitempty"`
	// Told is the answer as people were told it: see Report.
	Told string `json:"told,omitempty"`

	path string
}

// The roles of a trial.
const (
	roleGood    = "good end"
	roleBad     = "bad end"
	roleStep    = "step"
	roleOlder   = "older"
	roleParent  = "parent"
	roleRevert  = "revert"
	roleUndone  = "undone"
	roleWithout = "without the patch"
)

// Trial is a kernel that was built and run.
type Trial struct {
	// Key tells the trials of a search apart.
	Key string `json:"key"`
	// Title is how people are told of it.
	Title string `json:"title"`
	Role  string `json:"role"`
	// Commit is that of the kernel without what was put on top of it.
	Commit *kernel.Commit `json:"commit,omitempty"`
	// Options are those taken from the bad config, of a config search.
	Options []string `json:"options,omitempty"`
	// Fixups are the patches of FIXUP that it was built with.
	Fixups []string    `json:"fixups,omitempty"`
	Mark   kernel.Mark `json:"mark,omitempty"`
	// Why is the reason of the mark, in a line.
	Why string `json:"why,omitempty"`
	// Broken is why there is no kernel to run, in a line, and Detail all that is
	// known of it.
	Broken string `json:"broken,omitempty"`
	// Failure is the compiler's first error without the number of its line.
	Failure string `json:"failure,omitempty"`
	// Compiles says that the file of the error which is searched can be compiled, or has
	// other errors only, in a kernel that does not build.
	Compiles bool   `json:"compiles,omitempty"`
	Detail   string `json:"detail,omitempty"`
	// KernelKey and Vmlinux are the kernel's key in the store and its path there.
	KernelKey string `json:"kernel_key,omitempty"`
	Vmlinux   string `json:"vmlinux,omitempty"`
	// SameAs is the key of a trial that had run the same kernel: its cells are that one's.
	SameAs string `json:"same_as,omitempty"`
	// SameCode says whether the kernel has its parent's code, where that was looked at.
	SameCode *bool `json:"same_code,omitempty"`
	// Warnings are the compiler's, of the file that is searched.
	Warnings *[]string `json:"warnings,omitempty"`
	// Figure is that of METRIC.
	Figure *float64 `json:"figure,omitempty"`
	// Objects were compiled for it, unless the store had it.
	Reused  bool `json:"reused"`
	Objects int  `json:"objects"`
	// BuildS, RunS and WallS are seconds: for the build, for the guests, and in all.
	BuildS float64        `json:"build_s"`
	RunS   float64        `json:"run_s"`
	WallS  float64        `json:"wall_s"`
	Cells  []results.Cell `json:"cells"`
}

// trial returns the trial with the key, nil if there is none.
func (r *Record) trial(key string) *Trial {
	i := slices.IndexFunc(r.Trials, func(t *Trial) bool { return t.Key == key })
	if i < 0 {
		return nil
	}
	return r.Trials[i]
}

// save writes the record as a whole.
func (r *Record) save() error {
	return seal.Write(r.path, r)
}

// Path is the record's file.
func (r *Record) Path() string { return r.path }

// dir is the run's folder.
func (r *Record) dir() string { return filepath.Dir(r.path) }

// open finds the newest record that answers the question, or makes a folder for
// a new one. It looks in the runs' folder of the checkout. unlock lets another
// run take it up.
func open(name string, r Record, fresh bool) (_ *Record, unlock func(), err error) {
	checkout, err := kernel.Checkout()
	if err != nil {
		return nil, nil, err
	}
	root := filepath.Join(checkout, "results", "out")
	if !fresh {
		old, err := find(filepath.Join(root, "*", name), r.Question)
		if err != nil {
			return nil, nil, err
		}
		if old != nil {
			unlock, err := old.lock()
			return old, unlock, err
		}
	}
	r.Schema, r.Status, r.Started = Schema, results.Running, time.Now().UTC()
	id, err := results.NewFolder(root, r.Started)
	if err != nil {
		return nil, nil, fmt.Errorf("making a folder for the results: %w", err)
	}
	r.path = filepath.Join(root, id, name)
	r.Trials = []*Trial{}
	if unlock, err = r.lock(); err != nil {
		return nil, nil, err
	}
	return &r, unlock, r.save()
}

// lock keeps two runs from working on one record.
func (r *Record) lock() (unlock func(), err error) {
	file := regular.Lock(filepath.Join(r.dir(), "lock"))
	ok, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", r.dir(), err)
	}
	if !ok {
		return nil, fmt.Errorf("another run is making the same search in %s; wait for it, or start another with FRESH=1", r.dir())
	}
	return func() { file.Unlock() }, nil
}

// find returns the newest record of a question. Names sort by time.
func find(pattern, question string) (*Record, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	for _, path := range slices.Backward(paths) {
		// What is damaged, or no file, answers nothing: the search is made again. So does
		// another version's record.
		doc, _, err := seal.Read(path)
		var r Record
		if err != nil || json.Unmarshal(doc, &r) != nil || r.Schema != Schema || r.Question != question {
			continue
		}
		r.path = path
		return &r, nil
	}
	return nil, nil
}

// questionOf hashes what a question is made of.
func questionOf(parts ...string) string {
	sum := sha256.New()
	// What a signature is called is part of the question.
	fmt.Fprintf(sum, "titles %d\n", results.TitleRules)
	for _, part := range parts {
		fmt.Fprintf(sum, "%d:%s\n", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
