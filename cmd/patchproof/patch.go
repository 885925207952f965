package main

import (
	"encoding/json"
	"slices"
	"strings"

	"patchproof/patches"
	"patchproof/vmtest"
)

type patchShowCmd struct {
	Files   []string `arg:"" optional:"" env:"PATCH" help:"Mail, mailbox, diff, folder, or - for standard input."`
	Version int      `name:"version-of-series" short:"v" env:"V" help:"Take this version of the series, not the latest."`
	JSON    bool     `name:"json" help:"Print it for programs."`
}

// Run prints what the reader makes of the files.
func (c patchShowCmd) Run(t *terminal) error {
	series, err := patches.ReadVersion(strings.Join(c.Files, " "), c.Version)
	if err != nil {
		return err
	}
	if c.JSON {
		text, err := json.MarshalIndent(series.Summary(), "", "  ")
		if err != nil {
			return err
		}
		t.printf("%s\n", text)
		return nil
	}
	t.printf("%s", series.Describe())
	return nil
}

// sayPatch tells what is taken of the user's patch and what is left, before a
// kernel is built of it.
func sayPatch(t *terminal, sel vmtest.Selection) error {
	if sel.Patch == "" {
		return nil
	}
	path, err := patches.Abs(sel.Patch)
	if err != nil {
		return err
	}
	series, err := patches.ReadVersion(path, sel.Version)
	if err != nil {
		return err
	}
	for _, line := range slices.Concat(sel.Notes, series.Notes) {
		t.printf("patch: %s\n", line)
	}
	for _, line := range series.Left {
		t.printf("patch: %s\n", line)
	}
	return nil
}
