package main

import "patchproof/results"

type resultsAnnotateCmd struct {
	runArg `embed:""`
}

// Run prints what marks lines of a pull request.
func (c resultsAnnotateCmd) Run(t *terminal) error {
	run, err := c.read()
	if err != nil {
		return err
	}
	t.printf("%s", results.Annotations(run))
	return nil
}
