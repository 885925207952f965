package subjects

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const goodQuarantine = `program = "mixer"
check = "stream"
verdict = "hang"
reason = "comes and goes"
since = 2026-01-31
until = 2999-12-31
`

func readQuarantine(t *testing.T, table string) ([]KnownIssue, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known.toml")
	if err := os.WriteFile(path, []byte("[[quarantine]]\n"+table), 0o644); err != nil {
		t.Fatal(err)
	}
	return ReadKnownIssues(path)
}

// A quarantine stands beside the known issues, and says all that it has to.
func TestReadQuarantine(t *testing.T) {
	got, err := readQuarantine(t, goodQuarantine)
	if err != nil {
		t.Fatal(err)
	}
	want := []KnownIssue{{Program: "mixer", Check: "stream", Verdict: "hang", Reason: "comes and goes", MayFail: true, Since: "2026-01-31", Until: "2999-12-31"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ReadKnownIssues (-want +got):\n%s", diff)
	}
	for _, tt := range []struct{ old, new, want string }{
		{`program = "mixer"`, ``, "program is missing"},
		{`program = "mixer"`, `program = "mix*"`, "whole names"},
		{`check = "stream"`, ``, "check is missing"},
		{`check = "stream"`, `check = "*"`, "whole names"},
		{`check = "stream"`, `check = "console"`, `"console: " and its title`},
		{`check = "stream"`, "check = \"console\"\nmatch = \".\"", "unknown key"},
		{`verdict = "hang"`, ``, "want fail, crash or hang"},
		{`verdict = "hang"`, `verdict = "pass"`, "want fail, crash or hang"},
		{`verdict = "hang"`, `verdict = "*"`, "want fail, crash or hang"},
		{`reason = "comes and goes"`, ``, "reason is missing"},
		{`since = 2026-01-31`, ``, "since is missing"},
		{`since = 2026-01-31`, `since = 9999-01-31`, "is before since"},
		{`until = 2999-12-31`, ``, "until is missing"},
		{`until = 2999-12-31`, `until = "2999-12-31"`, ""},
		{`until = 2999-12-31`, `until = "2999-02-31"`, "is no date"},
		{`until = 2999-12-31`, `until = "next year"`, "is no date"},
		{`until = 2999-12-31`, `until = 2999-02-31`, "known.toml"},
		{`until = 2999-12-31`, `until = 2999-12-31T10:00:00Z`, "is no date"},
		{`until = 2999-12-31`, `until = 10:00:00`, "is no date"},
		{`until = 2999-12-31`, `until = 29991231`, "is no date"},
		{`until = 2999-12-31`, "until = 2999-12-31\nforever = true", "unknown key"},
		{`until = 2999-12-31`, "until = 2999-12-31\nmay-fail = true", "unknown key"},
	} {
		_, err := readQuarantine(t, strings.Replace(goodQuarantine, tt.old, tt.new, 1))
		if tt.want == "" && err == nil {
			continue
		}
		if err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "known.toml") {
			t.Errorf("with %q: %v; want an error that has %q and the file", tt.new, err, tt.want)
		}
	}
	// A known issue has no end.
	if _, err := readQuarantine(t, goodQuarantine+"[[issue]]\n"+goodQuarantine); err == nil || !strings.Contains(err.Error(), "unknown key issue.") {
		t.Errorf("an issue with dates: %v; want that the key is not known", err)
	}
}

// The last day is that of UTC, wherever the harness runs.
func TestQuarantineRunsOut(t *testing.T) {
	east, west := time.FixedZone("east", 14*3600), time.FixedZone("west", -12*3600)
	k := KnownIssue{Until: "2026-02-28"}
	for _, tt := range []struct {
		now     time.Time
		expired bool
	}{
		{time.Date(2026, 2, 27, 0, 0, 0, 0, time.UTC), false},
		{time.Date(2026, 2, 28, 0, 0, 0, 0, time.UTC), false},
		{time.Date(2026, 2, 28, 23, 59, 59, 999, time.UTC), false},
		{time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), true},
		// Where it is March already, and where it still is February.
		{time.Date(2026, 3, 1, 13, 59, 0, 0, east), false},
		{time.Date(2026, 3, 1, 14, 0, 0, 0, east), true},
		{time.Date(2026, 2, 28, 11, 59, 0, 0, west), false},
		{time.Date(2026, 2, 28, 12, 0, 0, 0, west), true},
		{time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), true},
	} {
		if got := k.AsOf(tt.now).Expired; got != tt.expired {
			t.Errorf("until 2026-02-28, at %v: expired is %v; want %v", tt.now, got, tt.expired)
		}
	}
	if (KnownIssue{}).AsOf(time.Now()).Expired {
		t.Error("a known issue ran out; want that only a quarantine does")
	}
}
