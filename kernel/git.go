package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"patchproof/kernel/arch"
	"patchproof/kernel/sandbox"
)

// identity commits everything, so that ids are the same on every machine.
const (
	identityName  = "patchproof"
	identityEmail = "patchproof@localhost"
)

// refs of a repository in the cache. baseRef is the imported source of a pin;
// below seriesRefs is a commit per list of patches, named by its hash; below mergedRefs
// are those whose last patch needed a merge.
const (
	baseRef    = "refs/patchproof/base"
	seriesRefs = "refs/patchproof/series/"
	mergedRefs = "refs/patchproof/merged/"
)

// gitEnv keeps the user's and the machine's git configuration (autocrlf, hooks,
// signing, attributes, ...) away from trees that must come out the same everywhere.
// Whose a tree is does not matter: a cache may be another user's, as when CI unpacks
// it, and in a tree of the user's nothing is run that its configuration names.
func gitEnv() []string {
	return sandbox.Env(
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_HTTP_LOW_SPEED_LIMIT=1", fmt.Sprintf("GIT_HTTP_LOW_SPEED_TIME=%.0f", stallAfter.Seconds()),
		"GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_EDITOR=:",
		"GIT_AUTHOR_NAME="+identityName, "GIT_AUTHOR_EMAIL="+identityEmail,
		"GIT_COMMITTER_NAME="+identityName, "GIT_COMMITTER_EMAIL="+identityEmail,
	)
}

func gitCommand(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	cmd.Env = gitEnv()
	return cmd
}

// git runs a git command in dir and returns its output without the last newline.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	out, err := sandbox.Output(ctx, gitCommand(dir, args...))
	return strings.TrimSuffix(string(out), "\n"), err
}

// initRepo makes an empty repository at dir for a tree of the cache.
func initRepo(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := git(ctx, dir, "init", "--quiet", "--template=", "--initial-branch=patchproof"); err != nil {
		return err
	}
	config := map[string]string{
		"core.hooksPath":      "/dev/null",
		"core.attributesFile": "/dev/null",
		"core.excludesFile":   "/dev/null",
		"core.compression":    "0", // disk is cheaper than the seconds of a first run
		"checkout.workers":    "0", // one per CPU
		"gc.auto":             "0",
		"maintenance.auto":    "false",
		"advice.detachedHead": "false",
		// Deltas would be searched for on every imported file.
		"pack.depth": "0",
	}
	var text bytes.Buffer
	for key, value := range config {
		section, name, _ := strings.Cut(key, ".")
		fmt.Fprintf(&text, "[%s]\n\t%s = %s\n", section, name, value)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".git", "config"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(text.Bytes())
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	// Over any .gitattributes of the source: a checkout gives the bytes that were imported.
	attributes := filepath.Join(dir, ".git", "info", "attributes")
	if err := os.MkdirAll(filepath.Dir(attributes), 0o755); err != nil {
		return err
	}
	return os.WriteFile(attributes, []byte("* -text -ident -working-tree-encoding\n"), 0o644)
}

// rawDate is a date as git's plumbing takes it.
func rawDate(t time.Time) string { return fmt.Sprintf("%d +0000", t.Unix()) }

// checkoutCommit makes dir's work tree that commit, whatever an interrupted run
// left there. Files that do not differ keep their time stamps.
func checkoutCommit(ctx context.Context, dir, commit string) error {
	// The caller holds the tree's lock, so nobody else can own these.
	gitDir := filepath.Join(dir, ".git")
	if err := os.RemoveAll(filepath.Join(gitDir, "index.lock")); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(gitDir, "rebase-apply")); err != nil {
		return err
	}
	// A file that was only dated is not written again, so that what was made of it stays. That
	// others have changed is what the checkout is for.
	_, _ = git(ctx, dir, "update-index", "-q", "--refresh")
	// Folders in the place of committed links, and links in that of folders, are git's
	// to replace; it never writes through one.
	if _, err := git(ctx, dir, "checkout", "--quiet", "--force", "--detach", commit); err != nil {
		return err
	}
	if _, err := git(ctx, dir, "clean", "-fdxq"); err != nil {
		return err
	}
	// Some trees have the results of a build committed, with which kbuild refuses to
	// build elsewhere (top Makefile, outputmakefile).
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, result := range []string{".config", "include/config", "include/generated", arch.Target.Generated} {
		// A link on the way there leads somewhere else, maybe out of the tree.
		if !inside(dir, result) {
			continue
		}
		if err := root.RemoveAll(result); err != nil {
			return fmt.Errorf("%s of the tree: %w", result, err)
		}
	}
	return nil
}
