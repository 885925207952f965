package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"patchproof/kernel"
	"patchproof/vmtest"
)

// workFolder is where hand work goes.
func (f flags) workFolder() (string, error) {
	folder := f.value("WORK")
	if folder == "" {
		root, err := kernel.Checkout()
		if err != nil {
			return "", err
		}
		folder = filepath.Join(root, "work")
	}
	return filepath.Abs(folder)
}

type applyCmd struct {
	flags
}

// Run applies a series in a work tree of its own, or goes on there.
func (c applyCmd) Run(ctx context.Context, t *terminal) error {
	dir, err := c.workFolder()
	if err != nil {
		return err
	}
	hand, err := c.open(ctx, t, dir)
	if err != nil {
		return err
	}
	notes, err := hand.Continue(ctx)
	for _, note := range notes {
		t.printf("%s\n", note)
	}
	if err != nil {
		return err
	}
	t.printf("all patches are applied in %s; make refresh writes them as mails\n", dir)
	return nil
}

// open begins hand work, or returns the one that there is where no patch is named.
func (c applyCmd) open(ctx context.Context, t *terminal, dir string) (*kernel.Handwork, error) {
	if c.value("PATCH") == "" && c.value("LORE") == "" {
		return kernel.OpenHandwork(dir)
	}
	sel, err := c.selection(t)
	if err != nil {
		return nil, err
	}
	if err := sayPatch(ctx, t, sel); err != nil {
		return nil, err
	}
	spec, err := patchedSpec(sel)
	if err != nil {
		return nil, err
	}
	b := sel.Lab(t.progress).Builder
	return b.StartHandwork(ctx, spec, dir)
}

// patchedSpec is the kernel with the user's patch.
func patchedSpec(sel vmtest.Selection) (kernel.Spec, error) {
	lineup, err := kernel.Load()
	if err != nil {
		return kernel.Spec{}, err
	}
	specs, _, err := lineup.Resolve(sel.Selection)
	if err != nil {
		return kernel.Spec{}, err
	}
	last := specs[len(specs)-1]
	if last.Name != kernel.Patched {
		return kernel.Spec{}, errors.New("no patch; PATCH=file names one")
	}
	return last, nil
}

type refreshCmd struct {
	flags
}

// Run writes hand work back as mails.
func (c refreshCmd) Run(ctx context.Context, t *terminal) error {
	dir, err := c.workFolder()
	if err != nil {
		return err
	}
	hand, err := kernel.OpenHandwork(dir)
	if err != nil {
		return err
	}
	to := strings.TrimRight(dir, "/") + "-patches"
	n, err := hand.Refresh(ctx, to)
	if err != nil {
		return err
	}
	t.printf("%d written; make vmtest PATCH=%s tests them\n", n, to)
	return nil
}
