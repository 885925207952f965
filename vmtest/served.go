package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"patchproof/kernel"
	"patchproof/kernel/sandbox"
	"patchproof/vmtest/qemu"
	"patchproof/vmtest/userland"
)

// furnished is a variant with the options that tests need for what their guest has.
func furnished(v kernel.Variant, g userland.Guest) (kernel.Variant, error) {
	var names []string
	if g.HostRoot {
		names = append(names, "hostroot.config")
	}
	if g.Net {
		names = append(names, "net.config")
	}
	v.Over = slices.Clone(v.Over)
	for _, name := range names {
		f, err := kernel.DeclaredFragment(name)
		if err != nil {
			return v, err
		}
		// In some trees they depend on more than in others.
		f.Pulls = true
		v.Over = append(v.Over, f)
	}
	return v, nil
}

// open finds what guests see of the host, and what keeps them from it.
func open(ctx context.Context, g userland.Guest, s selected, progress func(kernel.Progress)) (view sandbox.View, err error) {
	if g == (userland.Guest{}) {
		return view, nil
	}
	if !slices.ContainsFunc(s.programs, func(p Program) bool { return p.Guest == g }) {
		return view, errors.New("ROOT and NET are for tests that run as programs; KUnit suites run in the kernel")
	}
	if g.Net && os.Getenv("CI") == "true" && !kernel.Trusted(s.specs) {
		return view, errors.New("NET=user is refused in CI (CI=true) for a patch or a tree: its kernel would reach the services of this machine and of its network")
	}
	if !g.HostRoot {
		return view, nil
	}
	if err := qemu.CanServe(); err != nil {
		return view, fmt.Errorf("ROOT=host: %w", err)
	}
	view, note, err := sandbox.FindView(ctx, kernel.Trusted(s.specs))
	if err == nil && note != "" {
		progress(kernel.Progress{Step: "note: ROOT=host: " + note})
	}
	return view, err
}
