package patches

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

const knownIssuesFile = "known-issues.toml"

// ConsoleCheck is the name of the check that the console watch makes. A known
// issue for it names the splat by Match.
const ConsoleCheck = "console"

// KnownIssue declares a check that is expected to come out badly.
type KnownIssue struct {
	// Kernels are the line-up's names this holds for; none means all.
	Kernels []string `toml:"kernels"`
	// Variants are the config variants; none means all.
	Variants []string `toml:"variants"`
	// Program and Check are names; a trailing * stands for any ending.
	Program string `toml:"program"`
	Check   string `toml:"check"`
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
}

// Covers reports whether the issue is declared for this check. It does not look
// at Match: the caller has the splat's title.
func (k KnownIssue) Covers(kernel, variant, program, check string) bool {
	return (len(k.Kernels) == 0 || slices.Contains(k.Kernels, kernel)) &&
		(len(k.Variants) == 0 || slices.Contains(k.Variants, variant)) &&
		names(k.Program, program) && names(k.Check, check)
}

// names says whether the pattern, a name or one with a trailing *, stands for name.
func names(pattern, name string) bool {
	start, wild := strings.CutSuffix(pattern, "*")
	return name == pattern || wild && strings.HasPrefix(name, start)
}

// ReadKnownIssues reads [[issue]] tables from a TOML file. A key it does not know
// is an error: a mistyped declaration would turn a run red, or keep it green.
func ReadKnownIssues(path string) ([]KnownIssue, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Issue []KnownIssue `toml:"issue"`
	}
	meta, err := toml.NewDecoder(bytes.NewReader(data)).Decode(&doc)
	var syntax toml.ParseError
	if errors.As(err, &syntax) {
		return nil, fmt.Errorf("%s:%d: %s", path, syntax.Position.Line, syntax.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return nil, fmt.Errorf("%s: unknown key %s", path, unknown[0])
	}
	for i, k := range doc.Issue {
		if err := k.validate(); err != nil {
			return nil, fmt.Errorf("%s: issue %d (program %q, check %q): %w", path, i+1, k.Program, k.Check, err)
		}
	}
	return doc.Issue, nil
}

func (k KnownIssue) validate() error {
	switch {
	case k.Program == "":
		return errors.New("program is missing")
	case k.Check == "":
		return errors.New("check is missing")
	case strings.Contains(strings.TrimSuffix(k.Check, "*"), "*"), strings.Contains(strings.TrimSuffix(k.Program, "*"), "*"):
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
