package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"patchproof/results"
)

// outFlag is where the runs are.
type outFlag struct {
	Out string `default:"results/out" placeholder:"FOLDER" help:"The folder of the runs."`
}

// runArg names a run.
type runArg struct {
	outFlag `embed:""`
	Run_    string `arg:"" name:"run" default:"latest" help:"A run: its name, its folder or its run.json."`
}

func (a runArg) read() (*results.Run, error) { return results.Find(a.Out, a.Run_) }

type resultsShowCmd struct {
	runArg  `embed:""`
	Format  string `enum:"text,junit,ktap" default:"text" help:"text, junit or ktap."`
	Verbose bool   `short:"v" help:"Explain the known issues too, and list every difference."`
}

// Run prints a stored run.
func (c resultsShowCmd) Run(t *terminal) error {
	run, err := c.read()
	if err != nil {
		return err
	}
	switch c.Format {
	case "junit":
		return results.JUnit(t.out, run)
	case "ktap":
		return results.KTAP(t.out, run)
	}
	return report(t, run, c.Verbose)
}

type resultsReportCmd struct {
	runArg `embed:""`
}

// Run writes a stored run's report.html.
func (c resultsReportCmd) Run(t *terminal) error {
	run, err := c.read()
	if err != nil {
		return err
	}
	return writePage(t, run)
}

type resultsLsCmd struct {
	outFlag `embed:""`
}

// Run lists the runs, the newest first.
func (c resultsLsCmd) Run(t *terminal) error {
	items, err := results.List(c.Out)
	if err != nil {
		return err
	}
	t.runs(items)
	return nil
}

type resultsGcCmd struct {
	outFlag `embed:""`
	Keep    int `default:"-1" placeholder:"N" help:"Leave the N newest runs, whatever their age."`
	Unused  int `default:"-1" placeholder:"DAYS" help:"Remove only runs that are so many days old; 30 unless --keep is given."`
}

// Run removes and says what.
func (c resultsGcCmd) Run(t *terminal) error {
	if c.Keep < -1 || c.Unused < -1 {
		return fmt.Errorf("--keep=%d --unused=%d: want numbers from 0", c.Keep, c.Unused)
	}
	if c.Unused < 0 {
		c.Unused = 30
		if c.Keep >= 0 {
			c.Unused = 0
		}
	}
	items, err := results.GC(c.Out, c.Keep, time.Duration(c.Unused)*24*time.Hour)
	t.runs(items)
	if err != nil {
		return err
	}
	t.printf("%d removed from %s\n", len(items), c.Out)
	return nil
}

// runs prints a table of runs.
func (t *terminal) runs(items []results.Item) {
	table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, i := range items {
		var kernels []string
		accel, cells := "-", "-"
		if i.Run != nil {
			for _, k := range i.Run.Kernels {
				kernels = append(kernels, results.Line(k.Name+"/"+k.Variant))
			}
			accel, cells = results.Line(i.Run.Accel.Name), english.Plural(len(i.Run.Cells), "cell", "")
		}
		id := i.ID
		if i.Latest {
			id += " (latest)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", id, humanize.Time(i.Used), strings.Join(kernels, " "), accel, cells, humanize.IBytes(uint64(i.Size)), i.Short())
	}
	table.Flush()
}

type resultsCompareCmd struct {
	outFlag `embed:""`
	A       string `arg:"" default:"latest" help:"A run, or a kernel of one: latest, latest:base, 20261125-031836.382:patched/debug."`
	B       string `arg:"" optional:"" help:"What it is compared with; without it, A's kernels are compared with their base."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// Run compares and ends with 1 when something became worse.
func (c resultsCompareCmd) Run(t *terminal) error {
	all, err := c.compare()
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(t.out)
		out.SetIndent("", "  ")
		if err := out.Encode(all); err != nil {
			return err
		}
	} else {
		for _, comparison := range all {
			t.printf("%s", comparison.Text())
		}
	}
	return exitError(results.ComparisonsExit(all))
}

func (c resultsCompareCmd) compare() ([]results.Comparison, error) {
	a, from, err := results.FindSide(c.Out, c.A)
	if err != nil {
		return nil, err
	}
	if c.B == "" {
		if from != nil {
			return nil, errors.New("a kernel is compared with another: give two, such as latest:base latest:patched")
		}
		return results.CompareWithBase(a)
	}
	b, to, err := results.FindSide(c.Out, c.B)
	if err != nil {
		return nil, err
	}
	if (from == nil) != (to == nil) {
		return nil, fmt.Errorf("%s and %s: give two runs, or a kernel of each", c.A, c.B)
	}
	if from == nil {
		return results.CompareRuns(a, b)
	}
	was := results.Side{Run: a, Kernel: *from}
	if !was.Judged() {
		return nil, fmt.Errorf("%s: the run judged nothing on that kernel, so that nothing can be compared", c.A)
	}
	return []results.Comparison{results.Compare(was, results.Side{Run: b, Kernel: *to})}, nil
}
