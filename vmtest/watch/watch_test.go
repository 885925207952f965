package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"patchproof/patches"
	"patchproof/results"
)

const (
	good   = `{"schema":1,"id":"20260301-225959.123","status":"finished","kernels":[{"name":"base","variant":"plain"}],"cells":[{"kernel":"base","variant":"plain","program":"nop","verdict":"pass","expected":true}]}`
	of     = `{"schema":1,"id":"20260301-225959.123","status":"finished","kernels":[{"name":"base","variant":"plain"},{"name":"patched","variant":"plain","patch_ids":["1","2"]}],"cells":[{"kernel":"base","variant":"plain","program":"nop","verdict":"pass","expected":true},{"kernel":"patched","variant":"plain","program":"nop","verdict":"pass","expected":true}]}`
	bad    = `{"schema":1,"id":"20260301-225959.123","status":"finished","kernels":[{"name":"base","variant":"plain"}],"cells":[{"kernel":"base","variant":"plain","program":"nop","verdict":"crash","expected":false}]}`
	broken = `{"schema":1,"id":"20260301-225959.123","status":"finished","kernels":[{"name":"base","variant":"plain"}],"cells":[{"kernel":"base","variant":"plain","program":"nop","verdict":"error","expected":false}]}`
)

// What a command's exit code, output and record come to: a verdict, an answer about the patch, or
// trouble, which is tried again.
func TestJudged(t *testing.T) {
	for _, tt := range []struct {
		name         string
		code         int
		ids          []string
		log, record  string
		unfit, wrong string
	}{
		{name: "good", code: 0, log: "1/1 pass\n$RUN\n/somewhere/report.html\n", record: good},
		{name: "bad", code: 1, log: "1/1 crash\n$RUN\n", record: bad},
		{name: "an engine's times", code: 0, log: "2026-11-29T06:45:40.1234567Z $RUN\n", record: good},
		{name: "the last of two runs", code: 1, log: "/gone/run.json\n$RUN\n", record: bad},
		{name: "no record named", code: 0, log: "all is well\n", wrong: "ended with 0 and printed no path of a run.json, so there is no verdict: all is well"},
		{name: "bad, and no record named", code: 1, log: "usage: gh\n", wrong: "ended with 1 and printed no path"},
		{name: "nothing printed", code: 0, log: "", wrong: "printed no path"},
		{name: "the record is not there", code: 0, log: "/gone/run.json\n", wrong: "/gone"},
		{name: "the record is cut off", code: 0, log: "$RUN\n", record: good[:40], wrong: "run.json"},
		{name: "the record is worse than the code", code: 0, log: "$RUN\n", record: bad, wrong: "its record says 1"},
		{name: "the record is better than the code", code: 1, log: "$RUN\n", record: good, wrong: "its record says 0"},
		{name: "the record has trouble", code: 0, log: "$RUN\n", record: broken, wrong: "its record says 2"},
		{name: "trouble", code: 2, log: "patchproof: no room\n", wrong: "ended with 2: patchproof: no room"},
		{name: "trouble, with a record", code: 2, log: "$RUN\n", record: broken, wrong: "ended with 2"},
		{name: "killed", code: 137, log: "$RUN\n", record: good, wrong: "ended with 137"},
		{name: "unfit", code: 2, log: "patchproof: note\npatchproof: it does not\nhunk 1\n" + UnfitLine + "\n", unfit: "it does not\nhunk 1"},
		{name: "unfit, through make", code: 2, log: "patchproof: it is empty\n" + UnfitLine + "\nmake: *** [vmtest] Error 2\n", unfit: "it is empty"},
		{name: "unfit, through an engine", code: 1, log: "2026-11-29T06:45:40.1Z patchproof: it is empty\n2026-11-29T06:45:40.1Z " + UnfitLine + "\n", unfit: "it is empty"},
		{name: "a subject that has the words", code: 2, log: "patch: " + UnfitLine + "\npatchproof: no room\n", wrong: "ended with 2: patchproof: no room"},
		{name: "unfit, and well", code: 0, log: "patchproof: it is empty\n" + UnfitLine + "\n", wrong: "printed no path"},
		{name: "the job's patches", code: 0, ids: []string{"1", "2"}, log: "$RUN\n", record: of},
		{name: "other patches", code: 0, ids: []string{"1", "3"}, log: "$RUN\n", record: of, wrong: "without a kernel that has this patch"},
		{name: "no patch", code: 0, ids: []string{"1"}, log: "$RUN\n", record: good, wrong: "without a kernel that has this patch"},
		{name: "no patch, and bad", code: 1, ids: []string{"1"}, log: "$RUN\n", record: bad, wrong: "without a kernel that has this patch"},
		{name: "a verdict beside it", code: 1, log: "patchproof: it is empty\n" + UnfitLine + "\n$RUN\n", record: bad},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "run.json")
			log := filepath.Join(dir, "log")
			if tt.record != "" {
				if err := os.WriteFile(path, []byte(tt.record), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(log, []byte(strings.ReplaceAll(tt.log, "$RUN", path)), 0o644); err != nil {
				t.Fatal(err)
			}
			run, err := (&Job{PatchIDs: tt.ids}).judged(log, tt.code)
			var unfit *unfitError
			switch {
			case errors.As(err, &unfit):
				if unfit.why != tt.unfit {
					t.Errorf("judged = unfit, %q; want unfit %q, error %q", unfit.why, tt.unfit, tt.wrong)
				}
			case tt.unfit != "":
				t.Errorf("judged = %v, %v; want that the patch is unfit: %s", run, err, tt.unfit)
			case tt.wrong != "":
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Errorf("judged = %v, %v; want the error %q", run, err, tt.wrong)
				}
			case err != nil:
				t.Errorf("judged: %v", err)
			case run.ExitCode() != tt.code:
				t.Errorf("judged = a run that ends with %d; want %d", run.ExitCode(), tt.code)
			}
		})
	}
}

// The next job is the oldest of those that were tried least; one that met trouble waits.
func TestNext(t *testing.T) {
	queued := func(number, tries int) Job { return Job{Number: number, Status: Queued, Tries: tries} }
	for _, tt := range []struct {
		name string
		jobs []Job
		// waits are the numbers of those that may not be tried again yet.
		waits []int
		// atWork are the numbers of those that another goroutine has.
		atWork     []int
		want, left int
	}{
		{name: "nothing"},
		{name: "all done", jobs: []Job{{Number: 1, Status: Expected}, {Number: 2, Status: Unexpected}, {Number: 3, Status: Trouble}, {Number: 4, Status: Unreadable}, {Number: 5, Status: Unfit}}},
		{name: "in the order in which they came", jobs: []Job{queued(10, 0), queued(9, 0)}, want: 9, left: 2},
		{name: "new ones before those that failed", jobs: []Job{queued(1, 1), queued(2, 0)}, want: 2, left: 2},
		{name: "again", jobs: []Job{{Number: 1, Status: Expected}, queued(2, 2)}, want: 2, left: 1},
		{name: "not yet", jobs: []Job{queued(1, 1)}, waits: []int{1}, left: 1},
		{name: "side by side", jobs: []Job{queued(1, 0), queued(2, 0), queued(3, 0)}, atWork: []int{1, 2}, want: 3, left: 3},
		{name: "all at work", jobs: []Job{queued(1, 0), queued(2, 0)}, atWork: []int{1, 2}, left: 2},
		{name: "at work, and ended", jobs: []Job{{Number: 1, Status: Expected}}, atWork: []int{1}, left: 1},
		{name: "another meanwhile", jobs: []Job{queued(1, 1), queued(2, 2)}, waits: []int{1}, want: 2, left: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &Watch{State: t.TempDir()}
			for i := range tt.jobs {
				j := &tt.jobs[i]
				j.dir = filepath.Join(w.State, jobsDir, string(rune('a'+i)))
				if err := os.MkdirAll(j.dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := j.write(); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.load(); err != nil {
				t.Fatal(err)
			}
			for _, j := range w.jobs {
				if slices.Contains(tt.waits, j.Number) {
					w.retryAt[j.dir] = time.Now().Add(time.Hour)
				}
				w.atWork[j] = slices.Contains(tt.atWork, j.Number)
			}
			job, left := w.next()
			got := 0
			if job != nil {
				got = job.Number
			}
			if got != tt.want || left != tt.left {
				t.Errorf("next = job %d of %d; want job %d of %d", got, left, tt.want, tt.left)
			}
		})
	}
}

// What came of a job after each of its tries, with commands in place of a run.
func TestTries(t *testing.T) {
	unfit := "echo 'patchproof: patch 1 does not apply'; echo '" + UnfitLine + "'; exit 2"
	for _, tt := range []struct {
		name, command string
		shards        int
		want          Status
		tries         int
		error         string
	}{
		{"trouble", "echo no room; exit 2", 1, Trouble, 3, "ended with 2: no room"},
		{"trouble of one shard", `test $SHARD = 1/2 && exit 3; echo no room; exit 2`, 2, Trouble, 3, "ended with 3"},
		{"trouble once", `test -e "$PATCH.tried" && { ` + unfit + `; }; touch "$PATCH.tried"; exit 2`, 1, Unfit, 2, "patch 1 does not apply"},
		{"unfit", unfit, 1, Unfit, 1, "patch 1 does not apply"},
		{"unfit in all shards", unfit, 3, Unfit, 1, "patch 1 does not apply"},
		{"unfit in a shard, trouble in another", `test $SHARD = 1/2 && exit 2; ` + unfit, 2, Unfit, 1, "patch 1 does not apply"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &Watch{State: t.TempDir(), Command: tt.command, Shards: tt.shards, Tries: 3, Say: t.Logf}
			if err := os.MkdirAll(filepath.Join(w.State, jobsDir), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := w.load(); err != nil {
				t.Fatal(err)
			}
			if err := w.add(found{Job: Job{ID: "1@example.org", Title: "A change"}, text: []byte("patch\n")}); err != nil {
				t.Fatal(err)
			}
			var job *Job
			for {
				next, left := w.next()
				if left == 0 {
					break
				}
				job = next
				if err := w.work(t.Context(), job); err != nil {
					t.Fatal(err)
				}
			}
			if job.Status != tt.want || job.Tries != tt.tries || !strings.Contains(job.Error, tt.error) {
				text, _ := json.MarshalIndent(job, "", "  ")
				t.Errorf("the job is %s; want %q after %d tries, because of %q", text, tt.want, tt.tries, tt.error)
			}
		})
	}
}

// The answer about a patch that was not tested has the reason, and nothing of this machine.
func TestRefusal(t *testing.T) {
	j := &Job{Error: `kernel patched: patch 1, "A change" (/srv/results/watch/jobs/1/patch/thread.mbox), does not apply to v5.10.13
fs/io_uring.c, hunk 1 of 2 does not apply: line 10 is another
  -int a;
bin/patchproof patch base says which commit it was made for`}
	want := `This was not tested:

kernel patched: patch 1, "A change" (thread.mbox), does not apply to v5.10.13
fs/io_uring.c, hunk 1 of 2 does not apply: line 10 is another
  -int a;
`
	if diff := cmp.Diff(want, j.refusal()); diff != "" {
		t.Errorf("refusal (-want +got):\n%s", diff)
	}
}

// watched makes a watch of a folder with so many patches.
func watched(t *testing.T, patches int, command string) *Watch {
	t.Helper()
	source := t.TempDir()
	for i := range patches {
		text := fmt.Sprintf("From: A <a@example.org>\nSubject: Change %d\nMessage-ID: <%d@example.org>\n\n---\n f | 2 +-\n\ndiff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n", i, i)
		file, settledAt := filepath.Join(source, fmt.Sprintf("%d.patch", i)), time.Now().Add(-time.Minute)
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o644), os.Chtimes(file, settledAt, settledAt)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("WATCH_TEST", t.TempDir())
	return &Watch{
		State: t.TempDir(), Source: source, Command: command, Shards: 1, AtOnce: 2, Tries: 1, Every: time.Hour, Say: t.Logf,
		Draft: func(*results.Run) string { return "" },
	}
}

// tested is the record of a run of the patches of watched, which all change the same.
func tested(t *testing.T) string {
	t.Helper()
	s, err := patches.Read(filepath.Join(watched(t, 1, "").Source, "0.patch"))
	if err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(t.TempDir(), "run.json")
	if err := os.WriteFile(record, []byte(strings.Replace(of, `"2"`, `"`+s.Patches[0].ID()+`"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return record
}

// outcomes are the statuses of all jobs, as the disk has them.
func outcomes(t *testing.T, w *Watch) []string {
	t.Helper()
	jobs, err := w.Jobs()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i, j := range jobs {
		if j.Number != i+1 {
			t.Errorf("job %d has the number %d", i+1, j.Number)
		}
		all = append(all, fmt.Sprintf("%s, %d tries", j.Status, j.Tries))
	}
	return all
}

// Jobs are at work side by side, as many as were asked for and no more, and none twice.
func TestAtOnce(t *testing.T) {
	// Each takes one of two seats, or fails. The first two wait for each other.
	command := `cd "$WATCH_TEST"
		mkdir "ran-$(basename "$PATCH")" || { echo twice; exit 2; }
		if mkdir seat-1; then seat=seat-1; elif mkdir seat-2; then seat=seat-2; touch both; else echo no seat; exit 2; fi
		for i in $(seq 300); do [ ! -e both ] || break; sleep 0.1; done
		[ -e both ] || { echo alone; exit 2; }
		sleep 0.1; rmdir $seat; echo ` + tested(t)
	w := watched(t, 5, command)
	if err := w.Run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	want := slices.Repeat([]string{"as expected, 1 tries"}, 5)
	if diff := cmp.Diff(want, outcomes(t, w)); diff != "" {
		t.Errorf("the jobs (-want +got):\n%s", diff)
	}
	// Found again, they are not new.
	if err := os.Remove(filepath.Join(w.State, stateFile)); err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, outcomes(t, w)); diff != "" {
		t.Errorf("the jobs, after all was found again (-want +got):\n%s", diff)
	}
}

// Who stops a watch stops all that is at work, and it counts as not tried.
func TestStopAtOnce(t *testing.T) {
	w := watched(t, 3, `touch "$WATCH_TEST/$(basename "$PATCH")"; exec sleep 1000`)
	ctx, stop := context.WithCancelCause(t.Context())
	why := errors.New("the user had enough")
	go func() {
		for {
			if begun, _ := filepath.Glob(filepath.Join(os.Getenv("WATCH_TEST"), "*.patch")); len(begun) == 2 {
				stop(why)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if err := w.Run(ctx, true); !errors.Is(err, why) {
		t.Errorf("Run = %v; want why it was stopped", err)
	}
	if diff := cmp.Diff(slices.Repeat([]string{"queued, 0 tries"}, 3), outcomes(t, w)); diff != "" {
		t.Errorf("the jobs (-want +got):\n%s", diff)
	}
}

// A new job is written without a look at the others, however many they are.
func TestAddReadsNoOtherJob(t *testing.T) {
	w := watched(t, 0, "")
	if err := os.MkdirAll(filepath.Join(w.State, jobsDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.load(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := w.add(found{Job: Job{ID: fmt.Sprintf("%d@example.org", i)}, text: []byte("patch\n")}); err != nil {
			t.Fatal(err)
		}
		last := w.jobs[len(w.jobs)-1]
		if last.Number != i+1 {
			t.Errorf("job %d has the number %d", i+1, last.Number)
		}
		// It could not be read again.
		if err := os.WriteFile(filepath.Join(last.dir, jobFile), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Another patch under an id that is taken is a job of its own: it was not tested yet.
func TestIDsThatAreTaken(t *testing.T) {
	w := watched(t, 2, "echo "+tested(t))
	for i, change := range []string{"b", "c"} {
		file := filepath.Join(w.Source, fmt.Sprintf("%d.patch", i))
		text := "From: A <a@example.org>\nSubject: Change\nMessage-ID: <0@example.org>\n\n---\ndiff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+" + change + "\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := w.Run(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		// The command brings a record of the first.
		want := []string{"as expected, 1 tries", "trouble, 1 tries"}
		if diff := cmp.Diff(want, outcomes(t, w)); diff != "" {
			t.Errorf("the jobs (-want +got):\n%s", diff)
		}
		// Found again, they are not new.
		if err := os.Remove(filepath.Join(w.State, stateFile)); err != nil {
			t.Fatal(err)
		}
	}
}

// What lies in a folder and is no file of a patch's size is told, and the others are tested.
func TestWhatIsNoPatch(t *testing.T) {
	w := watched(t, 1, "echo "+tested(t))
	in := func(name string) string { return filepath.Join(w.Source, name) }
	if err := errors.Join(unix.Mkfifo(in("pipe"), 0o644), os.Symlink("nowhere", in("link")), os.Symlink("/dev/zero", in("device")),
		os.WriteFile(in("large"), nil, 0o644), os.Truncate(in("large"), 1<<40),
		os.Mkdir(in("folder"), 0o755), unix.Mkfifo(in("folder/1.patch"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	got := outcomes(t, w)
	slices.Sort(got)
	want := append([]string{"as expected, 1 tries"}, slices.Repeat([]string{"unreadable, 0 tries"}, 5)...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the jobs (-want +got):\n%s", diff)
	}
}

// What a watch keeps is not believed where it is damaged, nor waited for.
func TestDamagedJob(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"a flipped bit": func(file string) error {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			return os.WriteFile(file, bytes.Replace(text, []byte(`"queued"`), []byte(`"queuee"`), 1), 0o644)
		},
		"cut":    func(file string) error { return os.Truncate(file, 20) },
		"a pipe": func(file string) error { return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o644)) },
	} {
		w := watched(t, 0, "")
		if err := os.MkdirAll(filepath.Join(w.State, jobsDir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.load(), w.add(found{Job: Job{ID: "1@example.org", Status: Queued}, text: []byte("patch\n")})); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(w.jobs[0].dir, jobFile)
		if err := damage(file); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Jobs(); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v; want an error that names %s", name, err, file)
		}
	}
}

// A file is taken whatever its time says, also by a watch that ends when nothing is left: the
// clock may have been set, and it may have come just now.
func TestFileOfAnyTime(t *testing.T) {
	w := watched(t, 3, "echo "+tested(t))
	for i, when := range []time.Time{time.Now(), time.Now().AddDate(1, 0, 0), time.Unix(0, 0)} {
		if err := os.Chtimes(filepath.Join(w.Source, fmt.Sprintf("%d.patch", i)), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Repeat([]string{"as expected, 1 tries"}, 3), outcomes(t, w)); diff != "" {
		t.Errorf("the jobs (-want +got):\n%s", diff)
	}
}

// One that is still being written is left alone until a look finds it as it was.
func TestFileBeingWritten(t *testing.T) {
	w := watched(t, 1, "")
	src, err := open(t.Context(), w.Source)
	if err != nil {
		t.Fatal(err)
	}
	st := &state{Seen: map[string]bool{}}
	file := filepath.Join(w.Source, "0.patch")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	look := func(written []byte, want int) {
		t.Helper()
		if err := os.WriteFile(file, written, 0o644); err != nil {
			t.Fatal(err)
		}
		all, err := src.news(t.Context(), st, w)
		if err != nil || len(all) != want {
			t.Errorf("a look finds %d series, %v; want %d", len(all), err, want)
		}
		// So long ago was that look.
		for key := range w.fresh {
			w.fresh[key] = w.fresh[key].Add(-settled)
		}
	}
	look(text[:len(text)/3], 0)
	look(text[:len(text)/2], 0)
	look(text, 0)
	old := time.Unix(1e9, 0)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	if all, err := src.news(t.Context(), st, w); err != nil || len(all) != 0 {
		t.Errorf("a look at another time finds %d series, %v; want none", len(all), err)
	}
	for key := range w.fresh {
		w.fresh[key] = w.fresh[key].Add(-settled)
	}
	if all, err := src.news(t.Context(), st, w); err != nil || len(all) != 1 {
		t.Errorf("a look at the same finds %d series, %v; want 1", len(all), err)
	}
}
