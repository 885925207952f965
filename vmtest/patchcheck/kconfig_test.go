package patchcheck

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHelpless(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want map[string]int
	}{
		"help":                {"config A\n\tbool \"a\"\n\thelp\n\t  Text.\n", map[string]int{}},
		"none":                {"config A\n\tbool \"a\"\n\nconfig B\n\ttristate \"b\"\n\thelp\n\t  Text.\n", map[string]int{"A": 1}},
		"no prompt":           {"config A\n\tbool\n\tselect B\n", map[string]int{}},
		"prompt apart":        {"menuconfig A\n\tbool\n\tprompt \"a\"\nif A\nconfig B\n\tint 'n'\n\tdefault 1\nendif\n", map[string]int{"A": 1, "B": 5}},
		"at the end":          {"config A\n\tbool \"a\"\n\thelp\n\t  Text.\nconfig B\n\tbool \"b\"", map[string]int{"B": 5}},
		"words in the help":   {"config A\n\tbool \"a\"\n\thelp\n\t  See\n\t  config B\n\t  if that\n\nconfig C\n\tbool \"c\"\n\t---help---\n\t  Text.\n", map[string]int{}},
		"before the prompt":   {"config A\n\thelp\n\t  Text.\n\tbool \"a\"\n", map[string]int{}},
		"question of a menu":  {"choice\n\tprompt \"which\"\nconfig A\n\tbool \"a\"\n\thelp\n\t  Text.\nendchoice\n", map[string]int{}},
		"default that is one": {"config A\n\tbool\n\tdefault y if B = \"bool\"\n", map[string]int{}},
	} {
		if diff := cmp.Diff(test.want, helpless(test.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
