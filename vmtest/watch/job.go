package watch

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"patchproof/results"
)

// folderName is made of an id that anyone may have sent.
func folderName(id string) string {
	name := unsafeName.ReplaceAllString(id, "_")
	return fmt.Sprintf("%.60s-%x", strings.TrimLeft(name, "."), sha256.Sum256([]byte(id)))[:min(len(name), 60)+9]
}

var unsafeName = regexp.MustCompile(`[^A-Za-z0-9@._+=-]`)

// add writes a job that is not known yet.
func (w *Watch) add(f found) error {
	job := f.Job
	job.dir = filepath.Join(w.State, jobsDir, folderName(job.ID))
	if known := w.job(job.dir); known != nil {
		if len(known.PatchIDs) == 0 || len(job.PatchIDs) == 0 || slices.Equal(known.PatchIDs, job.PatchIDs) {
			return nil
		}
		// Anyone may send another patch under an id that is taken.
		job.dir = filepath.Join(w.State, jobsDir, folderName(job.ID+" "+strings.Join(job.PatchIDs, " ")))
		if w.job(job.dir) != nil {
			return nil
		}
	}
	job.Number = 1
	if n := len(w.jobs); n > 0 {
		job.Number = w.jobs[n-1].Number + 1
	}
	job.Found = time.Now().UTC()
	if job.Status == "" {
		job.Status = Queued
	}
	// The folder gets its name when it is whole.
	temp := filepath.Join(w.State, "job.new")
	if err := errors.Join(os.RemoveAll(temp), os.MkdirAll(temp, 0o755)); err != nil {
		return err
	}
	final := job.dir
	job.dir = temp
	// Of what cannot be read, as a pipe, nothing can be kept.
	if job.Status != Unreadable {
		if err := job.keep(f); err != nil {
			return err
		}
	}
	if err := job.write(); err != nil {
		return err
	}
	if err := os.Rename(temp, final); err != nil {
		return err
	}
	job.dir = final
	w.jobs = append(w.jobs, &job)
	if job.Status == Unreadable {
		w.say("%s: %s: %s\n", job.Status, results.Line(job.Title), results.Line(job.Error))
	} else {
		w.say("found: %s (%s)\n", results.Line(job.Title), results.Line(job.ID))
	}
	return nil
}

// job is the one of a folder, nil where there is none.
func (w *Watch) job(dir string) *Job {
	i := slices.IndexFunc(w.jobs, func(j *Job) bool { return j.dir == dir })
	if i < 0 {
		return nil
	}
	return w.jobs[i]
}

// keep copies the patch, which may be gone or another one when its turn comes.
func (j *Job) keep(f found) error {
	dir := filepath.Join(j.dir, "patch")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if f.text != nil {
		j.Patch = filepath.Join("patch", "thread.mbox")
		return os.WriteFile(filepath.Join(j.dir, j.Patch), f.text, 0o644)
	}
	for i, file := range f.files {
		to := filepath.Join(dir, filepath.Base(file))
		if i == 0 {
			j.Patch = filepath.Join("patch", filepath.Base(file))
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if info.IsDir() {
			err = os.CopyFS(to, os.DirFS(file))
		} else {
			var text []byte
			if text, err = os.ReadFile(file); err == nil {
				err = os.WriteFile(to, text, 0o644)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// work runs a job once, or what is left of it, and writes down what came of it. Its error is
// that ctx ended or that the state cannot be written.
func (w *Watch) work(ctx context.Context, j *Job) error {
	j.Tries++
	if err := j.write(); err != nil {
		return err
	}
	w.say("testing: %s, try %d of %d; its output is in %s\n", results.Line(j.Title), j.Tries, w.Tries, j.dir)
	run, err := w.attempt(ctx, j)
	if ctx.Err() != nil {
		// To be stopped is not to fail.
		j.Tries--
		return errors.Join(context.Cause(ctx), j.write())
	}
	var unfit *unfitError
	if errors.As(err, &unfit) {
		j.Status, j.Error = Unfit, unfit.why
		w.say("%s: %s: %s; more is in %s\n", j.Status, results.Line(j.Title), results.Line(j.Error), j.dir)
		if err := os.WriteFile(filepath.Join(j.dir, "reply.txt"), []byte(j.header()+j.refusal()), 0o644); err != nil {
			return err
		}
		return j.write()
	}
	if err != nil {
		j.Error = err.Error()
		if j.Tries >= w.Tries {
			j.Status = Trouble
		} else {
			w.mu.Lock()
			w.retryAt[j.dir] = time.Now().Add(w.Every)
			w.mu.Unlock()
		}
		w.say("trouble: %s: %s\n", results.Line(j.Title), results.Line(j.Error))
		return j.write()
	}
	dir, err := filepath.Abs(run.Dir)
	if err != nil {
		return err
	}
	j.Status, j.Error, j.Run, j.Answer = Expected, "", dir, results.Answer(run)
	if run.ExitCode() != 0 {
		j.Status = Unexpected
	}
	if err := os.WriteFile(filepath.Join(j.dir, "reply.txt"), []byte(j.header()+w.Draft(run)), 0o644); err != nil {
		return err
	}
	w.say("%s: %s: %s\n", j.Status, results.Line(j.Title), results.Line(j.Answer))
	return j.write()
}

// header begins the draft of an answer to a mail.
func (j *Job) header() string {
	if !strings.Contains(j.ID, "@") {
		return ""
	}
	return fmt.Sprintf("Subject: Re: %s\nIn-Reply-To: <%s>\n\n", results.Line(j.Title), results.Line(j.ID))
}

// refusal is the answer about a patch that was not tested, without what only this machine's
// user has a use for.
func (j *Job) refusal() string {
	text := "This was not tested:\n\n"
	for line := range strings.Lines(j.Error) {
		if !strings.HasPrefix(line, "bin/patchproof ") {
			text += localFolder.ReplaceAllString(line, "$1")
		}
	}
	return strings.TrimRight(text, "\n") + "\n"
}

// localFolder is the way to a file.
var localFolder = regexp.MustCompile(`(^|[\s("=])/(?:[^/\s"]+/)+`)

// attempt runs all parts of a job that have no result yet, and puts them together.
func (w *Watch) attempt(ctx context.Context, j *Job) (*results.Run, error) {
	runs := make([]*results.Run, w.Shards)
	errs := make([]error, w.Shards)
	var wait sync.WaitGroup
	for i := range w.Shards {
		wait.Go(func() { runs[i], errs[i] = w.part(ctx, j, i+1) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if w.Shards == 1 {
		return runs[0], nil
	}
	line := append(append([]string{}, w.Merge...), "--out="+filepath.Join(j.dir, "merged"))
	for _, r := range runs {
		line = append(line, r.Dir)
	}
	log := filepath.Join(j.dir, "merge.log")
	out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput()
	if err := os.WriteFile(log, out, 0o644); err != nil {
		return nil, err
	}
	return j.judged(log, exitCode(err))
}

// part runs the command for one shard, unless an earlier try has brought its verdict.
func (w *Watch) part(ctx context.Context, j *Job, shard int) (*results.Run, error) {
	name := "run"
	if w.Shards > 1 {
		name = fmt.Sprintf("%dof%d", shard, w.Shards)
	}
	base, err := filepath.Abs(filepath.Join(j.dir, name))
	if err != nil {
		return nil, err
	}
	log, exit := base+".log", base+exitSuffix
	// The command's processes hold the lock, so that a watch that was killed, and began
	// again, waits for what it had started.
	lock, err := os.OpenFile(base+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := w.wait(ctx, j, lock); err != nil {
		return nil, err
	}
	if code, err := readExit(exit); err == nil {
		if run, err := j.judged(log, code); err == nil {
			return run, nil
		}
	}
	if err := os.Remove(exit); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.Rename(log, fmt.Sprintf("%s.%d", log, j.Tries-1)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := w.command(j, shard, base)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{lock}
	if err := runGroup(ctx, cmd); err != nil {
		return nil, err
	}
	code, err := readExit(exit)
	if err != nil {
		return nil, fmt.Errorf("the command was killed; see %s", log)
	}
	return j.judged(log, code)
}

// command is the user's for one shard of a job. Behind it the shell notes how it ended, even where
// nobody waits for it any more.
func (w *Watch) command(j *Job, shard int, base string) *exec.Cmd {
	patch := j.Patch
	if j.Tree == "" {
		patch = filepath.Join(filepath.Dir(base), j.Patch)
	}
	cmd := exec.Command("sh", "-c", "(\n"+w.Command+"\n)\necho $? >\"$PATCHPROOF_EXIT.new\" && mv \"$PATCHPROOF_EXIT.new\" \"$PATCHPROOF_EXIT\"")
	cmd.Env = append(os.Environ(), "PATCH="+patch, "PATCHPROOF_EXIT="+base+exitSuffix)
	if j.Tree != "" {
		cmd.Env = append(cmd.Env, "TREE="+j.Tree)
	}
	if w.Shards > 1 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("SHARD=%d/%d", shard, w.Shards))
	}
	return cmd
}

// runGroup runs a command in a process group of its own, until it ends or the context does. How the
// command ended is not its matter.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(killAfter):
	}
	// Whatever of the group did not listen.
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return context.Cause(ctx)
}

// exitSuffix is that of the file in which the shell notes how a command ended.
const exitSuffix = ".exit"

// killAfter is how long a command may take to end in order.
const killAfter = time.Minute

// wait takes the lock, when what holds it has ended.
func (w *Watch) wait(ctx context.Context, j *Job, lock *os.File) error {
	said := false
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if !said {
			w.say("waiting: a run of %q is still at work, from before this watch began\n", results.Line(j.Title))
			said = true
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

func readExit(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return 2
}

// UnfitLine is what a command of patchproof prints last when its error is an answer about the
// patch. It is a line, not an exit code, because make and engines have exit codes of their own.
const UnfitLine = "patchproof: this is about the patch; another try would end the same way"

// logTime is what engines begin each line with.
var logTime = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z `)

// unfitError is a patch that a command says it cannot test.
type unfitError struct{ why string }

func (e *unfitError) Error() string { return e.why }

// judged is the run that a command's output names, if it is one of the job's patches. An exit code
// alone is no verdict: a shell or an engine ends with 1, too, when it could not begin.
func (j *Job) judged(log string, code int) (*results.Run, error) {
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var path, last, said, unfit string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(logTime.ReplaceAllString(lines.Text(), ""))
		if line != "" {
			last = line
		}
		switch {
		case strings.HasSuffix(line, "/run.json"):
			path = line
		case line == UnfitLine:
			unfit = said
		case strings.HasPrefix(line, "patchproof: "):
			said = strings.TrimPrefix(line, "patchproof: ")
		case said != "" && line != "":
			said += "\n" + line
		}
	}
	switch {
	case code != 0 && path == "" && unfit != "":
		return nil, &unfitError{unfit}
	case code != 0 && code != 1:
		return nil, fmt.Errorf("the command ended with %d: %s; see %s", code, last, log)
	case path == "":
		return nil, fmt.Errorf("the command ended with %d and printed no path of a run.json, so there is no verdict: %s; see %s", code, last, log)
	}
	run, err := results.Read(path)
	if err != nil {
		return nil, err
	}
	if got := run.ExitCode(); got != code {
		return nil, fmt.Errorf("the command ended with %d, but its record says %d: %s", code, got, path)
	}
	if len(j.PatchIDs) > 0 && !slices.ContainsFunc(run.Kernels, j.isIn) {
		return nil, fmt.Errorf("the command printed the path of a record without a kernel that has this patch, so there is no verdict: %s; see %s", path, log)
	}
	return run, nil
}

// isIn says that a kernel has all patches of the job.
func (j *Job) isIn(k results.Kernel) bool {
	lacks := func(id string) bool { return !slices.Contains(k.PatchIDs, id) }
	return !slices.ContainsFunc(j.PatchIDs, lacks)
}
