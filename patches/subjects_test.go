package patches

import (
	"slices"
	"testing"

	"patchproof/patches/subjects"
)

// What is declared as known must be of a program that there is, and series must be readable.
func TestOurSubjects(t *testing.T) {
	all, err := subjects.All(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		issues := s.Issues
		for _, k := range s.Kernels {
			for pin, paths := range k.Series {
				for _, path := range paths {
					series, err := Read(s.Path(path))
					if err != nil {
						t.Errorf("%s, kernel %s, %s: %v", s.Name, k.Name, pin, err)
					}
					issues = append(issues, series.Known...)
				}
			}
		}
		for _, issue := range issues {
			for _, pattern := range append([]string{issue.Program}, issue.Programs...) {
				one := subjects.KnownIssue{Program: pattern, Check: "any"}
				declared := func(p subjects.Program) bool { return one.Covers("", "", p.Name, "any") }
				if pattern != "" && !slices.ContainsFunc(s.Programs, declared) {
					t.Errorf("%s: a known issue is for program %q, which is not declared: %s", s.Name, pattern, issue.Reason)
				}
			}
		}
	}
}
