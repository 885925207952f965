package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"patchproof/kernel"
)

type depsCmd struct {
	flags
}

// Run installs whatever is missing, for the tests as well, optional tools excepted.
func (c depsCmd) Run(ctx context.Context, t *terminal) error {
	compiler, err := kernel.ParseCompiler(c.value("CC"), c.value("LLVM"))
	if err != nil {
		return err
	}
	if err := install(ctx, t, compiler, func(kernel.Tool) bool { return true }); err != nil {
		return err
	}
	t.printf("All needed system packages are installed.\n")
	return nil
}

// installer installs what a run of kernels built with the compiler, and with what CONFIG
// names, needs. Of selftests many load modules.
func installer(t *terminal, c kernel.Compiler, config string) func(ctx context.Context, kselftest bool) error {
	return func(ctx context.Context, kselftest bool) error {
		modules := kselftest || kernel.WantsModules(config)
		return install(ctx, t, c, func(tool kernel.Tool) bool {
			return !tool.Test && (modules || !tool.Modules) && (kselftest || !tool.Kselftest)
		})
	}
}

// install installs the packages of the missing tools that are wanted through apt,
// which takes root; otherwise the error is the one line that says what to run.
func install(ctx context.Context, t *terminal, c kernel.Compiler, wanted func(kernel.Tool) bool) error {
	var packages, why []string
	for _, tool := range kernel.MissingTools(c) {
		if tool.Optional || !wanted(tool) {
			continue
		}
		packages = append(packages, tool.Package)
		why = append(why, fmt.Sprintf("%s (%s)", tool.Name, tool.Why))
	}
	if len(packages) == 0 {
		return nil
	}
	slices.Sort(packages)
	packages = slices.Compact(packages)
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing: %s; install them with this system's package manager, Debian's names are: %s",
			strings.Join(why, ", "), strings.Join(packages, " "))
	}
	command := append([]string{"install", "--yes", "--no-install-recommends"}, packages...)
	if os.Geteuid() != 0 {
		if err := noCompiler(ctx, c); err != nil {
			return err
		}
		return fmt.Errorf("missing: %s; run: sudo apt-get update && sudo apt-get %s", strings.Join(why, ", "), strings.Join(command, " "))
	}
	t.printf("Installing %s (this takes a minute or two)\n", strings.Join(packages, " "))
	// Package lists may be missing or old; if they cannot be renewed, what is
	// there may still do.
	update := apt(ctx, "update")
	if err := apt(ctx, command...); err != nil {
		if none := noCompiler(ctx, c); none != nil {
			return none
		}
		return errors.Join(update, err)
	}
	return nil
}

// noCompiler says which compilers there are where apt has not the one that is asked for.
func noCompiler(ctx context.Context, c kernel.Compiler) error {
	out, err := exec.CommandContext(ctx, "apt-cache", "--names-only", "search", "^"+c.Kind()+"(-[0-9]+)?$").Output()
	if err != nil {
		return nil // apt's own error tells more
	}
	var packages []string
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		packages = append(packages, name)
	}
	return c.Instead(packages)
}

func apt(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"--quiet"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	// Killed outright, it would leave dpkg's database half written.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, lastLines(out, 8))
	}
	return nil
}

func lastLines(out []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
