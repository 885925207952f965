package subjects

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKnownIssues(t *testing.T) {
	const good = `
# a comment
[[issue]]
kernels = ["posted"]
program = "fixedfile*"
check = "exit/*"
verdict = "hang"
reason = "the list is never walked"
[[issue]]
kernels = ["posted", "fixed"]
variants = ["debug"]
program = "nop"
check = "console"
match = "list_(add|del) corruption"
verdict = "crash"
may-fail = true
rate = "3 of 10 under -singlestep"
reason = "a race"
function = "io_req_cache_free"
hunk = "@@ -1281,54 +1301,138 @@"
`
	dir := t.TempDir()
	issues, err := ReadKnownIssues(write(t, dir, "good.toml", good))
	if err != nil {
		t.Fatal(err)
	}
	want := []KnownIssue{
		{Kernels: []string{"posted"}, Program: "fixedfile*", Check: "exit/*", Verdict: "hang", Reason: "the list is never walked"},
		{Kernels: []string{"posted", "fixed"}, Variants: []string{"debug"}, Program: "nop", Check: "console", Match: "list_(add|del) corruption", Verdict: "crash",
			MayFail: true, Rate: "3 of 10 under -singlestep", Reason: "a race", Function: "io_req_cache_free", Hunk: "@@ -1281,54 +1301,138 @@"},
	}
	if diff := cmp.Diff(want, issues); diff != "" {
		t.Errorf("ReadKnownIssues() (-want +got):\n%s", diff)
	}
	for _, tc := range []struct {
		issue                           int
		kernel, variant, program, check string
		want                            bool
	}{
		{0, "posted", "plain", "fixedfile", "exit/sigkill", true},
		{0, "posted", "plain", "fixedfile-singlestep", "exit/sigkill", true},
		{0, "base", "plain", "fixedfile", "exit/sigkill", false},
		{0, "posted", "plain", "nop", "exit/sigkill", false},
		{0, "posted", "plain", "fixedfile", "read", false},
		{1, "fixed", "debug", "nop", "console", true},
		{1, "fixed", "plain", "nop", "console", false},
		{1, "fixed", "debug", "nop-singlestep", "console", false},
		{1, "fixed", "debug", "nop", "console2", false},
	} {
		if got := issues[tc.issue].Covers(tc.kernel, tc.variant, tc.program, tc.check); got != tc.want {
			t.Errorf("issue %d Covers(%s, %s, %s, %s) = %v; want %v", tc.issue+1, tc.kernel, tc.variant, tc.program, tc.check, got, tc.want)
		}
	}

	base := "[[issue]]\nkernels = [\"a\"]\nprogram = \"p\"\ncheck = \"c\"\nverdict = \"fail\"\nreason = \"r\"\n"
	for _, tc := range []struct{ name, text, want string }{
		{"unknown key", base + "reeson = \"x\"\n", "unknown key issue.reeson"},
		{"unknown table", base + "[[isue]]\n", "unknown key isue"},
		{"syntax", "[[issue]]\nkernels = [\n\nx", "bad.toml:4:"},
		{"type", base + "may-fail = 1\n", "bad.toml"},
		{"no reason", strings.Replace(base, "\"r\"", "\"\"", 1), "issue 1 (program \"p\", check \"c\"): reason is missing"},
		{"verdict of the harness", strings.Replace(base, "fail", "error", 1), `verdict is "error"`},
		{"may-fail without rate", base + "may-fail = true\n", "may-fail and rate belong together"},
		{"star in the middle", strings.Replace(base, "\"c\"", "\"c*d\"", 1), "* only as their last"},
		{"star in the program's middle", strings.Replace(base, "\"p\"", "\"p*d\"", 1), "* only as their last"},
		{"console without match", strings.Replace(base, "\"c\"", "\"console\"", 1), "match and the check"},
		{"bad expression", strings.Replace(base, "\"c\"", "\"console\"\nmatch = \"(\"", 1), "match: error parsing"},
	} {
		_, err := ReadKnownIssues(write(t, dir, "bad.toml", tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: ReadKnownIssues() = %v; want %q in it", tc.name, err, tc.want)
		}
	}
}
