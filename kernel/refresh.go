package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Refresh writes what became of the series to a folder, a mail for each commit with the
// author, date and subject prefix of the original, and returns how many there are. Mails that it wrote
// there before make room.
func (h *Handwork) Refresh(ctx context.Context, to string) (int, error) {
	base, err := h.finished(ctx)
	if err != nil {
		return 0, err
	}
	if err := onlyPatches(to); err != nil {
		return 0, err
	}
	tmp := unfinished(to)
	if err := os.RemoveAll(tmp); err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	n, err := h.writeMails(ctx, base, tmp)
	if err != nil {
		return 0, err
	}
	if err := os.RemoveAll(to); err != nil {
		return 0, err
	}
	return n, os.Rename(tmp, to)
}

// finished returns the commit that the series is on, if all of it is applied and in a
// line of commits.
func (h *Handwork) finished(ctx context.Context) (base string, err error) {
	s, of, err := h.state()
	if err != nil {
		return "", err
	}
	if s.next <= of {
		return "", fmt.Errorf("patch %d of %d is not applied yet in %s; make apply goes on", s.next, of, h.dir)
	}
	if base, err = h.read("base"); err != nil {
		return "", err
	}
	changed, err := git(ctx, h.dir, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return "", err
	}
	if changed != "" {
		return "", fmt.Errorf("%s has changes that are in no commit; commit them there (git commit --amend, or --fixup and git rebase -i), or take them back:\n%s", h.dir, changed)
	}
	merges, err := git(ctx, h.dir, "rev-list", "--merges", base+"..HEAD")
	if err != nil {
		return "", err
	}
	if merges != "" {
		return "", fmt.Errorf("%s has a merge (%.12s), which cannot be written as a patch; git -C %[1]s rebase can make a line of it", h.dir, merges)
	}
	return base, nil
}

// onlyPatches refuses a folder that holds anything but patches, and what is none.
func onlyPatches(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is where the patches go; move it away: %w", dir, err)
	}
	if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return filepath.Ext(e.Name()) != ".patch" }) {
		return fmt.Errorf("%s holds more than patches; move it away", dir)
	}
	return nil
}

// writeMails writes a mail for each commit since base, and returns how many there are.
func (h *Handwork) writeMails(ctx context.Context, base, to string) (int, error) {
	prefix, err := h.read("prefix")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	out, err := git(ctx, h.dir, "format-patch", "--output-directory="+to, "--no-cover-letter", "--no-signature", "--no-attach", "--no-thread", "--no-notes",
		"--numbered", "--subject-prefix="+cmp.Or(prefix, "PATCH"), "--no-ext-diff", "--no-textconv", "--full-index", "--binary", "--src-prefix=a/", "--dst-prefix=b/", "--base="+base, base+"..HEAD")
	if err != nil {
		return 0, err
	}
	if out == "" {
		return 0, fmt.Errorf("nothing is left of the series: %s has no commit on top of its base", h.dir)
	}
	// Their folder is the user's, and its name may have more than one line.
	files, err := os.ReadDir(to)
	if err != nil {
		return 0, err
	}
	for _, entry := range files {
		file := filepath.Join(to, entry.Name())
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		plain, err := plainMessages(ctx, h.dir, base+"..HEAD", string(text))
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(file, []byte(plain), 0o644); err != nil {
			return 0, err
		}
	}
	return len(files), nil
}
