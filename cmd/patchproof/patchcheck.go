package main

import (
	"context"

	"patchproof/vmtest"
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
	passes, err := checkPatches(ctx, t, sel, patchcheck.Options{Also: c.value("ALSO")})
	if err == nil && !passes {
		err = errUnexpected
	}
	return err
}

// checkPatches checks each patch of a series on the terminal, and says whether all of them pass.
func checkPatches(ctx context.Context, t *terminal, sel vmtest.Selection, o patchcheck.Options) (bool, error) {
	o.Progress = t.progress
	o.Say = func(format string, args ...any) { t.printf(format+"\n", args...) }
	o.Done = func(checked patchcheck.Checked) { t.printf("%s", checked.Text()) }
	r, err := patchcheck.Run(ctx, sel, o)
	t.endLive()
	if err != nil {
		return false, err
	}
	t.printf("\n%s\n%s\n", r.Answer(), r.Path())
	return r.Passes(), nil
}
