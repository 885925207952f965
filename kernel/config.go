package kernel

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"patchproof/patches/regular"
)

// Values of options: off is also that of one which a .config does not set.
const (
	off    = "n"
	module = "m"
)

// option is a line of a .config.
type option struct {
	name  string // without CONFIG_
	value string // y, n, m, a number, or a quoted string
}

// request is what a fragment wants of a config.
type request struct {
	// options are alternatives, for trees that call the same thing differently. All
	// of them are asked for, and one must land.
	options []option
	// optional is the reason why a tree may do without, if it may. It still must land
	// in a tree that lets people set it.
	optional string
	from     string // fragment
	line     int    // in it
	// yields says that it need not land: a user's CONFIG may want what excludes it.
	yields bool
	// pulls and wish are the fragment's.
	pulls, wish bool
}

// place is where the request stands.
func (r request) place() string {
	if r.line == 0 {
		return r.from
	}
	return fmt.Sprintf("%s:%d", r.from, r.line)
}

// readFragments returns a variant's requests: one per option, a later fragment's
// over an earlier one's, the user's over all.
func readFragments(v Variant) ([]request, error) {
	layers, err := v.layers()
	if err != nil {
		return nil, err
	}
	whole := slices.ContainsFunc(v.Config, Fragment.isWhole)
	var all []request
	for _, l := range layers {
		requests, err := parseFragment(l.Text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
		for _, r := range requests {
			r.from, r.yields, r.pulls, r.wish = l.Name, l.yields, l.Pulls, l.Wish
			r = r.besides(all, whole)
			if l.user {
				if err := contradiction(r, all, layers); err != nil {
					return nil, err
				}
			}
			all = append(without(all, r.options), r)
		}
	}
	return withModules(v, all)
}

// without takes options out of requests. Alternatives of which one is asked for again stay
// together: the one is enough.
func without(requests []request, options []option) []request {
	var kept []request
	for _, r := range requests {
		if len(r.options) > 1 && slices.ContainsFunc(r.options, func(old option) bool { return slices.Contains(options, old) }) {
			kept = append(kept, r)
			continue
		}
		r.options = slices.DeleteFunc(slices.Clone(r.options), func(old option) bool {
			return slices.ContainsFunc(options, func(o option) bool { return o.name == old.name })
		})
		if len(r.options) > 0 {
			kept = append(kept, r)
		}
	}
	return kept
}

// optionalMark begins a comment that makes the next line's request optional and says why.
const optionalMark = "# optional: "

// parseFragment reads a fragment: .config syntax, alternatives joined by " | ",
// and comments that begin with optionalMark. What it says twice must agree.
func parseFragment(text string) ([]request, error) {
	var requests []request
	lines := map[string]int{}
	values := map[string]string{}
	optional := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if why, ok := strings.CutPrefix(line, optionalMark); ok {
			optional = why
			continue
		}
		r := request{optional: optional, line: i + 1}
		for _, part := range alternatives(line) {
			o, ok, err := parseOption(part)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			if !ok {
				continue
			}
			if old, ok := values[o.name]; ok && old != o.value {
				return nil, fmt.Errorf("line %d wants %s, and line %d %s: it contradicts itself", i+1, o, lines[o.name], option{o.name, old})
			}
			lines[o.name], values[o.name] = i+1, o.value
			r.options = append(r.options, o)
		}
		if len(r.options) > 0 {
			requests = append(without(requests, r.options), r)
			optional = ""
		}
	}
	return requests, nil
}

// alternatives splits a fragment's line, unless it is prose or has a string, which
// may hold anything.
func alternatives(line string) []string {
	if strings.Contains(line, `"`) || strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# CONFIG_") {
		return []string{line}
	}
	return strings.Split(line, " | ")
}

// parseConfig reads .config syntax: CONFIG_X=value, "# CONFIG_X is not set", comments.
func parseConfig(text string) ([]option, error) {
	var options []option
	for i, line := range strings.Split(text, "\n") {
		o, ok, err := parseOption(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if ok {
			options = append(options, o)
		}
	}
	return options, nil
}

// optionName is what kconfig takes behind CONFIG_.
var optionName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// parseOption reads a line of a .config; not every line has an option.
func parseOption(line string) (o option, ok bool, err error) {
	if name, ok := strings.CutSuffix(line, " is not set"); ok {
		if name, ok = strings.CutPrefix(name, "# CONFIG_"); ok {
			return option{name, off}, true, nil
		}
	}
	// To kconfig this is a comment, which nobody means by it.
	if strings.HasPrefix(line, "#CONFIG_") && strings.HasSuffix(line, " is not set") {
		return option{}, false, fmt.Errorf("%q lacks a space after the #", line)
	}
	if line == "" || strings.HasPrefix(line, "#") {
		return option{}, false, nil
	}
	name, value, _ := strings.Cut(strings.TrimPrefix(line, "CONFIG_"), "=")
	if value == "" || !strings.HasPrefix(line, "CONFIG_") || !optionName.MatchString(name) {
		return option{}, false, fmt.Errorf("%.60q is not an option: want CONFIG_NAME=value or # CONFIG_NAME is not set", line)
	}
	return option{name, value}, true, nil
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
	// Or are lines that would have served as well, in trees that have them.
	Or []string
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
	// NoModule says that it was asked for as a module and is only on or off.
	NoModule bool
	// SelectedBy are the options that keep it built in.
	SelectedBy []string
}

func (e *ConfigError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "variant %s: %d requested options did not land:", e.Variant, len(e.Missing))
	for _, m := range e.Missing {
		lines := append([]string{option{m.Name, m.Want}.String()}, m.Or...)
		fmt.Fprintf(&b, "\n  %s (%s): came out as %s", strings.Join(lines, ", or "), m.Fragment, m.Got)
		if !m.Declared {
			b.WriteString("; this tree has no such option")
			continue
		}
		if !m.Prompt {
			b.WriteString("; it cannot be set, only selected by another option")
		}
		if m.NoModule {
			b.WriteString("; it is y or n, there is no module of it")
		}
		if len(m.SelectedBy) > 0 {
			fmt.Fprintf(&b, "; selected by %s", strings.Join(m.SelectedBy, ", "))
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

// unmet returns a config's values, and the requests that it does not meet.
func unmet(requests []request, config string) (values map[string]string, open []request, err error) {
	resolved, err := parseConfig(config)
	if err != nil {
		return nil, nil, err
	}
	values = map[string]string{}
	for _, o := range resolved {
		values[o.name] = o.value
	}
	landed := func(o option) bool { return cmp.Or(values[o.name], off) == o.value }
	for _, r := range requests {
		if !r.yields && !slices.ContainsFunc(r.options, landed) {
			open = append(open, r)
		}
	}
	return values, open, nil
}

// checkLanded compares requests with the resolved config, and explains from the
// Kconfig files of src what is missing.
func checkLanded(v Variant, requests []request, config, src string) error {
	values, open, err := unmet(requests, config)
	if err != nil || len(open) == 0 {
		return err
	}
	symbols, err := readKconfig(src)
	if err != nil {
		return err
	}
	var missing []Missing
	for _, r := range open {
		if r.wish || r.optional != "" && !slices.ContainsFunc(r.options, func(o option) bool { return symbols[o.name].prompt }) {
			continue
		}
		missing = append(missing, explain(r, values, symbols))
	}
	if len(missing) == 0 {
		return nil
	}
	return &ConfigError{Variant: v.Name, Missing: missing}
}

// explain says why a request did not land, by that of its options which the tree knows.
func explain(r request, values map[string]string, symbols map[string]symbol) Missing {
	known := slices.IndexFunc(r.options, func(o option) bool { return symbols[o.name].declared })
	o := r.options[max(known, 0)]
	m := Missing{Name: o.name, Fragment: r.place(), Want: o.value, Got: cmp.Or(values[o.name], off)}
	for _, other := range r.options {
		if other != o {
			m.Or = append(m.Or, other.String())
		}
	}
	s := symbols[o.name]
	m.Declared, m.Prompt = s.declared, s.prompt
	m.Depends = slices.Compact(slices.Sorted(slices.Values(s.depends)))
	for _, used := range s.uses() {
		if symbols[used].declared && cmp.Or(values[used], off) == off {
			m.Off = append(m.Off, used)
		}
	}
	m.NoModule = o.value == module && s.isBool
	if m.Got == "y" {
		for _, by := range s.selectedBy {
			if values[by] == "y" && !slices.Contains(m.SelectedBy, by) {
				m.SelectedBy = append(m.SelectedBy, by)
			}
		}
	}
	return m
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
	inputs := hashOf(asked(requests), j.compiler)
	if text, err := regular.ReadFile(stamp); err == nil {
		from, old, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		if old == inputs && j.sameOptions(ctx, from, commit) {
			config, err := regular.ReadFile(filepath.Join(m.out, ".config"))
			return string(config), err
		}
	}
	if err := os.RemoveAll(stamp); err != nil {
		return "", err
	}
	config, err := m.configure(ctx, j.variant.Goal, requests)
	if err == nil {
		requests, config, err = m.pull(ctx, requests, config)
	}
	if err != nil {
		return "", err
	}
	if !j.variant.Lenient {
		if err := checkLanded(j.variant, requests, config, m.src); err != nil {
			return "", err
		}
	}
	// It replaces what a makefile may have put there, a link out of the folder included.
	return config, writeAtomic(stamp, commit+" "+inputs+"\n")
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

// tinyGoal is the config of a tree's own that variants begin with.
const tinyGoal = "tinyconfig"

// configure resolves the requests in the output folder: the goal, tinyconfig by default, the
// fragments, olddefconfig. A .config that comes out as it was gets its time stamp
// back, by which make decides whether to go through all options again.
func (m *makeRun) configure(ctx context.Context, goal string, requests []request) (string, error) {
	// What a makefile puts in the place of a .config is written and dated here, outside of the
	// sandbox that it ran in.
	out, err := os.OpenRoot(m.out)
	if err != nil {
		return "", err
	}
	defer out.Close()
	before, beforeErr := regular.ReadFileIn(out, ".config")
	info, statErr := out.Stat(".config")
	if err := m.run(ctx, cmp.Or(goal, tinyGoal)); err != nil {
		return "", err
	}
	started, err := regular.ReadFileIn(out, ".config")
	if err != nil {
		return "", err
	}
	if err := out.WriteFile(".config", append(started, fragmentText(requests)...), 0o644); err != nil {
		return "", err
	}
	if err := m.run(ctx, "olddefconfig"); err != nil {
		return "", err
	}
	config, err := regular.ReadFileIn(out, ".config")
	if err != nil {
		return "", err
	}
	if beforeErr == nil && statErr == nil && string(before) == string(config) {
		err = out.Chtimes(".config", info.ModTime(), info.ModTime())
	}
	return string(config), err
}

// asked is all that requests say.
func asked(requests []request) string {
	text := fragmentText(requests)
	for _, r := range requests {
		if r.pulls || r.wish {
			text += fmt.Sprintf("%s: %v %v\n", r.options[0], r.pulls, r.wish)
		}
	}
	return text
}

// fragmentText is a .config of the requests alone, without the fragments' comments.
func fragmentText(requests []request) string {
	var b strings.Builder
	for _, r := range requests {
		for _, o := range r.options {
			fmt.Fprintln(&b, o)
		}
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
func (d Difference) GoodLine() string { return option{d.Name, d.Good}.String() }

// BadLine is the option as the bad config has it.
func (d Difference) BadLine() string { return option{d.Name, d.Bad}.String() }
