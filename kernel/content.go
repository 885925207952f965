package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"

	"patchproof/kernel/sandbox"
)

// Content is what a kernel's source holds: one commit of a git repository.
type Content struct{ repo, commit string }

// ContentAt is a commit, or whatever git calls one, of a repository.
func ContentAt(repo, commit string) Content { return Content{repo, commit} }

// Content returns the source of a spec with its patches applied, after fetching it if
// need be.
func (b *Builder) Content(ctx context.Context, spec Spec) (Content, error) {
	b, err := b.absolute()
	if err != nil {
		return Content{}, err
	}
	var c Content
	err = b.withCommit(ctx, spec, func(t tree, commit string) error {
		c = Content{t.src(), commit}
		return nil
	})
	return c, err
}

// Read returns the text of a file; one that is not there is fs.ErrNotExist.
func (c Content) Read(ctx context.Context, path string) (string, error) {
	out, err := sandbox.Output(ctx, gitCommand(c.repo, "cat-file", "blob", c.commit+":"+path))
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return string(out), nil
}

// ReadAll returns the texts of the files that are there, by their paths, in one go.
func (c Content) ReadAll(ctx context.Context, paths []string) (map[string]string, error) {
	cmd := gitCommand(c.repo, "cat-file", "--batch")
	var names strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&names, "%s:%s\n", c.commit, path)
	}
	cmd.Stdin = strings.NewReader(names.String())
	out, err := sandbox.Output(ctx, cmd)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, path := range paths {
		// "<object> <type> <size>", the content and a line end; or "<name> missing".
		header, rest, _ := bytes.Cut(out, []byte("\n"))
		var object, kind string
		var size int
		if n, _ := fmt.Sscan(string(header), &object, &kind, &size); n < 3 || size+1 > len(rest) {
			out = rest
			continue
		}
		if kind == "blob" {
			texts[path] = string(rest[:size])
		}
		out = rest[size+1:]
	}
	return texts, nil
}

// Files returns the paths of the files that git's pathspecs match.
func (c Content) Files(ctx context.Context, pathspecs ...string) ([]string, error) {
	return c.grep(ctx, "", pathspecs)
}

// Grep returns the paths of the files that have a line which the extended regular
// expression matches, among those that git's pathspecs match.
func (c Content) Grep(ctx context.Context, expression string, pathspecs ...string) ([]string, error) {
	return c.grep(ctx, expression, pathspecs)
}

func (c Content) grep(ctx context.Context, expression string, pathspecs []string) ([]string, error) {
	args := append([]string{"grep", "-I", "-z", "--name-only", "--full-name", "-E", "-e", expression, c.commit, "--"}, pathspecs...)
	out, err := git(ctx, c.repo, args...)
	var none *exec.ExitError
	if errors.As(err, &none) && none.ExitCode() == 1 {
		return nil, nil
	}
	if err != nil || out == "" {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		names = append(names, strings.TrimPrefix(name, c.commit+":"))
	}
	return names, nil
}
