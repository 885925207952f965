package subjects

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// KnownIssuesFile has the known issues of a quilt folder; those of a patch file lie beside it, in a file
// of the same name that ends so.
const KnownIssuesFile = "known-issues.toml"

// ConsoleCheck is the name of the check that the console watch makes. A known
// issue for it names the splat by Match.
const ConsoleCheck = "console"

// IsConsole says whether a check is the console watch's. Where a cell has several, those behind
// the first have a number behind the name.
func IsConsole(check string) bool {
	return check == ConsoleCheck || strings.HasPrefix(check, ConsoleCheck+" ")
}

// KnownIssue declares a check that is expected to come out badly.
type KnownIssue struct {
	// Kernels are the line-up's names this holds for; none means all.
	Kernels []string `toml:"kernels"`
	// Variants are the config variants; none means all.
	Variants []string `toml:"variants"`
	// Program or Programs, and Check, are names; a trailing * stands for any ending.
	Program  string   `toml:"program"`
	Programs []string `toml:"programs"`
	Check    string   `toml:"check"`
	// Match is a regular expression on a splat's title, for ConsoleCheck only.
	Match string `toml:"match"`
	// Verdict is what the check then says: fail, crash or hang.
	Verdict string `toml:"verdict"`
	// MayFail is for a race that cannot be forced: passing is fine too. Rate says
	// how often it failed, and on how many runs.
	MayFail bool   `toml:"may-fail"`
	Rate    string `toml:"rate"`
	Reason  string `toml:"reason"`
	// Function and Hunk say where in the patch the cause is.
	Function string `toml:"function"`
	Hunk     string `toml:"hunk"`
	// Since and Until make it a quarantine, see the type of that name. Expired says that
	// Until has passed.
	Since   string `toml:"-" json:",omitempty"`
	Until   string `toml:"-" json:",omitempty"`
	Expired bool   `toml:"-" json:",omitempty"`
}

// Covers reports whether the issue is declared for this check. It does not look
// at Match: the caller has the splat's title.
func (k KnownIssue) Covers(kernel, variant, program, check string) bool {
	return (len(k.Kernels) == 0 || slices.Contains(k.Kernels, kernel)) &&
		(len(k.Variants) == 0 || slices.Contains(k.Variants, variant)) &&
		slices.ContainsFunc(k.programs(), func(p string) bool { return names(p, program) }) && names(k.Check, check)
}

// programs are the patterns of all programs that it is declared for.
func (k KnownIssue) programs() []string { return append(given(k.Program), k.Programs...) }

// names says whether the pattern, a name or one with a trailing *, stands for name.
func names(pattern, name string) bool {
	start, wild := strings.CutSuffix(pattern, "*")
	return name == pattern || wild && strings.HasPrefix(name, start)
}

// ReadKnownIssues reads [[issue]] and [[quarantine]] tables from a TOML file. A key it does not know
// is an error: a mistyped declaration would turn a run red, or keep it green.
func ReadKnownIssues(path string) ([]KnownIssue, error) {
	var doc struct {
		Issue      []KnownIssue `toml:"issue"`
		Quarantine []Quarantine `toml:"quarantine"`
	}
	if err := readTOML(path, &doc); err != nil {
		return nil, err
	}
	for i, k := range doc.Issue {
		if err := k.validate(); err != nil {
			return nil, fmt.Errorf("%s: issue %d (program %q, check %q): %w", path, i+1, strings.Join(k.programs(), ", "), k.Check, err)
		}
	}
	held, err := inForce(doc.Quarantine, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return append(doc.Issue, held...), nil
}

func (k KnownIssue) validate() error {
	starInside := func(name string) bool { return strings.Contains(strings.TrimSuffix(name, "*"), "*") }
	switch {
	case len(k.programs()) == 0:
		return errors.New("program is missing")
	case k.Program != "" && len(k.Programs) > 0:
		return errors.New("it has program and programs; want one of them")
	case k.Check == "":
		return errors.New("check is missing")
	case starInside(k.Check), slices.ContainsFunc(k.programs(), starInside):
		return errors.New("program and check may have * only as their last character")
	case k.Reason == "":
		return errors.New("reason is missing")
	case !slices.Contains([]string{"fail", "crash", "hang"}, k.Verdict):
		return fmt.Errorf("verdict is %q; want fail, crash or hang", k.Verdict)
	case k.MayFail != (k.Rate != ""):
		return errors.New("may-fail and rate belong together")
	case (k.Check == ConsoleCheck) != (k.Match != ""):
		return fmt.Errorf("match and the check %q belong together", ConsoleCheck)
	}
	if _, err := regexp.Compile(k.Match); err != nil {
		return fmt.Errorf("match: %w", err)
	}
	return nil
}
