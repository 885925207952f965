package patches

import "testing"

func TestSubjectPrefix(t *testing.T) {
	for subject, want := range map[string]string{
		"[PATCH] one":                      "PATCH",
		"[PATCH net-next v3 02/12] one":    "PATCH net-next v3",
		"[RFC PATCH 1/2] one":              "RFC PATCH",
		"[PATCH 5.10/5.15 1/2] one":        "PATCH 5.10/5.15",
		"[PATCH v2 2/2] x86: [not] of it":  "PATCH v2",
		"[PATCH 1/2 net] one":              "",
		"[dm-devel] [PATCH v2 1/2] a list": "",
		"[1/2] no word":                    "",
		"Re: [PATCH 1/2] a reply":          "",
		"[PATCH RFC} mistyped":             "",
		"io_uring: none":                   "",
	} {
		if got := subjectPrefix(subject); got != want {
			t.Errorf("subjectPrefix(%q) = %q; want %q", subject, got, want)
		}
	}
}
