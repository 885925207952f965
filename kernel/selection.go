package kernel

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"patchproof/patches"
	"patchproof/patches/subjects"
)

// Selection is what a user asked for; empty fields mean the default.
type Selection struct {
	// Subject names a subject; see Subject for the default.
	Subject string
	// Pin names a pin, the subject's by default, or after TakeRelease a release. It
	// excludes Tree.
	Pin string
	// Patch is whatever patches.Read reads: the line-up is base and patched, with the
	// subject's kernels between them where one is asked for. Version is the version of
	// a mailed series to take, the latest by default.
	Patch   string
	Version int
	// Lore is the message id of a mail of the thread to take instead of Patch, and Inbox
	// a public-inbox repository to take it from.
	Lore, Inbox string
	// Tree is a folder of a local git tree, Rev a revision in it (default HEAD).
	Tree, Rev string
	// Config names files with options, as readConfig takes them.
	Config string
	// Known is a file of known issues, declared for all kernels.
	Known string
	// Kernels restricts the line-up, all that the pin has by default.
	Kernels []string
	// Variant names a variant, the first by default.
	Variant string

	// Release is the pin that TakeRelease found.
	Release *Pin
}

// Patched is the name of the kernel with the user's own patch.
const Patched = "patched"

// Resolve turns a selection into the kernels to build, base first. It reads the
// patches of the series (below patches/ in the checkout that the working
// directory lies in) but neither the network nor the cache.
func (l *Lineup) Resolve(sel Selection) ([]Spec, Variant, error) {
	variant := l.Variants[0]
	var err error
	if sel.Variant != "" {
		if variant, err = pick("VARIANT", sel.Variant, l.Variants, func(v Variant) string { return v.Name }); err != nil {
			return nil, Variant{}, err
		}
	}
	subject, err := Subject(sel)
	if err != nil {
		return nil, Variant{}, err
	}
	pin, err := l.pin(sel, subject)
	if err != nil {
		return nil, Variant{}, err
	}
	if sel.Tree != "" {
		sel.Rev = cmp.Or(sel.Rev, "HEAD")
		if sel.Tree, err = filepath.Abs(sel.Tree); err != nil {
			return nil, Variant{}, err
		}
	}
	kernels, err := lineup(subject, pin.Name, sel)
	if err != nil {
		return nil, Variant{}, err
	}
	if subject != nil {
		if variant, err = variant.needing(subject); err != nil {
			return nil, Variant{}, err
		}
	}
	if variant, err = variant.With(sel.Config); err != nil {
		return nil, Variant{}, err
	}
	known, err := knownIssues(pin, subject, sel)
	if err != nil {
		return nil, Variant{}, err
	}
	var specs []Spec
	for _, k := range kernels {
		spec := Spec{Name: k.Name, Pin: pin, Features: k.Features, Known: slices.Clone(known), Tree: sel.Tree, Rev: sel.Rev}
		if err := spec.read(k.Series[pin.Name], sel.Version); err != nil {
			return nil, Variant{}, err
		}
		specs = append(specs, spec)
	}
	return specs, variant, nil
}

// pin is what the kernels are built on: what is asked for, else the subject's, else the first.
func (l *Lineup) pin(sel Selection, subject *subjects.Subject) (Pin, error) {
	name := func(p Pin) string { return p.Name }
	switch {
	case sel.Tree != "" && sel.Pin != "":
		return Pin{}, fmt.Errorf("PIN=%s and TREE=%s exclude each other", sel.Pin, sel.Tree)
	case sel.Rev != "" && sel.Tree == "":
		return Pin{}, fmt.Errorf("REV=%s needs TREE=folder", sel.Rev)
	case sel.Tree != "":
		return Pin{Name: treePin}, nil
	case sel.Release != nil && sel.Release.Name == sel.Pin:
		pin := *sel.Release
		if root, err := Checkout(); err == nil {
			known := filepath.Join("base", pin.Name, "known-issues.toml")
			if exists(filepath.Join(root, "patches", known)) {
				pin.Known = known
			}
		}
		return pin, nil
	case sel.Pin != "":
		pin, err := pick("PIN", sel.Pin, l.Pins, name)
		if err != nil {
			err = fmt.Errorf("%w; or a release of Linux, such as 6.12.107, or 7.1 for its newest", err)
		}
		return pin, err
	case subject != nil:
		return pick("pin of subject "+subject.Name, subject.Pin, l.Pins, name)
	}
	return l.Pins[0], nil
}

// knownIssues are those that hold for all kernels: the pin's, the subject's and the user's.
func knownIssues(pin Pin, subject *subjects.Subject, sel Selection) ([]subjects.KnownIssue, error) {
	var known []subjects.KnownIssue
	if pin.Known != "" {
		root, err := Checkout()
		if err != nil {
			return nil, err
		}
		if known, err = subjects.ReadKnownIssues(filepath.Join(root, "patches", pin.Known)); err != nil {
			return nil, err
		}
	}
	if subject != nil {
		known = append(known, subject.Issues...)
	}
	if sel.Known != "" {
		more, err := subjects.ReadKnownIssues(sel.Known)
		if err != nil {
			return nil, fmt.Errorf("KNOWN: %w", err)
		}
		known = append(known, more...)
	}
	return known, nil
}

// read reads the kernel's series, with their known issues. The last one of a kernel with
// the user's patch is that patch, of which he may want a version.
func (s *Spec) read(paths []string, version int) error {
	for i, path := range paths {
		want := 0
		if s.Name == Patched && i == len(paths)-1 {
			want = version
		}
		series, err := patches.ReadVersion(path, want)
		if err != nil {
			return &UnfitError{err}
		}
		s.Series = append(s.Series, series)
		s.Known = append(s.Known, series.Known...)
	}
	return nil
}

// needing returns the variant with the options that a subject's programs need and that
// none of its fragments asks for.
func (v Variant) needing(s *subjects.Subject) (Variant, error) {
	var asked strings.Builder
	for _, name := range v.Fragments {
		text, err := declared.ReadFile("configs/" + name)
		if err != nil {
			return v, err
		}
		asked.Write(text)
	}
	more := ""
	for _, p := range s.Programs {
		if len(p.Variants) > 0 && !slices.Contains(p.Variants, v.Name) {
			continue
		}
		for _, option := range p.Config {
			if line := "CONFIG_" + option + "=y"; !strings.Contains(asked.String()+more, line) {
				more += line + "\n"
			}
		}
	}
	if more != "" {
		v.Over = append(slices.Clip(v.Over), Fragment{Name: "config in patches/" + s.Name + "/subject.toml", Text: more})
	}
	return v, nil
}

// lineup returns the base and the kernels that there are for pin, restricted to
// those that were asked for, with absolute paths. Nobody need ask but for those that
// are there on request.
func lineup(subject *subjects.Subject, pin string, sel Selection) ([]subjects.Kernel, error) {
	all := []subjects.Kernel{{Name: Base}}
	if subject != nil {
		for _, k := range subject.Kernels {
			var paths []string
			for _, path := range k.Series[pin] {
				paths = append(paths, subject.Path(path))
			}
			if len(paths) > 0 {
				all = append(all, subjects.Kernel{Name: k.Name, Features: k.Features, OnRequest: k.OnRequest, Series: map[string][]string{pin: paths}})
			}
		}
		// Its programs are of use on the base alone, and with the user's patch.
		alone := sel.Patch != "" || slices.Equal(sel.Kernels, []string{Base})
		if sel.Subject != "" && len(all) == 1 && !alone {
			return nil, fmt.Errorf("SUBJECT=%s has no series for %s; KERNELS=base runs its programs there without one", sel.Subject, pin)
		}
	}
	if sel.Patch != "" {
		path, err := patches.Abs(sel.Patch)
		if err != nil {
			return nil, err
		}
		all = append(all, subjects.Kernel{Name: Patched, Series: map[string][]string{pin: {path}}})
	}
	if len(sel.Kernels) == 0 {
		return slices.DeleteFunc(all, func(k subjects.Kernel) bool { return k.OnRequest }), nil
	}
	for _, name := range sel.Kernels {
		if _, err := pick("KERNELS", name, all, func(k subjects.Kernel) string { return k.Name }); err != nil {
			if subject == nil {
				err = fmt.Errorf("%w (SUBJECT=name adds those of a subject)", err)
			}
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(k subjects.Kernel) bool { return !slices.Contains(sel.Kernels, k.Name) }), nil
}

// Subject returns the subject that a selection is about: the one it names, else the
// default one, but none, which is nil, where the patch or the tree is the user's own.
func Subject(sel Selection) (*subjects.Subject, error) {
	if sel.Subject == "" && (sel.Patch != "" || sel.Tree != "") {
		return nil, nil
	}
	return NamedSubject(sel.Subject)
}

// Subjects reads all subjects below patches/, and the programs for any kernel.
func Subjects() ([]*subjects.Subject, []subjects.Program, error) {
	root, err := Checkout()
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(root, "patches")
	all, err := subjects.All(dir)
	if err != nil {
		return nil, nil, err
	}
	programs, err := subjects.AnyKernel(dir)
	return all, programs, err
}

// NamedSubject reads a subject below patches/, the default one for no name.
func NamedSubject(name string) (*subjects.Subject, error) {
	all, _, err := Subjects()
	if err != nil {
		return nil, err
	}
	if name == "" {
		return all[slices.IndexFunc(all, func(s *subjects.Subject) bool { return s.Default })], nil
	}
	return pick("SUBJECT", name, all, func(s *subjects.Subject) string { return s.Name })
}

// readSeries reads a series given by an absolute path or a path below patches/.
func readSeries(path string) (patches.Series, error) {
	if filepath.IsAbs(path) {
		return patches.Read(path)
	}
	root, err := Checkout()
	if err != nil {
		return patches.Series{}, err
	}
	return patches.Read(filepath.Join(root, "patches", path))
}

// Checkout finds patchproof's own folder, where patches/ lies, from the working
// directory upwards: a command is started at the top, tests in their package.
func Checkout() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("the folder that this was started in has gone; go to the checkout, and start it there: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "kernel", "kernels.toml")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("the series lie in patches/ of a patchproof checkout, and %s is not inside one: %w", start, fs.ErrNotExist)
		}
	}
}
