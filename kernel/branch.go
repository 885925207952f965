package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// What PATCH can be besides a file, with TREE: a range of commits, or one of these.
const (
	worktreePatch = "worktree" // the uncommitted changes of tracked files
	indexPatch    = "index"    // what is staged
)

// OfChanges says that a PATCH stands for uncommitted changes of TREE.
func OfChanges(patch string) bool { return patch == worktreePatch || patch == indexPatch }

// namesCommits reports whether a PATCH means something of TREE: a file of that name
// comes first.
func namesCommits(patch string) bool {
	isRange := strings.Contains(patch, "..") && !strings.Contains(patch, "../") && !strings.Contains(patch, "/..")
	if !OfChanges(patch) && !isRange {
		return false
	}
	_, err := os.Stat(patch)
	return err != nil
}

// TakeBranch makes a patch file, in the cache, of a PATCH that means commits or
// changes of TREE, and returns the selection with it: Rev is the commit that they
// begin at. Notes tell what is not in it. Any other selection comes back as it was.
func TakeBranch(ctx context.Context, sel Selection, cache string) (there Selection, notes []string, err error) {
	if !namesCommits(sel.Patch) {
		return sel, nil, oneCommit(ctx, sel)
	}
	if sel.Tree == "" {
		return sel, nil, fmt.Errorf("PATCH=%s: there is no such file; as commits or changes of a tree it needs TREE=folder", sel.Patch)
	}
	if sel.Rev != "" {
		return sel, nil, fmt.Errorf("REV=%s: PATCH=%s says itself which commit of TREE it begins at; leave REV out", sel.Rev, sel.Patch)
	}
	var text string
	if OfChanges(sel.Patch) {
		sel.Rev, text, notes, err = changes(ctx, sel)
	} else {
		sel.Rev, text, err = commits(ctx, sel)
	}
	if err != nil {
		return sel, nil, err
	}
	name := strings.NewReplacer("/", "-", " ", "-").Replace(sel.Patch) + ".patch"
	file := filepath.Join(cache, branchesDir, hashOf(sel.Rev, text)[:12], name)
	sel.Patch = file
	return sel, notes, writeAtomic(file, text)
}

// oneCommit refuses a PATCH that is no file, but a commit of TREE: people mean its changes by
// that, or all that led to it.
func oneCommit(ctx context.Context, sel Selection) error {
	if _, err := os.Stat(sel.Patch); sel.Tree == "" || sel.Patch == "" || sel.Patch == "-" || err == nil {
		return nil
	}
	if _, err := resolveLocal(ctx, Spec{Tree: sel.Tree, Rev: sel.Patch}); err != nil {
		return nil
	}
	return fmt.Errorf("PATCH=%[1]s is no file, and a commit of TREE=%[2]s: PATCH=%[1]s^..%[1]s is what it changes, and REV=%[1]s KERNELS=base runs it without a patch", sel.Patch, sel.Tree)
}

// commits returns where a range begins and its commits as mails.
func commits(ctx context.Context, sel Selection) (base, text string, err error) {
	from, to, _ := strings.Cut(sel.Patch, "..")
	if from == "" || strings.HasPrefix(to, ".") {
		return "", "", fmt.Errorf("PATCH=%s: want FROM..TO, or FROM.. up to HEAD", sel.Patch)
	}
	if to == "" {
		to = "HEAD"
	}
	if base, err = resolveLocal(ctx, Spec{Tree: sel.Tree, Rev: from}); err != nil {
		return "", "", fmt.Errorf("PATCH=%s: %w", sel.Patch, err)
	}
	tip, err := resolveLocal(ctx, Spec{Tree: sel.Tree, Rev: to})
	if err != nil {
		return "", "", fmt.Errorf("PATCH=%s: %w", sel.Patch, err)
	}
	if _, err := localGit(ctx, sel.Tree, "merge-base", "--is-ancestor", base, tip); err != nil {
		fork, forkErr := localGit(ctx, sel.Tree, "merge-base", base, tip)
		if forkErr != nil {
			return "", "", fmt.Errorf("PATCH=%s: %s (%.12s) is not an ancestor of %s (%.12s), and they have no commit in common", sel.Patch, from, base, to, tip)
		}
		if fork == tip {
			return "", "", fmt.Errorf("PATCH=%s: %s (%.12s) comes before %s (%.12s); the other way round, PATCH=%s..%s has commits", sel.Patch, to, tip, from, base, to, from)
		}
		return "", "", fmt.Errorf("PATCH=%s: %s (%.12s) is not an ancestor of %s (%.12s); they part at %.12s: PATCH=%.12s..%s is what %s has since",
			sel.Patch, from, base, to, tip, fork, fork, to, to)
	}
	merges, err := localGit(ctx, sel.Tree, "rev-list", "--merges", base+".."+tip)
	if err != nil {
		return "", "", err
	}
	if merges != "" {
		first, _, _ := strings.Cut(merges, "\n")
		return "", "", &UnfitError{fmt.Errorf("PATCH=%s has the merge %.12s in it, which no patch can be made of; name a range without one", sel.Patch, first)}
	}
	text, err = localGit(ctx, sel.Tree, "format-patch", "--stdout", "--no-cover-letter", "--no-signature", "--no-attach", "--no-thread",
		"--no-notes", "--no-base", "--no-add-header", "--numbered", "--no-encode-email-headers", "--subject-prefix=PATCH", "--no-ext-diff", "--no-textconv", "--no-renames",
		"--unified=3", "--full-index", "--binary", "--src-prefix=a/", "--dst-prefix=b/", base+".."+tip)
	if err != nil {
		return "", "", err
	}
	if text == "" {
		return "", "", &UnfitError{fmt.Errorf("PATCH=%s is empty: %s has no change since %s", sel.Patch, to, from)}
	}
	if text, err = plainMessages(ctx, sel.Tree, base+".."+tip, text); err != nil {
		return "", "", fmt.Errorf("PATCH=%s: %w", sel.Patch, err)
	}
	return base, text + "\n", nil
}

var (
	// ownPrefix is what a commit's subject has of a mail, behind what format-patch puts there.
	ownPrefix = regexp.MustCompile(`(?m)^(Subject: \[PATCH \d+/\d+\]) (?:\[[^]\n]*\] *)+`)
	// noMessage is a line of a message that would end it, or count as one of the change.
	noMessage = regexp.MustCompile(`(?m)^(?:diff -|Index: |--- |\+\+\+ |@@ |From [0-9a-f]{40} )`)
)

// plainMessages takes out of format-patch's mails what their reader would take for more than a
// message: numbers of an earlier series in subjects, and diffs and mails in messages, which it indents.
func plainMessages(ctx context.Context, dir, commits, mails string) (string, error) {
	messages, err := localGit(ctx, dir, "log", "--no-show-signature", "--no-color", "--format=%H%x00%b%x00", commits)
	if err != nil {
		return "", err
	}
	fields := strings.Split(messages, "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		commit, body := strings.TrimSpace(fields[i]), strings.TrimRight(fields[i+1], "\n")
		before, mail, ok := strings.Cut(mails, "From "+commit+" ")
		if !ok || !noMessage.MatchString(body) {
			continue
		}
		if !strings.Contains(mail, body) {
			return "", fmt.Errorf("the message of commit %.12s has a diff or a mail in it, which would be taken for its change; indent that", commit)
		}
		mails = before + "From " + commit + " " + strings.Replace(mail, body, noMessage.ReplaceAllString(body, " $0"), 1)
	}
	return ownPrefix.ReplaceAllString(mails, "$1 "), nil
}

// changes returns HEAD and what is changed since. Notes tell of the files that are not in it,
// or in part only.
func changes(ctx context.Context, sel Selection) (head, text string, notes []string, err error) {
	if head, err = resolveLocal(ctx, Spec{Tree: sel.Tree, Rev: "HEAD"}); err != nil {
		return "", "", nil, err
	}
	if inside, err := localGit(ctx, sel.Tree, "rev-parse", "--is-inside-work-tree"); err != nil || inside != "true" {
		return "", "", nil, errors.Join(err, fmt.Errorf("PATCH=%s: TREE=%s is a bare repository or the .git of one, which has no uncommitted changes", sel.Patch, sel.Tree))
	}
	// A conflict is no change yet: its markers would be compiled, and called the patch's fault.
	unmerged, err := localGit(ctx, sel.Tree, "diff", "--name-only", "--diff-filter=U")
	if err != nil {
		return "", "", nil, err
	}
	if unmerged != "" {
		return "", "", nil, fmt.Errorf("PATCH=%s: in TREE=%s conflicts are open in %s; resolve them, git add the files, and try again", sel.Patch, sel.Tree, commas(unmerged))
	}
	args := []string{"diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--unified=3", "--full-index", "--binary", "--src-prefix=a/", "--dst-prefix=b/"}
	if sel.Patch == indexPatch {
		args = append(args, "--cached")
	}
	if text, err = localGit(ctx, sel.Tree, append(args, head, "--")...); err != nil {
		return "", "", nil, err
	}
	untracked, err := localGit(ctx, sel.Tree, "ls-files", "--others", "--exclude-standard")
	if err != nil {
		return "", "", nil, err
	}
	if untracked != "" {
		notes = append(notes, "not in it, as git does not track them (git add -N makes it): "+commas(untracked))
	}
	if sel.Patch == indexPatch {
		unstaged, err := localGit(ctx, sel.Tree, "diff", "--name-only")
		if err != nil {
			return "", "", nil, err
		}
		if unstaged != "" {
			notes = append(notes, "not in it, as it is not staged: what changed in "+commas(unstaged))
		}
	}
	if text == "" {
		return "", "", nil, fmt.Errorf("PATCH=%s is empty: %s", sel.Patch,
			strings.Join(append([]string{fmt.Sprintf("TREE=%s has no such change since HEAD (%.12s)", sel.Tree, head)}, notes...), "; "))
	}
	return head, text + "\n", notes, nil
}

// commas puts the lines of a command's output on one.
func commas(lines string) string { return strings.ReplaceAll(lines, "\n", ", ") }
