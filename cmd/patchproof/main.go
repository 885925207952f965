// Patchproof is the command behind the Makefile; `make help` lists what people use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"patchproof/kernel"
	"patchproof/vmtest/watch"
)

func main() {
	ownEnvironment()
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	// nohup(1) asks for it to be ignored.
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Whoever reads the output may go away, as head(1) does: then the run ends in
	// order, rather than at once with its guests' files left.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], &output{os.Stdout, cancel}, &output{os.Stderr, cancel}))
}

// ownEnvironment sets right what would make files that nobody can use, and keep them: a umask that
// takes the owner's own rights, as that to run a program, and no HOME, where Go has its modules.
func ownEnvironment() {
	syscall.Umask(syscall.Umask(0) &^ 0o700)
	if account, err := user.Current(); err == nil && os.Getenv("HOME") == "" {
		os.Setenv("HOME", account.HomeDir)
	}
}

// output is a file whose reader is needed.
type output struct {
	*os.File
	gone func()
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.File.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		o.gone()
	}
	return n, err
}

// The exit codes of the contract of a run.
const (
	exitExpected   = 0
	exitUnexpected = 1
	exitTrouble    = 2
)

// errUnexpected means that a kernel did not come out as expected, which the
// report has said already.
var errUnexpected = errors.New("unexpected verdict")

// errReported means that the harness could not do all of its work and has said why.
var errReported = errors.New("harness trouble")

// interrupted is said instead of an error that is nothing but an end that was asked for.
const interrupted = "interrupted; what was finished is kept and will not be done again"

// isInterruption says that err is that, of however many cells.
func isInterruption(err error) bool {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(several.Unwrap(), func(err error) bool { return !isInterruption(err) })
	}
	return errors.Is(err, context.Canceled)
}

type commands struct {
	Vmtest       vmtestCmd       `cmd:"" help:"Build the selected kernels, run the programs on each and report."`
	Bisect       bisectCmd       `cmd:"" help:"Find the patch or commit that a failure began with."`
	Bench        benchCmd        `cmd:"" help:"Measure the selected kernels: instructions or time per operation."`
	Bundle       bundleCmd       `cmd:"" help:"Pack the selected kernels and the programs for a real machine."`
	Mutants      mutantsCmd      `cmd:"" help:"Break the kernel on purpose and say which breakages the programs see."`
	BisectConfig bisectConfigCmd `cmd:"" help:"Find the config options by which GOOD passes and BAD fails."`
	Patchcheck   patchcheckCmd   `cmd:"" help:"Check each patch of a series by itself: does it build, what do compiler and checkers say that is new."`
	Ready        readyCmd        `cmd:"" help:"Say whether a series is fit to be sent: its mails, and each patch by itself."`
	Apply        applyCmd        `cmd:"" help:"Apply a patch in a work tree of its own, which stops for hand work."`
	Refresh      refreshCmd      `cmd:"" help:"Write what became of the patches there back as mails."`
	Build        buildCmd        `cmd:"" help:"Build the selected kernels and print their paths."`
	Shell        shellCmd        `cmd:"" help:"Boot the last selected kernel with a shell on the console."`
	Deps         depsCmd         `cmd:"" help:"Install the system packages that are missing."`
	Watch        watchCmd        `cmd:"" help:"Test each series or commit that arrives, and draft the answers."`
	Console      consoleCmd      `cmd:"" help:"Read logs of kernels and say what they complain of."`
	Patch        struct {
		Show patchShowCmd `cmd:"" help:"Say what is taken of a patch's file, thread or folder, and what is left."`
		Base patchBaseCmd `cmd:"" help:"Say which commit a patch was made for, and what differs elsewhere."`
	} `cmd:"" help:"Look at patches before they are tested."`
	Cache struct {
		Ls     cacheLsCmd     `cmd:"" help:"List what is in the cache."`
		Gc     cacheGcCmd     `cmd:"" help:"Remove what was not used for a while and what dead runs left."`
		Export cacheExportCmd `cmd:"" help:"Write kernels into files, for the cache of another machine."`
		Import cacheImportCmd `cmd:"" help:"Take kernels from files that cache export wrote."`
	} `cmd:"" help:"See and prune the cache of sources, trees and kernels."`
	Results struct {
		Ls        resultsLsCmd        `cmd:"" help:"List the runs, the newest first."`
		Show      resultsShowCmd      `cmd:"" help:"Print a run's matrix again."`
		Compare   resultsCompareCmd   `cmd:"" help:"Say what changed between two runs or two kernels."`
		Report    resultsReportCmd    `cmd:"" help:"Write a run's report.html and print its path."`
		Import    resultsImportCmd    `cmd:"" help:"Make a run of what a bundle's collector wrote on a real machine."`
		Merge     resultsMergeCmd     `cmd:"" help:"Make one run of the runs of all shards (SHARD)."`
		Gc        resultsGcCmd        `cmd:"" help:"Remove old runs."`
		Reply     resultsReplyCmd     `cmd:"" help:"Print a run as a reply to a mailing list."`
		Annotate  resultsAnnotateCmd  `cmd:"" help:"Print what a run found as marks of GitHub, for a CI job."`
		Summary   resultsSummaryCmd   `cmd:"" help:"Print a run as Markdown, for a CI job's summary."`
		Trend     resultsTrendCmd     `cmd:"" help:"Follow a metric through the stored runs."`
		Flaky     resultsFlakyCmd     `cmd:"" help:"Say which checks of a run come and go in the stored runs, and how often."`
		Reference resultsReferenceCmd `cmd:"" help:"Keep a run as what later ones are held against."`
	} `cmd:"" help:"Look at stored runs, and compare them."`
}

// newCommands gives each command the flags that the table of variables has for it.
func newCommands() *commands {
	c := &commands{
		Vmtest: vmtestCmd{flagsOf("vmtest")}, Bisect: bisectCmd{flagsOf("bisect")}, Bench: benchCmd{flagsOf("bench")},
		Bundle: bundleCmd{flagsOf("bundle")}, Mutants: mutantsCmd{flagsOf("mutants")},
		BisectConfig: bisectConfigCmd{flagsOf("bisect-config")}, Build: buildCmd{flagsOf("build")}, Apply: applyCmd{flagsOf("apply")}, Refresh: refreshCmd{flagsOf("refresh")},
		Shell: shellCmd{flagsOf("shell")}, Patchcheck: patchcheckCmd{flagsOf("patchcheck")}, Ready: readyCmd{flagsOf("ready")}, Deps: depsCmd{flagsOf("deps")},
	}
	c.Cache.Ls = cacheLsCmd{flagsOf("cache ls")}
	c.Cache.Export = cacheExportCmd{flags: flagsOf("cache export")}
	c.Cache.Import = cacheImportCmd{flags: flagsOf("cache import")}
	c.Cache.Gc = cacheGcCmd{flags: flagsOf("cache gc")}
	return c
}

// newParser knows all commands and their flags.
func newParser(options ...kong.Option) (*kong.Kong, error) {
	return kong.New(newCommands(), append(options,
		kong.Name("patchproof"),
		kong.Description("Builds a kernel with and without a patch, boots both, and says what the patch does."),
	)...)
}

// assignment is a variable as make takes it.
var assignment = regexp.MustCompile(`^[A-Z_]+=`)

// usage says what to type instead of arguments that were not understood.
func usage(err error, args []string) string {
	if i := slices.IndexFunc(args, assignment.MatchString); i >= 0 {
		return fmt.Sprintf("variables come first: %s patchproof %s", args[i], strings.Join(slices.Concat(args[:i], args[i+1:]), " "))
	}
	command := "patchproof"
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		for _, step := range parse.Context.Path {
			command = step.Node().FullPath()
		}
	}
	return command + " --help says what there is"
}

// run is main with its surroundings as parameters; it returns the exit code. A report that
// could not be written, on a full disk, is no report.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &printed{Writer: stdout}
	code := carryOut(ctx, args, out, stderr)
	if err := out.failure(); err != nil && code != exitTrouble {
		fmt.Fprintln(stderr, "patchproof: not all that there was to print could be written:", err)
		return exitTrouble
	}
	return code
}

// carryOut runs the command that args name.
func carryOut(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	code := exitExpected
	exited := false
	t := newTerminal(stdout, stderr)
	defer t.endLive()
	parser, err := newParser(
		kong.Writers(stdout, stderr),
		kong.Exit(func(c int) { code, exited = c, true }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(t),
	)
	if err != nil {
		fmt.Fprintln(stderr, "patchproof:", err)
		return exitTrouble
	}
	parsed, err := parser.Parse(args)
	if exited {
		return code
	}
	if err != nil {
		fmt.Fprintf(stderr, "patchproof: %v\n%s\n", err, usage(err, args))
		return exitTrouble
	}
	err = refuse(parsed.Selected().Path(), os.Environ())
	if err == nil {
		err = parsed.Run()
	}
	t.endLive()
	switch {
	case err == nil:
		return exitExpected
	case errors.Is(err, errUnexpected):
		return exitUnexpected
	case errors.Is(err, errReported):
		sayLimits(stderr)
		return exitTrouble
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "patchproof:", interrupted)
		return exitTrouble
	}
	fmt.Fprintln(stderr, "patchproof:", err)
	if brokenByPatch(err) {
		return exitUnexpected
	}
	if kernel.AboutPatch(err) {
		fmt.Fprintln(stderr, watch.UnfitLine)
		return exitTrouble
	}
	sayLimits(stderr)
	return exitTrouble
}

// sayLimits names the limits of this process that are low enough to be why something failed:
// QEMU that is killed, or gets no memory, does not say by what.
func sayLimits(stderr io.Writer) {
	var low []string
	for _, l := range []struct {
		resource      int
		enough        uint64
		what, command string
	}{
		{unix.RLIMIT_NOFILE, 256, "open files", "ulimit -n"},
		{unix.RLIMIT_NPROC, 256, "processes and threads of its user", "ulimit -u"},
		{unix.RLIMIT_AS, 8 << 30, "bytes of memory", "ulimit -v"},
		{unix.RLIMIT_DATA, 8 << 30, "bytes of data", "ulimit -d"},
		{unix.RLIMIT_FSIZE, 4 << 30, "bytes in a file", "ulimit -f"},
		{unix.RLIMIT_CPU, 3600, "seconds of processor time", "ulimit -t"},
	} {
		var set unix.Rlimit
		if err := unix.Getrlimit(l.resource, &set); err == nil && set.Cur < l.enough {
			low = append(low, fmt.Sprintf("%d %s (%s)", set.Cur, l.what, l.command))
		}
	}
	if len(low) > 0 {
		fmt.Fprintf(stderr, "patchproof: each process here may have at most %s; if that is why, raise it\n", strings.Join(low, ", "))
	}
}

// exitError is what a command returns that has said all there is to say, by its exit code.
func exitError(code int) error {
	switch code {
	case exitUnexpected:
		return errUnexpected
	case exitTrouble:
		return errReported
	}
	return nil
}

// brokenByPatch says whether err is a finding about the patch, and not trouble
// of the harness: the kernel does not build with it and does without.
func brokenByPatch(err error) bool {
	var refused *kernel.BuildError
	return errors.As(err, &refused) && refused.Patched && refused.BaseBuilt
}
