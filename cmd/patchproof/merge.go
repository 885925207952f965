package main

import (
	"path/filepath"

	"patchproof/kernel"
	"patchproof/results"
	"patchproof/vmtest/bench"
	"patchproof/vmtest/mutate"
)

type resultsMergeCmd struct {
	outFlag `embed:""`
	Shards  []string `arg:"" name:"dir" help:"The runs of all shards: their folders."`
}

// Run makes one run of shards, and ends as that run would have.
func (c resultsMergeCmd) Run(t *terminal) error {
	shards, err := results.ReadShards(c.Shards)
	if err != nil {
		return err
	}
	for _, note := range shards.Notes {
		t.errorf("note: %s\n", note)
	}
	if shards.Runs[0].Shard.Mutants() {
		return c.mutants(t, shards)
	}
	run, err := shards.Write(c.Out, nil)
	if err != nil {
		return err
	}
	if err := report(t, run, false); err != nil {
		return err
	}
	if instrument := run.Selection["INSTRUMENT"]; instrument != "" {
		if err := mergedFigures(t, run, bench.Instrument(instrument)); err != nil {
			return outcome(t, run, err)
		}
	}
	return outcome(t, run, writePage(t, run))
}

func mergedFigures(t *terminal, run *results.Run, instrument bench.Instrument) error {
	subject, err := kernel.NamedSubject(run.Selection["SUBJECT"])
	if err != nil {
		return err
	}
	if instrument == bench.Time {
		return bench.ReportTimes(t.out, subject.Bench, run)
	}
	return bench.Report(t.out, subject.Bench, run)
}

// mutants does so for a campaign of mutants, whose verdicts are beside the run.
func (c resultsMergeCmd) mutants(t *terminal, shards *results.Shards) error {
	verdicts, err := mutate.Merge(shards)
	if err != nil {
		return err
	}
	run, err := mutate.Write(c.Out, shards, verdicts)
	if err != nil {
		return err
	}
	for _, v := range verdicts {
		t.printf("%s\n", mutantLine(v))
	}
	t.printf("\n%s\n%s\n", mutantsAnswer(verdicts), filepath.Join(run.Dir, "mutants.json"))
	return exitError(mutate.Exit(verdicts))
}
