package kernel

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchproof/kernel/sandbox"
	"patchproof/patches/regular"
)

// Examined is what the compiler and the checkers say of one C file at one commit, and
// what became of it.
type Examined struct {
	// Absent says that the commit has no such file, Unbuilt that the config leaves it out.
	Absent, Unbuilt bool
	// Error is the compiler's refusal.
	Error *Warning
	// Warnings are those of the compiler and of kernel-doc, with W=1; Sparse are sparse's.
	Warnings, Sparse []Warning
	// Sizes are those of its functions and objects, and Stack what its functions take of
	// the stack, in bytes.
	Sizes, Stack map[string]int
}

// checksDir keeps what was found out about files of a commit.
const checksDir = "checks"

// examination is part of the names in checksDir: a change of what is examined makes all
// of them new.
const examination = "examined 2"

// extraFlags ask for warnings that most of the kernel does without, and for what each
// function takes of the stack.
var extraFlags = []string{"W=1", "KCFLAGS=-fstack-usage"}

// Examine compiles C files of a spec's source, each by itself, with the warnings that
// W=1 asks for, and runs sparse on them where the host has it. What it found out before
// about the same file of the same source it does not find out again.
func (b *Builder) Examine(ctx context.Context, spec Spec, v Variant, files []string) (map[string]Examined, error) {
	b, err := b.absolute()
	if err != nil {
		return nil, err
	}
	compiler, err := b.Compiler.id(ctx)
	if err != nil {
		return nil, err
	}
	sparse, err := optionalTool(ctx, "sparse")
	if err != nil {
		return nil, err
	}
	requests, err := readFragments(v)
	if err != nil {
		return nil, err
	}
	var all map[string]Examined
	err = b.withCommit(ctx, spec, func(t tree, commit string) (err error) {
		j := job{Builder: b, spec: spec, variant: v, tree: t, commit: commit, compiler: compiler}
		opened := false
		defer func() {
			if opened {
				if closeErr := j.folder.close(); err == nil {
					err = closeErr
				}
				j.log.Close()
			}
		}()
		about := []string{v.Goal + asked(requests), compiler, sparse}
		all, err = findOut(ctx, b, t, commit, files, examination, about, func(n int, file string) (x Examined, err error) {
			if !opened {
				if err := j.open(ctx); err != nil {
					return x, err
				}
				opened = true
			}
			b.report(Progress{Kernel: spec.Name, Step: StepCompile, Done: int64(n), Total: int64(len(files)), Note: file})
			x, err = j.examine(ctx, file, sparse != "")
			return x, withLog(err, j.log.Name())
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if _, there := all[file]; !there {
			all[file] = Examined{Absent: true}
		}
	}
	return all, nil
}

// findOut asks find about each of the files that a commit has, by its number and name, but for
// those that the cache has the answer about. An answer goes by the kind of the question, the
// commit's source, whatever else it is about, and the file.
func findOut[T any](ctx context.Context, b *Builder, t tree, commit string, files []string, kind string, about []string, find func(n int, file string) (T, error)) (map[string]T, error) {
	oid, err := git(ctx, t.src(), "rev-parse", "--verify", commit+"^{tree}")
	if err != nil {
		return nil, err
	}
	all := map[string]T{}
	for n, file := range files {
		key := hashOf(slices.Concat([]string{kind, oid}, about, []string{file})...)
		kept := filepath.Join(b.Cache, checksDir, key)
		var x T
		if text, err := regular.ReadFile(kept); err == nil {
			// One that is damaged, or another's, is found out again.
			sum, answer, _ := strings.Cut(string(text), "\n")
			if sum == hashOf(key, answer) && json.Unmarshal([]byte(answer), &x) == nil {
				all[file] = x
				continue
			}
		}
		if _, err := git(ctx, t.src(), "cat-file", "-e", commit+":"+file); err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue
		}
		if x, err = find(n, file); err != nil {
			return nil, err
		}
		text, err := json.Marshal(x)
		if err != nil {
			return nil, err
		}
		if err := writeAtomic(kept, hashOf(key, string(text))+"\n"+string(text)); err != nil {
			return nil, err
		}
		all[file] = x
	}
	return all, nil
}

// optionalTool is a tool's name and what it says of its version, or nothing where the host has
// none.
func optionalTool(ctx context.Context, name string) (string, error) {
	if _, err := exec.LookPath(name); err != nil {
		return "", nil
	}
	version, err := toolVersion(ctx, name)
	return name + " " + strings.TrimSpace(version), err
}

// examine compiles one file, and checks it.
func (j *job) examine(ctx context.Context, file string, sparse bool) (x Examined, err error) {
	object := strings.TrimSuffix(file, ".c") + ".o"
	said, err := j.compile(ctx, file, extraFlags...)
	var refused *BuildError
	if errors.As(err, &refused) && !leftOut(refused, object) {
		// What is said once may be trouble of the machine's.
		first := refused
		said, err = j.compile(ctx, file, extraFlags...)
		if errors.As(err, &refused) && !refused.saidBefore(first) {
			return x, &hostError{what: "the compiler says something else each time, at last: " + refused.Message, raise: "look at this machine's memory"}
		}
	}
	x.Warnings = warningsIn(said, j.tree.src())
	switch {
	case errors.As(err, &refused) && leftOut(refused, object):
		return Examined{Unbuilt: true}, nil
	case errors.As(err, &refused):
		x.Error = &Warning{File: refused.File, Line: refused.Line, Message: refused.Message}
		return x, nil
	case err != nil:
		return x, err
	}
	root, err := os.OpenRoot(j.folder.dir)
	if err != nil {
		return x, err
	}
	defer root.Close()
	// Nothing of this may stay: a build has other flags.
	left := []string{object, strings.TrimSuffix(object, ".o") + ".su", filepath.Dir(object) + "/.tmp_" + strings.TrimSuffix(filepath.Base(object), ".o") + ".su"}
	defer func() {
		for _, name := range left {
			if removeErr := root.RemoveAll(name); err == nil {
				err = removeErr
			}
		}
	}()
	if x.Sizes, err = objectSizes(root, object); err != nil {
		return x, err
	}
	for _, name := range left[1:] {
		if text, err := regular.ReadFileIn(root, name); err == nil {
			x.Stack = stackUse(string(text))
		}
	}
	if !sparse {
		return x, nil
	}
	var text bytes.Buffer
	m := &makeRun{src: j.tree.src(), out: j.folder.dir, jobs: j.jobs(), compiler: j.Compiler, sandbox: j.sandbox, log: io.MultiWriter(j.log, &text), object: func(int) {}}
	config, err := regular.ReadFile(filepath.Join(j.folder.dir, ".config"))
	if err != nil {
		return x, err
	}
	// What sparse says does not end make, unless it cannot run at all.
	err = m.run(ctx, slices.Concat(extraFlags, []string{"C=2", "CHECK=sparse"}, quirks(m.src, string(config)), []string{object})...)
	x.Sparse = warningsIn(sparseError.ReplaceAllString(text.String(), "$1 warning: "), j.tree.src())
	return x, err
}

// sparseError is what sparse calls an error, which to a build is none.
var sparseError = regexp.MustCompile(`(?m)^([^\s:]+:\d+:\d+:) error: `)

// leftOut says that a makefile knows no way to an object: the config leaves it out.
func leftOut(e *BuildError, object string) bool {
	return strings.Contains(e.Message, "No rule to make target") && strings.Contains(e.Message, object)
}

// numbered is what the compiler appends to a name that is there more than once, and the
// kernel's macros to one that is to be there once.
var numbered = regexp.MustCompile(`\.\d+|^(__UNIQUE_ID_.*?)\d+$`)

// unnumbered is the name of a function or object without the numbers that another line
// elsewhere in the file changes.
func unnumbered(name string) string { return numbered.ReplaceAllString(name, "$1") }

// objectSizes are the sizes of the functions and objects in an object file.
func objectSizes(root *os.Root, name string) (map[string]int, error) {
	file, err := regular.OpenIn(root, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	symbols, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	sizes := map[string]int{}
	for _, s := range symbols {
		if kind := elf.ST_TYPE(s.Info); (kind == elf.STT_FUNC || kind == elf.STT_OBJECT) && s.Section != elf.SHN_UNDEF {
			sizes[unnumbered(s.Name)] += int(s.Size)
		}
	}
	return sizes, nil
}

// stackUse reads what gcc's -fstack-usage writes: "file:line:column:function", bytes and
// how they are known, with tabs between them.
func stackUse(text string) map[string]int {
	use := map[string]int{}
	for line := range strings.Lines(text) {
		place, rest, _ := strings.Cut(line, "\t")
		bytes, _, _ := strings.Cut(rest, "\t")
		name := unnumbered(place[strings.LastIndexByte(place, ':')+1:])
		if n, err := strconv.Atoi(bytes); err == nil {
			use[name] = max(use[name], n)
		}
	}
	return use
}

// Remark is what a script of the tree says of a patch.
type Remark struct {
	// File and Line are empty for what is about the mail.
	File string
	Line int
	// Level is ERROR, WARNING or CHECK.
	Level, Type, Message string
}

// checkpatchLine is what checkpatch.pl says with --terse --show-types --showfile.
var checkpatchLine = regexp.MustCompile(`^(?:(.*?):(\d*): )?(ERROR|WARNING|CHECK):([A-Z_0-9]+): (.*)$`)

// aboutMail are the types of remarks about the mail, to which checkpatch.pl gives the
// place at which it noticed.
var aboutMail = regexp.MustCompile(`SIGN_OFF|COMMIT|AUTHOR|CHANGELOG|GERRIT|EMAIL|FIXES|UTF8_BEFORE`)

// Checkpatch runs the checkpatch.pl of a spec's base on each of its patches.
func (b *Builder) Checkpatch(ctx context.Context, spec Spec) (all [][]Remark, err error) {
	if b, err = b.absolute(); err != nil {
		return nil, err
	}
	err = b.withTree(ctx, spec, func(t tree) error {
		if err := checkKernel(ctx, t, spec, t.base); err != nil {
			return err
		}
		if err := checkoutCommit(ctx, t.src(), t.base); err != nil {
			return err
		}
		on, _, err := sandbox.Find(ctx, spec.Tree == "")
		if err != nil {
			return err
		}
		// It would look commits up in a history that is not there.
		box := sandbox.Box{On: on, Show: []string{t.src()}, Env: []string{"GIT_DIR=/nowhere"}}
		for _, p := range spec.Patches() {
			mail, flags := p.MailMessage(), []string{"--terse", "--show-types", "--showfile", "--no-summary"}
			if p.Author == "" {
				// A diff has no message that could be wrong.
				mail, flags = p.Diff, append(flags, "--no-signoff", "--ignore", "COMMIT_MESSAGE,NOT_UNIFIED_DIFF")
			}
			remarks, err := checkpatch(ctx, box, t.src(), mail, flags)
			if err != nil {
				return err
			}
			all = append(all, remarks)
		}
		return nil
	})
	return all, err
}

func checkpatch(ctx context.Context, box sandbox.Box, src string, mail []byte, flags []string) ([]Remark, error) {
	const script = "scripts/checkpatch.pl"
	if !exists(filepath.Join(src, script)) {
		return nil, fmt.Errorf("the tree has no %s", script)
	}
	cmd, err := box.Command(src, "perl", slices.Concat([]string{script}, flags, []string{"-"})...)
	if err != nil {
		return nil, err
	}
	for _, file := range cmd.ExtraFiles {
		defer file.Close()
	}
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(mail), &out, &said
	err = sandbox.Run(ctx, cmd)
	remarks := remarksIn(out.String())
	if err != nil && (len(remarks) == 0 || ctx.Err() != nil) {
		return nil, sandbox.CommandError(cmd, err, said.Bytes())
	}
	return remarks, nil
}

func remarksIn(said string) []Remark {
	var all []Remark
	lines := bufio.NewScanner(strings.NewReader(said))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		found := checkpatchLine.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		r := Remark{File: found[1], Level: found[3], Type: found[4], Message: found[5]}
		r.Line, _ = strconv.Atoi(found[2])
		if r.Line == 0 || r.File == "-" || aboutMail.MatchString(r.Type) {
			r.File, r.Line = "", 0
		}
		all = append(all, r)
	}
	return all
}

// mismatchLine is modpost's: code or data that stays refers to what is thrown away.
var mismatchLine = regexp.MustCompile(`(?mi)^WARNING:(?: modpost:)? (.*section mismatch in reference.*)$`)

// place is where in a section something lies, which moves with every change.
var place = regexp.MustCompile(`\+0x[0-9a-f]+`)

// SectionMismatches are those that the link of a kernel warned of.
func (b *Built) SectionMismatches() ([]string, error) {
	log, err := regular.ReadFile(b.Log)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, found := range mismatchLine.FindAllStringSubmatch(string(log), -1) {
		if line := place.ReplaceAllString(found[1], ""); !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	return all, nil
}
