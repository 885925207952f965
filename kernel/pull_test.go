package kernel

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLacking(t *testing.T) {
	symbols := map[string]symbol{}
	for _, name := range []string{"A", "B", "C", "EXT4_FS"} {
		symbols[name] = symbol{prompt: true}
	}
	values := map[string]string{"ON": "y"}
	for _, test := range []struct {
		condition string
		want      []string
	}{
		{"ON", nil},
		{"EXT4_FS && ON && !UML", []string{"EXT4_FS"}},
		{"(NOPROMPT || A || B) && C", []string{"A", "C"}},
		{"(A || ON)", nil},
		{"A || !B", nil},
		{"!(A && B)", nil},
		{"(A || (ON && (B && C)))", []string{"A"}},
		{"NOPROMPT", []string{"NOPROMPT"}},
		{"A=y && B", []string{"B"}},
		{"!ON", nil},
	} {
		if diff := cmp.Diff(test.want, lacking(test.condition, values, symbols)); diff != "" {
			t.Errorf("lacking(%q) (-want +got):\n%s", test.condition, diff)
		}
	}
}

func TestPulled(t *testing.T) {
	symbols := map[string]symbol{
		"X_TEST": {prompt: true, depends: []string{"X && KUNIT", "X && OLD && KUNIT"}}, "X": {prompt: true}, "KUNIT": {prompt: true}, "OLD": {prompt: true},
	}
	r := request{options: []option{{"X_TEST", "y"}}, pulls: true}
	var got []string
	for _, more := range pulled([]request{r}, map[string]string{"KUNIT": "y"}, symbols) {
		got = append(got, more.options[0].String())
	}
	if diff := cmp.Diff([]string{"CONFIG_X=y"}, got); diff != "" {
		t.Errorf("pulled (-want +got):\n%s", diff)
	}
}
