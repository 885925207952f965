package vmtest

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"patchproof/guest/event"
	"patchproof/kernel"
	"patchproof/results"
)

// interrupted is done at Ctrl-C, so that guests end, nothing is left running
// and run.json says what happened.
var interrupted context.Context

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	interrupted = ctx
	code := m.Run()
	stop()
	os.Exit(code)
}

// TestSuite is the suite: each cell of the selection, which the environment
// gives (KERNELS, PROGRAMS, ...), is a subtest kernel/variant/program. It makes
// what is missing: kernels, initramfs. The results are in results/out.
func TestSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("it boots kernels")
	}
	ctx := interrupted
	sel, err := FromEnv(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Prepare(ctx, sel, func(p kernel.Progress) {
		if p.Done == 0 {
			t.Logf("kernel %s: %s %s", p.Kernel, p.Step, p.Note)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plan.End(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := plan.Begin(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s; results: %s", plan.How(), plan.Dir())
	for _, s := range plan.Cells {
		t.Run(s.Name(), func(t *testing.T) {
			wait := plan.Start(ctx, s)
			t.Parallel()
			cell, err := wait()
			if errors.Is(err, errNoKernel) {
				_, err = plan.Kernels()
			}
			if err != nil {
				t.Fatal(err)
			}
			report(t, cell, plan.Dir())
		})
	}
}

// report says what came of a cell; unexpected cells fail their test.
func report(t *testing.T, c results.Cell, dir string) {
	t.Helper()
	var details strings.Builder
	for _, check := range c.Checks {
		if check.Expected && check.KnownIssue == "" {
			continue
		}
		details.WriteString("\n" + string(check.Verdict) + " " + check.Name)
		if check.KnownIssue != "" {
			details.WriteString(" (known issue: " + check.KnownIssue + ")")
		}
		if !check.Expected {
			details.WriteString("\n    " + strings.ReplaceAll(check.Detail, "\n", "\n    "))
		}
	}
	t.Logf("%s in %.1f s (%.2f s until the program began), %d checks%s", c.Verdict, c.WallS, c.BootS, len(c.Checks), details.String())
	if c.Expected {
		if c.Verdict == event.Skip {
			t.Skip(c.Reason)
		}
		return
	}
	if c.Reason != "" {
		t.Log(c.Reason)
	}
	t.Errorf("%s was not expected\nconsole: %s\nagain:   %s", c.Verdict, filepath.Join(dir, c.Console), c.Command)
}
