package main

import (
	"context"
	"errors"

	"patchproof/patches"
	"patchproof/vmtest/patchcheck"
)

type readyCmd struct {
	flags
}

// Run says whether mails with patches are fit to be sent: first what the mails
// themselves tell, then whether each patch builds, boots and passes the checkers.
func (c readyCmd) Run(ctx context.Context, t *terminal) error {
	sel, err := c.selection(t)
	if err != nil {
		return err
	}
	if sel.Patch == "" {
		return errors.New("no series to look at; PATCH=folder names what git format-patch wrote")
	}
	out, err := patches.ReadOutgoing(sel.Patch)
	if err != nil {
		return err
	}
	var wrong, persons bool
	for _, f := range out.Flaws {
		if f.Person {
			persons = true
			t.printf("for you: %s\n", f)
			continue
		}
		wrong = true
		t.printf("mails: %s\n", f)
	}
	for _, note := range out.Notes {
		t.printf("note: %s\n", note)
	}
	passes, err := checkPatches(ctx, t, sel, patchcheck.Options{Unsigned: true, Also: c.value("ALSO")})
	if err != nil {
		return err
	}
	switch {
	case wrong && !passes:
		t.printf("NOT READY: a patch does not pass, and there is something wrong with the mails, see above.\n")
	case wrong:
		t.printf("NOT READY: there is something wrong with the mails, see above.\n")
	case !passes:
		t.printf("NOT READY: a patch does not pass.\n")
	case persons:
		t.printf("NOT YET: all is well but for what only you can give: names and Signed-off-by, see above.\n")
	default:
		t.printf("READY to be sent.\n")
		return nil
	}
	return errUnexpected
}
