package kernel

import (
	"strings"
	"testing"
)

func TestRoomIsLookedForBeforeTheSource(t *testing.T) {
	b := &Builder{Cache: t.TempDir()}
	pin := releasePin(release{Version: "7.1.8", File: orig("7.1.8"), SHA256: strings.Repeat("a", 64), Size: 1 << 50}, trustIndex)
	_, err := b.Apply(t.Context(), Spec{Name: Base, Pin: pin})
	if err == nil || !strings.Contains(err.Error(), "MiB free, and the source of v7.1.8") || exists(b.Cache+"/"+sourcesDir) {
		t.Errorf("Apply: %v; want it to find the disk too small before it fetches anything", err)
	}
}
