package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/results"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"patchproof": main, "without": without})
}

// TestScripts runs the command as a user would; the scripts read like a manual
// of what it says to bad input. Those in testdata/real boot kernels, and find them
// in the suite's cache. Those in testdata/build build some as well, and those in
// testdata/slow from nothing, which is for make faults.
func TestScripts(t *testing.T) {
	t.Run("script", func(t *testing.T) { runScripts(t, shim{t, true}, "testdata/script") })
	t.Run("real", func(t *testing.T) {
		if testing.Short() {
			t.Skip("it boots kernels")
		}
		// One after another, and before those that build: they look at results/out/latest of
		// this checkout, which each run moves.
		runScripts(t, shim{t, false}, "testdata/real")
	})
	t.Run("build", func(t *testing.T) {
		if testing.Short() {
			t.Skip("it builds and boots kernels")
		}
		t.Parallel()
		// One after another, in the order of their names. They share a build folder, and the
		// RFC changes a header that 262 objects include: bisect and mutants build on top of
		// the RFC, patch on the base.
		runScripts(t, shim{t, false}, "testdata/build")
	})
	t.Run("slow", func(t *testing.T) {
		if os.Getenv("FAULTS") != "all" {
			t.Skip("it builds kernels from nothing; make faults")
		}
		runScripts(t, shim{t, false}, "testdata/slow")
	})
}

// shim is a test that runs its scripts side by side or not.
type shim struct {
	*testing.T
	parallel bool
}

func (s shim) Parallel() {
	if s.parallel {
		s.T.Parallel()
	}
}

func (s shim) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(shim{t, s.parallel}) })
}

func (shim) Verbose() bool { return testing.Verbose() }

func runScripts(t *testing.T, scripts testscript.T, dir string) {
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cache := os.Getenv("CACHE")
	if cache == "" {
		if cache, err = kernel.DefaultCache(); err != nil {
			t.Fatal(err)
		}
	}
	testscript.RunT(scripts, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("CHECKOUT", checkout)
			env.Setenv("STORE", cache)
			for _, name := range []string{"PATH", "GOCACHE", "GOPATH", "GOMODCACHE", "GOFLAGS", "GOPROXY", "KERNEL_SRC"} {
				env.Setenv(name, os.Getenv(name))
			}
			// The Go build cache is the user's; HOME is the script's own.
			home, err := os.UserHomeDir()
			if err != nil {
				return err
			}
			if os.Getenv("GOPATH") == "" {
				env.Setenv("GOPATH", filepath.Join(home, "go"))
			}
			if os.Getenv("GOCACHE") == "" {
				userCache, err := os.UserCacheDir()
				if err != nil {
					return err
				}
				env.Setenv("GOCACHE", filepath.Join(userCache, "go-build"))
			}
			return nil
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "iron":
				return ironStored(t, cache), nil
			case "served":
				return servedStored(t, cache), nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

// ironStored says whether the store has a bundle's base, which takes longer to build
// than all kernels of the suite's plain variant.
func ironStored(t *testing.T, cache string) bool {
	lineup, err := kernel.Load()
	if err != nil {
		t.Fatal(err)
	}
	iron, err := lineup.Variant(kernel.RoleHardware)
	if err != nil {
		t.Fatal(err)
	}
	specs, variant, err := lineup.Resolve(kernel.Selection{Kernels: []string{kernel.Base}, Variant: iron.Name})
	if err != nil {
		t.Fatal(err)
	}
	return inStore(t, cache, specs[0], variant)
}

// servedStored says whether the store has a kernel for tests that see the host's root and
// have a network, whose options are others than the suite's.
func servedStored(t *testing.T, cache string) bool {
	lineup, err := kernel.Load()
	if err != nil {
		t.Fatal(err)
	}
	specs, variant, err := lineup.Resolve(kernel.Selection{Kernels: []string{kernel.Base}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hostroot.config", "net.config"} {
		f, err := kernel.DeclaredFragment(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Pulls = true
		variant.Over = append(variant.Over, f)
	}
	return inStore(t, cache, specs[0], variant)
}

func inStore(t *testing.T, cache string, spec kernel.Spec, variant kernel.Variant) bool {
	b := kernel.Builder{Cache: cache}
	built, err := b.Stored(t.Context(), spec, variant)
	return err == nil && built != nil
}

// exits runs a command and compares its exit code: exits 2 patchproof vmtest.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command ...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s ended with %s; want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

func TestInterruptedBeforeAnything(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr strings.Builder
	if code := run(ctx, []string{"build", "--cache", t.TempDir()}, &stdout, &stderr); code != exitTrouble || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("run with a cancelled context = %d, %q; want %d and that it was interrupted", code, stderr.String(), exitTrouble)
	}
}

// TestInterruptedCells is a run that was stopped while many of its cells were to come, and has
// found something: that is its end, and what did not come is said in one line.
func TestInterruptedCells(t *testing.T) {
	run := &results.Run{Status: results.Interrupted, Cells: []results.Cell{{Kernel: "patched", Program: "nop", Verdict: event.Fail}}}
	var err error
	for range 37 {
		err = errors.Join(err, context.Canceled)
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"nothing else", errors.Join(err, nil), "patchproof: " + interrupted + "\n"},
		{"trouble as well", errors.Join(context.Canceled, errors.New("the disk is full")), "patchproof: context canceled\nthe disk is full\n"},
		{"none", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stderr strings.Builder
			if end := outcome(newTerminal(io.Discard, &stderr), run, tt.err); !errors.Is(end, errUnexpected) {
				t.Errorf("outcome = %v; want %v", end, errUnexpected)
			}
			if diff := cmp.Diff(tt.want, stderr.String()); diff != "" {
				t.Errorf("what is said (-want +got):\n%s", diff)
			}
		})
	}
}
