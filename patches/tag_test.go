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

func TestCleanSubject(t *testing.T) {
	for subject, want := range map[string]string{
		"[PATCH] fw: a name of a driver":           "fw: a name of a driver",
		"[PATCH v2 1/2] mm: [x86] of a part":       "mm: [x86] of a part",
		"Fwd: [PATCH] fw: forwarded":               "fw: forwarded",
		"[a-list] AW: [PATCH] of a list":           "of a list",
		"Antw: Re[2]: Re [3]: [PATCH] mm: counted": "mm: counted",
		"fw: a file of quilt":                      "fw: a file of quilt",
		"WG: [PATCH] forwarded":                    "forwarded",
		"[PATCH] Re: what git drops":               "what git drops",
		"[a-list] [PATCH RFC} mistyped":            "[PATCH RFC} mistyped",
	} {
		if got := cleanSubject(subject); got != want {
			t.Errorf("cleanSubject(%q) = %q; want %q", subject, got, want)
		}
	}
}
