package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"patchproof/kernel"
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
		return t.json(series.Summary())
	}
	t.printf("%s", series.Describe())
	return nil
}

func (t *terminal) json(value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	t.printf("%s\n", text)
	return nil
}

type patchBaseCmd struct {
	Files   []string `arg:"" optional:"" env:"PATCH" help:"Mail, mailbox, diff, folder, or - for standard input."`
	Version int      `name:"version-of-series" short:"v" env:"V" help:"Take this version of the series, not the latest."`
	Tree    string   `env:"TREE" placeholder:"FOLDER" help:"Look in the history of this git tree; it is only read."`
	Rev     string   `env:"REV" placeholder:"REVISION" help:"What you want to test it on (HEAD)."`
	Cache   string   `env:"CACHE" placeholder:"FOLDER" help:"Where sources, trees and kernels are kept (~/.cache/patchproof)."`
	JSON    bool     `name:"json" help:"Print it for programs."`
}

// Run says which commit a series was made for.
func (c patchBaseCmd) Run(ctx context.Context, t *terminal) error {
	series, err := patches.ReadVersion(strings.Join(c.Files, " "), c.Version)
	if err != nil {
		return err
	}
	if c.Cache == "" {
		if c.Cache, err = kernel.DefaultCache(); err != nil {
			return err
		}
	}
	lineup, err := kernel.Load()
	if err != nil {
		return err
	}
	b := kernel.Builder{Cache: c.Cache, Progress: func(p kernel.Progress) { t.errorf("%s\n", p.Step) }}
	answer, err := b.FindBase(ctx, series, lineup.Pins, c.Tree, c.Rev)
	if err != nil {
		return err
	}
	if c.JSON {
		err = t.json(answer)
	} else {
		t.printf("%s", answer.Text())
	}
	if err == nil && (answer.Best == nil || !answer.Best.Applies()) {
		return errUnexpected
	}
	return err
}

// sayPatch tells what is taken of the user's patch and what is left, before a
// kernel is built of it.
func sayPatch(ctx context.Context, t *terminal, sel vmtest.Selection) error {
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
	if line := kernel.ElsewhereNote(ctx, series, sel.Tree, sel.Rev); line != "" {
		t.printf("patch: %s\n", line)
	}
	for _, id := range series.Lacks() {
		t.printf("patch: needs patch %s before it, which is not among these; bin/patchproof patch base says where it may be\n", id)
	}
	return nil
}
