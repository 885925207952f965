package suites

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForeignAsked(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		value string
		// only are the tests asked for, nil for all; brought is what is left.
		only    []string
		brought string
		err     string
	}{
		{"liburing", nil, "", ""},
		{"liburing:poll,accept*", []string{"poll", "accept*"}, "", ""},
		{"liburing:poll; liburing:nop", []string{"poll", "nop"}, "", ""},
		{"liburing:poll; liburing", nil, "", ""},
		{"liburing; liburing:poll", nil, "", ""},
		{"liburing; ./mine.sh", nil, "./mine.sh", ""},
		{"liburing:", nil, "", "names nothing behind the colon"},
		{"liburing:[", nil, "", "no name or glob of a test"},
	} {
		asked, brought, err := Split(test.value, "")
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("TEST=%s: %v; want an error with %q", test.value, err, test.err)
			}
		case err != nil || len(asked.Foreign) != 1:
			t.Errorf("TEST=%s: %d suites, %v; want one", test.value, len(asked.Foreign), err)
		default:
			if diff := cmp.Diff(test.only, asked.Foreign[0].Only); diff != "" || brought != test.brought {
				t.Errorf("TEST=%s leaves %q; want %q; the tests asked for (-want +got):\n%s", test.value, brought, test.brought, diff)
			}
		}
	}
}

func TestForeignChoose(t *testing.T) {
	built := []string{"accept.t", "accept-link.t", "helper.t", "poll.t"}
	for _, test := range []struct {
		only []string
		want []string
		err  string
	}{
		{nil, []string{"accept.t", "accept-link.t", "poll.t"}, ""},
		{[]string{"accept"}, []string{"accept.t"}, ""},
		{[]string{"accept*", "poll.t"}, []string{"accept.t", "accept-link.t", "poll.t"}, ""},
		{[]string{"acept"}, nil, "no test acept; most like it: accept"},
		{[]string{"helper"}, nil, "no test helper"},
	} {
		got, err := Foreign{Helpers: []string{"helper.t"}, Only: test.only}.Choose(built)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.only, diff)
		}
		if err == nil && test.err != "" || err != nil && (test.err == "" || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%q: %v; want an error with %q", test.only, err, test.err)
		}
	}
}
