package sandbox

import (
	"errors"
	"strings"
	"testing"
)

func TestSandboxOffInCI(t *testing.T) {
	t.Setenv(Variable, "off")
	t.Setenv("CI", "true")
	if _, _, err := Find(t.Context(), false); !errors.Is(err, errNone) {
		t.Errorf("a stranger's patch in CI: error = %v; want errNone", err)
	}
	if on, _, err := Find(t.Context(), true); on || err != nil {
		t.Errorf("a pinned source in CI: %v, %v; want no sandbox", on, err)
	}
	t.Setenv(Variable, "of")
	if _, _, err := Find(t.Context(), true); err == nil || !strings.Contains(err.Error(), "want on or off") {
		t.Errorf("SANDBOX=of: error = %v; want what it may be", err)
	}
}
