package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"patchproof/results"
	"patchproof/vmtest/watch"
)

type watchCmd struct {
	Source  string        `arg:"" optional:"" help:"A folder of patches, a maildir, a public-inbox clone, or a git tree (FOLDER#BRANCH). Without one, the jobs are listed."`
	State   string        `default:"results/watch" placeholder:"FOLDER" help:"Where all that is known is kept (results/watch)."`
	Since   string        `placeholder:"COMMIT" help:"Begin after this commit of the branch or inbox (with what comes from now on)."`
	Command string        `placeholder:"COMMAND" help:"What the shell runs for each job, instead of patchproof vmtest; PATCH, and SHARD where there are several, are in its environment."`
	Shards  int           `default:"1" placeholder:"N" help:"How many commands to run at once, a shard each (1)."`
	Jobs    int           `default:"1" placeholder:"N" help:"How many jobs to work on side by side (1)."`
	Tries   int           `default:"3" placeholder:"N" help:"How often to try what ends by the harness's own trouble (3)."`
	Every   time.Duration `default:"1m" placeholder:"TIME" help:"How long to wait between looks (1m)."`
	Once    bool          `help:"End when there is nothing left to do."`
}

// Run watches until it is stopped.
func (c watchCmd) Run(ctx context.Context, t *terminal) error {
	if c.Shards < 1 || c.Jobs < 1 || c.Tries < 1 || c.Every <= 0 {
		return fmt.Errorf("--shards=%d --jobs=%d --tries=%d --every=%v: want numbers from 1, and a time", c.Shards, c.Jobs, c.Tries, c.Every)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	w := watch.Watch{
		State: c.State, Source: c.Source, Since: c.Since, Command: c.Command,
		Merge: []string{self, "results", "merge"}, Shards: c.Shards, AtOnce: c.Jobs, Tries: c.Tries, Every: c.Every,
		Say: t.printf,
		Draft: func(r *results.Run) string {
			text, note := results.Reply(r, nil, tester())
			if note != "" {
				text += "\n[" + note + "]\n"
			}
			return text
		},
	}
	if w.Command == "" {
		// The shell takes what it runs from its environment.
		os.Setenv("PATCHPROOF_COMMAND", self)
		w.Command = `"$PATCHPROOF_COMMAND" vmtest`
	}
	if c.Source == "" {
		return c.list(t, &w)
	}
	if err := w.Run(ctx, c.Once); err != nil {
		return err
	}
	return c.outcome(&w)
}

// list prints the jobs.
func (c watchCmd) list(t *terminal, w *watch.Watch) error {
	jobs, err := w.Jobs()
	if err != nil {
		return err
	}
	if len(jobs) == 0 {
		return fmt.Errorf("%s has no jobs; patchproof watch FOLDER begins to watch", c.State)
	}
	table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, j := range jobs {
		text := j.Answer
		if text == "" {
			text = j.Error
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", j.Number, j.Status, results.Line(j.Title), results.Line(text))
	}
	return table.Flush()
}

// outcome is that of all jobs there are: with --once, as a run's.
func (c watchCmd) outcome(w *watch.Watch) error {
	jobs, err := w.Jobs()
	if err != nil {
		return err
	}
	code := exitExpected
	for _, j := range jobs {
		switch j.Status {
		case watch.Unexpected:
			return errUnexpected
		case watch.Trouble, watch.Unreadable, watch.Unfit:
			code = exitTrouble
		}
	}
	return exitError(code)
}
