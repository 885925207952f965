package mutate

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"patchproof/guest/event"
	"patchproof/patches"
	"patchproof/results"
	"patchproof/results/seal"
	"patchproof/vmtest"
)

// fiveMutants have a survivor and one that could not be judged.
func fiveMutants(t *testing.T) []Mutant {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"add", "drop", "leak", "miss", "swap"} {
		text := strings.ReplaceAll(wrong, "-two", fmt.Sprintf("-two %d", i))
		if err := os.WriteFile(filepath.Join(dir, name+".patch"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mutants, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return mutants
}

func verdictOf(m Mutant) Verdict {
	v := Verdict{Name: m.Name, Killed: true, By: "nop/rows", Variant: "plain", Detail: "2 rows", WallS: 3, BuildS: 2, Cells: 1}
	switch m.Name {
	case "leak":
		v.Killed, v.By, v.Detail = false, "", ""
	case "miss":
		v.Killed, v.By, v.Detail, v.Error = false, "", "", "it does not apply"
	}
	return v
}

// campaignRun records a campaign as Run does.
func campaignRun(t *testing.T, mutants []Mutant, part *results.Shard, change func(*results.Run)) string {
	t.Helper()
	run := results.Run{
		Harness: "0123", Shard: part, QEMU: "7.2.22", Accel: results.Accel{Name: "tcg"}, Selection: map[string]string{"PIN": "v5.10.13"},
		Kernels: []results.Kernel{{Name: "posted", Pin: "v5.10.13", Variant: "plain", Tree: "cafe", Key: "f00d"}},
	}
	if part != nil {
		run.Selection["SHARD"] = fmt.Sprintf("%d/%d", part.Index, part.Of)
	}
	if change != nil {
		change(&run)
	}
	w, err := results.Create(filepath.Join(t.TempDir(), "out"), run)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	add := func(kernel string, verdict event.Verdict) {
		n++
		c := results.Cell{
			Kernel: kernel, Variant: "plain", Program: "nop", Iteration: 1, Verdict: verdict, Expected: verdict == event.Pass,
			Console: fmt.Sprintf("%03d-%s-plain-nop.log", n, kernel),
		}
		if err := os.WriteFile(filepath.Join(w.Dir(), c.Console), []byte("booted\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := w.Add(c); err != nil {
			t.Fatal(err)
		}
	}
	var verdicts []Verdict
	for i, m := range mutants {
		if i == 0 {
			add("posted", event.Pass)
		}
		v := verdictOf(m)
		if v.Error == "" {
			if err := w.AddKernel(results.Kernel{Name: m.Name, Pin: "v5.10.13", Variant: "plain", Tree: m.Name}); err != nil {
				t.Fatal(err)
			}
			verdict := event.Pass
			if v.Killed {
				verdict = event.Fail
			}
			add(m.Name, verdict)
		}
		verdicts = append(verdicts, v)
		if err := writeVerdicts(w.Dir(), verdicts); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(results.Finished); err != nil {
		t.Fatal(err)
	}
	return w.Dir()
}

// campaignShards are the runs of all parts, each on a machine of its own.
func campaignShards(t *testing.T, mutants []Mutant, of int) []string {
	t.Helper()
	var dirs []string
	for index := 1; index <= of; index++ {
		mine, part := Take(mutants, vmtest.Share{Index: index, Of: of})
		dirs = append(dirs, campaignRun(t, mine, part, nil))
	}
	return dirs
}

// merge is what results merge does with them.
func merge(root string, dirs []string) (*results.Run, []Verdict, error) {
	shards, err := results.ReadShards(dirs)
	if err != nil {
		return nil, nil, err
	}
	verdicts, err := Merge(shards)
	if err != nil {
		return nil, nil, err
	}
	run, err := Write(root, shards, verdicts)
	return run, verdicts, err
}

// told is what a record says, but for times and the names of logs.
func told(t *testing.T, dir string) (kernels, cells []string, verdicts string) {
	t.Helper()
	run, err := results.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range run.Kernels {
		kernels = append(kernels, k.Name+" "+k.Variant+" "+k.Tree)
	}
	for _, c := range run.Cells {
		cells = append(cells, fmt.Sprint(c.Kernel, " ", c.Variant, " ", c.Program, " ", c.Verdict, " ", c.Expected))
	}
	text, sealed, err := seal.Read(filepath.Join(dir, verdictsFile))
	if err != nil || !sealed {
		t.Fatalf("reading %s: sealed %v, %v", verdictsFile, sealed, err)
	}
	return kernels, cells, string(text)
}

// However mutants are shared out, the shards come together to what one machine says.
func TestMergedMutants(t *testing.T) {
	mutants := fiveMutants(t)
	kernels, cells, text := told(t, campaignRun(t, mutants, nil, nil))
	for _, of := range []int{1, 2, 3, 5, 7} {
		t.Run(fmt.Sprint(of), func(t *testing.T) {
			run, verdicts, err := merge(t.TempDir(), campaignShards(t, mutants, of))
			if err != nil {
				t.Fatal(err)
			}
			gotKernels, gotCells, gotText := told(t, run.Dir)
			if diff := cmp.Diff(kernels, gotKernels); diff != "" {
				t.Errorf("kernels (-one run +merged):\n%s", diff)
			}
			if diff := cmp.Diff(cells, gotCells); diff != "" {
				t.Errorf("cells (-one run +merged):\n%s", diff)
			}
			if diff := cmp.Diff(text, gotText); diff != "" {
				t.Errorf("mutants.json (-one run +merged):\n%s", diff)
			}
			if got := Exit(verdicts); got != 2 || run.Shard != nil {
				t.Errorf("merged mutants end with %d, shard %v; want 2, as one was not judged, and a whole run", got, run.Shard)
			}
		})
	}
}

func TestMergedMutantsRefused(t *testing.T) {
	mutants := fiveMutants(t)
	const of = 3
	second, part := Take(mutants, vmtest.Share{Index: 2, Of: of})
	with := func(change func(*results.Run)) func(*testing.T, []string) []string {
		return func(t *testing.T, dirs []string) []string {
			dirs[1] = campaignRun(t, second, part, change)
			return dirs
		}
	}
	verdicts := func(change func([]byte) []byte) func(*testing.T, []string) []string {
		return func(t *testing.T, dirs []string) []string {
			file := filepath.Join(dirs[1], verdictsFile)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, change(text), 0o644); err != nil {
				t.Fatal(err)
			}
			return dirs
		}
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dirs []string) []string
		want   string
	}{
		{"a part is missing", func(_ *testing.T, dirs []string) []string { return slices.Delete(dirs, 1, 2) }, "shard 2 of 3 is missing, with 2 mutants"},
		{"a part is there twice", func(t *testing.T, dirs []string) []string { return append(dirs, campaignRun(t, second, part, nil)) }, "shard 2 of 3 is there 2 times"},
		{"no verdicts", func(t *testing.T, dirs []string) []string {
			if err := os.Remove(filepath.Join(dirs[1], verdictsFile)); err != nil {
				t.Fatal(err)
			}
			return dirs
		}, "shard 2 of 3 has no verdicts that can be read: .*mutants.json: no such file"},
		{"its verdicts are empty", verdicts(func([]byte) []byte { return nil }), "has no verdicts that can be read"},
		{"its verdicts are cut off", verdicts(func(text []byte) []byte { return text[:len(text)/2] }), "has no verdicts that can be read: .*mutants.json: damaged"},
		{"a verdict that was changed", verdicts(func(text []byte) []byte { return bytes.Replace(text, []byte("true"), []byte("false"), 1) }),
			"shard 2 of 3 has no verdicts that can be read: .*mutants.json: damaged, cut short, or changed by hand"},
		{"no verdict in its list", verdicts(func([]byte) []byte { return []byte(`{"mutants": []}`) }), "shard 2 of 3 lacks the verdict about "},
		{"another's verdict", verdicts(func([]byte) []byte { return []byte(`{"mutants": [{"name": "other", "killed": true}]}`) }), "lacks the verdict about " + second[0].Name},
		{"its last verdict is lost", func(t *testing.T, dirs []string) []string {
			dirs[1] = campaignRun(t, second[:1], part, nil)
			return dirs
		}, "lacks the verdict about " + second[1].Name},
		{"one verdict more", func(t *testing.T, dirs []string) []string {
			dirs[1] = campaignRun(t, append(slices.Clone(second), mutants[0]), part, nil)
			return dirs
		}, "1 verdict more than mutants"},
		{"of another commit of patchproof", with(func(r *results.Run) { r.Harness = "4567" }), "patchproof (harness), 0123 and 4567"},
		{"of a control of another source", with(func(r *results.Run) { r.Kernels[0].Tree = "beef" }), "the source (tree) of posted/plain, cafe and beef"},
		{"of another control", with(func(r *results.Run) { r.Kernels[0].Key = "beef" }), "the kernel (key) of posted/plain, f00d and beef"},
		{"of another pin", with(func(r *results.Run) { r.Selection["PIN"] = "v6.1.4" }), "PIN, v5.10.13 and v6.1.4"},
		{"of another accelerator", with(func(r *results.Run) { r.Accel.Name = "kvm" }), "the accelerator, tcg and kvm"},
		{"of mutants that have their names only", func(t *testing.T, dirs []string) []string {
			others := slices.Clone(mutants)
			for i := range others {
				others[i].Series.Patches = []patches.Patch{mutants[(i+1)%len(mutants)].Series.Patches[0]}
			}
			mine, part := Take(others, vmtest.Share{Index: 2, Of: of})
			dirs[1] = campaignRun(t, mine, part, nil)
			return dirs
		}, "their plans"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "out")
			_, _, err := merge(root, tt.change(t, campaignShards(t, mutants, of)))
			matched := err != nil
			for _, want := range strings.Split(tt.want, ".*") {
				matched = matched && strings.Contains(err.Error(), want)
			}
			if !matched {
				t.Errorf("merge = %v; want %q", err, tt.want)
			}
			if _, err := os.Stat(root); err == nil {
				t.Error("the merge that was refused wrote something")
			}
		})
	}
}
