package kernel

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"patchproof/kernel/arch"
	"patchproof/kernel/sandbox"
)

// Matches are what a tree's semantic patches report of one C file at one commit.
type Matches struct {
	// Found has what each of them reports, by its name below scripts/coccinelle.
	Found map[string][]Warning
	// Unused are those that could not be used, each with the reason.
	Unused []string
}

// semanticPatches is where a tree has its own.
const semanticPatches = "scripts/coccinelle"

// cocciExamination is part of the names in checksDir: a change of what is asked makes all of them new.
const cocciExamination = "coccicheck 1"

// Coccicheck runs the semantic patches of a spec's source on C files of it, as make
// coccicheck MODE=report does. It runs them itself: the tree's script gives up at the first
// that cannot be used. What it found out before about the same file of the same source it does not
// find out again. A file that is not there has no entry; without spatch there is none at all.
func (b *Builder) Coccicheck(ctx context.Context, spec Spec, files []string) (map[string]Matches, error) {
	spatch, err := optionalTool(ctx, "spatch")
	if err != nil || spatch == "" {
		return nil, err
	}
	if b, err = b.absolute(); err != nil {
		return nil, err
	}
	// Some semantic patches have parts in OCaml, which spatch compiles.
	_, err = exec.LookPath("ocamlopt")
	ocaml := err == nil
	var all map[string]Matches
	err = b.withCommit(ctx, spec, func(t tree, commit string) (err error) {
		about := []string{spatch, strconv.FormatBool(ocaml)}
		all, err = findOut(ctx, b, t, commit, files, cocciExamination, about, func(_ int, file string) (Matches, error) {
			if err := checkoutCommit(ctx, t.src(), commit); err != nil {
				return Matches{}, err
			}
			return b.coccicheck(ctx, spec, t.src(), file, ocaml)
		})
		return err
	})
	return all, err
}

// coccicheck runs all semantic patches of a checked out tree on one file. Parts of them are
// scripts, so that a patch can bring its own: they run in the sandbox.
func (b *Builder) coccicheck(ctx context.Context, spec Spec, src, file string, ocaml bool) (Matches, error) {
	on, _, err := sandbox.Find(ctx, spec.trusted())
	if err != nil {
		return Matches{}, err
	}
	temp, err := os.MkdirTemp(b.Cache, "coccicheck-*"+tmpSuffix)
	if err != nil {
		return Matches{}, err
	}
	defer os.RemoveAll(temp)
	box := sandbox.Box{
		On: on, Show: []string{src}, Write: []string{temp}, Temp: temp,
		// Its Python is the one that it was built with. A version manager's, first in a
		// user's PATH, is a script in a home folder.
		Env: []string{"PATH=/usr/bin:/bin:" + os.Getenv("PATH")},
	}
	rules, err := semanticPatchesOf(src, ocaml)
	if err != nil {
		return Matches{}, err
	}
	each := make([]struct {
		found  []Warning
		unused string
	}, len(rules))
	var group errgroup.Group
	group.SetLimit(b.jobs())
	for i, rule := range rules {
		b.report(Progress{Kernel: spec.Name, Step: StepCompile, Done: int64(i), Total: int64(len(rules)), Note: file + ", coccicheck"})
		group.Go(func() (err error) {
			each[i].found, each[i].unused, err = rule.match(ctx, box, src, file)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Matches{}, err
	}
	all := Matches{Found: map[string][]Warning{}}
	for i, m := range each {
		if m.unused != "" {
			all.Unused = append(all.Unused, rules[i].name+": "+m.unused)
		}
		if len(m.found) > 0 {
			all.Found[rules[i].name] = m.found
		}
	}
	return all, nil
}

// semanticPatch is a file below scripts/coccinelle, and the options with which it is to be run.
type semanticPatch struct {
	name    string
	options []string
}

// matchOptions is the line in which a semantic patch says how it is to be run.
var matchOptions = regexp.MustCompile(`(?m)^// Options: *(.*)$`)

// semanticPatchesOf are those of a tree that can report, in the order of their names.
func semanticPatchesOf(src string, ocaml bool) (rules []semanticPatch, err error) {
	root, err := os.OpenRoot(src)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), semanticPatches, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) != ".cocci" {
			return err
		}
		text, err := root.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte("virtual report")) || !ocaml && bytes.Contains(text, []byte(":ocaml")) {
			return err
		}
		rule := semanticPatch{name: strings.TrimPrefix(path, semanticPatches+"/")}
		if found := matchOptions.FindSubmatch(text); found != nil {
			rule.options = strings.Fields(string(found[1]))
		}
		rules = append(rules, rule)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return rules, err
}

// matchLine is the form of coccilib.report: file, line, columns.
var matchLine = regexp.MustCompile(`(?m)^(?:\./)?([^\s:]+):(\d+):\d+-\d+: (.*)$`)

// matchSeconds is what one semantic patch may take for one file. Most take a fraction of a second.
const matchSeconds = "60"

// match runs it on one file; unused is why it could not be used.
func (p semanticPatch) match(ctx context.Context, box sandbox.Box, src, file string) (found []Warning, unused string, err error) {
	args := slices.Concat([]string{"-D", "report", "--no-show-diff", "--very-quiet", "--timeout", matchSeconds, "--cocci-file", semanticPatches + "/" + p.name}, p.options)
	for _, dir := range []string{"arch/" + arch.Target.Src + "/include", "include", "arch/" + arch.Target.Src + "/include/uapi", "include/uapi"} {
		args = append(args, "-I", dir)
	}
	args = append(args, file)
	cmd, err := box.Command(src, "spatch", args...)
	if err != nil {
		return nil, "", err
	}
	for _, file := range cmd.ExtraFiles {
		defer file.Close()
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = sandbox.Run(ctx, cmd)
	if ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	if err != nil {
		reason := strings.TrimSpace(said.String())
		reason = reason[strings.LastIndexByte(reason, '\n')+1:]
		if strings.Contains(said.String(), "timeout (we abort)") {
			reason = "not done after " + matchSeconds + " s"
		}
		return nil, cmp.Or(reason, err.Error()), nil
	}
	for _, m := range matchLine.FindAllStringSubmatch(out.String(), -1) {
		line, _ := strconv.Atoi(m[2])
		if w := (Warning{File: m[1], Line: line, Message: m[3]}); !slices.Contains(found, w) {
			found = append(found, w)
		}
	}
	return found, "", nil
}
