package watch

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	good   = `{"schema":1,"id":"20260301-225959.123","status":"finished","kernels":[{"name":"base","variant":"plain"}],"cells":[{"kernel":"base","variant":"plain","program":"nop","verdict":"pass","expected":true}]}`
	bad    = `{"schema":1,"id":"20260301-225959.123","status":"finished","kernels":[{"name":"base","variant":"plain"}],"cells":[{"kernel":"base","variant":"plain","program":"nop","verdict":"crash","expected":false}]}`
	broken = `{"schema":1,"id":"20260301-225959.123","status":"finished","kernels":[{"name":"base","variant":"plain"}],"cells":[{"kernel":"base","variant":"plain","program":"nop","verdict":"error","expected":false}]}`
)

// What a command's exit code, output and record come to: a verdict, an answer about the patch, or
// trouble, which is tried again.
func TestJudged(t *testing.T) {
	for _, tt := range []struct {
		name         string
		code         int
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
			run, err := judged(log, tt.code)
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
		waits      []int
		want, left int
	}{
		{name: "nothing"},
		{name: "all done", jobs: []Job{{Number: 1, Status: Expected}, {Number: 2, Status: Unexpected}, {Number: 3, Status: Trouble}, {Number: 4, Status: Unreadable}, {Number: 5, Status: Unfit}}},
		{name: "in the order in which they came", jobs: []Job{queued(10, 0), queued(9, 0)}, want: 9, left: 2},
		{name: "new ones before those that failed", jobs: []Job{queued(1, 1), queued(2, 0)}, want: 2, left: 2},
		{name: "again", jobs: []Job{{Number: 1, Status: Expected}, queued(2, 2)}, want: 2, left: 1},
		{name: "not yet", jobs: []Job{queued(1, 1)}, waits: []int{1}, left: 1},
		{name: "another meanwhile", jobs: []Job{queued(1, 1), queued(2, 2)}, waits: []int{1}, want: 2, left: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &Watch{State: t.TempDir(), retryAt: map[string]time.Time{}}
			for i := range tt.jobs {
				j := &tt.jobs[i]
				j.dir = filepath.Join(w.State, jobsDir, string(rune('a'+i)))
				if err := os.MkdirAll(j.dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := j.write(); err != nil {
					t.Fatal(err)
				}
				for _, number := range tt.waits {
					if number == j.Number {
						w.retryAt[j.dir] = time.Now().Add(time.Hour)
					}
				}
			}
			job, left, err := w.next()
			if err != nil {
				t.Fatal(err)
			}
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
			w := &Watch{State: t.TempDir(), Command: tt.command, Shards: tt.shards, Tries: 3, retryAt: map[string]time.Time{}, Say: t.Logf}
			if err := os.MkdirAll(filepath.Join(w.State, jobsDir), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := w.add(found{Job: Job{ID: "1@example.org", Title: "A change"}, text: []byte("patch\n")}); err != nil {
				t.Fatal(err)
			}
			var job *Job
			for {
				next, left, err := w.next()
				if err != nil {
					t.Fatal(err)
				}
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
