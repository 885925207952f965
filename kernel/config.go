package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// off is the value of an option that a .config does not set.
const off = "n"

// option is a request of a fragment.
type option struct {
	name  string // without CONFIG_
	value string // y, n, m, a number, or a quoted string
	from  string // fragment
}

// readFragments returns a variant's requests: one per option, a later fragment's
// over an earlier one's.
func readFragments(v Variant) ([]option, error) {
	var fragments []Fragment
	for _, name := range v.Fragments {
		text, err := declared.ReadFile("configs/" + name)
		if err != nil {
			return nil, fmt.Errorf("no fragment configs/%s", name)
		}
		fragments = append(fragments, Fragment{name, string(text)})
	}
	var all []option
	for _, f := range append(fragments, v.Over...) {
		options, err := parseConfig(f.Text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		for _, o := range options {
			o.from = f.Name
			all = slices.DeleteFunc(all, func(old option) bool { return old.name == o.name })
			all = append(all, o)
		}
	}
	return all, nil
}

// parseConfig reads .config syntax: CONFIG_X=value, "# CONFIG_X is not set", comments.
func parseConfig(text string) ([]option, error) {
	var options []option
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutSuffix(line, " is not set"); ok {
			if name, ok = strings.CutPrefix(name, "# CONFIG_"); ok {
				options = append(options, option{name: name, value: off})
				continue
			}
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "CONFIG_"), "=")
		if !ok || value == "" || !strings.HasPrefix(line, "CONFIG_") {
			return nil, fmt.Errorf("line %d: %q is not an option", i+1, line)
		}
		options = append(options, option{name: name, value: value})
	}
	return options, nil
}

func (o option) String() string {
	if o.value == off {
		return "# CONFIG_" + o.name + " is not set"
	}
	return "CONFIG_" + o.name + "=" + o.value
}

// ConfigError lists the requested options that did not land.
type ConfigError struct {
	Variant string
	Missing []Missing
}

// Missing is an option that olddefconfig did not keep as requested.
type Missing struct {
	// Name is the option without CONFIG_, Fragment the file that asks for it.
	Name, Fragment string
	// Want and Got are its values; "n" is also an option that is absent.
	Want, Got string
	// Declared says whether the tree has the option at all.
	Declared bool
	// Prompt says whether a config can set it; otherwise only other options select it.
	Prompt bool
	// Depends are the conditions around its declarations, and Off the options named
	// there that are off.
	Depends []string
	Off     []string
}

func (e *ConfigError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "variant %s: %d requested options did not land:", e.Variant, len(e.Missing))
	for _, m := range e.Missing {
		fmt.Fprintf(&b, "\n  %s (%s): came out as %s", option{name: m.Name, value: m.Want}, m.Fragment, m.Got)
		if !m.Declared {
			b.WriteString("; this tree has no such option")
			continue
		}
		if !m.Prompt {
			b.WriteString("; it cannot be set, only selected by another option")
		}
		for _, d := range m.Depends {
			fmt.Fprintf(&b, "\n    depends on %s", d)
		}
		if len(m.Off) > 0 {
			fmt.Fprintf(&b, "\n    off here: %s", strings.Join(m.Off, ", "))
		}
	}
	return b.String()
}

// checkLanded compares requests with the resolved config, and explains from the
// Kconfig files of src what is missing.
func checkLanded(v Variant, requests []option, config, src string) error {
	resolved, err := parseConfig(config)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, o := range resolved {
		values[o.name] = o.value
	}
	var missing []Missing
	for _, o := range requests {
		got := values[o.name]
		if got == "" {
			got = off
		}
		if got != o.value {
			missing = append(missing, Missing{Name: o.name, Fragment: o.from, Want: o.value, Got: got})
		}
	}
	if len(missing) == 0 {
		return nil
	}
	symbols, err := readKconfig(src)
	if err != nil {
		return err
	}
	for i := range missing {
		s, ok := symbols[missing[i].Name]
		missing[i].Declared, missing[i].Prompt = ok, s.prompt
		missing[i].Depends = slices.Compact(slices.Sorted(slices.Values(s.depends)))
		for _, used := range s.uses() {
			if _, isSymbol := symbols[used]; isSymbol && (values[used] == "" || values[used] == off) {
				missing[i].Off = append(missing[i].Off, used)
			}
		}
	}
	return &ConfigError{Variant: v.Name, Missing: missing}
}

// configuredFile in an output folder says what its .config was resolved from: a
// commit, and a hash of the rest.
const configuredFile = ".patchproof-config"

// config returns the resolved config of a commit in the output folder. The
// one there is kept when nothing that options depend on has changed since: going
// through them takes make as long as compiling a dozen objects.
func (j *job) config(ctx context.Context, m *makeRun, commit string) (string, error) {
	requests, err := readFragments(j.variant)
	if err != nil {
		return "", err
	}
	stamp := filepath.Join(m.out, configuredFile)
	inputs := hashOf(fragmentText(requests), j.compiler)
	if text, err := os.ReadFile(stamp); err == nil {
		from, old, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		if old == inputs && j.sameOptions(ctx, from, commit) {
			config, err := os.ReadFile(filepath.Join(m.out, ".config"))
			return string(config), err
		}
	}
	if err := os.RemoveAll(stamp); err != nil {
		return "", err
	}
	config, err := m.configure(ctx, requests)
	if err != nil {
		return "", err
	}
	if !j.variant.Lenient {
		if err := checkLanded(j.variant, requests, config, m.src); err != nil {
			return "", err
		}
	}
	return config, os.WriteFile(stamp, []byte(commit+" "+inputs+"\n"), 0o644)
}

// sameOptions reports whether two commits differ in C and assembler code only.
// Options come from Kconfig files, makefiles and scripts.
func (j *job) sameOptions(ctx context.Context, from, to string) bool {
	out, err := git(ctx, j.tree.src(), "diff", "--name-only", "-z", from, to, "--")
	if err != nil {
		return false
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		code := slices.Contains([]string{".c", ".h", ".S"}, filepath.Ext(name)) && !strings.HasPrefix(name, "scripts/")
		if name != "" && !code {
			return false
		}
	}
	return true
}

// configure resolves the requests in the output folder: tinyconfig, the
// fragments, olddefconfig. A .config that comes out as it was gets its time stamp
// back, by which make decides whether to go through all options again.
func (m *makeRun) configure(ctx context.Context, requests []option) (string, error) {
	path := filepath.Join(m.out, ".config")
	before, beforeErr := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err := m.run(ctx, "tinyconfig"); err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(fragmentText(requests))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if err := m.run(ctx, "olddefconfig"); err != nil {
		return "", err
	}
	config, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if beforeErr == nil && statErr == nil && string(before) == string(config) {
		err = os.Chtimes(path, info.ModTime(), info.ModTime())
	}
	return string(config), err
}

// fragmentText is a .config of the requests alone, without the fragments' comments.
func fragmentText(requests []option) string {
	var b strings.Builder
	for _, o := range requests {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

// Difference is an option that two configs set differently; "n" is also one that
// is absent.
type Difference struct {
	// Name is the option's, without CONFIG_.
	Name string `json:"name"`
	Good string `json:"good"`
	Bad  string `json:"bad"`
}

// Differences compares two configs, in the order of the bad one's and then of the
// good one's options.
func Differences(good, bad string) ([]Difference, error) {
	goods, err := parseConfig(good)
	if err != nil {
		return nil, err
	}
	bads, err := parseConfig(bad)
	if err != nil {
		return nil, err
	}
	values := func(options []option) map[string]string {
		all := map[string]string{}
		for _, o := range options {
			all[o.name] = o.value
		}
		return all
	}
	goodValues, badValues := values(goods), values(bads)
	seen := map[string]bool{}
	var all []Difference
	for _, o := range append(bads, goods...) {
		d := Difference{o.name, cmp.Or(goodValues[o.name], off), cmp.Or(badValues[o.name], off)}
		if d.Good != d.Bad && !seen[d.Name] {
			all = append(all, d)
		}
		seen[d.Name] = true
	}
	return all, nil
}

// GoodLine is the option as the good config has it.
func (d Difference) GoodLine() string { return option{name: d.Name, value: d.Good}.String() }

// BadLine is the option as the bad config has it.
func (d Difference) BadLine() string { return option{name: d.Name, value: d.Bad}.String() }
