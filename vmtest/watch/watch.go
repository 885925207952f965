// Package watch tests what arrives: each series of a folder, a maildir or a public-inbox clone,
// each commit of a branch, one after the other or some at once.
//
// All it knows is on disk, a folder for each job, and is written before it is acted upon. Who kills
// it and starts it again loses nothing, and no job runs twice:
//
//	STATE/state.json             what of the source has been seen
//	STATE/jobs/<job>/job.json    what a job is, and what came of it
//	STATE/jobs/<job>/patch/      the patch as it arrived
//	STATE/jobs/<job>/*.log       what the command said, a file for each shard
//	STATE/jobs/<job>/reply.txt   a draft of an answer
package watch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"patchproof/patches/regular"
	"patchproof/results"
	"patchproof/results/seal"
)

// Watch is a queue and how it is worked off.
type Watch struct {
	// State is the folder of all that is kept.
	State string
	// Source is what is watched; Since is the commit, of a branch or an inbox, that it begins after.
	Source, Since string
	// Command is run by the shell for each job. It is told PATCH (and TREE for a branch), with
	// several shards SHARD, and prints the path of its run.json. Merge makes one run of shards: a
	// command that takes their folders.
	Command string
	Merge   []string
	Shards  int
	// AtOnce is how many jobs are at work side by side.
	AtOnce int
	// Tries is how often a job is run that ends by the harness's trouble.
	Tries int
	// Every is how long to wait between looks.
	Every time.Duration
	// Draft writes an answer.
	Draft func(*results.Run) string
	// Say tells a person what happens. It is called by one goroutine at a time.
	Say func(format string, args ...any)

	// fresh are the states of files that were not there at an earlier look, and when that was.
	fresh map[string]time.Time
	// jobs are all there are: nobody else adds one or works on one while this watch has the lock.
	jobs []*Job
	// atWork are those that a goroutine has, which alone may look at them.
	atWork map[*Job]bool

	// mu guards what follows, and Say.
	mu sync.Mutex
	// retryAt is when a job that met trouble may be tried again, by its folder.
	retryAt map[string]time.Time
}

// say tells a person.
func (w *Watch) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Say(format, args...)
}

// Status is where a job is.
type Status string

// The statuses. A job that was at work when all was killed is still Queued.
const (
	Queued     Status = "queued"
	Expected   Status = "as expected"
	Unexpected Status = "unexpected"
	// Trouble means that it was tried as often as it may be.
	Trouble Status = "trouble"
	// Unreadable patches are never run.
	Unreadable Status = "unreadable"
	// Unfit means that the patch does not apply where it was to be tested, or changes nothing there.
	Unfit Status = "unfit"
)

// Job is one series or commit.
type Job struct {
	// ID is a message id, a commit, or the hash of a patch that has neither.
	ID string `json:"id"`
	// Title is its first subject.
	Title string `json:"title"`
	// Patch is what PATCH is set to, a path inside the job's folder where it is a file; Tree
	// is that of a commit.
	Patch string `json:"patch,omitempty"`
	Tree  string `json:"tree,omitempty"`
	// PatchIDs are those of its patches, as a kernel's record has them.
	PatchIDs []string `json:"patch_ids,omitempty"`
	// Number is its place in the queue.
	Number int       `json:"number"`
	Found  time.Time `json:"found"`
	Status Status    `json:"status"`
	// Tries is how often it was begun.
	Tries int `json:"tries"`
	// Run is the folder of its result, and Answer what that says.
	Run    string `json:"run,omitempty"`
	Answer string `json:"answer,omitempty"`
	// Error is the last trouble, or why the patch was not tested.
	Error string `json:"error,omitempty"`

	dir string
}

// state is what has been seen of the source.
type state struct {
	Source string `json:"source"`
	// Tips are the commits of an inbox's repositories, or of a branch.
	Tips map[string]string `json:"tips,omitempty"`
	// Seen are the entries of a folder, with size and time.
	Seen map[string]bool `json:"seen,omitempty"`
}

const (
	stateFile = "state.json"
	jobFile   = "job.json"
	jobsDir   = "jobs"
)

// Run looks for what is new and works it off until ctx ends, or with once until nothing is left.
func (w *Watch) Run(ctx context.Context, once bool) error {
	source, err := open(ctx, w.Source)
	if err != nil {
		return err
	}
	lock, err := w.lock()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	st, err := w.read(source.dir + source.branch)
	if err != nil {
		return err
	}
	if err := w.load(); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	ended := make(chan ending)
	err = w.watch(ctx, source, st, once, ended)
	// What is at work is stopped in order, and begun again by the next watch.
	stop(err)
	for len(w.atWork) > 0 {
		end := <-ended
		delete(w.atWork, end.job)
		if end.err != nil && !errors.Is(end.err, context.Cause(ctx)) {
			err = errors.Join(err, end.err)
		}
	}
	return err
}

// ending is a job that is no more at work, and why it could not be worked on.
type ending struct {
	job *Job
	err error
}

func (w *Watch) watch(ctx context.Context, source source, st *state, once bool, ended chan ending) error {
	for {
		fresh, err := source.news(ctx, st, w)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && once:
			return err
		case err != nil:
			// It may be in the middle of a fetch.
			w.say("%v; looking again in %v\n", err, w.Every)
		}
		for _, f := range fresh {
			if err := w.add(f); err != nil {
				return err
			}
		}
		if err == nil {
			if err := seal.Write(filepath.Join(w.State, stateFile), st); err != nil {
				return err
			}
		}
		left := 0
		for {
			var job *Job
			if job, left = w.next(); job == nil || len(w.atWork) >= w.AtOnce {
				break
			}
			w.atWork[job] = true
			go func() { ended <- ending{job, w.work(ctx, job)} }()
		}
		again := w.Every
		if len(w.fresh) > 0 {
			again = min(again, settled)
		} else if once && left == 0 {
			return nil
		}
		// What came while a job was at work is seen when it ends, and else now and then.
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case end := <-ended:
			delete(w.atWork, end.job)
			if end.err != nil {
				return end.err
			}
		case <-time.After(again):
		}
	}
}

// lock keeps a second watch away.
func (w *Watch) lock() (*flock.Flock, error) {
	if err := os.MkdirAll(filepath.Join(w.State, jobsDir), 0o755); err != nil {
		return nil, err
	}
	lock := regular.Lock(filepath.Join(w.State, "lock"))
	locked, err := lock.TryLock()
	if err == nil && !locked {
		err = fmt.Errorf("%s: another watch is at work there; --state=FOLDER names another place", w.State)
	}
	return lock, err
}

func (w *Watch) read(source string) (*state, error) {
	st := &state{Source: source, Seen: map[string]bool{}}
	file := filepath.Join(w.State, stateFile)
	text, _, err := seal.Read(file)
	if errors.Is(err, os.ErrNotExist) {
		return st, nil
	}
	if err == nil {
		err = json.Unmarshal(text, st)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove %s to begin anew", file, err, w.State)
	}
	if st.Source != source {
		return nil, fmt.Errorf("%s is the state of a watch of %s; --state=FOLDER names another place", w.State, st.Source)
	}
	return st, nil
}

func (j *Job) write() error { return seal.Write(filepath.Join(j.dir, jobFile), j) }

// Jobs are all that were found, in their order.
func (w *Watch) Jobs() ([]*Job, error) {
	files, err := filepath.Glob(filepath.Join(w.State, jobsDir, "*", jobFile))
	if err != nil {
		return nil, err
	}
	var all []*Job
	for _, file := range files {
		job := &Job{dir: filepath.Dir(file)}
		text, _, err := seal.Read(file)
		if err == nil {
			err = json.Unmarshal(text, job)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w; remove its folder to forget the job", file, err)
		}
		all = append(all, job)
	}
	slices.SortFunc(all, func(a, b *Job) int { return cmp.Or(a.Number-b.Number, strings.Compare(a.ID, b.ID)) })
	return all, nil
}

// load reads the jobs that earlier watches left.
func (w *Watch) load() (err error) {
	w.jobs, err = w.Jobs()
	w.atWork, w.retryAt = map[*Job]bool{}, map[string]time.Time{}
	return err
}

// next is the job to begin now, of those that were tried least the first; left counts those that
// are to be run at all, or are at work.
func (w *Watch) next() (job *Job, left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, j := range w.jobs {
		if w.atWork[j] {
			left++
			continue
		}
		if j.Status != Queued {
			continue
		}
		left++
		if time.Now().Before(w.retryAt[j.dir]) {
			continue
		}
		if job == nil || j.Tries < job.Tries {
			job = j
		}
	}
	return job, left
}
