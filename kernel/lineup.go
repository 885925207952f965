// Package kernel turns a line in kernels.toml into a kernel that can be booted:
// pin -> verified source -> git tree -> patched commit -> resolved config ->
// built image, kept in a content-addressed store.
//
// A pin's source becomes one commit in a git repository of the cache, each patch
// one more (git am). All kernels of a pin share its work tree and, per variant,
// one output folder, so that going from one to the next rebuilds what differs.
package kernel

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"patchproof/patches"
)

//go:embed kernels.toml configs/*.config
var declared embed.FS

// Lineup is kernels.toml: what can be built on, and how. The kernels that are built
// are its base and those of a subject.
type Lineup struct {
	// Required are the fragments that nobody's CONFIG may contradict; Yielding are those
	// whose options a CONFIG may displace without saying so.
	Required, Yielding []string
	Pins               []Pin     `toml:"pin"`
	Variants           []Variant `toml:"variant"`
}

// Pin is a kernel source fixed by its content: an archive by its hash, or a
// commit of a git source by what Accept asks for.
type Pin struct {
	Name    string
	Version string
	// Date is the base commit's author and committer date; archives only, a git
	// source brings its own commit.
	Date time.Time
	// Tree is the git tree id of the unpacked archive; that of a release which
	// kernels.toml does not declare is not known.
	Tree    string
	Archive Archive
	Accept  Accept
	// Known is a file below patches/ that declares the known issues of the source
	// itself, which every kernel built from it shares.
	Known   string
	Sources []Source `toml:"source"`
	// Trust says why the archive's hash is believed.
	Trust string `toml:"-"`
}

// Archive identifies a source archive; Size is in bytes.
type Archive struct {
	Name   string
	Size   int64
	SHA256 string
}

// Accept says which commit of a git source is the pin: one with Blobs (path to
// the first digits of a blob id), else one that Series applies to.
type Accept struct {
	Blobs  map[string]string
	Series string
}

// Source is one place to get a pin from; exactly one of Debian, URL and Git is set.
type Source struct {
	// Debian is a path below each repository that the host's apt uses.
	Debian string
	URL    string
	// Git is a repository's URL, Rev the ref or commit to fetch from it.
	Git, Rev string
}

// Variant is a config flavour.
type Variant struct {
	Name string
	// Role is what it is for.
	Role Role
	// JudgedAs names the variant whose known issues hold for this one, too.
	JudgedAs string `toml:"judged-as"`
	// Fragments are files of configs/, later ones win.
	Fragments []string
	// Image is what the VM boots: "vmlinux" or "bzImage".
	Image string
	// Scale multiplies deadlines.
	Scale float64
	// Objects is about how many a build from nothing compiles, for progress.
	Objects int
	// Over are further fragments, which win over Fragments.
	Over []Fragment `toml:"-"`
	// Config is the user's, which wins over all but Required: fragments, and a whole
	// .config, which takes the place of Yielding.
	Config []Fragment `toml:"-"`
	// Required and Yielding are the line-up's.
	Required, Yielding []string `toml:"-"`
	// Lenient takes what the tree makes of the options that are asked for, where
	// otherwise each must come out as it was.
	Lenient bool `toml:"-"`
	// Goal is the config of the tree's own that the fragments go on top of, by its target of
	// the tree's makefile; tinyconfig where it is empty.
	Goal string `toml:"-"`
}

// Role is what a variant is for.
type Role string

// The roles. Nothing that checks itself is measured; RoleHardware is for real machines,
// and no VM boots it.
const (
	RoleMeasure  Role = "measure"
	RoleDebug    Role = "debug"
	RoleHardware Role = "hardware"
)

// Variant returns the first variant of the role.
func (l *Lineup) Variant(role Role) (Variant, error) {
	i := slices.IndexFunc(l.Variants, func(v Variant) bool { return v.Role == role })
	if i < 0 {
		return Variant{}, fmt.Errorf("kernels.toml: no variant has the role %s", role)
	}
	return l.Variants[i], nil
}

// Fragment is a piece of a config that lies outside configs/.
type Fragment struct {
	// Name is its file's, or whatever tells people where it is from.
	Name, Text string
	// Pulls has what its options depend on turned on as well.
	Pulls bool
	// Wish says that a kernel without some of its options will do.
	Wish bool
}

// Spec is a kernel to build: a pin, or a commit of a local tree, and the patches on it.
type Spec struct {
	Name     string
	Pin      Pin
	Features []string
	Series   []patches.Series
	// Known are the issues declared for the pin and beside the series.
	Known []patches.KnownIssue
	// Tree is a local git repository or work tree and Rev a revision in it;
	// when Tree is set, only the name of Pin is.
	Tree, Rev string
}

// Patches returns the patches of all series in the order they are applied.
func (s Spec) Patches() []patches.Patch {
	var all []patches.Patch
	for _, series := range s.Series {
		all = append(all, series.Patches...)
	}
	return all
}

// treePin stands for a local tree where a pin's name is asked for.
const treePin = patches.TreePin

// Base is the name of the kernel without patches, which every line-up has.
const Base = "base"

// Load returns the embedded kernels.toml.
func Load() (*Lineup, error) {
	text, err := declared.ReadFile("kernels.toml")
	if err != nil {
		return nil, err
	}
	l, err := parseLineup(string(text))
	if err != nil {
		return nil, fmt.Errorf("kernels.toml: %w", err)
	}
	return l, nil
}

func parseLineup(text string) (*Lineup, error) {
	l := &Lineup{}
	meta, err := toml.Decode(text, l)
	if err != nil {
		return nil, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("unknown key %s", unknown[0])
	}
	for i := range l.Variants {
		l.Variants[i].Required, l.Variants[i].Yielding = l.Required, l.Yielding
	}
	if err := l.validate(); err != nil {
		return nil, err
	}
	return l, nil
}

var (
	// plainName keeps names usable as folder, git ref and subtest names.
	plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	hexSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (l *Lineup) validate() error {
	if len(l.Pins) == 0 || len(l.Variants) == 0 {
		return errors.New("at least one pin and one variant are needed")
	}
	for _, names := range [][]string{l.pinNames(), l.variantNames()} {
		for i, name := range names {
			if !plainName.MatchString(name) {
				return fmt.Errorf("name %q: want letters, digits, dots, dashes", name)
			}
			if slices.Contains(names[:i], name) {
				return fmt.Errorf("name %q is declared twice", name)
			}
		}
	}
	for i, p := range l.Pins {
		if err := p.validate(); err != nil {
			return fmt.Errorf("pin %s: %w", p.Name, err)
		}
		if !p.fromGit() {
			l.Pins[i].Trust = trustDeclared
		}
	}
	for _, v := range l.Variants {
		if err := v.Validate(); err != nil {
			return err
		}
		if v.JudgedAs != "" && !slices.Contains(l.variantNames(), v.JudgedAs) {
			return fmt.Errorf("variant %s: judged-as %q is no variant", v.Name, v.JudgedAs)
		}
	}
	return nil
}

// Validate finds what is wrong with a variant's own fields.
func (v Variant) Validate() error {
	if v.Image != "vmlinux" && v.Image != "bzImage" {
		return fmt.Errorf("variant %s: image %q: want vmlinux or bzImage", v.Name, v.Image)
	}
	if !slices.Contains([]Role{RoleMeasure, RoleDebug, RoleHardware}, v.Role) {
		return fmt.Errorf("variant %s: role %q: want %s, %s or %s", v.Name, v.Role, RoleMeasure, RoleDebug, RoleHardware)
	}
	if v.Scale <= 0 {
		return fmt.Errorf("variant %s: scale %v: want more than 0", v.Name, v.Scale)
	}
	if _, err := readFragments(v); err != nil {
		return fmt.Errorf("variant %s: %w", v.Name, err)
	}
	return nil
}

func (p Pin) validate() error {
	if p.Name == treePin {
		return fmt.Errorf("the name is taken: it stands for TREE=folder")
	}
	if len(p.Sources) == 0 {
		return errors.New("no source")
	}
	archives := 0
	for i, s := range p.Sources {
		kinds := 0
		for _, kind := range []string{s.Debian, s.URL, s.Git} {
			if kind != "" {
				kinds++
			}
		}
		if kinds != 1 || (s.Git != "") != (s.Rev != "") {
			return fmt.Errorf("source %d: want one of debian, url, or git with rev", i+1)
		}
		if s.Git == "" {
			archives++
		}
	}
	if archives == 0 {
		if len(p.Accept.Blobs) == 0 && p.Accept.Series == "" {
			return errors.New("a git source needs accept.blobs or accept.series")
		}
		return nil
	}
	if archives != len(p.Sources) {
		return errors.New("archive and git sources cannot be mixed: their commits would differ")
	}
	if !plainName.MatchString(p.Archive.Name) || p.Archive.Size <= 0 || !hexSHA256.MatchString(p.Archive.SHA256) || p.Tree == "" || p.Date.IsZero() {
		return errors.New("an archive needs archive.name, archive.size, archive.sha256, tree and date")
	}
	return nil
}

func (p Pin) fromGit() bool { return p.Sources[0].Git != "" }

func (l *Lineup) pinNames() []string {
	return names(l.Pins, func(p Pin) string { return p.Name })
}

func (l *Lineup) variantNames() []string {
	return names(l.Variants, func(v Variant) string { return v.Name })
}

func names[T any](list []T, name func(T) string) []string {
	var all []string
	for _, item := range list {
		all = append(all, name(item))
	}
	return all
}

// pick returns the item called name, or an error that lists the known names.
func pick[T any](what, name string, list []T, nameOf func(T) string) (T, error) {
	i := slices.IndexFunc(list, func(item T) bool { return nameOf(item) == name })
	if i < 0 {
		var none T
		return none, fmt.Errorf("unknown %s %q; known: %s", what, name, strings.Join(names(list, nameOf), ", "))
	}
	return list[i], nil
}

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
	// Config names files with options, as ReadConfig takes them.
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
	pin := l.Pins[0]
	switch {
	case sel.Tree != "" && sel.Pin != "":
		return nil, Variant{}, fmt.Errorf("PIN=%s and TREE=%s exclude each other", sel.Pin, sel.Tree)
	case sel.Rev != "" && sel.Tree == "":
		return nil, Variant{}, fmt.Errorf("REV=%s needs TREE=folder", sel.Rev)
	case sel.Tree != "":
		pin = Pin{Name: treePin}
		if sel.Rev == "" {
			sel.Rev = "HEAD"
		}
		if sel.Tree, err = filepath.Abs(sel.Tree); err != nil {
			return nil, Variant{}, err
		}
	case sel.Release != nil && sel.Release.Name == sel.Pin:
		pin = *sel.Release
		if root, err := Checkout(); err == nil {
			known := filepath.Join("base", pin.Name, "known-issues.toml")
			if exists(filepath.Join(root, "patches", known)) {
				pin.Known = known
			}
		}
	case sel.Pin != "":
		if pin, err = pick("PIN", sel.Pin, l.Pins, func(p Pin) string { return p.Name }); err != nil {
			return nil, Variant{}, fmt.Errorf("%w; or a release of Linux, such as 6.12.107, or 7.1 for its newest", err)
		}
	case subject != nil:
		if pin, err = pick("pin of subject "+subject.Name, subject.Pin, l.Pins, func(p Pin) string { return p.Name }); err != nil {
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
	var known []patches.KnownIssue
	if pin.Known != "" {
		root, err := Checkout()
		if err != nil {
			return nil, Variant{}, err
		}
		if known, err = patches.ReadKnownIssues(filepath.Join(root, "patches", pin.Known)); err != nil {
			return nil, Variant{}, err
		}
	}
	if subject != nil {
		known = append(known, subject.Issues...)
	}
	if sel.Known != "" {
		more, err := patches.ReadKnownIssues(sel.Known)
		if err != nil {
			return nil, Variant{}, fmt.Errorf("KNOWN: %w", err)
		}
		known = append(known, more...)
	}
	var specs []Spec
	for _, k := range kernels {
		spec := Spec{Name: k.Name, Pin: pin, Features: k.Features, Known: slices.Clone(known), Tree: sel.Tree, Rev: sel.Rev}
		for i, path := range k.Series[pin.Name] {
			version := 0
			if k.Name == Patched && i == len(k.Series[pin.Name])-1 {
				version = sel.Version
			}
			series, err := patches.ReadVersion(path, version)
			if err != nil {
				return nil, Variant{}, &UnfitError{err}
			}
			spec.Series = append(spec.Series, series)
			spec.Known = append(spec.Known, series.Known...)
		}
		specs = append(specs, spec)
	}
	return specs, variant, nil
}

// needing returns the variant with the options that a subject's programs need and that
// none of its fragments asks for.
func (v Variant) needing(s *patches.Subject) (Variant, error) {
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
func lineup(subject *patches.Subject, pin string, sel Selection) ([]patches.SubjectKernel, error) {
	all := []patches.SubjectKernel{{Name: Base}}
	if subject != nil {
		for _, k := range subject.Kernels {
			var paths []string
			for _, path := range k.Series[pin] {
				paths = append(paths, subject.Path(path))
			}
			if len(paths) > 0 {
				all = append(all, patches.SubjectKernel{Name: k.Name, Features: k.Features, OnRequest: k.OnRequest, Series: map[string][]string{pin: paths}})
			}
		}
		if sel.Subject != "" && len(all) == 1 {
			return nil, fmt.Errorf("SUBJECT=%s has no series for %s", sel.Subject, pin)
		}
	}
	if sel.Patch != "" {
		path, err := patches.Abs(sel.Patch)
		if err != nil {
			return nil, err
		}
		all = append(all, patches.SubjectKernel{Name: Patched, Series: map[string][]string{pin: {path}}})
	}
	if len(sel.Kernels) == 0 {
		return slices.DeleteFunc(all, func(k patches.SubjectKernel) bool { return k.OnRequest }), nil
	}
	for _, name := range sel.Kernels {
		if _, err := pick("KERNELS", name, all, func(k patches.SubjectKernel) string { return k.Name }); err != nil {
			if subject == nil {
				err = fmt.Errorf("%w (SUBJECT=name adds those of a subject)", err)
			}
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(k patches.SubjectKernel) bool { return !slices.Contains(sel.Kernels, k.Name) }), nil
}

// Subject returns the subject that a selection is about: the one it names, else the
// default one, but none, which is nil, where the patch or the tree is the user's own.
func Subject(sel Selection) (*patches.Subject, error) {
	if sel.Subject == "" && (sel.Patch != "" || sel.Tree != "") {
		return nil, nil
	}
	return NamedSubject(sel.Subject)
}

// Subjects reads all subjects below patches/, and the programs for any kernel.
func Subjects() ([]*patches.Subject, []patches.Program, error) {
	root, err := Checkout()
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(root, "patches")
	all, err := patches.Subjects(dir)
	if err != nil {
		return nil, nil, err
	}
	programs, err := patches.AnyKernel(dir)
	return all, programs, err
}

// NamedSubject reads a subject below patches/, the default one for no name.
func NamedSubject(name string) (*patches.Subject, error) {
	all, _, err := Subjects()
	if err != nil {
		return nil, err
	}
	if name == "" {
		return all[slices.IndexFunc(all, func(s *patches.Subject) bool { return s.Default })], nil
	}
	return pick("SUBJECT", name, all, func(s *patches.Subject) string { return s.Name })
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
