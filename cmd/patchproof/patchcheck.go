package main

import (
	"context"

	"patchproof/vmtest/patchcheck"
)

type patchcheckCmd struct {
	flags
}

// Run checks each patch of a series by itself.
func (c patchcheckCmd) Run(ctx context.Context, t *terminal) error {
	sel, err := c.selection(t)
	if err != nil {
		return err
	}
	if err := sayPatch(ctx, t, sel); err != nil {
		return err
	}
	r, err := patchcheck.Run(ctx, sel, patchcheck.Options{
		Progress: t.progress,
		Say:      func(format string, args ...any) { t.printf(format+"\n", args...) },
		Done:     func(checked patchcheck.Checked) { t.printf("%s", checked.Text()) },
	})
	t.endLive()
	if err != nil {
		return err
	}
	t.printf("\n%s\n%s\n", r.Answer(), r.Path())
	if !r.Passes() {
		return errUnexpected
	}
	return nil
}
