package results

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
)

// planned is the plan of a run whose cells are dealt out like cards.
func planned(r *Run, of int) []Planned {
	plan := []Planned{}
	for i, c := range r.Cells {
		plan = append(plan, Planned{Kernel: c.Kernel, Variant: c.Variant, Program: c.Program, Iteration: c.Iteration, Shard: i%of + 1})
	}
	return plan
}

// wholeRun has known issues, a surprise, and cells that were run more than once.
func wholeRun() *Run {
	r := told(knownIssues())
	r.Harness, r.Selection = "0123", map[string]string{"KERNELS": "base,posted"}
	r.Cells = append(r.Cells, repeat(3, cellOf("posted", "mixer", check("stream", event.Pass, "")))...)
	r.Cells = append(r.Cells, cellOf("posted", "race", unexpected(check("console", event.Crash, "list_del corruption"))))
	for i := range r.Cells {
		c := &r.Cells[i]
		c.WallS, c.BootS = float64(i)+0.5, 1.25
		c.Console = fmt.Sprintf("%s-%s-%d.log", c.Kernel, c.Program, c.Iteration)
	}
	r.Cells[2].Files = []string{"base-fixedfile-1.files/blob"}
	return r
}

// stored writes a run, with the files that it names, as the runner does.
func stored(t *testing.T, r Run) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "out")
	id, err := NewFolder(root, r.Started)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, id)
	r.Schema, r.Titles, r.ID, r.Status = Schema, TitleRules, id, Finished
	for _, c := range r.Cells {
		for _, name := range append([]string{c.Console}, c.Files...) {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("this is "+name+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join((&Writer{dir: dir, run: r}).write(), r.export(dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cut runs each part of a run on a machine of its own, the last first.
func cut(t *testing.T, r *Run, of int) []string {
	t.Helper()
	var dirs []string
	for index := of; index >= 1; index-- {
		part := *r
		part.Shard = &Shard{Index: index, Of: of, Plan: planned(r, of)}
		part.Selection = map[string]string{"KERNELS": r.Selection["KERNELS"], "SHARD": fmt.Sprintf("%d/%d", index, of)}
		if index > 1 {
			part.Selection["JOBS"] = fmt.Sprint(index)
		}
		part.Started = r.Started.AddDate(0, 0, index)
		part.Cells = nil
		for i, c := range r.Cells {
			if part.Shard.Plan[i].Shard == index {
				part.Cells = append(part.Cells, c)
			}
		}
		// They end in any order.
		slices.Reverse(part.Cells)
		dirs = append(dirs, stored(t, part))
	}
	return dirs
}

// contents are the files of a run's folder, without what tells when it ran.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	times := regexp.MustCompile(`(?m)^\s*"(sum|id|started|finished|start_s|command)": ("[^"]*"|[0-9.e-]+|\[[^\]]*\]),?\n| (timestamp|hostname|id)="[^"]*"|# .*run 2.*|[0-9]{8}-[0-9]{6}\.[0-9]{3}(-\d+)?`)
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() || info.Name() == lockFile {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = times.ReplaceAllString(string(text), "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestMerge(t *testing.T) {
	run := wholeRun()
	want := contents(t, stored(t, *run))
	if len(want) < len(run.Cells) {
		t.Fatalf("only %d files in the run's folder", len(want))
	}
	for _, of := range []int{1, 2, 3, 7, len(run.Cells) + 4} {
		t.Run(fmt.Sprint(of), func(t *testing.T) {
			shards, err := ReadShards(cut(t, run, of))
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			merged, err := shards.Write(root, nil)
			if err != nil {
				t.Fatal(err)
			}
			if merged.ExitCode() != 1 {
				t.Errorf("the merged run ends with %d; want 1, as a cell was not expected", merged.ExitCode())
			}
			if diff := cmp.Diff(want, contents(t, filepath.Join(root, "latest")+"/")); diff != "" {
				t.Errorf("merged (-one run +%d shards):\n%s", of, diff)
			}
		})
	}
}

// A patch that is held against its base is compared in each shard; what these found is put
// together, with what was repeated.
func TestMergeAgainst(t *testing.T) {
	programs := []string{"bad", "good", "mended", "mended too", "silent"}
	mended := func(kernel string, _ int) Cell {
		if kernel == "base" {
			return withBad("sum", event.Fail, "")
		}
		return fine(Check{Check: event.Check{Name: "sum", Verdict: event.Pass}, Expected: true})
	}
	guest := map[string]guests{
		"good": func(string, int) Cell { return fine() },
		"bad": func(kernel string, _ int) Cell {
			c := fine()
			if kernel == "patched" {
				c.Checks[0].Verdict, c.Verdict, c.Expected = event.Fail, event.Fail, false
			}
			return c
		},
		"mended": mended, "mended too": mended,
		"silent": func(kernel string, _ int) Cell {
			if kernel == "patched" {
				return silentGuest(event.Error)
			}
			return fine()
		},
	}
	want := told(hold(t, guest, false)).Against
	slices.SortStableFunc(want.Differences, func(a, b Difference) int { return strings.Compare(a.Program, b.Program) })
	plan := []Planned{}
	for i, program := range programs {
		for _, kernel := range []string{"base", "patched"} {
			plan = append(plan, Planned{Kernel: kernel, Variant: "plain", Program: program, Iteration: 1, Shard: i + 1})
		}
	}
	var dirs []string
	// The last shard has nothing to do.
	for i := range len(programs) + 1 {
		part := &Run{Kernels: kernels("base", "patched")}
		if i < len(programs) {
			part = hold(t, map[string]guests{programs[i]: guest[programs[i]]}, false)
			part.Kernels = kernels("base", "patched")
		}
		told(part).Shard = &Shard{Index: i + 1, Of: len(programs) + 1, Plan: plan}
		for i := range part.Cells {
			part.Cells[i].Console = strings.ReplaceAll(part.Cells[i].key().String(), "/", "-") + ".log"
		}
		dirs = append(dirs, stored(t, *part))
	}
	shards, err := ReadShards(dirs)
	if err != nil {
		t.Fatal(err)
	}
	merged, err := shards.Write(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, merged.Against); diff != "" || merged.ExitCode() != 1 || len(want.Differences) == 0 || len(want.Gains) != 2 {
		t.Errorf("the merged run ends with %d; want 1; comparison (-one run +merged):\n%s", merged.ExitCode(), diff)
	}
}

func TestReadShardsRefuses(t *testing.T) {
	rewrite := func(t *testing.T, dir string, change func(r *Run)) {
		t.Helper()
		run, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		change(run)
		if err := (&Writer{dir: dir, run: *run}).write(); err != nil {
			t.Fatal(err)
		}
	}
	raw := func(t *testing.T, dir string, change func([]byte) []byte) {
		t.Helper()
		path := filepath.Join(dir, "run.json")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	one := func(change func(r *Run)) func(*testing.T, []string) []string {
		return func(t *testing.T, dirs []string) []string { rewrite(t, dirs[1], change); return dirs }
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dirs []string) []string
		want   []string
	}{
		{"a shard is missing", func(_ *testing.T, dirs []string) []string { return dirs[:2] },
			[]string{"shard 1 of 3 is missing, with 4 cells: base/plain/nop, ..."}},
		{"two are", func(_ *testing.T, dirs []string) []string { return dirs[1:2] }, []string{"shard 1 of 3 is missing", "shard 3 of 3 is missing"}},
		{"none is there", func(*testing.T, []string) []string { return nil }, []string{"no shard"}},
		{"one is there twice", func(_ *testing.T, dirs []string) []string { return append(dirs, dirs[0]) }, []string{"shard 3 of 3 is there 2 times"}},
		{"a folder is not there", func(_ *testing.T, dirs []string) []string { return append(dirs, "nowhere") }, []string{"no results there"}},
		{"a folder is empty", func(t *testing.T, dirs []string) []string { return append(dirs[:2], t.TempDir()) }, []string{"no results there"}},
		{"run.json is empty", func(t *testing.T, dirs []string) []string {
			raw(t, dirs[1], func([]byte) []byte { return nil })
			return dirs
		}, []string{"not a run.json"}},
		{"run.json is cut off", func(t *testing.T, dirs []string) []string {
			raw(t, dirs[1], func(text []byte) []byte { return text[:len(text)/2] })
			return dirs
		}, []string{"not as it was written"}},
		{"a whole run", func(t *testing.T, dirs []string) []string { return append(dirs, stored(t, *wholeRun())) }, []string{"is not a shard"}},
		{"it was killed", one(func(r *Run) { r.Status, r.Cells = Running, r.Cells[:1] }), []string{"did not finish (running) and lacks 3 cells"}},
		{"it was interrupted", one(func(r *Run) { r.Status = Interrupted }), []string{"did not finish"}},
		{"a cell is lost", one(func(r *Run) { r.Cells = r.Cells[1:] }), []string{"shard 2 of 3", "lacks 1 cell: "}},
		{"all cells are", one(func(r *Run) { r.Cells = []Cell{} }), []string{"lacks 4 cells"}},
		{"a cell is there twice", one(func(r *Run) { r.Cells = append(r.Cells, r.Cells[0]) }), []string{"twice"}},
		{"a cell is another's", one(func(r *Run) { r.Cells[0].Program = "nop" }), []string{"which is not in its part of the plan"}},
		{"a repetition that nobody asked for", one(func(r *Run) { r.Cells[0].Iteration = 7 }), []string{"which is not in its part of the plan"}},
		{"no such shard", one(func(r *Run) { r.Shard.Index = 4 }), []string{"no such part"}},
		{"a plan of others", one(func(r *Run) { r.Shard.Plan[0].Shard = 4 }), []string{"shard 4 of 3"}},
		{"another number of shards", one(func(r *Run) { r.Shard.Of = 4 }), []string{"not of one run: the number of shards, 3 and 4"}},
		{"another plan", one(func(r *Run) { r.Shard.Plan[0].Program = "other" }), []string{"their plans"}},
		{"other patches", one(func(r *Run) { r.Kernels[1].PatchIDs = []string{"beef"} }), []string{"the patches (patch ids) of posted/plain, none and beef"}},
		{"another source", one(func(r *Run) { r.Kernels[0].Tree = "beef" }), []string{"the source (tree) of base/plain"}},
		{"another config", one(func(r *Run) { r.Kernels[0].ConfigHash = "beef" }), []string{"the config of base/plain"}},
		{"another compiler", one(func(r *Run) { r.Kernels[0].Compiler = "gcc 14" }), []string{"the compiler of base/plain"}},
		{"another accelerator", one(func(r *Run) { r.Accel.Name = "kvm" }), []string{"the accelerator, tcg and kvm"}},
		{"another QEMU", one(func(r *Run) { r.QEMU = "10.0" }), []string{"QEMU, 7.2.22 and 10.0"}},
		{"another patchproof", one(func(r *Run) { r.Harness = "4567" }), []string{"patchproof (harness), 0123 and 4567"}},
		{"another subject", one(func(r *Run) { r.Subject = "other" }), []string{"the subject, none and other"}},
		{"another seed", one(func(r *Run) { r.Selection["SEED"] = "7" }), []string{"SEED, none and 7"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadShards(tt.change(t, cut(t, wholeRun(), 3)))
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("ReadShards = %v; want %q", err, want)
				}
			}
		})
	}
}

// Of a shard that was killed and run again the second run counts, unless the first had seen
// a kernel fail.
func TestShardThatWasRunAgain(t *testing.T) {
	again := func(t *testing.T, change func(r *Run)) (*Shards, error) {
		dirs := cut(t, wholeRun(), 3)
		run, err := Read(dirs[0])
		if err != nil {
			t.Fatal(err)
		}
		run.Status, run.Cells = Running, run.Cells[:2]
		change(run)
		killed := filepath.Join(t.TempDir(), "killed")
		if err := os.MkdirAll(killed, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := (&Writer{dir: killed, run: *run}).write(); err != nil {
			t.Fatal(err)
		}
		return ReadShards(append([]string{killed}, dirs...))
	}
	shards, err := again(t, func(r *Run) { r.Cells[0].Verdict, r.Cells[0].Expected = event.Error, false })
	if err != nil || len(shards.Runs) != 3 || len(shards.Notes) != 1 || !strings.Contains(shards.Notes[0], "killed did not finish and is left aside") {
		t.Errorf("ReadShards = %+v, %v; want three runs and a note about the killed one", shards, err)
	}
	_, err = again(t, func(r *Run) { r.Cells[0].Verdict, r.Cells[0].Expected = event.Crash, false })
	if err == nil || !strings.Contains(err.Error(), "cannot be left aside, because it has a crash of") {
		t.Errorf("ReadShards = %v; want that a crash is not left aside", err)
	}
}

// A shard comes from another machine: what it names must be in its own folder.
func TestMergeHostileFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		// change is done to the folder, and the console that its run.json is to name.
		change  func(t *testing.T, dir, console string)
		console string
		want    string
	}{
		{"a link", func(t *testing.T, dir, console string) {
			if err := os.Symlink("/etc/hostname", filepath.Join(dir, console)); err != nil {
				t.Fatal(err)
			}
		}, "link.log", "not a plain file"},
		{"below a link", func(t *testing.T, dir, _ string) {
			if err := os.Symlink("/etc", filepath.Join(dir, "etc")); err != nil {
				t.Fatal(err)
			}
		}, "etc/hostname", "escapes"},
		{"outside", func(*testing.T, string, string) {}, "../run.log", "leaves the run's folder"},
		{"not there", func(*testing.T, string, string) {}, "gone.log", "which is not there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dirs := cut(t, wholeRun(), 2)
			run, err := Read(dirs[0])
			if err != nil {
				t.Fatal(err)
			}
			tt.change(t, dirs[0], tt.console)
			run.Cells[0].Console = tt.console
			if err := (&Writer{dir: dirs[0], run: *run}).write(); err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			shards, err := ReadShards(dirs)
			if err == nil {
				_, err = shards.Write(root, nil)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the merge = %v; want %q", err, tt.want)
			}
			if left, _ := os.ReadDir(root); len(left) > 0 {
				t.Errorf("the merge that failed left %v", left)
			}
		})
	}
}

// A merge that is cut off at any moment has left no run, or a whole one: the record comes last.
func TestMergedRecordComesLast(t *testing.T) {
	shards, err := ReadShards(cut(t, wholeRun(), 2))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	trouble := errors.New("no room")
	for _, want := range []error{trouble, nil} {
		run, err := shards.Write(root, func(dir string) error {
			for _, early := range []string{filepath.Join(dir, runFile), filepath.Join(root, latestLink)} {
				if _, err := os.Lstat(early); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is there before what lies beside it (%v)", early, err)
				}
			}
			return want
		})
		if !errors.Is(err, want) || (run == nil) != (err != nil) {
			t.Errorf("the merge = %v, %v; want %v", run, err, want)
		}
		if left, _ := filepath.Glob(filepath.Join(root, "*")); want != nil && len(left) > 0 {
			t.Errorf("the merge that failed left %v", left)
		}
	}
}
