package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest/mutate"
)

type mutantsCmd struct {
	flags
}

// Run breaks the kernel on purpose and says which breakages the programs see.
func (c mutantsCmd) Run(ctx context.Context, t *terminal) error {
	sel, err := c.selection(t)
	if err != nil {
		return err
	}
	fresh := c.value("FRESH")
	if fresh != "" && fresh != "0" && fresh != "1" {
		return fmt.Errorf("FRESH=%s: want 1, to judge again what an earlier run judged", fresh)
	}
	subject, err := kernel.NamedSubject(sel.Subject)
	if err != nil {
		return err
	}
	if len(sel.Kernels) == 0 && sel.Patch == "" && len(subject.Mutants) > 0 {
		sel.Kernels = []string{subject.Mutants[0].Kernel}
	}
	folder := c.value("MUTANTS")
	if folder == "" {
		if folder, err = mutate.Folder(subject, strings.Join(sel.Kernels, ","), sel.Pin); err != nil {
			return err
		}
	}
	mutants, err := mutate.Read(folder)
	if err != nil {
		return err
	}
	var part *results.Shard
	if sel.Shard.Of > 0 {
		mutants, part = mutate.Take(mutants, sel.Shard)
		t.printf("%s\n", part.Describe())
	}
	n := 0
	dir, verdicts, err := mutate.Run(ctx, mutants, mutate.Options{
		Selection: sel, Fresh: fresh == "1", Part: part, Progress: t.progress, Watch: t.watch,
		Say: func(format string, args ...any) { t.printf(format+"\n", args...) },
		Done: func(v mutate.Verdict) {
			n++
			t.printf("%*d/%d  %s\n", len(fmt.Sprint(len(mutants))), n, len(mutants), mutantLine(v))
		},
	})
	if dir == "" {
		return err
	}
	if len(verdicts) > 0 {
		t.printf("\n%s\n", mutantsAnswer(verdicts))
	}
	// An interruption may come before the first verdict, and so before the file.
	record := filepath.Join(dir, "mutants.json")
	if len(verdicts) == 0 {
		record = filepath.Join(dir, "run.json")
	}
	t.printf("%s\n", record)
	if err != nil {
		return err
	}
	return exitError(mutate.Exit(verdicts))
}

// mutantLine is what is said of a mutant as soon as it is judged.
func mutantLine(v mutate.Verdict) string {
	line := "survived"
	switch {
	case v.Error != "":
		line = "NOT JUDGED"
	case v.Killed:
		line = "killed"
	}
	line += " " + v.Name
	if v.By != "" {
		line += " by " + v.By
	}
	if v.Timeout {
		line += " (by timeout alone)"
	}
	if v.Error != "" {
		first, _, _ := strings.Cut(v.Error, "\n")
		line += ": " + first
	}
	line += fmt.Sprintf(", %s, %.1f s", v.Variant, v.WallS)
	if v.Reused {
		line += " (judged before)"
	}
	return line
}

// mutantsAnswer is the outcome in one sentence, and the survivors by name.
func mutantsAnswer(verdicts []mutate.Verdict) string {
	var survivors, unjudged, timeouts []string
	slowest := verdicts[0]
	total := 0.0
	for _, v := range verdicts {
		switch {
		case v.Error != "":
			unjudged = append(unjudged, v.Name)
		case !v.Killed:
			survivors = append(survivors, v.Name)
		case v.Timeout:
			timeouts = append(timeouts, v.Name)
		}
		total += v.WallS
		if v.WallS > slowest.WallS {
			slowest = v
		}
	}
	answer := fmt.Sprintf("%d of %d mutants killed", len(verdicts)-len(survivors)-len(unjudged), len(verdicts))
	for _, group := range []struct {
		what  string
		names []string
	}{{"SURVIVED", survivors}, {"NOT JUDGED", unjudged}, {"by timeout alone", timeouts}} {
		if len(group.names) > 0 {
			answer += fmt.Sprintf("; %s: %s", group.what, strings.Join(group.names, ", "))
		}
	}
	return answer + fmt.Sprintf(". %.0f s a mutant, the slowest %s with %.0f s.", total/float64(len(verdicts)), slowest.Name, slowest.WallS)
}
