package subjects

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Quarantine is a check that comes and goes for a reason that nobody has found yet. Until a date its
// failure, with that one verdict, turns no run red.
//
// It covers less than a KnownIssue does, because less is known: one check by its whole name. After the
// date it covers nothing.
type Quarantine struct {
	// Kernels and Variants are those that it holds for; none means all.
	Kernels  []string `toml:"kernels"`
	Variants []string `toml:"variants"`
	Program  string   `toml:"program"`
	// Check is a name; a complaint of the kernel is "console: " and its title, as
	// results flaky prints it.
	Check   string `toml:"check"`
	Verdict string `toml:"verdict"`
	Reason  string `toml:"reason"`
	// Until is the last day, in UTC, on which it holds.
	Since day `toml:"since"`
	Until day `toml:"until"`
}

// day is a date without a time, as 2026-11-29.
type day string

// localDate is the name that the TOML library gives to the zone of a date without a time.
const localDate = "date-local"

// UnmarshalTOML implements toml.Unmarshaler.
func (d *day) UnmarshalTOML(value any) error {
	switch v := value.(type) {
	case time.Time:
		if v.Location().String() == localDate {
			*d = dayOf(v)
			return nil
		}
	case string:
		if t, err := time.Parse(time.DateOnly, v); err == nil {
			*d = dayOf(t)
			return nil
		}
	}
	return fmt.Errorf("%v is no date; want one such as 2026-11-29", value)
}

func dayOf(t time.Time) day { return day(t.Format(time.DateOnly)) }

func (q Quarantine) validate() error {
	switch {
	case q.Program == "":
		return errors.New("program is missing")
	case q.Check == "":
		return errors.New("check is missing")
	case strings.Contains(q.Program, "*"), strings.HasSuffix(q.Check, "*"):
		return errors.New("it is for one check: program and check are whole names, without *")
	case q.Check == ConsoleCheck:
		return fmt.Errorf("it is for one complaint: check is %q and its title", ConsoleCheck+": ")
	case q.Reason == "":
		return errors.New("reason is missing")
	case !slices.Contains([]string{"fail", "crash", "hang"}, q.Verdict):
		return fmt.Errorf("verdict is %q; want fail, crash or hang", q.Verdict)
	case q.Since == "":
		return errors.New("since is missing: the day on which it began")
	case q.Until == "":
		return errors.New("until is missing: the last day on which it holds")
	case q.Until < q.Since:
		return fmt.Errorf("until, %s, is before since, %s", q.Until, q.Since)
	}
	return nil
}

// inForce makes known issues of quarantines, as of now.
func inForce(all []Quarantine, now time.Time) ([]KnownIssue, error) {
	var issues []KnownIssue
	for i, q := range all {
		if err := q.validate(); err != nil {
			return nil, fmt.Errorf("quarantine %d (program %q, check %q): %w", i+1, q.Program, q.Check, err)
		}
		k := KnownIssue{
			Kernels: q.Kernels, Variants: q.Variants, Program: q.Program, Check: q.Check, Verdict: q.Verdict, Reason: q.Reason,
			MayFail: true, Since: string(q.Since), Until: string(q.Until),
		}
		issues = append(issues, k.AsOf(now))
	}
	return issues, nil
}

// AsOf is the issue with what the date makes of it: a quarantine runs out.
func (k KnownIssue) AsOf(now time.Time) KnownIssue {
	k.Expired = k.IsQuarantine() && day(k.Until) < dayOf(now.UTC())
	return k
}

// IsQuarantine tells it from an issue that somebody knows the cause of.
func (k KnownIssue) IsQuarantine() bool { return k.Until != "" }

// Quarantines says whether it is a quarantine of this check with this verdict, expired or not. A
// complaint of the kernel is named by its title.
func (k KnownIssue) Quarantines(kernel, variant, program, check, verdict string) bool {
	return k.IsQuarantine() && k.Check == check && k.Verdict == verdict && k.Covers(kernel, variant, program, check)
}
