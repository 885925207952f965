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
		"KASAN_KUNIT_TEST": {prompt: true, depends: []string{"KASAN && KUNIT"}}, "KASAN": {prompt: true},
		"SWITCH": {prompt: true, isBool: true}, "DRIVER": {prompt: true, depends: []string{"X"}},
	}
	for _, test := range []struct {
		name, value string
		wish        bool
		want        []string
	}{
		{"X_TEST", "y", false, []string{"CONFIG_X=y"}},
		{"X_TEST", "y", true, []string{"CONFIG_X=y"}},
		{"KASAN_KUNIT_TEST", "y", false, []string{"CONFIG_KASAN=y"}},
		// A wish is not worth another kernel.
		{"KASAN_KUNIT_TEST", "y", true, nil},
		{"DRIVER", module, true, []string{"CONFIG_X=y"}},
		// Who only wishes for a module means what cannot be one, too.
		{"SWITCH", module, true, []string{"CONFIG_SWITCH=y"}},
		{"SWITCH", module, false, nil},
	} {
		r := request{options: []option{{test.name, test.value}}, pulls: true, wish: test.wish}
		var got []string
		for _, more := range pulled([]request{r}, map[string]string{"KUNIT": "y"}, symbols) {
			got = append(got, more.options[0].String())
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("pulled for %s=%s, a wish: %v (-want +got):\n%s", test.name, test.value, test.wish, diff)
		}
	}
}
