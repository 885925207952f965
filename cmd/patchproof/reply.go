package main

import (
	"os/exec"
	"strings"

	"patchproof/results"
)

// benchOf returns the run with the figures to show beside r: r itself, or else the
// newest one of the same kernels, nil when there is none.
func benchOf(out string, r *results.Run) *results.Run {
	if r.HasFigures() {
		return r
	}
	for other := range results.Newest(out) {
		if other.HasFigures() && r.SameKernels(other) {
			return other
		}
	}
	return nil
}

type resultsReplyCmd struct {
	runArg `embed:""`
}

// Run prints a reply to the mail with the patches.
func (c resultsReplyCmd) Run(t *terminal) error {
	run, err := c.read()
	if err != nil {
		return err
	}
	text, note := results.Reply(run, benchOf(c.Out, run), tester())
	t.printf("%s", text)
	if note != "" {
		t.errorf("%s\n", note)
	}
	return nil
}

// tester is the person that git's config names, and empty where it names none.
func tester() string {
	name, email := gitConfig("user.name"), gitConfig("user.email")
	if name == "" || email == "" {
		return ""
	}
	return name + " <" + email + ">"
}

func gitConfig(key string) string {
	// A key that is not set is an error to git.
	value, _ := exec.Command("git", "config", key).Output()
	return strings.TrimSpace(string(value))
}

type resultsSummaryCmd struct {
	runArg `embed:""`
}

// Run prints Markdown for a CI job's summary.
func (c resultsSummaryCmd) Run(t *terminal) error {
	run, err := c.read()
	if err != nil {
		return err
	}
	t.printf("%s", results.Summary(run))
	return nil
}
