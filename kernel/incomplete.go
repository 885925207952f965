package kernel

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Shallow says, as the end of a sentence, that a local tree's history was cut off when it
// was cloned, and how to get the rest; it is empty where all of it is there.
func Shallow(ctx context.Context, dir string) string {
	if dir == "" {
		return ""
	}
	if out, err := localGit(ctx, dir, "rev-parse", "--is-shallow-repository"); err != nil || out != "true" {
		return ""
	}
	return fmt.Sprintf("; it is a shallow clone, whose older commits are fetched by git -C %s fetch --unshallow", dir)
}

// isPartial says whether a local tree is a clone whose objects are fetched as they are needed.
func isPartial(ctx context.Context, dir string) bool {
	out, err := localGit(ctx, dir, "config", "--get-regexp", `^(remote\..*\.promisor|extensions\.partialclone)$`)
	return err == nil && out != ""
}

// lacks is how git says that it does not have an object.
var lacks = regexp.MustCompile(`fatal: .*(unable to read|could not read|bad object|missing (blob|tree)|promisor)`)

// Incomplete adds to an error of git's about a local tree what cures it, where objects of a
// partial clone were not fetched.
func Incomplete(ctx context.Context, dir string, err error) error {
	if err == nil || dir == "" || !lacks.MatchString(err.Error()) || !isPartial(ctx, dir) {
		return err
	}
	return fmt.Errorf("TREE=%s is a partial clone, of which not all was fetched that is needed here. All of it: git -C %[1]s fetch --refetch --no-filter (%w)", dir, err)
}

// Has says whether a commit has a file.
func (h *History) Has(ctx context.Context, commit, file string) bool {
	_, err := git(ctx, h.dir, "cat-file", "-e", commit+":"+file)
	return err == nil
}

// CFiles lists the C files of a commit.
func (h *History) CFiles(ctx context.Context, commit string) ([]string, error) {
	out, err := git(ctx, h.dir, "ls-tree", "-r", "-z", "--name-only", commit)
	return slices.DeleteFunc(strings.Split(out, "\x00"), func(name string) bool { return filepath.Ext(name) != ".c" }), err
}

// Names lists what a file was called in tip's history since old, the newest name first;
// file may be any of these. There is none where tip has not got it under any.
func (h *History) Names(ctx context.Context, file, old, tip string) ([]string, error) {
	name := file
	for seen := []string{}; !h.Has(ctx, tip, name); seen = append(seen, name) {
		gone, err := git(ctx, h.dir, "log", "-1", "--format=%H", "--diff-filter=D", "--no-renames", old+".."+tip, "--", name)
		if err != nil || gone == "" {
			return nil, err
		}
		renamed, err := h.renames(ctx, "diff-tree", "-r", gone+"^", gone)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(renamed, func(r [2]string) bool { return r[0] == name })
		if i < 0 || slices.Contains(seen, renamed[i][1]) {
			return nil, nil
		}
		name = renamed[i][1]
	}
	names := []string{name}
	renamed, err := h.renames(ctx, "log", "--format=", "--follow", old+".."+tip, "--", name)
	for _, r := range renamed {
		if !slices.Contains(names, r[0]) {
			names = append(names, r[0])
		}
	}
	return names, err
}

// renames lists the old and the new name of each file that git's command finds renamed.
func (h *History) renames(ctx context.Context, command string, args ...string) ([][2]string, error) {
	out, err := git(ctx, h.dir, slices.Concat([]string{command, "--name-status", "-z", "--find-renames", "--diff-filter=R"}, args)...)
	if err != nil {
		return nil, err
	}
	var all [][2]string
	parts := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	for i := 0; i+2 < len(parts); i += 3 {
		all = append(all, [2]string{parts[i+1], parts[i+2]})
	}
	return all, nil
}
