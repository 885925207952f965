package event

import "testing"

func TestPrintable(t *testing.T) {
	tests := map[string]string{
		"plain\ttext":      "plain\ttext",
		"\x1b[31mred\x07":  `\x1b[31mred\x07`,
		"nul\x00":          `nul\x00`,
		"bad \xff utf":     `bad \xff utf`,
		"grüße":            "grüße",
		"over\u202eride":   `over\u202eride`,
		"c1 \u009b2J":      `c1 \u009b2J`,
		"line\rover":       `line\x0dover`,
		"\u2028 separator": `\u2028 separator`,
	}
	for in, want := range tests {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q; want %q", in, got, want)
		}
	}
}
