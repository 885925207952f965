package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"patchproof/kernel"
	"patchproof/patches"
	"patchproof/vmtest"
)

// patchArg is the patch to look at.
type patchArg struct {
	Files   []string `arg:"" optional:"" env:"PATCH" help:"Mail, mailbox, diff, folder, address, or - for standard input."`
	Version int      `name:"version-of-series" short:"v" env:"V" help:"Take this version of the series, not the latest."`
	Lore    string   `env:"LORE" placeholder:"MESSAGE-ID" help:"Instead of files, a mail of a thread on lore.kernel.org."`
	Inbox   string   `env:"INBOX" placeholder:"FOLDER" help:"With --lore, a public-inbox clone to take it from."`
	Cache   string   `env:"CACHE" placeholder:"FOLDER" help:"Where sources, trees and kernels are kept (~/.cache/patchproof)."`
	JSON    bool     `name:"json" help:"Print it for programs."`
}

// read reads it.
func (p *patchArg) read(ctx context.Context, t *terminal) (patches.Series, error) {
	var err error
	if p.Cache == "" {
		if p.Cache, err = kernel.DefaultCache(); err != nil {
			return patches.Series{}, err
		}
	}
	if len(p.Files) == 0 && p.Lore == "" {
		return patches.Series{}, errors.New("name the patch: a file, a folder, an address, or - for standard input")
	}
	sel := kernel.Selection{Patch: strings.Join(p.Files, " "), Lore: p.Lore, Inbox: p.Inbox}
	sel, notes, err := kernel.TakeThread(ctx, sel, p.Cache)
	if err != nil {
		return patches.Series{}, err
	}
	for _, note := range notes {
		t.note(note)
	}
	return patches.ReadVersion(sel.Patch, p.Version)
}

type patchShowCmd struct {
	patchArg `embed:""`
}

// Run prints what the reader makes of the files.
func (c patchShowCmd) Run(ctx context.Context, t *terminal) error {
	series, err := c.read(ctx, t)
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
	patchArg `embed:""`
	Tree     string `env:"TREE" placeholder:"FOLDER" help:"Look in the history of this git tree; it is only read."`
	Rev      string `env:"REV" placeholder:"REVISION" help:"What you want to test it on (HEAD)."`
}

// Run says which commit a series was made for.
func (c patchBaseCmd) Run(ctx context.Context, t *terminal) error {
	series, err := c.read(ctx, t)
	if err != nil {
		return err
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
	for _, line := range sel.Notes {
		t.printf("patch: %s\n", line)
	}
	for _, line := range series.Notes {
		t.printf("patch: taken: %s\n", line)
	}
	for _, line := range series.Left {
		t.printf("patch: left out: %s\n", line)
	}
	if line := kernel.ElsewhereNote(ctx, series, sel.Tree, sel.Rev); line != "" {
		t.printf("patch: %s\n", line)
	}
	for _, id := range series.Lacks() {
		t.printf("patch: needs patch %s before it, which is not among these; bin/patchproof patch base says where it may be\n", id)
	}
	return nil
}
