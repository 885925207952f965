package kernel

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"patchproof/patches"
	"patchproof/patches/regular"
)

// wholeConfig is what kconfig writes at the top of a .config, and a fragment lacks.
var wholeConfig = regexp.MustCompile(`(?m)^# (?:Automatically generated .*DO NOT EDIT|Linux/\S+ .*Kernel Configuration)`)

// isWhole tells a whole .config from a fragment.
func (f Fragment) isWhole() bool { return wholeConfig.MatchString(f.Text) }

// readConfig reads what CONFIG names: a file, or several separated by commas or blanks,
// each a fragment, and one at most a whole .config.
func readConfig(files string) ([]Fragment, error) {
	var all []Fragment
	whole := ""
	for _, name := range configFiles(files) {
		text, err := regular.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("CONFIG: %w", err)
		}
		if bytes.IndexByte(text, 0) >= 0 {
			return nil, fmt.Errorf("CONFIG: %s is no text; unpack it first if it is a config.gz", name)
		}
		f := Fragment{Name: name, Text: string(text)}
		requests, err := parseFragment(f.Text)
		if err != nil {
			return nil, fmt.Errorf("CONFIG: %s: %w", name, err)
		}
		if len(requests) == 0 {
			return nil, fmt.Errorf("CONFIG: %s has no options", name)
		}
		if r := slices.IndexFunc(requests, request.hasNoValue); r >= 0 && !f.isWhole() {
			return nil, fmt.Errorf("CONFIG: %s:%d: %s: no option has such a value; want y, m, n, a number, or a string in \"\"", name, requests[r].line, requests[r].options[0])
		}
		if f.isWhole() {
			if whole != "" {
				return nil, fmt.Errorf("CONFIG: %s and %s are whole .configs both: give one, and fragments", whole, name)
			}
			whole = name
		}
		all = append(all, f)
	}
	return all, nil
}

// optionValue is what kconfig makes of values. It warns of others and goes on without them.
var optionValue = regexp.MustCompile(`^([ymn]|-?[0-9]+|(0[xX])?[0-9a-fA-F]+|"(\\.|[^"\\])*")$`)

func (r request) hasNoValue() bool {
	return slices.ContainsFunc(r.options, func(o option) bool { return !optionValue.MatchString(o.value) })
}

// configFiles takes a list apart, unless a file is called so.
func configFiles(files string) []string {
	if _, err := os.Stat(files); err == nil {
		return []string{files}
	}
	return strings.FieldsFunc(files, func(r rune) bool { return r == ',' || r == ' ' })
}

// With is the variant with the user's options, read from what CONFIG names.
func (v Variant) With(files string) (Variant, error) {
	if files == "" {
		return v, nil
	}
	fragments, err := readConfig(files)
	if err != nil {
		return v, err
	}
	v.Config = fragments
	if _, err := readFragments(v); err != nil {
		return v, fmt.Errorf("CONFIG: %w", err)
	}
	return v, nil
}

// layer is a fragment in its place among the others.
type layer struct {
	Fragment
	// user says that it is a fragment of the user's, required that none may contradict
	// it, and yields that its options need not land.
	user, required, yields bool
}

// DeclaredFragment is one of configs/.
func DeclaredFragment(name string) (Fragment, error) {
	text, err := declared.ReadFile("configs/" + name)
	if err != nil {
		return Fragment{}, fmt.Errorf("no fragment configs/%s", name)
	}
	return Fragment{Name: name, Text: string(text)}, nil
}

// layers are the fragments of a variant in their order. A whole .config comes first.
func (v Variant) layers() ([]layer, error) {
	own := slices.Clone(v.Config)
	var all []layer
	i := slices.IndexFunc(own, Fragment.isWhole)
	whole := i >= 0
	if whole {
		all = append(all, layer{Fragment: own[i], yields: true})
		own = slices.Delete(own, i, i+1)
	}
	// What the tests wish for may select what is only left out to be small.
	wished := slices.ContainsFunc(v.Over, func(f Fragment) bool { return f.Wish })
	for _, name := range v.Fragments {
		yields := slices.Contains(v.Yielding, name) && (len(v.Config) > 0 || wished)
		if yields && whole {
			continue
		}
		f, err := DeclaredFragment(name)
		if err != nil {
			return nil, err
		}
		all = append(all, layer{Fragment: f, required: slices.Contains(v.Required, name), yields: yields})
	}
	for _, f := range v.Over {
		all = append(all, layer{Fragment: f, required: !f.Wish})
	}
	for _, f := range own {
		all = append(all, layer{Fragment: f, user: true})
	}
	return all, nil
}

// contradiction says which line a user's request cannot go with: one of another file of
// the user's, or one that no VM can do without.
func contradiction(r request, before []request, layers []layer) error {
	for _, old := range before {
		l := layers[slices.IndexFunc(layers, func(l layer) bool { return l.Name == old.from })]
		if old.optional != "" || old.yields || !l.required && !l.user || !old.excludes(r) {
			continue
		}
		text := fmt.Sprintf("%s wants %s, and %s wants %s", r.place(), r.options[0], old.place(), old.options[0])
		if l.user {
			return fmt.Errorf("%s: they contradict each other", text)
		}
		return fmt.Errorf("%s, which the programs that run in the VM, or their verdicts, need", text)
	}
	return nil
}

// excludes says that nothing of the one request is left when the other lands. Numbers
// and strings are no contradiction: the later one is taken.
func (r request) excludes(other request) bool {
	return !slices.ContainsFunc(r.options, func(o option) bool {
		return !slices.ContainsFunc(other.options, func(with option) bool {
			return with.name == o.name && with.value != o.value && o.isTristate() && with.isTristate()
		})
	})
}

func (o option) isTristate() bool { return slices.Contains([]string{"y", module, off}, o.value) }

// modulesOption is the one without which nothing can be a module.
const modulesOption = "MODULES"

// besides is what becomes of a wish beside the requests before it. What another fragment wants
// built in stays so, and with a whole .config no module is built.
func (r request) besides(before []request, whole bool) request {
	o := r.options[0]
	builtIn := option{o.name, "y"}
	if r.wish && o.value == module && (whole || slices.ContainsFunc(before, func(old request) bool { return slices.Contains(old.options, builtIn) })) {
		r.options = []option{builtIn}
	}
	return r
}

// withModules adds what modules need where a request is for one.
func withModules(v Variant, all []request) ([]request, error) {
	wants := func(match func(option) bool) int {
		return slices.IndexFunc(all, func(r request) bool { return !r.yields && slices.ContainsFunc(r.options, match) })
	}
	first := wants(func(o option) bool { return o.value == module })
	if first < 0 {
		return all, nil
	}
	about := wants(func(o option) bool { return o.name == modulesOption })
	if about >= 0 && all[about].options[0].value != "y" && !v.Lenient {
		if all[first].wish {
			return all, nil
		}
		return nil, fmt.Errorf("%s wants %s, and %s wants %s: they contradict each other",
			all[first].place(), all[first].options[0], all[about].place(), all[about].options[0])
	}
	// One that is tested is also taken out again.
	for _, name := range []string{modulesOption, "MODULE_UNLOAD"} {
		if wants(func(o option) bool { return o.name == name }) < 0 {
			o := option{name, "y"}
			all = append(without(all, []option{o}), request{options: []option{o}, from: "what =m needs"})
		}
	}
	return all, nil
}

// wantsModules says that a fragment asks for a module, one of the user's or what a test's config
// wishes for. A whole .config is full of them, and a distribution's would take hours and not go
// into a guest.
func wantsModules(v Variant, requests []request) bool {
	return !v.Lenient && slices.ContainsFunc(requests, func(r request) bool {
		return !r.yields && slices.ContainsFunc(r.options, func(o option) bool { return o.value == module })
	})
}

// modular says that modules are built with a kernel that has this config.
func (v Variant) modular(config string) (bool, error) {
	requests, err := readFragments(v)
	if err != nil || !wantsModules(v, requests) {
		return false, err
	}
	return strings.Contains("\n"+config, "\nCONFIG_"+modulesOption+"=y\n") && strings.Contains(config, "=m\n"), nil
}

// WantsModules says that CONFIG asks for modules, as far as the files that it names can be read.
func WantsModules(files string) bool {
	fragments, err := readConfig(files)
	return err == nil && slices.ContainsFunc(fragments, func(f Fragment) bool { return f.RefuseModules() != nil })
}

// told is how many options a note tells of.
const told = 4

// displaced tells which requests that yield did not land, empty if all did: options of
// a whole .config that this tree does not have, or that a fragment excludes.
func displaced(requests []request, config string) (string, error) {
	resolved, err := parseConfig(config)
	if err != nil {
		return "", err
	}
	values := map[string]string{}
	for _, o := range resolved {
		values[o.name] = o.value
	}
	var lines []string
	for _, r := range requests {
		if o := r.options[0]; r.yields && r.optional == "" && cmp.Or(values[o.name], off) != o.value {
			lines = append(lines, fmt.Sprintf("%s (%s) came out as %s", o, r.place(), cmp.Or(values[o.name], off)))
		}
	}
	if len(lines) == 0 {
		return "", nil
	}
	text := patches.Plural(len(lines), "option") + " came out otherwise: "
	if n := len(lines) - told; n > 0 {
		lines = append(lines[:told], fmt.Sprintf("and %d more", n))
	}
	return text + strings.Join(lines, "; "), nil
}

// tellDisplaced notes which options of the user's whole .config, and which of the
// variant's, are not in a kernel.
func (b *Builder) tellDisplaced(built *Built, v Variant) error {
	if len(v.Config) == 0 {
		return nil
	}
	requests, err := readFragments(v)
	if err != nil {
		return err
	}
	config, err := regular.ReadFile(built.Config)
	if err != nil {
		return err
	}
	text, err := displaced(requests, string(config))
	if text != "" {
		b.report(Progress{Step: fmt.Sprintf("note: %s: %s (all of them: %s)", built.Spec.Name, text, built.Config)})
	}
	if n := strings.Count("\n"+string(config), "=m\n"); n > 0 && built.Modules == "" {
		b.report(Progress{Step: fmt.Sprintf("note: %s: %d options of the whole .config are =m, which are not built, so the guest has none of them; a fragment that asks for what a test needs has it: with =y built in, with =m as a module, and then all the others, too", built.Spec.Name, n)})
	}
	return err
}

// RefuseModules says which line of a fragment asks for a module, for who does not build any:
// nothing would bring it to the machine, so that a test of it would pass without it. A whole
// .config is full of them.
func (f Fragment) RefuseModules() error {
	if f.isWhole() {
		return nil
	}
	requests, err := parseFragment(f.Text)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	for _, r := range requests {
		if o := r.options[0]; o.value == module {
			return fmt.Errorf("%s:%d: %s: modules are not built here, the machine would not have it; ask for =y", f.Name, r.line, o)
		}
	}
	return nil
}

// ConfigText is all that the user's CONFIG says.
func (v Variant) ConfigText() string {
	var b strings.Builder
	for _, f := range v.Config {
		b.WriteString(f.Text)
	}
	return b.String()
}
