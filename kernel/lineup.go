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
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"patchproof/patches"
	"patchproof/patches/subjects"
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
	Known []subjects.KnownIssue
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
const treePin = subjects.TreePin

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
